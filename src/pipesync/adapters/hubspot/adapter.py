"""One HubSpot portal as an adapter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from datetime import UTC, datetime
from pathlib import Path

from pipesync._paths import shipped
from pipesync.adapters.base import Check, Cursor, Installed, Page, Seen
from pipesync.adapters.hubspot.api import Api
from pipesync.adapters.hubspot.doctor import checks
from pipesync.adapters.hubspot.install import install
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.others import pull_activities, pull_objects, pull_reference
from pipesync.adapters.hubspot.own import KEY, Own
from pipesync.adapters.hubspot.portal import Portal
from pipesync.adapters.hubspot.streams import DealStreams
from pipesync.adapters.hubspot.writing import own_fields, own_property, write
from pipesync.config import ConnectionConfig, Write, options_as
from pipesync.mapping import Mapping, load
from pipesync.model import (
    OWN_FIELDS,
    TABLES,
    Change,
    ColumnState,
    Connection,
    HistoryKind,
    Outcome,
    OwnForecast,
    OwnTask,
)
from pipesync.schema import schema, table

_DERIVED = ("is_closed", "is_won", "custom")
_LASTING = ("id", "created_at", "closed_at", "is_closed", "is_won")
"""Never change, or are known for every moment from the two times."""
_REFERENCE = ("users", "quotas", "currency_rates")
_OBJECTS = ("accounts", "products", "line_items", "leads")


def open_connection(name: str, config: ConnectionConfig, folder: Path) -> HubspotAdapter:
    """Open a portal; nothing is asked of it yet. InputError for options, mapping or secrets that cannot be used."""
    options = options_as(Options, name, config)
    path = folder / config.mapping if config.mapping else shipped("adapters") / "hubspot" / "mapping.yaml"
    mapping = load(path, base="pipesync:hubspot")
    raw = {
        key: str(folder / value) if key.endswith("_file") and value else value
        for key, value in config.options.items()
    }
    return HubspotAdapter(name, options, mapping, Api(name, options, raw), config.write)


class HubspotAdapter:
    """`pipesync.adapters.base.Adapter` over a portal."""

    def __init__(self, name: str, options: Options, mapping: Mapping, api: Api, allowed: Write) -> None:
        self._name, self._options, self._mapping, self._api = name, options, mapping, api
        self._allowed = allowed
        self._portal = Portal(api, mapping)
        self._own = Own(api, self._portal, key_in=options.task_key)

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
        for column in schema(stream).names:
            field = mapped.get(column)
            history: HistoryKind = "none"
            state = ColumnState(connection=self._name, stream=stream, column=column, state="known")
            if stream != "opportunities":
                if mapped and not field and column not in ("id", "currency", "is_done"):
                    state = state.model_copy(update={"state": "unmapped", "detail": "not mapped"})
                yield state
                continue
            if column in _LASTING or (field and field.history == "full"):
                history = "full"
            if field and field.field not in self._portal.deal_properties:
                told = {
                    "state": "unreadable",
                    "detail": f"no property {field.field!r} that this token may see",
                }
                yield state.model_copy(update=told)
            elif field or column in _DERIVED or (column == "segment" and self._mapping.segments):
                told = {"history": history, "detail": field.field if field else ""}
                yield state.model_copy(update=told)
            else:
                yield state.model_copy(update={"state": "unmapped", "detail": "not mapped"})

    def pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        api, portal, mapping, options = self._api, self._portal, self._mapping, self._options
        if stream == "opportunities":
            yield from DealStreams(api, portal, mapping, options).pull(cursor, until)
        elif stream in ("field_changes", "contact_roles"):
            yield Page(stream, schema(stream).empty_table(), None, last=True)
        elif stream in ("pipelines", "stages"):
            records = portal.stages() if stream == "stages" else portal.pipeline_records()
            rows = table(stream, [r.model_dump(exclude={"connection"}) for r in records])
            yield Page(stream, rows, None, mode="replace", requests=0, last=True)
        elif stream in _REFERENCE:
            yield from pull_reference(api, portal, mapping, options, stream, cursor, until)
        elif stream == "activities":
            yield from pull_activities(api, mapping, options, cursor, until, key=KEY)
        elif stream == "own_tasks":
            yield from self._own.pull_tasks(cursor, until, every=options.reference)
        elif stream == "own_forecasts":
            yield from self._own.pull_forecasts()
        else:
            yield from pull_objects(api, portal, mapping, options, stream, cursor, until)

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
        yield from write(self._api, self._own, changes)

    def checks(self) -> Iterator[Check]:
        yield from checks(self._name, self._api, self._portal, self._mapping, self._options, self._allowed)

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        return install(self._api, self._allowed, dry_run=dry_run)

    def close(self) -> None:
        self._api.close()
