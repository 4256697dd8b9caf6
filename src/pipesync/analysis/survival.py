"""How long things last when some of them have not ended yet: Kaplan-Meier, Aalen-Johansen, restricted mean, log-rank.

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
    first = _firsts(days)
    times = days[first]
    events = np.add.reduceat(ended.astype(np.int64), first)
    at_risk = len(days) - first
    survival = np.cumprod(1.0 - events / at_risk, dtype=np.float64)
    kept = events > 0
    return Curve(times[kept], survival[kept], at_risk[kept], events[kept], float(days[-1]))


def _firsts(ordered: Floats) -> Ints:
    """Return where each distinct value of an ordered array begins."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


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


def incidence(days: Floats, kinds: Ints, kind: int) -> tuple[Floats, Floats]:
    """Return the times at which something ended in this way, and the share that had ended so by then.

    `kinds` is 0 for what has not ended, else the number of the way it ended. The other ways compete: what ended
    otherwise can no longer end so, and is not censored (Aalen & Johansen 1978).
    """
    if not len(days):
        return np.empty(0), np.empty(0)
    order = np.argsort(days, kind="stable")
    days, kinds = days[order], kinds[order]
    first = _firsts(days)
    times = days[first]
    at_risk = len(days) - first
    ended = np.add.reduceat((kinds > 0).astype(np.int64), first)
    own = np.add.reduceat((kinds == kind).astype(np.int64), first)
    survival = np.cumprod(1.0 - ended / at_risk, dtype=np.float64)
    before = np.concatenate([[1.0], survival[:-1]])
    share = np.cumsum(before * own / at_risk)
    return times[own > 0], share[own > 0]


def log_rank(days: Floats, ended: Bools, group: Bools) -> tuple[float, float]:
    """Compare two groups; return (p value, observed minus expected ends of `group`).

    Fewer ends than expected means that the group lasts longer. p is 1 where nothing can be said.
    (Mantel 1966; the chi-squared form with one degree of freedom.)
    """
    if not group.any() or group.all() or not ended.any():
        return 1.0, 0.0
    order = np.argsort(days, kind="stable")
    days, ended, group = days[order], ended[order], group[order]
    first = _firsts(days)
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
