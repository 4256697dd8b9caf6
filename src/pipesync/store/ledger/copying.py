"""The ledger's rows as lines of JSON, out of one database and into another, of either kind.

What is read is one snapshot, whatever others write meanwhile. Tables are those that the database has, not those that
this program knows, so that a copy of an older schema goes back into that schema and is migrated from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from pipesync.store.ledger import leases
from pipesync.store.ledger.database import open_database, version_of

Rows = Iterator[bytes]
_NOT_COPIED = ("alembic_version", "leases")
"""A lease is of a process that is alive; a copy of it would keep others out for nothing."""


def dump(url: str, take: Callable[[str, Rows], None]) -> str:
    """Hand every table's name and lines to `take`, all of one moment; return the schema that they have."""
    engine = open_database(url)
    snapshot = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    try:
        with engine.connect().execution_options(reading=True, **snapshot) as connection:
            schema = str(version_of(connection))
            for table in _tables(connection):
                ordered = sa.select(table).order_by(*table.primary_key)
                found = connection.execution_options(yield_per=1000).execute(ordered)
                take(table.name, (orjson.dumps(_plain(row._mapping)) for row in found))
    finally:
        engine.dispose()
    return schema


def is_empty(url: str) -> bool:
    """Whether nothing was ever recorded there."""
    engine = open_database(url)
    try:
        with engine.connect().execution_options(reading=True) as connection:
            return not any(connection.execute(sa.select(t).limit(1)).first() for t in _tables(connection))
    finally:
        engine.dispose()


def load(url: str, schema: str, given: Mapping[str, Iterable[bytes]], now: datetime) -> None:
    """Put the lines in place of all that the database holds, in one transaction, then migrate from `schema`.

    StoreError where a run holds a lease, or where the schema is newer than this program.
    """
    engine = open_database(url)
    try:
        with engine.begin() as connection:
            leases.refuse_live(connection, now)
    finally:
        engine.dispose()
    engine = open_database(url, revision=schema)
    try:
        with engine.begin() as connection:
            for table in _tables(connection):
                connection.execute(table.delete())
                rows = (_typed(orjson.loads(line), table) for line in given.get(table.name, ()))
                for batch in _batches(rows, 500):
                    connection.execute(table.insert(), batch)
                _go_on_counting(connection, table)
    finally:
        engine.dispose()
    open_database(url).dispose()


def _tables(connection: sa.Connection) -> list[sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [t for t in metadata.sorted_tables if t.name not in _NOT_COPIED]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:  # Any: columns' values
    return {str(name): _zoned(value) for name, value in row.items()}


def _zoned(value: Any) -> Any:  # Any: a column's value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value


def _typed(row: dict[str, Any], table: sa.Table) -> dict[str, Any]:  # Any: JSON, to columns' values
    for column in table.columns:
        value = row.get(column.name)
        if isinstance(value, str) and isinstance(column.type, sa.DateTime):
            moment = datetime.fromisoformat(value)
            row[column.name] = (
                moment if getattr(column.type, "timezone", False) else moment.replace(tzinfo=None)
            )
        elif isinstance(value, str) and isinstance(column.type, sa.Date):
            row[column.name] = date.fromisoformat(value)
        elif value is not None and isinstance(column.type, sa.Boolean):
            row[column.name] = bool(value)
    return row


def _batches(
    rows: Iterator[dict[str, Any]], size: int
) -> Iterator[list[dict[str, Any]]]:  # Any: columns' values
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _go_on_counting(connection: sa.Connection, table: sa.Table) -> None:
    """PostgreSQL numbers rows by a counter beside the table, which rows that bring their number do not move."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key:
        if isinstance(column.type, sa.Integer) and column.server_default is not None:
            connection.execute(
                sa.text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
                    f'coalesce(max("{column.name}"), 0) + 1, false) FROM "{table.name}"'
                )
            )
