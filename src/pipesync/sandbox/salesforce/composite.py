"""Composite requests: up to 25 in one, later ones may use what earlier ones answered (`@{ref.id}`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from pipesync.sandbox.salesforce import queries, writing
from pipesync.sandbox.salesforce.org import Json, Org, Refused

_MOST = 25
_REFERENCE = re.compile(r"@\{(\w+)\.(\w+)\}")


def answer(org: Org, request: Request, body: bytes) -> Response:
    """Answer each in order; with `allOrNone` the first failure takes all back."""
    try:
        told = orjson.loads(body)
        asked, is_all = list(told["compositeRequest"]), bool(told.get("allOrNone"))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refused(400, "JSON_PARSER_ERROR", "the body is not a composite request") from None
    if len(asked) > _MOST:
        raise Refused(400, "LIMIT_EXCEEDED", f"The number of subrequests must not exceed {_MOST}")
    org.db.execute("SAVEPOINT composite")
    known: dict[str, Any] = {}
    answers = [_one(org, request, one, known) for one in asked]
    if is_all and any(a["httpStatusCode"] >= 300 for a in answers):
        org.db.execute("ROLLBACK TO composite")
        halted = [{"errorCode": "PROCESSING_HALTED", "message": "The transaction was rolled back since another "
                   "operation in the same transaction failed."}]  # fmt: skip
        answers = [
            a if a["httpStatusCode"] >= 300 else a | {"httpStatusCode": 400, "body": halted} for a in answers
        ]
    org.db.execute("RELEASE composite")
    return JSONResponse({"compositeResponse": answers})


def _one(org: Org, request: Request, asked: Json, known: dict[str, Any]) -> Json:
    reference = str(asked.get("referenceId", ""))
    org.db.execute("SAVEPOINT one")
    try:
        found = _dispatched(org, request, asked, known)
        status, body = found.status_code, orjson.loads(found.body) if found.body else None
        org.db.execute("RELEASE one")
    except Refused as refused:
        org.db.execute("ROLLBACK TO one")
        org.db.execute("RELEASE one")
        status, body = refused.status, refused.body
    known[reference] = body
    return {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference}


def _dispatched(org: Org, request: Request, asked: Json, known: Mapping[str, Any]) -> Response:
    method = str(asked.get("method", ""))
    url = urlsplit(_filled(str(asked.get("url", "")), known))
    content = _filled(orjson.dumps(asked.get("body") or {}).decode(), known).encode()
    below = re.sub(r"^/services/data/v[\d.]+", "", url.path)
    for verb, path, endpoint in writing.ROUTES:
        pattern, _, _ = compile_path(path)
        if verb == method and (found := pattern.match(below)):
            scope = {**request.scope, "path_params": found.groupdict(), "query_string": url.query.encode()}
            return endpoint(org, Request(scope), content)
    if method == "GET" and below.rstrip("/") == "/query":
        asked_for = parse_qs(url.query).get("q", [""])[0]
        total, rows = queries.answer(org, asked_for, is_all=False)
        return Response(orjson.dumps({"totalSize": total, "done": True, "records": rows}))
    raise Refused(404, "NOT_FOUND", "The requested resource does not exist")


def _filled(text: str, known: Mapping[str, Any]) -> str:
    """Put in what `@{reference.field}` means."""

    def value(match: re.Match[str]) -> str:
        body = known.get(match[1])
        if not isinstance(body, dict) or match[2] not in body:
            raise Refused(400, "PROCESSING_HALTED", "Invalid reference specified. No value for " + match[0])
        return str(body[match[2]])

    return _REFERENCE.sub(value, text)
