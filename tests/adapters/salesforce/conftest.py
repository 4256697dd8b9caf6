"""An org of the sandbox, opened as connections are; faults to order, and warehouses to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.adapters.salesforce import api as api_module
from pipesync.config import ConnectionConfig, Write
from pipesync.model import Change, Reason
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.sandbox.salesforce.org import full_id
from pipesync.store.warehouse import Warehouse

WRITE = Write(enabled=True, tasks=True, forecasts=True)
Connect = Callable[..., Adapter]

STREAMS = (
    "opportunities", "stages", "pipelines", "users", "accounts", "contact_roles", "activities", "products",
    "line_items", "leads", "own_tasks", "own_forecasts",
)  # fmt: skip
_CHANGES = (
    "SELECT opportunity_id, field, value, changed_at, changed_by FROM field_changes QUALIFY value IS DISTINCT FROM "
    "lag(value, 1, '') OVER (PARTITION BY opportunity_id, field ORDER BY changed_at, seq) ORDER BY ALL"
)


@pytest.fixture
def connect(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Open the org; options given replace those of the sandbox, None takes one away."""
    monkeypatch.setattr(api_module, "_backoff", lambda _: 0.0)

    def opened(write: Write = WRITE, **options: Any) -> Adapter:
        keys = sandbox.settings("salesforce", tmp_path)
        keys.pop("adapter")
        mapping = Path(options.pop("mapping", keys["mapping"]))
        del keys["mapping"]
        given = {k: v for k, v in {**keys, **options}.items() if v is not None}
        config = ConnectionConfig(adapter="salesforce", mapping=mapping, options=given, write=write)
        return open_adapter("crm", config, tmp_path)

    return opened


@pytest.fixture
def pulled(connect: Connect) -> Iterator[Warehouse]:
    with Warehouse() as warehouse:
        pull(connect(), warehouse)
        yield warehouse


def order(sandbox: Sandbox, *faults: dict[str, Any]) -> None:
    """Have these faults happen from now on."""
    sandbox.ask("POST", "faults", {"faults": list(faults)})


def edit(sandbox: Sandbox, record: str, **fields: Any) -> None:
    """Change a record as a person would."""
    sandbox.ask("POST", "edit", {"crm": "salesforce", "id": record, "fields": fields})


def custom_years(sandbox: Sandbox, first_days: Sequence[date]) -> None:
    """Give the org custom fiscal years with months that begin on these days."""
    year = full_id("022", 1)
    settings = {"Id": year, "Name": "Custom", "IsStandardYear": 0}
    sandbox.ask("POST", "insert", {"object": "FiscalYearSettings", "records": [settings]})
    months = [
        {
            "Id": full_id("026", 900_000 + n),
            "Type": "Month",
            "StartDate": str(day),
            "FiscalYearSettingsId": year,
        }
        for n, day in enumerate(first_days)
    ]
    sandbox.ask("POST", "insert", {"object": "Period", "records": months})


def put(sandbox: Sandbox, **settings: Any) -> None:
    """Set settings of the org."""
    sandbox.ask("POST", "settings", {"salesforce": settings})


def facts(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that a warehouse knows of the org; of history what changed, not how often it was said."""
    found = {s: warehouse.rows(f'SELECT * FROM "{s}" ORDER BY ALL') for s in STREAMS}
    return {**found, "field_changes": warehouse.rows(_CHANGES)}


def tasks(warehouse: Warehouse, n: int, start: int = 0) -> list[Change]:
    """Return new tasks on open opportunities, numbered from `start`."""
    rows = warehouse.rows(
        "SELECT o.id, owner_id FROM opportunities AS o JOIN users AS u ON u.id = owner_id "
        "WHERE NOT is_closed AND u.is_active ORDER BY o.id"
    )
    return [
        Change(
            connection="crm", key=f"ps1-{i:020d}-1", action="create", object="task", opportunity_id=o, owner_id=u,
            after={"opportunity_id": o, "owner_id": u, "subject": f"Call {i}", "due": "2026-11-20", "priority": "low"},
            reason=Reason(kind="findings", text="a test"),
        )
        for i, (o, u) in ((i, rows[i % len(rows)]) for i in range(start, start + n))
    ]  # fmt: skip
