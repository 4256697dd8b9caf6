"""New business: what is created after the moment of the forecast and won before the period ends.

Weekly counts of created opportunities decay in weight with age; what a week's cohort wins by the period end is
the cumulative incidence of winning from creation (Aalen-Johansen, so open ones are censored, not dropped).
Whole past wins are drawn, so that owner, product and amount of a new one belong together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipesync.forecast.history import DAY, NEVER, Bools, Floats, History, Ints, Ms
from pipesync.forecast.rhythm import SILENT, Rhythm
from pipesync.forecast.training import start_of_history

_HALF_LIFE = 56.0
"""Days: creation rates move faster than conversion does."""
_COHORT_HALF_LIFE = 180.0
_LOOK_BACK = 26
_LEAST_AT_RISK = 5.0


@dataclass(frozen=True)
class Arrivals:
    rate: float
    """Wins expected from new opportunities within the horizon."""
    dispersion: float
    """Variance over mean of the weekly counts, at least 1."""
    pool: Ints
    """Past wins to draw from, as indices into the history."""
    weight: Floats
    created_per_week: float

    def scaled(self, factor: float) -> Arrivals:
        return replace(self, rate=self.rate * factor)


def expect(history: History, origin: Ms, days: float, rhythm: Rhythm = SILENT) -> Arrivals:
    """Estimate from what was known at the origin; wins come when the rhythm of the calendar has them come."""
    created = history.created[history.created <= origin]
    if not len(created) or days <= 0:
        return Arrivals(0.0, 1.0, np.empty(0, dtype=np.int64), np.empty(0), 0.0)
    first = max(int(created.min()), origin - _LOOK_BACK * 7 * DAY)
    weeks = max(int((origin - first) // (7 * DAY)), 1)
    ago = ((origin - created) // (7 * DAY)).astype(int)
    counts = np.bincount(ago[ago < weeks], minlength=weeks).astype(float)
    weight = np.exp2(-7 * np.arange(weeks) / _HALF_LIFE)
    mean = float(np.sum(weight * counts) / np.sum(weight))
    spread = float(np.sum(weight * (counts - mean) ** 2) / np.sum(weight))
    won_by = cohort_incidence(history, origin)
    steps = np.arange(0.0, days, 1.0)
    left = days - steps - np.minimum(1.0, days - steps) / 2  # created in the middle of each day
    share = np.minimum(1.0, days - steps)
    # What is won of the ones created `left` ago or later comes in the day that is `left` ahead of the origin.
    pace, _ = rhythm.pace(origin + (left * DAY).astype(np.int64))
    rate = mean / 7 * float(np.sum(share * won_by(left) * pace))
    pool = np.flatnonzero(history.won & (history.closed <= origin) & (history.created < NEVER))
    recent = np.exp2(-(origin - history.closed[pool]) / DAY / _COHORT_HALF_LIFE)
    dispersion = max(spread / mean, 1.0) if mean else 1.0
    return Arrivals(rate if len(pool) else 0.0, dispersion, pool, recent, mean)


@dataclass(frozen=True)
class Incidence:
    """A step function of days since creation."""

    day: Floats
    won: Floats

    def __call__(self, days: Floats) -> Floats:
        if not len(self.day):
            return np.zeros_like(days)
        found: Floats = np.r_[0.0, self.won][np.searchsorted(self.day, days, side="right")]
        return found


def cohort_incidence(history: History, origin: Ms) -> Incidence:
    """Return the share won by age, from every opportunity created before the origin, recent ones weighing more.

    One that was created before history began is at risk only from then on (delayed entry): that it did not close
    before is not on record, and counting it would make winning look rare.
    """
    start = start_of_history(history, origin)
    known = (history.created <= origin) & (history.closed >= np.maximum(history.created, start))
    created = history.created[known]
    end = np.minimum(history.closed[known], origin)
    age = (end - created) / DAY
    closed = history.closed[known] <= origin
    won: Bools = closed & history.won[known]
    weight = np.exp2(-(origin - created) / DAY / _COHORT_HALF_LIFE)
    entry = np.maximum(start - created, 0) / DAY
    late = np.argsort(entry, kind="stable")
    entered, entered_weight = entry[late], np.r_[0.0, np.cumsum(weight[late])]
    order = np.argsort(age, kind="stable")
    age, closed, won, weight = age[order], closed[order], won[order], weight[order]
    day, first = np.unique(age, return_index=True)
    if not len(day):
        return Incidence(np.empty(0), np.empty(0))
    gone = np.r_[0.0, np.cumsum(weight)][first]
    at_risk = np.maximum(entered_weight[np.searchsorted(entered, day, side="right")] - gone, 1e-9)
    # The first to enter late are alone at risk for a while; one of them must not decide for all.
    at_risk = np.maximum(at_risk, _LEAST_AT_RISK * float(weight.max()))
    wins = np.add.reduceat(weight * won, first)
    ends = np.add.reduceat(weight * closed, first)
    survival = np.cumprod(np.clip(1 - ends / at_risk, 0, 1))
    before = np.r_[1.0, survival[:-1]]
    return Incidence(day, np.cumsum(before * wins / at_risk))
