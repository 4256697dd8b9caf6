"""What a dataset's sources say together, stream by stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Reject
from pipesync.adapters.files.dataset import Dataset, translated
from pipesync.adapters.files.parse import parse
from pipesync.adapters.files.stages import pipelines_of, stage_now, stages_of
from pipesync.mapping import PipelineMapping, segment
from pipesync.model import Pipeline
from pipesync.schema import empty, schema, table

Rows = tuple[pa.Table, tuple[Reject, ...]]


def build(dataset: Dataset, stream: str, until: datetime) -> Rows:
    """Return a stream's rows, in the order of its schema, and what was rejected on the way to them."""
    rows, rejects = _BUILT.get(stream, _plain)(dataset, stream, until)
    names = [n for n in schema(stream).names if n in rows.schema.names]
    return rows.select(names).cast(pa.schema([schema(stream).field(n) for n in names])), rejects


def sources_of(stream: str) -> tuple[str, ...]:
    """Return the sources whose content decides what a stream holds."""
    return _SOURCES.get(stream, (stream,))


_SOURCES = {
    "opportunities": ("opportunities", "stage_history"),
    "stages": ("opportunities", "stage_history"),
    "pipelines": ("opportunities", "stage_history"),
    "field_changes": ("opportunities", "stage_history", "field_history"),
    "activities": ("opportunities", "activities"),
    "contact_roles": ("opportunities", "contact_roles"),
    "line_items": ("opportunities", "line_items"),
}


def _plain(dataset: Dataset, stream: str, until: datetime) -> Rows:
    if stream not in dataset.files:
        return empty(stream), ()
    rows, rejects = dataset.load(stream)
    if "id" in schema(stream).names and "id" not in rows.schema.names:
        rows = rows.append_column("id", _numbered(stream, rows))
    return rows, rejects


