"""Bulk API 2.0 queries: for what is too much to list by REST. One job per query, its result fetched page by page.

A locator stays valid for as long as its job is there (seven days) and does not belong to a session, so it is where an
interrupted pull goes on. A page is spooled to disk while it is counted and parsed from there in blocks: memory does not
grow with it, and one that breaks off is fetched again before anything of it is used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import csv

from pipesync.adapters.salesforce.api import Api
from pipesync.adapters.salesforce.values import TEXT
from pipesync.errors import CrmError, RequestRefused, RetryLater

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
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
    """Yield a job's rows from a locator on; the columns are texts, blanks are null."""
    while True:
        with tempfile.TemporaryFile() as spool:
            query = {"maxRecords": str(size)} | ({"locator": locator} if locator else {})
            headers = api.download(f"jobs/query/{job}/results", spool, **query)
            following = headers.get("Sforce-Locator", _LAST)
            expected = headers.get("Sforce-NumberOfRecords")
            spool.seek(0)
            found, held = 0, pa.table({c: pa.array([], TEXT) for c in columns})
            for rows in _read(spool, columns):
                found += len(rows)
                if len(held):
                    yield Part(held, locator, is_last=False)
                held = rows
        if expected is not None and int(expected) != found:
            raise RetryLater(f"a Bulk page has {found:,} rows where {expected} were promised")
        locator = "" if following == _LAST else following
        yield Part(held, locator, is_last=not locator)
        if not locator:
            return


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
