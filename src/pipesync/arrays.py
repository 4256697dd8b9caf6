"""Arrow arrays from plain values, without pandas.

`pyarrow.array`, `pyarrow.scalar` and `to_numpy` import pandas at their first call, to see whether they were given a
Series. That costs 0.3 s and 46 MB, and a pull has no Series. What is on a pull's way builds its columns here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

TEXT = pa.string()


def texts(values: Iterable[str | None]) -> pa.Array:
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:  # Any: plain values of this kind
    """Return a column; None is null, an aware time becomes naive UTC. ArrowInvalid where a value has no room."""
    if kind == TEXT:
        return texts(values)
    if pa.types.is_map(kind):
        return _maps(values, kind)
    return texts(None if v is None else _written(v, kind) for v in values).cast(kind)


def scalar(value: Any, kind: pa.DataType) -> pa.Scalar:  # Any: a plain value of this kind
    return array([value], kind)[0]


def no_rows(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)


def joined(*parts: pa.Array | str, by: str) -> pa.Array:
    """Join columns, and words that stand in every row, row by row; null where one of them is."""
    given = [scalar(p, TEXT) if isinstance(p, str) else p for p in parts]
    return pc.binary_join_element_wise(*given, scalar(by, TEXT))


def each(column: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """Return a function's results for a column of texts, asked once for each that stands there; null of a null."""
    return for_each(column, lambda found: texts(map(function, found.to_pylist())))


def for_each(column: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Likewise of a function that takes all the texts that stand there at once, without a null among them."""
    if column.null_count == len(column):
        return column
    told = column.dictionary_encode()
    return function(told.dictionary).take(told.indices)


def one_piece(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)


def from_numpy(values: npt.NDArray[Any]) -> pa.Array:  # Any: whole numbers, of whatever size
    """Return numbers as a column over the same memory."""
    kept = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(kept.dtype), len(kept), [None, pa.py_buffer(kept)])


def to_numpy(column: pa.Array, kind: npt.DTypeLike) -> npt.NDArray[Any]:  # Any: numbers, as `kind` says
    """Return numbers of 8 to 64 bits without nulls, over the same memory."""
    found: npt.NDArray[Any] = np.frombuffer(column.buffers()[1], kind)[column.offset :][: len(column)]
    return found


def _written(value: Any, kind: pa.DataType) -> str:
    """Return a value as the text that Arrow reads as this kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if pa.types.is_date(kind):
            return value.date().isoformat()
        return (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def _maps(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return maps given as dicts or as pairs."""
    some = values if any(values) else ()  # most sites have no fields of their own
    pairs = [[] if v is None else list(v.items()) if isinstance(v, dict) else list(v) for v in some]
    ends = np.zeros(len(values) + 1, np.int32)
    ends[1 : len(pairs) + 1] = np.cumsum([len(p) for p in pairs])
    found = pa.MapArray.from_arrays(
        from_numpy(ends),
        array([k for some in pairs for k, _ in some], kind.key_type),
        array([v for some in pairs for _, v in some], kind.item_type),
    )
    if None not in values:
        return found
    return pc.if_else(array([v is not None for v in values], pa.bool_()), found, pa.nulls(1, kind)[0])


TRUE, FALSE = array([True, False], pa.bool_())
