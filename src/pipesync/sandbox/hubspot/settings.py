"""Endpoints of what is neither a record nor a pipeline: properties, owners, account, limits, schemas, rates, tokens."""

from __future__ import annotations

from pipesync._paths import shipped
from pipesync.sandbox.hubspot.answers import Answer, Call, error, invalid, not_found, number
from pipesync.sandbox.hubspot.definitions import TYPE_IDS, definition
from pipesync.sandbox.hubspot.portal import Portal
from pipesync.sandbox.hubspot.records import Json, iso
from pipesync.yamlsource import read

# --- Properties ---------------------------------------------------------------------------------------------------


def _schema_scope(portal: Portal, call: Call, *, write: bool) -> str:
    kind = portal.kind(call.at["kind"])
    if not write:
        portal.require(call.token)
        return kind
    known = {"deals": "deals", "companies": "companies"}.get(
        kind, "contacts" if kind in TYPE_IDS else "custom"
    )
    portal.require(call.token, f"crm.schemas.{known}.write")
    return kind


def list_properties(portal: Portal, call: Call) -> Answer:
    return Answer(200, {"results": portal.definitions(_schema_scope(portal, call, write=False))})


def read_property(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=False)
    for known in portal.definitions(kind):
        if known["name"] == call.at["name"]:
            return Answer(200, known)
    raise not_found(f"property {call.at['name']}")


def create_property(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=True)
    return Answer(201, _define(portal, kind, call.body))


def create_properties(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=True)
    results = [_define(portal, kind, one) for one in call.body.get("inputs") or []]
    now = iso(portal.records.now())
    return Answer(201, {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now})


def _define(portal: Portal, kind: str, given: Json) -> Json:
    for required in ("name", "label", "groupName", "type", "fieldType"):
        if not given.get(required):
            raise invalid(f"{required} is required", code="REQUIRED_FIELD", properties=[required])
    if kind == "tasks" and not portal.switch("task_properties"):
        raise invalid("custom properties are not supported for this object")
    if given["name"] in portal.types(kind):
        raise error(409, f"A property named {given['name']} already exists.", "OBJECT_ALREADY_EXISTS")
    if given["groupName"] not in {g["name"] for g in _groups(portal, kind)}:
        raise invalid(f"property group {given['groupName']} does not exist")
    own = [d for d in portal.definitions(kind) if not d["hubspotDefined"]]
    if len(own) >= _limit(portal):
        raise invalid("the limit of custom properties is reached", code="PROPERTY_LIMIT_REACHED")
    known = definition(given["name"], given["type"], own={n: v for n, v in given.items() if v is not None})
    portal.define(kind, [known | {"hubspotDefined": False}])
    return known | {"hubspotDefined": False}


def archive_property(portal: Portal, call: Call) -> Answer:
    _archive(portal, _schema_scope(portal, call, write=True), {call.at["name"]})
    return Answer(204)


def archive_properties(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=True)
    _archive(portal, kind, {one["name"] for one in call.body.get("inputs") or []})
    return Answer(204)


def _archive(portal: Portal, kind: str, names: set[str]) -> None:
    left = [d for d in portal.definitions(kind) if d["name"] not in names or d["hubspotDefined"]]
    portal.records.set(f"properties.{kind}", left)
    portal.forget_definitions(kind)


def change_property(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=True)
    known = next((d for d in portal.definitions(kind) if d["name"] == call.at["name"]), None)
    if known is None:
        raise not_found(f"property {call.at['name']}")
    if known["modificationMetadata"]["readOnlyDefinition"]:
        raise invalid(f"{call.at['name']} is not to be changed", code="READ_ONLY_DEFINITION")
    changed = known | {n: v for n, v in call.body.items() if n in known and n != "name" and v is not None}
    portal.define(kind, [changed])
    return Answer(200, changed)


