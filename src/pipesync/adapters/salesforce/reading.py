"""An object's rows after a cursor: by REST with keyset pages, by a Bulk job where they are many.

    WHERE (SystemModstamp = :at AND Id > :id) OR SystemModstamp > :at ORDER BY SystemModstamp, Id

Every keyset query says where it begins, so that a lost locator or session costs one page; of a Bulk job the locator is
such a place itself. A change becomes visible some time after its SystemModstamp says, hence the look-back; the upper
bound is the org's own time at the start. Deleted rows come with `queryAll` while they are in the recycle bin; those
that left it, or were merged into others, are told by `getDeleted` alone, for 15 days. What this user simply may not see
any more is told by nobody: now and then all ids are listed (`every_id`), and what is not among them is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import orjson
import pyarrow as pa

from pipesync.adapters.base import Cursor
from pipesync.adapters.salesforce import bulk
from pipesync.adapters.salesforce.api import Api, Json, Restart, Shrink
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.values import column, is_true, parse_time, raw_table
from pipesync.errors import PermissionMissing, RequestRefused, RetryLater

_SMALLEST = 50
_TOLD_FOR = timedelta(days=14)
"""How long `getDeleted` is relied on: it knows 15 days, less what a run may take."""
_UNTOLD = ("INVALID_REPLICATION_DATE", "EXCEEDED_ID_LIMIT")
_PAGES_BEFORE_COUNTING = 5
"""An increment of more pages than this may be large: the rest of it is counted."""
_ATTEMPTS = 3
_LONGEST_ADDRESS = 14_000
"""Characters of a query in an address, of which Salesforce takes 16,384 in all. A job has its query in a body."""


@dataclass(frozen=True)
class Place:
    """Where a scan goes on: after the row (`at`, `id`), or in the result of a Bulk job, which knows all up to `at`.

    No id and no job: everything from `at` on; not even that: from the beginning.
    """

    at: str | None = None
    id: str = ""
    job: str = ""
    locator: str = ""

    def told(self) -> Json:
        job = {"job": self.job, "locator": self.locator} if self.job else {}
        return {"at": self.at, "id": self.id} | job

    @classmethod
    def read(cls, cursor: Cursor | None) -> Place:
        told = orjson.loads(cursor) if cursor else {}
        return cls(**{name: told[name] for name in ("at", "id", "job", "locator") if name in told})

    def back(self, span: timedelta) -> Place:
        """Return where an increment begins; a job goes on where it stopped."""
        if self.at is None or self.job:
            return self
        return Place(soql_time(parse_time(self.at) - span))


@dataclass(frozen=True)
class Known:
    """What a cursor says beside its place: which fields its rows have, and when all ids were last compared."""

    fields: tuple[str, ...] = ()
    swept: str = ""

    @classmethod
    def read(cls, cursor: Cursor | None) -> Known:
        told = orjson.loads(cursor) if cursor else {}
        return cls(tuple(told.get("fields", ())), told.get("swept", ""))

    def lacks(self, fields: Sequence[str]) -> bool:
        """Whether rows are here that were read without one of these fields."""
        return bool(self.fields) and not set(fields) <= set(self.fields)

    def is_sweep_due(self, until: datetime, every: timedelta) -> bool:
        return bool(self.swept) and until - parse_time(self.swept) >= every


@dataclass(frozen=True)
class Query:
    """What is wanted of an object: `by` orders it, `where` narrows it."""

    entity: str
    columns: tuple[str, ...]
    until: datetime
    by: str = "SystemModstamp"
    where: str = ""
    deleted: bool = False
    """Also what is in the recycle bin."""
    bulk_order: str = ""
    """The order of a Bulk job's rows, where one is needed: it costs the org more."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the columns that are asked for, each once."""
        ours = ("Id", self.by, "IsDeleted") if self.deleted else ("Id", self.by)
        return tuple(dict.fromkeys((*ours, *self.columns)))

    def condition(self, place: Place) -> str:
        said = [f"{self.by} <= {soql_time(self.until)}", *([self.where] if self.where else [])]
        if place.at and place.id:
            at = soql_time(parse_time(place.at))
            said.append(f"(({self.by} = {at} AND Id > '{place.id}') OR {self.by} > {at})")
        elif place.at:
            said.append(f"{self.by} >= {soql_time(parse_time(place.at))}")
        return " AND ".join(said)

    def soql(self, place: Place) -> str:
        return f"SELECT {', '.join(self.paths)} FROM {self.entity} WHERE {self.condition(place)}"


@dataclass(frozen=True)
class Batch:
    """Rows of one page as texts, and where the next one begins."""

    rows: pa.Table
    place: Place
    requests: int
    is_last: bool
    gone: tuple[str, ...] = ()
    """Ids that vanished without leaving a row."""

    @property
    def kept(self) -> pa.Table:
        return self.rows.filter(pa.compute.invert(is_true(self.rows, "IsDeleted")))

    @property
    def deleted(self) -> tuple[str, ...]:
        binned = self.rows.filter(is_true(self.rows, "IsDeleted"))
        return (*self.gone, *column(binned, "Id").to_pylist())

    def cursor(self, until: datetime, known: Known = Known()) -> Cursor:
        """Return the cursor after a batch: at the end of a pull everything up to `until` is there."""
        end = until.astimezone(UTC).isoformat()
        place, swept = (Place(end), known.swept or end) if self.is_last else (self.place, known.swept)
        return orjson.dumps(place.told() | {"fields": known.fields, "swept": swept}).decode()


