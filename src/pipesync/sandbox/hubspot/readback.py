"""The mapping with which pipesync reads a filled portal back, so that it tells what the dataset told and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from pipesync._paths import shipped
from pipesync.mapping import FieldMapping, load
from pipesync.model import ColumnState
from pipesync.sandbox.hubspot.records import Json
from pipesync.yamlsource import read

OWN_COLUMNS = {"product": "dataset_product"}
"""Columns that HubSpot has no property for; a portal would have one of its own."""
_LASTING = ("id", "created_at", "closed_at")


def site_mapping(states: Sequence[ColumnState], rows: Mapping[str, Sequence[Json]], own: Path | None) -> str:
    """Return a mapping.yaml: unmapped what the dataset does not have, its stages and segments from `own`."""
    shipped_mapping = load(shipped("adapters") / "hubspot" / "mapping.yaml")
    known = {(s.stream, s.column): s for s in states if s.state == "known"}
    streams: Json = {}
    for stream, told in shipped_mapping.streams.items():
        if not any(of == stream for of, _ in known):
            streams[stream] = None
            continue
        fields = {c: _said(c, f, known.get((stream, c))) for c, f in told.fields.items()}
        streams[stream] = {"fields": {c: said for c, said in fields.items() if said != told.fields[c]}}
    deals = streams["opportunities"]
    for column, name in OWN_COLUMNS.items():
        if state := known.get(("opportunities", column)):
            deals["fields"][column] = {"field": name, "history": state.history}
    deals["custom"] = {n: f"dataset_{n}" for r in rows["opportunities"] for n, _ in r.get("custom") or ()}
    if streams["quotas"]:
        streams["quotas"]["fields"] |= {"team": "dataset_team", "product": "dataset_product"}
    found: Json = {"version": 1, "extends": "pipesync:hubspot", "streams": streams}
    if own:
        said = read(own).data or {}
        found |= {n: said[n] for n in ("stages", "pipelines", "segments", "currency") if said.get(n)}
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


def _said(column: str, mapped: FieldMapping, state: ColumnState | None) -> Json | FieldMapping | None:
    """Return what the dataset's mapping says of a column: as shipped, without its history, or not at all."""
    if state is None:
        return None
    history = state.history if mapped.history or state.history == "full" else None
    if history == mapped.history or column in _LASTING:
        return mapped
    return {"field": mapped.field, "values": mapped.values, "history": history}
