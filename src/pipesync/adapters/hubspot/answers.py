"""Answers full of records as columns: Arrow reads their bytes, and no record becomes an object of Python's.

Deals come with their histories, thirty entries each: by way of dictionaries, 150,000 entries took twice the CPU and
90 MB more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.json import ParseOptions, ReadOptions, read_json

from pipesync.adapters.hubspot.api import Api, Json, parsed
from pipesync.adapters.hubspot.reading import (
    Link,
    Wanted,
    batches,
    is_long,
    linked,
    links_of,
    listing,
    size_of_batch,
    those,
)
from pipesync.arrays import TEXT, one_piece, to_numpy

if TYPE_CHECKING:
    import numpy.typing as npt

_ENTRIES = pa.list_(
    pa.struct([("value", TEXT), ("timestamp", TEXT), ("updatedByUserId", pa.int64()), ("sourceId", TEXT)])
)
_PIECE = 1000
"""Records whose columns are worked on at once."""
_PAGING = pa.struct([("next", pa.struct([("after", TEXT)]))])
_LINKS = pa.struct([("results", pa.list_(pa.struct([("id", TEXT), ("type", TEXT)]))), ("paging", _PAGING)])


class Answer(NamedTuple):
    """One page."""

    records: pa.StructArray
    """As they came; `together` makes columns of many pages'."""
    after: str | None
    """Where the next page starts; None behind the last."""


@cache
def form(wanted: Wanted) -> pa.Schema:
    """Return the form of an answer, as far as it is read."""
    record = [
        ("id", TEXT),
        ("properties", pa.struct([(n, TEXT) for n in wanted.properties])),
        ("propertiesWithHistory", pa.struct([(n, _ENTRIES) for n in wanted.history])),
        ("associations", pa.struct([(n, _LINKS) for n in wanted.associations])),
    ]
    return pa.schema([("results", pa.list_(pa.struct(record))), ("paging", _PAGING)])


def answer(content: bytes, wanted: Wanted) -> Answer:
    """Read an answer. JSONDecodeError where it broke off, another ValueError or TypeError where its form is odd."""
    kind = form(wanted)
    try:
        found = _read(content, kind)
    except ValueError:  # maybe JSON all the same: of more than one line, or with numbers for texts
        found = _read(orjson.dumps(_fitted(parsed(content), pa.struct(list(kind)))), kind)
    results, paging = (column.chunk(0) for column in found.columns)
    if results.null_count:  # nothing where a list belongs is not an empty one: a listing would end there
        raise ValueError("an answer without results")
    return Answer(results.values, paging.field(0).field(0)[0].as_py())


def together(parts: Sequence[pa.StructArray]) -> pa.Table:
    """Return the records of several pages as columns, each page in a piece of its own.

    These are `id`, and with a field for each thing that is wanted `properties`, `propertiesWithHistory` and
    `associations`.
    """
    kind = pa.schema(list(parts[0].type))
    found = pa.Table.from_batches(pa.RecordBatch.from_arrays(part.flatten(), schema=kind) for part in parts)
    if found["id"].null_count or found["properties"].null_count:
        raise ValueError("a record without id or properties")
    return found


def records_of(found: list[Json], wanted: Wanted) -> pa.Table:
    """Return records that are objects already as those of an answer."""
    return together([answer(orjson.dumps({"results": found}), wanted).records])


def listed(api: Api, wanted: Wanted, *, after: str | None = None) -> Iterator[Answer]:
    """Yield pages of all records in the order of their ids, from `after` on."""
    ids = Wanted(wanted.kind, associations=wanted.associations)
    read_as = partial(answer, wanted=ids if is_long(wanted) else wanted)
    while True:
        page = api.get_as(read_as, api.paths.objects(wanted.kind), **listing(wanted, after))
        after = page.after
        yield page
        if after is None:
            return


