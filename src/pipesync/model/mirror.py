"""What is mirrored from the CRM, and the warehouse's schema with it: `TABLES`."""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

from pydantic import Field

from pipesync.model.words import (
    Category,
    Currency,
    HistoryKind,
    Moment,
    Money,
    Phase,
    Priority,
    Record,
)


class Connection(Record):
    """One configured CRM account."""

    adapter: str
    currency: Currency | None = None
    """The company's home currency; amounts are compared and summed in it."""
    timezone: str = "UTC"
    fiscal_year_starts: int | None = Field(default=None, ge=1, le=12)
    """The month, as the CRM says; None where it does not."""
    fiscal_weeks: str | None = None
    """How the CRM's fiscal months are made of whole weeks, in the words of `calendar.weeks`: `4-4-5 sunday nearest`."""


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
