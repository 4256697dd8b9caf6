"""Where revenue is held up, goes round in circles, leaks or queues: ranked by what mending it would be worth.

Every amount is won revenue expected in the home currency, so that kinds can be compared:

time        exits per day x (median dwell - benchmark) x mean amount x win rate: by Little's law, the expected wins
            that wait in the stage beyond what the pipeline's other stages take (benchmark: their median).
rework      returns per day x median days that a return costs (the stage it goes back to) x mean amount x win rate.
conversion  (rate before - rate now) x mean amount x entries of 13 weeks x what an advance is worth: the win rate from
            here over the advance rate. The rate is of what ended within the time that nine tenths of stays take, of
            entries that are old enough for it: the latest 13 weeks of them, and the 39 weeks before.
queue       (arrivals - exits) of the last 8 weeks x mean amount x win rate, where the queue grew for 4 weeks in a row.

Only what is unlikely to be chance is named: at least 20 visits; time by log-rank against the other stages, conversion
by the beta-binomial law that the weeks before leave, a queue by its arrivals against its exits, all stages and kinds
together held to a false discovery rate of 10% (Benjamini & Hochberg 1995). And it has to matter: time from a fifth
above the benchmark on, conversion from 5 points, rework from 3% of ended visits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import pandas as pd

from pipesync.analysis import stages as stage_table
from pipesync.analysis.significance import kept, two_counts, two_shares
from pipesync.config import Calendar
from pipesync.model import Bottleneck
from pipesync.store.warehouse import Warehouse

MIN_VISITS = 20
MIN_DROP = 0.05
MIN_BACKWARD = 0.03
MIN_EXCESS = 0.2

_RETURNS = """
SELECT coalesce(pipeline, '') AS pipeline, stage, next_stage, count(*) AS n,
       count(*) FILTER (left_at > getvariable('as_of') - INTERVAL 364 DAY) AS recent,
       least(364, max(date_diff('day', entered_at, getvariable('as_of')))) AS days
FROM stage_visits WHERE exit = 'backward' GROUP BY ALL
"""
# Of what ended lately the quick stays are too many where history or the stage is young, and quick ones advance more
# often than slow ones. So all entries are watched for the same time.
_RECENT = """
WITH watched AS (
    SELECT u.pipeline, u.stage, v.entered_at, v.left_at, v.exit,
           to_seconds((u.p90_days * 86400)::BIGINT) AS span
    FROM stage_visits AS v JOIN usual_stays AS u ON u.pipeline = coalesce(v.pipeline, '') AND u.stage = v.stage
)
SELECT pipeline, stage, entered_at > getvariable('as_of') - span - INTERVAL 91 DAY AS is_recent,
       count(*) AS ended, count(*) FILTER (exit IN ('advance', 'won')) AS advanced
FROM watched
WHERE left_at <= entered_at + span
  AND entered_at <= getvariable('as_of') - span AND entered_at > getvariable('as_of') - span - INTERVAL 364 DAY
