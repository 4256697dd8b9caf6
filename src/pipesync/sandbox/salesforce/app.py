"""The org's REST API at its addresses, as Starlette routes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import jwt
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipesync.sandbox.salesforce import bulk
from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET, USER_ID, Json, Org, Refused
from pipesync.sandbox.salesforce.soql import stored_time

Endpoint = Callable[[Org, Request, bytes], Response]
DAILY_LIMIT = 1_000_000


def routes(org: Org) -> list[Route]:
    """Return the routes of one org; they answer in the event loop, one request after the other."""
    data = "/services/data/v{version}"
    listed: list[tuple[str, str, Endpoint]] = [
        ("POST", "/services/oauth2/token", token),
        ("GET", "/services/oauth2/userinfo", userinfo),
        ("GET", "/services/data/", versions),
        ("GET", f"{data}/limits", limits),
        ("GET", f"{data}/limits/", limits),
        ("GET", f"{data}/query", query),
        ("GET", f"{data}/query/", query),
        ("GET", f"{data}/queryAll", query_all),
        ("GET", f"{data}/queryAll/", query_all),
        ("GET", f"{data}/query/{{locator}}", more),
        ("GET", f"{data}/sobjects", describe_global),
        ("GET", f"{data}/sobjects/{{name}}/describe", describe),
        ("GET", f"{data}/sobjects/{{name}}/deleted", deleted),
        ("GET", f"{data}/sobjects/{{name}}/deleted/", deleted),
        ("POST", f"{data}/jobs/query", bulk.make),
        ("GET", f"{data}/jobs/query", bulk.all_jobs),
        ("GET", f"{data}/jobs/query/{{job}}", bulk.tell),
        ("PATCH", f"{data}/jobs/query/{{job}}", bulk.abort),
        ("DELETE", f"{data}/jobs/query/{{job}}", bulk.forget),
        ("GET", f"{data}/jobs/query/{{job}}/results", bulk.results),
        ("GET", f"{data}/jobs/query/{{job}}/resultPages", bulk.result_pages),
        ("PATCH", f"{data}/composite/sobjects/{{name}}/{{key}}", upsert),
        ("POST", f"{data}/composite/sobjects", create),
        ("PATCH", f"{data}/composite/sobjects", update),
        ("DELETE", f"{data}/composite/sobjects", delete),
    ]
    return [Route(path, _served(org, endpoint), methods=[method]) for method, path, endpoint in listed]


def _served(org: Org, endpoint: Endpoint) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        body = await request.body()
        org.requests += 1
        try:
            if endpoint not in (token, versions):
                authorization = request.headers.get("Authorization", "")
                if "session" in request.scope.get("faults", {}):
                    org.expire(authorization)
                request.state.session = org.require(authorization)
            answer = endpoint(org, request, body)
            org.db.commit()
        except Refused as refused:
            org.db.rollback()
            answer = JSONResponse(refused.body, refused.status)
        answer.headers["Sforce-Limit-Info"] = f"api-usage={org.requests}/{DAILY_LIMIT}; api-bursts=1/750"
        return answer

    return serve


# --- Signing in -------------------------------------------------------------------------------------------------


def token(org: Org, request: Request, body: bytes) -> Response:
    """Grant a session for client credentials (Basic or in the body) or a JWT signed by the registered key."""
    given = {n: v[-1] for n, v in parse_qs(body.decode()).items()}
    refusal = _refusal(org, request, given)
    if refusal:
        code, said = refusal
        return JSONResponse({"error": code, "error_description": said}, 400)
    base = str(request.base_url).rstrip("/")
    return JSONResponse({
        "access_token": org.sign_in(), "instance_url": base, "token_type": "Bearer", "scope": "api",
        "id": f"{base}/id/00DPS0000000000AAA/{USER_ID}",
    })  # fmt: skip


def _refusal(org: Org, request: Request, given: Json) -> tuple[str, str] | None:
    kind = given.get("grant_type")
    if kind == "client_credentials":
        key, secret = given.get("client_id"), given.get("client_secret")
        scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
        if scheme.casefold() == "basic":
            key, _, secret = base64.b64decode(coded).decode().partition(":")
        if (key, secret) != (CONSUMER_KEY, CONSUMER_SECRET):
            return "invalid_client", "invalid client credentials"
        return None
    if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
        public = org.setting("certificate")
        try:
            options: Any = {"verify_aud": False, "verify_exp": False, "verify_signature": public is not None}
            claims = jwt.decode(
                given.get("assertion", ""), public or "", algorithms=["RS256"], options=options
            )
        except (jwt.PyJWTError, ValueError):
            return "invalid_grant", "invalid assertion"
        if claims.get("iss") != CONSUMER_KEY:
            return "invalid_client_id", "client identifier invalid"
        return None
    return "unsupported_grant_type", "grant type not supported"


def userinfo(org: Org, request: Request, body: bytes) -> Response:
    return JSONResponse({"user_id": USER_ID, "organization_id": "00DPS0000000000AAA", "active": True})


def versions(org: Org, request: Request, body: bytes) -> Response:
    return JSONResponse([{"label": "Winter '25", "url": "/services/data/v62.0", "version": "62.0"}])


def limits(org: Org, request: Request, body: bytes) -> Response:
    return JSONResponse({
        "DailyApiRequests": {"Max": DAILY_LIMIT, "Remaining": DAILY_LIMIT - org.requests},
        "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
    })  # fmt: skip


# --- Reading ----------------------------------------------------------------------------------------------------


def query(org: Org, request: Request, body: bytes) -> Response:
    return _first_page(org, request, is_all=False)


def query_all(org: Org, request: Request, body: bytes) -> Response:
    return _first_page(org, request, is_all=True)


def _first_page(org: Org, request: Request, *, is_all: bool) -> Response:
    total, rows = org.query(request.query_params.get("q", ""), is_all=is_all)
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
    from pipesync.sandbox.salesforce.objects import OBJECTS

    seen = [org.describe(o) | {"fields": None} for n, o in OBJECTS.items() if n not in org.hidden()]
    return JSONResponse({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": seen})


def describe(org: Org, request: Request, body: bytes) -> Response:
    try:
        return JSONResponse(org.describe(org.object(request.path_params["name"])))
    except Refused:
        raise Refused(404, "NOT_FOUND", "The requested resource does not exist") from None


def deleted(org: Org, request: Request, body: bytes) -> Response:
    """15 days back at most; a longer span is refused, and a purged log says from when on it knows."""
    thing = org.object(request.path_params["name"])
    start, end = (datetime.fromisoformat(request.query_params[n]) for n in ("start", "end"))
    now = datetime.fromisoformat(org.now())
    if start < now - timedelta(days=15):
        raise Refused(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
    if end <= start:
        raise Refused(400, "INVALID_REPLICATION_DATE", "endDate must be at least one minute after startDate")
    known_from = org.setting("deleted_known_from") or stored_time(now - timedelta(days=15))
    return JSONResponse({
        "deletedRecords": org.deleted(thing, stored_time(start), stored_time(end)),
        "earliestDateAvailable": known_from, "latestDateCovered": stored_time(end),
    })  # fmt: skip


# --- Writing ----------------------------------------------------------------------------------------------------


def _records(body: bytes) -> list[Json]:
    try:
        given = orjson.loads(body)["records"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refused(400, "JSON_PARSER_ERROR", "the body is not a collection of records") from None
    if len(given) > 200:
        raise Refused(400, "LIMIT_EXCEEDED", "A maximum of 200 records are allowed")
    return list(given)


def _each(org: Org, request: Request, rows: list[Json], one: Callable[[Json], Json]) -> Response:
    """Write row by row: one that is refused leaves the others alone (allOrNone=false)."""
    faults = request.scope.get("faults", {})
    results = []
    for i, row in enumerate(rows):
        if i == 0 and "lock" in faults:
            results.append(_failed(Refused(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access")))
            continue
        if "partial" in faults and i % 3 == 1:
            results.append(_failed(Refused(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred")))
            continue
        org.db.execute("SAVEPOINT row")
        try:
            results.append(one(row))
            org.db.execute("RELEASE row")
        except Refused as refused:
            org.db.execute("ROLLBACK TO row")
            org.db.execute("RELEASE row")
            results.append(_failed(refused))
    return JSONResponse(results)


def _failed(refused: Refused) -> Json:
    return {"success": False, "errors": [refused.row_error]}


def upsert(org: Org, request: Request, body: bytes) -> Response:
    thing, key = org.object(request.path_params["name"]), request.path_params["key"]
    if not thing.fields.get(key) or not thing.fields[key].is_external_id:
        raise Refused(400, "INVALID_FIELD", f"{key} is not an external id of {thing.name}")
    rows = _records(body)
    seen: set[str] = set()

    def one(row: Json) -> Json:
        value = str(row.get(key) or "")
        if not value:
            raise Refused(400, "MISSING_ARGUMENT", f"{key} not specified", [key])
        if value in seen:
            raise Refused(400, "DUPLICATE_VALUE", "Duplicate external id specified", [key])
        seen.add(value)
        found = org.find(thing, key, value)
        record, created = org.save(thing, row, found[0] if found else None)
        return {"id": record, "success": True, "errors": [], "created": created}

    return _each(org, request, rows, one)


def create(org: Org, request: Request, body: bytes) -> Response:
    def one(row: Json) -> Json:
        record, _ = org.save(org.object(row.get("attributes", {}).get("type", "")), row, None)
        return {"id": record, "success": True, "errors": []}

    return _each(org, request, _records(body), one)


def update(org: Org, request: Request, body: bytes) -> Response:
    def one(row: Json) -> Json:
        thing = org.object(row.get("attributes", {}).get("type", ""))
        record, _ = org.save(thing, row, str(row.get("id") or row.get("Id") or ""))
        return {"id": record, "success": True, "errors": []}

    return _each(org, request, _records(body), one)


def delete(org: Org, request: Request, body: bytes) -> Response:
    ids = [i for i in request.query_params.get("ids", "").split(",") if i]

    def one(row: Json) -> Json:
        org.delete(row["id"])
        return {"id": row["id"], "success": True, "errors": []}

    return _each(org, request, [{"id": i} for i in ids], one)
