"""What pipesync makes of the mirror: findings, forecasts, changes, and what became of them."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal, NamedTuple

from pydantic import Field

from pipesync.model.words import (
    Currency,
    Level,
    Moment,
    Money,
    Record,
    Severity,
)


class Evidence(NamedTuple):
    """One leaf of a rule that decided: `amount 9,000 >= 5,000`."""

    field: str
    value: str | None
    test: str


class Finding(Record):
    """A rule fires on a subject. (connection, rule, level, subject_id) identifies it across runs."""

    rule: str
    level: Level = "opportunity"
    subject_id: str
    """An opportunity's id, or the owner, team, stage... of a portfolio rule."""
    severity: Severity
    owner_id: str | None = None
    message: str
    """Dates and facts, never ages: an unchanged fact changes no text."""
    headline: str = ""
    """The rule's task subject, rendered; empty where the rule makes no task."""
    amount: Money | None = None
    """At stake, in the home currency."""
    currency: Currency | None = None
    evidence: tuple[Evidence, ...] = ()
    values: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    """What its texts name, so that they can be said in another language."""
    first_seen: Moment
    """When this episode began."""
    episode: int = 1

    @property
    def opportunity_id(self) -> str | None:
        return self.subject_id if self.level == "opportunity" else None


FindingStatus = Literal["pending", "open", "suppressed", "resolved", "expired"]
"""pending: not yet for as many runs as the rule asks, or back too soon; suppressed: it holds, and people said not to
speak of it; resolved: mended; expired: ended without being mended, with its opportunity or its rule."""


class StandingFinding(Record):
    """A finding's life in the ledger, by (connection, rule, level, subject_id)."""

    rule: str
    level: Level = "opportunity"
    subject_id: str
    status: FindingStatus = "open"
    episode: int = 1
    """Counts the times that it opened."""
    severity: Severity
    owner_id: str | None = None
    message: str = ""
    headline: str = ""
    values: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    amount: Money | None = None
    first_seen: Moment
    """When this episode began."""
    last_seen: Moment
    resolved_at: Moment | None = None
    """When it was resolved or expired."""
    runs: int = 1
    """Runs in a row in which it fired."""
    clean_runs: int = 0
    """Runs in a row in which it was clear, while still open."""

    @property
    def is_over(self) -> bool:
        return self.status in ("resolved", "expired")


class RuleCount(Record):
    """What one rule said in one run."""

    rule: str
    run: str = ""
    as_of: Moment
    fired: int
    clear: int
    unknown: int
    open: int
    """Open opportunities then, of which the breaker takes its share."""
    tripped: bool = False
    """The breaker held its new findings back; such a count is no measure for the next one."""


class Bottleneck(Record):
    """Where revenue waits or leaks, and what mending it would be worth."""

    kind: Literal["time", "rework", "conversion", "queue"]
    subject: str
    """A stage, or `from -> to` for rework."""
    pipeline: str | None = None
    why: str
    amount: Money
    """Recoverable, in the home currency; the formula stands in the analysis."""
    currency: Currency | None = None


class Quantiles(NamedTuple):
    p10: float
    p50: float
    p90: float


class OpportunityForecast(Record):
    id: str
    win_probability: float
    win_in_period: float
    expected_amount: Money | None = None
    expected_close: tuple[date, date, date] | None = None
    """P10, P50, P90, given that it is won; None where nothing like it was ever won."""


Scope = Literal[
    "total", "owner", "team", "manager", "product", "source", "segment", "currency", "pipeline"
]  # fmt: skip


class PeriodForecast(Record):
    """What will be won in a period, in the home currency: closed so far + open + still to be created."""

    period_start: date
    period_end: date
    """The day after the last."""
    scope: Scope = "total"
    scope_id: str = ""
    currency: Currency | None = None
    p10: Money
    p50: Money
    p90: Money
    mean: Money
    closed: Money
    open: Money
    new: Money
    model: str
    low: Money | None = None
    high: Money | None = None
    """Of the 80% interval (`forecast.totals.interval_of`); None: issued before it was kept apart from P10 and P90."""

    @property
    def interval(self) -> tuple[Money, Money]:
        return (self.p10 if self.low is None else self.low), (self.p90 if self.high is None else self.high)


