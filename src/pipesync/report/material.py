"""What a report is made of: every table that the other parts of the library make of one connection, as values.

The forecast, the findings and the comparison of reps are made of the whole company and then cut down to what the
audience may see, so that a rep's figures are those that the commands tell. Everything else is calculated on the
audience's own opportunities: the session's tables are narrowed first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from pipesync.analysis import bottlenecks as bottleneck_analysis
from pipesync.analysis import flow as flow_analysis
from pipesync.analysis import linearity as linearity_analysis
from pipesync.analysis import losses as loss_analysis
from pipesync.analysis import processmap
from pipesync.analysis import sources as source_analysis
from pipesync.analysis import velocity as velocity_analysis
from pipesync.analysis import waterfall as waterfall_analysis
from pipesync.analysis.coverage import Coverages, coverage
from pipesync.analysis.owners import Owner, Owners, owners
from pipesync.analysis.products import Products, products
from pipesync.analysis.today import Item, Today, today
from pipesync.config import Config
from pipesync.forecast import Forecast, Model, history
from pipesync.forecast import accuracy as accuracies
from pipesync.forecast import reasons as reason_analysis
from pipesync.forecast import targets as target_analysis
from pipesync.forecast import waterfall as forecast_waterfall
from pipesync.forecast.history import DAY, to_ms
from pipesync.forecast.waterfall import Issued
from pipesync.model import (
    Finding,
    JournalEntry,
    OpportunityForecast,
    OwnTask,
    PeriodForecast,
    Run,
    Scope,
    User,
)
from pipesync.plan import Effect, read_effects
from pipesync.plan.calendars import local_date
from pipesync.report.audience import Audience
from pipesync.rules import Evaluation, RuleSet, scores
from pipesync.rules.evaluate import RuleResult, evaluate
from pipesync.rules.examination import Examined
from pipesync.rules.findings import Mark, marks, where
from pipesync.rules.messages import Template
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd

    from pipesync.features import Features

EXPLAINED = 400
"""Opportunities whose history and reasons are told; those with most at stake."""
_MOVERS = 400
"""Opportunities that are named of each move between stages."""
_WEEK = timedelta(days=7)
_TREND = timedelta(days=28)
"""How far back hygiene is compared with."""
_RUNS = 12

_ROWS = """
SELECT id, name, account_name, owner_id, owner_name, team, pipeline, stage, stage_order, amount::DOUBLE AS amount,
       currency, close_date, created_at, closed_at, is_open, is_won, product, source, segment, forecast_category,
       stage_entered_at, last_activity_at, next_activity_at, next_step, lost_reason, push_count, days_since_closed,
       local_date(created_at) AS created_on, local_date(closed_at) AS closed_on
FROM features WHERE is_open OR days_since_closed <= 366
ORDER BY is_open DESC, coalesce(amount, 0) DESC, id
"""
_EVENTS = """
SELECT opportunity_id, changed_at, field, value FROM field_changes
SEMI JOIN (SELECT unnest(?) AS opportunity_id) USING (opportunity_id)
WHERE connection = ? AND changed_at <= ? AND field IN ('stage', 'amount', 'close_date', 'forecast_category', 'owner_id')
ORDER BY opportunity_id, changed_at, seq
"""
# Who made each move, the latest first.
_MOVED = """
SELECT coalesce(pipeline, ''), stage, coalesce(next_stage, exit) AS moved_to, count(*),
       list(opportunity_id ORDER BY left_at DESC, opportunity_id)[:?]
FROM (SELECT DISTINCT ON (pipeline, stage, next_stage, exit, opportunity_id) * FROM stage_visits
      WHERE coalesce(next_stage, exit) IS NOT NULL
      ORDER BY pipeline, stage, next_stage, exit, opportunity_id, left_at DESC)
