"""How each stream is pulled: listed whole at first, then what a search finds changed, and now and then anew.

A cursor is a JSON object. While a listing runs it holds where it stands and when it began; afterwards the moment
up to which changes are known, and the records met in the overlap behind it, so that looking again at what the
lagging search index may have hidden costs no second reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pipesync.adapters.base import Cursor, Page
from pipesync.adapters.hubspot.api import Api, Json
from pipesync.adapters.hubspot.deals import OPPORTUNITIES, Deals, wanted
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.portal import Label, Portal
from pipesync.adapters.hubspot.reading import (
    SEARCH_PAGE,
    Wanted,
    batches,
    changed,
    inline_links,
    linked,
    listed,
    modified,
    read,
)
from pipesync.adapters.hubspot.values import moment
from pipesync.mapping import Mapping
from pipesync.schema import schema

_READING = 1
"""Of this code: a change in how records are read makes every cursor old."""
_TOGETHER = 2500
"""Records that are committed at once; a commit costs more than a request's worth of rows."""
_MANY = 0.2
"""Share of changed records above which listing all costs fewer requests than searching (HubSpot's limits)."""
_REMEMBERED = 5000
"""Records of the overlap that a cursor holds at most; beyond them the overlap is read again."""


@dataclass(frozen=True)
class State:
    """What a cursor says."""

    form: str
    """Fingerprint of what is read; where it changed, everything is read anew."""
    after: str | None = None
    """While listing: where the next page starts."""
    listing: bool = True
    since: int = 0
    """Changes are known up to here (ms); while listing, its beginning."""
    scanned: int = 0
    """When the last listing began."""
    count: int = 0
    met: dict[str, int] = field(default_factory=dict)
    """Modification time by id, of the records met within the overlap."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """Stages by id, those included that the portal has deleted since: history speaks of them."""
    people: dict[str, str] = field(default_factory=dict)

    def cursor(self) -> Cursor:
        return orjson.dumps(self).decode()


def state_of(cursor: Cursor | None, form: str) -> State | None:
    """Return what a cursor says; None where there is none, or it speaks of another way of reading."""
    if cursor is None:
        return None
    try:
        found = State(**orjson.loads(cursor))
    except (orjson.JSONDecodeError, TypeError):
        return None
    return found if found.form == form else None


def form_of(*parts: object) -> str:
    return hashlib.sha256(repr((_READING, *parts)).encode()).hexdigest()[:16]


def millis(value: datetime) -> int:
    return round(value.timestamp() * 1000)


def from_millis(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)


def must_list(state: State | None, until: datetime, options: Options) -> bool:
    """Tell whether to list everything: at first, after a broken listing, and when the last one is old."""
    if state is None or state.listing:
        return True
    return from_millis(state.scanned) + options.rescan <= until


@dataclass(frozen=True)
class Changes:
    """What a search brought, and the cursor's part of it."""

    records: list[Json]
    total: int
    met: dict[str, int]
    since: int


def look_for_changes(
    api: Api, kind: str, state: State, until: datetime, options: Options, properties: Sequence[str]
) -> Changes | None:
    """Search what changed since the last pull, less what was met then already.

    None where so much changed that a listing is cheaper.
    """
    overlap = int(options.overlap / timedelta(milliseconds=1))
    records: dict[str, Json] = {}
    met: dict[str, int] = {}
    total = 0
    for page in changed(api, kind, from_millis(max(0, state.since - overlap)), properties):
        total = max(total, page.total)
        if total > max(_MANY * state.count, 5 * SEARCH_PAGE):
            return None
        for record in page.records:
            at = modified(record)
            if state.met.get(record["id"]) != at:
                records[record["id"]] = record
            met[record["id"]] = at
    # The search's own bound: what it has shown may be ahead of `until`, what it hides may be behind it.
    since = millis(until)
    recent = {i: at for i, at in met.items() if at >= since - overlap}
    return Changes(list(records.values()), total, recent if len(recent) <= _REMEMBERED else {}, since)


