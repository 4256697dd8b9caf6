"""`pipesync.yaml`: which CRMs, what may be written, which rules, and how much.

Secrets never stand in this file. A connection names the environment variable (`..._env`) or the file
(`..._file`) that holds one; `secret()` reads it when it is needed and nothing keeps it.
"""

from __future__ import annotations

import os
import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from pipesync.errors import InputError, Place, Problem
from pipesync.model import Connection, Severity
from pipesync.yamlsource import Document, parse, read, validate

DEFAULT_FILE = Path("pipesync.yaml")


class Section(BaseModel):
    # A command uses a few of all models: each is built when it is first used (the lock came with pydantic 2.14).
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def _duration(value: object) -> object:
    """`7d`, `12h`, `30m`, `2w`; other values are left for pydantic to refuse."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)\s*(s|m|h|d|w)", value.strip())):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[found[2]]
        return timedelta(**{unit: int(found[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("expected a duration such as 7d, 12h or 2w")


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)  # `available_timezones` would look through every folder of zones
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("expected a time zone such as Europe/Warsaw or UTC") from None
    return value


def _long_duration(value: object) -> object:
    """`3 years` and `18 months` as well; a year has 365.25 days, a month a twelfth of that."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)\s*(year|month)s?", value.strip())):
        return timedelta(days=int(int(found[1]) * (365.25 if found[2] == "year" else 365.25 / 12)))
    try:
        return _duration(value)
    except ValueError:
        raise ValueError("expected a duration such as 3 years, 18 months or 90d") from None


Duration = Annotated[timedelta, BeforeValidator(_duration)]
LongDuration = Annotated[timedelta, BeforeValidator(_long_duration), Field(ge=timedelta(days=90))]
Zone = Annotated[str, AfterValidator(_zone)]


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Write(Section):
    """What may be written to a connection; nothing unless `enabled`."""

    enabled: bool = False
    tasks: bool = False
    forecasts: bool = False
    opportunity_fields: bool = False
    findings: bool = False


class ConnectionConfig(Section):
    adapter: Literal["files", "salesforce", "hubspot"]
    mapping: Path | None = None
    """Default: the one that ships with the adapter (for `files`: mapping.yaml in the data folder first)."""
    write: Write = Write()
    link: str | None = None
    """Where people open an opportunity in the CRM, with `{id}` in it. Default: known of Salesforce by its URL."""
    options: dict[str, Any] = Field(default_factory=dict)  # Any: each adapter validates its own
    """Of the adapter: for `files` data and outbox; for a CRM its URL, sign-in and limits."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        """People write an adapter's options beside the common keys; here they become `options`."""
        if isinstance(data, dict) and "options" not in data:
            common = set(cls.model_fields)
            return {k: v for k, v in data.items() if k in common} | {
                "options": {k: v for k, v in data.items() if k not in common}
            }
        return data


class SegmentSetting(Section):
    """Other parameters or another severity for what matches; it comes before the rule's own overrides."""

    match: dict[str, Any]  # Any: a condition, checked against the rule's level
    params: dict[str, Any] = Field(default_factory=dict)  # Any: checked against the rule's own parameters
    severity: Severity | None = None


class RuleSetting(Section):
    """A site's change to one rule: `off`, or a new severity, or other parameters."""

    enabled: bool = True
    severity: Severity | None = None
    params: dict[str, Any] = Field(default_factory=dict)  # Any: checked against the rule's own parameters
    overrides: tuple[SegmentSetting, ...] = ()
    """By segment; the first that matches wins."""


def _rule_setting(value: object) -> object:
    """`off` and `on`, as people write them; true and false, as other YAML readers make of them."""
    if value in ("off", False):
        return {"enabled": False}
    return {"enabled": True} if value in ("on", True) else value


class Suppression(Section):
    rule: str
    opportunity: str | None = None
    owner: str | None = None
    until: date
    reason: Annotated[str, Field(min_length=3)]
    by: str = ""


class Budget(Section):
    """How many tasks an owner is to see; the worst and most valuable come first."""

    open_tasks_per_owner: int = Field(default=8, ge=0)
    new_tasks_per_owner_per_run: int = Field(default=8, ge=0)
    """Below the open ones, tasks arrive run by run, and a second plan is not empty until all are there."""
    writes_per_run: int = Field(default=500, ge=0)


