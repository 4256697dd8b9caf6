"""How fast revenue flows: velocity and its levers, and whether enough is created for what is closed.

velocity = open opportunities x win rate x average won amount / cycle, in money per day. Its levers differ in how far
they can move, so beside the elasticity (1 for all four, by the formula) each is moved by one step that people know:
an opportunity more per week, a point of win rate, 1% of amount, a day of cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pipesync.analysis.significance import wilson
from pipesync.errors import InputError, Problem
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

Group = Literal["pipeline", "segment", "product", "source", "owner_id", "team", "type"]
GROUPS: tuple[Group, ...] = ("pipeline", "segment", "product", "source", "owner_id", "team", "type")
QUARTER = 91.0
"""Days that gains are told for."""

_FLOW = """
SELECT {key} AS key, count(*) FILTER (is_open) AS open,
       coalesce(sum(amount) FILTER (is_open), 0)::DOUBLE AS open_amount,
       count(*) FILTER (is_closed AND days_since_closed <= 365) AS decided,
       count(*) FILTER (is_won AND days_since_closed <= 365) AS won,
       avg(amount) FILTER (is_won AND days_since_closed <= 365)::DOUBLE AS amount,
       avg(cycle_days) FILTER (is_won AND days_since_closed <= 365) AS cycle,
       count(*) FILTER (age_days <= 91) / 13.0 AS created_per_week
FROM features GROUP BY 1 ORDER BY 1 NULLS LAST
"""
_WEEKS = """
WITH moved AS (
    SELECT local_date(created_at) AS day, amount, 'created' AS what FROM features WHERE created_at IS NOT NULL
    UNION ALL
    SELECT local_date(closed_at), amount, CASE WHEN is_won THEN 'won' ELSE 'lost' END
    FROM features WHERE is_closed
)
SELECT CAST(date_trunc('week', day) AS DATE) AS week,
       count(*) FILTER (what = 'created'), coalesce(sum(amount) FILTER (what = 'created'), 0)::DOUBLE,
       count(*) FILTER (what = 'won'), coalesce(sum(amount) FILTER (what = 'won'), 0)::DOUBLE,
       count(*) FILTER (what = 'lost'), coalesce(sum(amount) FILTER (what = 'lost'), 0)::DOUBLE
FROM moved
WHERE day > getvariable('today') - to_days(7 * ?::INTEGER) AND day <= getvariable('today')
GROUP BY week ORDER BY week
"""


@dataclass(frozen=True)
class Lever:
    name: Literal["opportunities", "win_rate", "amount", "cycle"]
    step: str
    """What is done to it, in words."""
    gain: float
    """Revenue more in a quarter, all else as it is."""


@dataclass(frozen=True)
class Velocity:
    """Of one group, over the last 365 days; money in the home currency. None: too little is known to say."""

    key: str | None
    open: int
    open_amount: float
    decided: int
    won: int
    win_rate: float | None
    low: float
    high: float
    amount: float | None
    """Average of what was won."""
    cycle_days: float | None
    per_day: float | None
    levers: tuple[Lever, ...]
    """The one that would move most first."""


def velocity(warehouse: Warehouse, features: Features, by: Group | None = None) -> tuple[Velocity, ...]:
    """Return velocity of the whole pipeline, or per group; empty where the group cannot be read."""
    if by and by not in GROUPS:
        raise InputError(Problem(f"no velocity by {by!r}", fix=f"one of {', '.join(GROUPS)}"))
    if by in features.unknown:
        return ()
    rows = warehouse.rows(_FLOW.format(key=by or "NULL"))
    return tuple(_of(*row) for row in rows)


def _of(
    key: str | None, open_: int, open_amount: float, decided: int, won: int,
    amount: float | None, cycle: float | None, created: float,
) -> Velocity:  # fmt: skip
    rate = won / decided if decided else None
    low, high = wilson(won, decided)
    per_day: float | None = None
    levers: tuple[Lever, ...] = ()
    if rate and amount and cycle:
        per_day = open_ * rate * amount / cycle
        levers = _levers(per_day, rate, amount, cycle)
    return Velocity(key, open_, open_amount, decided, won, rate, low, high, amount, cycle, per_day, levers)


def _levers(per_day: float, rate: float, amount: float, cycle: float) -> tuple[Lever, ...]:
    quarter = per_day * QUARTER
    found = [
        # By Little's law one more a week is cycle / 7 more open ones; each brings rate x amount once per cycle.
        Lever("opportunities", "one opportunity more per week", QUARTER / 7 * rate * amount),
        Lever("win_rate", "one point more of win rate", quarter * 0.01 / rate),
        Lever("amount", "1% more per win", quarter * 0.01),
        Lever("cycle", "one day less from creation to win", quarter / (cycle - 1) if cycle > 1 else 0.0),
    ]
    return tuple(sorted(found, key=lambda lever: -lever.gain))


@dataclass(frozen=True)
class Week:
    """Counts and money of a week that begins on Monday `start`; the last one may not be over."""

    start: date
    created: int
    created_amount: float
    won: int
    won_amount: float
    lost: int
    lost_amount: float

    @property
    def net_amount(self) -> float:
        """What the pipeline gained."""
        return self.created_amount - self.won_amount - self.lost_amount


def creation_against_closing(warehouse: Warehouse, features: Features, weeks: int = 26) -> tuple[Week, ...]:
    """Return what was created, won and lost, week by week, for the weeks in which anything was."""
    if "created_at" in features.unknown:
        return ()
    return tuple(Week(*row) for row in warehouse.rows(_WEEKS, [weeks]))
