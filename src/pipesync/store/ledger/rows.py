"""Records as rows of the ledger's tables, and back; how rows get in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from pipesync.model import Record

R = TypeVar("R", bound=Record)


def values(record: Record) -> dict[str, Any]:  # Any: columns' values
    return {name: getattr(record, name) for name in type(record).model_fields}


def record(kind: type[R], row: sa.Row[Any]) -> R:  # Any: columns of any table
    """Values come from our own tables: they were checked when they went in."""
    return kind.model_construct(**{n: v for n, v in row._mapping.items() if n in kind.model_fields})


def enter(transaction: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows whose primary key is not there yet; those that are stay as they are."""
    if not rows:
        return
    keys = list(table.primary_key)
    moments = {r["as_of"] for r in rows}
    there = transaction.execute(
        sa.select(*keys).where(table.c.connection == rows[0]["connection"], table.c.as_of.in_(moments))
    )
    known = {tuple(row) for row in there}
    fresh = [r for r in rows if tuple(r[key.name] for key in keys) not in known]
    if fresh:
        transaction.execute(table.insert(), [{c.name: r[c.name] for c in table.c} for r in fresh])


def replace(transaction: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows in place of those with the same primary key."""
    if not rows:
        return
    keys = [c.name for c in table.primary_key]
    same = sa.and_(*(table.c[k] == sa.bindparam(f"b_{k}") for k in keys))
    transaction.execute(table.delete().where(same), [{f"b_{k}": r[k] for k in keys} for r in rows])
    transaction.execute(table.insert(), [{c.name: r[c.name] for c in table.c} for r in rows])
