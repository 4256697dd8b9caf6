"""Warehouses to test on: made by hand from plain rows, or a pulled company."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.model import TABLES, ColumnState, Connection
from pipesync.pull import pull
from pipesync.sandbox.company import generate
from pipesync.schema import schema, table
from pipesync.store.warehouse import Warehouse

gc.set_threshold(50_000)  # as in the process of a command, most of which these tests run in their own

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
CRM = "crm"
Rows = list[dict[str, Any]]  # Any: columns' values
Build = Callable[..., Warehouse]


@pytest.fixture
def build() -> Iterator[Build]:
    """Make a warehouse of one connection, `crm`, pulled at NOW: every column of a given stream is known.

    `unmapped` names columns (`stream.column`) that are not; `history` is what fields of opportunities keep.
    """
    opened = []

    def make(
        *,
        unmapped: tuple[str, ...] = (),
        history: str = "full",
        currency: str | None = "EUR",
        **streams: Rows,
    ) -> Warehouse:
        warehouse = Warehouse()
        opened.append(warehouse)
        states = [
            ColumnState(
                connection=CRM,
                stream=stream,
                column=column,
                state="known" if stream in streams and f"{stream}.{column}" not in unmapped else "unmapped",
                history=history if stream == "opportunities" else "none",  # type: ignore[arg-type]  # a literal
            )
            for stream in TABLES
            for column in schema(stream).names
        ]
        warehouse.set_connection(Connection(connection=CRM, adapter="files", currency=currency), states)
        for stream in TABLES:
            rows = table(stream, streams.get(stream, []))
            warehouse.merge(CRM, stream, rows, cursor=None, until=NOW, replace=True, last=True)
        return warehouse

    yield make
    for warehouse in opened:
        warehouse.close()


@pytest.fixture(scope="session")
def pulled_company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A company of 600 opportunities in a warehouse, as connection `crm`; read it, do not change it."""
    folder = tmp_path_factory.mktemp("pulled")
    generate(folder / "exports", opportunities=600)
    options: Mapping[str, Any] = {"data": str(folder / "exports"), "outbox": str(folder / "outbox")}
    adapter = open_adapter(CRM, ConnectionConfig(adapter="files", options=dict(options)), Path(folder))
    with Warehouse() as warehouse:
        pull(adapter, warehouse)
        yield warehouse
    adapter.close()