class Breaker(Section):
    max_percent_of_open: float = Field(default=15, gt=0, le=100)
    """A rule whose newly firing findings jump above this share makes no tasks in that run."""


class Guard(Section):
    """When a plan is so large that people are to look at it before it is written (`apply --yes`)."""

    first_apply: int = Field(default=50, ge=0)
    """A connection that nothing was ever written to gets no more changes than this."""
    times_usual: float = Field(default=5, gt=1)
    """A plan this many times larger than the usual one is not written at all."""
    at_least: int = Field(default=100, ge=0)
    """Smaller plans never count as unusual."""
    max_percent_failing: float = Field(default=50, gt=0, le=100)
    """A run of whose writes more than this share fails (and ten at least) leaves the rest alone."""


def _country(value: str) -> str:
    import holidays  # here: few calendars need it, and it costs more than the rest of this module

    country, _, region = value.partition("-")
    known = holidays.list_supported_countries()
    if country not in known or (region and region not in known[country]):
        raise ValueError("expected a country such as PL, or with its region DE-BY")
    return value


class FiscalWeeks(Section):
    """Fiscal months of whole weeks, as in retail. A 53rd week is the last month's."""

    pattern: Literal["4-4-5", "4-5-4", "5-4-4"] = "4-4-5"
    """Weeks of the months of each quarter."""
    begins: Weekday = "sunday"
    """The weekday with which fiscal years, and so all their months, begin."""
    year: Literal["nearest", "last"] = "nearest"
    """Which of these days: the one nearest to the first of the month that `fiscal_year_starts` names, or the last up to
    it."""

    def __str__(self) -> str:
        return f"{self.pattern} {self.begins} {self.year}"

    @classmethod
    def said(cls, text: str) -> FiscalWeeks:
        """Read what `str` wrote."""
        return cls.model_validate(dict(zip(cls.model_fields, text.split(), strict=True)))


class Calendar(Section):
    timezone: Zone = "UTC"
    country: Annotated[str, AfterValidator(_country)] | None = None
    """Whose public holidays are no business days for people of whom the CRM tells no country: PL, or DE-BY."""
    holidays: tuple[date, ...] = ()
    """Further days off, of the whole company."""
    fiscal_year_starts: int = Field(default=1, ge=1, le=12)
    """The month. Where this is not given, a CRM that tells its own is believed (HubSpot tells none)."""
    weeks: FiscalWeeks | None = None
    """Where the fiscal months are no calendar months."""


class ForecastConfig(Section):
    period: Literal["month", "quarter", "year"] = "quarter"
    tolerance: float = Field(default=0.02, ge=0, lt=1)
    """A forecast in the CRM is rewritten when a quantile moved by more than this share."""
    refresh: Duration = timedelta(days=7)
    """On an unchanged pipeline it is rewritten no sooner than this."""
    field_step: float = Field(default=0.05, gt=0, le=0.5)
    """Probabilities on opportunities are rounded to this, and their expected close to its week."""
    field_tolerance: float = Field(default=0.1, ge=0, lt=1)
    """They are rewritten when one moved by as much as this, or the expected close by `field_days`."""
    field_days: int = Field(default=14, ge=1)
    refit: Duration = timedelta(days=7)
    """The model learns anew from what was closed since no sooner than this, or with a new period."""
    calls: dict[str, str] = Field(default_factory=dict)
    """People's own calls beside the forecast category: a name, and the custom field that holds it."""


class Tasks(Section):
    when_mended: Literal["delete", "complete"] = "delete"
    cooldown: Duration = timedelta(days=7)
    """After a rep closes or deletes a task, how long its findings make none."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(_[A-Z]{2})?$")] = "en"
    """Of people of whom the CRM tells no locale: fr, or fr_CA for its dates and money too."""
    max_snooze: Duration = timedelta(days=90)
    """How far ahead a rep can put a task off."""
    playbooks: bool = True
    """Tasks tell the next step of the opportunity's playbook."""
    ops: str | None = None
    """The CRM's id of the user who gets what belongs to nobody; without one such tasks are unassigned."""


