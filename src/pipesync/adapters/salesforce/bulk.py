"""Bulk API 2.0 queries: for what is too much to list by REST. One job per query, its result fetched page by page.

A locator stays valid for as long as its job is there (seven days) and does not belong to a session, so it is where an
interrupted pull goes on. A page is spooled to disk and parsed from there in blocks: memory does not grow with it. One
that has fewer rows than its header promises is fetched again, and what was stored of it is stored once more.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO

import pyarrow as pa
from pyarrow import csv

from pipesync.adapters.salesforce.api import Api
from pipesync.arrays import TEXT, no_rows
from pipesync.errors import CrmError, RequestRefused, RetryLater

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
_PATIENCE = 2 * 3600.0
_BLOCK = 4 << 20
_LAST = "null"
"""What the header says in place of a locator after the last page: this very word."""


class JobFailed(CrmError):
    """The org gave the job up; the same rows can still be listed by REST."""


@dataclass(frozen=True)
class Part:
    """Some rows, and the locator of the page to ask for after them: their own page's while more of it follows."""

    rows: pa.Table
    locator: str
    is_last: bool
    requests: int
    """What its page took; 0 for the parts of a page after its first."""


@dataclass(frozen=True)
class _Page:
    """A page of a result as it arrived; nothing of it is read yet."""

    spool: IO[bytes]
    locator: str
    following: str
    """The next page's locator; empty after the last."""
    promised: int | None
    """How many rows its header tells of."""
    requests: int


def start(api: Api, soql: str, *, deleted: bool) -> str:
    """Make a job and wait until its result is ready; return its id."""
    job = api.send("POST", "jobs/query", {"operation": "queryAll" if deleted else "query", "query": soql})
    pause, waited = _FIRST_PAUSE, 0.0
    while True:
        told = api.get(f"jobs/query/{job['id']}")
        if told["state"] == "JobComplete":
            return str(job["id"])
        if told["state"] in ("Failed", "Aborted"):
            raise JobFailed(f"the Bulk job has {told['state'].lower()}", code=_code(told.get("errorMessage")))
        if waited > _PATIENCE:
            raise JobFailed("the Bulk job took too long")
        time.sleep(pause)
        waited += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def parts(api: Api, job: str, columns: Sequence[str], locator: str, size: int) -> Iterator[Part]:
    """Yield a job's rows from a locator on; the columns are texts, blanks are null.

    The next page is on its way while one is read and stored; what comes of it, an error too, is told in its turn.
    """
    coming = _begin(partial(_fetch, api, job, locator, size))
    try:
        while True:
            page = coming.result()
            if page.following:
                coming = _begin(partial(_fetch, api, job, page.following, size))
            yield from _parts_of(page, columns)
            if not page.following:
                return
    finally:
        coming.add_done_callback(_drop)


def _begin(ask: Callable[[], _Page]) -> Future[_Page]:
    """Ask in a thread that nobody has to wait for: a run that ends for another reason ends at once."""
    coming: Future[_Page] = Future()

    def answer() -> None:
        try:
            coming.set_result(ask())
        except BaseException as error:  # raised where the page is waited for
            coming.set_exception(error)

    threading.Thread(target=answer, name="bulk page", daemon=True).start()
    return coming


def _drop(coming: Future[_Page]) -> None:
    """Close what arrives after its reader has left."""
    if not coming.exception():
        coming.result().spool.close()


def _fetch(api: Api, job: str, locator: str, size: int) -> _Page:
    query = {"maxRecords": str(size)} | ({"locator": locator} if locator else {})
    before = api.asked
    with ExitStack() as opened:
        spool = opened.enter_context(tempfile.TemporaryFile())
        headers = api.download(f"jobs/query/{job}/results", spool, **query)
        opened.pop_all()  # its reader closes it
    following, promised = headers.get("Sforce-Locator", _LAST), headers.get("Sforce-NumberOfRecords")
    return _Page(
        spool,
        locator,
        "" if following == _LAST else following,
        int(promised) if promised is not None else None,
        api.asked - before,
    )


def _parts_of(page: _Page, columns: Sequence[str]) -> Iterator[Part]:
    """Yield a page's rows block by block; its last block is held back until all of its rows are counted."""
    found, requests = 0, page.requests
    held = no_rows(pa.schema([(c, TEXT) for c in columns]))
    with page.spool as spool:
        spool.seek(0)
        for rows in _read(spool, columns):
            found += len(rows)
            if len(held):
                yield Part(held, page.locator, is_last=False, requests=requests)
                requests = 0
            held = rows
    if page.promised not in (None, found):
        raise RetryLater(f"a Bulk page has {found:,} rows where {page.promised:,} were promised")
    yield Part(held, page.following, is_last=not page.following, requests=requests)


def finish(api: Api, job: str) -> None:
    """Delete a job, so that its result does not count against the org's storage; it may be gone already."""
    try:
        api.send("DELETE", f"jobs/query/{job}")
    except RequestRefused:
        return


def _read(spool: object, columns: Sequence[str]) -> Iterator[pa.Table]:
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(columns, TEXT),
        include_columns=list(columns),
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=True,
    )
    try:
        reader = csv.open_csv(
            spool,
            read_options=csv.ReadOptions(block_size=_BLOCK, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=convert,
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid:
        raise RetryLater("a Bulk page could not be read as CSV") from None
    except pa.ArrowKeyError:
        raise JobFailed("a Bulk page lacks columns that were asked for") from None


def _code(message: str | None) -> str:
    """Return the code that an error message of a job begins with: the rest may hold data."""
    return (message or "").partition(":")[0].strip()[:40]