def completed(api: Api, wanted: Wanted, found: pa.Table) -> pa.Table:
    """Return listed records with all that is wanted, which an address may have had no room for."""
    if not is_long(wanted):
        return found
    whole = read(api, wanted, found["id"].to_pylist())
    links = found["associations"].take(pc.index_in(one_piece(whole["id"]), one_piece(found["id"])))
    return whole.set_column(whole.schema.get_field_index("associations"), "associations", links)


def read(api: Api, wanted: Wanted, ids: Iterable[str]) -> pa.Table:
    """Return the records of these ids that exist and are not archived."""
    read_as = partial(answer, wanted=wanted)
    path = api.paths.objects(wanted.kind, "/batch/read")
    pages = [api.ask_as(read_as, path, those(some, wanted)) for some in batches(ids, size_of_batch(wanted))]
    return together([page.records for page in pages]) if pages else records_of([], wanted)


def _read(content: bytes, kind: pa.Schema) -> pa.Table:
    content.isascii() or content.decode()  # Arrow takes texts as they come, and DuckDB does not
    found = read_json(
        pa.py_buffer(content),
        ReadOptions(use_threads=False, block_size=len(content) + 1),
        ParseOptions(explicit_schema=kind, unexpected_field_behavior="ignore"),
    )
    if len(found) != 1:
        raise ValueError("not one answer")
    return found


def _fitted(value: Any, kind: pa.DataType) -> Any:  # Any: JSON
    """Return JSON as Arrow reads it as this kind; TypeError, ValueError or AttributeError where it is another."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {f.name: _fitted(value.get(f.name), f.type) for f in kind}
    if pa.types.is_list(kind):
        return [_fitted(v, kind.value_type) for v in value]
    if pa.types.is_integer(kind):
        return int(value) if str(value).isdigit() else None
    if isinstance(value, (dict, list)):
        raise TypeError("an object for a text")
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def pieces(records: pa.Table) -> Iterator[pa.Table]:
    """Yield records some at a time, each column in one piece: for long ones memory would be fetched anew each time."""
    for start in range(0, len(records), _PIECE):
        yield records.slice(start, _PIECE).combine_chunks()


def field(records: pa.Table, of: str, name: str) -> pa.Array:
    """Return one of the things that are wanted, in one piece; nulls where it was not wanted."""
    column = records.column(of)
    at = column.type.get_field_index(name)
    return one_piece(pc.struct_field(column, [at])) if at >= 0 else pa.nulls(len(column), TEXT)


def past(records: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], pa.StructArray]:
    """Return the history of one property: where each record's ends, from the first's beginning on, and its entries."""
    lists = field(records, "propertiesWithHistory", name)
    if not pa.types.is_list(lists.type):
        return np.zeros(len(records) + 1, np.int32), pa.nulls(0, _ENTRIES.value_type)
    if lists.values.field("timestamp").null_count:
        raise ValueError("an entry of a history without its time")
    return to_numpy(lists.offsets, np.int32), lists.values


def all_links(api: Api, kind: str, records: pa.Table, to: str) -> dict[str, list[Link]]:
    """Return all associations of listed records, by record: those that came, and for more than a page all anew."""
    told = field(records, "associations", to)
    if not pa.types.is_struct(told.type):
        return {}
    goes_on = pc.is_valid(pc.struct_field(told, [1, 0, 0]))
    more = one_piece(records["id"]).filter(goes_on).to_pylist()
    return inline_links(records, to) | linked(api, kind, to, more)


def inline_links(records: pa.Table, to: str) -> dict[str, list[Link]]:
    """Return the associations that came with listed records, by record; see `reading.inline_links`."""
    told = field(records, "associations", to)
    if not pa.types.is_struct(told.type):
        return {}
    lists = told.flatten()[0]
    ends, one = lists.offsets.to_pylist(), lists.values
    pairs = list(
        zip(one.field("id").to_pylist(), (k or "" for k in one.field("type").to_pylist()), strict=True)
    )
    return {
        i: links_of(pairs[start:end], "deal")
        for i, start, end in zip(records["id"].to_pylist(), ends, ends[1:], strict=False)
    }
