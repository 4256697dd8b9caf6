"""Each normalized stream from the org's objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Cursor, Estimate, Page, Reject
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.reading import (
    Batch,
    Known,
    Place,
    Query,
    estimate,
    every_id,
    few,
    scan,
    vanished,
)
from pipesync.adapters.salesforce.values import (
    column,
    custom,
    is_true,
    normalized,
    raw_table,
    sequences,
    translated,
    typed,
)
from pipesync.arrays import FALSE, TEXT, array, from_numpy, joined, scalar, to_numpy
from pipesync.errors import PermissionMissing
from pipesync.mapping import segment
from pipesync.schema import empty, schema

OPPORTUNITY = "006"
"""The key prefix of opportunities: tasks and events are about many kinds of records."""
KEY = "Pipesync_Key__c"
HISTORY = {
    "stage": "StageName",
    "amount": "Amount",
    "close_date": "CloseDate",
    "forecast_category": "ForecastCategory",
    "probability": "Probability",
}
"""Column -> field of OpportunityHistory, which every org keeps."""
TRACKED = {"owner_id": "Owner", "next_step": "NextStep"}
"""Column -> name in OpportunityFieldHistory, where the admin tracks the field."""
_BY_IDS = 200
_RECORDS_PER_SECOND = 20_000
"""What a pull reads and stores, with room to spare."""
_MOST_ASKED = 2000
"""Ids that are worth asking after one by one; of more the whole object is read."""
Values = dict[str, tuple[str | None, ...]]
"""What the tracked fields of opportunities were last said to be, by id."""
Read = Callable[[pa.Table], tuple[pa.Table, Sequence[Reject]]]
"""How texts become a stream's rows, and which of them cannot be read."""


@dataclass(frozen=True)
class Step:
    """A batch, and what its page has beside its rows."""

    batch: Batch
    cursor: Cursor
    mode: Literal["merge", "replace"]
    present: pa.Array | None = None
    """All ids that there are, where they were listed."""


