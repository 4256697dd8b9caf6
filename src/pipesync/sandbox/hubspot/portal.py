"""One portal: its records, its settings, and what may be done to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from pipesync.sandbox.hubspot.answers import error, invalid
from pipesync.sandbox.hubspot.definitions import ALL_SCOPES, ENGAGEMENTS, TYPE_IDS, definition, properties_of
from pipesync.sandbox.hubspot.records import Json, Records, Source, iso

SWITCHES: dict[str, object] = {
    "missing_ids": "silent",
    "partial_failures": True,
    "task_properties": True,
    "rollups": True,
    "tier": None,
    "custom_objects": True,
    "rules": [],
    "merged_id": "primary",
    "link_scopes": "of",
    "lacks": [],
    "links_page": 500,
}
"""Facts that nobody could verify without a portal, and what differs by tier; a test or an admin turns them.

missing_ids: `silent`, or `error` for a 207 from batch reads. partial_failures: trace ids work in every batch, not only
in creates. task_properties: tasks can have custom properties. rollups: HubSpot keeps a deal's activity dates when its
tasks change. tier: `free`, `professional` or `enterprise` sets rate limits; None sets none. custom_objects: Enterprise.
rules: validation on writes, each {kind, property, required_when: {property: value}}. merged_id: `primary` stays, or
both go up in a `new` record. link_scopes: associations want the scope `of` the record, or of `both` ends. lacks:
objects that the portal's tier does not have. links_page: associations that come at once, in a record or a batch read.
"""
MAX_TEXT = 65_536
"""Characters that a property of text holds."""
APP = Source("INTEGRATION", "900100")


class Portal:
    """State and rules of a portal; every endpoint is a function over one."""

    def __init__(self, db: sqlite3.Connection, now: Callable[[], int]) -> None:
        self.records = Records(db, now)
        self._defined: dict[str, list[Json]] = {}

    def switch(self, name: str) -> object:
        return self.records.setting(f"switch.{name}", SWITCHES[name])

    def turn(self, name: str, value: object) -> None:
        if name not in SWITCHES:
            raise KeyError(name)
        self.records.set(f"switch.{name}", value)

    # --- Tokens -----------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> dict[str, list[str]]:
        """Scopes by token."""
        found: dict[str, list[str]] = self.records.setting("tokens", {"sandbox-token": list(ALL_SCOPES)})
        return found

    def require(self, token: str, *scopes: str) -> None:
        """401 for an unknown token, 403 for one without these scopes."""
        known = self.tokens.get(token)
        if known is None:
            raise error(401, "Authentication credentials not found or not valid.", "INVALID_AUTHENTICATION")
        missing = [s for s in scopes if s not in known]
        if missing:
            extra = {
                "errors": [{"message": "scopes are missing", "context": {"requiredGranularScopes": missing}}]
            }
            raise error(
                403, "This app hasn't been granted all required scopes.", "MISSING_SCOPES", extra=extra
            )

    # --- Kinds and properties ---------------------------------------------------------------------------------

    def kind(self, given: str) -> str:
        """Return an object's plural name from any of the names HubSpot accepts."""
        by_id = {v: k for k, v in TYPE_IDS.items()}
        known = by_id.get(given, given)
        if known in self.lacking:
            raise invalid(f"Unable to infer object type from: {given}")
        if known in TYPE_IDS:
            return known
        if f"{known}s" in TYPE_IDS:
            return f"{known}s"
        if {"company": "companies"}.get(known):
            return "companies"
        for schema in self.schemas:
            name = schema["name"]
            if given in (schema["objectTypeId"], schema["fullyQualifiedName"], f"p_{name}", name):
                return str(name)
        raise invalid(f"Unable to infer object type from: {given}")

    @property
    def lacking(self) -> list[str]:
        found = self.switch("lacks")
        assert isinstance(found, list)  # noqa: S101 - set through `turn` alone
        return found

    @property
    def links_page(self) -> int:
        found = self.switch("links_page")
        assert isinstance(found, int)  # noqa: S101 - set through `turn` alone
        return found

    @property
    def schemas(self) -> list[Json]:
        found: list[Json] = self.records.setting("schemas", [])
        return found

    def definitions(self, kind: str) -> list[Json]:
        if kind not in self._defined:
            self._defined[kind] = self.records.setting(f"properties.{kind}") or properties_of(kind)
        return self._defined[kind]

    def define(self, kind: str, definitions: Iterable[Json]) -> None:
        """Add or replace property definitions."""
        known = {d["name"]: d for d in self.definitions(kind)} | {d["name"]: d for d in definitions}
        self.records.set(f"properties.{kind}", list(known.values()))
        self.forget_definitions(kind)

    def forget_definitions(self, kind: str | None = None) -> None:
        """Read an object's properties (or every object's) anew when they are next asked for."""
        for name in [kind] if kind else list(self._defined):
            self._defined.pop(name, None)

    def types(self, kind: str) -> dict[str, str]:
        """Return property -> type."""
        return {d["name"]: d["type"] for d in self.definitions(kind)}

    def unique_names(self, kind: str) -> list[str]:
        return [d["name"] for d in self.definitions(kind) if d.get("hasUniqueValue")]

    def checked(
        self, kind: str, given: Mapping[str, object], *, current: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return a write's properties as they are stored; 400 with the names of those that cannot be.

        `current` is what the record holds already; None for a new one.
        """
        by_name = {d["name"]: d for d in self.definitions(kind)}
        found: dict[str, str] = {}
        wrong: list[tuple[str, str]] = []
        for name, value in given.items():
            known = by_name.get(name)
            if known is None:
                wrong.append((name, "PROPERTY_DOESNT_EXIST"))
                continue
            if known["modificationMetadata"]["readOnlyValue"]:
                wrong.append((name, "READ_ONLY_VALUE"))
                continue
            if len(str(value)) > MAX_TEXT:
                wrong.append((name, "PROPERTY_VALUE_TOO_LONG"))
                continue
            try:
                found[name] = stored("" if value is None else str(value), known)
            except ValueError:
                wrong.append((name, "INVALID_" + str(known["type"]).upper()))
        if kind in ENGAGEMENTS and current is None and not found.get("hs_timestamp"):
            wrong.append(("hs_timestamp", "REQUIRED_FIELD"))
        wrong += self._broken_rules(kind, {**(current or {}), **found})
        if wrong:
            names = [n for n, _ in wrong]
            raise invalid(f"Property values were not valid: {names}", code=wrong[0][1], properties=names)
        return found

    def _broken_rules(self, kind: str, after: Mapping[str, str]) -> list[tuple[str, str]]:
        rules = self.switch("rules")
        assert isinstance(rules, list)  # noqa: S101 - set through `turn` alone
        return [
            (rule["property"], "CONDITIONAL_REQUIRED_PROPERTY")
            for rule in rules
            if rule["kind"] == kind
            and not after.get(rule["property"])
            and all(after.get(n) == v for n, v in rule.get("required_when", {}).items())
        ]

    # --- What HubSpot does by itself --------------------------------------------------------------------------

    def stage(self, stage_id: str) -> Json | None:
        for pipeline in self.pipelines("deals"):
            for stage in pipeline["stages"]:
                if stage["id"] == stage_id:
                    found: Json = stage
                    return found
        return None

    def pipelines(self, kind: str) -> list[Json]:
        found: list[Json] = self.records.setting(f"pipelines.{kind}", [])
        return found

    def settle(self, kind: str, properties: dict[str, str]) -> dict[str, str]:
        """Add what follows from a deal's stage: closed or not, its probability, and its closing time as close date."""
        if kind != "deals" or "dealstage" not in properties:
            return properties
        told = (self.stage(properties["dealstage"]) or {}).get("metadata", {})
        closed = told.get("isClosed") == "true"
        chance = told.get("probability", "")
        found = properties | {
            "hs_is_closed": str(closed).lower(),
            "hs_is_closed_won": str(closed and float(chance or 0) > 0.5).lower(),
            "hs_deal_stage_probability": chance,
        }
        if closed and "closedate" not in properties:
            found["closedate"] = iso(self.records.now())
        return found

    def roll_up(self, kind: str, ids: Iterable[int]) -> None:
        """Bring the activity dates of the deals that these tasks stand on up to date."""
        if kind != "tasks" or not self.switch("rollups"):
            return
        records = self.records
        deals = {to for found in records.links("tasks", list(ids), "deals").values() for to, _, _ in found}
        for deal in deals:
            tasks = [to for to, _, _ in records.links("deals", [deal], "tasks").get(deal, ())]
            open_at = [
                t.properties["hs_timestamp"]
                for t in records.get("tasks", tasks).values()
                if t.properties.get("hs_task_status") != "COMPLETED" and "hs_timestamp" in t.properties
            ]
            records.touch("deals", deal, {"notes_next_activity_date": min(open_at, default=None)})


def stored(value: str, known: Json) -> str:
    """Return a value as HubSpot stores it; ValueError where the property cannot hold it."""
    if value == "":
        return value
    kind = known["type"]
    if kind == "number":
        try:
            Decimal(value)
        except InvalidOperation:
            raise ValueError(value) from None
        return value
    if kind == "datetime":
        return value_of_moment(value)
    if kind == "date":
        return value if len(value) == 10 else value_of_moment(value)[:10]
    if kind == "bool":
        if value not in ("true", "false"):
            raise ValueError(value)
        return value
    if kind == "enumeration" and known["options"] and value not in {o["value"] for o in known["options"]}:
        raise ValueError(value)
    return value


def value_of_moment(value: str) -> str:
    if value.lstrip("-").isdigit():
        return iso(int(value))
    moment = datetime.fromisoformat(value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return iso(round(moment.timestamp() * 1000))


def custom(name: str, type_: str, *, unique: bool = False) -> Json:
    """Return the definition of a property that is not HubSpot's own."""
    return definition(name, type_, own={"hasUniqueValue": unique, "hubspotDefined": False})