def read_properties(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=False)
    names = {one["name"] for one in call.body.get("inputs") or []}
    now = iso(portal.records.now())
    results = [d for d in portal.definitions(kind) if d["name"] in names]
    return Answer(200, {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now})


def _groups(portal: Portal, kind: str) -> list[Json]:
    basic = {"name": "information", "label": "Information", "displayOrder": 0, "archived": False}
    found: list[Json] = portal.records.setting(f"groups.{kind}", [basic])
    return found


def list_groups(portal: Portal, call: Call) -> Answer:
    return Answer(200, {"results": _groups(portal, _schema_scope(portal, call, write=False))})


def create_group(portal: Portal, call: Call) -> Answer:
    kind = _schema_scope(portal, call, write=True)
    group = {"name": call.body["name"], "label": call.body["label"], "displayOrder": -1, "archived": False}
    known = _groups(portal, kind)
    if any(g["name"] == group["name"] for g in known):
        raise error(409, f"A property group named {group['name']} already exists.", "OBJECT_ALREADY_EXISTS")
    portal.records.set(f"groups.{kind}", [*known, group])
    return Answer(201, group)


def group(portal: Portal, call: Call) -> Answer:
    """Read (GET), relabel (PATCH) or delete (DELETE) one group."""
    kind = _schema_scope(portal, call, write=call.method != "GET")
    groups = _groups(portal, kind)
    found = next((g for g in groups if g["name"] == call.at["name"]), None)
    if found is None:
        raise not_found(f"property group {call.at['name']}")
    if call.method == "DELETE":
        groups.remove(found)
    else:
        found |= {n: v for n, v in call.body.items() if n in ("label", "displayOrder")}
    if call.method != "GET":
        portal.records.set(f"groups.{kind}", groups)
    return Answer(204) if call.method == "DELETE" else Answer(200, found)


def _limit(portal: Portal) -> int:
    limit: int = portal.records.setting("property_limit", 1000)
    return limit


def custom_property_limits(portal: Portal, call: Call) -> Answer:
    portal.require(call.token)
    limit, told, all_used = _limit(portal), [], 0
    for kind in ("deals", "tasks"):
        used = sum(not d["hubspotDefined"] for d in portal.definitions(kind))
        all_used += used
        told.append({
            "objectTypeId": TYPE_IDS[kind], "singularLabel": kind[:-1].capitalize(), "pluralLabel": kind.capitalize(),
            "limit": limit, "usage": used, "percentage": used / limit,
        })  # fmt: skip
    most = portal.records.setting("overall_property_limit", 10 * limit)
    overall = {"overallLimit": most, "overallUsage": all_used, "overallPercentage": all_used / most}
    return Answer(200, {**overall, "byObjectType": told})


# --- Object schemas ---------------------------------------------------------------------------------------------


def list_schemas(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, "crm.schemas.custom.read")
    return Answer(200, {"results": portal.schemas})


def schema(portal: Portal, call: Call) -> Answer:
    """Read (GET) or delete (DELETE) one custom object's schema."""
    portal.require(call.token, f"crm.schemas.custom.{'read' if call.method == 'GET' else 'write'}")
    name = portal.kind(call.at["kind"])
    found = next((s for s in portal.schemas if s["name"] == name), None)
    if found is None:
        raise not_found(f"schema {call.at['kind']}")
    if call.method == "DELETE":
        portal.records.set("schemas", [s for s in portal.schemas if s["name"] != name])
        return Answer(204)
    return Answer(200, {**found, "properties": portal.definitions(name)})


def create_schema(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, "crm.schemas.custom.write")
    if not portal.switch("custom_objects"):
        raise error(403, "This portal has no custom objects.", "FORBIDDEN")
    return Answer(201, add_schema(portal, call.body))


