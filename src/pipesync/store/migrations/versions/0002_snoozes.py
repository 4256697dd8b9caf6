"""Findings keep the values that their texts name; tasks' ends keep a snooze; suppressions can be ended early."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("findings", sa.Column("values", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("suppressions", sa.Column("ended_at", MOMENT))
    op.add_column("task_fates", sa.Column("rests_until", sa.Date))
    op.add_column("task_fates", sa.Column("note", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("task_fates", "note")
    op.drop_column("task_fates", "rests_until")
    op.drop_column("suppressions", "ended_at")
    op.drop_column("findings", "values")
