"""Pages by keyset: every query says where it begins, so that a lost locator or session costs one page.

    WHERE (SystemModstamp = :at AND Id > :id) OR SystemModstamp > :at ORDER BY SystemModstamp, Id

A change becomes visible some time after its SystemModstamp says, hence the look-back; the upper bound is the org's own
time at the start. Deleted rows come with `queryAll` while they are in the recycle bin; those that left
it, or were merged into others, are told by `getDeleted` alone, for 15 days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from pipesync.adapters.salesforce.api import Api, Json, Restart, Shrink
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.mapping import FieldMapping
from pipesync.schema import schema

_SMALLEST = 50
_TOLD_FOR = timedelta(days=14)
"""How long `getDeleted` is relied on: it knows 15 days, less what a run may take."""
_UNTOLD = ("INVALID_REPLICATION_DATE", "EXCEEDED_ID_LIMIT")
_BASE62 = {c: i for i, c in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")}


@dataclass(frozen=True)
class Key:
    """The last row that was read: its time and id. No id: everything from the time on."""

    at: str | None = None
    id: str = ""

    def text(self) -> str:
        return orjson.dumps({"at": self.at, "id": self.id}).decode()

    @classmethod
    def read(cls, cursor: str | None) -> Key:
        if cursor is None:
            return cls()
        told = orjson.loads(cursor)
        return cls(told["at"], told["id"])

    def back(self, span: timedelta) -> Key:
        if self.at is None:
            return self
        return Key(soql_time(parse_time(self.at) - span))


@dataclass(frozen=True)
class Batch:
    """Rows of one page, and the key of the last of them."""

    rows: list[Json]
    key: Key
    requests: int
    is_last: bool
    gone: tuple[str, ...] = ()
    """Ids that vanished without leaving a row."""

    @property
    def deleted(self) -> tuple[str, ...]:
        return (*self.gone, *(r["Id"] for r in self.rows if r.get("IsDeleted")))


def batches(
    api: Api,
    entity: str,
    columns: Sequence[str],
    start: Key,
    until: datetime,
    *,
    by: str = "SystemModstamp",
    where: str = "",
    deleted: bool = False,
    size: int = 2000,
) -> Iterator[Batch]:
    """Yield an object's rows after `start`, up to `until`, in the order of `by` and Id; at least one batch."""
    wanted = list(dict.fromkeys(["Id", by, *(["IsDeleted"] if deleted else []), *columns]))
    key = start
    while True:
        before = api.requests
        try:
            rows, is_whole = _page(api, _soql(entity, wanted, key, until, by, where, size), deleted=deleted)
        except Shrink:
            if size <= _SMALLEST:
                raise
            size //= 4
            continue
        if rows:
            key = Key(rows[-1][by], rows[-1]["Id"])
        is_last = is_whole and len(rows) < size
        yield Batch(rows, key, api.requests - before, is_last)
        if is_last:
            return


def vanished(
    api: Api, entity: str, cursor: Key, look_back: timedelta, until: datetime
) -> tuple[str, ...] | None:
    """Return the ids that were deleted since; None where the org cannot tell that far back: scan it anew.

    A cursor inside a scan (it has an id) is as old as its last row; its scan only needs what went while it ran.
    """
    if cursor.at is None:
        return ()
    since, told_from = parse_time(cursor.at) - look_back, until - _TOLD_FOR
    if since < told_from and not cursor.id:
        return None
    since = max(since, told_from)
    span = {"start": f"{since:%Y-%m-%dT%H:%M:00+00:00}", "end": f"{until:%Y-%m-%dT%H:%M:%S+00:00}"}
    try:
        told = api.get(f"sobjects/{entity}/deleted/", **span)
    except (PermissionMissing, RequestRefused) as refused:
        return None if refused.code in _UNTOLD else ()  # some objects have no such log
    if parse_time(told["earliestDateAvailable"]) > since and not cursor.id:
        return None
    return tuple(r["id"] for r in told["deletedRecords"])


def _soql(
    entity: str, columns: Sequence[str], key: Key, until: datetime, by: str, where: str, size: int
) -> str:
    conditions = [f"{by} <= {soql_time(until)}"]
    if where:
        conditions.append(where)
    if key.at and key.id:
        at = soql_time(parse_time(key.at))
        conditions.append(f"(({by} = {at} AND Id > '{key.id}') OR {by} > {at})")
    elif key.at:
        conditions.append(f"{by} >= {soql_time(parse_time(key.at))}")
    said = " AND ".join(conditions)
    return f"SELECT {', '.join(columns)} FROM {entity} WHERE {said} ORDER BY {by}, Id LIMIT {size}"


def _page(api: Api, soql: str, *, deleted: bool) -> tuple[list[Json], bool]:
    """Return the rows of a query, and whether they are all: a page that breaks off is gone on from by keyset."""
    found = api.query(soql, deleted=deleted)
    rows = list(found["records"])
    while not found["done"]:
        try:
            found = api.more(found["nextRecordsUrl"])
        except Restart:
            return rows, not rows and found["done"]
        rows += found["records"]
    return rows, True


# --- Values -----------------------------------------------------------------------------------------------------


def soql_time(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def parse_time(text: str) -> datetime:
    """Read `2026-01-04T11:19:00.000+0000` (REST) and `...Z` (Bulk)."""
    return datetime.fromisoformat(text).astimezone(UTC)


def at_path(row: Json, path: str) -> Any:
    """Return a field of a row, through its related records; None where one of them is missing."""
    value: Any = row
    for step in path.split("."):
        if value is None:
            return None
        value = value.get(step)
    return value


def typed(value: Any, kind: pa.DataType, *, is_share: bool = False) -> Any:
    """Return a JSON value as the column's type; money as Decimal, percents as shares where asked."""
    if value is None or value == "":
        return None
    if pa.types.is_decimal(kind):
        return Decimal(str(value)).quantize(Decimal("0.01"))
    if pa.types.is_timestamp(kind):
        return (
            parse_time(value)
            if "T" in str(value)
            else datetime.combine(_day(value), datetime.min.time(), UTC)
        )
    if pa.types.is_date(kind):
        return _day(value)
    if pa.types.is_boolean(kind):
        return bool(value)
    if pa.types.is_integer(kind):
        return int(value)
    if pa.types.is_floating(kind):
        return float(value) / 100 if is_share else float(value)
    return str(value)


def _day(value: Any) -> date:
    return date.fromisoformat(str(value)[:10])


def normalized(row: Json, stream: str, fields: dict[str, FieldMapping], visible: Sequence[str]) -> Json:
    """Return a row's mapped columns."""
    found: Json = {}
    kinds = {f.name: f.type for f in schema(stream)}
    for column in visible:
        mapped = fields[column]
        value = at_path(row, mapped.field)
        if mapped.values and isinstance(value, str):
            value = mapped.values.get(value, value)
        found[column] = typed(value, kinds[column], is_share=column == "probability")
    return found


def sequence(record_id: str) -> int:
    """Return a number that grows as ids do: the order of records of the same moment."""
    number = 0
    for character in record_id[6:15]:
        number = number * 62 + _BASE62.get(character, 0)
    return number
