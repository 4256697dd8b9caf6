"""Everything that a plan rests on, as values: the warehouse's side, the ledger's side, and what was calculated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipesync.config import Suppression
from pipesync.features import Features
from pipesync.model import (
    Finding,
    JournalEntry,
    OpportunityForecast,
    PeriodForecast,
    RuleCount,
    StandingFinding,
    TaskFate,
)
from pipesync.plan.facts import Facts, read
from pipesync.rules import Evaluation, RuleSet
from pipesync.rules.findings import marks
from pipesync.rules.lifecycle import in_force
from pipesync.rules.playbooks import Advice, advise
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse


@dataclass(frozen=True)
class Situation:
    connection: str
    as_of: datetime
    findings: Sequence[Finding]
    """In force: they fire, and did for as long as their rules ask."""
    facts: Facts = field(default_factory=Facts)
    held: Sequence[StandingFinding] = ()
    """Open findings that do not fire now and are not settled either: unknown, or not clear for long enough."""
    counts: Mapping[str, RuleCount] = field(default_factory=dict)
    last_counts: Mapping[str, RuleCount] = field(default_factory=dict)
    """Of each rule's last evaluation before this one, in which the breaker did not trip."""
    journal: Sequence[JournalEntry] = ()
    fates: Sequence[TaskFate] = ()
    suppressions: Sequence[Suppression] = ()
    """Of the ledger, beside those of the configuration."""
    forecasts: Sequence[PeriodForecast] = ()
    opportunities: Sequence[OpportunityForecast] = ()
    advice: Mapping[str, Mapping[str, Advice]] = field(default_factory=dict)
    """By opportunity and playbook, where it stands."""
    is_advice_known: bool = True
    """False where no phase can be read: nothing is known of any next step."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By opportunity, why its forecast is what it is; where they are to be written."""
    currency: str | None = None
    """The home currency, in which texts tell amounts."""


def gather(
    warehouse: Warehouse,
    ledger: Ledger | None,
    evaluation: Evaluation,
    standing: Sequence[StandingFinding],
    rules: RuleSet,
    *,
    forecasts: Sequence[PeriodForecast] = (),
    opportunities: Sequence[OpportunityForecast] = (),
    reasons: Mapping[str, str] | None = None,
    features: Features | None = None,
) -> Situation:
    """Read both stores. `standing` are the findings after this evaluation, from `rules.lifecycle.advance`."""
    connection = evaluation.connection
    journal = ledger.journal(connection) if ledger else []
    fields = {name for rule in rules for name in rule.fields}
    about = {e.opportunity_id for e in journal if e.object == "task" and e.opportunity_id}
    findings = in_force(evaluation, standing)
    about |= {f.opportunity_id for f in marks(findings) if f.opportunity_id}
    if reasons is not None:
        about |= {o.id for o in opportunities}
    firing = {(f.rule, f.level, f.subject_id) for f in marks(findings)}
    standing_now = [s for s in standing if s.status in ("open", "suppressed")]
    asked = {f.subject_id for f in marks(findings) if f.level == "opportunity"}
    asked |= {s.subject_id for s in standing_now if s.level == "opportunity"}
    return Situation(
        connection=connection,
        as_of=evaluation.as_of,
        findings=findings,
        facts=read(warehouse, connection, fields, about),
        held=[s for s in standing_now if (s.rule, s.level, s.subject_id) not in firing],
        counts=counts(evaluation),
        last_counts=ledger.last_counts(connection) if ledger else {},
        journal=journal,
        fates=ledger.fates(connection) if ledger else [],
        suppressions=ledger.suppressions(connection) if ledger else [],
        forecasts=forecasts,
        opportunities=opportunities,
        reasons=reasons or {},
        advice=advise(warehouse, features, rules.playbooks, asked) if features else {},
        is_advice_known=features is None or "phase" not in features.unknown,
        currency=next((c.currency for c in warehouse.connections() if c.connection == connection), None),
    )


def counts(evaluation: Evaluation) -> dict[str, RuleCount]:
    """Return what an evaluation says of each rule, as the ledger keeps it."""
    return {
        r.id: RuleCount(
            connection=evaluation.connection,
            rule=r.id,
            as_of=evaluation.as_of,
            fired=r.fired,
            clear=r.clear,
            unknown=r.unknown,
            open=evaluation.open,
        )
        for r in evaluation.rules
    }
