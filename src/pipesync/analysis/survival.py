"""How long things last when some of them have not ended yet: Kaplan-Meier, restricted mean, log-rank, Wilson.

Pure numpy over durations in days and whether each was seen to end. Percentiles are those of lifelines: the first
time at which the curve is at or below the level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A Kaplan-Meier curve at the times where something ended (Kaplan & Meier 1958)."""

    times: Floats
    survival: Floats
    at_risk: Ints
    ended: Ints
    last: float
    """The longest duration seen, ended or not; 0 where there are none."""


def kaplan_meier(days: Floats, ended: Bools) -> Curve:
    """Estimate the share still there after each time: the product of (1 - d/n) over the times so far."""
    if not len(days):
        empty = np.empty(0)
        return Curve(empty, empty, empty.astype(np.int64), empty.astype(np.int64), 0.0)
    order = np.argsort(days, kind="stable")
    days, ended = days[order], ended[order]
    times, first = np.unique(days, return_index=True)
    events = np.add.reduceat(ended.astype(np.int64), first)
    at_risk = len(days) - first
    survival = np.cumprod(1.0 - events / at_risk, dtype=np.float64)
    kept = events > 0
    return Curve(times[kept], survival[kept], at_risk[kept], events[kept], float(days[-1]))


def percentile(curve: Curve, share: float) -> float:
    """Return the time by which `share` of all have ended; NaN where the curve does not get there."""
    reached = np.flatnonzero(curve.survival <= 1.0 - share + 1e-12)
    return float(curve.times[reached[0]]) if len(reached) else math.nan


def restricted_mean(curve: Curve, until: float | None = None) -> float:
    """Return the area under the curve up to `until` (default: the longest time seen), in days."""
    end = curve.last if until is None else until
    inside = curve.times < end
    steps = np.concatenate([[0.0], curve.times[inside], [end]])
    heights = np.concatenate([[1.0], curve.survival[inside]])
    return float(np.sum(np.diff(steps) * heights))


def log_rank(days: Floats, ended: Bools, group: Bools) -> tuple[float, float]:
    """Compare two groups; return (p value, observed minus expected ends of `group`).

    Fewer ends than expected means that the group lasts longer. p is 1 where nothing can be said.
    (Mantel 1966; the chi-squared form with one degree of freedom.)
    """
    if not group.any() or group.all() or not ended.any():
        return 1.0, 0.0
    order = np.argsort(days, kind="stable")
    days, ended, group = days[order], ended[order], group[order]
    _, first = np.unique(days, return_index=True)
    events = np.add.reduceat(ended.astype(np.float64), first)
    own = np.add.reduceat((ended & group).astype(np.float64), first)
    at_risk = (len(days) - first).astype(np.float64)
    inside = np.cumsum(group[::-1])[::-1][first].astype(np.float64)
    share = inside / at_risk
    expected = events * share
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(at_risk > 1, events * share * (1 - share) * (at_risk - events) / (at_risk - 1), 0.0)
    variance = float(spread.sum())
    surplus = float(own.sum() - expected.sum())
    if variance <= 0:
        return 1.0, surplus
    return math.erfc(math.sqrt(surplus * surplus / variance / 2)), surplus


def wilson(successes: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); (0, 1) where n is 0."""
    if n <= 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def two_shares(won_a: float, n_a: float, won_b: float, n_b: float) -> float:
    """Return the two-sided p value of equal shares (pooled z test); 1 where nothing can be said."""
    if n_a <= 0 or n_b <= 0:
        return 1.0
    pooled = (won_a + won_b) / (n_a + n_b)
    spread = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    if spread <= 0:
        return 1.0
    return math.erfc(abs(won_a / n_a - won_b / n_b) / math.sqrt(spread) / math.sqrt(2))
