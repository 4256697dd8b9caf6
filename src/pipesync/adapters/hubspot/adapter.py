"""One HubSpot portal as an adapter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from pipesync._paths import shipped
from pipesync.adapters.base import Check, Cursor, Installed, Page, Seen, SiteField, Span
from pipesync.adapters.hubspot.api import Api
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.others import (
    LINK,
    activities_of,
    objects_of,
    pull_activities,
    pull_objects,
    pull_reference,
)
from pipesync.adapters.hubspot.own import KEY, Own
from pipesync.adapters.hubspot.portal import Portal
from pipesync.adapters.hubspot.streams import DealStreams, Ours, remains
from pipesync.adapters.hubspot.writing import own_fields, own_property, write
from pipesync.config import ConnectionConfig, Write
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.mapping import FieldMapping, Mapping, load
from pipesync.model import (
    OWN_FIELDS,
    TABLES,
    Change,
    ColumnState,
    Connection,
    Outcome,
    OwnForecast,
    OwnTask,
    Pipeline,
    Stage,
)
from pipesync.options import options_as
from pipesync.schema import empty, schema, table

_DERIVED = ("is_closed", "is_won", "custom")
_LASTING = ("id", "created_at", "closed_at", "is_closed", "is_won")
"""Never change, or are known for every moment from the two times."""
_REFERENCE = ("users", "quotas", "currency_rates")
_OBJECTS = ("accounts", "products", "line_items", "leads")
_OPTIONAL = (*_OBJECTS, "quotas", "currency_rates", "activities")


def open_connection(name: str, config: ConnectionConfig, folder: Path) -> HubspotAdapter:
    """Open a portal; nothing is asked of it yet. InputError for options, mapping or secrets that cannot be used."""
    options = options_as(Options, name, config)
    path = folder / config.mapping if config.mapping else _shipped_mapping()
    mapping = load(path, base="pipesync:hubspot")
    raw = {
        key: str(folder / value) if key.endswith("_file") and value else value
        for key, value in config.options.items()
    }
    return HubspotAdapter(name, options, mapping, Api(name, options, raw), config.write)


def _shipped_mapping() -> Path:
    return shipped("adapters") / "hubspot" / "mapping.yaml"


class HubspotAdapter:
    """`pipesync.adapters.base.Adapter` over a portal."""

    def __init__(self, name: str, options: Options, mapping: Mapping, api: Api, allowed: Write) -> None:
        self._name, self._options, self._mapping, self._api = name, options, mapping, api
        self._allowed = allowed
        self._portal = Portal(api, mapping)
        self._own = Own(api, self._portal, key_in=options.task_key)
        self._roles_refused: PermissionMissing | None = None
        self._ours = Ours()

    def __repr__(self) -> str:
        return f"HubspotAdapter({self._name!r})"

    @property
    def streams(self) -> Sequence[str]:
        mapped = set(self._mapping.streams)
        if not self._options.activities:
            mapped.discard("activities")
        own = set()
        if self._allowed.enabled and self._allowed.tasks:
            own.add("own_tasks")
        if self._allowed.enabled and self._allowed.forecasts:
            own.add("own_forecasts")
        given = (mapped & set(TABLES)) | own | {"pipelines", "stages", "field_changes"}
        # Field changes and contacts come with the opportunities, and count as pulled only after them.
        return tuple(s for s in TABLES if s in given)

    @property
    def budget(self) -> tuple[int, int] | None:
        return self._api.budget

    def connection(self) -> Connection:
        return Connection(
            connection=self._name,
            adapter="hubspot",
            currency=self._portal.currency,
            timezone=self._portal.zone,
        )

    def clock(self) -> datetime:
        """HubSpot's own time, as the last answer told it."""
        if self._api.server_time is None:
            _ = self._portal.pipelines  # they are needed anyway
        return self._api.server_time or datetime.now(UTC)

    def columns(self) -> Sequence[ColumnState]:
        return [state for stream in self.streams for state in self._columns(stream)]

    def _columns(self, stream: str) -> Iterator[ColumnState]:
        mapped = self._mapping.streams[stream].fields if stream in self._mapping.streams else {}
        there = self._readable(stream)
        for column in schema(stream).names:
            field = mapped.get(column)
            told: dict[str, str] = {"state": "known"}
            if field and there is not None and field.field not in there:
                detail = f"no property {field.field!r} that this token may see"
                told = {"state": "unreadable", "detail": detail}
            elif not field and not self._is_derived(stream, column, mapped):
                told = {"state": "unmapped", "detail": "not mapped"}
            elif stream == "opportunities":
                lasting = column in _LASTING or (field and field.history == "full")
                told |= {"history": "full" if lasting else "none", "detail": field.field if field else ""}
            yield ColumnState.model_validate(
                {"connection": self._name, "stream": stream, "column": column, **told}
            )

    def _is_derived(self, stream: str, column: str, mapped: MappingOf[str, FieldMapping]) -> bool:
        """Tell whether a column is known without a property of its own."""
        if stream == "opportunities":
            return column in _DERIVED or (column == "segment" and bool(self._mapping.segments))
        return not mapped or column in ("id", "currency", "is_done")

    def _readable(self, stream: str) -> Collection[str] | None:
        """Return the properties that a stream may be read from; None where a look would be a request for nothing.

        What the shipped mapping names of other objects than deals, every portal has; a site's own names are looked at.
        """
        if stream == "opportunities":
            return self._portal.deal_properties
        told = self._mapping.streams.get(stream)
        if stream not in (*_OBJECTS, "quotas") or told is None:
            return None
        usual = self._usual.streams[stream]
        if {f.field for f in told.fields.values()} <= {f.field for f in usual.fields.values()}:
            return None
        try:
            there = self._portal.properties(told.source)
        except (PermissionMissing, RequestRefused):
            return None  # as the stream's own pull will tell
        return {*there, *(f.field for f in told.fields.values() if f.field.startswith(LINK))}

    @cached_property
    def _usual(self) -> Mapping:
        return load(_shipped_mapping())

    def pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        try:
            yield from self._pull(stream, cursor, until)
        except RequestRefused as refused:
            if stream not in _OPTIONAL:
                raise
            # Which of its refusals HubSpot has for an object that a portal's tier does not have, is not documented.
            raise PermissionMissing(
                f"HubSpot refused {stream}; the portal's tier may not have them",
                code=refused.code,
                request_id=refused.request_id,
            ) from None

    def _pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        api, portal, mapping, options = self._api, self._portal, self._mapping, self._options
        if stream == "opportunities":
            deals = DealStreams(api, portal, mapping, options)
            deals.ours = self._ours
            yield from deals.pull(cursor, until)
            self._roles_refused = deals.roles_refused
        elif stream in ("field_changes", "contact_roles"):
            if stream == "contact_roles" and self._roles_refused:
                raise self._roles_refused
            yield Page(stream, empty(stream), None, last=True)
        elif stream == "stages":
            yield _lasting(stream, portal.stages(), cursor)
        elif stream == "pipelines":
            yield _lasting(stream, portal.pipeline_records(), cursor)
        elif stream in _REFERENCE:
            yield from pull_reference(api, portal, mapping, options, stream, cursor, until)
        elif stream == "activities":
            yield from pull_activities(api, mapping, options, cursor, until, key=KEY)
        elif stream == "own_tasks":
            yield from self._own.pull_tasks(cursor, until, every=options.reference)
        elif stream == "own_forecasts":
            yield from self._own.pull_forecasts(cursor, until, every=self._options.reference)
        else:
            yield from pull_objects(api, portal, mapping, options, stream, cursor, until)

    def children(self, stream: str, opportunity_ids: Sequence[str], until: datetime) -> Iterator[Page]:
        """History and contacts come with their deals, and are never asked for here."""
        api, mapping = self._api, self._mapping
        if stream == "activities":
            yield from activities_of(api, mapping, self._options, opportunity_ids, until, key=KEY)
        else:
            yield from objects_of(api, self._portal, mapping, stream, opportunity_ids)

    def recognise(
        self, written: MappingOf[str, Span], held: Callable[[Collection[str]], Sequence[MappingOf[str, Any]]]
    ) -> None:
        self._ours = Ours(written, held)

    def remains(self, stream: str, cursor: Cursor) -> Cursor | None:
        if stream in ("stages", "pipelines"):  # read whole each time; the cursor is what the portal had
            return cursor
        return remains(cursor) if stream == "opportunities" else None

    def own(
        self, keys: Collection[str], opportunity_ids: Collection[str]
    ) -> tuple[Sequence[OwnTask], Sequence[OwnForecast]]:
        tasks = self._own.tasks(set(keys), opportunity_ids) if opportunity_ids else []
        forecasts = [k for k in keys if k.startswith("psf")]
        return tasks, self._own.forecasts(forecasts)

    def see(self, opportunity_ids: Collection[str]) -> MappingOf[str, Seen]:
        there = [n for n in OWN_FIELDS if own_property(n) in self._portal.deal_properties]
        deals = DealStreams(self._api, self._portal, self._mapping, self._options)
        return {
            facts["id"]: Seen(facts, own_fields(record["properties"], there))
            for facts, record in deals.see(opportunity_ids, [own_property(n) for n in there])
        }

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        self._own.forecasts_written |= any(c.object == "forecast" for c in changes)
        yield from write(self._api, self._own, changes, native_forecast=self._options.native_forecast)

    def site_fields(self) -> Sequence[SiteField]:
        wanted = [
            p
            for p in self._portal.deal_properties.values()
            if not p.get("hubspotDefined") and p.get("fieldType") not in ("textarea", "html", "file")
        ]
        return [
            SiteField(
                str(p["name"]), str(p.get("label") or p["name"]), str(p.get("type") or "string"),
                tuple(str(o["value"]) for o in p.get("options") or () if not o.get("hidden")),
            )
            for p in wanted
            if not str(p["name"]).startswith("pipesync_")
        ]  # fmt: skip

    def checks(self) -> Iterator[Check]:
        from pipesync.adapters.hubspot.doctor import checks  # no other command has a use for it

        yield from checks(self._name, self._api, self._portal, self._mapping, self._options, self._allowed)

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        from pipesync.adapters.hubspot.install import install  # no other command has a use for it

        return install(self._api, self._allowed, dry_run=dry_run)

    def close(self) -> None:
        self._api.close()


def _lasting(stream: str, now: Sequence[Stage] | Sequence[Pipeline], cursor: Cursor | None) -> Page:
    """Return what there is, and as inactive what the portal has deleted since: history still speaks of it."""
    rows = {r.id: r.model_dump(exclude={"connection"}) for r in now}
    before: list[dict[str, Any]] = orjson.loads(cursor) if cursor else []  # Any: JSON
    kept = [*rows.values(), *({**r, "is_active": False} for r in before if r["id"] not in rows)]
    return Page(stream, table(stream, kept), orjson.dumps(kept).decode(), mode="replace", last=True)
