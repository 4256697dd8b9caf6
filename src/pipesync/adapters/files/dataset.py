"""A dataset folder as normalized streams: which file and column feeds what, and which rows cannot.

A row is rejected, with its line and the reason, where a filled cell means nothing or a needed one is blank: a
blank in place of an unreadable amount would state that there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Reject
from pipesync.adapters.files import sources
from pipesync.adapters.files.parse import Clock, parse
from pipesync.errors import InputError, Place, Problem
from pipesync.mapping import FieldMapping, Mapping
from pipesync.model import TABLES
from pipesync.schema import schema

NEEDED: MappingOf[str, tuple[str, ...]] = {
    "opportunities": ("id", "created_at", "outcome"),
    "stage_history": ("opportunity_id", "stage", "changed_at"),
    "field_history": ("opportunity_id", "field", "value", "changed_at"),
    "activities": ("opportunity_id", "at"),
    "line_items": ("opportunity_id",),
}
"""Columns that a file must have. Of other streams: those without a default in their record."""
EXPECTED = ("amount", "closed_at")
"""Columns that opportunities must have unless the mapping says that there is none (`amount: null`)."""
_MAY_BE_BLANK = {("opportunities", "created_at"), ("field_history", "value")}
_CHILDREN = ("stage_history", "field_history", "activities", "contact_roles", "line_items")


class Loaded(NamedTuple):
    """One source's readable rows, typed and named as in the model, and what could not be read.

    `row` (not a column of the model) is each row's position in its file.
    """

    rows: pa.Table
    rejects: tuple[Reject, ...]


@dataclass
class Dataset:
    """An opened folder. Files are read when asked for, and once."""

    folder: Path
    mapping: Mapping
    files: dict[str, Path]
    """Stream or history source -> its file, of those that are there."""
    _texts: dict[str, sources.Text] = field(default_factory=dict)
    _loaded: dict[str, Loaded] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        return Clock(ZoneInfo(self.mapping.timezone), self.mapping.date_formats)

    def columns(self, source: str) -> dict[str, str]:
        """Return normalized field -> column, of the mapped ones that the file has."""
        if source not in self.files:
            return {}
        there = sources.columns_of(self.files[source])
        fields = self.mapping.streams[source].fields
        return {n: f.field for n, f in fields.items() if f.field in there}

    def fingerprint(self, *needed: str) -> str:
        """Change with the content of these sources' files and with the mapping, and with nothing else."""
        parts = [
            self.mapping.fingerprint(),
            *(f"{s}={sources.digest(self.files[s])}" for s in needed if s in self.files),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def stamps(self, *needed: str) -> tuple[int, ...]:
        """Return what the file system says of these sources' files: enough to see that one was replaced."""
        found = [self.files[s].stat() for s in needed if s in self.files]
        return tuple(n for one in found for n in (one.st_mtime_ns, one.st_size, one.st_ino))

    def load(self, source: str) -> Loaded:
        """Read one source; no rows where its file is absent."""
        if source not in self._loaded:
            self._loaded[source] = self._load(source)
        return self._loaded[source]

    def text(self, source: str) -> sources.Text:
        if source not in self._texts:
            self._texts[source] = sources.read(self.files[source])
        return self._texts[source]

    def _load(self, source: str) -> Loaded:
        if source not in self.files:
            return Loaded(pa.table({"row": pa.array([], pa.int64())}), ())
        text = self.text(source)
        faults = Faults(len(text.rows))
        values = self._typed(source, text, faults)
        if source == "opportunities":
            values["custom"] = self._custom(text)
            _check_outcome(values, faults)
        elif source in _CHILDREN:
            known = self.load("opportunities").rows["id"]
            orphan = pc.invert(pc.is_in(values["opportunity_id"], value_set=known.combine_chunks()))
            faults.add(orphan, "no readable opportunity has this opportunity_id")
        key = TABLES[source].key if source in TABLES else ()
        if key and set(key) <= values.keys():
            faults.add(_repeats(values, key, faults.good()), f"{' and '.join(key)} came before in this file")
        rows = pa.table({**values, "row": pa.array(np.arange(len(text.rows)))}).filter(faults.good())
        if source == "opportunities" and not len(rows) and (len(text.rows) or text.broken):
            raise self._unreadable(text, faults)
        rejects = (*text.broken, *(Reject(text.where(i), why, text.raw(i)) for i, why in faults.found()))
        return Loaded(rows, rejects)

    def _typed(self, source: str, text: sources.Text, faults: Faults) -> dict[str, pa.Array]:
        """Read every mapped column as what it is to the model."""
        fields = self.mapping.streams[source].fields
        kinds = {f.name: f.type for f in schema(_stream(source))}
        needed = needed_columns(source)
        values = {}
        for name, column in self.columns(source).items():
            cells = translated(text.rows[column], fields[name])
            one = parse(cells, name, kinds.get(name, pa.string()), self.clock)
            faults.add(one.bad, one.reason)
            if name in needed and (source, name) not in _MAY_BE_BLANK:
                faults.add(pc.and_(one.values.is_null(), pc.invert(one.bad)), f"{name} is blank")
            values[name] = one.values
        return values

    def _unreadable(self, text: sources.Text, faults: Faults) -> InputError:
        """Nothing at all could be read: that is a wrong mapping, not a matter of rows."""
        row, why = next(faults.found(), (0, ""))
        first = Reject(text.where(row), why) if why else text.broken[0]
        fix = f"the first, {first.where}: {first.reason}"
        return InputError(Problem(f"no row of {text.path.name} could be read", Place(str(text.path)), fix))

    def _custom(self, text: sources.Text) -> pa.Array:
        """Gather the site's own columns into one map per row."""
        wanted = self.mapping.streams["opportunities"].custom
        own = {name: column for name, column in wanted.items() if column in text.rows.schema.names}
        count = len(text.rows)
        if not own:
            return pa.array([[]] * count, type=pa.map_(pa.string(), pa.string()))
        cells = pa.concat_arrays([text.rows[c].combine_chunks() for c in own.values()])
        by_row = np.arange(len(cells)).reshape(len(own), count).T.ravel()
        offsets = pa.array(np.arange(0, len(cells) + 1, len(own)), pa.int32())
        return pa.MapArray.from_arrays(
            offsets, pa.array(list(own) * count, pa.string()), cells.take(pa.array(by_row))
        )

    def latest(self) -> datetime | None:
        """Return the latest moment at which something is known to have happened; None where nothing has."""
        moments: list[datetime] = []
        for source, names in _HAPPENED.items():
            rows = self.load(source).rows
            if source == "activities" and "is_done" in rows.schema.names:
                rows = rows.filter(pc.fill_null(rows["is_done"], False))
            found = [pc.max(rows[n]).as_py() for n in names if n in rows.schema.names]
            moments += [m for m in found if m is not None]
        return max(moments).replace(tzinfo=UTC) if moments else None


_HAPPENED = {
    "opportunities": ("created_at", "closed_at", "modified_at"),
    "stage_history": ("changed_at",),
    "field_history": ("changed_at",),
    "activities": ("at",),
}


class Faults:
    """The first reason against each row."""

    def __init__(self, rows: int) -> None:
        self._reasons: list[str] = []
        self._first = pa.nulls(rows, pa.int32())

    def add(self, bad: pa.Array, reason: str) -> None:
        bad = pc.and_(pc.fill_null(bad, False), self._first.is_null())
        if pc.any(bad).as_py():
            self._reasons.append(reason)
            self._first = pc.if_else(bad, pa.scalar(len(self._reasons) - 1, pa.int32()), self._first)

    def good(self) -> pa.Array:
        return self._first.is_null()

    def found(self) -> Iterator[tuple[int, str]]:
        if self._reasons:
            yield from ((i, self._reasons[r]) for i, r in enumerate(self._first.to_pylist()) if r is not None)


def needed_columns(source: str) -> Sequence[str]:
    if source in NEEDED:
        return NEEDED[source]
    record = TABLES[source].record
    return [n for n, f in record.model_fields.items() if f.is_required()]


def _stream(source: str) -> str:
    return source if source in TABLES else "field_changes"


def translated(column: pa.ChunkedArray, mapped: FieldMapping | None) -> pa.Array:
    """Put the mapping's words for the source's; the exact word first, then regardless of case."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if mapped is None or not mapped.values:
        return flat
    loose = {word.strip().casefold(): ours for word, ours in mapped.values.items()}
    encoded = flat.dictionary_encode()
    words = [mapped.values.get(w, loose.get(w.strip().casefold(), w)) for w in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def _check_outcome(values: dict[str, pa.Array], faults: Faults) -> None:
    """Turn the outcome into the model's two flags; an outcome and a closing time must agree."""
    outcome = values.pop("outcome")
    values["is_closed"] = pc.not_equal(outcome, "Open")
    values["is_won"] = pc.equal(outcome, "Closed Won")
    if "closed_at" in values:
        closed = values["closed_at"].is_valid()
        faults.add(
            pc.and_(values["is_closed"], pc.invert(closed)), "outcome is closed, and closed_at is blank"
        )
        faults.add(
            pc.and_(pc.invert(values["is_closed"]), closed), "outcome is Open, and closed_at is filled"
        )


def _repeats(values: dict[str, pa.Array], key: Sequence[str], good: pa.Array) -> pa.Array:
    """Mark every good row whose key a good row before it has."""
    position = pa.array(np.arange(len(good)))
    rows = pa.table({**{k: values[k] for k in key}, "row": position}).filter(good)
    first = rows.group_by(list(key), use_threads=False).aggregate([("row", "min")])["row_min"]
    return pc.and_(good, pc.invert(pc.is_in(position, value_set=first.combine_chunks())))


# --- Opening ----------------------------------------------------------------------------------------------------


def open_dataset(folder: Path, mapping: Mapping) -> Dataset:
    """Find a folder's files; one InputError names every needed file and column that is missing."""
    if not folder.is_dir():
        raise InputError(
            Problem("no such folder", Place(str(folder)), "give a folder of CSV or Parquet files")
        )
    if "opportunities" not in mapping.streams:
        raise InputError(
            Problem("the mapping has no opportunities", mapping.place(), "add `extends: pipesync:files`")
        )
    files = {}
    for source, stream in mapping.streams.items():
        place = mapping.place("streams", source, "source") or mapping.place("streams", source)
        if found := sources.find(folder, stream.source, place):
            files[source] = found
    dataset = Dataset(folder, mapping, files)
    if problems := list(_missing(dataset)):
        raise InputError(*problems)
    return dataset


def _missing(dataset: Dataset) -> Iterator[Problem]:
    streams = dataset.mapping.streams
    if "opportunities" not in dataset.files:
        yield Problem(
            f"no file {streams['opportunities'].source}",
            Place(str(dataset.folder)),
            "put the export there, or name it in mapping.yaml (streams: opportunities: source:)",
        )
    for source, path in dataset.files.items():
        there = dataset.columns(source)
        wanted = list(needed_columns(source))
        if source == "opportunities":
            wanted += [n for n in EXPECTED if n in streams[source].fields]
        for name in wanted:
            if name in there or (name == "id" and source in _NUMBERED):
                continue
            column = streams[source].fields.get(name, FieldMapping(field=name)).field
            near = sources.columns_of(path)
            yield Problem(
                f"column {column!r} is missing ({name} of {source.replace('_', ' ')})",
                Place(str(path), 1),
                f"the file has {', '.join(near[:12])}; say in mapping.yaml which one it is "
                f"(streams: {source}: fields: {name}: COLUMN)"
                + (f", or that there is none ({name}: null)" if name in EXPECTED else ""),
            )
    opportunities = dataset.columns("opportunities")
    if (
        dataset.files.get("opportunities")
        and "stage" not in opportunities
        and "stage_history" not in dataset.files
    ):
        source = streams["stage_history"].source if "stage_history" in streams else "stage_history.csv"
        yield Problem(
            f"no file {source}, and {dataset.files['opportunities'].name} has no stage",
            Place(str(dataset.folder)),
            "put the stage history there, or map a column: streams: opportunities: fields: stage: COLUMN",
        )


_NUMBERED = ("activities", "line_items", "leads")
"""Streams whose rows get their number as id where the file has no ids."""


def with_every_column(dataset: Dataset) -> Dataset:
    """Return it with each column of opportunities that no field is read from as one of the site's own (`custom.NAME`).

    For a folder that nobody wrote a mapping for: rules can ask for such a column, and the forecast's leakage check
    sees those that tell the outcome.
    """
    stream = dataset.mapping.streams["opportunities"]
    named = {f.field for f in stream.fields.values()}
    own = {c: c for c in sources.columns_of(dataset.files["opportunities"]) if c not in named}
    streams = {**dataset.mapping.streams, "opportunities": stream.model_copy(update={"custom": own})}
    return open_dataset(dataset.folder, dataset.mapping.model_copy(update={"streams": streams}))
