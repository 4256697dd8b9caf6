"""Endpoints of records: list, read, search, create, update, upsert, archive, merge; one by one and in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from pipesync.sandbox.hubspot import search
from pipesync.sandbox.hubspot.answers import Answer, Call, Refused, error, invalid, not_found, number
from pipesync.sandbox.hubspot.definitions import ALWAYS, DEFAULTS, PRIMARY_COMPANY, link_types, scope_of
from pipesync.sandbox.hubspot.portal import APP, Portal
from pipesync.sandbox.hubspot.records import Json, Record, iso

HISTORY_PAGE, LIST_PAGE, SEARCH_PAGE, BATCH, WINDOW = 50, 100, 200, 100, 10_000
_ADDRESS = 15_000
"""Characters of an address above which HubSpot answers 414."""


def _allowed(portal: Portal, call: Call, *, write: bool = False) -> str:
    kind = portal.kind(call.at["kind"])
    portal.require(call.token, scope_of(kind, write=write))
    return kind


# --- Reading ----------------------------------------------------------------------------------------------------


def list_records(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call)
    if sum(len(v) for values in call.query.values() for v in values) > _ADDRESS:
        raise Refused(Answer(414, {"status": "error", "message": "URI too long"}))
    past = call.many("propertiesWithHistory")
    for to in call.many("associations") if portal.switch("link_scopes") == "both" else ():
        portal.require(call.token, scope_of(portal.kind(to), write=False))
    limit = number(call, "limit", 10, HISTORY_PAGE if past else LIST_PAGE)
    after = call.one("after", "0")
    if not after.isdigit():
        raise invalid("after must be a record id")
    found = portal.records.page(kind, after=int(after), limit=limit + 1, archived=call.flag("archived"))
    results = _shown(portal, kind, found[:limit], call.many("properties"), past, call.many("associations"))
    body: Json = {"results": results}
    if len(found) > limit:
        body["paging"] = _next(call, str(found[limit].id))
    return Answer(200, body)


def _next(call: Call, after: str) -> Json:
    kept = "&".join(f"{n}={v}" for n, values in call.query.items() if n != "after" for v in values)
    link = f"{call.base_url}{call.path}?{kept}{'&' if kept else ''}after={after}"
    return {"next": {"after": after, "link": link}}


def _shown(
    portal: Portal,
    kind: str,
    records: Sequence[Record],
    names: Sequence[str],
    past: Sequence[str] = (),
    associations: Sequence[str] = (),
) -> list[Json]:
    """Return records as HubSpot shows them: asked-for properties, null where blank, absent where not defined."""
    types = portal.types(kind)
    wanted = [n for n in (names or DEFAULTS.get(kind, ())) if n in types]
    wanted = list(dict.fromkeys([*wanted, *(n for n in past if n in types)]))
    ids = [r.id for r in records]
    histories = portal.records.histories(kind, ids, [n for n in past if n in types])
    links = {to: portal.records.links(kind, ids, portal.kind(to)) for to in associations} if ids else {}
    shown = []
    for record in records:
        told = record.properties
        properties = {n: told.get(n) for n in wanted}
        properties |= {n: told[n] for n in ALWAYS if n in told}
        one: Json = {
            "id": str(record.id),
            "properties": properties,
            "createdAt": iso(record.created),
            "updatedAt": iso(record.updated),
            "archived": record.archived,
        }
        if record.archived_at is not None:
            one["archivedAt"] = iso(record.archived_at)
        if past:
            mine = histories.get(record.id, {})
            one["propertiesWithHistory"] = {
                n: orjson.Fragment(mine[n]) if n in mine else [] for n in past if n in types
            }
        inline = {
            to: _inline_page(portal, kind, record.id, to, found[record.id])
            for to, found in links.items()
            if record.id in found
        }
        if inline:
            one["associations"] = inline
        shown.append(one)
    return shown


def _inline_page(
    portal: Portal, kind: str, i: int, to: str, links: Sequence[tuple[int, int, str | None]]
) -> Json:
    size = portal.links_page
    page: Json = {"results": [_inline(kind, to, *link) for link in links[:size]]}
    if len(links) > size:
        after = str(links[size][0])
        path = f"/crm/v3/objects/{kind}/{i}/associations/{to}"
        page["paging"] = {"next": {"after": after, "link": f"https://api.hubapi.com{path}?after={after}"}}
    return page


def _inline(kind: str, to: str, target: int, type_id: int, label: str | None) -> Json:
    def single(k: str) -> str:
        return {"companies": "company"}.get(k, k.removesuffix("s"))

    plain = f"{single(kind)}_to_{single(to)}"
    unlabelled = type_id != PRIMARY_COMPANY and to == "companies"
    return {"id": str(target), "type": label or (f"{plain}_unlabeled" if unlabelled else plain)}


def read_record(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call)
    record = _found(portal, kind, call.at["id"], call.one("idProperty"), archived=call.flag("archived"))
    past = call.many("propertiesWithHistory")
    return Answer(
        200, _shown(portal, kind, [record], call.many("properties"), past, call.many("associations"))[0]
    )


def _found(portal: Portal, kind: str, given: str, id_property: str = "", *, archived: bool = False) -> Record:
    i = _id_of(portal, kind, given, id_property)
    record = portal.records.get(kind, [i], archived=archived).get(i) if i is not None else None
    if record is None:
        raise not_found(f"resource {given}")
    return record


def _id_of(portal: Portal, kind: str, given: str, id_property: str) -> int | None:
    if id_property and id_property != "hs_object_id":
        if id_property not in portal.unique_names(kind):
            raise invalid(f"{id_property} is not a unique property")
        return portal.records.by_unique(kind, id_property, given)
    return int(given) if given.isdigit() else None


def batch_read(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call)
    past = call.body.get("propertiesWithHistory") or []
    inputs = _inputs(call, HISTORY_PAGE if past else BATCH)
    id_property = call.body.get("idProperty") or ""
    ids = {str(i["id"]): _id_of(portal, kind, str(i["id"]), id_property) for i in inputs}
    there = portal.records.get(
        kind, [i for i in ids.values() if i is not None], archived=call.flag("archived")
    )
    records = list({r.id: r for r in there.values()}.values())
    results = _shown(portal, kind, records, call.body.get("properties") or [], past)
    missing = [given for given, i in ids.items() if i not in there]
    if missing and portal.switch("missing_ids") == "error":
        problem = {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": "Could not get some objects, they may be deleted or not exist.",
            "context": {"ids": missing},
        }
        return _batch(portal, 207, results, [problem])
    return _batch(portal, 200, results)


def _inputs(call: Call, most: int = BATCH) -> list[Json]:
    inputs = call.body.get("inputs") if isinstance(call.body, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise invalid("inputs must not be empty")
    if len(inputs) > most:
        raise invalid(f"The maximum number of inputs is {most}")
    return inputs


def _batch(portal: Portal, status: int, results: Sequence[Any], errors: Sequence[Json] = ()) -> Answer:
    now = iso(portal.records.now())
    body: Json = {"status": "COMPLETE", "results": list(results), "startedAt": now, "completedAt": now}
    if errors:
        body |= {"numErrors": len(errors), "errors": list(errors)}
    return Answer(status, body)


def search_records(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call)
    body = call.body
    limit, after = body.get("limit") or 10, str(body.get("after") or "0")
    if not isinstance(limit, int) or not 1 <= limit <= SEARCH_PAGE:
        raise invalid(f"limit must be between 1 and {SEARCH_PAGE}")
    if not after.isdigit():
        raise invalid("after must be an integer")
    if int(after) + limit > WINDOW:
        raise invalid(f"The total result limit is {WINDOW}")
    types = portal.types(kind)
    try:
        clause = search.where(body.get("filterGroups") or [], types)
        order = search.order(body.get("sorts") or [], types)
    except search.BadFilter as bad:
        raise invalid(str(bad)) from None
    db, now = portal.records.db, portal.records.now()
    shown = (
        _INDEX
        if db.execute("SELECT 1 FROM hs_objects WHERE shown_until > ? LIMIT 1", (now,)).fetchone()
        else ""
    )
    source = (
        shown or "SELECT id, properties, created, updated FROM hs_objects WHERE kind = :kind AND archived = 0"
    )
    if shown:
        source = shown.replace(":now", str(now))
    source = source.replace(":kind", f"'{kind}'")
    total = db.execute(f"SELECT count(*) FROM ({source}) WHERE {clause.sql}", clause.values).fetchone()[0]
    rows = db.execute(
        f"SELECT id, properties, created, updated FROM ({source}) WHERE {clause.sql} ORDER BY {order} LIMIT ? OFFSET ?",
        [*clause.values, limit, int(after)],
    )
    records = [Record(i, orjson.loads(p), c, u, False, None) for i, p, c, u in rows]
    answer: Json = {"total": total, "results": _shown(portal, kind, records, body.get("properties") or [])}
    if total > int(after) + limit:
        answer["paging"] = _next(call, str(int(after) + limit))
    return Answer(200, answer)


_INDEX = (
    "SELECT id, properties, created, updated FROM hs_objects "
    "WHERE kind = :kind AND archived = 0 AND shown_until <= :now UNION ALL "
    "SELECT id, shown AS properties, created, "
    "CAST(round((julianday(json_extract(shown, '$.hs_lastmodifieddate')) - 2440587.5) * 86400000) AS INTEGER) "
    "AS updated FROM hs_objects WHERE kind = :kind AND archived = 0 AND shown_until > :now AND shown IS NOT NULL"
)
"""What the lagging index shows: the old version of what was changed lately, nothing of what is new."""


# --- Writing ----------------------------------------------------------------------------------------------------


def create_record(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)
    return Answer(201, _shown_after(portal, kind, _create(portal, kind, call.body), call.body))


def _create(portal: Portal, kind: str, given: Json) -> Record:
    properties = portal.settle(kind, portal.checked(kind, given.get("properties") or {}))
    _check_unique(portal, kind, properties, None)
    links = [(link, *_link_target(portal, kind, link)) for link in given.get("associations") or []]
    record = portal.records.create(kind, properties, APP, portal.unique_names(kind))
    for link, to_kind, target in links:
        type_id = int(link["types"][0]["associationTypeId"])
        there, back = link_types(kind, to_kind)
        label = None if type_id == there else "label"
        portal.records.link(kind, record.id, to_kind, target, type_id, label, back)
    portal.roll_up(kind, [record.id])
    return record


_KIND_BY_TYPE = {
    216: "deals",
    214: "deals",
    206: "deals",
    210: "deals",
    212: "deals",
    20: "deals",
    204: "contacts",
}


def _link_target(portal: Portal, kind: str, link: Json) -> tuple[str, int]:
    type_id = int((link.get("types") or [{}])[0].get("associationTypeId") or 0)
    to_kind = _KIND_BY_TYPE.get(type_id)
    target = str((link.get("to") or {}).get("id") or "")
    if to_kind is None:
        raise invalid(f"association type {type_id} is not valid for {kind}")
    if not target.isdigit() or int(target) not in portal.records.get(to_kind, [int(target)]):
        raise invalid(f"association target {target} does not exist", code="ASSOCIATION_TARGET_NOT_FOUND")
    return to_kind, int(target)


def _check_unique(portal: Portal, kind: str, properties: Mapping[str, str], own: int | None) -> None:
    for name in portal.unique_names(kind):
        value = properties.get(name)
        holder = portal.records.by_unique(kind, name, value) if value else None
        if holder is not None and holder != own:
            raise error(
                409, f"{name} has this value already", "CONFLICT", code="DUPLICATE_VALUE", properties=[name]
            )


def update_record(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)
    record = _found(portal, kind, call.at["id"], call.one("idProperty"))
    return Answer(200, _shown_after(portal, kind, _update(portal, kind, record, call.body), call.body))


def _update(portal: Portal, kind: str, record: Record, given: Json) -> Record:
    checked = portal.checked(kind, given.get("properties") or {}, current=record.properties)
    properties = portal.settle(kind, checked)
    _check_unique(portal, kind, properties, record.id)
    after = portal.records.update(kind, record, properties, APP, portal.unique_names(kind))
    portal.roll_up(kind, [record.id])
    return after


def _shown_after(portal: Portal, kind: str, record: Record, given: Json) -> Json:
    names = [*DEFAULTS.get(kind, ()), *(given.get("properties") or {})]
    one = _shown(portal, kind, [record], names)[0]
    if given.get("objectWriteTraceId"):
        one["objectWriteTraceId"] = given["objectWriteTraceId"]
    return one


def archive_record(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)
    _archive(portal, kind, [call.at["id"]])
    return Answer(204)


def _archive(portal: Portal, kind: str, ids: Sequence[str]) -> None:
    numbers = [int(i) for i in ids if i.isdigit()]
    portal.records.archive(kind, numbers)
    portal.roll_up(kind, numbers)


def batch_create(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)
    return _each(
        portal, kind, call, 201, lambda given: _shown_after(portal, kind, _create(portal, kind, given), given)
    )


def batch_update(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)

    def one(given: Json) -> Json:
        record = _found(portal, kind, str(given.get("id") or ""), given.get("idProperty") or "")
        return _shown_after(portal, kind, _update(portal, kind, record, given), given)

    return _each(portal, kind, call, 200, one)


def batch_upsert(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)

    def one(given: Json) -> Json:
        name, value = str(given.get("idProperty") or ""), str(given.get("id") or "")
        i = _id_of(portal, kind, value, name)
        if i is None:
            properties = {name: value, **(given.get("properties") or {})}
            made = _create(portal, kind, {"properties": properties})
            return _shown_after(portal, kind, made, given) | {"new": True}
        record = _found(portal, kind, str(i))
        return _shown_after(portal, kind, _update(portal, kind, record, given), given) | {"new": False}

    return _each(portal, kind, call, 200, one)


def batch_archive(portal: Portal, call: Call) -> Answer:
    kind = _allowed(portal, call, write=True)
    _archive(portal, kind, [str(i.get("id")) for i in _inputs(call)])
    return Answer(204)


def _each(portal: Portal, kind: str, call: Call, status: int, one: Callable[[Json], Json]) -> Answer:
    """Do each input. Trace ids, all different, make a failure that input's own; without them the batch is undone."""
    inputs = _inputs(call)
    traces = [i.get("objectWriteTraceId") for i in inputs]
    traced = all(traces) and len(set(traces)) == len(traces)
    traced = traced and (call.path.endswith("/create") or bool(portal.switch("partial_failures")))
    results: list[Json] = []
    errors: list[Json] = []
    db = portal.records.db
    if not db.in_transaction:
        db.execute("BEGIN")  # or releasing the first savepoint would commit
    for position, given in enumerate(inputs):
        db.execute("SAVEPOINT one")
        try:
            if "partial" in call.faults and traced and position % 2 == 0:
                raise error(500, "There was a problem with the request.", "INTERNAL_ERROR")
            results.append(one(given))
        except Refused as refused:
            db.execute("ROLLBACK TO one")
            if not traced:
                raise  # and whoever serves the request rolls back what the others did
            errors.append(_problem(refused, given))
        db.execute("RELEASE one")
    return _batch(portal, 207 if errors else status, results, errors)


