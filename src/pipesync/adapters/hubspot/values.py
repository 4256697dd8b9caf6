"""HubSpot's property values, which are all text, as the model's: money, moments, calendar dates of the portal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipesync.arrays import TEXT, array

_CENT = Decimal("0.01")
_OURS = 216
"""Milliseconds of the due times that we write. HubSpot copies the earliest due time of a deal's tasks into the deal's
next activity date, where nothing else would tell our own task from a person's plans."""


def moment(text: str) -> datetime:
    """Read `2026-11-01T10:11:12.345Z` or milliseconds since 1970; HubSpot uses both. UTC; ValueError otherwise."""
    if text.lstrip("-").isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


@lru_cache(maxsize=65536)
def day(text: str, zone: str) -> date:
    """Return the portal's calendar date: a close date is kept as a moment, near midnight of somewhere."""
    if len(text) == 10 and text[4] == "-":
        return date.fromisoformat(text)
    return moment(text).astimezone(ZoneInfo(zone)).date()


def from_day(value: date, zone: str) -> str:
    """Return a moment of ours that is this date in the portal: its noon, which no zone's clock change touches."""
    noon = datetime.combine(value, time(12), ZoneInfo(zone))
    return noon.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{_OURS}Z"


def is_ours(text: str) -> bool:
    """Tell whether `from_day` made this moment."""
    return moment(text).microsecond == _OURS * 1000


def money(text: str) -> Decimal:
    try:
        return Decimal(text).quantize(_CENT)
    except InvalidOperation:
        raise ValueError("not a sum of money") from None


def typed(text: str | None, kind: pa.DataType, zone: str) -> Any:
    """Return a property's value as the column's type; None for a blank. ValueError where it does not fit."""
    if text is None or text == "":
        return None
    if pa.types.is_string(kind):
        return text
    if pa.types.is_timestamp(kind):
        return moment(text).replace(tzinfo=None)
    if pa.types.is_date(kind):
        return day(text, zone)
    if pa.types.is_decimal(kind):
        return money(text)
    if pa.types.is_boolean(kind):
        return text.casefold() == "true"
    if pa.types.is_integer(kind):
        return int(Decimal(text))
    return float(text)


def column(texts: Sequence[str | None], kind: pa.DataType, zone: str) -> tuple[pa.Array, list[int]]:
    """Return many values at once, and the positions of those that could not be read, which are blank.

    What Arrow reads by itself it reads; where it stumbles, and for dates, each value is read alone.
    """
    given = [text or None for text in texts]
    if not pa.types.is_date(kind):
        try:
            return _cast(given, kind), []
        except pa.ArrowInvalid:
            pass
    values, unread = [], []
    for n, text in enumerate(given):
        try:
            values.append(typed(text, kind, zone))
        except (ValueError, OverflowError, ArithmeticError):
            values.append(None)
            unread.append(n)
    return array(values, kind), unread


def _cast(texts: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    found = array(texts, TEXT)
    return _as_moments(found) if pa.types.is_timestamp(kind) else found.cast(kind)


def _as_moments(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))


def moments(texts: pa.Array) -> pa.Array:
    """Return ISO times, or milliseconds since 1970, as naive UTC."""
    try:
        return _as_moments(texts)
    except pa.ArrowInvalid:
        return array([moment(t) for t in texts.to_pylist()], pa.timestamp("us"))


def as_text(text: str | None, kind: pa.DataType, zone: str) -> str | None:
    """Return a past value as history writes it: dates ISO, money plain, times ISO with zone."""
    if text is None or text == "":
        return None
    if pa.types.is_decimal(kind):
        return str(money(text))
    if pa.types.is_date(kind):
        return day(text, zone).isoformat()
    if pa.types.is_timestamp(kind):
        return moment(text).isoformat().replace("+00:00", "Z")
    return text
