"""Columns that are built without pandas hold what pyarrow's own way gives."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipesync.arrays import array, each, from_numpy, joined, no_rows, one_piece, scalar, to_numpy

MOMENT = datetime(2026, 11, 1, 10, 11, 12, 345678, tzinfo=timezone(timedelta(hours=2)))
TEXTS = pa.map_(pa.string(), pa.string())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "", "Zoë"], pa.string()),
        ([Decimal("1.5"), None, Decimal("-12345678901234.56"), Decimal("1E+2")], pa.decimal128(18, 2)),
        ([MOMENT, None, MOMENT.replace(tzinfo=None), datetime(1969, 1, 1, tzinfo=UTC)], pa.timestamp("us")),
        ([date(2026, 11, 1), None, date(1900, 2, 28)], pa.date32()),
        ([True, None, False], pa.bool_()),
        ([0, None, -(2**63), 2**63 - 1], pa.int64()),
        ([0.1, None, 1e-300, 5e20, 3], pa.float64()),
        ([{"a": "b", "c": None}, {}, None, [("x", "y")]], TEXTS),
    ],
)
def test_a_column_is_the_one_that_pyarrow_builds(values: list[Any], kind: pa.DataType) -> None:
    """Every kind of the model, blanks and both ends of its range."""
    plain = [list(v.items()) if isinstance(v, dict) else v for v in values]

    assert array(values, kind).equals(pa.array(plain, kind))
    assert array([], kind).equals(pa.array([], kind))


@pytest.mark.parametrize(
    ("value", "kind"), [(Decimal("1.005"), pa.decimal128(18, 2)), (2**63, pa.int64()), (0.5, pa.int64())]
)
def test_a_value_without_room_is_refused(value: Any, kind: pa.DataType) -> None:
    """Nothing is rounded or cut unasked."""
    with pytest.raises(pa.ArrowInvalid):
        array([value], kind)


def test_numbers_go_to_numpy_and_back() -> None:
    """Also a slice, and numbers that do not lie side by side."""
    column = from_numpy(np.arange(10, dtype=np.int64)[::2])

    assert column.to_pylist() == [0, 2, 4, 6, 8]
    assert to_numpy(column.slice(1, 3), np.int64).tolist() == [2, 4, 6]


def test_columns_are_joined_with_words() -> None:
    """A blank makes the whole blank."""
    ids = array(["1", None], pa.string())

    assert joined(ids, "stage", by=":").to_pylist() == ["1:stage", None]


def test_what_has_no_rows_keeps_its_columns() -> None:
    """A table without rows, and a column without chunks."""
    kinds = pa.schema([("id", pa.string()), ("custom", TEXTS)])

    assert no_rows(kinds).equals(kinds.empty_table())
    assert one_piece(pa.chunked_array([], pa.string())).equals(pa.array([], pa.string()))
    assert scalar(None, pa.date32()).as_py() is None


def test_a_function_is_asked_once_for_each_text() -> None:
    """Nulls are not asked about, and what it returns may be null."""
    asked: list[str] = []

    def function(text: str) -> str | None:
        asked.append(text)
        return None if text == "b" else text.upper()

    found = each(array(["a", None, "b", "a"], pa.string()), function)

    assert (found.to_pylist(), asked) == (["A", None, None, "A"], ["a", "b"])
    assert each(array([None, None], pa.string()), function).to_pylist() == [None, None]