def add_schema(portal: Portal, given: Json) -> Json:
    name, number_ = given["name"], len(portal.schemas) + 1
    if any(s["name"] == name for s in portal.schemas):
        raise error(409, f"An object named {name} already exists.", "OBJECT_ALREADY_EXISTS")
    portal_id = portal.records.setting("account", {}).get("portalId", 1)
    schema = {
        "id": str(number_), "name": name, "labels": given.get("labels", {}), "objectTypeId": f"2-{10_000 + number_}",
        "fullyQualifiedName": f"p{portal_id}_{name}", "primaryDisplayProperty": given.get("primaryDisplayProperty"),
        "requiredProperties": given.get("requiredProperties", []), "searchableProperties": [], "archived": False,
        "secondaryDisplayProperties": [], "associations": [], "allowsSensitiveProperties": False,
    }  # fmt: skip
    portal.records.set("schemas", [*portal.schemas, schema])
    own = [
        definition(p["name"], p["type"], own=p | {"hubspotDefined": False})
        for p in given.get("properties", [])
    ]
    portal.define(name, own)
    return {**schema, "properties": own}


# --- Owners, account, rates ---------------------------------------------------------------------------------------


def list_owners(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, "crm.objects.owners.read")
    limit, archived = number(call, "limit", 100, 500), call.flag("archived")
    owners = [o for o in portal.records.setting("owners", []) if o["archived"] == archived]
    if email := call.one("email"):
        owners = [o for o in owners if o.get("email") == email]
    start = int(call.one("after", "0") or 0)
    body: Json = {"results": owners[start : start + limit]}
    if len(owners) > start + limit:
        after = str(start + limit)
        body["paging"] = {
            "next": {"after": after, "link": f"{call.base_url}{call.path}?limit={limit}&after={after}"}
        }
    return Answer(200, body)


def read_owner(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, "crm.objects.owners.read")
    found = next((o for o in portal.records.setting("owners", []) if o["id"] == call.at["id"]), None)
    if found is None:
        raise not_found(f"owner {call.at['id']}")
    return Answer(200, found)


def account(portal: Portal, call: Call) -> Answer:
    portal.require(call.token)
    return Answer(200, portal.records.setting("account", {}))


def daily_usage(portal: Portal, call: Call) -> Answer:
    portal.require(call.token)
    told: Json = {"name": "private-apps-api-calls-daily", "usageLimit": 1_000_000, "currentUsage": 0}
    return Answer(
        200, {"results": [told | {"collectedAt": iso(portal.records.now()), "fetchStatus": "SUCCESS"}]}
    )


def exchange_rates(portal: Portal, call: Call) -> Answer:
    portal.require(call.token, "settings.currencies.read")
    return Answer(200, {"results": portal.records.setting("rates", [])})


def grant_token(portal: Portal, call: Call) -> Answer:
    """Exchange a refresh token, which the settings hold, for a new access token."""
    known = portal.records.setting("oauth", {})
    given = call.body
    if given.get("refresh_token") not in known or given.get("grant_type") != "refresh_token":
        raise error(400, "missing or unknown refresh token", "BAD_REFRESH_TOKEN")
    token = f"access-{len(portal.tokens) + 1}"
    portal.records.set("tokens", {**portal.tokens, token: known[given["refresh_token"]]})
    return Answer(
        200,
        {
            "access_token": token, "refresh_token": given["refresh_token"], "expires_in": 1800, "token_type": "bearer",
            "token_use": "access_token", "hub_id": 1, "scopes": known[given["refresh_token"]],
        },
    )  # fmt: skip


def install_kit(portal: Portal) -> None:
    """Have what `pipesync install-fields` creates, the forecast object included."""
    kit = read(shipped("adapters") / "hubspot" / "properties.yaml").data
    for kind in ("tasks", "deals"):
        own = [{**p, "groupName": "pipesync", "hubspotDefined": False} for p in kit[kind]]
        portal.define(kind, [definition(p["name"], p["type"], own=p) for p in own])
        portal.records.set(f"groups.{kind}", [*_groups(portal, kind), {**kit["group"], "archived": False}])
    if not portal.schemas:
        add_schema(portal, kit["forecast_object"])
