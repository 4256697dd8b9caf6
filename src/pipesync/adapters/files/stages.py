"""Stages of a dataset: which there are, in what order, and where each opportunity stands.

The history says what the mapping does not: a pipeline's stages come in the order in which opportunities enter them,
and an outcome without a stage of its own is one.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.files.dataset import Dataset
from pipesync.mapping import LOST, WON, arrange, closing_phase
from pipesync.model import Stage

End = Literal["won", "lost"]


def pipelines_of(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """Return the pipeline of each row of opportunities."""
    default = dataset.mapping.default_pipeline
    if "pipeline" not in rows.schema.names:
        return pa.repeat(pa.scalar(default), len(rows))
    return pc.fill_null(rows["pipeline"], default).combine_chunks()


def stage_now(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """Return the latest stage in the history (or the file's own column), except that an outcome ends it."""
    current = pa.nulls(len(rows), pa.string())
    if "stage" in rows.schema.names:
        current = rows["stage"].combine_chunks()
    visits = dataset.load("stage_history").rows
    if len(visits):
        ordered = visits.sort_by([("changed_at", "ascending")])
        last = ordered.group_by("opportunity_id", use_threads=False).aggregate([("stage", "last")])
        at = pc.index_in(rows["id"].combine_chunks(), value_set=last["opportunity_id"].combine_chunks())
        current = pc.coalesce(last["stage_last"].combine_chunks().take(at), current)
    pipelines, closed, won = (
        pipelines_of(dataset, rows), rows["is_closed"].combine_chunks(), rows["is_won"].combine_chunks(),
    )  # fmt: skip
    for pipeline in pc.unique(pipelines).to_pylist():
        names = _ends(dataset, pipeline)
        for end, ended in (("won", won), ("lost", pc.and_(closed, pc.invert(won)))):
            own = [n for n, e in names.items() if e == end]
            told = pc.fill_null(pc.is_in(current, value_set=pa.array(own, pa.string())), False)
            missing = pc.and_(pc.and_(ended, pc.equal(pipelines, pipeline)), pc.invert(told))
            current = pc.if_else(missing, own[0], current)
    return current


def stages_of(dataset: Dataset) -> list[Stage]:
    """Return every pipeline's stages: the mapping's in its order, then those that only the data shows in theirs."""
    rows = dataset.load("opportunities").rows
    pipelines, current = pipelines_of(dataset, rows), stage_now(dataset, rows)
    visits = dataset.load("stage_history").rows
    at = pa.array([], pa.int32())
    if len(visits):
        at = pc.index_in(visits["opportunity_id"].combine_chunks(), value_set=rows["id"].combine_chunks())
    visited = pipelines.take(at)
    mapped = dataset.mapping.pipelines
    found = []
    for pipeline in [*mapped, *sorted(n for n in pc.unique(pipelines).to_pylist() if n not in mapped)]:
        ends = _ends(dataset, pipeline)
        held = pc.unique(current.filter(pc.equal(pipelines, pipeline))).to_pylist()
        names = dict.fromkeys(dataset.mapping.stages_of(pipeline))
        if len(visits):
            names |= dict.fromkeys(entry_order(visits.filter(pc.equal(visited, pipeline))))
        names |= dict.fromkeys(sorted(n for n in held if n is not None))
        for end in ("won", "lost"):
            if not any(ends.get(n) == end for n in names):
                names |= dict.fromkeys(n for n in ends if ends[n] == end)
        found += arrange(dataset.mapping, pipeline, list(names), closed=ends)
    return found


def _ends(dataset: Dataset, pipeline: str) -> dict[str, End]:
    """Return a pipeline's won and lost stages; the first of each is what an outcome alone is called."""
    said = dataset.mapping.stages_of(pipeline)
    found: dict[str, End] = {}
    for name, stage in said.items():
        phase = stage.phase or closing_phase(name)
        if phase == "won" or phase == "lost":
            found[name] = phase
    for source in ("stage_history", "opportunities"):
        rows = dataset.load(source).rows
        for name in pc.unique(rows["stage"]).to_pylist() if "stage" in rows.schema.names else ():
            if name and name not in said and (end := closing_phase(name)):
                found.setdefault(name, end)
    usual: dict[str, End] = {WON: "won", LOST: "lost"}
    return found | {name: end for name, end in usual.items() if end not in found.values()}


def entry_order(visits: pa.Table) -> list[str]:
    """Order stages by the mean position at which opportunities first entered them; equal ones by name."""
    if not len(visits):
        return []
    grouped = visits.group_by(["opportunity_id", "stage"], use_threads=False)
    first = grouped.aggregate([("changed_at", "min")]).to_pandas()
    first["position"] = first.groupby("opportunity_id")["changed_at_min"].rank(method="average")
    mean = first.groupby("stage")["position"].mean().round(9)
    return [str(name) for name, _ in sorted(mean.items(), key=lambda pair: (pair[1], str(pair[0])))]
