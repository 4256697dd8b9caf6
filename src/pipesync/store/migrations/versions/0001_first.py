"""The first schema. A migration is never edited once it was released; the next one changes what it made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)
CENTS = sa.BigInteger()


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("connection", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("as_of", MOMENT),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("runs_by_start", "runs", ["connection", "started_at"])
    op.create_table(
        "findings",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("rule", sa.String, primary_key=True),
        sa.Column("level", sa.String, primary_key=True),
        sa.Column("subject_id", sa.String, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("owner_id", sa.String),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("headline", sa.Text, nullable=False),
        sa.Column("amount", CENTS),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.Column("resolved_at", MOMENT),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("clean_runs", sa.Integer, nullable=False),
    )
    op.create_table(
        "finding_episodes",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("rule", sa.String, primary_key=True),
        sa.Column("level", sa.String, primary_key=True),
        sa.Column("subject_id", sa.String, primary_key=True),
        sa.Column("episode", sa.Integer, primary_key=True),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("owner_id", sa.String),
        sa.Column("amount", CENTS),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("resolved_at", MOMENT),
    )
    op.create_table(
        "rule_evaluations",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("rule", sa.String, primary_key=True),
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("as_of", MOMENT, nullable=False),
        sa.Column("fired", sa.Integer, nullable=False),
        sa.Column("clear", sa.Integer, nullable=False),
        sa.Column("unknown", sa.Integer, nullable=False),
        sa.Column("open", sa.Integer, nullable=False),
        sa.Column("tripped", sa.Boolean, nullable=False),
    )
    op.create_table(
        "journal",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("connection", sa.String, nullable=False),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("run_kind", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("target", sa.String),
        sa.Column("opportunity_id", sa.String),
        sa.Column("owner_id", sa.String),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
        sa.Column("reason", sa.JSON, nullable=False),
        sa.Column("as_of", MOMENT, nullable=False),
        sa.Column("basis", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("intended_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("journal_by_connection", "journal", ["connection", "status"])
    op.create_index("journal_by_run", "journal", ["run", "key"])
    op.create_table(
        "issued_forecasts",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("scope_id", sa.String, primary_key=True),
        sa.Column("period_start", sa.Date, primary_key=True),
        sa.Column("period_end", sa.Date, primary_key=True),
        sa.Column("as_of", MOMENT, primary_key=True),
        sa.Column("currency", sa.String),
        *(
            sa.Column(n, CENTS, nullable=False)
            for n in ("p10", "p50", "p90", "mean", "closed", "open", "new")
        ),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("run", sa.String, nullable=False),
    )
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("connection", sa.String, nullable=False),
        sa.Column("rule", sa.String),
        sa.Column("opportunity_id", sa.String),
        sa.Column("owner_id", sa.String),
        sa.Column("until", sa.Date, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("taken_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
    )
    op.create_table(
        "task_fates",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("opportunity_id", sa.String),
        sa.Column("owner_id", sa.String),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("ending", sa.String, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    for name in (
        "task_fates", "leases", "suppressions", "issued_forecasts", "journal", "rule_evaluations", "finding_episodes",
        "findings", "runs",
    ):  # fmt: skip
        op.drop_table(name)