GROUP BY ALL ORDER BY ALL
"""
# `sold` is left in the session by the analysis of products.
_SOLD = """
SELECT sold.product, list(id ORDER BY id) FROM sold JOIN features AS f USING (id)
WHERE f.is_open OR f.days_since_closed <= 366 GROUP BY ALL ORDER BY ALL
"""
# What analyses read from the mirror itself, by whose it is.
_OWNED = {"opportunities": "owner_id", "leads": "owner_id", "quotas": "owner_id"}

Row = Mapping[str, Any]  # Any: columns' values
Why = tuple[tuple[reason_analysis.Why, ...], tuple[reason_analysis.Why, ...]]


@dataclass(frozen=True)
class Event:
    """Something that happened to an opportunity; `value` is what the field became."""

    at: datetime
    field: str
    value: str | None


@dataclass(frozen=True)
class RuleText:
    """What people are to know of a rule."""

    title: str
    why: str
    message: Template | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run with the writes that the audience may see."""

    run: Run
    entries: tuple[JournalEntry, ...]


@dataclass(frozen=True)
class Moved:
    """Who went from one stage to another, or left the pipeline by `won` or `lost`."""

    pipeline: str
    stage: str
    to: str
    opportunities: int
    ids: tuple[str, ...]
    """The latest of them, latest first."""


@dataclass(frozen=True)
class Changed:
    """The way from a forecast issued earlier to this one."""

    since: datetime
    waterfall: forecast_waterfall.Waterfall


@dataclass(frozen=True)
class Material:
    """One connection as of a moment, for one audience. Money is in the home currency."""

    connection: str
    as_of: datetime
    currency: str | None
    audience: Audience
    users: Mapping[str, User]
    link: str | None
    """Address of an opportunity in the CRM, with `{id}` in it."""
    forecast: Forecast
    total: PeriodForecast | None
    """Of the audience; None where nothing of theirs was ever forecast."""
    rollups: Mapping[Scope, Sequence[PeriodForecast]]
    chances: Mapping[str, OpportunityForecast]
    issued: Sequence[tuple[datetime, PeriodForecast]]
    """Of the audience's total, for this period; the oldest first."""
    changed: Changed | None
    """What moved the company's forecast since the one that was issued about a week ago."""
    accuracy: Sequence[accuracies.Record]
    scored: Sequence[accuracies.Scored]
    """The audience's own total as it was issued, against what came; the oldest first."""
    targets: Sequence[target_analysis.Target]
    plans: target_analysis.Plans | None
    coverage: Coverages
    score: float
    rules: Sequence[RuleResult]
    rule_texts: Mapping[str, RuleText]
    findings: Sequence[Finding]
    effects: Mapping[str, Effect]
    """What each rule came to so far, of the whole company; empty where no run is on record, and for a part of it."""
    base_rate: float | None
    """Share lost of all that is decided."""
    bottlenecks: bottleneck_analysis.Bottlenecks
    process: processmap.ProcessMap
    moved: Sequence[Moved]
    flows: Sequence[flow_analysis.Flow]
    waterfall: waterfall_analysis.Waterfall
    """Of everything open, from the start of the period."""
    week: waterfall_analysis.Waterfall
    """The same over the last seven days."""
    quarters: Sequence[linearity_analysis.Quarter]
    velocity: velocity_analysis.Velocity | None
    weeks: Sequence[velocity_analysis.Week]
    losses: loss_analysis.Losses
    owners: Sequence[Owner]
    owners_missing: Sequence[str]
    today: Today
    products: Products
    sold: Mapping[str, Sequence[str]]
    """Product -> the opportunities that it counts, open or closed within a year."""
    sources: source_analysis.Sources
    needs: Sequence[source_analysis.Need]
    rows: Sequence[Row]
    """Open opportunities and those closed within a year; open ones first, the largest first."""
    events: Mapping[str, Sequence[Event]]
    reasons: Mapping[str, Why]
    tasks: Sequence[OwnTask]
    runs: Sequence[RunRecord]
    is_recorded: bool
    """Whether there is a ledger that remembers runs."""

    def name(self, owner_id: str | None) -> str:
        """Return a person's name, or the id where the CRM has none."""
        user = self.users.get(owner_id or "")
        return (user.name if user and user.name else owner_id) or "Nobody"


