"""How winning and losing move with the fiscal calendar: the push at the end of a quarter, and the lull after it.

The calendar is known in advance, so each future week can have its own factor. What the hazards expected of every past
week is held against what came of it, and a mixed model says how much of the difference repeats: weeks have luck of
their own, and so have quarters, so that a thousand closings of one quarter count as one quarter. Position is the share
of the quarter that is over, its last two weeks (the hockey stick), and the last week of the month. Each effect is held
as every other of the hazards is. A history in which no week of the quarter came twice teaches none: what was seen once
cannot be told from a trend or a holiday.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from pipesync import fiscal
from pipesync.config import Calendar
from pipesync.forecast.history import DAY, Floats, Ints, Ms, to_moment, to_ms

_LAST_OF_QUARTER, _LAST_OF_MONTH = 14.0, 7.0
"""Days."""
_CENTRE = np.array([0.5, 14 / 91, 7 / 30.4])
_SCALE = np.sqrt([1 / 12, 14 / 91 * (1 - 14 / 91), 7 / 30.4 * (1 - 7 / 30.4)])
"""Of the three positions over a year, so that one penalty suits them as it suits the design's columns."""
_LEAST_DAYS = 182.0
"""Two quarters."""
_LUCK = 0.3
"""Standard deviation of what a week's closings share, in logarithms: the prior shock of totals (notes 0.7)."""
_YEARS_BACK, _YEARS_AHEAD = 4, 8


@dataclass(frozen=True)
class Rhythm:
    """Numbers only, so that a fitted model can be kept as JSON."""

    months: tuple[int, ...] = ()
    """First moments of fiscal months, from the first of a year on; outside of them nothing moves."""
    win: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """A level, then the effect of each position, in logarithms."""
    lose: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    @property
    def is_silent(self) -> bool:
        return not any(self.win) and not any(self.lose)

    def pace(self, at: Ints) -> tuple[Floats, Floats]:
        """Return the factors of winning and of losing at these moments."""
        where = np.column_stack([np.ones(len(at)), positions(self.months, at)])
        inside = (at >= self.months[0]) & (at < self.months[-1]) if self.months else np.zeros(len(at), bool)
        win, lose = (np.where(inside, np.exp(where @ np.array(b)), 1.0) for b in (self.win, self.lose))
        return win, lose

    def steps(self, origin: Ms, width: float, count: int) -> Steps:
        """Return what becomes of `count` bins of `width` days after an origin."""
        days = np.arange(int(np.ceil(width * count)) + 1)
        edges = width * np.arange(count + 1)
        found = []
        for factor in self.pace(origin + ((days + 0.5) * DAY).astype(np.int64)):
            clock = np.r_[0.0, np.cumsum(factor)]
            found.append((clock, np.diff(np.interp(edges, np.r_[days, days[-1] + 1], clock)) / width))
        (clock, win), (_, lose) = found
        return Steps(width, np.log(win), np.log(lose), clock)

    def quarter_end(self, at: Ms) -> Ms | None:
        """Return the end of the fiscal quarter that holds a moment."""
        later = [end for end in self.months[::3] if end > at]
        return later[0] if later and self.months[0] <= at else None


@dataclass(frozen=True)
class Steps:
    width: float
    win: Floats
    """Per bin, to be added to the log-odds of winning against staying open."""
    lose: Floats
    clock: Floats
    """What is over of the time that winning takes, by whole days."""

    def place(self, days: Floats) -> Floats:
        """Return where these days lie among the bins: 2.5 is where half of the third one's wins have happened."""
        count = len(self.win)
        held = np.clip(days, 0.0, self.width * count)
        k = np.minimum((held / self.width).astype(np.int64), count - 1)
        low, here, high = (
            np.interp(at, np.arange(len(self.clock)), self.clock)
            for at in (k * self.width, held, (k + 1) * self.width)
        )
        found: Floats = k + (here - low) / (high - low)
        return found


SILENT = Rhythm()


def rhythm_of(fitted: object) -> Rhythm:
    """Return the rhythm of a fitted forecaster; those that know none have a silent one."""
    found = getattr(fitted, "rhythm", SILENT)
    return found if isinstance(found, Rhythm) else SILENT


def positions(months: tuple[int, ...], at: Ints) -> Floats:
    """Return moments x 3, centred and scaled; 0 outside of the months."""
    if len(months) < 2:
        return np.zeros((len(at), 3))
    first = np.array(months)
    month = np.clip(np.searchsorted(first, at, side="right") - 1, 0, len(first) - 2)
    quarter = month - month % 3
    until = np.minimum(quarter + 3, len(first) - 1)
    over = (at - first[quarter]) / (first[until] - first[quarter])
    is_last = first[until] - at <= _LAST_OF_QUARTER * DAY
    ends = first[month + 1] - at <= _LAST_OF_MONTH * DAY
    found: Floats = (np.column_stack([over, is_last, ends]) - _CENTRE) / _SCALE
    return found


def months_of(calendar: Calendar, around: Ms) -> tuple[int, ...]:
    return _months_of(calendar, to_moment(around).year)


@lru_cache(maxsize=64)
def _months_of(calendar: Calendar, year: int) -> tuple[int, ...]:
    zone = ZoneInfo(calendar.timezone)
    years = range(year - _YEARS_BACK, year + _YEARS_AHEAD + 1)
    days = [day for one in years for day in fiscal.months(one, calendar)[:-1]]
    days.append(fiscal.months(years[-1], calendar)[-1])
    return tuple(to_ms(datetime.combine(day, time(), zone)) for day in days)


@dataclass(frozen=True)
class Weeks:
    """What a model expected of past weeks, and what came. A week begins at an origin and lasts `width` days."""

    origin: Ints
    width: float
    weight: Floats
    expected: Floats
    """Weeks x 2: wins, losses."""
    seen: Floats


def learn(weeks: Weeks, months: tuple[int, ...], penalty: float) -> Rhythm:
    """Fit; `penalty` is the variance that effects have before anything was seen of them."""
    span = (weeks.origin.max() - weeks.origin.min()) / DAY + weeks.width if len(weeks.origin) else 0.0
    if span < _LEAST_DAYS:
        return SILENT
    days = (np.arange(int(np.ceil(weeks.width))) + 0.5) * DAY
    at = (weeks.origin[:, None] + days[None, :]).astype(np.int64)
    where = positions(months, at.ravel()).reshape(*at.shape, 3).mean(axis=1)
    design = np.column_stack([np.ones(len(where)), where])
    quarter = np.searchsorted(np.array(months[::3]), weeks.origin + int(weeks.width / 2 * DAY))
    found = []
    for seen, expected in zip(weeks.seen.T, weeks.expected.T, strict=True):
        apart = np.log((seen + 0.5) / (expected + 0.5))
        repeated = penalty * design @ design.T
        noise = np.diag((1 / (expected + 0.5) + _LUCK**2) / weeks.weight)
        noise += repeated * (quarter[:, None] == quarter[None, :])
        effect = penalty * where.T @ np.linalg.solve(noise + repeated, apart)
        # The whole of the past stays as it was: only when it comes moves.
        level = -np.log(np.average(np.exp(where @ effect), weights=weeks.weight * (expected + 1e-9)))
        found.append((float(level), *(float(e) for e in effect)))
    return replace(SILENT, months=months, win=found[0], lose=found[1])
