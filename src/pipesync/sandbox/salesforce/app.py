"""The org's REST API at its addresses, as Starlette routes.

Settings of the org that this module heeds: `api_disabled` (an edition without API access), `daily_limit` and `used`
(requests of the last 24 hours before the sandbox began), `limits_refused` (to who may not view Setup), `page_size`,
`times_out_above` (rows of a query), `deleted_known_from`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipesync.sandbox.salesforce import asynchronous, bulk, composite, describing, queries, writing
from pipesync.sandbox.salesforce.oauth import introspect, token
from pipesync.sandbox.salesforce.objects import OBJECTS
from pipesync.sandbox.salesforce.org import ORG_ID, USER_ID, Json, Org, Refused
from pipesync.sandbox.salesforce.soql import stored_time

Endpoint = Callable[[Org, Request, bytes], Response]
DAILY_LIMIT = 1_000_000
_LONGEST_ADDRESS = 16_384
VERSIONS = tuple(f"{n}.0" for n in range(31, 69))
_FREE = ("/services/oauth2/token", "/services/oauth2/introspect", "/services/data/")
"""What is answered to anyone and counts against no limit."""


def routes(org: Org) -> list[Route]:
    """Return the routes of one org; they answer in the event loop, one request after the other."""
    data, job = "/services/data/v{version}", "/services/async/{version}/job"
    listed: list[tuple[str, str, Endpoint]] = [
        ("POST", "/services/oauth2/token", token),
        ("POST", "/services/oauth2/introspect", introspect),
        ("GET", "/services/oauth2/userinfo", userinfo),
        ("GET", "/services/data/", versions),
        ("GET", f"{data}/limits", limits),
        ("GET", f"{data}/query", query),
        ("GET", f"{data}/queryAll", query_all),
        ("GET", f"{data}/query/{{locator}}", more),
        ("GET", f"{data}/queryAll/{{locator}}", more),
        ("GET", f"{data}/sobjects", describe_global),
        ("GET", f"{data}/sobjects/{{name}}/describe", describe),
        ("GET", f"{data}/sobjects/{{name}}/deleted", deleted),
        ("GET", f"{data}/sobjects/{{name}}/updated", updated),
        ("POST", f"{data}/jobs/query", bulk.make),
        ("GET", f"{data}/jobs/query", bulk.all_jobs),
        ("GET", f"{data}/jobs/query/{{job}}", bulk.tell),
        ("PATCH", f"{data}/jobs/query/{{job}}", bulk.abort),
        ("DELETE", f"{data}/jobs/query/{{job}}", bulk.forget),
        ("GET", f"{data}/jobs/query/{{job}}/results", bulk.results),
        ("GET", f"{data}/jobs/query/{{job}}/resultPages", bulk.result_pages),
        ("POST", job, asynchronous.make),
        ("GET", f"{job}/{{job}}", asynchronous.tell),
        ("POST", f"{job}/{{job}}", asynchronous.close),
        ("POST", f"{job}/{{job}}/batch", asynchronous.add),
        ("GET", f"{job}/{{job}}/batch", asynchronous.batches),
        ("GET", f"{job}/{{job}}/batch/{{batch}}", asynchronous.batch),
        ("GET", f"{job}/{{job}}/batch/{{batch}}/result", asynchronous.results),
        ("GET", f"{job}/{{job}}/batch/{{batch}}/result/{{result}}", asynchronous.result),
        *((method, f"{data}{path}", endpoint) for method, path, endpoint in writing.ROUTES),
        ("POST", f"{data}/composite", composite.answer),
    ]
    served = [(path, _served(org, endpoint), method) for method, path, endpoint in listed]
    return [
        Route(path + slash, endpoint, methods=[method])
        for path, endpoint, method in served
        for slash in ("", "/")
        if not (path.endswith("/") and slash)
    ]


def _cased(name: bytes) -> bytes:
    """Write a header's name as Salesforce does: clients exist that do not find it otherwise."""
    if name == b"sforce-numberofrecords":
        return b"Sforce-NumberOfRecords"
    return b"-".join(part.capitalize() for part in name.split(b"-"))


def _served(org: Org, endpoint: Endpoint) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        if len(request.url.query) > _LONGEST_ADDRESS:
            return Response("<html><h1>414 Request-URI Too Large</h1></html>", 414, media_type="text/html")
        body = await request.body()
        is_free = request.url.path in _FREE
        org.requests += not is_free
        limit, used = org.setting("daily_limit", DAILY_LIMIT), org.setting("used", 0) + org.requests
        try:
            if not is_free:
                authorization = request.headers.get("Authorization") or (
                    f"Bearer {request.headers.get('X-SFDC-Session', '')}"
                )
                if "session" in request.scope.get("faults", {}):
                    org.expire(authorization)
                request.state.session = org.require(authorization)
                if (version := request.path_params.get("version", VERSIONS[-1])) not in VERSIONS:
                    if float(version) < float(VERSIONS[0]):
                        raise Refused(410, "UNSUPPORTED_API_VERSION", f"API version {version} is retired.")
                    raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
                if org.setting("api_disabled", False):
                    raise Refused(
                        403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."
                    )
                if used > limit:
                    raise Refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
            answer = endpoint(org, request, body)
            org.db.commit()
        except Refused as refused:
            org.db.rollback()
            answer = JSONResponse(refused.body, refused.status)
        if not is_free:
            answer.headers["Sforce-Limit-Info"] = f"api-usage={min(used, limit)}/{limit}; api-bursts=1/750"
        answer.raw_headers = [(_cased(name), value) for name, value in answer.raw_headers]
        return answer

    return serve


