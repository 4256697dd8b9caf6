"""Rules replayed over past weeks, from history only, and what became of what they flagged.

At each origin, a week apart, features are computed as of then and every rule judges every opportunity that was open.
A field without history makes the rule unknown there, as it would have been. What is asked of an opportunity-week:

slip    it was still open when the fiscal quarter of its close date ended (of a date that was past: the present one);
        asked where that quarter has ended by now
loss    it was lost, of those that are decided by now

An opportunity is in many weeks, so that its weeks say little more than one of them: intervals of a share are Wilson's
at the effective number of cases, from the variance between opportunities (linearized, clusters = opportunities;
Korn & Graubard 1998), those of a difference are made of the two (Newcombe 1998, method 10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from pipesync import features
from pipesync.analysis import stages
from pipesync.analysis.significance import wilson
from pipesync.config import Calendar
from pipesync.model import Level, Severity
from pipesync.rules.evaluate import judge, keep_penalties, unread_by
from pipesync.rules.format import Rule
from pipesync.rules.portfolio import has_no_key, table_of
from pipesync.store.warehouse import Warehouse

WEEK = timedelta(days=7)
MIN_CASES = 10
"""Opportunities on either side, below which no difference is told."""
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """A share of opportunity-weeks, with its 95% interval; NaN where there are none."""

    value: float
    low: float
    high: float
    weeks: int
    opportunities: int


@dataclass(frozen=True)
class Contrast:
    """Flagged against not flagged. `difference` in points of share with its 95% interval; NaN below MIN_CASES."""

    flagged: Share
    others: Share
    difference: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Replay:
    """What one rule would have said over the weeks, and what became of it."""

    rule: str
    title: str
    severity: Severity
    level: Level
    judged: int
    """Subject-weeks in scope with a verdict."""
    fired: int
    unknown: int
    blame: tuple[str, ...]
    """Fields whose past could not be known."""
    opened: int
    """Firings that were not there the week before."""
    opened_per_rep_week: float
    value_share: float
    """Of the open value of all weeks, the part that was flagged."""
    slip: Contrast | None
    """None for portfolio rules and for those on closed opportunities."""
    loss: Contrast | None
    lead_days: float
    """Median from the first flag to the slip, of flagged opportunities that slipped; NaN without any."""


@dataclass(frozen=True)
class Backtest:
    connection: str
    since: datetime
    until: datetime
    origins: tuple[datetime, ...]
    rep_weeks: int
    replays: tuple[Replay, ...]


def backtest(
    warehouse: Warehouse,
    connection: str,
    calendar: Calendar,
    rules: Sequence[Rule],
    *,
    until: datetime,
    weeks: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Backtest:
    """Replay the rules at `weeks` origins, the last one a week before `until`, from which outcomes are known."""
    origins = [until - WEEK * k for k in range(weeks, 0, -1)]
    own = [r for r in rules if r.level == "opportunity"]
    others = [r for r in rules if r.level != "opportunity"]
    _keep_outcomes(warehouse, connection, until, calendar)
    tally = _Tally({r.id: _Counts() for r in rules})
    frames = []
    for number, origin in enumerate(origins):
        computed = features.compute(warehouse, connection, origin, calendar)
        if own:
            unread = unread_by(warehouse, computed, own)
            judge(warehouse, own, "features", unread)
            keep_penalties(warehouse, own)
            tally.blame(own, unread)
            frames.append(_flags(warehouse, own, number))
        _count_portfolio(warehouse, computed, others, calendar, tally)
        progress(number + 1)
    seen = _Seen.gathered(warehouse, frames, len(own)) if own else None
    replays = [
        _replay(rule, tally.of[rule.id], seen, own.index(rule) if rule in own else None, warehouse)
        for rule in rules
    ]
    rep_weeks = seen.rep_weeks if seen else 0
    return Backtest(connection, origins[0], until, tuple(origins), rep_weeks, tuple(replays))


# --- Replaying ------------------------------------------------------------------------------------------------


@dataclass
class _Counts:
    judged: int = 0
    fired: int = 0
    unknown: int = 0
    opened: int = 0
    blame: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()


@dataclass
class _Tally:
    of: dict[str, _Counts]

    def blame(self, rules: Sequence[Rule], unread: frozenset[str]) -> None:
        for rule in rules:
            read = rule.fields.union(*(m.fields for m in rule.measures.values()))
            self.of[rule.id].blame |= {f for f in read if f in unread or f.split(".")[0] in unread}


def _keep_outcomes(warehouse: Warehouse, connection: str, until: datetime, calendar: Calendar) -> None:
    """Keep what became of every opportunity, as known at the end."""
    features.compute(warehouse, connection, until, calendar)
    warehouse.execute(
        "CREATE OR REPLACE TEMP TABLE became AS SELECT id, is_closed, is_won, closed_at FROM features"
    )
    warehouse.execute(
        "CREATE OR REPLACE TEMP TABLE moved AS SELECT opportunity_id AS id, changed_at, TRY_CAST(value AS DATE) AS day "
        "FROM field_changes WHERE connection = getvariable('connection') AND field = 'close_date' "
        "AND changed_at <= getvariable('as_of')"
    )
    warehouse.execute(
        "CREATE OR REPLACE TEMP TABLE ended AS SELECT getvariable('as_of')::TIMESTAMP AS ended_at"
    )


def _flags(warehouse: Warehouse, rules: Sequence[Rule], number: int) -> Any:  # Any: an Arrow table
    """Return who was flagged, among those that were open, or that a rule on closed ones judged."""
    verdicts = ", ".join(f"coalesce(j.a{i}, FALSE) AND j.v{i} IS NOT NULL AS k{i}, coalesce(j.v{i}, FALSE) AS v{i}, "
                         f"coalesce(j.a{i}, TRUE) AND j.v{i} IS NULL AS u{i}" for i in range(len(rules)))  # fmt: skip
    return warehouse.arrow(
        f"SELECT {number}::INTEGER AS origin, f.id, f.owner_id, coalesce(f.amount, 0)::DOUBLE AS amount, f.is_open, "
        "getvariable('as_of')::TIMESTAMP AS seen_at, "
        "quarter_end(greatest(coalesce(f.close_date, getvariable('today')), getvariable('today'))) AS due, "
        f"{verdicts} "
        "FROM judged AS j JOIN features AS f ON f.id = j.subject "
        f"WHERE f.is_open OR {' OR '.join(f'j.v{i}' for i in range(len(rules)))}"
    )


def _count_portfolio(
    warehouse: Warehouse,
    computed: features.Features,
    rules: Sequence[Rule],
    calendar: Calendar,
    tally: _Tally,
) -> None:
    by_level: dict[Level, list[Rule]] = {}
    for rule in rules:
        by_level.setdefault(rule.level, []).append(rule)
    for level, some in by_level.items():
        unread = unread_by(warehouse, computed, some)
        if key := has_no_key(level, computed.unknown):
            for rule in some:
                tally.of[rule.id].unknown += 1
                tally.of[rule.id].blame |= {key}
            continue
        table = None
        if level == "stage":
            table = stages.analyse(warehouse, computed.connection, computed.as_of, calendar)
        name = table_of(warehouse, level, some, table)
        if name is None:
            continue
        judge(warehouse, some, name, unread)
        tally.blame(some, unread)
        for i, rule in enumerate(some):
            counts = tally.of[rule.id]
            rows = warehouse.rows(f"SELECT subject, v{i} FROM judged WHERE a{i}")
            fired = frozenset(subject for subject, verdict in rows if verdict)
            counts.judged += sum(verdict is not None for _, verdict in rows)
            counts.unknown += sum(verdict is None for _, verdict in rows)
            counts.fired += len(fired)
            counts.opened += len(fired - counts.last)
            counts.last = fired


# --- What became of it ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """Every opportunity-week: who, when, whether it was open, and what became of it."""

    who: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int64]
    amount: Floats
    is_open: Flags
    judged: list[Flags]
    fired: list[Flags]
    unknown: list[Flags]
    can_slip: Flags
    slipped: Flags
    decided: Flags
    lost: Flags
    rep_weeks: int

    @classmethod
    def gathered(cls, warehouse: Warehouse, frames: Sequence[Any], rules: int) -> _Seen:  # Any: Arrow tables
        import pyarrow as pa

        warehouse.register("replayed", pa.concat_tables(frames))
        table = warehouse.arrow(
            "SELECT dense_rank() OVER (ORDER BY r.id) AS who, r.*, "
            "r.due <= (SELECT ended_at FROM ended) AS can_slip, "
            "coalesce(b.closed_at >= r.due OR b.closed_at IS NULL OR NOT b.is_closed, TRUE) AS slipped, "
            "coalesce(b.is_closed, FALSE) AS decided, coalesce(b.is_closed AND NOT b.is_won, FALSE) AS lost "
            "FROM replayed AS r LEFT JOIN became AS b ON b.id = r.id ORDER BY who, r.origin"
        )
        [(rep_weeks,)] = warehouse.rows(
            "SELECT count(DISTINCT (origin, owner_id)) FROM replayed WHERE is_open AND owner_id IS NOT NULL"
        )

        def of(name: str) -> Any:  # Any: an array of the column's kind
            return table.column(name).to_numpy()

        return cls(
            who=of("who"),
            origin=of("origin"),
            amount=of("amount"),
            is_open=of("is_open"),
            judged=[of(f"k{i}") for i in range(rules)],
            fired=[of(f"v{i}") for i in range(rules)],
            unknown=[of(f"u{i}") for i in range(rules)],
            can_slip=of("can_slip"),
            slipped=of("slipped"),
            decided=of("decided"),
            lost=of("lost"),
            rep_weeks=rep_weeks,
        )


def _replay(rule: Rule, counts: _Counts, seen: _Seen | None, i: int | None, warehouse: Warehouse) -> Replay:
    blame = tuple(sorted(counts.blame))
    if seen is None or i is None:
        return Replay(
            rule.id, rule.title, rule.severity, rule.level, counts.judged, counts.fired, counts.unknown,
            blame if counts.unknown else (), counts.opened, math.nan, math.nan, None, None, math.nan,
        )  # fmt: skip
    judged, fired = seen.judged[i], seen.fired[i]
    open_ = seen.is_open
    unknown = int((seen.unknown[i] & open_).sum())
    follows = np.zeros(len(fired), dtype=bool)
    follows[1:] = (seen.who[1:] == seen.who[:-1]) & (seen.origin[1:] == seen.origin[:-1] + 1) & fired[:-1]
    opened = int((fired & ~follows).sum())
    value = float(seen.amount[open_].sum())
    on_open = judged & open_
    has_outcome = bool((fired & open_).any())
    slips = on_open & seen.can_slip
    losses = on_open & seen.decided
    return Replay(
        rule=rule.id,
        title=rule.title,
        severity=rule.severity,
        level=rule.level,
        judged=int(judged.sum()),
        fired=int(fired.sum()),
        unknown=unknown,
        blame=blame if unknown else (),
        opened=opened,
        opened_per_rep_week=opened / seen.rep_weeks if seen.rep_weeks else math.nan,
        value_share=float(seen.amount[fired & open_].sum()) / value if value else math.nan,
        slip=_contrast(seen.who[slips], seen.slipped[slips], fired[slips]) if has_outcome else None,
        loss=_contrast(seen.who[losses], seen.lost[losses], fired[losses]) if has_outcome else None,
        lead_days=_lead(warehouse, i) if has_outcome else math.nan,
    )


_LEAD = """
WITH flagged AS (
    SELECT r.id, r.due, min(r.seen_at) AS seen_at FROM replayed AS r
    JOIN became AS b ON b.id = r.id
    WHERE r.v{i} AND r.is_open AND r.due <= (SELECT ended_at FROM ended)
      AND coalesce(b.closed_at >= r.due OR NOT b.is_closed, TRUE)
    GROUP BY r.id, r.due
),
slips AS (
    SELECT f.id, f.due, f.seen_at, coalesce(min(m.changed_at), f.due::TIMESTAMP) AS slipped_at
    FROM flagged AS f
    LEFT JOIN moved AS m ON m.id = f.id AND m.day >= f.due AND m.changed_at > f.seen_at AND m.changed_at < f.due
    GROUP BY f.id, f.due, f.seen_at
)
SELECT median(date_diff('second', seen_at, slipped_at) / 86400.0) FROM slips
"""


def _lead(warehouse: Warehouse, i: int) -> float:
    [(days,)] = warehouse.rows(_LEAD.format(i=i))
    return math.nan if days is None else float(days)


def _contrast(who: npt.NDArray[np.int64], outcome: Flags, fired: Flags) -> Contrast:
    """Compare the outcome's share of flagged and other weeks; opportunities are the clusters."""
    if not len(who):
        nothing = Share(math.nan, math.nan, math.nan, 0, 0)
        return Contrast(nothing, nothing, math.nan, math.nan, math.nan)
    _, cluster = np.unique(who, return_inverse=True)
    flagged, others = _share(cluster, outcome & fired, fired), _share(cluster, outcome & ~fired, ~fired)
    if min(flagged.opportunities, others.opportunities) < MIN_CASES:
        return Contrast(flagged, others, math.nan, math.nan, math.nan)
    difference = flagged.value - others.value
    below = math.hypot(flagged.value - flagged.low, others.high - others.value)
    above = math.hypot(flagged.high - flagged.value, others.value - others.low)
    return Contrast(flagged, others, difference, difference - below, difference + above)


def _share(cluster: npt.NDArray[np.int64], hits: Flags, among: Flags) -> Share:
    clusters = int(cluster.max()) + 1
    n = np.bincount(cluster, weights=among.astype(float), minlength=clusters)
    y = np.bincount(cluster, weights=hits.astype(float), minlength=clusters)
    total, there = float(n.sum()), int((n > 0).sum())
    if not total:
        return Share(math.nan, math.nan, math.nan, 0, 0)
    p = float(y.sum()) / total
    variance = float((((y - p * n) / total) ** 2).sum()) * there / max(there - 1, 1)
    effective = min(p * (1 - p) / variance, total) if variance > 0 else float(there)
    low, high = wilson(effective * p, effective)
    return Share(p, low, high, int(total), there)
