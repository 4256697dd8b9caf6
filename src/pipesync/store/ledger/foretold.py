"""What was issued, as rows: forecasts, people's calls, and of single opportunities the last word of each day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from pipesync.model import Call, OpportunityForecast, PeriodForecast
from pipesync.store.ledger import rows
from pipesync.store.ledger.tables import issued_calls, issued_forecasts, issued_opportunities

_OPPORTUNITIES_KEPT = timedelta(days=35)


def enter(
    transaction: sa.Connection,
    run: str,
    as_of: datetime,
    forecasts: Sequence[PeriodForecast],
    calls: Iterable[Call],
    opportunities: Iterable[OpportunityForecast],
) -> None:
    """Enter an issue, as `Ledger.issue` describes."""
    stamp = {"as_of": as_of, "run": run}
    rows.enter(transaction, issued_forecasts, [{**rows.values(f), **stamp} for f in forecasts])
    rows.enter(transaction, issued_calls, [{**rows.values(c), **stamp} for c in calls])
    said = {
        one.id: [one.win_in_period, float(one.expected_amount or 0)]
        for one in opportunities
        if one.win_in_period > 0
    }
    for total in (f for f in forecasts if f.scope == "total" and said):
        _enter_opportunities(transaction, total, as_of, said, run)


def _enter_opportunities(
    transaction: sa.Connection,
    total: PeriodForecast,
    as_of: datetime,
    said: dict[str, list[float]],
    run: str,
) -> None:
    table = issued_opportunities
    row = {name: getattr(total, name) for name in ("connection", "period_start", "period_end")}
    same = sa.and_(*(table.c[name] == value for name, value in row.items()))
    day = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    superseded = sa.and_(table.c.as_of >= day, table.c.as_of < as_of)
    transaction.execute(
        table.delete().where(same, sa.or_(superseded, table.c.as_of < day - _OPPORTUNITIES_KEPT))
    )
    rows.enter(transaction, table, [{**row, "as_of": as_of, "document": said, "run": run}])


def last_of_opportunities(
    connection: str, period_start: date, period_end: date, before: datetime
) -> sa.Select[Any]:  # Any: two columns
    """Return the query for a period's last issue before a moment: its moment and its document."""
    table = issued_opportunities
    return (
        sa.select(table.c.as_of, table.c.document)
        .where(
            table.c.connection == connection,
            table.c.period_start == period_start,
            table.c.period_end == period_end,
            table.c.as_of < before,
        )
        .order_by(table.c.as_of.desc())
        .limit(1)
    )
