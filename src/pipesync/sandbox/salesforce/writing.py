"""Writing: records one by one, by external id, and in collections of 200.

Settings of the org that it heeds: `rules` (validation rules), `readonly`, `ignored` (`Object.Field` that is taken with
success and then not stored, as with the amount of an opportunity that has products), `locked` (ids of accounts that
someone else is holding), `busy_after` (for how many more collections an account stays locked that one has saved to:
sharing, roll-ups and flows go on when the answer is long there).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipesync.sandbox.salesforce import queries
from pipesync.sandbox.salesforce.objects import ObjectOf
from pipesync.sandbox.salesforce.org import Json, Org, Refused

_MOST, _MOST_KINDS = 200, 10
_REMEMBERED = 20
"""Collections whose accounts are known."""


def _records(body: bytes) -> tuple[list[Json], bool]:
    """Return the records of a collection, and whether all or none are to be written."""
    try:
        told = orjson.loads(body)
        given = list(told["records"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refused(400, "JSON_PARSER_ERROR", "the body is not a collection of records") from None
    if len(given) > _MOST:
        raise Refused(400, "LIMIT_EXCEEDED", f"A maximum of {_MOST} records are allowed")
    kinds = [r.get("attributes", {}).get("type") for r in given]
    if 1 + sum(a != b for a, b in pairwise(kinds)) > _MOST_KINDS:
        raise Refused(
            400, "LIMIT_EXCEEDED", f"Cannot have more than {_MOST_KINDS} chunks in a single operation"
        )
    return given, bool(told.get("allOrNone"))


def _one(body: bytes) -> Json:
    try:
        found = orjson.loads(body)
        return dict(found)
    except (orjson.JSONDecodeError, TypeError, ValueError):
        raise Refused(400, "JSON_PARSER_ERROR", "the body is not a record") from None


def _each(
    org: Org, request: Request, rows: list[Json], one: Callable[[Json], Json], *, is_all: bool = False
) -> Response:
    """Write row by row: one that is refused leaves the others alone, unless all or none are wanted."""
    faults = request.scope.get("faults", {})
    results = []
    org.touched.insert(0, set())
    del org.touched[_REMEMBERED:]
    org.db.execute("SAVEPOINT collection")
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
    if is_all and not all(r["success"] for r in results):
        org.db.execute("ROLLBACK TO collection")
        undone = _failed(Refused(400, "ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back"))
        results = [undone if r["success"] else r for r in results]
    org.db.execute("RELEASE collection")
    return JSONResponse(results)


def _failed(refused: Refused) -> Json:
    return {"success": False, "errors": [refused.row_error]}


# --- Collections ------------------------------------------------------------------------------------------------


def upsert(org: Org, request: Request, body: bytes) -> Response:
    thing, key = _keyed(org, request)
    rows, is_all = _records(body)
    seen: set[str] = set()

    def one(row: Json) -> Json:
        value = str(row.get(key) or "")
        if not value:
            raise Refused(400, "MISSING_ARGUMENT", f"{key} not specified", [key])
        if row.get("Id") or row.get("id"):
            raise Refused(400, "INVALID_FIELD", "Only external ids are supported", ["Id"])
        if value in seen:
            raise Refused(400, "DUPLICATE_VALUE", "Duplicate external id specified", [key])
        seen.add(value)
        record, created = _by_key(org, thing, key, value, row)
        return {"id": record, "success": True, "errors": [], "created": created}

    return _each(org, request, rows, one, is_all=is_all)


def _keyed(org: Org, request: Request) -> tuple[ObjectOf, str]:
    thing, key = org.object(request.path_params["name"]), request.path_params["key"]
    if not thing.fields.get(key) or not thing.fields[key].is_external_id:
        raise Refused(400, "INVALID_FIELD", f"{key} is not an external id of {thing.name}")
    return thing, key


def _by_key(org: Org, thing: ObjectOf, key: str, value: str, row: Json) -> tuple[str, bool]:
    found = org.find(thing, key, value)
    if len(found) > 1:
        raise Refused(300, "MULTIPLE_API_ERRORS", "more than one record found for external id field", [key])
    return org.save(thing, row | {key: value}, found[0] if found else None)


def create(org: Org, request: Request, body: bytes) -> Response:
    def one(row: Json) -> Json:
        record, _ = org.save(org.object(row.get("attributes", {}).get("type", "")), row, None)
        return {"id": record, "success": True, "errors": []}

    rows, is_all = _records(body)
    return _each(org, request, rows, one, is_all=is_all)


def update(org: Org, request: Request, body: bytes) -> Response:
    def one(row: Json) -> Json:
        thing = org.object(row.get("attributes", {}).get("type", ""))
        record, _ = org.save(thing, row, str(row.get("id") or row.get("Id") or ""))
        return {"id": record, "success": True, "errors": []}

    rows, is_all = _records(body)
    return _each(org, request, rows, one, is_all=is_all)


def delete(org: Org, request: Request, body: bytes) -> Response:
    ids = [i for i in request.query_params.get("ids", "").split(",") if i]
    if len(ids) > _MOST:
        raise Refused(400, "LIMIT_EXCEEDED", f"A maximum of {_MOST} records are allowed")

    def one(row: Json) -> Json:
        org.delete(row["id"])
        return {"id": row["id"], "success": True, "errors": []}

    is_all = request.query_params.get("allOrNone") == "true"
    return _each(org, request, [{"id": i} for i in ids], one, is_all=is_all)


def retrieve(org: Org, request: Request, body: bytes) -> Response:
    """Return records by id, null for those that are not there, in the order asked for."""
    asked = _one(body) if body else dict(request.query_params)
    ids, fields = asked.get("ids", ""), asked.get("fields", "")
    ids, fields = ([*x.split(",")] if isinstance(x, str) else list(x) for x in (ids, fields))
    listed = ", ".join(f"'{i}'" for i in ids)
    wanted, name = ", ".join(dict.fromkeys(("Id", *fields))), request.path_params["name"]
    soql = f"SELECT {wanted} FROM {name} WHERE Id IN ({listed})"
    found = {r["Id"]: r for r in queries.answer(org, soql, is_all=False)[1]}
    return Response(orjson.dumps([found.get(i) for i in ids]), media_type="application/json")


# --- One record -------------------------------------------------------------------------------------------------


def create_one(org: Org, request: Request, body: bytes) -> Response:
    record, _ = org.save(org.object(request.path_params["name"]), _one(body), None)
    return JSONResponse({"id": record, "success": True, "errors": []}, 201)


def read_one(org: Org, request: Request, body: bytes) -> Response:
    thing, record = org.object(request.path_params["name"]), request.path_params["record"]
    fields = request.query_params.get("fields") or ",".join(org.visible(thing))
    _, rows = queries.answer(org, f"SELECT {fields} FROM {thing.name} WHERE Id = '{record}'", is_all=False)
    if not rows:
        raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
    return Response(orjson.dumps(rows[0]), media_type="application/json")


def update_one(org: Org, request: Request, body: bytes) -> Response:
    org.save(org.object(request.path_params["name"]), _one(body), request.path_params["record"])
    return Response(status_code=204)


def delete_one(org: Org, request: Request, body: bytes) -> Response:
    org.delete(request.path_params["record"])
    return Response(status_code=204)


def upsert_one(org: Org, request: Request, body: bytes) -> Response:
    thing, key = _keyed(org, request)
    record, created = _by_key(org, thing, key, request.path_params["value"], _one(body))
    return JSONResponse(
        {"id": record, "success": True, "errors": [], "created": created}, 201 if created else 200
    )


ROUTES: list[tuple[str, str, Callable[[Org, Request, bytes], Response]]] = [
    ("PATCH", "/composite/sobjects/{name}/{key}", upsert),
    ("GET", "/composite/sobjects/{name}", retrieve),
    ("POST", "/composite/sobjects/{name}", retrieve),
    ("POST", "/composite/sobjects", create),
    ("PATCH", "/composite/sobjects", update),
    ("DELETE", "/composite/sobjects", delete),
    ("POST", "/sobjects/{name}", create_one),
    ("GET", "/sobjects/{name}/{record}", read_one),
    ("PATCH", "/sobjects/{name}/{record}", update_one),
    ("DELETE", "/sobjects/{name}/{record}", delete_one),
    ("PATCH", "/sobjects/{name}/{key}/{value}", upsert_one),
]
"""Below the version's address."""
