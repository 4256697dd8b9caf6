"""Who was told what: a digest goes out once a week, and an alert once per time of trouble."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("connection", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("recipient", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("notices")
