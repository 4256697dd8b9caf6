"""The endpoints at their addresses, in both families of paths, as Starlette routes.

Legacy paths name a version before the resource (`/crm/v3/objects/deals`), date-based ones behind it
(`/crm/objects/2026-09/deals`); associations are v4 in the former.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipesync.sandbox.hubspot import links, objects, pipelines, settings
from pipesync.sandbox.hubspot.answers import Answer, Call, Refused, error
from pipesync.sandbox.hubspot.limits import Limits
from pipesync.sandbox.hubspot.portal import Portal

Endpoint = Callable[[Portal, Call], Answer]

_OBJECTS: list[tuple[str, str, Endpoint]] = [
    ("POST", "/{kind}/search", objects.search_records),
    ("POST", "/{kind}/merge", objects.merge_records),
    ("POST", "/{kind}/batch/read", objects.batch_read),
    ("POST", "/{kind}/batch/create", objects.batch_create),
    ("POST", "/{kind}/batch/update", objects.batch_update),
    ("POST", "/{kind}/batch/upsert", objects.batch_upsert),
    ("POST", "/{kind}/batch/archive", objects.batch_archive),
    ("GET", "/{kind}", objects.list_records),
    ("POST", "/{kind}", objects.create_record),
    ("GET", "/{kind}/{id}/associations/{to}", links.read_one),
    ("PUT", "/{kind}/{id}/associations/default/{to}/{to_id}", links.associate_default),
    ("PUT", "/{kind}/{id}/associations/{to}/{to_id}", links.associate),
    ("DELETE", "/{kind}/{id}/associations/{to}/{to_id}", links.dissociate),
    ("GET", "/{kind}/{id}", objects.read_record),
    ("PATCH", "/{kind}/{id}", objects.update_record),
    ("DELETE", "/{kind}/{id}", objects.archive_record),
]
_FAMILIES: dict[str, list[tuple[str, str, Endpoint]]] = {
    "objects": _OBJECTS,
    "associations": [
        ("POST", "/{kind}/{to}/batch/read", links.batch_read),
        ("POST", "/{kind}/{to}/batch/create", links.batch_create),
        ("POST", "/{kind}/{to}/batch/associate/default", links.batch_create),
        ("POST", "/{kind}/{to}/batch/archive", links.batch_archive),
        ("POST", "/{kind}/{to}/batch/labels/archive", links.batch_archive),
    ],
    "pipelines": [
        ("GET", "/{kind}", pipelines.list_pipelines),
        ("POST", "/{kind}", pipelines.create_pipeline),
        *((method, "/{kind}/{id}", pipelines.pipeline) for method in ("GET", "PATCH", "PUT", "DELETE")),
        ("GET", "/{kind}/{id}/audit", pipelines.audit),
        ("GET", "/{kind}/{id}/stages", pipelines.list_stages),
        ("POST", "/{kind}/{id}/stages", pipelines.create_stage),
        ("GET", "/{kind}/{id}/stages/{stage}/audit", pipelines.audit),
        *(
            (method, "/{kind}/{id}/stages/{stage}", pipelines.stage)
            for method in ("GET", "PATCH", "PUT", "DELETE")
        ),
    ],
    "properties": [
        ("GET", "/{kind}", settings.list_properties),
        ("POST", "/{kind}", settings.create_property),
        ("POST", "/{kind}/batch/create", settings.create_properties),
        ("POST", "/{kind}/batch/read", settings.read_properties),
        ("POST", "/{kind}/batch/archive", settings.archive_properties),
        ("GET", "/{kind}/groups", settings.list_groups),
        ("POST", "/{kind}/groups", settings.create_group),
        *((method, "/{kind}/groups/{name}", settings.group) for method in ("GET", "PATCH", "DELETE")),
        ("GET", "/{kind}/{name}", settings.read_property),
        ("PATCH", "/{kind}/{name}", settings.change_property),
        ("DELETE", "/{kind}/{name}", settings.archive_property),
    ],
    "owners": [("GET", "", settings.list_owners), ("GET", "/{id}", settings.read_owner)],
    "limits": [("GET", "/custom-properties", settings.custom_property_limits)],
    "schemas": [("GET", "", settings.list_schemas), ("POST", "", settings.create_schema)],
}
_SINGLE: list[tuple[str, str, Endpoint]] = [
    ("GET", "/account-info/{version}/details", settings.account),
    ("GET", "/account-info/{version}/api-usage/daily/private-apps", settings.daily_usage),
    ("GET", "/settings/v3/currencies/exchange-rates", settings.exchange_rates),
    ("GET", "/settings/currencies/{version}/exchange-rates", settings.exchange_rates),
    ("GET", "/crm-object-schemas/{version}/schemas", settings.list_schemas),
    ("POST", "/crm-object-schemas/{version}/schemas", settings.create_schema),
    ("GET", "/crm-object-schemas/{version}/schemas/{kind}", settings.schema),
    ("DELETE", "/crm-object-schemas/{version}/schemas/{kind}", settings.schema),
    ("POST", "/oauth/{version}/token", settings.grant_token),
]
_DATED = re.compile(r"\d{4}-\d{2}(-beta)?$")


def routes(portal: Portal, limits: Limits | None = None) -> list[Route]:
    """Return the routes of one portal; they answer in the event loop, one request after the other."""
    counted = limits or Limits()
    found = []
    for family, endpoints in _FAMILIES.items():
        for prefix in (f"/crm/v3/{family}", f"/crm/v4/{family}", f"/crm/{family}/{{version}}"):
            found += [
                Route(prefix + rest + slash, _served(portal, counted, endpoint), methods=[method])
                for method, rest, endpoint in endpoints
                for slash in ("", "/")
            ]
    return found + [
        Route(path, _served(portal, counted, endpoint), methods=[method])
        for method, path, endpoint in _SINGLE
    ]


def _served(portal: Portal, limits: Limits, endpoint: Endpoint) -> Callable[[Request], object]:
    search = endpoint is objects.search_records

    async def serve(request: Request) -> Response:
        body = await request.body()  # read even where it means nothing: an unread one breaks keep-alive
        headers: dict[str, str] = {}
        tier = portal.switch("tier")
        if isinstance(tier, str):
            admitted = limits.admit(tier, search=search)
            if isinstance(admitted, Answer):
                return _response(admitted, {})
            headers = admitted
        try:
            call = _call(request, body)
            _meet(call)
            answer = endpoint(portal, call)
            portal.records.db.commit()
        except Refused as refused:
            portal.records.db.rollback()
            answer = refused.answer
        return _response(answer, headers)

    return serve


def _call(request: Request, body: bytes) -> Call:
    version = request.path_params.get("version", "v3")
    if not (_DATED.match(version) or version in ("v1", "v3", "v4")):
        raise error(404, f"unknown version {version}")
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return Call(
        method=request.method,
        path=request.url.path,
        version=version,
        at=request.path_params,
        query=parse_qs(request.url.query, keep_blank_values=True),
        body=_parsed(request, body),
        token=token.strip() if kind.casefold() == "bearer" else "",
        faults=frozenset(request.scope.get("faults", ())),
        base_url=str(request.base_url).rstrip("/"),
    )


def _meet(call: Call) -> None:
    """Refuse what the fault harness wants refused by HubSpot itself."""
    if "session" in call.faults:
        raise error(401, "The OAuth token used to make this call expired.", "EXPIRED_AUTHENTICATION")
    if "lock" in call.faults and call.method != "GET":
        raise error(423, "The record is locked.", "LOCKED")


def _parsed(request: Request, body: bytes) -> object:
    if not body:
        return {}
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return {n: values[-1] for n, values in parse_qs(body.decode()).items()}
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise error(400, "Invalid input JSON", "VALIDATION_ERROR") from None


def _response(answer: Answer, headers: dict[str, str]) -> Response:
    content = b"" if answer.body is None else orjson.dumps(answer.body)
    return Response(content, answer.status, {**headers, **answer.headers}, "application/json")
