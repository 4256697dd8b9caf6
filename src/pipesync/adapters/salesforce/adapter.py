"""One Salesforce org as an adapter."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipesync import fiscal
from pipesync._paths import shipped
from pipesync.adapters.base import Check, Cursor, Estimate, Installed, Page, Seen, SiteField
from pipesync.adapters.salesforce import money
from pipesync.adapters.salesforce.api import Api
from pipesync.adapters.salesforce.doctor import checks
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.streams import TRACKED, Streams
from pipesync.adapters.salesforce.writing import OPPORTUNITY, own_fields, read_forecasts, read_tasks, write
from pipesync.config import ConnectionConfig, Write
from pipesync.mapping import Mapping, load
from pipesync.model import TABLES, Change, ColumnState, Connection, HistoryKind, Outcome, OwnForecast, OwnTask
from pipesync.options import options_as
from pipesync.schema import schema, table

_MADE = ("pipelines", "stages", "field_changes")
"""Streams that are made of what the mapping says of others."""
_OPTIONAL = ("quotas", "currency_rates")
"""Streams that most orgs lack and that nobody is asked to grant."""


_ASKABLE = ("string", "picklist", "boolean", "double", "currency", "percent", "int", "date", "datetime")
"""Types of fields that a rule can compare; long texts and links are none."""


def open_connection(name: str, config: ConnectionConfig, folder: Path) -> SalesforceAdapter:
    """Open an org; nothing is asked of it yet. InputError for options, mapping or secrets that cannot be used."""
    options = options_as(Options, name, config)
    path = folder / config.mapping if config.mapping else shipped("adapters") / "salesforce" / "mapping.yaml"
    mapping = load(path, base="pipesync:salesforce")
    raw = {k: str(folder / v) if k.endswith("_file") and v else v for k, v in config.options.items()}
    options = options.model_copy(update={"certificate_file": raw.get("certificate_file")})
    return SalesforceAdapter(name, options, mapping, Api(name, options, raw), config.write)


class SalesforceAdapter:
    """`pipesync.adapters.base.Adapter` over an org."""

    def __init__(self, name: str, options: Options, mapping: Mapping, api: Api, allowed: Write) -> None:
        self._name, self._options, self._mapping, self._api = name, options, mapping, api
        self._allowed = allowed
        self._org = Org(api, mapping)
        self._streams = Streams(self._org, options)

    def __repr__(self) -> str:
        return f"SalesforceAdapter({self._name!r})"

    @property
    def streams(self) -> Sequence[str]:
        own = set()
        if self._allowed.enabled and self._allowed.tasks:
            own.add("own_tasks")
        if self._allowed.enabled and self._allowed.forecasts:
            own.add("own_forecasts")
        given = {*self._mapping.streams, *_MADE, *own}
        there = (s for s in TABLES if s in given)
        return tuple(s for s in there if s not in _OPTIONAL or money.is_readable(self._org, s))

    @property
    def budget(self) -> tuple[int, int] | None:
        return self._api.used

    def connection(self) -> Connection:
        facts, currency = self._org.facts, self._mapping.currency or self._org.currency
        custom = fiscal.recognised(self._org.fiscal_months)
        return Connection(
            connection=self._name,
            adapter="salesforce",
            currency=currency,
            timezone=facts.get("TimeZoneSidKey") or "UTC",
            fiscal_year_starts=custom.fiscal_year_starts if custom else facts.get("FiscalYearStartMonth"),
            fiscal_weeks=str(custom.weeks) if custom and custom.weeks else None,
        )

    def clock(self) -> datetime:
        """The org's own time, as its last answer told it."""
        if self._api.server_time is None:
            self._api.versions()  # costs nothing, and nobody is refused it
        return self._api.server_time or datetime.now(UTC)

    def columns(self) -> Sequence[ColumnState]:
        return [state for stream in self.streams for state in self._columns(stream)]

    def _columns(self, stream: str) -> Iterator[ColumnState]:
        told = self._mapping.streams.get(stream)
        for column in schema(stream).names:
            state = ColumnState(connection=self._name, stream=stream, column=column, state="known")
            if told is None:
                yield state
                continue
            mapped = told.fields.get(column)
            derived = (
                (column == "segment" and self._mapping.segments)
                or (column == "custom" and told.custom)
                or (stream, column) == ("currency_rates", "valid_from")
            )
            if mapped is None and not derived:
                yield state.model_copy(update={"state": "unmapped", "detail": "not mapped"})
                continue
            if mapped and stream != "activities" and not self._org.sees(told.source, mapped.field):
                detail = f"no field {told.source}.{mapped.field} that this user may see"
                yield state.model_copy(update={"state": "unreadable", "detail": detail})
                continue
            update = {"detail": mapped.field if mapped else "", "history": self._history(stream, column)}
            yield state.model_copy(update=update)

    def _history(self, stream: str, column: str) -> HistoryKind:
        if stream != "opportunities":
            return "none"
        if (
            column in ("id", "created_at", "closed_at", "is_closed", "is_won")
            or column in self._streams.tracked()
        ):
            return "full"
        mapped = self._mapping.streams[stream].fields.get(column)
        if column in TRACKED and mapped and mapped.history == "full":
            return "full" if self._org.fields("OpportunityFieldHistory") is not None else "since_install"
        return mapped.history or "none" if mapped and mapped.history != "full" else "none"

    def estimate(self, stream: str) -> Estimate | None:
        return self._streams.estimate(stream)

    def pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        streams = self._streams
        if stream in ("pipelines", "stages"):
            records = self._org.stages() if stream == "stages" else self._org.pipelines()
            rows = table(stream, [r.model_dump(exclude={"connection"}) for r in records])
            yield Page(stream, rows, None, mode="replace", requests=1, last=True)
        elif stream == "users":
            yield from streams.users(until)
        elif stream in ("opportunities", "contact_roles", "activities", "field_changes"):
            yield from getattr(streams, stream)(cursor, until)
        elif stream in _OPTIONAL:
            yield self._whole(stream, cursor)
        elif stream == "own_tasks":
            tasks = [t.model_dump(exclude={"connection"}) for t in read_tasks(self._org)]
            yield Page(stream, table(stream, tasks), None, mode="replace", requests=1, last=True)
        elif stream == "own_forecasts":
            forecasts = [f.model_dump(exclude={"connection"}) for f in read_forecasts(self._org)]
            yield Page(stream, table(stream, forecasts), None, mode="replace", requests=1, last=True)
        else:
            yield from streams.objects(stream, cursor, until)

    def children(self, stream: str, opportunity_ids: Sequence[str], until: datetime) -> Iterator[Page]:
        yield from self._streams.children(stream, opportunity_ids, until)

    def _whole(self, stream: str, cursor: Cursor | None) -> Page:
        """Read a small stream whole; where it says what it said, the page is empty and leaves everything as it is."""
        before = self._api.asked
        records = [r.model_dump(exclude={"connection"}) for r in getattr(money, stream)(self._org)]
        said = hashlib.sha256(repr(records).encode()).hexdigest()
        rows = table(stream, [] if said == cursor else records)
        mode: Literal["merge", "replace"] = "merge" if said == cursor else "replace"
        return Page(stream, rows, said, mode=mode, requests=self._api.asked - before, last=True)

    def own(
        self, keys: Collection[str], opportunity_ids: Collection[str]
    ) -> tuple[Sequence[OwnTask], Sequence[OwnForecast]]:
        forecasts = {k for k in keys if k.startswith("psf")}
        tasks = set(keys) - forecasts
        return list(read_tasks(self._org, tasks)), list(read_forecasts(self._org, forecasts))

    def see(self, opportunity_ids: Collection[str]) -> MappingOf[str, Seen]:
        return {
            facts["id"]: Seen(facts, own_fields(ours))
            for rows, own in self._streams.see(opportunity_ids, OPPORTUNITY)
            for facts, ours in zip(rows.to_pylist(), own.to_pylist(), strict=True)
        }

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        yield from write(self._org, changes)

    def site_fields(self) -> Sequence[SiteField]:
        fields = (self._org.fields("Opportunity") or {}).values()
        wanted = [f for f in fields if f.get("custom") and f.get("type") in _ASKABLE]
        return [
            SiteField(
                str(f["name"]), str(f.get("label") or f["name"]), str(f["type"]),
                tuple(str(o["value"]) for o in f.get("picklistValues") or () if o.get("active", True)),
            )
            for f in wanted
            if not str(f["name"]).startswith("Pipesync_")
        ]  # fmt: skip

    def checks(self) -> Iterator[Check]:
        yield from checks(self._name, self._org, self._options, self._allowed)

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        """Say how to deploy: fields are metadata, which only an admin's own sign-in may deploy."""
        project = shipped("adapters") / "salesforce"
        command = f"sf project deploy start{' --dry-run' * dry_run} --source-dir force-app --target-org ALIAS"
        return (Installed("fields and permission sets", "by hand", f"cd {project}\n{command}"),)

    def close(self) -> None:
        self._api.close()