def userinfo(org: Org, request: Request, body: bytes) -> Response:
    return JSONResponse({"user_id": USER_ID, "organization_id": ORG_ID, "active": True})


def versions(org: Org, request: Request, body: bytes) -> Response:
    return JSONResponse([{"label": v, "url": f"/services/data/v{v}", "version": v} for v in VERSIONS])


def limits(org: Org, request: Request, body: bytes) -> Response:
    if org.setting("limits_refused", False):
        raise Refused(403, "INSUFFICIENT_ACCESS", "insufficient access rights on this resource")
    most = org.setting("daily_limit", DAILY_LIMIT)
    jobs = org.setting("daily_jobs", bulk.DAILY_JOBS)
    return JSONResponse({
        "DailyApiRequests": {"Max": most, "Remaining": max(0, most - org.setting("used", 0) - org.requests)},
        "DailyBulkApiBatches": {"Max": 15_000, "Remaining": 15_000},
        "DailyBulkV2QueryJobs": {"Max": jobs, "Remaining": bulk.left(org)},
        "DailyBulkV2QueryFileStorageMB": {"Max": 976_562, "Remaining": 976_562},
    })  # fmt: skip


# --- Reading ----------------------------------------------------------------------------------------------------


def query(org: Org, request: Request, body: bytes) -> Response:
    return _first_page(org, request, is_all=False)


def query_all(org: Org, request: Request, body: bytes) -> Response:
    return _first_page(org, request, is_all=True)


def _first_page(org: Org, request: Request, *, is_all: bool) -> Response:
    total, rows = queries.answer(org, request.query_params.get("q", ""), is_all=is_all)
    if len(rows) > org.setting("times_out_above", len(rows)):
        raise Refused(400, "QUERY_TIMEOUT", "Your query request was running for too long.")
    locator = f"01gPS{org.requests:08d}"
    size = org.setting("page_size", org.page_size)
    if len(rows) > size:
        org.cursors[locator] = (request.state.session, rows, size)
    return _page(org, locator, rows, 0, size, total)


def _page(org: Org, locator: str, rows: list[Json], start: int, size: int, total: int) -> Response:
    is_done = start + size >= len(rows)
    answer: Json = {"totalSize": total, "done": is_done, "records": rows[start : start + size]}
    if not is_done:
        answer["nextRecordsUrl"] = f"/services/data/v62.0/query/{locator}-{start + size}"
    return Response(orjson.dumps(answer), media_type="application/json")


def more(org: Org, request: Request, body: bytes) -> Response:
    """A locator belongs to the session that made it."""
    locator, _, start = request.path_params["locator"].partition("-")
    found = org.cursors.get(locator)
    if found is None or found[0] != request.state.session:
        raise Refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    _, rows, size = found
    return _page(org, locator, rows, int(start), size, len(rows))


def describe_global(org: Org, request: Request, body: bytes) -> Response:
    seen = [describing.describe(org, o) for n, o in OBJECTS.items() if n not in org.hidden()]
    for told in seen:
        del told["fields"], told["childRelationships"], told["recordTypeInfos"]
    return JSONResponse({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": seen})


def describe(org: Org, request: Request, body: bytes) -> Response:
    try:
        return JSONResponse(describing.describe(org, org.object(request.path_params["name"])))
    except Refused:
        raise Refused(404, "NOT_FOUND", "The requested resource does not exist") from None


def deleted(org: Org, request: Request, body: bytes) -> Response:
    """15 days back at most; a longer span is refused, and a purged log says from when on it knows."""
    thing = org.object(request.path_params["name"])
    start, end = _span(request)
    now = datetime.fromisoformat(org.now())
    if start < now - timedelta(days=15):
        raise Refused(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
    if end <= start:
        raise Refused(400, "INVALID_REPLICATION_DATE", "endDate must be at least one minute after startDate")
    known_from = org.setting("deleted_known_from") or stored_time(now - timedelta(days=15))
    return JSONResponse({
        "deletedRecords": queries.deleted(org, thing, stored_time(start), stored_time(end)),
        "earliestDateAvailable": known_from, "latestDateCovered": stored_time(end),
    })  # fmt: skip


def updated(org: Org, request: Request, body: bytes) -> Response:
    """30 days back at most."""
    thing = org.object(request.path_params["name"])
    start, end = _span(request)
    if start < datetime.fromisoformat(org.now()) - timedelta(days=30):
        raise Refused(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
    ids = queries.updated(org, thing, stored_time(start), stored_time(end))
    return JSONResponse({"ids": ids, "latestDateCovered": stored_time(end)})


def _span(request: Request) -> tuple[datetime, datetime]:
    with contextlib.suppress(KeyError, ValueError):
        start, end = (datetime.fromisoformat(request.query_params[n]) for n in ("start", "end"))
        return start, end
    raise Refused(400, "INVALID_REPLICATION_DATE", "start and end are needed, as ISO 8601 times with a zone")
