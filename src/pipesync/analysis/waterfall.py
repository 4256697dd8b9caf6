"""What became of the pipeline between two moments, opportunity by opportunity, to the cent.

start + new + reopened + pulled in + moved in + increased - decreased - pushed out - moved out - lost - won = end

The pipeline of a period is what is open and expected to close in it; without a period, everything that is open.
What was created and closed in between is counted both as new and as won or lost. Amounts are in the home currency by
the rates of each moment, so a changed rate shows as an increase or a decrease; a blank amount counts as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args

from pipesync.analysis.scope import SCOPES
from pipesync.config import Calendar
from pipesync.errors import InputError, Problem
from pipesync.features import stand
from pipesync.forecast.periods import Period
from pipesync.store.warehouse import Warehouse

StepKind = Literal[
    "new", "reopened", "pulled_in", "moved_in", "increased", "decreased", "pushed_out", "moved_out", "lost", "won"
]  # fmt: skip
# An opportunity that changes its owner moves out of one scope and into another.

# Two moves may stand for one opportunity: the amount that went in or out, and by how much it changed on the way.
_STEPS = """
WITH pairs AS (
    SELECT coalesce(a.id, b.id) AS id,
           a.id IS NULL AS is_new, coalesce(a.is_closed, FALSE) AS was_closed,
           coalesce(a.is_inside, FALSE) AS was_inside,
           coalesce(a.is_in_scope, FALSE) AS was_in_scope, b.is_in_scope,
           coalesce(a.amount, 0) AS amount_before, coalesce(b.amount, 0) AS amount_after,
           b.is_closed, b.is_won, b.is_inside, b.is_in_period
    FROM {start} AS a RIGHT JOIN {end} AS b USING (id)
),
placed AS (
    SELECT *,
        CASE WHEN was_inside THEN NULL
             WHEN is_new THEN 'new'
             WHEN was_closed THEN 'reopened'
             WHEN NOT was_in_scope THEN 'moved_in'
             ELSE 'pulled_in' END AS way_in,
        CASE WHEN is_inside THEN NULL
             WHEN NOT is_in_scope THEN 'moved_out'
             WHEN is_won THEN 'won'
             WHEN is_closed THEN 'lost'
             ELSE 'pushed_out' END AS way_out,
        -- Neither before nor after in the pipeline: it passed through if it was closed in the period and scope.
        NOT was_inside AND NOT is_inside AND is_closed AND NOT was_closed AND is_in_scope AND is_in_period
            AS passed
    FROM pairs
)
SELECT id, way_in AS kind, amount_after AS amount FROM placed WHERE way_in IS NOT NULL AND (is_inside OR passed)
UNION ALL
SELECT id, CASE WHEN amount_after > amount_before THEN 'increased' ELSE 'decreased' END,
       abs(amount_after - amount_before)
FROM placed WHERE was_inside AND amount_after <> amount_before
UNION ALL
SELECT id, way_out, amount_after FROM placed WHERE way_out IS NOT NULL AND (was_inside OR passed)
ORDER BY amount DESC, id, kind
"""


@dataclass(frozen=True)
class Step:
    opportunity_id: str
    kind: StepKind
    amount: Decimal
    """The kind says which way it goes."""


@dataclass(frozen=True)
class Waterfall:
    """`start` plus what came in less what went out is `end`, exactly."""

    start: Decimal
    end: Decimal
    steps: tuple[Step, ...]
    """Largest first."""
    missing: tuple[str, ...] = ()

    def total(self, kind: StepKind) -> Decimal:
        return sum((s.amount for s in self.steps if s.kind == kind), Decimal(0))

    def totals(self) -> dict[StepKind, Decimal]:
        found: dict[StepKind, Decimal] = dict.fromkeys(get_args(StepKind), Decimal(0))
        for step in self.steps:
            found[step.kind] += step.amount
        return found


def waterfall(
    warehouse: Warehouse,
    connection: str,
    start: datetime,
    end: datetime,
    calendar: Calendar,
    *,
    period: Period | None = None,
    where: Mapping[str, str] | None = None,
) -> Waterfall:
    """Explain the way from one moment's pipeline to a later one's."""
    [found] = waterfalls(warehouse, connection, (start,), end, calendar, period=period, where=where)
    return found


def waterfalls(
    warehouse: Warehouse,
    connection: str,
    starts: Sequence[datetime],
    end: datetime,
    calendar: Calendar,
    *,
    period: Period | None = None,
    where: Mapping[str, str] | None = None,
) -> tuple[Waterfall, ...]:
    """Explain the ways from several moments to the same later one; what stood at its end is looked up once."""
    if any(start > end for start in starts):
        raise InputError(Problem("a waterfall ends before it starts", fix="give the earlier moment first"))
    after = stand(warehouse, connection, end, calendar, "waterfall_end")
    needed = {"amount", *(("close_date",) if period else ()), *(where or {})}
    made = []
    for start in starts:
        before = stand(warehouse, connection, start, calendar, "waterfall_start")
        found = between(warehouse, "waterfall_start", "waterfall_end", period=period, where=where)
        missing = tuple(
            f"{name} is not known of {moment.as_of:%Y-%m-%d}; its present value stands in"
            for name in sorted(needed)
            for moment in (before, after)
            if name in moment.unknown
        )
        made.append(Waterfall(found.start, found.end, found.steps, missing))
    return tuple(made)


def between(
    warehouse: Warehouse,
    start: str,
    end: str,
    *,
    period: Period | None = None,
    where: Mapping[str, str] | None = None,
) -> Waterfall:
    """Compare two tables that `features.stand` made."""
    scope = dict(where or {})
    if wrong := sorted(set(scope) - set(SCOPES)):
        raise InputError(Problem(f"a waterfall has no scope {wrong[0]!r}", fix=f"one of {', '.join(SCOPES)}"))
    in_period, given = "TRUE", list(scope.values())
    if period:
        in_period = (
            f"coalesce(close_date >= DATE '{period.start}' AND close_date < DATE '{period.end}', FALSE)"
        )
    in_scope = " AND ".join(["TRUE", *(f"coalesce({name} = ?, FALSE)" for name in scope)])
    for source, name in ((start, "waterfall_a"), (end, "waterfall_b")):
        warehouse.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS "
            f"SELECT id, is_closed, is_won, amount, {in_period} AS is_in_period, "
            f'{in_scope} AS is_in_scope, NOT is_closed AND is_in_period AND is_in_scope AS is_inside FROM "{source}"',
            given,
        )
    ends = [
        Decimal(warehouse.rows(f"SELECT coalesce(sum(amount), 0) FROM {name} WHERE is_inside")[0][0])
        for name in ("waterfall_a", "waterfall_b")
    ]
    steps = warehouse.rows(_STEPS.format(start="waterfall_a", end="waterfall_b"))
    return Waterfall(ends[0], ends[1], tuple(Step(i, kind, Decimal(amount)) for i, kind, amount in steps))
