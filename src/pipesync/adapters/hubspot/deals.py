"""HubSpot's deals as opportunities, their property history as field changes, their contacts as contact roles.

One pass brings all three: a listing carries current values, history and associations together. Histories are long
(thirty entries a deal), so they are built column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingOf
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa

from pipesync.adapters.base import Reject
from pipesync.adapters.hubspot.api import Json
from pipesync.adapters.hubspot.portal import Label
from pipesync.adapters.hubspot.reading import Link, Wanted
from pipesync.adapters.hubspot.values import as_text, is_ours, moment, typed
from pipesync.mapping import FieldMapping, Mapping, segment
from pipesync.schema import schema, table

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
    """How this portal's deals are read; holds no record."""

    def __init__(
        self,
        mapping: Mapping,
        zone: str,
        labels: MappingOf[str, Label],
        endings: MappingOf[str, Literal["won", "lost"]],
        people: Callable[[], MappingOf[str, str]],
        currency: str | None,
    ) -> None:
        self._mapping, self._zone, self._currency = mapping, zone, currency
        self._labels, self._endings, self._people = labels, endings, people
        self._stream = mapping.streams[OPPORTUNITIES]

    # --- Current values ---------------------------------------------------------------------------------------

    def opportunities(self, records: Sequence[Json]) -> tuple[pa.Table, list[Reject]]:
        rejects: list[Reject] = []
        rows = [self._opportunity(r, rejects) for r in records]
        found = table(OPPORTUNITIES, rows) if rows else schema(OPPORTUNITIES).empty_table()
        return found.append_column("segment", segment(found, self._mapping.segments)), rejects

    def _opportunity(self, record: Json, rejects: list[Reject]) -> dict[str, Any]:
        told = record["properties"]
        row: dict[str, Any] = {}
        for name, field in self._stream.fields.items():
            if field.field not in told and name != "id":
                row[name] = None
                continue
            try:
                row[name] = typed(_ours(told.get(field.field), field), self._kind(name), self._zone)
            except (ValueError, OverflowError, ArithmeticError):
                row[name] = None
                rejects.append(Reject(f"deal {record['id']}", f"{field.field}: cannot be read as {name}"))
        row["id"] = str(record["id"])
        planned = self._stream.fields.get("next_activity_at")
        if row.get("next_activity_at") and planned and is_ours(told[planned.field]):
            row["next_activity_at"] = None
        ending = self._endings.get(row.get("stage") or "")
        if "modified_at" in row and (touched := _last_change(record)):
            row["modified_at"] = touched
        row["is_closed"], row["is_won"] = ending is not None, ending == "won"
        if ending is None:
            row["closed_at"] = None
        if "currency" in row:
            row["currency"] = row["currency"] or self._currency
        row["stage"] = self._label(row.get("stage"))
        row["custom"] = {name: told.get(prop) or None for name, prop in self._stream.custom.items()}
        return row

    def _kind(self, name: str) -> pa.DataType:
        return schema(OPPORTUNITIES).field(name).type

    def _label(self, stage: str | None) -> str | None:
        known = self._labels.get(stage or "")
        return known.name if known else stage or None

    def merged(self, records: Iterable[Json]) -> list[str]:
        """Return the ids that went up in these deals, which no archive lists."""
        found = []
        for record in records:
            absorbed = (record["properties"].get(_MERGED) or "").split(";")
            found += [i for i in absorbed if i and i != str(record["id"])]
        return found

    # --- History ----------------------------------------------------------------------------------------------

    def field_changes(self, records: Sequence[Json]) -> pa.Table:
        ids: list[str] = []
        of: list[str] = []
        fields: list[str] = []
        values: list[str | None] = []
        moments: list[str] = []
        people: list[str | None] = []
        order: list[int] = []
        owner_of = _Lazy(self._people)
        tracked = [
            (name, f, self._reader(name, f)) for name, f in self._stream.fields.items() if f.history == "full"
        ]
        for record in records:
            deal = str(record["id"])
            past = record.get("propertiesWithHistory") or {}
            for name, field, value_of in tracked:
                entries = past.get(field.field)
                if not entries:
                    continue
                before = None
                for i, entry in enumerate(reversed(entries)):
                    at = entry["timestamp"]
                    ids.append(f"{deal}:{name}:{at}:{i}" if at == before else f"{deal}:{name}:{at}")
                    of.append(deal)
                    fields.append(name)
                    values.append(value_of(entry.get("value")))
                    moments.append(at)
                    people.append(owner_of(entry))
                    order.append(i)
                    before = at
        return pa.table(
            {
                "id": pa.array(ids, pa.string()),
                "opportunity_id": pa.array(of, pa.string()),
                "field": pa.array(fields, pa.string()),
                "value": pa.array(values, pa.string()),
                "changed_at": _moments(moments),
                "changed_by": pa.array(people, pa.string()),
                "seq": pa.array(order, pa.int64()),
            }
        )

    def _reader(self, name: str, field: FieldMapping) -> Callable[[str | None], str | None]:
        if name == "stage":
            return self._label
        kind, zone = self._kind(name), self._zone

        @lru_cache(maxsize=65536)
        def value_of(text: str | None) -> str | None:
            try:
                return as_text(_ours(text, field), kind, zone)
            except (ValueError, OverflowError, ArithmeticError):
                return None

        return value_of

    # --- Contacts ---------------------------------------------------------------------------------------------

    @staticmethod
    def contact_roles(links: MappingOf[str, Sequence[Link]]) -> pa.Table:
        rows = [
            {"opportunity_id": deal, "contact_id": one.to, "role": one.label, "is_primary": one.is_primary}
            for deal, found in links.items()
            for one in {link.to: link for link in found}.values()
        ]
        return table("contact_roles", rows) if rows else schema("contact_roles").empty_table()


class _Lazy:
    """Who made a change, as an owner; the owners are read when the first person appears."""

    def __init__(self, people: Callable[[], MappingOf[str, str]]) -> None:
        self._people = people
        self._known: MappingOf[str, str] | None = None

    def __call__(self, entry: Json) -> str | None:
        user = entry.get("updatedByUserId")
        if user is None:
            source = str(entry.get("sourceId") or "")
            if not source.startswith("userId:"):
                return None
            user = source.removeprefix("userId:")
        if self._known is None:
            self._known = self._people()
        return self._known.get(str(user)) or f"user:{user}"


def _last_change(record: Json) -> datetime | None:
    """Return when a tracked property last changed. The record's own modification time also moves with our tasks."""
    past = (record.get("propertiesWithHistory") or {}).values()
    latest = max((entries[0]["timestamp"] for entries in past if entries), default=None)
    return moment(latest).replace(tzinfo=None) if latest else None


def _ours(text: str | None, field: FieldMapping) -> str | None:
    return field.values.get(text, text) if field.values and text is not None else text


def _moments(texts: Sequence[str]) -> pa.Array:
    """Read many ISO times at once; the odd one that Arrow cannot read is read alone."""
    try:
        zoned = pa.array(texts, pa.string()).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        return pa.array([moment(t).replace(tzinfo=None) for t in texts], pa.timestamp("us"))
    return zoned.cast(pa.timestamp("us"))
