"""An issued forecast keeps its 80% interval; those of before have P10 and P90 only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("low", "high"):
        op.add_column("issued_forecasts", sa.Column(name, sa.BigInteger))


def downgrade() -> None:
    for name in ("high", "low"):
        op.drop_column("issued_forecasts", name)