class Call(Record):
    """What people said would be won in a period: closed so far, and what they had committed of the open ones."""

    period_start: date
    period_end: date
    """The day after the last."""
    scope: Scope = "total"
    scope_id: str = ""
    kind: str
    """`commit` is the CRM's forecast category; others are fields that the site names."""
    amount: Money
    """In the home currency."""


class Reason(Record):
    """Why a change is planned: the rules or the forecast behind it, with their numbers."""

    kind: Literal["findings", "mended", "withdrawn", "forecast", "undo"]
    rules: tuple[str, ...] = ()
    text: str


ChangeAction = Literal["create", "update", "complete", "delete"]
ChangeObject = Literal["task", "forecast", "opportunity", "finding"]


class Change(Record):
    """One write. `key` is derived from what it is about, so that a repeat is recognised.

    `before` and `after` hold the fields of OwnTask, OwnForecast or our opportunity fields that differ
    (`before` is empty for a create, `after` for a delete), as JSON values: dates ISO, money text.
    """

    key: str
    action: ChangeAction
    object: ChangeObject
    target: str | None = None
    """The CRM's id; None until a create is confirmed."""
    opportunity_id: str | None = None
    owner_id: str | None = None
    before: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    after: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    reason: Reason
    rests_on: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    """The opportunity as the plan saw it: where the CRM now holds something else, the change is not made."""


class Outcome(Record):
    """What became of one change."""

    key: str
    status: Literal["applied", "failed", "skipped"]
    target: str | None = None
    error: str = ""
    request_id: str = ""


Ending = Literal["mended", "closed", "deleted", "snoozed", "won", "lost", "withdrawn"]


class TaskFate(Record):
    """How one of our tasks ended; the ledger keeps one per key.

    mended: its findings went away; closed, deleted: people did that while they still held; snoozed: they asked to
    be left alone until a day; won, lost: the opportunity ended first; withdrawn: suppressed, given to another
    assignee, or taken back by `undo`.
    """

    key: str
    opportunity_id: str | None = None
    owner_id: str | None = None
    rules: tuple[str, ...] = ()
    ending: Ending
    seen_at: Moment
    """As of the plan that first saw it; cooldowns count from here."""
    rests_until: date | None = None
    """Where people put it off: the last day on which its findings rest."""
    note: str = ""
    """Why, in their words."""


class JournalEntry(Record):
    """One write as the ledger remembers it: intended before the request, settled after it."""

    seq: int
    """Order of intents, over all connections."""
    run: str
    run_kind: Literal["sync", "apply", "undo"] = "apply"
    key: str
    action: ChangeAction
    object: ChangeObject
    target: str | None = None
    opportunity_id: str | None = None
    owner_id: str | None = None
    before: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    after: dict[str, Any] = Field(default_factory=dict)  # Any: JSON
    reason: Reason
    as_of: Moment
    """Of the plan."""
    basis: str = ""
    """Fingerprint of the pipeline that the plan was made from."""
    status: Literal["intended", "applied", "failed", "skipped"]
    intended_at: Moment
    settled_at: Moment | None = None
    error: str = ""
    request_id: str = ""


class Plan(Record):
    """What apply would write, and the moment that it rests on."""

    id: str
    as_of: Moment
    changes: tuple[Change, ...] = ()
    held_back: dict[str, int] = Field(default_factory=dict)
    """What was not planned, and why: `over budget`, `suppressed`, `breaker: RULE`, ... with counts."""
    findings: tuple[Finding, ...] = ()
    """The findings that the plan rests on."""
    fates: tuple[TaskFate, ...] = ()
    """Tasks of ours that were seen to have ended."""
    basis: str = ""
    """Fingerprint of the pipeline that it rests on."""
    journal: int = 0
    """The journal's last entry that it knew of."""


class Run(Record):
    """One execution against one connection."""

    id: str
    kind: Literal["sync", "apply", "undo"]
    started_at: Moment
    finished_at: Moment | None = None
    as_of: Moment | None = None
    status: Literal["running", "done", "partly", "failed"] = "running"
    detail: dict[str, Any] = Field(default_factory=dict)  # Any: JSON counts per step
