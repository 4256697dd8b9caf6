"""Endpoints of pipelines and their stages; an audit remembers every change."""

from __future__ import annotations

from pipesync.sandbox.hubspot.answers import Answer, Call, invalid, not_found
from pipesync.sandbox.hubspot.portal import Portal
from pipesync.sandbox.hubspot.records import Json, iso

_READ, _WRITE = "crm.objects.deals.read", "crm.objects.deals.write"
_CHANGEABLE = ("label", "displayOrder", "metadata")


def list_pipelines(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, _READ)
    return Answer(200, {"results": portal.pipelines(portal.kind(call.at["kind"]))})


def create_pipeline(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, _WRITE)
    kind = portal.kind(call.at["kind"])
    pipelines = portal.pipelines(kind)
    taken = [i for p in pipelines for i in (p["id"], *(s["id"] for s in p["stages"]))]
    first = max((int(i) for i in taken if i.isdigit()), default=2_000_000) + 1
    made = _new(portal, call.body, str(first))
    made["stages"] = [
        _new_stage(portal, s, str(first + n)) for n, s in enumerate(call.body.get("stages") or [], 1)
    ]
    pipelines.append(made)
    return _kept(portal, kind, pipelines, made, "CREATE", made["id"], 201)


def pipeline(portal: Portal, call: Call) -> Answer:
    """Read (GET), change (PATCH, PUT) or delete (DELETE) one pipeline."""
    portal.require(call.token, _READ if call.method == "GET" else _WRITE)
    kind, pipelines, found = _found(portal, call)
    if call.method == "GET":
        return Answer(200, found)
    if call.method == "DELETE":
        pipelines.remove(found)
        return _kept(portal, kind, pipelines, found, "DELETE", found["id"], 204)
    found |= {n: v for n, v in call.body.items() if n in _CHANGEABLE}
    return _kept(portal, kind, pipelines, found, "UPDATE", found["id"], 200)


def list_stages(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, _READ)
    return Answer(200, {"results": _found(portal, call)[2]["stages"]})


def create_stage(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, _WRITE)
    kind, pipelines, found = _found(portal, call)
    taken = [int(s["id"]) for p in pipelines for s in p["stages"] if s["id"].isdigit()]
    made = _new_stage(portal, call.body, str(max(taken, default=2_000_000) + 1))
    found["stages"].append(made)
    return _kept(portal, kind, pipelines, made, "CREATE", found["id"], 201)


def stage(portal: Portal, call: Call) -> Answer:
    """Read (GET), change (PATCH, PUT) or delete (DELETE) one stage."""
    portal.require(call.token, _READ if call.method == "GET" else _WRITE)
    kind, pipelines, of = _found(portal, call)
    found = next((s for s in of["stages"] if s["id"] == call.at["stage"]), None)
    if found is None:
        raise not_found(f"stage {call.at['stage']}")
    if call.method == "GET":
        return Answer(200, found)
    if call.method == "DELETE":
        of["stages"].remove(found)
        return _kept(portal, kind, pipelines, found, "DELETE", of["id"], 204)
    found |= {n: v for n, v in call.body.items() if n in _CHANGEABLE}
    return _kept(portal, kind, pipelines, found, "UPDATE", of["id"], 200)


def audit(portal: Portal, call: Call) -> Answer:
    """Return what was changed in a pipeline, or of one of its stages, the latest first."""
    portal.require(call.token, _READ)
    found = [a for a in portal.records.setting("audit", []) if a["pipeline"] == call.at["id"]]
    if stage_id := call.at.get("stage"):
        found = [a for a in found if a["identifier"] == stage_id]
    return Answer(200, {"results": found[::-1]})


def _found(portal: Portal, call: Call) -> tuple[str, list[Json], Json]:
    kind, wanted = portal.kind(call.at["kind"]), call.at["id"]
    pipelines = portal.pipelines(kind)
    found = next((p for p in pipelines if p["id"] == wanted), None)
    if found is None:
        raise not_found(f"pipeline {wanted}")
    return kind, pipelines, found


def _new(portal: Portal, given: Json, i: str) -> Json:
    if not given.get("label"):
        raise invalid("label is required", code="REQUIRED_FIELD", properties=["label"])
    now = iso(portal.records.now())
    told = {"id": i, "label": given["label"], "displayOrder": given.get("displayOrder", 0), "archived": False}
    return told | {"createdAt": now, "updatedAt": now}


def _new_stage(portal: Portal, given: Json, i: str) -> Json:
    access = {"writePermissions": "CRM_PERMISSIONS_ENFORCEMENT"}
    return _new(portal, given, i) | access | {"metadata": given.get("metadata") or {}}


def _kept(
    portal: Portal, kind: str, pipelines: list[Json], told: Json, action: str, of: str, status: int
) -> Answer:
    _remember(portal, told, action, of)
    portal.records.set(f"pipelines.{kind}", pipelines)
    return Answer(204) if status == 204 else Answer(status, told)


def _remember(portal: Portal, told: Json, action: str, pipeline_id: str) -> None:
    entry = {
        "identifier": told["id"], "portalId": portal.records.setting("account", {}).get("portalId", 1),
        "action": action, "timestamp": iso(portal.records.now()), "rawObject": dict(told), "pipeline": pipeline_id,
    }  # fmt: skip
    portal.records.set("audit", [*portal.records.setting("audit", []), entry])
