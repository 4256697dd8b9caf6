"""The normalized model: what every CRM's records become, and what pipesync makes of them.

Conventions. A record belongs to one `connection`; (connection, id) identifies it. Money is Decimal with a
currency beside it. Times are zone-aware and UTC; dates are calendar dates of the CRM. None is *blank*: the
field was read and is empty. That a field could not be read is *unknown* and is not a value of a record; it is
known per connection and column (see `ColumnState`).

The mirrored records double as the warehouse's schema: `TABLES` names the stream, its record and its key.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Money = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
Moment = Annotated[datetime, Field(description="zone-aware, UTC")]
Currency = Annotated[str, Field(description="ISO 4217")]

Phase = Literal["early", "middle", "late", "won", "lost"]
Category = Literal["omitted", "pipeline", "best_case", "most_likely", "commit", "closed"]
Severity = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
Priority = Literal["low", "normal", "high"]
HistoryKind = Literal["full", "since_install", "none"]
Level = Literal["opportunity", "owner", "team", "stage", "product", "source", "pipeline"]


class Record(BaseModel):
    """Base of every value here: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connection: str = ""


# --- Mirrored from the CRM ------------------------------------------------------------------------------------


class Connection(Record):
    """One configured CRM account."""

    adapter: str
    currency: Currency | None = None
    """The company's home currency; amounts are compared and summed in it."""
    timezone: str = "UTC"
    fiscal_year_starts: int | None = Field(default=None, ge=1, le=12)
    """The month, as the CRM says; None where it does not."""


class Opportunity(Record):
    id: str
    name: str | None = None
    account_id: str | None = None
    owner_id: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    """Name of the stage, as in `Stage.name`."""
    amount: Money | None = None
    currency: Currency | None = None
    probability: float | None = Field(default=None, ge=0, le=1)
    """The CRM's own, as a share."""
    forecast_category: Category | None = None
    close_date: date | None = None
    """Expected while open; actual once closed."""
    created_at: Moment | None = None
    closed_at: Moment | None = None
    is_closed: bool = False
    is_won: bool = False
    type: str | None = None
    source: str | None = None
    product: str | None = None
    """Main product or family, where the CRM keeps it on the opportunity itself."""
    segment: str | None = None
    """From the mapping's `segments`."""
    next_step: str | None = None
    next_activity_at: Moment | None = None
    last_activity_at: Moment | None = None
    """As the CRM sums it up; where activities are pulled, the later of the two counts."""
    contact_count: int | None = None
    lost_reason: str | None = None
    modified_at: Moment | None = None
    custom: dict[str, str | None] = Field(default_factory=dict)


OWN_FIELDS = ("win_probability", "win_in_period", "expected_close", "reasons")
"""Our fields on an opportunity in the CRM, where a connection asks for them: two shares, a date, a text."""


class Stage(Record):
    id: str
    name: str
    pipeline: str
    order: int
    phase: Phase
    probability: float | None = None
    default_category: Category | None = None
    required: str | None = None
    """Features that an opportunity should have once it is here, separated by commas; from the mapping."""
    is_active: bool = True


class Pipeline(Record):
    id: str
    name: str
    is_active: bool = True


class FieldChange(Record):
    """A field took a value. The first one of a field is its value at creation, where that is known."""

    id: str | None = None
    """The CRM's own id of the event; None where a whole stream is replaced at once."""
    opportunity_id: str
    field: str
    """A field of Opportunity: stage, pipeline, amount, close_date, owner_id, forecast_category, next_step, ..."""
    value: str | None = None
    """As text: dates ISO, money plain, times ISO with zone."""
    changed_at: Moment
    changed_by: str | None = None
    seq: int = 0
    """Order among changes of the same moment."""


class User(Record):
    id: str
    name: str | None = None
    email: str | None = None
    is_active: bool = True
    manager_id: str | None = None
    team: str | None = None
    timezone: str | None = None
    locale: str | None = None


class Account(Record):
    id: str
    name: str | None = None
    industry: str | None = None
    country: str | None = None
    employees: int | None = None
    owner_id: str | None = None


