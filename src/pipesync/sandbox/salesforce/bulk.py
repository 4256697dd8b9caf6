"""Bulk API 2.0 queries: a job is made, asked after, and its result is fetched page by page as CSV.

Settings of the org: `bulk_polls` (answers "in progress" before a job is done), `bulk_page` (rows of a page at most,
whatever is asked for), `bulk_fails` (the job ends as failed, with this text), `bulk_refused` (objects that the Bulk
API does not take), `daily_jobs` and `used_jobs` (a day's limit, and what others have used of it).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipesync.sandbox.salesforce import queries
from pipesync.sandbox.salesforce.org import USER_ID, Json, Org, Refused, full_id

DAILY_JOBS = 10_000
_PAGE = 250_000
_AHEAD = 5
"""Pages that `resultPages` tells of at once."""


@dataclass
class Job:
    """One query job; `polls` counts down to its end."""

    id: str
    operation: str
    entity: str
    created: str
    version: str
    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]
    polls: int
    error: str = ""
    is_aborted: bool = False

    @property
    def state(self) -> str:
        if self.is_aborted:
            return "Aborted"
        if self.polls > 0:
            return "InProgress"
        return "Failed" if self.error else "JobComplete"

    def told(self) -> Json:
        found: Json = {
            "id": self.id, "operation": self.operation, "object": self.entity, "createdById": USER_ID,
            "createdDate": self.created, "systemModstamp": self.created, "state": self.state,
            "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": float(self.version),
            "jobType": "V2Query", "lineEnding": "LF", "columnDelimiter": "COMMA", "retries": 0,
            "totalProcessingTime": 10, "numberRecordsProcessed": len(self.rows) if self.state == "JobComplete" else 0,
        }  # fmt: skip
        return found | ({"errorMessage": self.error} if self.state == "Failed" else {})


def make(org: Org, request: Request, body: bytes) -> Response:
    try:
        given = orjson.loads(body)
        operation, soql = given["operation"], given["query"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refused(400, "INVALIDJOB", "operation and query are needed") from None
    if operation not in ("query", "queryAll"):
        raise Refused(400, "INVALIDJOB", f"Invalid operation: {operation}")
    entity, columns, rows = queries.table(org, soql, is_all=operation == "queryAll")
    if entity in org.setting("bulk_refused", []):
        raise Refused(400, "INVALIDENTITY", f"Entity '{entity}' is not supported by the Bulk API.")
    if not left(org):
        raise Refused(403, "REQUEST_LIMIT_EXCEEDED", "DailyBulkV2QueryJobs Limit exceeded.")
    job = Job(
        full_id("750", len(org.jobs) + 1), operation, entity, org.now(), request.path_params["version"], columns, rows,
        org.setting("bulk_polls", 1), org.setting("bulk_fails", ""),
    )  # fmt: skip
    org.jobs[job.id] = job
    return JSONResponse(job.told() | {"state": "UploadComplete"})


def left(org: Org) -> int:
    """Return how many jobs may still be made today."""
    most, used = org.setting("daily_jobs", DAILY_JOBS), org.setting("used_jobs", 0)
    return max(0, int(most) - int(used) - len(org.jobs))


def tell(org: Org, request: Request, body: bytes) -> Response:
    job = _job(org, request)
    answer = JSONResponse(job.told())
    job.polls -= 1
    return answer


def all_jobs(org: Org, request: Request, body: bytes) -> Response:
    told = [job.told() for job in org.jobs.values()]
    return JSONResponse({"done": True, "records": told, "nextRecordsUrl": None})


def abort(org: Org, request: Request, body: bytes) -> Response:
    job = _job(org, request)
    job.is_aborted = True
    return JSONResponse(job.told())


def forget(org: Org, request: Request, body: bytes) -> Response:
    del org.jobs[_job(org, request).id]
    return Response(status_code=204)


def results(org: Org, request: Request, body: bytes) -> Response:
    """A page: the header again, its rows, and where the next one begins (the word `null` on the last)."""
    job = _finished(org, request)
    start = _start(request.query_params.get("locator"))
    size = _size(org, request)
    page = job.rows[start : start + size]
    after = start + size
    headers = {
        "Sforce-NumberOfRecords": str(len(page)),
        "Sforce-Locator": f"PS{after}" if after < len(job.rows) else "null",
    }
    return Response(as_csv(job.columns, page), media_type="text/csv", headers=headers)


def as_csv(columns: list[tuple[str, str]], rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([path for path, _ in columns])
    kinds = [kind for _, kind in columns]
    writer.writerows([_said(v, k) for v, k in zip(row, kinds, strict=True)] for row in rows)
    return text.getvalue()


def result_pages(org: Org, request: Request, body: bytes) -> Response:
    job, size = _finished(org, request), _size(org, request)
    start = _start(request.query_params.get("locator"))
    base = f"/services/data/v{job.version}/jobs/query/{job.id}"
    starts = range(start, max(len(job.rows), 1), size)
    pages = [{"resultUrl": f"{base}/results?locator=PS{s}&maxRecords={size}"} for s in starts[:_AHEAD]]
    more = starts[_AHEAD:]
    following = f"{base}/resultPages?locator=PS{more[0]}" if more else None
    return JSONResponse({"resultPages": pages, "nextRecordsUrl": following, "done": following is None})


def _job(org: Org, request: Request) -> Job:
    found = org.jobs.get(request.path_params["job"])
    if found is None:
        raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
    return found


def _finished(org: Org, request: Request) -> Job:
    job = _job(org, request)
    if job.state != "JobComplete":
        raise Refused(400, "INVALIDJOBSTATE", f"The job is {job.state}")
    if request.path_params["version"] != job.version:
        raise Refused(
            409, "API_VERSION_MISMATCH", "results are told in the version that the job was made with"
        )
    return job


def _size(org: Org, request: Request) -> int:
    asked = int(request.query_params.get("maxRecords", _PAGE))
    return min(asked, int(org.setting("bulk_page", _PAGE)))


def _start(locator: str | None) -> int:
    if not locator:
        return 0
    if not locator.startswith("PS"):
        raise Refused(400, "INVALID_LOCATOR", "invalid query locator")
    return int(locator[2:])


def _said(value: Any, kind: str) -> str:
    """Everything is text here: times end in Z, blanks and nulls are the same."""
    if value is None:
        return ""
    if kind == "flag":
        return "true" if value else "false"
    if kind == "time":
        return str(value).replace("+0000", "Z")
    return str(value)
