"""One dataset folder as an adapter: whole streams, read again only when their files changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipesync._paths import shipped
from pipesync.adapters.base import Check, Cursor, Installed, Page, Seen, SiteField
from pipesync.adapters.files.dataset import Dataset, open_dataset, with_every_column
from pipesync.adapters.files.outbox import Outbox
from pipesync.adapters.files.sources import columns_of
from pipesync.adapters.files.streams import build, sources_of, tracked_fields
from pipesync.config import ConnectionConfig, Section
from pipesync.errors import InputError, Place, Problem
from pipesync.mapping import HISTORY_SOURCES, load
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
from pipesync.options import options_as
from pipesync.schema import empty, schema, table

_READING = "2"
"""Of this code: a change in how files are read makes every stored cursor old."""
_OWN = ("own_tasks", "own_forecasts")


class Options(Section):
    """Of a connection with `adapter: files`."""

    data: Path
    outbox: Path = Path("outbox")


def open_connection(name: str, config: ConnectionConfig, folder: Path) -> FilesAdapter:
    """Open a dataset; paths start at `folder`. InputError for unknown options, or data that lacks what is needed."""
    options = options_as(Options, name, config)
    data = folder / options.data
    if not data.is_dir():
        raise InputError(
            Problem(
                f"connection {name!r}: no such folder",
                Place(str(data)),
                "give a folder of CSV or Parquet files",
            )
        )
    own = data / "mapping.yaml"
    chosen = folder / config.mapping if config.mapping else own if own.is_file() else None
    path = chosen or shipped("adapters") / "files" / "mapping.yaml"
    dataset = open_dataset(data, load(path, base="pipesync:files" if chosen else None))
    if chosen is None:
        dataset = with_every_column(dataset)
    return FilesAdapter(name, dataset, Outbox(folder / options.outbox), path)


class FilesAdapter:
    """`pipesync.adapters.base.Adapter` over a folder."""

    def __init__(self, name: str, dataset: Dataset, outbox: Outbox, mapping_file: Path) -> None:
        self._name, self._dataset, self._outbox, self._mapping_file = name, dataset, outbox, mapping_file
        self._clock: datetime | None = None
        self._seen: tuple[tuple[int, ...], dict[str, dict[str, Any]]] | None = None  # Any: columns' values
        """Opportunities by id, and the state of the files that they were read from."""

    @property
    def streams(self) -> Sequence[str]:
        mapped = set(self._dataset.mapping.streams) - set(HISTORY_SOURCES)
        made = {"opportunities", "stages", "pipelines", "field_changes", *_OWN}
        return tuple(s for s in TABLES if s in mapped | made)

    @property
    def budget(self) -> tuple[int, int] | None:
        return None

    def connection(self) -> Connection:
        mapping = self._dataset.mapping
        return Connection(
            connection=self._name, adapter="files", currency=mapping.currency, timezone=mapping.timezone
        )

    def clock(self) -> datetime:
        """The mapping's `as_of`; without one, the first whole second that knows all of the data.

        CRMs tell their time in whole seconds, so that a portal filled from a folder speaks of the same moment.
        """
        if self._clock is None:
            latest = self._dataset.latest() or datetime(1970, 1, 1, tzinfo=UTC)
            self._clock = self._dataset.mapping.as_of or (
                latest.replace(microsecond=0) + timedelta(seconds=bool(latest.microsecond))
            )
        return self._clock

    def columns(self) -> Sequence[ColumnState]:
        return [state for stream in self.streams for state in self._columns(stream)]

    def _columns(self, stream: str) -> Iterator[ColumnState]:
        found, made = self._dataset.columns(stream), self._made(stream)
        mapping = self._dataset.mapping.streams.get(stream)
        fields = mapping.fields if mapping else {}
        tracked = self._tracked() if stream == "opportunities" else frozenset()
        for column in schema(stream).names:
            known = column in found or column in made
            said = fields[column].history if column in fields else None
            history: HistoryKind = said or ("full" if known and column in tracked else "none")
            detail = found.get(column, "")
            if not known:
                detail = f"no column {fields[column].field!r}" if column in fields else "not mapped"
            yield ColumnState(
                connection=self._name,
                stream=stream,
                column=column,
                state="known" if known else "unmapped",
                history=history,
                detail=detail,
            )

    def _made(self, stream: str) -> Sequence[str]:
        """Return the columns of a stream that need none in a file."""
        if stream in ("stages", "pipelines", "field_changes", *_OWN):
            return tuple(schema(stream).names)
        if stream == "opportunities":
            segment = ("segment",) if self._dataset.mapping.segments else ()
            return ("pipeline", "stage", "is_closed", "is_won", "custom", *segment)
        if stream not in self._dataset.files:
            return ()
        return {"activities": ("id", "is_done"), "line_items": ("id",), "leads": ("id",)}.get(stream, ())

    def _tracked(self) -> frozenset[str]:
        """Return the fields whose past is known: told by a history, fixed at creation, or the same for all."""
        tracked = {"id", "created_at", "closed_at", "is_closed", "is_won"} | tracked_fields(self._dataset)
        return frozenset(
            tracked if "pipeline" in self._dataset.columns("opportunities") else {*tracked, "pipeline"}
        )

    def pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Yield one page: the whole stream, or nothing where its files are what they were."""
        if stream in _OWN:
            yield self._own_page(stream)
            return
        now = f"{_READING}:{self._dataset.fingerprint(*sources_of(stream))}"
        if stream == "activities":  # what is planned becomes past as the clock moves
            now += f":{until.isoformat()}"
        if now == cursor:
            yield Page(stream, empty(stream), now, last=True)
            return
        rows, rejects = build(self._dataset, stream, until)
        yield Page(stream, rows, now, mode="replace", rejects=rejects, last=True)

    def _own_page(self, stream: str) -> Page:
        tasks, forecasts = self._outbox.read()
        records = tasks.values() if stream == "own_tasks" else forecasts.values()
        rows = table(stream, [r.model_dump(exclude={"connection"}) for r in records])
        return Page(stream, rows, None, mode="replace", last=True)

    def own(
        self, keys: Collection[str], opportunity_ids: Collection[str]
    ) -> tuple[Sequence[OwnTask], Sequence[OwnForecast]]:
        tasks, forecasts = self._outbox.read()
        return (
            [t for t in tasks.values() if t.key in keys],
            [f for f in forecasts.values() if f.key in keys],
        )

    def see(self, opportunity_ids: Collection[str]) -> Mapping[str, Seen]:
        """Read the files again where they are not those that were read before."""
        now = self._dataset.stamps(*sources_of("opportunities"))
        if self._seen is None or self._seen[0] != now:
            fresh = open_dataset(self._dataset.folder, self._dataset.mapping)
            rows, _ = build(fresh, "opportunities", self.clock())
            self._seen = now, {row["id"]: row for row in rows.to_pylist()}
        ours = self._outbox.fields()
        found, blank = self._seen[1], dict.fromkeys(OWN_FIELDS)
        return {i: Seen(found[i], ours.get(i, blank)) for i in opportunity_ids if i in found}

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        yield from self._outbox.write(changes, self.clock())

    def site_fields(self) -> Sequence[SiteField]:
        mapped = self._dataset.mapping.streams["opportunities"]
        known = {f.field for f in mapped.fields.values()}
        if not self._mapping_file.is_relative_to(shipped("adapters")):  # else nobody has named them yet
            known |= set(mapped.custom.values())
        return [
            SiteField(c, c, "text")
            for c in columns_of(self._dataset.files["opportunities"])
            if c not in known
        ]

    def checks(self) -> Iterator[Check]:
        yield Check("mapping", "ok", str(self._mapping_file))
        for source, stream in self._dataset.mapping.streams.items():
            path = self._dataset.files.get(source)
            if path is None:
                yield Check(stream.source, "warning", "no such file", "fine, unless you expected one")
                continue
            loaded = self._dataset.load(source)
            said = f"{len(loaded.rows):,} rows"
            if loaded.rejects:
                first = loaded.rejects[0]
                yield Check(
                    path.name,
                    "warning",
                    f"{said}, {len(loaded.rejects):,} rejected; the first, {first.where}: {first.reason}",
                    "mend the file, or the mapping",
                )
            else:
                yield Check(path.name, "ok", said)
        yield self._outbox.check()
        yield Check("clock", "ok", f"{self.clock():%Y-%m-%dT%H:%M:%SZ}")

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        """Return nothing: files take whatever is written to them."""
        return ()

    def close(self) -> None:
        """Nothing is held open between calls."""
