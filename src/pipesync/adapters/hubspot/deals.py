"""HubSpot's deals as opportunities, their property history as field changes, their contacts as contact roles.

One pass brings all three: a listing carries current values, history and associations together. Histories are long
(thirty entries a deal), so they are built column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from collections.abc import Mapping as MappingOf
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Reject
from pipesync.adapters.hubspot.api import Json
from pipesync.adapters.hubspot.portal import Label
from pipesync.adapters.hubspot.reading import Link, Wanted
from pipesync.adapters.hubspot.values import as_text, column, is_ours, moments
from pipesync.arrays import TEXT, array, from_numpy, joined, scalar
from pipesync.mapping import FieldMapping, Mapping, segment
from pipesync.schema import empty, schema, table

OPPORTUNITIES = "opportunities"
_MERGED = "hs_merged_object_ids"


def wanted(mapping: Mapping, readable: MappingOf[str, Any], *, roles: bool) -> Wanted:
    """Return what to read of a deal: mapped properties that this token may see, and the history of some."""
    stream = mapping.streams[OPPORTUNITIES]
    mapped = {n: f for n, f in stream.fields.items() if f.field in readable}
    names = dict.fromkeys([f.field for f in mapped.values()])
    names |= dict.fromkeys(p for p in stream.custom.values() if p in readable)
    names |= dict.fromkeys(p for p in (_MERGED, "hs_lastmodifieddate") if p in readable)
    past = dict.fromkeys(f.field for f in mapped.values() if f.history == "full")
    return Wanted("deals", tuple(names), tuple(past), ("contacts",) if roles else ())


class Deals:
    """How this portal's deals are read; holds no record. `labels` takes what `former_label` still knew."""

    def __init__(
        self,
        mapping: Mapping,
        zone: str,
        labels: MutableMapping[str, Label],
        former_label: Callable[[str], Label | None],
        endings: MappingOf[str, Literal["won", "lost"]],
        people: Callable[[], MappingOf[str, str]],
        currency: str | None,
    ) -> None:
        self._mapping, self._zone, self._currency = mapping, zone, currency
        self._labels, self._former_label = labels, former_label
        self._endings, self._people = endings, people
        self._stream = mapping.streams[OPPORTUNITIES]
        self._person_of = _Memo(self._person)

    # --- Current values ---------------------------------------------------------------------------------------

    def opportunities(self, records: Sequence[Json]) -> tuple[pa.Table, list[Reject]]:
        if not records:
            return empty(OPPORTUNITIES), []
        rejects: list[Reject] = []
        properties = [r["properties"] for r in records]
        texts: dict[str, list[str | None]] = {"id": [str(r["id"]) for r in records]}
        for name, field in self._stream.fields.items():
            if name != "id":
                of = [told.get(field.field) for told in properties]
                texts[name] = [_ours(text, field) for text in of] if field.values else of
        endings = [self._endings.get(stage or "") for stage in texts.get("stage", [None] * len(records))]
        columns: dict[str, pa.Array] = {}
        for name, told in self._settled(texts, endings, records).items():
            kind = schema(OPPORTUNITIES).field(name).type
            columns[name], unread = column(told, kind, self._zone)
            prop = self._stream.fields[name].field if name in self._stream.fields else name
            rejects += [Reject(f"deal {texts['id'][n]}", f"{prop}: cannot be read as {name}") for n in unread]
        columns["is_closed"] = array([e is not None for e in endings], pa.bool_())
        columns["is_won"] = array([e == "won" for e in endings], pa.bool_())
        custom = [[(n, told.get(p) or None) for n, p in self._stream.custom.items()] for told in properties]
        columns["custom"] = array(custom, schema(OPPORTUNITIES).field("custom").type)
        ordered = {n: columns[n] for n in schema(OPPORTUNITIES).names if n in columns}
        found = pa.table(ordered, schema=pa.schema([schema(OPPORTUNITIES).field(n) for n in ordered]))
        return found.append_column("segment", segment(found, self._mapping.segments)), rejects

    def _settled(
        self, texts: dict[str, list[str | None]], endings: Sequence[str | None], records: Sequence[Json]
    ) -> dict[str, list[str | None]]:
        """Return the texts with what HubSpot leaves to its readers: names of stages, closing times, our own tasks."""
        found = dict(texts)
        if "stage" in texts:
            found["stage"] = [self._label(stage) for stage in texts["stage"]]
        if "currency" in texts:
            found["currency"] = [told or self._currency for told in texts["currency"]]
        if "closed_at" in texts:
            found["closed_at"] = [
                told if ending else None for told, ending in zip(texts["closed_at"], endings, strict=True)
            ]
        if "next_activity_at" in texts:
            found["next_activity_at"] = [
                None if told and is_ours(told) else told for told in texts["next_activity_at"]
            ]
        if "modified_at" in texts:
            found["modified_at"] = [
                _last_change(record) or told
                for told, record in zip(texts["modified_at"], records, strict=True)
            ]
        return found

    def _label(self, stage: str | None) -> str | None:
        if not stage:
            return None
        if stage not in self._labels and (former := self._former_label(stage)):
            self._labels[stage] = former
        known = self._labels.get(stage)
        return known.name if known else stage

    def merged(self, records: Iterable[Json]) -> list[str]:
        """Return the ids that went up in these deals, which no archive lists."""
        found = []
        for record in records:
            if absorbed := record["properties"].get(_MERGED):
                found += [i for i in absorbed.split(";") if i and i != str(record["id"])]
        return found

    # --- History ----------------------------------------------------------------------------------------------

    def field_changes(self, records: Sequence[Json]) -> pa.Table:
        """Return every value that the tracked properties took, oldest first within each."""
        parts = [
            self._changes_of(name, field, records)
            for name, field in self._stream.fields.items()
            if field.history == "full"
        ]
        return pa.concat_tables(parts) if parts else empty("field_changes")

    def _changes_of(self, name: str, field: FieldMapping, records: Sequence[Json]) -> pa.Table:
        pasts = [(r.get("propertiesWithHistory") or {}).get(field.field) or () for r in records]
        entries: list[Json] = [entry for past in pasts for entry in reversed(past)]
        lengths = np.fromiter(map(len, pasts), np.int64, len(pasts))
        deal = np.repeat(np.arange(len(pasts)), lengths)
        places = from_numpy(np.arange(len(entries)) - np.repeat(np.cumsum(lengths) - lengths, lengths))
        of = array([r["id"] for r in records], TEXT).take(from_numpy(deal))
        values, person_of = [e["value"] for e in entries], self._person_of
        value_of = self._values_of(name, field, values)
        times = array([e["timestamp"] for e in entries], TEXT)
        ids = joined(of, name, times, by=":")
        if pc.count_distinct(ids).as_py() < len(ids):  # two changes in one millisecond
            ids = joined(ids, places.cast(TEXT), by=":")
        return pa.table(
            {
                "id": ids,
                "opportunity_id": of,
                "field": pa.repeat(scalar(name, TEXT), len(ids)),
                "value": array([value_of[v] for v in values], TEXT),
                "changed_at": moments(times),
                "changed_by": array(
                    [person_of[e.get("updatedByUserId") or e.get("sourceId")] for e in entries], TEXT
                ),
                "seq": places,
            }
        )

    def _values_of(
        self, name: str, field: FieldMapping, values: Sequence[str | None]
    ) -> MappingOf[str | None, str | None]:
        """Return how history writes each of these values. Sums of money are many, and Arrow reads them at once."""
        kind = schema(OPPORTUNITIES).field(name).type
        if pa.types.is_decimal(kind):
            distinct = list(dict.fromkeys(values))
            given = array([_ours(v, field) or None for v in distinct], TEXT)
            try:
                return dict(zip(distinct, given.cast(kind).cast(TEXT).to_pylist(), strict=True))
            except pa.ArrowInvalid:
                pass
        return _Memo(self._reader(name, field))

    def _reader(self, name: str, field: FieldMapping) -> Callable[[str | None], str | None]:
        kind = schema(OPPORTUNITIES).field(name).type

        def value_of(text: str | None) -> str | None:
            try:
                return as_text(_ours(text, field), kind, self._zone)
            except (ValueError, OverflowError, ArithmeticError):
                return None

        return self._label if name == "stage" else value_of

    def _person(self, told: object) -> str | None:
        """Return the owner behind a user's number or a `userId:` source."""
        user = str(told or "").removeprefix("userId:")
        if not user.isdigit():
            return None
        return self._people().get(user) or f"user:{user}"

    # --- Contacts ---------------------------------------------------------------------------------------------

    @staticmethod
    def contact_roles(links: MappingOf[str, Sequence[Link]]) -> pa.Table:
        rows = [
            {"opportunity_id": deal, "contact_id": one.to, "role": one.label, "is_primary": one.is_primary}
            for deal, found in links.items()
            for one in {link.to: link for link in found}.values()
        ]
        return table("contact_roles", rows) if rows else empty("contact_roles")


class _Memo(dict[Any, Any]):
    """A function's results by its argument: histories repeat few values many times."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: Any) -> Any:
        found = self[key] = self._function(key)
        return found


def _last_change(record: Json) -> str | None:
    """Return when a tracked property last changed. The record's own modification time also moves with our tasks."""
    past = (record.get("propertiesWithHistory") or {}).values()
    latest: str | None = max((entries[0]["timestamp"] for entries in past if entries), default=None)
    return latest


def _ours(text: str | None, field: FieldMapping) -> str | None:
    return field.values.get(text, text) if field.values and text is not None else text
