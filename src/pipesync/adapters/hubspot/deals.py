"""HubSpot's deals as opportunities, their property history as field changes, their contacts as contact roles.

One pass brings all three: a listing carries current values, history and associations together. All are built column
by column; see `answers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from collections.abc import Mapping as MappingOf
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.adapters.base import Reject
from pipesync.adapters.hubspot.answers import field, past, pieces
from pipesync.adapters.hubspot.portal import Label
from pipesync.adapters.hubspot.reading import Link, Wanted
from pipesync.adapters.hubspot.values import column, is_ours, moments, past_texts
from pipesync.arrays import (
    FALSE,
    TEXT,
    TRUE,
    array,
    each,
    for_each,
    from_numpy,
    joined,
    one_piece,
    scalar,
    to_numpy,
)
from pipesync.mapping import FieldMapping, Mapping, segment
from pipesync.schema import empty, schema, table

if TYPE_CHECKING:
    import numpy.typing as npt

OPPORTUNITIES = "opportunities"
MERGED = "hs_merged_object_ids"
_CLOSED, _CLOSED_WON = "hs_is_closed", "hs_is_closed_won"
"""A deal's own word, as HubSpot derives it from the stage."""
_OPEN, _WON, _TRUE = scalar("open", TEXT), scalar("won", TEXT), scalar("true", TEXT)
_NOWHERE = scalar(None, pa.int32())
_NOBODY, _UNTOLD = scalar(0, pa.int64()), scalar(None, pa.int64())


def wanted(mapping: Mapping, readable: MappingOf[str, Any], *, roles: bool) -> Wanted:
    """Return what to read of a deal: mapped properties that this token may see, and the history of some."""
    stream = mapping.streams[OPPORTUNITIES]
    mapped = {n: f for n, f in stream.fields.items() if f.field in readable}
    names = dict.fromkeys([f.field for f in mapped.values()])
    names |= dict.fromkeys(p for p in stream.custom.values() if p in readable)
    names |= dict.fromkeys(p for p in (MERGED, _CLOSED, _CLOSED_WON, "hs_lastmodifieddate") if p in readable)
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
        people: Callable[[], MappingOf[str, str]],
        currency: str | None,
    ) -> None:
        self._mapping, self._zone, self._currency = mapping, zone, currency
        self._labels, self._former_label = labels, former_label
        self._people = people
        self._stream = mapping.streams[OPPORTUNITIES]

    # --- Current values ---------------------------------------------------------------------------------------

    def opportunities(self, records: pa.Table) -> tuple[pa.Table, list[Reject]]:
        """Return an answer's records as opportunities, and of each value that cannot be read where it stands."""
        found = [self._opportunities(piece) for piece in pieces(records)]
        rows = pa.concat_tables([rows for rows, _ in found]) if found else empty(OPPORTUNITIES)
        return rows, [reject for _, rejects in found for reject in rejects]

    def _opportunities(self, records: pa.Table) -> tuple[pa.Table, list[Reject]]:
        rejects: list[Reject] = []
        ids = one_piece(records["id"])
        texts = {"id": ids}
        for name, mapped in self._stream.fields.items():
            if name != "id":
                told = field(records, "properties", mapped.field)
                texts[name] = _ours(told, mapped)
        stages = texts.get("stage", pa.nulls(len(records), TEXT))
        columns: dict[str, pa.Array] = {}
        ending = each(stages, self._ending)
        # Of a stage that was deleted before we ever saw it, the deal itself still tells.
        closed = pc.equal(field(records, "properties", _CLOSED), _TRUE)
        won = pc.and_(closed, pc.equal(field(records, "properties", _CLOSED_WON), _TRUE))
        columns["is_closed"] = pc.coalesce(pc.not_equal(ending, _OPEN), closed, FALSE)
        columns["is_won"] = pc.coalesce(pc.equal(ending, _WON), won, FALSE)
        for name, told in self._settled(texts, columns["is_closed"], records).items():
            kind = schema(OPPORTUNITIES).field(name).type
            columns[name], unread = column(told, kind, self._zone)
            prop = self._stream.fields[name].field if name in self._stream.fields else name
            rejects += [Reject(f"deal {ids[n]}", f"{prop}: cannot be read as {name}") for n in unread]
        own = [field(records, "properties", p).to_pylist() for p in self._stream.custom.values()]
        pairs: list[list[tuple[str, str | None]]] = [
            [(n, text or None) for n, text in zip(self._stream.custom, row, strict=True)]
            for row in zip(*own, strict=True)
        ] or [[]] * len(records)
        columns["custom"] = array(pairs, schema(OPPORTUNITIES).field("custom").type)
        ordered = {n: columns[n] for n in schema(OPPORTUNITIES).names if n in columns}
        found = pa.table(ordered, schema=pa.schema([schema(OPPORTUNITIES).field(n) for n in ordered]))
        return found.append_column("segment", segment(found, self._mapping.segments)), rejects

    def _settled(
        self, texts: dict[str, pa.Array], is_closed: pa.Array, records: pa.Table
    ) -> dict[str, pa.Array]:
        """Return the texts with what HubSpot leaves to its readers: names of stages, closing times, our own tasks."""
        found = dict(texts)
        if "stage" in texts:
            found["stage"] = each(texts["stage"], self._label)
        if "currency" in texts and self._currency:
            blank = pc.equal(texts["currency"], scalar("", TEXT)).fill_null(TRUE)
            found["currency"] = pc.if_else(blank, scalar(self._currency, TEXT), texts["currency"])
        if "closed_at" in texts:
            found["closed_at"] = pc.if_else(is_closed, texts["closed_at"], scalar(None, TEXT))
        if "next_activity_at" in texts:
            found["next_activity_at"] = each(
                texts["next_activity_at"], lambda told: None if told and is_ours(told) else told
            )
        if "modified_at" in texts:
            found["modified_at"] = pc.coalesce(last_changes(records), texts["modified_at"])
        return found

    def _ending(self, stage: str) -> str | None:
        known = self._labels.get(stage)
        return known.ending if known else None

    def _label(self, stage: str | None) -> str | None:
        if not stage:
            return None
        if stage not in self._labels and (former := self._former_label(stage)):
            self._labels[stage] = former
        known = self._labels.get(stage)
        return known.name if known else stage

    @staticmethod
    def merged(records: pa.Table) -> list[str]:
        """Return the ids that went up in these deals, which no archive lists."""
        told = field(records, "properties", MERGED)
        if told.null_count == len(told):
            return []
        pairs = zip(told.to_pylist(), records["id"].to_pylist(), strict=True)
        return [i for text, own in pairs for i in absorbed(text, own)]

    # --- History ----------------------------------------------------------------------------------------------

    def field_changes(self, records: pa.Table) -> pa.Table:
        """Return every value that the tracked properties took, newest first within each."""
        parts = [
            self._changes_of(name, mapped, piece)
            for piece in pieces(records)
            for name, mapped in self._stream.fields.items()
            if mapped.history == "full"
        ]
        return pa.concat_tables(parts) if parts else empty("field_changes")

    def _changes_of(self, name: str, mapped: FieldMapping, records: pa.Table) -> pa.Table:
        ends, entries = past(records, mapped.field)
        lengths = np.diff(ends)
        deal = np.repeat(np.arange(len(lengths)), lengths)
        # An answer tells the newest first.
        older = np.repeat(ends[1:], lengths) - np.arange(ends[0] + 1, ends[-1] + 1, dtype=np.int64)
        entries = entries.slice(ends[0], len(deal))
        told = dict(zip((f.name for f in entries.type), entries.flatten(), strict=True))
        of = one_piece(records["id"]).take(from_numpy(deal))
        moment = moments(told["timestamp"])
        ids = joined(of, name, told["timestamp"], by=":")
        at = to_numpy(moment.view(pa.int64()), np.int64)
        at_once = deal[1:][(deal[1:] == deal[:-1]) & (at[1:] >= at[:-1])]
        if len(at_once):
            ids = _numbered(ids, deal, at_once)
        user = told["updatedByUserId"]
        signed = pc.coalesce(pc.if_else(pc.equal(user, _NOBODY), _UNTOLD, user).cast(TEXT), told["sourceId"])
        return pa.table(
            {
                "id": ids,
                "opportunity_id": of,
                "field": pa.repeat(scalar(name, TEXT), len(ids)),
                "value": for_each(told["value"], lambda values: self._past_values(name, mapped, values)),
                "changed_at": moment,
                "changed_by": each(signed, self._person),
                "seq": from_numpy(older),
            }
        )

    def _past_values(self, name: str, mapped: FieldMapping, values: pa.Array) -> pa.Array:
        """Return how history writes each of these values."""
        if name == "stage":
            return each(values, self._label)
        return past_texts(_ours(values, mapped), schema(OPPORTUNITIES).field(name).type, self._zone)

    def _person(self, told: str | None) -> str | None:
        """Return the owner behind a user's number or a `userId:` source."""
        user = (told or "").removeprefix("userId:")
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


