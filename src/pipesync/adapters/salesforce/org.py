"""What is true of the whole org: what its describe shows, its currency, stages and record types. Read once per run."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import Any, Literal

from pipesync.adapters.salesforce.api import Api, Json
from pipesync.adapters.salesforce.refusals import OF_THE_ORG
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.mapping import Mapping, arrange
from pipesync.model import Pipeline, Stage


class Org:
    """Facts of one org, each asked for when it is first needed."""

    def __init__(self, api: Api, mapping: Mapping) -> None:
        self.api, self.mapping = api, mapping
        self._described: dict[str, dict[str, Json] | None] = {}
        self._permissions: dict[str, Json] = {}

    def fields(self, entity: str) -> dict[str, Json] | None:
        """Return an object's visible fields by name; None where the user cannot see the object."""
        if entity not in self._described:
            try:
                told = self.api.get(f"sobjects/{entity}/describe")
                self._described[entity] = {f["name"]: f for f in told["fields"]}
                self._permissions[entity] = {
                    f: told.get(f) for f in ("createable", "updateable", "deletable")
                }
            except (PermissionMissing, RequestRefused) as refused:
                if refused.code in OF_THE_ORG:
                    raise
                self._described[entity] = None
        return self._described[entity]

    def permissions(self, entity: str) -> Json:
        """Return what the user may do with records of an object: createable, updateable, deletable."""
        return self._permissions.get(entity, {}) if self.fields(entity) is not None else {}

    def sees(self, entity: str, path: str) -> bool:
        """Whether a field, also through relationships, can be read."""
        fields = self.fields(entity)
        if fields is None:
            return False
        head, _, rest = path.partition(".")
        if not rest:
            return head in fields
        for field in fields.values():
            if field.get("relationshipName") == head and field.get("referenceTo"):
                return self.sees(field["referenceTo"][0], rest)
        return False

    @cached_property
    def facts(self) -> Json:
        """Return currency, zone and fiscal year, as far as the user may see them."""
        return next(iter(self._readable("SELECT FIELDS(STANDARD) FROM Organization")), {})

    @cached_property
    def fiscal_months(self) -> list[date]:
        """Return the first days of the months of custom fiscal years; none where the org's are standard.

        `Period` has them from API version 37 on.
        """
        custom = "Type = 'Month' AND FiscalYearSettings.IsStandardYear = false"
        found = self._readable(f"SELECT StartDate FROM Period WHERE {custom} ORDER BY StartDate")
        return [date.fromisoformat(row["StartDate"]) for row in found]

    @cached_property
    def currency(self) -> str | None:
        """Return the corporate currency: amounts are compared and summed in it."""
        found = self._readable("SELECT IsoCode FROM CurrencyType WHERE IsCorporate = true")
        return str(found[0]["IsoCode"]) if found else self.facts.get("DefaultCurrencyIsoCode")

    def _readable(self, soql: str) -> list[Json]:
        """Return a query's rows; none where the user may not see what it names, or the org has no such object."""
        try:
            rows: list[Json] = self.api.query(soql)["records"]
        except PermissionMissing as refused:
            if refused.code in OF_THE_ORG:
                raise
            return []
        return rows

    @cached_property
    def user_id(self) -> str:
        """Return the integration user, who owns what has no other owner."""
        found: Any = self.api.identity()
        return str(found["user_id"])

    @cached_property
    def stage_rows(self) -> list[Json]:
        """Return the org's stages in their order. They are org-wide; which a record type uses is metadata only."""
        wanted = [
            f
            for f in (
                "Id", "ApiName", "MasterLabel", "IsActive", "SortOrder", "IsClosed", "IsWon", "DefaultProbability",
                "ForecastCategoryName",
            )
            if self.sees("OpportunityStage", f)
        ]  # fmt: skip
        if not wanted:
            raise PermissionMissing(
                "OpportunityStage cannot be read", fix="assign the permission set Pipesync_Integration"
            )
        rows: list[Json] = self.api.query(
            f"SELECT {', '.join(wanted)} FROM OpportunityStage ORDER BY SortOrder"
        )["records"]
        return rows

    @cached_property
    def record_types(self) -> list[Json]:
        if self.fields("RecordType") is None or not self.sees("Opportunity", "RecordTypeId"):
            return []
        soql = "SELECT Id, Name, IsActive FROM RecordType WHERE SobjectType = 'Opportunity' ORDER BY Name"
        rows: list[Json] = self.api.query(soql)["records"]
        return rows

    def pipelines(self) -> list[Pipeline]:
        """Return record types as pipelines, and the mapping's default where there are none."""
        found = [
            Pipeline(id=r["Name"], name=r["Name"], is_active=bool(r["IsActive"])) for r in self.record_types
        ]
        default = self.mapping.default_pipeline
        return found or [Pipeline(id=default, name=default)]

    def stages(self) -> list[Stage]:
        """Return each pipeline's stages: those that the mapping lists for it, or all of the org's."""
        categories = self.mapping.streams["opportunities"].fields.get("forecast_category")
        words = categories.values if categories else {}
        told = {r["ApiName"]: r for r in self.stage_rows}
        closed: dict[str, Literal["won", "lost"]] = {
            n: "won" if r["IsWon"] else "lost" for n, r in told.items() if r["IsClosed"]
        }
        found: list[Stage] = []
        for pipeline in self.pipelines():
            own = self.mapping.pipelines.get(pipeline.id)
            listed = list(own.stages) if own and own.stages else list(told)
            names = [n for n in listed if n in told]
            ids = {n: f"{told[n]['Id']}:{pipeline.id}" for n in names}
            for stage in arrange(self.mapping, pipeline.id, names, closed=closed, ids=ids):
                row = told[stage.name]
                chance, category = row.get("DefaultProbability"), row.get("ForecastCategoryName")
                found.append(
                    stage.model_copy(
                        update={
                            "probability": stage.probability
                            if stage.probability is not None or chance is None
                            else chance / 100,
                            "default_category": stage.default_category
                            or (words.get(category, None) if category else None),
                            "is_active": bool(row.get("IsActive", True)),
                        }
                    )
                )
        return found
