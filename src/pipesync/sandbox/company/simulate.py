"""How opportunities move: a walk through the stages, in business time.

Times are business days relative to the day of `as_of` (negative: past), the fraction being the part of the working
day; so nothing happens at night or on a weekend, and order survives the conversion to calendar time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from pipesync.sandbox.company.shape import (
    MONTH_WEIGHTS,
    PIPELINES,
    RENEWALS,
    REPS_PER_TEAM,
    SHARE_OF_RENEWALS,
    SLOW_STAGE,
    SOURCE_LIFT,
    SOURCES,
    TEAMS,
    Step,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HISTORY = 522
"""Business days: two years."""
_MOVES = 40
"""No opportunity makes more; a walk that is not over by then is lost."""
SPREAD = 0.65
"""Sigma of the log of a stay."""
_LONGEST = 0.92
"""Stays end at this many sigmas (the 82nd percentile), so that a stay beyond the ninetieth is a planted one."""
REPS = len(TEAMS) * REPS_PER_TEAM
LEAVER = REPS - 1
"""The rep who has left."""
_LEFT_AT = -70.0
_SHORT_OF_HANDS = 32
"""Business days since when the slow stage has been short of reviewers."""


@dataclass
class Company:
    """One entry per opportunity; visits one per stage entry, ordered by opportunity and time."""

    as_of: datetime
    pipeline: Ints
    owner: Ints
    source: Ints
    created: Floats
    ended: Floats
    """When it was won or lost; 0 while open."""
    is_open: Flags
    is_won: Flags
    stage: Ints
    """Position in its pipeline of the last open stage."""
    visit_opportunity: Ints
    visit_stage: Ints
    visit_entered: Floats

    def __len__(self) -> int:
        return len(self.created)

    @property
    def until(self) -> Floats:
        """The end of what has happened on each opportunity."""
        return np.where(self.is_open, 0.0, self.ended)


def simulate(rng: np.random.Generator, count: int, as_of: datetime) -> Company:
    created = _arrivals(rng, count, as_of)
    pipeline = np.where(rng.random(count) < SHARE_OF_RENEWALS, RENEWALS, 0)
    owner = rng.integers(0, REPS, count)
    skill = rng.normal(0, 0.25, REPS)
    # Who has left took nothing on since.
    owner = np.where((owner == LEAVER) & (created > _LEFT_AT - 60), rng.integers(0, LEAVER, count), owner)
    source = rng.choice(len(SOURCES), count, p=(0.35, 0.25, 0.15, 0.15, 0.10))
    lift = skill[owner] + np.asarray(SOURCE_LIFT)[source]

    now, stage = created.copy(), np.zeros(count, dtype=np.int64)
    running, is_won = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    is_open = np.zeros(count, dtype=bool)
    visits: list[tuple[Ints, Ints, Floats]] = []
    for _ in range(_MOVES):
        who = np.flatnonzero(running)
        if not len(who):
            break
        visits.append((who, stage[who], now[who].copy()))
        for index, steps in enumerate(PIPELINES.values()):
            mine = who[pipeline[who] == index]
            if len(mine):
                _move(rng, steps, mine, lift, now, stage, running, is_won, is_open)
    ended = np.where(is_open, 0.0, now)
    # The leaver's open work went to the others when they left.
    left = is_open & (owner == LEAVER)
    owner = np.where(left, rng.integers(0, LEAVER, count), owner)
    opportunity = np.concatenate([v[0] for v in visits])
    entered = np.concatenate([v[2] for v in visits])
    order = np.lexsort((entered, opportunity))
    return Company(
        as_of, pipeline, owner, source, created, ended, is_open, is_won, stage,
        opportunity[order], np.concatenate([v[1] for v in visits])[order], entered[order],
    )  # fmt: skip


def _arrivals(rng: np.random.Generator, count: int, as_of: datetime) -> Floats:
    days = np.arange(-HISTORY, 0)
    months = calendar_days(days.astype(float), as_of).astype("datetime64[M]").astype(int) % 12
    weights = np.asarray(MONTH_WEIGHTS)[months]
    chosen = rng.choice(days, count, p=weights / weights.sum())
    found: Floats = np.sort(chosen + rng.random(count))
    return found


def _move(
    rng: np.random.Generator,
    steps: tuple[Step, ...],
    who: Ints,
    lift: Floats,
    now: Floats,
    stage: Ints,
    running: Flags,
    is_won: Flags,
    is_open: Flags,
) -> None:
    """Let each of `who` stay in its stage and leave it, or still be there at the end."""
    at = stage[who]
    back = np.asarray([s.back for s in steps])[at]
    advance = np.asarray([s.advance for s in steps])[at]
    odds = np.log(advance / (1 - advance)) + lift[who]
    advance = (1 - back) / (1 + np.exp(-odds))
    draw = rng.random(len(who))
    goes_on, goes_back = draw < advance, (draw >= advance) & (draw < advance + back)
    median = np.asarray([s.median_days for s in steps])[at]
    # What will be lost stays longer, which is the signal that age carries.
    stay = median * np.exp(SPREAD * rng.normal(size=len(who))) * np.where(goes_on | goes_back, 1.0, 1.35)
    longest_stay = longest(median) * rng.uniform(0.97, 1.0, len(who))
    leaves = now[who] + np.clip(stay, 0.05, longest_stay)
    # The slow stage has lost its reviewers lately: most of what was to leave it waits, and its queue grows.
    waits = np.asarray([s.name == SLOW_STAGE for s in steps])[at] & (leaves > -_SHORT_OF_HANDS)
    waits &= (now[who] > -longest_stay) & (rng.random(len(who)) < 0.8)
    leaves = np.where(waits, np.maximum(leaves, now[who] + longest_stay), leaves)
    still = leaves >= 0
    is_open[who[still]] = True
    running[who[still]] = False
    who, at, leaves = who[~still], at[~still], leaves[~still]
    goes_on, goes_back = goes_on[~still], goes_back[~still]
    now[who] = leaves
    wins = goes_on & (at == len(steps) - 1)
    is_won[who[wins]] = True
    running[who[wins | ~(goes_on | goes_back)]] = False
    stage[who] = np.where(goes_on & ~wins, at + 1, np.where(goes_back, at - 1, at))


def longest(median: Floats) -> Floats:
    """Return the longest stay, in business days, that is not planted."""
    found: Floats = median * np.exp(SPREAD * _LONGEST)
    return found


# --- Calendar ---------------------------------------------------------------------------------------------------


def calendar_days(business: Floats, as_of: datetime) -> npt.NDArray[np.datetime64]:
    """Return the calendar day of each business time."""
    start = np.busday_offset(np.datetime64(as_of.date()), 0, roll="backward")
    found: npt.NDArray[np.datetime64] = np.busday_offset(start, np.floor(business).astype(np.int64))
    return found


def moments(business: Floats, as_of: datetime) -> npt.NDArray[np.datetime64]:
    """Return UTC times, in seconds: the working day is from 8 to 17."""
    part = business - np.floor(business)
    seconds = (8 * 3600 + part * 9 * 3600).astype(np.int64)
    found: npt.NDArray[np.datetime64] = calendar_days(business, as_of).astype(
        "datetime64[s]"
    ) + seconds.astype("timedelta64[s]")
    return found
