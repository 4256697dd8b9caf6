"""Records as columns: REST's JSON and Bulk's CSV become the same table of texts, and that the normalized columns.

One way for both, so that a row means the same however it arrived. A record that cannot be read is set aside with the
reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Reject
from pipesync.arrays import FALSE, TEXT, array, from_numpy, joined, one_piece, scalar
from pipesync.mapping import FieldMapping
from pipesync.schema import schema

Json = dict[str, Any]
_WIDE = pa.decimal128(38, 10)
_BASE62 = np.zeros(256, dtype=np.int64)
for _value, _character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"):
    _BASE62[ord(_character)] = _value
_TRUE, _TEN, _HUNDRED = scalar("true", TEXT), scalar(10, pa.int32()), scalar(100, pa.float64())


def raw_table(rows: Sequence[Json], paths: Sequence[str]) -> pa.Table:
    """Return JSON records as columns of text, named by their paths (`Owner.Name`)."""
    columns = [array([_text(at_path(row, path)) for row in rows], TEXT) for path in paths]
    return pa.Table.from_arrays(columns, names=list(paths))


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def at_path(row: Json, path: str) -> Any:
    """Return a field of a record, through its related records; None where one of them is missing."""
    if "." not in path:
        return row.get(path)
    value: Any = row
    for step in path.split("."):
        if value is None:
            return None
        value = value.get(step)
    return value


def parse_time(text: str) -> datetime:
    """Read `2026-01-04T11:19:00.000+0000` (REST) and `...Z` (Bulk)."""
    return datetime.fromisoformat(text).astimezone(UTC)


def column(raw: pa.Table, path: str) -> pa.Array:
    """Return a column of texts; all null where the table has none of that name."""
    if path not in raw.schema.names:
        return pa.nulls(len(raw), TEXT)
    return one_piece(raw[path])


def is_true(raw: pa.Table, path: str) -> pa.Array:
    return pc.fill_null(pc.equal(column(raw, path), _TRUE), FALSE)


def translated(texts: pa.Array, words: Mapping[str, str]) -> pa.Array:
    """Replace the words that the mapping knows; others stay as they are."""
    if not words:
        return texts
    at = pc.index_in(texts, value_set=array(list(words), TEXT))
    return pc.coalesce(array(list(words.values()), TEXT).take(at), texts)


def typed(texts: pa.Array, kind: pa.DataType, *, is_share: bool = False) -> pa.Array:
    """Return texts as the column's type; pa.ArrowInvalid where one of them is none. Percents become shares if asked."""
    if pa.types.is_decimal(kind):
        return pc.round(texts.cast(_WIDE), 2).cast(kind)
    if pa.types.is_timestamp(kind):
        # A date alone is the start of its day.
        moments = pc.if_else(pc.equal(pc.utf8_length(texts), _TEN), joined(texts, "Z", by="T00:00:00"), texts)
        return moments.cast(pa.timestamp("us", "UTC")).cast(kind)
    if pa.types.is_date(kind):
        return pc.utf8_slice_codeunits(texts, 0, 10).cast(kind)
    if pa.types.is_integer(kind):
        return texts.cast(pa.float64()).cast(kind, safe=False)
    if pa.types.is_floating(kind):
        numbers = texts.cast(kind)
        return pc.divide(numbers, _HUNDRED) if is_share else numbers
    return texts.cast(kind)


def normalized(
    raw: pa.Table, stream: str, fields: Mapping[str, FieldMapping], visible: Sequence[str]
) -> tuple[pa.Table, list[Reject]]:
    """Return the mapped columns, and the records that could not be read."""
    kinds = {f.name: f.type for f in schema(stream)}
    rejects: list[Reject] = []
    while True:
        try:
            columns = [_normal(raw, fields[c], kinds[c], is_share=c == "probability") for c in visible]
            return pa.Table.from_arrays(columns, schema=pa.schema([(c, kinds[c]) for c in visible])), rejects
        except pa.ArrowInvalid:
            raw, bad = _sound(raw, fields, kinds, visible)
            if not bad:
                raise
            rejects += bad


def _normal(raw: pa.Table, mapped: FieldMapping, kind: pa.DataType, *, is_share: bool) -> pa.Array:
    return typed(translated(column(raw, mapped.field), mapped.values), kind, is_share=is_share)


def _sound(
    raw: pa.Table,
    fields: Mapping[str, FieldMapping],
    kinds: Mapping[str, pa.DataType],
    visible: Sequence[str],
) -> tuple[pa.Table, list[Reject]]:
    """Return the records that can be read, and what is wrong with the others: one by one."""
    bad: dict[int, Reject] = {}
    for name in visible:
        texts = translated(column(raw, fields[name].field), fields[name].values)
        for i in range(len(texts)):
            try:
                typed(texts.slice(i, 1), kinds[name])
            except pa.ArrowInvalid:
                where = str(column(raw, "Id")[i].as_py() or "")
                bad[i] = Reject(where, f"{fields[name].field} is not a {kinds[name]}")
    kept = array([i not in bad for i in range(len(raw))], pa.bool_())
    return raw.filter(kept), list(bad.values())


def sequences(ids: pa.Array) -> pa.Array:
    """Return numbers that grow as ids do: the order of records of the same moment."""
    if not len(ids):
        return pa.nulls(0, pa.int64())
    characters = np.array(ids.to_pylist(), dtype="S18").view(np.uint8).reshape(len(ids), 18)[:, 6:15]
    powers = 62 ** np.arange(8, -1, -1, dtype=np.int64)
    return from_numpy(_BASE62[characters] @ powers)


def custom(raw: pa.Table, fields: Mapping[str, str]) -> pa.Array:
    """Return a site's own fields as a map from name to text."""
    n, names = len(raw), list(fields)
    columns = [column(raw, path) for path in fields.values()]
    order = np.arange(n * len(names)).reshape(len(names), n).T.ravel()
    items = pa.concat_arrays(columns).take(from_numpy(order))
    keys = array(names * n, TEXT)
    offsets = from_numpy(np.arange(n + 1, dtype=np.int32) * len(names))
    return pa.MapArray.from_arrays(offsets, keys, items)
