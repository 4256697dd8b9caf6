"""The warehouse's tables as DuckDB statements; their columns come from `pipesync.schema`."""

from __future__ import annotations

from pipesync.model import Record
from pipesync.schema import KINDS as _KINDS
from pipesync.schema import kinds, schema, table

__all__ = ["_KINDS", "ddl", "kinds", "schema", "table"]


def ddl(name: str, record: type[Record]) -> str:
    columns = ", ".join(f'"{column}" {kind}' for column, (kind, _) in kinds(record).items())
    return f'CREATE TABLE IF NOT EXISTS "{name}" ({columns})'
