"""What is true of the whole portal: its zone and currency, pipelines and their stages, owners. Read once per run."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pipesync.adapters.hubspot.api import Api, Json
from pipesync.errors import PermissionMissing
from pipesync.mapping import Mapping, arrange
from pipesync.model import Pipeline, Stage


class Label(NamedTuple):
    """A stage by its id: how people know it."""

    name: str
    pipeline: str


class Portal:
    """Facts of one portal, each asked for when it is first needed."""

    def __init__(self, api: Api, mapping: Mapping) -> None:
        self._api, self._mapping = api, mapping

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
            str(s["id"]): Label(s["label"], str(p["id"])) for p in self.pipelines for s in p.get("stages", [])
        }

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

    @cached_property
    def deal_properties(self) -> dict[str, Json]:
        """Return the definitions of the deal properties that this token may see, by name."""
        found = self._api.get(self._api.paths.properties("deals")).get("results", [])
        return {str(p["name"]): p for p in found}


def _chance(stage: MappingOf[str, Any]) -> float | None:  # Any: JSON
    told = (stage.get("metadata") or {}).get("probability")
    try:
        return float(told) if told not in (None, "") else None
    except ValueError:
        return None
