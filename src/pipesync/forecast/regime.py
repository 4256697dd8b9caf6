"""Alarms that the past has stopped being a guide: wins outside the expected range, or a pipeline of another mix.

Wins: a Poisson CUSUM of weekly wins against what a model of thirteen weeks ago expects of them, both ways, alarm
at 4. Mix: the population stability index of stage, age and amount above .25 (notes 3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipesync.forecast import arrivals, landmarks
from pipesync.forecast.forecasters import within
from pipesync.forecast.history import DAY, Floats, History, Ms, to_moment
from pipesync.forecast.replay import WEEK, Settled
from pipesync.forecast.rhythm import rhythm_of
from pipesync.forecast.training import Training

_WEEKS = 13
_LIMIT = 4.0
_SHIFT = 1.5
"""Rate ratio that the CUSUM is to find: half as many wins again, or two thirds."""
_PSI_LIMIT = 0.25
_LEAST_ROWS = 100


@dataclass(frozen=True)
class Alarm:
    kind: str
    """`wins` or `mix`."""
    why: str


def watch(past: History, as_of: Ms, training: Training, before: Sequence[Settled]) -> tuple[Alarm, ...]:
    """Return what is unlike the past; nothing where there is too little to compare."""
    found = []
    old = [s for s in before if s.issue.origin <= as_of - 4 * WEEK and "hazard" in s.issue.fitted]
    if old:
        model = max(old, key=lambda s: min(s.issue.origin, as_of - _WEEKS * WEEK))
        seen, expected, starts = weekly_wins(past, model, as_of)
        when = cusum(seen, expected)
        if when is not None:
            direction = "fewer" if seen[when] < expected[when] else "more"
            day = to_moment(starts[when]).date()
            found.append(Alarm("wins", f"{direction} wins than expected, out of range in the week of {day}"))
    found += [Alarm("mix", why) for why in _mix(past, as_of, training)]
    return tuple(found)


def weekly_wins(past: History, model: Settled, as_of: Ms) -> tuple[Floats, Floats, list[Ms]]:
    """Return wins per week since the model's origin: seen, and expected from open and from new opportunities."""
    first = model.issue.origin
    starts = [first + week * WEEK for week in range(int((as_of - first) // WEEK))]
    seen, expected = [], []
    for start in starts:
        rows = landmarks.at(past, [start], banned=frozenset())
        chance = within(model.issue.fitted["hazard"], rows, 7.0)
        expected.append(
            float(chance.sum())
            + arrivals.expect(past, start, 7.0, rhythm_of(model.issue.fitted["hazard"])).rate
        )
        seen.append(float((past.won & (past.closed > start) & (past.closed <= start + WEEK)).sum()))
    return np.array(seen), np.array(expected), starts


def cusum(seen: Floats, expected: Floats) -> int | None:
    """Return the index at which a Poisson CUSUM (Lucas 1985) passes its limit; None if it never does."""
    high = low = 0.0
    for i, (count, mean) in enumerate(zip(seen, expected, strict=True)):
        high = max(0.0, high + count * np.log(_SHIFT) - mean * (_SHIFT - 1))
        low = max(0.0, low - count * np.log(_SHIFT) - mean * (1 / _SHIFT - 1))
        if max(high, low) > _LIMIT:
            return i
    return None


def _mix(past: History, as_of: Ms, training: Training) -> list[str]:
    now = landmarks.at(past, [as_of], banned=frozenset())
    recent = training.rows.take(training.rows.origin > as_of - 365 * DAY)
    if min(len(now), len(recent)) < _LEAST_ROWS:
        return []
    found = []
    for name in ("age", "amount"):
        before, today = recent.frame[name].to_numpy(float), now.frame[name].to_numpy(float)
        before, today = before[np.isfinite(before)], today[np.isfinite(today)]
        if min(len(before), len(today)) < _LEAST_ROWS:
            continue
        edges = np.unique(np.quantile(before, np.arange(0.1, 1.0, 0.1)))
        size = psi(
            np.bincount(np.digitize(before, edges), minlength=len(edges) + 1),
            np.bincount(np.digitize(today, edges), minlength=len(edges) + 1),
        )
        if size > _PSI_LIMIT:
            found.append(f"the {name} of open opportunities is unlike the past year's (index {size:.2f})")
    stages = sorted({*recent.frame["stage"], *now.frame["stage"]})
    old, new = (f.frame["stage"].value_counts().reindex(stages, fill_value=0) for f in (recent, now))
    size = psi(old.to_numpy(), new.to_numpy())
    if size > _PSI_LIMIT:
        found.append(f"open opportunities stand in other stages than in the past year (index {size:.2f})")
    return found


def psi(before: npt.NDArray[np.integer[Any]], now: npt.NDArray[np.integer[Any]]) -> float:
    """Return the population stability index of two counts over the same bins, half an observation added to each."""
    p, q = (before + 0.5) / (before + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    return float(np.sum((q - p) * np.log(q / p)))
