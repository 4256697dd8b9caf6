"""The ledger's tables. A change here needs a migration in `store/migrations/versions` and a new HEAD."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

HEAD = "0001"
"""The migration that this program's tables are at."""


class Utc(sa.TypeDecorator[datetime]):
    """Aware UTC in Python, naive UTC in the database: SQLite has no zones, and PostgreSQL then agrees with it."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


class Exact(sa.TypeDecorator[Any]):
    """Money as text: SQLite would make a float of it."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        from decimal import Decimal

        return None if value is None else Decimal(value)


metadata = sa.MetaData()

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("connection", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("started_at", Utc, nullable=False, index=True),
    sa.Column("finished_at", Utc),
    sa.Column("as_of", Utc),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

findings = sa.Table(
    "findings",
    metadata,
    sa.Column("connection", sa.String, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("level", sa.String, primary_key=True),
    sa.Column("subject_id", sa.String, primary_key=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("episode", sa.Integer, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("owner_id", sa.String),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("amount", Exact),
    sa.Column("first_seen", Utc, nullable=False),
    sa.Column("last_seen", Utc, nullable=False),
    sa.Column("resolved_at", Utc),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("clean_runs", sa.Integer, nullable=False),
)

rule_runs = sa.Table(
    "rule_runs",
    metadata,
    sa.Column("connection", sa.String, primary_key=True),
    sa.Column("rule", sa.String, primary_key=True),
    sa.Column("as_of", Utc, primary_key=True),
    sa.Column("fired", sa.Integer, nullable=False),
    sa.Column("clear", sa.Integer, nullable=False),
    sa.Column("unknown", sa.Integer, nullable=False),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String, nullable=False, index=True),
    sa.Column("connection", sa.String, nullable=False),
    sa.Column("change", sa.JSON, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("object", sa.String, nullable=False),
    sa.Column("intended_at", Utc, nullable=False),
    sa.Column("status", sa.String),
    sa.Column("settled_at", Utc),
    sa.Column("target", sa.String),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("request_id", sa.String, nullable=False, server_default=""),
    sa.Index("journal_by_key", "connection", "key"),
    sa.Index("journal_open", "connection", "status"),
)

issued_forecasts = sa.Table(
    "issued_forecasts",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String, nullable=False),
    sa.Column("connection", sa.String, nullable=False),
    sa.Column("as_of", Utc, nullable=False),
    sa.Column("forecast", sa.JSON, nullable=False),
    sa.Index("issued_by_moment", "connection", "as_of"),
)

fates = sa.Table(
    "task_fates",
    metadata,
    sa.Column("connection", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("fate", sa.String, nullable=False),
    sa.Column("seen_at", Utc, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("expires_at", Utc, nullable=False),
)
