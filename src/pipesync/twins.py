"""Opportunities that two CRMs both hold are counted once: where the configuration says, the other one's are not seen.

`counted_once` names two connections and the fields that tell a pair. While calculations run, this session's view of the
mirror lacks the opportunities of `leave_out` that have a twin, and all that belongs to them; the file stays whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

from pipesync.config import Config, Twins
from pipesync.errors import InputError, Problem
from pipesync.model import Opportunity
from pipesync.store.warehouse import CHILDREN, Warehouse
from pipesync.yamlsource import nearest


@contextmanager
def counted_once(warehouse: Warehouse, config: Config) -> Iterator[dict[str, int]]:
    """Leave twins out of what this session reads; yield how many, by the connection that they are left out of.

    Nothing may be written to the mirror's opportunities inside. InputError for a field that no opportunity has.
    """
    if not config.counted_once:
        yield {}
        return
    found = sorted(set(_twins(warehouse, config)))
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


def _twins(warehouse: Warehouse, config: Config) -> Iterator[tuple[str, str]]:
    adapters = {c.connection: c.adapter for c in warehouse.connections()}
    for pair in config.counted_once:
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
