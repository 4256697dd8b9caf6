"""Opportunities that two CRMs both hold are counted once: where the configuration says, the other one's are not seen.

`counted_once` names two connections and the fields that tell a pair. While calculations run, this session's view of the
mirror lacks the opportunities of `leave_out` that have a twin, and all that belongs to them; the file stays whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from pipesync.config import Config, Twins
from pipesync.errors import InputError, Problem
from pipesync.model import Opportunity
from pipesync.store.pages import CHILDREN
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import nearest


@contextmanager
def counted_once(warehouse: Warehouse, config: Config, names: Collection[str]) -> Iterator[dict[str, int]]:
    """Leave the twins of these connections out of what this session reads; yield how many, by connection.

    Nothing may be written to the mirror's opportunities inside. InputError for a field that no opportunity has, and
    where the connection that keeps them was never pulled whole: nobody could tell who is a twin.
    """
    pairs = [pair for pair in config.counted_once if pair.leave_out in names]
    if not pairs:
        yield {}
        return
    for pair in pairs:
        if warehouse.watermark(pair.keep) is None:
            told = f"twins in {pair.leave_out!r} are not known before {pair.keep!r} was pulled whole (`counted_once`)"
            raise InputError(Problem(told, fix=f"run `pipesync pull --connection {pair.keep}` first"))
    found = sorted(set(_twins(warehouse, pairs)))
    columns = {"connection": [name for name, _ in found], "id": [one for _, one in found]}
    warehouse.register(
        "left_out", pa.table(columns, schema=pa.schema([("connection", pa.string()), ("id", pa.string())]))
    )
    tables = {"opportunities": "id", **dict.fromkeys(CHILDREN, "opportunity_id")}
    for table, key in tables.items():
        warehouse.shadow(table, f'(connection, "{key}") NOT IN (SELECT connection, id FROM left_out)')
    try:
        yield dict(Counter(name for name, _ in found))
    finally:
        for table in tables:
            warehouse.unshadow(table)


def in_order(names: Sequence[str], config: Config) -> list[list[str]]:
    """Return the connections in groups, one after the other: who leaves twins out comes after who keeps them.

    Otherwise a first run would write about them in both CRMs. A circle goes all at once.
    """
    groups, left = [], list(names)
    while left:
        waiting = {pair.leave_out for pair in config.counted_once if pair.keep in left}
        groups.append([name for name in left if name not in waiting] or left)
        left = [name for name in left if name not in groups[-1]]
    return groups


def _twins(warehouse: Warehouse, pairs: Sequence[Twins]) -> Iterator[tuple[str, str]]:
    adapters = {c.connection: c.adapter for c in warehouse.connections()}
    for pair in pairs:
        same = " AND ".join(_same(pair, there, here, adapters) for there, here in pair.match.items())
        query = f"SELECT DISTINCT b.connection, b.id FROM opportunities a JOIN opportunities b ON {same}"
        yield from warehouse.rows(
            f"{query} WHERE a.connection = ? AND b.connection = ?", [pair.keep, pair.leave_out]
        )


def _same(pair: Twins, there: str, here: str, adapters: Mapping[str, str]) -> str:
    """Return SQL for whether two fields say the same; blank ones never do.

    Texts are compared without their case. Salesforce tells the same id with 15 or with 18 characters, and only its case
    sets it apart, so ids of its are compared by the first 15.
    """
    sides = ((pair.keep, there, "a"), (pair.leave_out, here, "b"))
    is_id = any(adapters.get(name) == "salesforce" and field == "id" for name, field, _ in sides)
    left, right = (_text(field, alias) for _, field, alias in sides)
    return f"left({left}, 15) = left({right}, 15)" if is_id else f"lower({left}) = lower({right})"


def _text(field: str, alias: str) -> str:
    kind, _, key = field.partition(".")
    if kind == "custom" and key:
        text = f"{alias}.custom['{key.replace(chr(39), chr(39) * 2)}']"
    elif field in Opportunity.model_fields and field != "custom":
        text = f'{alias}."{field}"::VARCHAR'
    else:
        fix = nearest(field, [*Opportunity.model_fields, "custom.NAME"])
        raise InputError(Problem(f"`counted_once`: opportunities have no field {field!r}", fix=fix))
    return f"nullif(trim({text}), '')"