def _problem(refused: Refused, given: Json) -> Json:
    told = refused.answer.body
    found: Json = {"status": "error", "category": told.get("category", ""), "message": told["message"]}
    found["context"] = {"objectWriteTraceId": [given["objectWriteTraceId"]]}
    return found | ({"errors": told["errors"]} if "errors" in told else {})


def merge_records(portal: Portal, call: Call) -> Answer:
    """Merge two records: one stays, takes the other's links and remembers its id. Which one, is a switch."""
    kind = _allowed(portal, call, write=True)
    primary = _found(portal, kind, str(call.body.get("primaryObjectId")))
    other = _found(portal, kind, str(call.body.get("objectIdToMerge")))
    absorbed = [other]
    filled = {n: v for n, v in other.properties.items() if n not in primary.properties}
    ids = [i for i in (primary.properties.get("hs_merged_object_ids") or "").split(";") if i]
    stays = primary
    if portal.switch("merged_id") == "new":
        given = {n: v for n, v in primary.properties.items() if n not in ALWAYS}
        stays, absorbed = portal.records.create(kind, given, APP), [primary, other]
        portal.records.take_history(kind, primary.id, stays.id)
    ids += [str(r.id) for r in absorbed]
    after = portal.records.update(kind, stays, {**filled, "hs_merged_object_ids": ";".join(ids)}, APP)
    for record in absorbed:
        portal.records.absorb(kind, record.id, stays.id)
    return Answer(200, _shown(portal, kind, [after], ())[0])
