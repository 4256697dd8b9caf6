"""Bulk API 1.0 queries, for clients that have not moved on: a job of one batch, told in XML, its result as CSV."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipesync.sandbox.salesforce import queries
from pipesync.sandbox.salesforce.bulk import Job, as_csv
from pipesync.sandbox.salesforce.org import Org, Refused, full_id

_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_NAMESPACE = 'xmlns="http://www.force.com/2009/06/asyncapi/dataload"'


def make(org: Org, request: Request, body: bytes) -> Response:
    told = orjson.loads(body)
    number, polls = full_id("750", len(org.jobs) + 1), org.setting("bulk_polls", 1)
    job = Job(number, told["operation"], told["object"], org.now(), "", [], [], polls)
    org.jobs[job.id] = job
    return _told(job, 201)


def _told(job: Job, status: int = 200) -> Response:
    said = {
        "id": job.id,
        "operation": job.operation,
        "object": job.entity,
        "state": "Open",
        "contentType": "CSV",
    }
    return JSONResponse(said, status)


def tell(org: Org, request: Request, body: bytes) -> Response:
    return _told(_job(org, request))


def close(org: Org, request: Request, body: bytes) -> Response:
    return _told(_job(org, request))


def _job(org: Org, request: Request) -> Job:
    found = org.jobs.get(request.path_params["job"])
    if found is None:
        raise Refused(400, "InvalidJob", "Unable to find job")
    return found


def add(org: Org, request: Request, body: bytes) -> Response:
    """Take the job's one query and run it."""
    job = _job(org, request)
    _, job.columns, job.rows = queries.table(org, body.decode(), is_all=job.operation == "queryAll")
    return _xml(_batch(job), 201)


def _batch(job: Job) -> str:
    state = "InProgress" if job.polls > 0 else "Completed"
    return (
        f"<batchInfo {_NAMESPACE}><id>751{job.id[3:]}</id><jobId>{job.id}</jobId><state>{state}</state>"
        f"<numberRecordsProcessed>{len(job.rows)}</numberRecordsProcessed></batchInfo>"
    )


def _xml(text: str, status: int = 200) -> Response:
    return Response(_XML + text, status, media_type="application/xml")


def batch(org: Org, request: Request, body: bytes) -> Response:
    job = _job(org, request)
    answer = _xml(_batch(job))
    job.polls -= 1
    return answer


def batches(org: Org, request: Request, body: bytes) -> Response:
    return _xml(f"<batchInfoList {_NAMESPACE}>{_batch(_job(org, request))}</batchInfoList>")


def results(org: Org, request: Request, body: bytes) -> Response:
    return _xml(f"<result-list {_NAMESPACE}><result>752{_job(org, request).id[3:]}</result></result-list>")


def result(org: Org, request: Request, body: bytes) -> Response:
    job = _job(org, request)
    return Response(as_csv(job.columns, job.rows), media_type="text/csv")