def scan(api: Api, query: Query, start: Place, options: Options) -> Iterator[Batch]:
    """Yield an object's rows after `start`, up to the query's end; at least one batch.

    By Bulk where more than `bulk_from` rows are to be expected; what the Bulk API does not take is listed by REST.
    """
    if start.job:
        yield from _resumed(api, query, start, options)
        return
    is_long = len(quote(query.soql(start))) > _LONGEST_ADDRESS
    if is_long or (start.at is None and _is_large(api, query, start, options)):
        yield from _by_bulk(api, query, start, options)
        return
    for n, batch in enumerate(_by_keyset(api, query, start, options.page_size), start=1):
        yield batch
        is_time = n == _PAGES_BEFORE_COUNTING and start.at is not None and not batch.is_last
        if is_time and _is_large(api, query, batch.place, options):
            yield from _by_bulk(api, query, batch.place, options)
            return


def few(api: Api, query: Query, options: Options) -> Iterator[Batch]:
    """Yield all rows of a query that is narrow: by REST, without counting them first."""
    return _by_keyset(api, query, Place(), options.page_size)


def _is_large(api: Api, query: Query, place: Place, options: Options) -> bool:
    try:
        return api.count(query.entity, query.condition(place)) >= options.bulk_from
    except Shrink:  # even counting takes the org too long
        return True


def every_id(api: Api, entity: str, until: datetime, options: Options) -> pa.Array:
    """Return the ids of all records that this user may see now."""
    found = [column(b.rows, "Id") for b in scan(api, Query(entity, (), until), Place(), options)]
    return pa.concat_arrays(found)


def estimate(api: Api, entity: str, options: Options) -> tuple[int, int]:
    """Return how many rows a first pull of an object will bring, and about how many requests that takes."""
    rows = api.count(entity, "Id != null")
    if rows >= options.bulk_from:
        return rows, 6 + -(-rows // options.bulk_page)
    return rows, 2 + -(-rows // options.page_size)


# --- By REST -----------------------------------------------------------------------------------------------------


def _by_keyset(api: Api, query: Query, start: Place, size: int) -> Iterator[Batch]:
    place = start
    while True:
        before = api.asked
        soql = f"{query.soql(place)} ORDER BY {query.by}, Id LIMIT {size}"
        try:
            found, is_whole = _page(api, soql, deleted=query.deleted)
        except Shrink:
            if size <= _SMALLEST:
                raise
            size //= 4
            continue
        if found:
            place = Place(found[-1][query.by], found[-1]["Id"])
        is_last = is_whole and len(found) < size
        yield Batch(raw_table(found, query.paths), place, api.asked - before, is_last)
        if is_last:
            return


def _page(api: Api, soql: str, *, deleted: bool) -> tuple[list[Json], bool]:
    """Return the rows of a query, and whether they are all: a page that breaks off is gone on from by keyset."""
    found = api.query(soql, deleted=deleted)
    rows = list(found["records"])
    while not found["done"]:
        try:
            found = api.more(found["nextRecordsUrl"])
        except (Restart, KeyError):
            if not rows:
                raise RequestRefused("a query broke off before its first row") from None
            return rows, False
        rows += found["records"]
    return rows, True


# --- By Bulk -----------------------------------------------------------------------------------------------------


def _by_bulk(api: Api, query: Query, start: Place, options: Options) -> Iterator[Batch]:
    before = api.asked
    try:
        order = f" ORDER BY {query.bulk_order}" if query.bulk_order else ""
        job = bulk.start(api, query.soql(start) + order, deleted=query.deleted)
        place, made = Place(query.until.astimezone(UTC).isoformat(), job=job), api.asked - before
        for batch in _of_job(api, query, place, options):
            yield replace(batch, requests=batch.requests + made)
            made = 0
    except (bulk.JobFailed, RequestRefused, PermissionMissing):
        yield from _by_keyset(api, query, start, options.page_size)


def _resumed(api: Api, query: Query, start: Place, options: Options) -> Iterator[Batch]:
    """Go on in a job of an earlier run, and then with what has changed since; without the job, from the beginning."""
    try:
        for batch in _of_job(api, query, start, options):
            yield replace(batch, is_last=False)
    except (bulk.JobFailed, RequestRefused, PermissionMissing):
        yield from scan(api, query, Place(), options)
        return
    since = Place(start.at).back(options.look_back)
    yield from scan(api, replace(query, deleted=True), since, options)


def _of_job(api: Api, query: Query, place: Place, options: Options) -> Iterator[Batch]:
    job = place.job
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            for part in bulk.parts(api, job, query.paths, place.locator, options.bulk_page):
                place = replace(place, locator=part.locator) if not part.is_last else Place(place.at)
                yield Batch(part.rows, place, part.requests, part.is_last)
            break
        except RetryLater:
            if attempt == _ATTEMPTS:
                raise
    bulk.finish(api, job)


# --- What left no row --------------------------------------------------------------------------------------------


def vanished(
    api: Api, entity: str, cursor: Place, look_back: timedelta, until: datetime
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


def soql_time(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
