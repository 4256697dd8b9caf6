"""Columns of text as columns of facts, and which cells could not be read.

Each parser takes a whole column: Arrow's own conversion first, which either reads all of it or says no, and value
by value only then. `bad` marks cells that are filled and mean nothing; a blank cell is never bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from pipesync.mapping import Outcome
from pipesync.model import Category

MONEY = pa.decimal128(18, 2)
TIME = pa.timestamp("us")
_EARLIEST, _LATEST = datetime(1900, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001  # naive UTC, as columns are
_CENT = Decimal("0.01")
_TRUE, _FALSE = {"true", "t", "yes", "y", "1", "1.0"}, {"false", "f", "no", "n", "0", "0.0"}


class Parsed(NamedTuple):
    values: pa.Array
    bad: pa.Array
    """Boolean, true where a filled cell could not be read."""
    reason: str
    """What is wrong with the bad cells, without their content."""


@dataclass(frozen=True)
class Clock:
    """How a dataset writes times: the zone of those without one, and formats beside ISO 8601."""

    zone: ZoneInfo
    formats: tuple[str, ...] = ()


def parse(column: pa.Array, name: str, kind: pa.DataType, clock: Clock) -> Parsed:
    """Read a column of text as the normalized field `name` of Arrow type `kind`."""
    column = pc.utf8_trim_whitespace(column)
    column = pc.if_else(pc.equal(column, ""), None, column)
    if name in _CHOICES:
        allowed = _CHOICES[name]
        reason = f"{name} is none of {', '.join(allowed)}; map it under `values:`"
        words = {_word(a): a for a in allowed}
        return _each(column, lambda text: words[_word(text)], pa.string(), reason)
    if pa.types.is_string(kind):
        return Parsed(column, pa.repeat(pa.scalar(False), len(column)), "")
    if name in ("probability", "discount_pct"):
        return _each(column, _share if name == "probability" else _percent, kind, _SHARE_REASONS[name])
    if kind == MONEY:
        return _fast(column, kind) or _each(
            column, _money, kind, f"{name} is not a sum of money; write 1234.50"
        )
    if kind == TIME:
        return _times(column, name, clock)
    if pa.types.is_date(kind):
        reason = f"{name} is not a date; write 2026-11-23"
        quick = _fast(column, kind)
        if quick is None:
            return _each(column, lambda text: _date(text, clock), kind, reason)
        return _in_range(quick._replace(reason=reason), column)
    if pa.types.is_boolean(kind):
        return _each(column, _boolean, kind, f"{name} is neither true nor false")
    convert = _whole if pa.types.is_integer(kind) else _number
    return _each(column, convert, kind, f"{name} is not a number")


def _fast(column: pa.Array, kind: pa.DataType) -> Parsed | None:
    try:
        return Parsed(column.cast(kind), pa.repeat(pa.scalar(False), len(column)), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _each(column: pa.Array, convert: Callable[[str], Any], kind: pa.DataType, reason: str) -> Parsed:
    """Convert each distinct value once."""
    encoded = column.dictionary_encode()
    meant = []
    for text in encoded.dictionary.to_pylist():
        try:
            meant.append(convert(text))
        except (ValueError, KeyError, OverflowError, InvalidOperation):
            meant.append(None)
    values = pa.array(meant, type=kind).take(encoded.indices)
    return Parsed(values, pc.and_(column.is_valid(), values.is_null()), reason)


# --- Times ------------------------------------------------------------------------------------------------------


def _times(column: pa.Array, name: str, clock: Clock) -> Parsed:
    """Naive UTC. A time without a zone is the dataset's; a date alone is its first moment there."""
    reason = f"{name} is not a time; write 2026-11-23T08:00:00Z"
    for kind in (pa.timestamp("us", "UTC"), TIME):
        quick = _fast(column, kind)
        if quick is None or (kind == TIME and clock.zone.key != "UTC"):
            continue
        return _in_range(Parsed(quick.values.cast(TIME), quick.bad, reason), column)
    return _each(column, lambda text: _moment(text, clock), TIME, reason)


def _in_range(parsed: Parsed, column: pa.Array) -> Parsed:
    """A year 1 or 9999 is some program's word for "none", never a fact."""
    low, high = (pa.scalar(m).cast(parsed.values.type) for m in (_EARLIEST, _LATEST))
    fits = pc.and_(pc.greater_equal(parsed.values, low), pc.less(parsed.values, high))
    values = pc.if_else(pc.fill_null(fits, False), parsed.values, None)
    return Parsed(values, pc.and_(column.is_valid(), values.is_null()), parsed.reason)


def _moment(text: str, clock: Clock) -> datetime:
    moment = _written(text, clock)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=clock.zone)
    moment = moment.astimezone(UTC).replace(tzinfo=None)
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError("out of range")
    return moment


def _written(text: str, clock: Clock) -> datetime:
    for form in clock.formats:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007  # the zone is added by the caller
        except ValueError:
            continue
    if text.isdigit():  # fromisoformat reads 20261123 and even 2026327
        raise ValueError("a bare number")
    return datetime.fromisoformat(text)


def _date(text: str, clock: Clock) -> date:
    """Return the calendar date; of a time with a zone, the date that it is in the dataset's zone."""
    moment = _written(text, clock)
    if moment.tzinfo is not None:
        moment = moment.astimezone(clock.zone).replace(tzinfo=None)
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError("out of range")
    return moment.date()


# --- Numbers and words ------------------------------------------------------------------------------------------


def _money(text: str) -> Decimal:
    amount = Decimal(text).quantize(_CENT, rounding=ROUND_HALF_UP)
    if not amount.is_finite() or abs(amount) >= Decimal(10) ** 16:
        raise ValueError("out of range")
    return amount


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError("not a number")
    return value


def _whole(text: str) -> int:
    value = _number(text)
    if value != int(value) or abs(value) >= 2**63:
        raise ValueError("not whole")
    return int(value)


def _share(text: str) -> float:
    value = _number(text[:-1]) / 100 if text.endswith("%") else _number(text)
    if not 0 <= value <= 1:
        raise ValueError("no share")
    return value


def _percent(text: str) -> float:
    return _number(text.removesuffix("%"))


def _boolean(text: str) -> bool:
    word = text.casefold()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither")
    return word in _TRUE


_SHARE_REASONS = {
    "probability": "probability is not a share from 0 to 1; write 0.35 or 35%",
    "discount_pct": "discount_pct is not a number",
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "outcome": get_args(Outcome),
    "forecast_category": get_args(Category),
    "direction": ("in", "out", "both"),
}


def _word(text: str) -> str:
    """`Best Case`, `best-case` and `BEST_CASE` are one word."""
    return text.strip().casefold().replace(" ", "_").replace("-", "_")