GROUP BY ALL
"""


@dataclass(frozen=True)
class Bottlenecks:
    """`stages` as `stages.analyse` returns it; `ranked` with the most valuable first."""

    stages: pd.DataFrame
    ranked: tuple[Bottleneck, ...]


def find(warehouse: Warehouse, connection: str, as_of: datetime, calendar: Calendar) -> Bottlenecks:
    """Rank what holds revenue up, from the tables that `features.compute` left in the session."""
    table = stage_table.analyse(warehouse, connection, as_of, calendar)
    currency = next((c.currency for c in warehouse.connections() if c.connection == connection), None)
    one = table["pipeline"].nunique() < 2
    warehouse.register("usual_stays", table.loc[table["p90_days"].notna(), ["pipeline", "stage", "p90_days"]])
    tested = [*_time(table), *_conversion(table, warehouse.frame(_RECENT)), *_queues(table)]
    real = kept([f.p_value for f in tested])
    found = [f for f, is_real in zip(tested, real, strict=True) if is_real and f.matters]
    found += _rework(table, warehouse.frame(_RETURNS))
    ranked = [
        Bottleneck(
            connection=connection,
            kind=f.kind,
            subject=f.subject,
            pipeline=None if one and not f.pipeline else f.pipeline,
            why=f.why,
            amount=Decimal(str(round(f.amount, 2))),
            currency=currency,
        )
        for f in sorted(found, key=lambda f: (-f.amount, f.kind, f.subject))
    ]
    return Bottlenecks(table, tuple(ranked))


@dataclass(frozen=True)
class _Found:
    kind: Literal["time", "rework", "conversion", "queue"]
    pipeline: str
    subject: str
    why: str
    amount: float
    p_value: float = 0.0
    matters: bool = True


def _time(table: pd.DataFrame) -> list[_Found]:
    return [
        _Found(
            "time",
            row.pipeline,
            row.stage,
            f"half of the visits take more than {_days(row.median_days, row.mean_days)}, against "
            f"{row.benchmark_days:.1f} days in the pipeline's other stages; {row.wip:,} wait there now",
            float(row.held_amount),
            row.p_value,
            row.excess_days > MIN_EXCESS * row.benchmark_days and row.held_amount > 0,
        )
        for row in _rows(table)
        if row.visits >= MIN_VISITS
    ]


def _days(median: float, mean: float) -> str:
    return f"{median:.1f} days" if median == median else f"{mean:.1f} days on average"


def _rows(table: pd.DataFrame) -> Sequence[Any]:  # Any: named tuples whose fields are the table's columns
    return list(table.itertuples(index=False))


def _rework(table: pd.DataFrame, returns: pd.DataFrame) -> list[_Found]:
    at = {(r.pipeline, r.stage): r for r in _rows(table)}
    found = []
    for r in _rows(returns):
        start, back_to = at[(r.pipeline, r.stage)], at.get((r.pipeline, r.next_stage))
        if back_to is None or start.ended < MIN_VISITS or r.n / start.ended < MIN_BACKWARD:
            continue
        cost = back_to.median_days if back_to.median_days == back_to.median_days else back_to.mean_days
        per_day = r.recent / max(r.days, 1)
        found.append(
            _Found(
                "rework",
                r.pipeline,
                f"{r.stage} -> {r.next_stage}",
                f"{r.n:,} of {start.ended:,} ({r.n / start.ended:.1%}) went back, which costs another "
                f"{cost:.1f} days in {r.next_stage}",
                per_day * cost * _worth(start),
            )
        )
    return found


def _worth(stage: Any) -> float:  # Any: a row of the stage table
    """Return the expected won amount of one opportunity in the stage; 0 where nothing was decided yet."""
    worth = float(stage.mean_amount or 0) * float(stage.win_rate)
    return worth if math.isfinite(worth) else 0.0


def _conversion(table: pd.DataFrame, recent: pd.DataFrame) -> list[_Found]:
    counts = {(r.pipeline, r.stage, bool(r.is_recent)): (r.advanced, r.ended) for r in _rows(recent)}
    found = []
    for stage in _rows(table):
        won_now, n_now = counts.get((stage.pipeline, stage.stage, True), (0, 0))
        won_before, n_before = counts.get((stage.pipeline, stage.stage, False), (0, 0))
        if min(n_now, n_before) < MIN_VISITS:
            continue
        now, before = won_now / n_now, won_before / n_before
        found.append(
            _Found(
                "conversion",
                stage.pipeline,
                stage.stage,
                f"of what ended within {math.ceil(stage.p90_days)} days {now:.0%} went on lately, {before:.0%} in the "
                "39 weeks before",
                (before - now) * n_now * _worth(stage) / max(stage.advance, 0.01),
                two_shares(won_now, n_now, won_before, n_before),
                before - now >= MIN_DROP,
            )
        )
    return found


def _queues(table: pd.DataFrame) -> list[_Found]:
    weeks = stage_table.RATE_WEEKS
    found = []
    for stage in _rows(table):
        came, went = stage.arrivals_per_week * weeks, stage.exits_per_week * weeks
        if stage.visits >= MIN_VISITS and came + went > 0:
            found.append(
                _Found(
                    "queue",
                    stage.pipeline,
                    stage.stage,
                    f"more came than went for {stage.growing_weeks} weeks in a row: "
                    f"{stage.arrivals_per_week:.1f} a week against {stage.exits_per_week:.1f}; {stage.wip:,} wait",
                    (came - went) * _worth(stage),
                    two_counts(came, went),
                    stage.growing_weeks >= 4 and came > went,
                )
            )
    return found