class DealStreams:
    """Opportunities with their history and contacts, in one pass."""

    def __init__(self, api: Api, portal: Portal, mapping: Mapping, options: Options) -> None:
        self._api, self._portal, self._mapping, self._options = api, portal, mapping, options
        self._wanted = wanted(mapping, portal.deal_properties, roles="contact_roles" in mapping.streams)

    def pull(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        form = form_of(self._mapping.fingerprint(), self._wanted)
        state = state_of(cursor, form)
        labels = {i: Label(*pair) for i, pair in state.labels.items()} if state else {}
        now = self._portal.labels
        renamed = any(now[i].name != label.name for i, label in labels.items() if i in now)
        labels |= now
        kept = {i: [label.name, label.pipeline] for i, label in labels.items()}
        if state and not renamed and not must_list(state, until, self._options):
            pages = self._changes(replace(state, labels=kept), labels, until)
            if pages is not None:
                yield from pages
                return
        if state is None or not state.listing or renamed:
            state = State(form, since=millis(until), scanned=millis(until))
        yield from self._listing(replace(state, labels=kept, people=self._portal.people()), labels, until)

    def _deals(self, labels: dict[str, Label], people: Callable[[], dict[str, str]]) -> Deals:
        portal = self._portal
        return Deals(self._mapping, portal.zone, labels, portal.endings, people, portal.currency)

    def see(self, ids: Iterable[str], own: Sequence[str]) -> Iterator[tuple[dict[str, Any], Json]]:
        """Yield these deals as they are now, normalized, each with its record; `own` are further properties to read."""
        seen = replace(self._wanted, properties=(*self._wanted.properties, *own), history=(), associations=())
        records = read(self._api, seen, ids)
        rows, _ = self._deals(dict(self._portal.labels), dict).opportunities(records)
        by_id = {str(r["id"]): r for r in records}
        yield from ((row, by_id[row["id"]]) for row in rows.to_pylist())

    # --- Listing ----------------------------------------------------------------------------------------------

    def _listing(self, state: State, labels: dict[str, Label], until: datetime) -> Iterator[Page]:
        deals = self._deals(labels, lambda: state.people)
        first = state.after is None
        for records, after, requests in gathered(listed(self._api, self._wanted, after=state.after)):
            state = replace(state, after=after, count=state.count + len(records))
            links = {r["id"]: inline_links(r, "contacts") for r in records}
            yield from self._children(deals, records, links, replacing=first)
            rows, rejects = deals.opportunities(records)
            yield Page(
                OPPORTUNITIES, rows, state.cursor(), mode="replace" if first else "merge",
                deleted=tuple(deals.merged(records)), rejects=tuple(rejects), requests=requests,
            )  # fmt: skip
            first = False
        # Whatever changed while the listing ran is found by the next search: it begins at the listing's start.
        done = replace(state, listing=False, after=None)
        yield Page(OPPORTUNITIES, schema(OPPORTUNITIES).empty_table(), done.cursor(), last=True)

    def _children(
        self, deals: Deals, records: list[Json], links: dict[str, Any], *, replacing: bool
    ) -> Iterator[Page]:
        """Yield history and contacts before the deals themselves, whose cursor says that all are there."""
        mode: Any = "replace" if replacing else "merge"
        yield Page("field_changes", deals.field_changes(records), None, mode=mode)
        if self._wanted.associations:
            if not replacing:
                ids = tuple(str(r["id"]) for r in records)
                yield Page("contact_roles", schema("contact_roles").empty_table(), None, deleted=ids)
            yield Page("contact_roles", deals.contact_roles(links), None, mode=mode)

    # --- Changes ----------------------------------------------------------------------------------------------

    def _changes(self, state: State, labels: dict[str, Label], until: datetime) -> Iterator[Page] | None:
        found = look_for_changes(self._api, "deals", state, until, self._options, ())
        return self._changed_pages(found, state, labels, until) if found else None

    def _changed_pages(
        self, found: Any, state: State, labels: dict[str, Label], until: datetime
    ) -> Iterator[Page]:
        people = dict(state.people)

        def known() -> dict[str, str]:
            if not people:
                people.update(self._portal.people())
            return people

        deals = self._deals(labels, known)
        sent = self._api.requests
        for some in batches([r["id"] for r in found.records], _TOGETHER):
            records = read(self._api, self._wanted, some)
            links = linked(self._api, "deals", "contacts", some) if self._wanted.associations else {}
            yield from self._children(deals, records, links, replacing=False)
            rows, rejects = deals.opportunities(records)
            yield Page(
                OPPORTUNITIES, rows, state.cursor(), deleted=tuple(deals.merged(records)),
                rejects=tuple(rejects), requests=self._api.requests - sent,
            )  # fmt: skip
            sent = self._api.requests
        gone = self._archived(state)
        done = replace(state, since=found.since, met=found.met, people=people)
        empty = schema(OPPORTUNITIES).empty_table()
        requests = self._api.requests - sent
        yield Page(OPPORTUNITIES, empty, done.cursor(), deleted=gone, requests=requests + 1, last=True)

    def _archived(self, state: State) -> tuple[str, ...]:
        """Return deals archived since the last pull. Archiving modifies nothing and hides from every search."""
        overlap = int(self._options.overlap / timedelta(milliseconds=1))
        found: list[str] = []
        for page in listed(self._api, Wanted("deals", ("hs_object_id",)), archived=True):
            found += [
                str(r["id"])
                for r in page.records
                if not r.get("archivedAt") or millis(moment(r["archivedAt"])) >= state.since - overlap
            ]
        return tuple(found)


def gathered(pages: Iterator[Any]) -> Iterator[tuple[list[Json], str | None, int]]:
    """Put pages together up to what is committed at once: records, where the next starts, requests."""
    records: list[Json] = []
    after: str | None = None
    requests = 0
    for page in pages:
        records += page.records
        after, requests = page.after, requests + 1
        if len(records) >= _TOGETHER:
            yield records, after, requests
            records, requests = [], 0
    if requests:
        yield records, after, requests