def _numbered(prefix: str, rows: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(prefix, rows["row"].cast(pa.string()), ":").combine_chunks()


def _activities(dataset: Dataset, stream: str, until: datetime) -> Rows:
    """A blank `is_done` means that what lies before `until` took place; without the column all of it did."""
    rows, rejects = _plain(dataset, stream, until)
    if not len(rows):
        return rows, rejects
    past = pc.less_equal(rows["at"], pa.scalar(until.replace(tzinfo=None), pa.timestamp("us")))
    told = rows["is_done"] if "is_done" in rows.schema.names else pa.repeat(True, len(rows))
    return _put(rows, "is_done", pc.coalesce(told, past)), rejects


def _put(rows: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in rows.schema.names:
        return rows.set_column(rows.schema.names.index(name), name, column)
    return rows.append_column(name, column)


# --- Opportunities and stages -----------------------------------------------------------------------------------


def _opportunities(dataset: Dataset, stream: str, until: datetime) -> Rows:
    rows, rejects = dataset.load(stream)
    rows = _put(rows, "pipeline", pipelines_of(dataset, rows))
    rows = _put(rows, "stage", stage_now(dataset, rows))
    return _put(rows, "segment", segment(rows, dataset.mapping.segments)), rejects


def _stages(dataset: Dataset, stream: str, until: datetime) -> Rows:
    return table("stages", [s.model_dump(exclude={"connection"}) for s in stages_of(dataset)]), ()


def _pipelines(dataset: Dataset, stream: str, until: datetime) -> Rows:
    said = dataset.mapping.pipelines
    found = []
    for name in dict.fromkeys(s.pipeline for s in stages_of(dataset)):
        own = said.get(name, PipelineMapping())
        found.append(Pipeline(id=name, name=own.name or name, is_active=own.is_active))
    return table("pipelines", [p.model_dump(exclude={"connection"}) for p in found]), ()


# --- History ----------------------------------------------------------------------------------------------------


def _field_changes(dataset: Dataset, stream: str, until: datetime) -> Rows:
    opportunities = dataset.load("opportunities").rows
    visits, stage_rejects = dataset.load("stage_history")
    changes, field_rejects = _typed_changes(dataset)
    parts = []
    if len(visits):
        visits = visits.append_column("id", _numbered("stage", visits)).rename_columns({"stage": "value"})
        parts.append(visits.append_column("field", pa.repeat(pa.scalar("stage"), len(visits))))
    parts.append(_endings(dataset, opportunities))
    if len(changes):
        parts += [_first_values(changes, opportunities), changes]
    wanted = ("id", "opportunity_id", "field", "value", "changed_at", "changed_by", "row")
    rows = pa.concat_tables([_aligned(part, wanted) for part in parts])
    return rows.rename_columns([*wanted[:-1], "seq"]), (*stage_rejects, *field_rejects)


def _aligned(rows: pa.Table, wanted: Sequence[str]) -> pa.Table:
    kinds = {"changed_at": pa.timestamp("us"), "row": pa.int64()}
    columns = [
        rows[n].cast(kinds.get(n, pa.string()))
        if n in rows.schema.names
        else pa.nulls(len(rows), kinds.get(n, pa.string()))
        for n in wanted
    ]
    return pa.table(columns, names=list(wanted))


def _endings(dataset: Dataset, opportunities: pa.Table) -> pa.Table:
    """Enter the won or lost stage at the closing time, for outcomes that the stage history does not tell."""
    stage = stage_now(dataset, opportunities)
    rows = opportunities.append_column("value", stage)
    visits = dataset.load("stage_history").rows
    told = pa.repeat(pa.scalar(False), len(rows))
    if len(visits):
        pairs = pc.binary_join_element_wise(visits["opportunity_id"], visits["stage"], "\0").combine_chunks()
        own = pc.binary_join_element_wise(rows["id"].combine_chunks(), stage, "\0")
        told = pc.fill_null(pc.is_in(own, value_set=pairs), False)
    if "closed_at" not in rows.schema.names:
        rows = rows.append_column("closed_at", pa.nulls(len(rows), pa.timestamp("us")))
    rows = rows.filter(pc.and_(pc.and_(rows["is_closed"], rows["closed_at"].is_valid()), pc.invert(told)))
    return pa.table({
        "id": pc.binary_join_element_wise("outcome", rows["id"], ":"),
        "opportunity_id": rows["id"],
        "field": pa.repeat(pa.scalar("stage"), len(rows)),
        "value": rows["value"],
        "changed_at": rows["closed_at"],
        "row": pa.repeat(pa.scalar(_LAST), len(rows)),
    })  # fmt: skip


_LAST = 2**31
"""`seq` of an ending: after every visit of the same moment."""


def tracked_fields(dataset: Dataset) -> set[str]:
    """Return the fields whose past the dataset tells."""
    found = {"stage"} if "stage_history" in dataset.files else set()
    rows = dataset.load("field_history").rows
    return found | (set(_normal_names(dataset, rows).to_pylist()) if "field" in rows.schema.names else set())


def _normal_names(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """A history speaks of fields by the column's name as often as by ours."""
    ours = {f.field: name for name, f in dataset.mapping.streams["opportunities"].fields.items()}
    known = set(schema("opportunities").names)
    encoded = rows["field"].combine_chunks().dictionary_encode()
    names = [n if n in known else ours.get(n, n) for n in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def _typed_changes(dataset: Dataset) -> Rows:
    """Read each field's values as that field, so that history and present are written alike."""
    rows, rejects = dataset.load("field_history")
    if not len(rows):
        return rows, rejects
    rows = _put(rows, "field", _normal_names(dataset, rows))
    if dataset.files.get("stage_history"):
        rows = rows.filter(pc.not_equal(rows["field"], "stage"))
    kinds = {f.name: f.type for f in schema("opportunities")}
    mapped = dataset.mapping.streams["opportunities"].fields
    text = dataset.text("field_history")
    parts, refused = [], list(rejects)
    for name in sorted(pc.unique(rows["field"]).to_pylist()):
        part = rows.filter(pc.equal(rows["field"], name))
        good, reason = pa.repeat(True, len(part)), ""
        for column in ("old", "value"):
            if column not in part.schema.names:
                continue
            words = translated(part[column], mapped.get(name))
            one = parse(words, name, kinds.get(name, pa.string()), dataset.clock)
            good, reason = pc.and_(good, pc.invert(one.bad)), one.reason or reason
            part = _put(part, column, _as_text(one.values))
        refused += [
            Reject(text.where(i), reason, text.raw(i))
            for i in part.filter(pc.invert(good))["row"].to_pylist()
        ]
        parts.append(part.filter(good))
    found = pa.concat_tables(parts) if parts else rows
    return found.append_column("id", _numbered("field", found)), tuple(refused)


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type):
        return pc.strftime(values, "%Y-%m-%dT%H:%M:%SZ")
    return values.cast(pa.string())


def _first_values(changes: pa.Table, opportunities: pa.Table) -> pa.Table:
    """Give every changed field the value that it had at creation: the `old` of its first change."""
    if "old" not in changes.schema.names:
        return changes.slice(0, 0)
    ordered = changes.sort_by([("changed_at", "ascending"), ("row", "ascending")])
    ordered = _put(ordered, "row", pa.array(np.arange(len(ordered))))
    grouped = ordered.group_by(["opportunity_id", "field"], use_threads=False)
    rows = ordered.take(grouped.aggregate([("row", "min")])["row_min"])
    at = pc.index_in(rows["opportunity_id"].combine_chunks(), value_set=opportunities["id"].combine_chunks())
    created = opportunities["created_at"].combine_chunks().take(at)
    found = pa.table({
        "id": pc.binary_join_element_wise("created", rows["opportunity_id"], rows["field"], ":"),
        "opportunity_id": rows["opportunity_id"],
        "field": rows["field"],
        "value": rows["old"],
        "changed_at": created,
        "row": pa.repeat(pa.scalar(-1, pa.int64()), len(rows)),
    })  # fmt: skip
    return found.filter(created.is_valid())


_BUILT: dict[str, Callable[[Dataset, str, datetime], Rows]] = {
    "opportunities": _opportunities,
    "stages": _stages,
    "pipelines": _pipelines,
    "field_changes": _field_changes,
    "activities": _activities,
}