def gather(
    warehouse: Warehouse,
    config: Config,
    ruleset: RuleSet,
    examined: Examined,
    past: history.History,
    model: Model,
    made: Forecast,
    ledger: Ledger | None,
    *,
    audience: Audience,
    users: Mapping[str, User],
    expected: Mapping[str, float],
    before: Issued | None = None,
    link: str | None = None,
) -> Material:
    """Ask every part of the library for what it knows of the connection that `examined` speaks about.

    The session's tables are those of `examined`; for an audience that sees only some, they are narrower afterwards.
    """
    features = examined.features
    connection, as_of = features.connection, features.as_of
    [facts] = [c for c in warehouse.connections() if c.connection == connection]
    chances = {o.id: o for o in made.opportunities}
    likely = {o.id: o.win_probability for o in made.opportunities}
    evaluation = examined.evaluation
    compared = _compared(warehouse, features, evaluation, expected, ledger)
    reached = target_analysis.against_quota(warehouse, connection, made, _owner_of(warehouse))
    issued = ledger.issued(connection) if ledger else []
    over = [one for one in issued if one[1].period_end <= as_of.date()]
    scored = (
        accuracies.score(
            warehouse,
            connection,
            over,
            known_at=as_of,
            timezone=config.calendar.timezone,
            kept=ledger.issued_calls(connection) if ledger else (),
            past=past,
        )
        if over
        else []
    )
    changed = (
        forecast_waterfall.since(warehouse, before, made) if before and audience.people is None else None
    )
    score, findings = evaluation.score, evaluation.findings
    if audience.people is not None:
        _narrow(warehouse, audience.people)
        score = evaluate(warehouse, features, ruleset, stages=examined.stages).score
    table = warehouse.arrow(_ROWS)
    rows: list[Row] = table.to_pylist()
    mine = {r["id"] for r in rows}
    if audience.people is not None:
        findings = where(findings, lambda one: _may_see(one, audience, mine))
    day = today(warehouse, features, win_probability=likely)
    total = _total(made, audience)
    quota = next((t for t in reached if (t.scope, t.scope_id) == _scope(audience)), None)
    open_chances = [o for o in made.opportunities if o.id in mine]
    plans = None
    if quota and total:
        there = float(total.closed) + float(total.new)
        plans = target_analysis.plans(open_chances, there, quota.quota)
    told = _told(day.items, findings, plans)
    effects, base_rate = (
        read_effects(ledger, warehouse, (connection,), local_date(as_of, config.zone))
        if ledger and audience.people is None
        else ({}, None)
    )
    found_sources = source_analysis.sources(warehouse, features)
    speed = velocity_analysis.velocity(warehouse, features)
    begin = made.period.starts_at
    since_start, since_week = waterfall_analysis.waterfalls(
        warehouse, connection, (min(begin, as_of), as_of - _WEEK), as_of, config.calendar
    )
    found_products = products(warehouse, features, forecast=_foreseen(made, audience))
    wait, left = (max((to_ms(moment) - to_ms(as_of)) / DAY, 0.0) for moment in (begin, made.period.ends_at))
    return Material(
        connection=connection,
        as_of=as_of,
        currency=facts.currency,
        audience=audience,
        users={i: u for i, u in users.items() if audience.sees(i)},
        link=link,
        forecast=made,
        total=total,
        rollups=_rollups(made, audience, users),
        chances={i: o for i, o in chances.items() if i in mine},
        issued=_issued(issued, made, audience),
        changed=Changed(before.as_of, changed) if before and changed else None,
        accuracy=[r for r in accuracies.summarise(scored) if _is_of(r.scope, r.scope_id, audience, users)],
        scored=[s for s in scored if (s.forecast.scope, s.forecast.scope_id) == _scope(audience)],
        targets=[t for t in reached if _is_of(t.scope, t.scope_id, audience, users)],
        plans=plans,
        coverage=coverage(warehouse, features, made.period, config.calendar),
        score=score,
        rules=evaluation.rules,
        rule_texts={r.id: RuleText(r.title, r.why, r.message) for r in ruleset},
        findings=findings,
        effects=effects,
        base_rate=base_rate,
        bottlenecks=bottleneck_analysis.find(warehouse, connection, as_of, config.calendar),
        process=processmap.process_map(warehouse, features, variants=6),
        moved=[
            Moved(pipeline, stage, to, n, tuple(ids))
            for pipeline, stage, to, n, ids in warehouse.rows(_MOVED, [_MOVERS])
        ],
        flows=flow_analysis.flows(warehouse, features),
        waterfall=since_start,
        week=since_week,
        quarters=linearity_analysis.linearity(warehouse, features, config.calendar),
        velocity=speed[0] if speed else None,
        weeks=velocity_analysis.creation_against_closing(warehouse, features),
        losses=loss_analysis.losses(warehouse, features, most=10),
        owners=[o for o in compared.rows if audience.sees(o.owner_id)],
        owners_missing=compared.missing,
        today=day,
        products=found_products,
        sold=dict(warehouse.rows(_SOLD)) if found_products.rows else {},
        sources=found_sources,
        needs=source_analysis.leads_needed(found_sources, quota.gap) if quota and quota.gap else (),
        rows=rows,
        events=_events(warehouse, connection, as_of, told),
        reasons=reason_analysis.of(model, past, told, to_ms(as_of), left, after=wait) if told else {},
        tasks=[
            t for t in _tasks(warehouse, connection) if audience.people is None or t.opportunity_id in mine
        ],
        runs=_runs(ledger, connection, audience, mine),
        is_recorded=ledger is not None,
    )


