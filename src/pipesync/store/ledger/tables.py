"""The ledger's tables, as SQLAlchemy sees them. `store/migrations` makes and changes them in a database.

Two column types keep what SQLite cannot: moments stay zone-aware, and money is kept in cents, so that neither a
zone nor a cent is lost on the way, and sums are exact.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


class Moment(TypeDecorator[datetime]):
    """A zone-aware time in UTC; SQLite keeps it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc if dialect.name != "sqlite" else utc.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # Any: the driver's
        if value is None:
            return None
        found: datetime = value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


class Cents(TypeDecorator[Decimal]):
    """Money as a whole number of cents."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int((value * 100).to_integral_value())

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # Any: the driver's
        return None if value is None else Decimal(value).scaleb(-2)


metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("connection", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("as_of", Moment),
    Column("status", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("runs_by_start", "connection", "started_at"),
)

findings = Table(
    "findings",
    metadata,
    Column("connection", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("level", String, primary_key=True),
    Column("subject_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("episode", Integer, nullable=False),
    Column("severity", String, nullable=False),
    Column("owner_id", String),
    Column("message", Text, nullable=False),
    Column("headline", Text, nullable=False),
    Column("values", JSON, nullable=False, server_default="{}"),
    Column("amount", Cents),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("resolved_at", Moment),
    Column("runs", Integer, nullable=False),
    Column("clean_runs", Integer, nullable=False),
)

episodes = Table(
    "finding_episodes",
    metadata,
    Column("connection", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("level", String, primary_key=True),
    Column("subject_id", String, primary_key=True),
    Column("episode", Integer, primary_key=True),
    Column("severity", String, nullable=False),
    Column("owner_id", String),
    Column("amount", Cents),
    Column("first_seen", Moment, nullable=False),
    Column("resolved_at", Moment),
)

rule_evaluations = Table(
    "rule_evaluations",
    metadata,
    Column("connection", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("as_of", Moment, nullable=False),
    Column("fired", Integer, nullable=False),
    Column("clear", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    Column("tripped", Boolean, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("connection", String, nullable=False),
    Column("run", String, nullable=False),
    Column("run_kind", String, nullable=False),
    Column("key", String, nullable=False),
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    Column("target", String),
    Column("opportunity_id", String),
    Column("owner_id", String),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("reason", JSON, nullable=False),
    Column("as_of", Moment, nullable=False),
    Column("basis", String, nullable=False),
    Column("status", String, nullable=False),
    Column("intended_at", Moment, nullable=False),
    Column("settled_at", Moment),
    Column("error", Text, nullable=False),
    Column("request_id", String, nullable=False),
    Index("journal_by_connection", "connection", "status"),
    Index("journal_by_run", "run", "key"),
    sqlite_autoincrement=True,  # a number is never given twice, not even after rows were forgotten
)

issued_forecasts = Table(
    "issued_forecasts",
    metadata,
    Column("connection", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("scope_id", String, primary_key=True),
    Column("period_start", Date, primary_key=True),
    Column("period_end", Date, primary_key=True),
    Column("as_of", Moment, primary_key=True),
    Column("currency", String),
    Column("p10", Cents, nullable=False),
    Column("p50", Cents, nullable=False),
    Column("p90", Cents, nullable=False),
    Column("mean", Cents, nullable=False),
    Column("closed", Cents, nullable=False),
    Column("open", Cents, nullable=False),
    Column("new", Cents, nullable=False),
    Column("model", String, nullable=False),
    Column("run", String, nullable=False),
    Column("low", Cents),
    Column("high", Cents),
)

issued_opportunities = Table(
    "issued_opportunities",
    metadata,
    Column("connection", String, primary_key=True),
    Column("period_start", Date, primary_key=True),
    Column("period_end", Date, primary_key=True),
    Column("as_of", Moment, primary_key=True),
    Column("document", JSON, nullable=False),  # id: [probability to win in the period, expected amount]
    Column("run", String, nullable=False),
)

issued_calls = Table(
    "issued_calls",
    metadata,
    Column("connection", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("scope_id", String, primary_key=True),
    Column("period_start", Date, primary_key=True),
    Column("period_end", Date, primary_key=True),
    Column("as_of", Moment, primary_key=True),
    Column("amount", Cents, nullable=False),
    Column("run", String, nullable=False),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("connection", String, nullable=False),
    Column("rule", String),
    Column("opportunity_id", String),
    Column("owner_id", String),
    Column("until", Date, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
)

leases = Table(
    "leases",
    metadata,
    Column("connection", String, primary_key=True),
    Column("run", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("taken_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

task_fates = Table(
    "task_fates",
    metadata,
    Column("connection", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("opportunity_id", String),
    Column("owner_id", String),
    Column("rules", JSON, nullable=False),
    Column("ending", String, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("rests_until", Date),
    Column("note", Text, nullable=False, server_default=""),
)

notices = Table(
    "notices",
    metadata,
    Column("connection", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("recipient", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("sent_at", Moment, nullable=False),
)
