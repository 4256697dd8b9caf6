"""Small warehouses for the forecast's tests, and the moment that they speak of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import simulate

from pipesync.features import Features
from pipesync.forecast import Period
from pipesync.model import ColumnState, Connection
from pipesync.schema import table
from pipesync.store.warehouse import Warehouse

NAME = simulate.NAME
AS_OF = simulate.EPOCH + timedelta(weeks=52, hours=3)
PERIOD = Period(AS_OF.date(), (AS_OF + timedelta(days=35)).date())


def features(as_of: datetime = AS_OF, connection: str = NAME) -> Features:
    return Features(connection, as_of, frozenset())


def small_warehouse(rows: list[dict[str, Any]], changes: list[dict[str, Any]] | None = None) -> Warehouse:
    """Return a warehouse that holds these opportunities (with defaults) and field changes."""
    warehouse = Warehouse(None)
    known = {"id": "", "pipeline": "default", "is_closed": False, "is_won": False}
    columns = {name for row in rows for name in row} | set(known)
    kinds = {"stage": "full", "amount": "full", "close_date": "full"}
    warehouse.set_connection(
        Connection(connection=NAME, adapter="files", currency="EUR"),
        [
            ColumnState.model_validate(
                {"stream": "opportunities", "column": c, "state": "known", "history": kinds.get(c, "none")}
            )
            for c in sorted(columns)
        ],
    )
    stages = [
        {"id": n, "name": n, "pipeline": "default", "order": i, "phase": p, "probability": q}
        for i, (n, p, q) in enumerate([*simulate.STAGES, ("Won", "won", 1.0), ("Lost", "lost", 0.0)])
    ]
    numbered = [{"id": f"c{i}", "seq": i, **c} for i, c in enumerate(changes or [])]
    pages = {
        "stages": stages,
        "opportunities": [known | row for row in rows],
        "field_changes": numbered,
    }
    for stream, page in pages.items():
        if page:
            naive = [{k: _naive(v) for k, v in row.items()} for row in page]
            warehouse.merge(NAME, stream, table(stream, naive), cursor=None, until=AS_OF, last=True)
    return warehouse


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