class ReportConfig(Section):
    """A report that `sync` writes when it is done."""

    out: Path
    """The HTML file; its lists as CSV come beside it."""
    audience: str = Field(default="leader", alias="for")
    """leader, manager:ID or rep:ID: the report holds what that person may see, and nothing else."""


def _reports(value: object) -> object:
    return [value] if isinstance(value, dict) else value


MEMORY = "600MB"
"""Enough for a million opportunities."""


class Store(Section):
    warehouse: Path = Path("warehouse.duckdb")
    ledger: str = Field(default="ledger.db", repr=False)
    """A file, or an SQLAlchemy URL. One with a password belongs into the environment: PIPESYNC_LEDGER."""
    metrics: Path | None = Path("metrics.prom")
    """Where each run leaves its measures as OpenMetrics text, for a collector such as node_exporter; null: nowhere."""
    keep: LongDuration | None = None
    """How long what has ended stays in both stores, such as 3 years; forecasts learn from it. Default: for good."""
    memory: Annotated[str, Field(pattern=r"^[1-9]\d* ?[MG]B$", examples=["2GB"])] = MEMORY
    """What the warehouse's database may hold at a time, such as 2GB; the rest lies beside it on disk meanwhile."""


class DigestConfig(Section):
    """A weekly digest for each rep, manager and leader."""

    to_env: str | None = None
    """The variable that holds Apprise addresses, one a line; `{email}` in one is the recipient's."""
    to_file: Path | None = None
    to: tuple[Literal["reps", "managers", "leaders"], ...] = ("reps", "managers", "leaders")
    leaders: tuple[str, ...] = ()
    """Ids, in the CRM, of those who see everything."""
    weekday: Weekday = "monday"
    hour: int = Field(default=7, ge=0, le=23)
    """From then on, in the calendar's zone, the first sync sends it; a missed one is made up for within the week."""


class FailureAlert(Section):
    """One alert each time that runs begin to fail."""

    to_env: str | None = None
    """The variable that holds Apprise addresses, one a line."""
    to_file: Path | None = None
    after: int = Field(default=1, ge=1)
    """Failed runs in a row."""


class NotifyConfig(Section):
    """Notices outside of the CRM; none without a part of this."""

    language: Literal["en", "de", "fr", "es", "it", "pl", "sv"] = "en"
    """Of those of whom the CRM tells no locale."""
    templates: Path | None = None
    """A folder with a digest.txt or digest.html of yours (Jinja2, sandboxed)."""
    digest: DigestConfig | None = None
    failures: FailureAlert | None = None


class Twins(Section):
    """Opportunities that two connections both hold."""

    keep: str
    """The connection where they count."""
    leave_out: str
    """The connection where forecasts, analyses and rules do not see them."""
    match: dict[str, str] = Field(min_length=1)
    """Field of `keep` -> field of `leave_out` that says the same (`id: custom.salesforce_id`); of several, all must."""


