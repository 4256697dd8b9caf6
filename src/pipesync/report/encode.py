"""How values leave the program: one JSON document, or CSV that a spreadsheet cannot be tricked by.

Money is a JSON number rounded to cents: exact below 90 trillion, and what every consumer's parser expects.
Times are ISO with `Z`, dates ISO, unknown and blank are null, and no number is NaN.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

_SAID_AS_THEY_ARE = frozenset({int, bool, type(None)})
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def plain(value: Any) -> Any:  # Any: whatever a document holds, to JSON's own types
    """Turn a value, and what it holds, into JSON's own types."""
    if isinstance(value, BaseModel):
        return {name: plain(item) for name, item in value}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return round(float(value), 2)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # numpy's scalars
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def moment(value: datetime) -> str:
    if value.tzinfo is None:
        return f"{value.isoformat(timespec='seconds')}Z"
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def to_json(document: Mapping[str, Any]) -> str:
    """Write a document; what orjson knows by itself, numbers that are none included, never passes through Python."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(document, default=_unknown_to_orjson, option=option).decode()


def _unknown_to_orjson(value: Any) -> Any:  # Any: as for `plain`
    made = plain(value)
    if made is value:
        raise TypeError(f"a {type(value).__name__} has no place in a document")
    return made


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write rows as CSV; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return out.getvalue()


def _cell(given: Any) -> Any:  # Any: whatever a row holds, to what a CSV says
    # Nearly all are one of these, and there may be millions of them.
    kind = type(given)
    if kind in _SAID_AS_THEY_ARE:
        return given
    if kind is float:
        return given if math.isfinite(given) else None
    value = given if kind is str else moment(given) if kind is datetime else plain(given)
    if isinstance(value, str):
        # A lone carriage return would end the row for some readers.
        text = value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value
        return "'" + text if text.startswith(_FORMULA) else text
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode()
    return value