def _narrow(warehouse: Warehouse, people: frozenset[str]) -> None:
    """Leave in the session what belongs to these people; `widen` takes it back."""
    warehouse.register("audience_people", pa.table({"id": sorted(people)}))
    warehouse.execute("DELETE FROM features WHERE owner_id IS NULL OR owner_id NOT IN (FROM audience_people)")
    warehouse.execute("DELETE FROM stage_visits WHERE opportunity_id NOT IN (SELECT id FROM features)")
    # Temporary names come before those of the file, so analyses that read the mirror read these.
    [(database,)] = warehouse.rows("SELECT current_database()")
    for table, owner in _OWNED.items():
        warehouse.execute(
            f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT * FROM "{database}".main."{table}" '
            f"WHERE {owner} IN (FROM audience_people)"
        )


def widen(warehouse: Warehouse) -> None:
    """Let the session see everybody's records again."""
    for table in _OWNED:
        warehouse.execute(f'DROP VIEW IF EXISTS temp."{table}"')


def _compared(
    warehouse: Warehouse,
    features: Features,
    evaluation: Evaluation,
    expected: Mapping[str, float],
    ledger: Ledger | None,
) -> Owners:
    """Everybody's card, as `analyze owners` makes it."""
    earlier = features.as_of - _TREND
    episodes = ledger.episodes(features.connection) if ledger else []
    has_past = any(one.first_seen <= earlier for one in episodes)
    return owners(
        warehouse,
        features,
        expected=expected,
        hygiene=scores.by_owner(warehouse, evaluation.findings, features.as_of),
        hygiene_before=scores.by_owner(warehouse, scores.held_at(episodes, earlier), earlier)
        if has_past
        else None,
    )