def last_changes(records: pa.Table) -> pa.Array:
    """Return when a tracked property last changed. The record's own modification time also moves with our tasks."""
    found = pa.nulls(len(records), TEXT)
    for told in records.schema.field("propertiesWithHistory").type:
        ends, entries = past(records, told.name)
        some = from_numpy((ends[1:] > ends[:-1]).view(np.int8)).cast(pa.bool_())
        newest = pc.if_else(some, from_numpy(ends[:-1]), _NOWHERE)
        found = pc.max_element_wise(found, entries.field("timestamp").take(newest))
    return found


def absorbed(merged: str | None, own: str) -> list[str]:
    """Return the ids that went up in the deal `own`, from its property of them."""
    return [i for i in (merged or "").split(";") if i and i != own]


def _numbered(ids: pa.Array, deal: npt.NDArray[np.int64], at_once: npt.NDArray[np.int64]) -> pa.Array:
    """Return ids of changes, those apart that a deal had in one millisecond: by nothing but its own history.

    `deal` is the place of each change's deal, `at_once` those of deals that may have such.
    """
    theirs = np.isin(deal, at_once)
    some = from_numpy(theirs.view(np.int8)).cast(pa.bool_())
    met: Counter[tuple[int, str]] = Counter()
    found = []
    oldest_first = zip(deal[theirs][::-1].tolist(), ids.filter(some).to_pylist()[::-1], strict=True)
    for key in oldest_first:
        found.append(f"{key[1]}:{met[key]}" if key in met else key[1])
        met[key] += 1
    return pc.replace_with_mask(ids, some, array(found[::-1], TEXT))


def _ours(texts: pa.Array, mapped: FieldMapping) -> pa.Array:
    """Return texts in our words, where the mapping has words for them."""
    return each(texts, lambda text: mapped.values.get(text, text)) if mapped.values else texts
