"""What is true of the whole portal: its zone and currency, pipelines and their stages, owners. Read once per run."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from functools import cached_property
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from pipesync.adapters.hubspot.api import Api, Json
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.mapping import Mapping, arrange
from pipesync.model import Pipeline, Stage

_MOST_FORMER = 20
"""Deleted stages whose audit is asked for in one run."""


class Label(NamedTuple):
    """A stage by its id: how people know it."""

    name: str
    pipeline: str
    ending: Literal["open", "won", "lost"] | None = None
    """How it ends an opportunity; None where nobody knows, as of a stage that the portal deleted before we asked."""


class Portal:
    """Facts of one portal, each asked for when it is first needed."""

    def __init__(self, api: Api, mapping: Mapping) -> None:
        self._api, self._mapping = api, mapping
        self._former: dict[str, Label | None] = {}
        self._properties: dict[str, dict[str, Json]] = {}

    @cached_property
    def details(self) -> Json:
        return self._api.get(self._api.paths.account())

    @property
    def zone(self) -> str:
        """The mapping's own, where it tells one; else the account's."""
        if self._mapping.place("timezone"):
            return self._mapping.timezone
        return str(self.details.get("timeZone") or "UTC")

    @property
    def currency(self) -> str | None:
        return self._mapping.currency or self.details.get("companyCurrency")

    @cached_property
    def pipelines(self) -> list[Json]:
        found = self._api.get(self._api.paths.pipelines("deals")).get("results", [])
        return sorted(found, key=lambda p: (p.get("displayOrder", 0), str(p["id"])))

    @cached_property
    def labels(self) -> dict[str, Label]:
        """Return stage id -> label, of the stages that exist now."""
        return {
            (i := str(s["id"])): Label(s["label"], str(p["id"]), self.endings.get(i, "open"))
            for p in self.pipelines
            for s in p.get("stages", [])
        }

    def former_label(self, stage: str) -> Label | None:
        """Return how a stage was called that the portal has deleted, as its audit tells; None where nobody knows.

        History speaks of it for ever. What an audit does not tell is asked for once, and of few stages.
        """
        if stage not in self._former and len(self._former) < _MOST_FORMER:
            self._former[stage] = self._audited(stage)
        return self._former.get(stage)

    def _audited(self, stage: str) -> Label | None:
        for pipeline in self.pipelines:
            rest = f"/{quote(str(pipeline['id']), safe='')}/stages/{quote(stage, safe='')}/audit"
            try:
                told = self._api.get(self._api.paths.pipelines("deals", rest)).get("results", [])
            except (PermissionMissing, RequestRefused):
                continue
            for change in told:  # the latest comes first
                if label := (change.get("rawObject") or {}).get("label"):
                    return Label(str(label), str(pipeline["id"]))
        return None

    @cached_property
    def endings(self) -> dict[str, Literal["won", "lost"]]:
        """Return stage id -> how it ends an opportunity. The metadata's values are text."""
        found: dict[str, Literal["won", "lost"]] = {}
        for pipeline in self.pipelines:
            for stage in pipeline.get("stages", []):
                told = stage.get("metadata") or {}
                if str(told.get("isClosed", "")).casefold() == "true":
                    found[str(stage["id"])] = "won" if float(told.get("probability") or 0) > 0.5 else "lost"
        return found

    def stages(self) -> list[Stage]:
        found: list[Stage] = []
        for pipeline in self.pipelines:
            told = sorted(pipeline.get("stages", []), key=lambda s: s.get("displayOrder", 0))
            ids = {s["label"]: str(s["id"]) for s in told}
            chances = {s["label"]: _chance(s) for s in told}
            closed = {s["label"]: e for s in told if (e := self.endings.get(str(s["id"])))}
            arranged = arrange(self._mapping, str(pipeline["id"]), list(ids), closed=closed, ids=ids)
            found += [
                s if s.probability is not None else s.model_copy(update={"probability": chances.get(s.name)})
                for s in arranged
            ]
        return found

    def pipeline_records(self) -> list[Pipeline]:
        return [
            Pipeline(
                id=str(p["id"]), name=p.get("label") or str(p["id"]), is_active=not p.get("archived", False)
            )
            for p in self.pipelines
        ]

    @cached_property
    def owners(self) -> list[Json]:
        """Return owners, those who left included: history speaks of them."""
        found: list[Json] = []
        for archived in (False, True):
            after: str | None = None
            while True:
                page = self._api.get(self._api.paths.owners(), limit=100, after=after, archived=archived)
                found += page.get("results", [])
                after = (page.get("paging") or {}).get("next", {}).get("after")
                if after is None:
                    break
        return found

    def people(self) -> dict[str, str]:
        """Return user id -> owner id: history is signed by users, everything else names owners."""
        try:
            owners = self.owners
        except PermissionMissing:
            return {}
        found = {}
        for owner in owners:
            user = owner.get("userIdIncludingInactive") or owner.get("userId")
            if user is not None:
                found[str(user)] = str(owner["id"])
        return found

    @property
    def deal_properties(self) -> dict[str, Json]:
        return self.properties("deals")

    def properties(self, kind: str) -> dict[str, Json]:
        """Return the definitions of an object's properties that this token may see, by name."""
        if kind not in self._properties:
            found = self._api.get(self._api.paths.properties(kind)).get("results", [])
            self._properties[kind] = {str(p["name"]): p for p in found}
        return self._properties[kind]

    def teams(self) -> dict[str, str]:
        """Return team id -> name, of the teams that somebody is in."""
        try:
            owners = self.owners
        except PermissionMissing:
            return {}
        return {str(t["id"]): str(t["name"]) for o in owners for t in o.get("teams") or [] if t.get("name")}


def _chance(stage: MappingOf[str, Any]) -> float | None:  # Any: JSON
    told = (stage.get("metadata") or {}).get("probability")
    try:
        return float(told) if told not in (None, "") else None
    except ValueError:
        return None