class Config(Section):
    version: Literal[1] = 1
    extends: tuple[str, ...] = ("pipesync:recommended",)
    """Rule presets: `pipesync:recommended`, `pipesync:strict`, `pipesync:all`, or files."""
    rule_folders: tuple[Path, ...] = ()
    """The site's own rules, beside the shipped ones."""
    mode: Literal["observe", "propose", "enforce"] = "observe"
    """observe: reports only; propose: plans that people apply; enforce: `sync` applies."""
    connections: dict[str, ConnectionConfig] = Field(min_length=1)
    store: Store = Store()
    rules: dict[str, Annotated[RuleSetting, BeforeValidator(_rule_setting)]] = Field(default_factory=dict)
    suppressions: tuple[Suppression, ...] = ()
    baseline: date | None = None
    budget: Budget = Budget()
    breaker: Breaker = Breaker()
    guard: Guard = Guard()
    calendar: Calendar = Calendar()
    tasks: Tasks = Tasks()
    forecast: ForecastConfig = ForecastConfig()
    report: Annotated[tuple[ReportConfig, ...], BeforeValidator(_reports)] = ()
    """One report, or a list of them."""
    counted_once: tuple[Twins, ...] = ()
    """Opportunities that are in two CRMs, so that they count once."""
    notify: NotifyConfig = NotifyConfig()
    people: Path | None = None
    """people.yaml: managers and teams, where the CRM has none."""

    folder: Path = Field(default=Path(), exclude=True)
    """Of the file: relative paths start here. Not a key of the file."""
    _document: Document | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _know_twins(self) -> Config:
        for pair in self.counted_once:
            for name in (pair.keep, pair.leave_out):
                if name not in self.connections:
                    raise ValueError(f"counted_once speaks of {name!r}, which is no connection")
            if pair.keep == pair.leave_out:
                raise ValueError("counted_once needs two connections")
        return self

    @property
    def document(self) -> Document | None:
        """The file it was read from, for places; None for one that was made."""
        return self._document

    def path(self, given: Path) -> Path:
        return given if given.is_absolute() else self.folder / given

    @property
    def warehouse(self) -> Path:
        return self.path(self.store.warehouse)

    @property
    def metrics(self) -> Path | None:
        """Beside the warehouse, where it may be written, unless a whole path is given."""
        return self.store.metrics and self.warehouse.parent / self.store.metrics

    @property
    def ledger_url(self) -> str:
        given = self.store.ledger
        return given if "://" in given else f"sqlite:///{self.path(Path(given))}"

    def of(self, connection: Connection) -> Config:
        """Return the configuration for one connection: what its CRM says of its calendar, where this says nothing."""
        ours = self.calendar.model_fields_set
        if connection.fiscal_year_starts is None or "fiscal_year_starts" in ours:
            return self
        told: dict[str, Any] = {
            "fiscal_year_starts": connection.fiscal_year_starts
        }  # Any: fields of a calendar
        if connection.fiscal_weeks and "weeks" not in ours:
            told["weeks"] = FiscalWeeks.said(connection.fiscal_weeks)
        return self.model_copy(update={"calendar": self.calendar.model_copy(update=told)})

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.calendar.timezone)


def load(path: Path = DEFAULT_FILE) -> Config:
    """Read a configuration; InputError with every problem and its place."""
    if not path.exists():
        raise InputError(
            Problem(
                "no configuration",
                Place(str(path)),
                "make one with `pipesync init . --adapter files`, or look at a folder with `--data DIR`",
            )
        )
    return from_document(read(path), path.parent)


def from_text(text: str, folder: Path) -> Config:
    return from_document(parse(text, "pipesync.yaml"), folder)


def from_document(document: Document, folder: Path) -> Config:
    if isinstance(document.data, dict) and "folder" in document.data:
        raise InputError(document.problem(("folder",), "unknown key 'folder'", key=True))
    config = validate(Config, document)
    store = config.store.model_copy(update=_from_environment())
    config = config.model_copy(update={"folder": folder, "store": store})
    config._document = document
    return config


def _from_environment() -> dict[str, Any]:  # Any: as Store has them
    """Return what a deployment says of the stores; it wins over the file, which then need not hold a password."""
    named = {name.upper() for name, said in os.environ.items() if said}
    if not named & {"PIPESYNC_WAREHOUSE", "PIPESYNC_LEDGER"}:
        return {}
    from pydantic_settings import BaseSettings, SettingsConfigDict  # here: not every command must pay for it

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="PIPESYNC_", env_ignore_empty=True, extra="ignore")

        warehouse: Path | None = None
        ledger: SecretStr | None = None

    told = Environment()
    ledger = told.ledger and told.ledger.get_secret_value()
    return {key: value for key, value in (("warehouse", told.warehouse), ("ledger", ledger)) if value}


def parse_duration(text: str) -> timedelta:
    """Read `28d`, `12h` or `2w`."""
    try:
        found = _duration(text)
    except ValueError as error:
        raise InputError(Problem(f"{text!r} is not a duration", fix=str(error))) from None
    assert isinstance(found, timedelta)  # noqa: S101  # from a text it makes nothing else
    return found


def parse_moment(text: str) -> datetime:
    """Read `2026-11-23` or an ISO time; a zone is required with a time, a date means its start in UTC."""
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            Problem(f"{text!r} is not a time", fix="write 2026-11-23 or 2026-11-23T08:00:00Z")
        ) from None
    if moment.tzinfo is None:
        if len(text) > 10:
            raise InputError(Problem(f"{text!r} has no zone", fix="end it with Z or +01:00"))
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
