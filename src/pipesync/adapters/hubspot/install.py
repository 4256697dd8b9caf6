"""The one-off set-up: our property group, properties and, in Enterprise portals, the forecast object."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import ConfigDict

from pipesync._paths import shipped
from pipesync.adapters.base import Installed
from pipesync.adapters.hubspot.api import Api, Json
from pipesync.config import Section, Write
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.yamlsource import read, validate

_KINDS = {"0-3": "deals", "0-27": "tasks"}


class _Named(Section):
    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    label: str = ""


class _Object(_Named):
    labels: dict[str, str]
    primaryDisplayProperty: str
    properties: tuple[_Named, ...]


class Kit(Section):
    """`adapters/hubspot/properties.yaml`."""

    version: Literal[1]
    group: _Named
    tasks: tuple[_Named, ...]
    deals: tuple[_Named, ...]
    forecast_object: _Object


@cache
def kit() -> Kit:
    return validate(Kit, read(shipped("adapters") / "hubspot" / "properties.yaml"))


def wanted(allowed: Write) -> dict[str, tuple[_Named, ...]]:
    """Return the properties that writing needs, by kind of object: all of them where `write:` names nothing yet.

    A portal that refuses the scope of tasks, and says `tasks: false`, is asked for no property of tasks.
    """
    named = allowed.tasks or allowed.forecasts or allowed.opportunity_fields or allowed.findings
    fields = allowed.opportunity_fields or allowed.findings
    found = {
        "tasks": kit().tasks if allowed.tasks or not named else (),
        "deals": kit().deals if fields or not named else (),
    }
    return {kind: properties for kind, properties in found.items() if properties}


def install(api: Api, allowed: Write, *, dry_run: bool) -> list[Installed]:
    """Create what is missing, after a look at the room that the portal's limit leaves."""
    given = kit()
    missing = {kind: _missing(api, kind, properties) for kind, properties in wanted(allowed).items()}
    _check_room(api, {kind: len(properties) for kind, properties in missing.items()})
    found: list[Installed] = []
    for kind, properties in wanted(allowed).items():
        found += [Installed(f"{kind}.{p.name}", "exists") for p in properties if p not in missing[kind]]
        found += _create(api, kind, missing[kind], as_part_of=kind, dry_run=dry_run)
    if allowed.forecasts:
        found += _install_object(api, given.forecast_object, dry_run=dry_run)
    return found


def _create(
    api: Api, kind: str, properties: list[_Named], *, as_part_of: str, dry_run: bool
) -> list[Installed]:
    """Create properties of an object in our group; the outcome calls the object `as_part_of`."""
    if properties and not dry_run:
        group = kit().group
        _ensure_group(api, kind, group)
        inputs = [_property(p, group.name) for p in properties]
        api.write("POST", api.paths.properties(kind, "/batch/create"), {"inputs": inputs})
    status: Literal["created", "would create"] = "would create" if dry_run else "created"
    return [Installed(f"{as_part_of}.{p.name}", status) for p in properties]


def _missing(api: Api, kind: str, properties: tuple[_Named, ...]) -> list[_Named]:
    there = {p["name"] for p in api.get(api.paths.properties(kind)).get("results", [])}
    return [p for p in properties if p.name not in there]


def _check_room(api: Api, missing: dict[str, int]) -> None:
    """Refuse before the first write where the tier has no room. A portal that tells no limit is taken at its word."""
    if not any(missing.values()):
        return
    try:
        limits = api.get(api.paths.limits("custom-properties"))
    except (RequestRefused, PermissionMissing):
        return
    rooms = {
        _KINDS[str(one["objectTypeId"])]: int(one["limit"]) - int(one.get("usage", 0))
        for one in limits.get("byObjectType", [])
        if str(one.get("objectTypeId")) in _KINDS and one.get("limit") is not None
    }
    if limits.get("overallLimit") is not None:
        overall = int(limits["overallLimit"]) - int(limits.get("overallUsage", 0))
        rooms["all objects"] = overall
        missing = {**missing, "all objects": sum(missing.values())}
    for kind, room in rooms.items():
        if room < missing.get(kind, 0):
            raise RequestRefused(
                f"the portal has room for {max(room, 0)} more properties of {kind}, not for {missing[kind]}",
                fix="archive properties that nobody uses, or raise the portal's limit",
            )


def _ensure_group(api: Api, kind: str, group: _Named) -> None:
    there = {g["name"] for g in api.get(api.paths.properties(kind, "/groups")).get("results", [])}
    if group.name not in there:
        body = {"name": group.name, "label": group.label, "displayOrder": -1}
        api.write("POST", api.paths.properties(kind, "/groups"), body)


def _property(given: _Named, group: str) -> Json:
    return {**given.model_dump(), "groupName": group, "formField": False}


def _install_object(api: Api, given: _Object, *, dry_run: bool) -> list[Installed]:
    """Create the object, or what one of an earlier version lacks; a refusal of it leaves the rest installed."""
    what = given.name
    try:
        schemas = api.get(api.paths.schemas()).get("results", [])
    except PermissionMissing as refused:
        return [Installed(what, "not possible", str(refused))]
    for there in schemas:
        if there.get("name") == given.name:
            return [Installed(what, "exists"), *_complete_object(api, there, given, dry_run=dry_run)]
    if dry_run:
        return [Installed(what, "would create", "needs an Enterprise portal")]
    body: dict[str, Any] = {  # Any: JSON
        "name": given.name,
        "labels": given.labels,
        "primaryDisplayProperty": given.primaryDisplayProperty,
        "requiredProperties": [given.primaryDisplayProperty],
        "secondaryDisplayProperties": [],
        "searchableProperties": [],
        "allowsSensitiveProperties": False,
        "associatedObjects": [],
        "properties": [p.model_dump() for p in given.properties],
    }
    if api.paths.version == "2026-03":  # which alone wants it, says its specification
        body["shouldCreateSameObjectAssociation"] = False
    try:
        api.write("POST", api.paths.schemas(), body)
    except (PermissionMissing, RequestRefused) as refused:
        return [Installed(what, "not possible", str(refused))]
    return [Installed(what, "created")]


def _complete_object(api: Api, there: Json, given: _Object, *, dry_run: bool) -> list[Installed]:
    kind = str(there["fullyQualifiedName"])
    try:
        missing = _missing(api, kind, given.properties)
        return _create(api, kind, missing, as_part_of=given.name, dry_run=dry_run)
    except (PermissionMissing, RequestRefused) as refused:
        return [Installed(f"{given.name}: its missing properties", "not possible", str(refused))]
