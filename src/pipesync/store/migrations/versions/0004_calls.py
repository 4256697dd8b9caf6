"""What people said is kept beside the forecasts, and what a forecast said of each opportunity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "issued_opportunities",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("period_start", sa.Date, primary_key=True),
        sa.Column("period_end", sa.Date, primary_key=True),
        sa.Column("as_of", MOMENT, primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("run", sa.String, nullable=False),
    )
    op.create_table(
        "issued_calls",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("scope_id", sa.String, primary_key=True),
        sa.Column("period_start", sa.Date, primary_key=True),
        sa.Column("period_end", sa.Date, primary_key=True),
        sa.Column("as_of", MOMENT, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("run", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("issued_calls")
    op.drop_table("issued_opportunities")