def _owner_of(warehouse: Warehouse) -> pd.Series[str]:
    frame = warehouse.frame("SELECT id, owner_id FROM features WHERE is_open")
    return frame.set_index("id")["owner_id"]


def _scope(audience: Audience) -> tuple[Scope, str]:
    scopes: dict[str, Scope] = {"leader": "total", "manager": "manager", "rep": "owner"}
    return scopes[audience.kind], audience.person


def _total(made: Forecast, audience: Audience) -> PeriodForecast | None:
    scope, person = _scope(audience)
    return next((p for p in made.rollups.get(scope, ()) if p.scope_id == person), None)


def _is_of(scope: Scope, name: str | None, audience: Audience, users: Mapping[str, User]) -> bool:
    """Whether a figure of a scope speaks of nobody but the audience's people."""
    if audience.people is None:
        return True
    if name is None or scope not in ("owner", "manager", "team"):
        return False
    if scope == "team":
        members = {u.id for u in users.values() if u.team == name}
        return bool(members) and members <= audience.people
    return name in audience.people and (scope == "owner" or audience.kind == "manager")


def _rollups(
    made: Forecast, audience: Audience, users: Mapping[str, User]
) -> Mapping[Scope, Sequence[PeriodForecast]]:
    kept = {
        s: [p for p in some if _is_of(s, p.scope_id, audience, users)] for s, some in made.rollups.items()
    }
    return {scope: some for scope, some in kept.items() if some and scope != "total"}


def _foreseen(made: Forecast, audience: Audience) -> Mapping[str, float]:
    """Means by product; they are known of the whole company only."""
    return {p.scope_id: float(p.mean) for p in made.by_product if p.scope_id and audience.people is None}


def _may_see(finding: Finding | Mark, audience: Audience, mine: set[str]) -> bool:
    if finding.level == "opportunity":
        return finding.subject_id in mine
    return finding.level == "owner" and finding.subject_id in (audience.people or ())


def _told(
    items: Sequence[Item], findings: Sequence[Finding], plans: target_analysis.Plans | None
) -> list[str]:
    """Choose whose history and reasons are told: what the plans, the day and the findings speak about first."""
    carriers = [c.id for c in (*plans.a, *plans.b)] if plans else []
    worth = sorted(items, key=lambda i: (-i.worth, i.opportunity_id))
    found = [
        *carriers,
        *(i.opportunity_id for i in worth),
        *(f.subject_id for f in marks(findings) if f.opportunity_id),
    ]
    return list(dict.fromkeys(found))[:EXPLAINED]


def _issued(
    issued: Sequence[tuple[datetime, PeriodForecast]], made: Forecast, audience: Audience
) -> list[tuple[datetime, PeriodForecast]]:
    scope = _scope(audience)
    period = (made.period.start, made.period.end)
    return [
        (as_of, one)
        for as_of, one in issued
        if (one.scope, one.scope_id) == scope and (one.period_start, one.period_end) == period
    ]


def _events(
    warehouse: Warehouse, connection: str, as_of: datetime, ids: Sequence[str]
) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    moment = as_of.astimezone(UTC).replace(tzinfo=None)
    for name, at, field, value in warehouse.rows(_EVENTS, [list(ids), connection, moment]):
        found.setdefault(name, []).append(Event(at.replace(tzinfo=UTC), field, value))
    return found


def _tasks(warehouse: Warehouse, connection: str) -> list[OwnTask]:
    return cast("list[OwnTask]", list(warehouse.records("own_tasks", connection)))


def _runs(ledger: Ledger | None, connection: str, audience: Audience, mine: set[str]) -> list[RunRecord]:
    found = []
    for run in ledger.runs(connection, _RUNS) if ledger else ():
        entries = ledger.journal_of(run.id) if ledger else []
        if audience.people is not None:
            entries = [e for e in entries if e.opportunity_id in mine]
            run = run.model_copy(update={"detail": {}})
        found.append(RunRecord(run, tuple(entries)))
    return found
