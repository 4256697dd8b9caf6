"""Endpoints of associations between records."""

from __future__ import annotations

from pipesync.sandbox.hubspot.answers import Answer, Call, invalid, number
from pipesync.sandbox.hubspot.definitions import PRIMARY_COMPANY, TYPE_IDS, link_types, scope_of
from pipesync.sandbox.hubspot.portal import Portal
from pipesync.sandbox.hubspot.records import Json

_INPUTS = 1000


def _kinds(portal: Portal, call: Call, *, write: bool = False) -> tuple[str, str]:
    kind, to = portal.kind(call.at["kind"]), portal.kind(call.at["to"])
    portal.require(call.token, scope_of(kind, write=write))
    if portal.switch("link_scopes") == "both":
        portal.require(call.token, scope_of(to, write=write))
    return kind, to


def batch_read(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call)
    inputs = call.body.get("inputs") or []
    if not 1 <= len(inputs) <= _INPUTS:
        raise invalid(f"The number of inputs must be between 1 and {_INPUTS}")
    starts = {int(i["id"]): int(i.get("after") or 0) for i in inputs}
    ids = list(starts)
    found = portal.records.links(kind, ids, to)
    size = portal.links_page
    results: list[Json] = []
    for i in (i for i in ids if i in found):
        targets, end = _targets(found[i], is_v4="/v4/" in call.path), starts[i] + size
        one: Json = {"from": {"id": str(i)}, "to": targets[starts[i] : end]}
        if len(targets) > end:
            one["paging"] = {"next": {"after": str(end), "link": f"{call.base_url}{call.path}?after={end}"}}
        results.append(one)
    missing = [i for i in ids if i not in found]
    now = portal.records.setting("started", "2026-01-01T00:00:00.000Z")
    body: Json = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if not missing:
        return Answer(200, body)
    body["numErrors"] = len(missing)
    body["errors"] = [
        {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
            "message": f"No {to} is associated with {kind} {i}.",
            "context": {"fromObjectId": [str(i)]},
        }
        for i in missing
    ]
    return Answer(207, body)


def _targets(links: list[tuple[int, int, str | None]], *, is_v4: bool) -> list[Json]:
    """Return what a record is linked to: in v4 with numbers and nulls, as HubSpot's documentation shows them."""
    found: dict[int, Json] = {}
    for to, type_id, label in links:
        one = found.setdefault(to, {"toObjectId": to if is_v4 else str(to), "associationTypes": []})
        kind: Json = {"category": "USER_DEFINED" if label else "HUBSPOT_DEFINED", "typeId": type_id}
        named = label or ("Primary" if type_id == PRIMARY_COMPANY else None)
        one["associationTypes"].append(kind | ({"label": named} if named or is_v4 else {}))
    return list(found.values())


def read_one(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call)
    limit = number(call, "limit", 500, 500)
    i = int(call.at["id"])
    found = _targets(portal.records.links(kind, [i], to).get(i, []), is_v4="/v4/" in call.path)
    start = int(call.one("after", "0") or 0)
    body: Json = {"results": found[start : start + limit]}
    if len(found) > start + limit:
        body["paging"] = {"next": {"after": str(start + limit), "link": f"{call.base_url}{call.path}"}}
    return Answer(200, body)


def associate_default(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call, write=True)
    _link(portal, kind, int(call.at["id"]), to, int(call.at["to_id"]), None)
    return Answer(200, {"status": "COMPLETE", "results": []})


def associate(portal: Portal, call: Call) -> Answer:
    """Link two records with the types that the body lists."""
    kind, to = _kinds(portal, call, write=True)
    for one in call.body if isinstance(call.body, list) else []:
        _link(portal, kind, int(call.at["id"]), to, int(call.at["to_id"]), one.get("associationTypeId"))
    ends = {"fromObjectId": int(call.at["id"]), "toObjectId": int(call.at["to_id"]), "labels": []}
    return Answer(201, {"fromObjectTypeId": TYPE_IDS[kind], "toObjectTypeId": TYPE_IDS[to], **ends})


def dissociate(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call, write=True)
    portal.records.unlink(kind, int(call.at["id"]), to, int(call.at["to_id"]))
    _count_contacts(portal, kind, int(call.at["id"]), to, int(call.at["to_id"]))
    return Answer(204)


def batch_create(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call, write=True)
    for one in call.body.get("inputs") or []:
        source = one.get("from") or one.get("_from")
        types = one.get("types") or [{}]
        _link(portal, kind, int(source["id"]), to, int(one["to"]["id"]), types[0].get("associationTypeId"))
    return Answer(201, {"status": "COMPLETE", "results": []})


def _link(portal: Portal, kind: str, i: int, to: str, target: int, type_id: int | None) -> None:
    there, back = link_types(kind, to)
    portal.records.link(kind, i, to, target, int(type_id or there), None, back)
    _count_contacts(portal, kind, i, to, target)


def batch_archive(portal: Portal, call: Call) -> Answer:
    kind, to = _kinds(portal, call, write=True)
    for one in call.body.get("inputs") or []:
        source = one.get("from") or one.get("_from")
        for target in one["to"] if isinstance(one["to"], list) else [one["to"]]:
            portal.records.unlink(kind, int(source["id"]), to, int(target["id"]))
            _count_contacts(portal, kind, int(source["id"]), to, int(target["id"]))
    return Answer(204)


def _count_contacts(portal: Portal, kind: str, i: int, to: str, target: int) -> None:
    """HubSpot counts a deal's contacts, which is a modification of the deal."""
    deal = i if kind == "deals" else target if to == "deals" else None
    if deal is None or "contacts" not in (kind, to):
        return
    count = len({x for x, _, _ in portal.records.links("deals", [deal], "contacts").get(deal, ())})
    portal.records.touch("deals", deal, {"num_associated_contacts": str(count)})
