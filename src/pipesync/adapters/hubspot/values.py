"""HubSpot's property values, which are all text, as the model's: money, moments, calendar dates of the portal."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.arrays import TEXT, array, from_numpy, scalar, to_numpy

if TYPE_CHECKING:
    import numpy.typing as npt

_CENT = Decimal("0.01")
_MOST = Decimal(10) ** 16
_WHOLE = 2**63
_BLANK, _NOTHING = scalar("", TEXT), scalar(None, TEXT)
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_DAY = timedelta(days=1) // _TICK
_OURS = 216
"""Milliseconds of the due times that we write. HubSpot copies the earliest due time of a deal's tasks into the deal's
next activity date, where nothing else would tell our own task from a person's plans."""


def moment(text: str) -> datetime:
    """Read `2026-11-01T10:11:12.345Z` or milliseconds since 1970; HubSpot uses both. UTC; ValueError otherwise."""
    if text.lstrip("-").isdigit():
        try:
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        except OSError:  # which some platforms raise for what is too far away
            raise ValueError("not a moment") from None
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
    """Tell whether `from_day` made this moment; what is none, it did not."""
    try:
        return moment(text).microsecond == _OURS * 1000
    except (ValueError, OverflowError):
        return False


def money(text: str) -> Decimal:
    try:
        found = Decimal(text).quantize(_CENT)
    except InvalidOperation:
        raise ValueError("not a sum of money") from None
    if abs(found) >= _MOST:
        raise ValueError("more than a column of money has room for")
    return found


def whole(text: str) -> int:
    found = int(Decimal(text))
    if not -_WHOLE <= found < _WHOLE:
        raise ValueError("more than a column of whole numbers has room for")
    return found


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
        return whole(text)
    return float(text)


def column(texts: pa.Array, kind: pa.DataType, zone: str) -> tuple[pa.Array, list[int]]:
    """Return many values at once, and the positions of those that could not be read, which are blank.

    What Arrow reads by itself it reads; where it stumbles, each value is read alone.
    """
    given = pc.if_else(pc.equal(texts, _BLANK), _NOTHING, texts)
    if given.null_count == len(given):
        return pa.nulls(len(given), kind), []
    try:
        return _cast(given, kind, zone), []
    except (pa.ArrowInvalid, OverflowError):
        pass
    values, unread = [], []
    for n, text in enumerate(given.to_pylist()):
        try:
            values.append(typed(text, kind, zone))
        except (ValueError, OverflowError, ArithmeticError):
            values.append(None)
            unread.append(n)
    return array(values, kind), unread


def _cast(texts: pa.Array, kind: pa.DataType, zone: str) -> pa.Array:
    if pa.types.is_date(kind):
        return _days(_as_moments(texts), ZoneInfo(zone))
    return _as_moments(texts) if pa.types.is_timestamp(kind) else texts.cast(kind)


def _as_moments(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))


def _days(moments: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Return a zone's calendar dates. Clocks are asked once for each day, and within the days that change them."""
    of = pc.drop_null(moments)
    instants = to_numpy(of.view(pa.int64()), np.int64)
    days, place = np.unique(instants // _DAY, return_inverse=True)
    first, last = (_ahead(zone, (days + n) * _DAY) for n in (0, 1))
    ahead = first[place]
    changing = np.flatnonzero((first != last)[place])
    ahead[changing] = _ahead(zone, instants[changing])
    found = from_numpy(((instants + ahead) // _DAY).astype(np.int32)).view(pa.date32())
    if len(found) == len(moments):
        return found
    return pc.replace_with_mask(pa.nulls(len(moments), pa.date32()), moments.is_valid(), found)


def _ahead(zone: ZoneInfo, instants: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how far a zone's clocks are ahead of UTC; microseconds, all of them."""
    offsets = ((_EPOCH + n * _TICK).astimezone(zone).utcoffset() for n in instants.tolist())
    return np.fromiter(((offset or timedelta()) // _TICK for offset in offsets), np.int64, len(instants))


def moments(texts: pa.Array) -> pa.Array:
    """Return ISO times, or milliseconds since 1970, as naive UTC."""
    try:
        return _as_moments(texts)
    except pa.ArrowInvalid:
        return array([moment(t) for t in texts.to_pylist()], pa.timestamp("us"))


def past_texts(texts: pa.Array, kind: pa.DataType, zone: str) -> pa.Array:
    """Return past values as history writes them: dates ISO, money plain, times ISO with zone.

    What cannot be read is blank. Sums and dates are many, and Arrow reads them at once.
    """
    if pa.types.is_decimal(kind) or pa.types.is_date(kind):
        return column(texts, kind, zone)[0].cast(TEXT)
    return array([as_text(t, kind, zone) for t in texts.to_pylist()], TEXT)


def as_text(text: str | None, kind: pa.DataType, zone: str) -> str | None:
    if not text or not pa.types.is_timestamp(kind):
        return text or None
    try:
        return moment(text).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None
