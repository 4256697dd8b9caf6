"""What the mirrored streams look like as columns, derived from the records of `model.TABLES`.

Adapters fill pages with these Arrow types and the warehouse keeps them as these DuckDB types, so both read one
derivation; neither may import the other.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa

from pipesync.arrays import array, no_rows
from pipesync.model import TABLES, Record

KINDS: dict[Any, tuple[str, pa.DataType]] = {
    str: ("VARCHAR", pa.string()),
    Decimal: ("DECIMAL(18, 2)", pa.decimal128(18, 2)),
    datetime: ("TIMESTAMP", pa.timestamp("us")),
    date: ("DATE", pa.date32()),
    bool: ("BOOLEAN", pa.bool_()),
    int: ("BIGINT", pa.int64()),
    float: ("DOUBLE", pa.float64()),
    dict: ("MAP(VARCHAR, VARCHAR)", pa.map_(pa.string(), pa.string())),
}
"""Python type of a record's field -> (DuckDB type, Arrow type)."""


def _kind(annotation: Any) -> tuple[str, pa.DataType]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return _kind(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is typing.Literal:
        return KINDS[str]
    return KINDS[origin or annotation]


@cache
def kinds(record: type[Record]) -> Mapping[str, tuple[str, pa.DataType]]:
    """Return column -> (DuckDB type, Arrow type), `connection` first."""
    return {name: _kind(field.annotation) for name, field in record.model_fields.items()}


@cache
def schema(stream: str) -> pa.Schema:
    """Return the Arrow schema of a stream's page: its record without `connection`."""
    record = TABLES[stream].record
    return pa.schema([(n, arrow) for n, (_, arrow) in kinds(record).items() if n != "connection"])


def ddl(name: str, record: type[Record]) -> str:
    """Return the statement that creates a table of these records, where it is not there yet."""
    columns = ", ".join(f'"{column}" {kind}' for column, (kind, _) in kinds(record).items())
    return f'CREATE TABLE IF NOT EXISTS "{name}" ({columns})'


def empty(stream: str) -> pa.Table:
    return no_rows(schema(stream))


def table(stream: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Build a page's rows from plain values. Aware times become naive UTC; columns nobody gives are left out."""
    wanted = schema(stream)
    if not rows:
        return empty(stream)
    given = {name for row in rows for name in row}
    fields = [f for f in wanted if f.name in given]
    columns = [array([row.get(f.name) for row in rows], f.type) for f in fields]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))
