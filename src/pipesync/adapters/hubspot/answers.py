"""Answers full of records as columns: Arrow reads their bytes, and no record becomes an object of Python's.

Deals come with their histories, thirty entries each: read by way of dictionaries, they took four times the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
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
_LINKS = pa.struct([("results", pa.list_(pa.struct([("id", TEXT), ("type", TEXT)])))])


class Answer(NamedTuple):
    """One page."""

    records: pa.Table
    """`id`, and with a field for each thing that is wanted `properties`, `propertiesWithHistory`, `associations`."""
    after: str | None
    """Where the next page starts; None behind the last."""


def form(wanted: Wanted) -> pa.DataType:
    """Return the Arrow type of an answer, as far as it is read."""
    record = [
        ("id", TEXT),
        ("properties", pa.struct([(n, TEXT) for n in wanted.properties])),
        ("propertiesWithHistory", pa.struct([(n, _ENTRIES) for n in wanted.history])),
        ("associations", pa.struct([(n, _LINKS) for n in wanted.associations])),
    ]
    paging = pa.struct([("next", pa.struct([("after", TEXT)]))])
    return pa.struct([("results", pa.list_(pa.struct(record))), ("paging", paging)])


def answer(content: bytes, wanted: Wanted) -> Answer:
    """Read an answer. JSONDecodeError where it broke off, another ValueError or TypeError where its form is odd."""
    kind = form(wanted)
    try:
        found = _read(content, kind)
    except ValueError:  # maybe JSON all the same: of more than one line, or with numbers for texts
        found = _read(orjson.dumps(_fitted(parsed(content), kind)), kind)
    after = found.column("paging").combine_chunks().field("next").field("after")
    results = one_piece(found.column("results")).flatten()
    records = pa.Table.from_arrays(results.flatten(), schema=pa.schema(list(results.type)))
    if records["id"].null_count or (wanted.properties and records["properties"].null_count):
        raise ValueError("a record without id or properties")
    return Answer(records, after[0].as_py())


def listed(api: Api, wanted: Wanted, *, after: str | None = None) -> Iterator[Answer]:
    """Yield pages of all records in the order of their ids, from `after` on."""
    ids = Wanted(wanted.kind, associations=wanted.associations)
    read_as = partial(answer, wanted=ids if is_long(wanted) else wanted)
    while True:
        page = api.get_as(read_as, api.paths.objects(wanted.kind), **listing(wanted, after))
        after = page.after
        if is_long(wanted):
            records = read(api, wanted, page.records["id"].to_pylist())
            links = page.records["associations"].take(
                pc.index_in(records["id"], one_piece(page.records["id"]))
            )
            place = records.schema.get_field_index("associations")
            page = Answer(records.set_column(place, "associations", links), after)
        yield page
        if after is None:
            return


def read(api: Api, wanted: Wanted, ids: Iterable[str]) -> pa.Table:
    """Return the records of these ids that exist and are not archived, as those of an `Answer`."""
    read_as = partial(answer, wanted=wanted)
    path = api.paths.objects(wanted.kind, "/batch/read")
    pages = [api.ask_as(read_as, path, those(some, wanted)) for some in batches(ids, size_of_batch(wanted))]
    return pa.concat_tables([page.records for page in pages]) if pages else records_of([], wanted)


def records_of(records: list[Json], wanted: Wanted) -> pa.Table:
    """Return records that are objects already as columns."""
    return answer(orjson.dumps({"results": records}), wanted).records


def _read(content: bytes, kind: pa.DataType) -> pa.Table:
    content.isascii() or content.decode()  # Arrow takes texts as they come, and DuckDB does not
    found = read_json(
        pa.py_buffer(content),
        ReadOptions(use_threads=False, block_size=len(content) + 1),
        ParseOptions(explicit_schema=pa.schema(list(kind)), unexpected_field_behavior="ignore"),
    )
    if len(found) != 1:
        raise ValueError("not one answer")
    return found


def _fitted(value: Any, kind: pa.DataType) -> Any:  # Any: JSON
    """Return JSON of which Arrow can read this kind; what another kind stands for is left to the caller's caller."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {f.name: _fitted(value.get(f.name), f.type) for f in kind}
    if pa.types.is_list(kind):
        return [_fitted(v, kind.value_type) for v in value]
    if pa.types.is_integer(kind):
        return int(value)
    if isinstance(value, (dict, list)):
        raise TypeError("an object for a text")
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def pieces(records: pa.Table) -> Iterator[pa.Table]:
    """Yield records some at a time, each column in one piece: for long ones memory would be fetched anew each time."""
    for start in range(0, len(records), _PIECE):
        yield records.slice(start, _PIECE).combine_chunks()


def field(records: pa.Table, of: str, name: str) -> pa.Array:
    """Return one of the things that are wanted, in one piece; nulls where it was not wanted."""
    column = one_piece(records.column(of))
    at = column.type.get_field_index(name)
    return column.flatten()[at] if at >= 0 else pa.nulls(len(column), TEXT)


def past(records: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], pa.StructArray]:
    """Return the history of one property: where each record's ends, from the first's beginning on, and its entries."""
    lists = field(records, "propertiesWithHistory", name)
    if not pa.types.is_list(lists.type):
        return np.zeros(len(records) + 1, np.int32), pa.nulls(0, _ENTRIES.value_type)
    if lists.values.field("timestamp").null_count:
        raise ValueError("an entry of a history without its time")
    return to_numpy(lists.offsets, np.int32), lists.values


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