class Streams:
    """Reads streams of one org as pages."""

    def __init__(self, org: Org, options: Options) -> None:
        self._org, self._api, self._options = org, org.api, options

    def visible(self, stream: str) -> list[str]:
        """Return the mapped columns that the user can read."""
        told = self._org.mapping.streams[stream]
        return [c for c, f in told.fields.items() if self._org.sees(told.source, f.field)]

    def estimate(self, stream: str) -> Estimate | None:
        """Return what a first pull of a stream will take; None for small ones, and where nothing can be seen."""
        if stream == "field_changes":
            sources = ["OpportunityHistory", "OpportunityFieldHistory"]
        elif stream == "activities":
            sources = ["Event", "Task"]
        elif stream in self._org.mapping.streams and stream not in ("quotas", "currency_rates"):
            sources = [self._org.mapping.streams[stream].source]
        else:
            return None
        seen = [s for s in sources if self._org.fields(s) is not None]
        if not seen:
            return None
        each = [estimate(self._api, s, self._options) for s in seen]
        records, requests = (sum(numbers) for numbers in zip(*each, strict=True))
        return Estimate(records, requests, records / _RECORDS_PER_SECOND + requests * self._api.latency)

    def _all(
        self, stream: str, cursor: Cursor | None, until: datetime, extra: Sequence[str] = ()
    ) -> Iterator[Step]:
        """Yield batches with what their page has beside its rows.

        A field that has become visible since the cursor has the whole object read anew, or old rows would say that it
        is blank.
        """
        told = self._org.mapping.streams[stream]
        visible = self.visible(stream)
        if self._org.fields(told.source) is None:
            raise PermissionMissing(
                f"{told.source} cannot be read", fix="assign the permission set Pipesync_Integration"
            )
        fields = tuple(sorted({*(told.fields[c].field for c in visible), *extra}))
        known = Known.read(cursor)
        is_due = known.is_sweep_due(until, self._options.sweep)
        if known.lacks(fields) or (is_due and "id" not in schema(stream).names):
            cursor, known, is_due = None, Known(), False
        known = Known(fields, "" if is_due else known.swept)
        start, gone = self._since(told.source, cursor, until)
        if gone and "id" not in schema(stream).names and not self._are_binned(told.source, gone):
            start, gone, known = Place(), (), Known(fields)  # which rows went for good nobody can tell
        is_full = start.at is None
        query = Query(told.source, fields, until, deleted=not is_full and not start.job)
        for i, batch in enumerate(self._scanned(query, start, gone)):
            sweeps = is_due and batch.is_last and not is_full
            present = every_id(self._api, told.source, until, self._options) if sweeps else None
            yield Step(
                batch, batch.cursor(until, known), "replace" if is_full and i == 0 else "merge", present
            )

    def _since(self, source: str, cursor: Cursor | None, until: datetime) -> tuple[Place, tuple[str, ...]]:
        """Return where to begin, and what has vanished since; at the beginning where nobody can tell that."""
        place = Place.read(cursor)
        gone = vanished(self._api, source, place, self._options.look_back, until)
        return (place.back(self._options.look_back), gone) if gone is not None else (Place(), ())

    def _are_binned(self, source: str, ids: Sequence[str]) -> bool:
        """Whether all of these are still in the recycle bin, where they say what they belonged to."""
        if len(ids) > _MOST_ASKED:
            return False
        found = 0
        for at in range(0, len(ids), _BY_IDS):
            listed = ", ".join(f"'{i}'" for i in ids[at : at + _BY_IDS])
            soql = f"SELECT COUNT() FROM {source} WHERE Id IN ({listed})"
            found += int(self._api.query(soql, deleted=True)["totalSize"])
        return found == len(ids)

    def _scanned(self, query: Query, start: Place, gone: tuple[str, ...]) -> Iterator[Batch]:
        """Scan, and tell what has vanished: at once, but after the rows of a job that may still have them."""
        for i, batch in enumerate(scan(self._api, query, start, self._options)):
            is_time = batch.is_last if start.job else i == 0
            yield replace(batch, gone=gone) if is_time else batch

    # --- Objects that are mirrored as they are ------------------------------------------------------------------

    def objects(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Any object whose mapped fields are its columns."""
        told = self._org.mapping.streams[stream]
        visible = self.visible(stream)
        for step in self._all(stream, cursor, until):
            rows, rejects = normalized(step.batch.kept, stream, told.fields, visible)
            yield self._page(stream, rows, step, rejects)

    def _page(self, stream: str, rows: pa.Table, step: Step, rejects: Sequence[Reject]) -> Page:
        batch = step.batch
        return Page(
            stream,
            rows,
            step.cursor,
            mode=step.mode,
            deleted=batch.deleted,
            present=step.present,
            rejects=tuple(rejects),
            requests=batch.requests,
            last=batch.is_last,
        )

    def users(self, until: datetime) -> Iterator[Page]:
        """Users as a whole: a role's new name does not move its users' SystemModstamp."""
        told = self._org.mapping.streams["users"]
        visible = self.visible("users")
        batches = [step.batch for step in self._all("users", None, until)]
        raw = pa.concat_tables([b.rows for b in batches])
        rows, rejects = normalized(raw, "users", told.fields, visible)
        requests = sum(b.requests for b in batches)
        yield Page("users", rows, None, mode="replace", rejects=tuple(rejects), requests=requests, last=True)

    def opportunities(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        mapping = self._org.mapping
        told = mapping.streams["opportunities"]
        visible = self.visible("opportunities")
        own = {n: f for n, f in told.custom.items() if self._org.sees(told.source, f)}
        for step in self._all("opportunities", cursor, until, extra=tuple(own.values())):
            raw = step.batch.kept
            rows, rejects = normalized(raw, "opportunities", told.fields, visible)
            if rejects:
                bad = array([r.where for r in rejects], TEXT)
                raw = raw.filter(pc.invert(pc.is_in(column(raw, "Id"), value_set=bad)))
            rows = self._settled(rows)
            if own:
                rows = rows.append_column("custom", custom(raw, own))
            if mapping.segments:
                rows = rows.append_column("segment", segment(rows, mapping.segments))
            yield self._page("opportunities", rows, step, rejects)

    def see(self, ids: Collection[str], ours: Mapping[str, str]) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield these opportunities' rows, and beside them our own fields as text; `ours` are those, by our names."""
        told = self._org.mapping.streams["opportunities"]
        visible = self.visible("opportunities")
        own = {n: f for n, f in ours.items() if self._org.sees(told.source, f)}
        paths = tuple(dict.fromkeys(("Id", *(told.fields[c].field for c in visible), *own.values())))
        listed = sorted(ids)
        for start in range(0, len(listed), _BY_IDS):
            said = ", ".join(f"'{i}'" for i in listed[start : start + _BY_IDS])
            soql = f"SELECT {', '.join(paths)} FROM {told.source} WHERE Id IN ({said})"
            for page in self._api.pages(soql):
                raw = raw_table(page, paths)
                rows, rejects = normalized(raw, "opportunities", told.fields, visible)
                if rejects:
                    bad = array([r.where for r in rejects], TEXT)
                    raw = raw.filter(pc.invert(pc.is_in(column(raw, "Id"), value_set=bad)))
                yield (
                    self._settled(rows),
                    pa.table({n: column(raw, f) for n, f in own.items()} | {"id": column(raw, "Id")}),
                )

    def _settled(self, rows: pa.Table) -> pa.Table:
        """Give every opportunity a pipeline; an open one has not been closed, whatever its last change of stage."""
        default = scalar(self._org.mapping.default_pipeline, TEXT)
        pipeline = (
            pc.fill_null(rows["pipeline"], default)
            if "pipeline" in rows.schema.names
            else pa.repeat(default, len(rows))
        )
        rows = _with(rows, "pipeline", pipeline)
        if "closed_at" in rows.schema.names:
            closed = (
                pc.fill_null(rows["is_closed"], FALSE)
                if "is_closed" in rows.schema.names
                else pa.repeat(FALSE, len(rows))
            )
            kind = rows.schema.field("closed_at").type
            rows = _with(rows, "closed_at", pc.if_else(closed, rows["closed_at"], pa.nulls(1, kind)[0]))
        return rows

    def contact_roles(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """A role that was deleted has the others of its opportunity read again: roles have no id of their own here."""
        name = "contact_roles"
        told = self._org.mapping.streams[name]
        visible = self.visible(name)
        paths = [told.fields[c].field for c in visible]
        for step in self._all(name, cursor, until):
            batch = step.batch
            binned = batch.rows.filter(is_true(batch.rows, "IsDeleted"))
            gone = sorted(set(column(binned, "OpportunityId").to_pylist()))
            found, requests = [batch.kept.select(paths)], batch.requests
            if gone:
                yield Page(name, empty(name), cursor, deleted=tuple(gone))
            for start in range(0, len(gone), _BY_IDS):
                ids = ", ".join(f"'{i}'" for i in gone[start : start + _BY_IDS])
                soql = f"SELECT {', '.join(paths)} FROM {told.source} WHERE OpportunityId IN ({ids})"
                found += [raw_table(page, paths) for page in self._api.pages(soql)]
                requests += 1
            rows, rejects = normalized(pa.concat_tables(found), name, told.fields, visible)
            cursor = step.cursor
            yield Page(
                name,
                rows,
                cursor,
                mode=step.mode,
                rejects=tuple(rejects),
                requests=requests,
                last=batch.is_last,
            )

    # --- Of some opportunities alone -----------------------------------------------------------------------------

    def children(self, stream: str, ids: Sequence[str], until: datetime) -> Iterator[Page]:
        """What belongs to these opportunities; nothing where the mapping or the org does not show what does."""
        for query, link, read in self._belonging(stream, until):
            for start in range(0, len(ids), _BY_IDS):
                listed = ", ".join(f"'{i}'" for i in ids[start : start + _BY_IDS])
                narrow = replace(query, where=f"{link} IN ({listed})")
                for batch in few(self._api, narrow, self._options):
                    rows, rejects = read(batch.rows)
                    yield Page(stream, rows, None, rejects=tuple(rejects), requests=batch.requests)

    def _belonging(self, stream: str, until: datetime) -> Iterator[tuple[Query, str, Read]]:
        """Yield queries of a stream, the field that says of which opportunity a row is, and how rows are read."""
        if stream == "activities":
            for source in ("Event", "Task"):
                if self._org.sees(source, "WhatId"):
                    yield self._engagements(source, Place(), until), "WhatId", partial(self._engaged, source)
        elif stream == "field_changes":
            for query in self._histories(until):
                yield query, "OpportunityId", partial(self._past, query.entity, known={})
        elif "opportunity_id" in (visible := self.visible(stream)):
            told = self._org.mapping.streams[stream]
            fields = tuple(sorted({told.fields[c].field for c in visible}))
            read = partial(normalized, stream=stream, fields=told.fields, visible=visible)
            yield Query(told.source, fields, until), told.fields["opportunity_id"].field, read

    # --- Activities ---------------------------------------------------------------------------------------------

    def activities(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Events and tasks on opportunities; ours are not activity. A blank `is_done`: once its time has come."""
        told = orjson.loads(cursor) if cursor else {"Event": None, "Task": None}
        sources = [s for s in ("Event", "Task") if self._org.fields(s) is not None]
        if not sources:
            raise PermissionMissing("neither Event nor Task can be read", fix="assign the permission set")
        since = {s: self._since(s, told.get(s), until) for s in sources}
        known = {s: Known.read(told.get(s)) for s in sources}
        fields = {s: self._engagements(s, Place(), until).columns for s in sources}
        is_lost = any(told.get(s) and (since[s][0].at is None or known[s].lacks(fields[s])) for s in sources)
        if is_lost:  # of one of them: both anew
            told, since, known = {}, dict.fromkeys(sources, (Place(), ())), dict.fromkeys(sources, Known())
        is_first = not any(told.values())
        is_due = not is_first and all(k.is_sweep_due(until, self._options.sweep) for k in known.values())
        for i, source in enumerate(sources):
            start, gone = since[source]
            remembered = Known(fields[source], "" if is_due else known[source].swept)
            for batch in self._scanned(self._engagements(source, start, until), start, gone):
                told[source] = batch.cursor(until, remembered)
                is_last = batch.is_last and i == len(sources) - 1
                yield Page(
                    "activities",
                    self._activities(source, batch.kept),
                    orjson.dumps(told).decode(),
                    mode="replace" if is_first else "merge",
                    deleted=batch.deleted,
                    present=self._every_id(sources, until) if is_due and is_last else None,
                    requests=batch.requests,
                    last=is_last,
                )
                is_first = False

    def _every_id(self, sources: Sequence[str], until: datetime) -> pa.Array:
        return pa.concat_arrays([every_id(self._api, s, until, self._options) for s in sources])

    def _engagements(self, source: str, start: Place, until: datetime) -> Query:
        mapped = self._org.mapping.streams["activities"].fields
        own = [mapped[c].field for c in ("kind", "direction") if c in mapped]
        times = (
            ["StartDateTime"] if source == "Event" else ["CompletedDateTime", "ActivityDate", "IsClosed", KEY]
        )
        columns = tuple(f for f in ("WhatId", "OwnerId", *own, *times) if self._org.sees(source, f))
        return Query(source, columns, until, deleted=start.at is not None and not start.job)

    def _engaged(self, source: str, raw: pa.Table) -> tuple[pa.Table, Sequence[Reject]]:
        return self._activities(source, raw), ()

    def _activities(self, source: str, raw: pa.Table) -> pa.Table:
        """A task is due on a day, and late once that day is over."""
        mapped = self._org.mapping.streams["activities"].fields
        end_of_day = joined(column(raw, "ActivityDate"), "T23:59:59Z", by="")
        at = pc.coalesce(column(raw, "StartDateTime"), column(raw, "CompletedDateTime"), end_of_day)
        is_about_one = pc.starts_with(column(raw, "WhatId"), OPPORTUNITY)
        keep = pc.and_(
            pc.fill_null(is_about_one, FALSE), pc.and_(pc.is_valid(at), pc.is_null(column(raw, KEY)))
        )
        raw, at = raw.filter(keep), at.filter(keep)
        done = is_true(raw, "IsClosed") if source == "Task" else pa.nulls(len(raw), pa.bool_())
        found = {
            "id": column(raw, "Id"),
            "opportunity_id": column(raw, "WhatId"),
            "at": typed(at, schema("activities").field("at").type),
            "is_done": done,
            "owner_id": column(raw, "OwnerId"),
        }
        for name in ("kind", "direction"):
            if name in mapped:
                found[name] = translated(column(raw, mapped[name].field), mapped[name].values)
        return pa.table(found)

    # --- History ------------------------------------------------------------------------------------------------

    def tracked(self) -> dict[str, str]:
        """Return column -> field of OpportunityHistory that can be read."""
        mapped = self._org.mapping.streams["opportunities"].fields
        return {
            c: f
            for c, f in HISTORY.items()
            if c in mapped and mapped[c].history == "full" and self._org.sees("OpportunityHistory", f)
        }

    def field_changes(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        told = orjson.loads(cursor) if cursor else {}
        is_first = cursor is None
        queries = self._histories(until)
        for i, query in enumerate(queries):
            start = Place.read(told.get(query.entity)).back(self._options.look_back)
            known: Values = {}
            for batch in scan(self._api, query, start, self._options):
                told[query.entity] = batch.cursor(until)
                changes, _ = self._past(query.entity, batch.rows, known)
                if batch.place.job:  # it goes on with the last opportunity of this page, or with another
                    known = dict(list(known.items())[-1:])
                yield Page(
                    "field_changes",
                    changes,
                    orjson.dumps(told).decode(),
                    mode="replace" if is_first else "merge",
                    requests=batch.requests,
                    last=batch.is_last and i == len(queries) - 1,
                )
                is_first = False

    def _histories(self, until: datetime) -> list[Query]:
        fields = {"OpportunityHistory": tuple(self.tracked().values())}
        if self._org.fields("OpportunityFieldHistory") is not None:
            fields["OpportunityFieldHistory"] = ("Field", "NewValue")
        order = "OpportunityId, CreatedDate, Id"
        return [
            Query(source, ("OpportunityId", "CreatedById", *names), until, by="CreatedDate", bulk_order=order)
            for source, names in fields.items()
        ]

    def _past(self, source: str, raw: pa.Table, known: Values) -> tuple[pa.Table, Sequence[Reject]]:
        is_whole = source == "OpportunityHistory"
        return (self._history_changes(raw, known) if is_whole else self._field_changes(raw)), ()

    def _history_changes(self, raw: pa.Table, known: Values) -> pa.Table:
        """A row holds all its fields as they were from then on; those that stayed as they were `known` are left out."""
        mapped = self._org.mapping.streams["opportunities"].fields
        kinds = {f.name: f.type for f in schema("opportunities")}
        raw = raw.sort_by([("OpportunityId", "ascending"), ("CreatedDate", "ascending"), ("Id", "ascending")])
        owners = column(raw, "OpportunityId")
        firsts = to_numpy(pc.indices_nonzero(_differs(owners)), np.uint64).astype(np.int64)
        ids = owners.take(from_numpy(firsts)).to_pylist()
        tracked = self.tracked()
        columns = [column(raw, field) for field in tracked.values()]
        found = [empty("field_changes")]
        for n, (name, values) in enumerate(zip(tracked, columns, strict=True)):
            differs = to_numpy(_differs(values).cast(pa.int8()), np.int8).copy()
            at_first = values.take(from_numpy(firsts)).to_pylist()
            differs[firsts] = [i not in known or known[i][n] != v for i, v in zip(ids, at_first, strict=True)]
            keep = from_numpy(differs).cast(pa.bool_())
            rows, said = raw.filter(keep), translated(values.filter(keep), mapped[name].values)
            texts = typed(said, kinds[name], is_share=name == "probability").cast(TEXT)
            found.append(_changes(rows, pa.repeat(scalar(name, TEXT), len(rows)), texts))
        lasts = from_numpy(np.append(firsts[1:], len(raw))[: len(firsts)] - 1)
        known.update(zip(ids, zip(*(c.take(lasts).to_pylist() for c in columns), strict=True), strict=False))
        return pa.concat_tables(found)

    def _field_changes(self, raw: pa.Table) -> pa.Table:
        """A changed lookup has two rows, one with names and one with ids; the ids are kept."""
        ours = {theirs: ours for ours, theirs in TRACKED.items()}
        names = translated(column(raw, "Field"), ours)
        value = column(raw, "NewValue")
        is_name = pc.and_(pc.equal(names, scalar("owner_id", TEXT)), pc.invert(pc.starts_with(value, "005")))
        keep = pc.and_(
            pc.is_in(column(raw, "Field"), value_set=array(list(ours), TEXT)),
            pc.invert(pc.fill_null(is_name, FALSE)),
        )
        return _changes(raw.filter(keep), names.filter(keep), value.filter(keep))


def _changes(raw: pa.Table, fields: pa.Array, values: pa.Array) -> pa.Table:
    ids = column(raw, "Id")
    return pa.table({
        "id": joined(ids, fields, by=":"),
        "opportunity_id": column(raw, "OpportunityId"),
        "field": fields,
        "value": values,
        "changed_at": typed(column(raw, "CreatedDate"), schema("field_changes").field("changed_at").type),
        "changed_by": column(raw, "CreatedById"),
        "seq": sequences(ids),
    })  # fmt: skip


def _differs(values: pa.Array) -> pa.Array:
    """Say of each value whether it is another than the one before it; the first one is."""
    if not len(values):
        return pa.nulls(0, pa.bool_())
    before, now = values.slice(0, len(values) - 1), values.slice(1)
    same = pc.fill_null(pc.equal(before, now), pc.and_(pc.is_null(before), pc.is_null(now)))
    return pa.concat_arrays([array([True], pa.bool_()), pc.invert(same)])


def _with(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)