class ContactRole(Record):
    """A person on an opportunity: ids and role only, never a name."""

    opportunity_id: str
    contact_id: str
    role: str | None = None
    is_primary: bool = False


class Activity(Record):
    """Something people did, or plan to do, on an opportunity; never its text. Our own tasks are not here."""

    id: str | None = None
    opportunity_id: str
    kind: str | None = None
    at: Moment
    """When it took place, or is due while it is not done."""
    is_done: bool = True
    direction: Literal["in", "out", "both"] | None = None
    owner_id: str | None = None


class Product(Record):
    id: str
    name: str
    family: str | None = None
    list_price: Money | None = None
    currency: Currency | None = None


class LineItem(Record):
    id: str
    opportunity_id: str
    product_id: str | None = None
    quantity: float | None = None
    unit_price: Money | None = None
    total: Money | None = None
    discount_pct: float | None = None
    currency: Currency | None = None


class Lead(Record):
    id: str
    source: str | None = None
    campaign: str | None = None
    owner_id: str | None = None
    status: str | None = None
    created_at: Moment | None = None
    first_touch_at: Moment | None = None
    converted_at: Moment | None = None
    opportunity_id: str | None = None


class Quota(Record):
    """What an owner (or a team) is to win in a period; `period_end` is the day after the last."""

    owner_id: str | None = None
    team: str | None = None
    product: str | None = None
    period_start: date
    period_end: date
    amount: Money
    currency: Currency | None = None


class CurrencyRate(Record):
    """One unit of `currency` is `rate` units of the home currency from `valid_from` on."""

    currency: Currency
    rate: float
    valid_from: date


class OwnTask(Record):
    """A task that carries our key, as the CRM holds it now."""

    id: str
    key: str
    opportunity_id: str | None = None
    owner_id: str | None = None
    subject: str | None = None
    body: str | None = None
    due: date | None = None
    priority: Priority = "normal"
    is_done: bool = False
    modified_at: Moment | None = None


class OwnForecast(Record):
    """A forecast record that carries our key, as the CRM holds it now."""

    id: str
    key: str
    period_start: date
    period_end: date
    """The day after the last."""
    scope: Literal["total", "owner", "team", "product"]
    scope_id: str = ""
    currency: Currency | None = None
    p10: Money
    p50: Money
    p90: Money
    mean: Money
    closed: Money
    open: Money
    new: Money
    as_of: date
    basis: str = ""
    """Fingerprint of the pipeline that the forecast rests on."""


class Table(NamedTuple):
    """How a stream is kept: one row of `record` per `key`, merged by it; no key: replaced as a whole."""

    record: type[Record]
    key: tuple[str, ...]


TABLES: dict[str, Table] = {
    "opportunities": Table(Opportunity, ("id",)),
    "stages": Table(Stage, ("id",)),
    "pipelines": Table(Pipeline, ("id",)),
    "field_changes": Table(FieldChange, ("id",)),
    "users": Table(User, ("id",)),
    "accounts": Table(Account, ("id",)),
    "contact_roles": Table(ContactRole, ("opportunity_id", "contact_id")),
    "activities": Table(Activity, ("id",)),
    "products": Table(Product, ("id",)),
    "line_items": Table(LineItem, ("id",)),
    "leads": Table(Lead, ("id",)),
    "quotas": Table(Quota, ()),
    "currency_rates": Table(CurrencyRate, ("currency", "valid_from")),
    "own_tasks": Table(OwnTask, ("id",)),
    "own_forecasts": Table(OwnForecast, ("id",)),
}


class ColumnState(Record):
    """Whether a normalized column of this connection holds facts, and how far back it can be known."""

    stream: str
    column: str
    state: Literal["known", "unmapped", "unreadable", "pending"]
    """`pending`: mapped, not yet pulled up to the watermark."""
    history: HistoryKind = "none"
    since: Moment | None = None
    """With `since_install`: from when on past values are known."""
    detail: str = ""
    """For people: the CRM's field, or why it cannot be read."""


# --- Made by pipesync -----------------------------------------------------------------------------------------


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
