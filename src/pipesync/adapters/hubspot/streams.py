"""How each stream is pulled: listed whole at first, then what a search finds changed, and now and then anew.

A cursor is a JSON object. While a listing runs it holds where it stands and when it began; afterwards the moment
up to which changes are known, and the records met in the overlap behind it, so that looking again at what the
lagging search index may have hidden costs no second reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from pipesync.adapters.base import Cursor, Page, Span
from pipesync.adapters.hubspot import answers
from pipesync.adapters.hubspot.api import Api, Json
from pipesync.adapters.hubspot.deals import MERGED, OPPORTUNITIES, Deals, absorbed, wanted
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.portal import Label, Portal
from pipesync.adapters.hubspot.reading import (
    SEARCH_PAGE,
    Link,
    Listed,
    Searched,
    Wanted,
    changed,
    linked,
    listed,
    modified,
    read,
)
from pipesync.adapters.hubspot.values import moment
from pipesync.errors import CrmError, PermissionMissing
from pipesync.mapping import Mapping
from pipesync.schema import empty

_READING = 2
"""Of this code: a change in how records are read makes every cursor old."""
_TOGETHER = 5000
"""Records that are committed at once. With usual histories that fills a row group of DuckDB's (122,880 rows), which is
written as it is; less goes through the log first."""
_MANY = 0.2
"""Share of changed records above which listing all costs fewer requests than searching (HubSpot's limits)."""
_CHANGED_TOGETHER = 1000
"""Likewise of what a search finds, where each record costs more requests than in a listing."""
_REMEMBERED = 20_000
"""Records of the overlap that a cursor holds at most; beyond them the overlap is read again."""
_REMEMBERED_ARCHIVED = 20_000
"""Likewise of archived deals; beyond them a restored one that nobody changes is found by the next listing."""
_NO_ROLES = "the deals' contacts were out of this token's reach when the deals were last listed"
_ROLES_FIX = "add the scope crm.objects.contacts.read to the key, then `pipesync pull --full`"


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
    reached: int = 0
    """Up to where a search got that was stopped; 0 after one that ended."""
    began: int = 0
    """When that search began."""
    scanned: int = 0
    """When the last listing began."""
    count: int = 0
    met: dict[str, int] = field(default_factory=dict)
    """Modification time by id, of the records met within the overlap."""
    labels: dict[str, list[Any]] = field(default_factory=dict)  # Any: the fields of a Label
    """Stages by id, those included that the portal has deleted since: history speaks of them, deals stay in them."""
    people: dict[str, str] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    """Deals that were in the archive; one that has left it was restored, which no search need show."""
    swept: int = 0
    """When the archive of an object beside the deals was last looked through."""
    roles: bool = True
    """Whether this token may read who is associated with a deal."""

    def cursor(self) -> Cursor:
        return orjson.dumps(self).decode()


def state_of(cursor: Cursor | None, form: str) -> State | None:
    """Return what a cursor says; None where there is none, or it speaks of another way of reading."""
    found = _parsed(cursor)
    return found if found and found.form == form else None


def _parsed(cursor: Cursor | None) -> State | None:
    try:
        return State(**orjson.loads(cursor)) if cursor else None
    except (orjson.JSONDecodeError, TypeError):
        return None


def remains(cursor: Cursor) -> Cursor | None:
    """Return a cursor of deals that has them listed anew and knows the stages that the portal has deleted."""
    found = _parsed(cursor)
    return State(form="", labels=found.labels).cursor() if found else None


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
    """Some of what a search brought, in the order in which it was modified, and the state once it is committed."""

    records: list[Json]
    state: State
    last: bool


def look_for_changes(
    api: Api,
    kind: str,
    state: State,
    until: datetime,
    options: Options,
    ours: int = 0,
    properties: Sequence[str] = (),
) -> Iterator[Changes] | None:
    """Search what changed since the last pull, less what was met then already; at least one, maybe empty.

    Each can be committed by itself, so that a pull that is stopped over and over still gets on. None where so much
    changed, `ours` left out, that a listing is cheaper.
    """
    overlap = int(options.overlap / timedelta(milliseconds=1))
    if not state.reached:
        state = replace(state, began=millis(until))
    pages = changed(api, kind, from_millis(state.reached or max(0, state.since - overlap)), properties)
    first = next(pages)
    if first.total - ours > max(_MANY * state.count, 5 * SEARCH_PAGE):
        return None
    return _in_parts(chain([first], pages), state, overlap)


def _in_parts(pages: Iterable[Searched], state: State, overlap: int) -> Iterator[Changes]:
    records: dict[str, Json] = {}
    met = dict(state.met)
    reached = state.reached
    for page in pages:
        for record in page.records:
            i, at = record["id"], modified(record)
            if met.get(i) != at:
                records[i] = record
            met[i], reached = at, max(reached, at)
        if len(records) >= _CHANGED_TOGETHER:
            part = replace(state, reached=reached, met=_recent(met, state.since - overlap))
            yield Changes(list(records.values()), part, last=False)
            records = {}
    # Known up to where the search began, in an earlier run maybe: what the index hid then, the next one looks for.
    done = replace(state, since=state.began, began=0, reached=0, met=_recent(met, state.began - overlap))
    yield Changes(list(records.values()), done, last=True)


def _recent(met: dict[str, int], since: int) -> dict[str, int]:
    found = {i: at for i, at in met.items() if at >= since}
    return found if len(found) <= _REMEMBERED else {}


@dataclass(frozen=True)
class Ours:
    """What pipesync wrote since the last pull, and how the mirror holds it; see `adapters.base.Recognising`."""

    written: MappingOf[str, Span] = field(default_factory=dict)
    held: Callable[[Collection[str]], Sequence[MappingOf[str, Any]]] = lambda ids: ()  # Any: columns' values


class DealStreams:
    """Opportunities with their history and contacts, in one pass."""

    def __init__(self, api: Api, portal: Portal, mapping: Mapping, options: Options) -> None:
        self._api, self._portal, self._mapping, self._options = api, portal, mapping, options
        self._wanted = wanted(mapping, portal.deal_properties, roles="contact_roles" in mapping.streams)
        self._labels: dict[str, Label] = {}
        self.roles_refused: PermissionMissing | None = None
        """Why the deals came without their contacts."""
        self.ours = Ours()

    def pull(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        form = form_of(self._mapping.fingerprint(), self._wanted)
        before, state = _parsed(cursor), state_of(cursor, form)
        labels = {i: Label(*told) for i, told in before.labels.items()} if before else {}
        now = self._portal.labels
        renamed = any(now[i].name != label.name for i, label in labels.items() if i in now)
        self._labels = labels | now
        if state and not renamed and not must_list(state, until, self._options):
            if not state.roles:
                self._do_without_roles(PermissionMissing(_NO_ROLES, fix=_ROLES_FIX))
            pages = self._changes(state, until)
            if pages is not None:
                yield from pages
                return
        if state is None or not state.listing or renamed:
            archived = before.archived if before else []
            state = State(form, since=millis(until), scanned=millis(until), archived=archived)
        yield from self._listing(replace(state, people=self._portal.people()), until)

    def _deals(self, people: Callable[[], dict[str, str]]) -> Deals:
        portal = self._portal
        return Deals(
            self._mapping, portal.zone, self._labels, portal.former_label, people, portal.currency
        )  # fmt: skip

    def _cursor(self, state: State) -> Cursor:
        kept = {i: list(label) for i, label in self._labels.items()}
        return replace(state, labels=kept, roles=self.roles_refused is None).cursor()

    def see(self, ids: Iterable[str], own: Sequence[str]) -> Iterator[tuple[dict[str, Any], Json]]:
        """Yield these deals as they are now, normalized, each with its record; `own` are further properties to read."""
        seen = replace(self._wanted, properties=(*self._wanted.properties, *own), history=(), associations=())
        records = read(self._api, seen, ids)
        self._labels = dict(self._portal.labels)
        rows, _ = self._deals(dict).opportunities(answers.records_of(records, seen))
        by_id = {str(r["id"]): r for r in records}
        yield from ((row, by_id[row["id"]]) for row in rows.to_pylist())

    # --- Listing ----------------------------------------------------------------------------------------------

    def _listing(self, state: State, until: datetime) -> Iterator[Page]:
        deals = self._deals(lambda: state.people)
        first = state.after is None
        for parts, after, requests in gathered(self._listed(state.after)):
            records = answers.completed(self._api, self._wanted, answers.together(parts))
            state = replace(state, after=after, count=state.count + len(records))
            links = answers.all_links(self._api, "deals", records, "contacts")
            yield from self._children(deals, records, links, replacing=first)
            rows, rejects = deals.opportunities(records)
            yield Page(
                OPPORTUNITIES, rows, self._cursor(state), mode="replace" if first else "merge",
                deleted=tuple(deals.merged(records)), rejects=tuple(rejects), requests=requests,
            )  # fmt: skip
            first = False
        # What was changed or archived while the listing ran is found by the next pull, which begins at its start.
        done = self._cursor(replace(state, listing=False, after=None))
        yield Page(OPPORTUNITIES, empty(OPPORTUNITIES), done, last=True)

    def _listed(self, after: str | None) -> Iterator[answers.Answer]:
        """List, and without the contacts where only they are out of this token's reach."""
        pages = answers.listed(self._api, self._wanted, after=after)
        try:
            first = next(pages)
        except PermissionMissing as refused:
            if not self._wanted.associations:
                raise
            self._do_without_roles(refused)
            pages = answers.listed(self._api, self._wanted, after=after)
            first = next(pages)
        yield first
        yield from pages

    def _do_without_roles(self, refused: PermissionMissing) -> None:
        self.roles_refused = refused
        self._wanted = replace(self._wanted, associations=())

    def _children(
        self, deals: Deals, records: pa.Table, links: MappingOf[str, Sequence[Link]], *, replacing: bool
    ) -> Iterator[Page]:
        """Yield history and contacts before the deals themselves, whose cursor says that all are there."""
        mode: Any = "replace" if replacing else "merge"
        yield Page("field_changes", deals.field_changes(records), None, mode=mode)
        if self._wanted.associations:
            if not replacing:
                ids = tuple(records["id"].to_pylist())
                yield Page("contact_roles", empty("contact_roles"), None, deleted=ids)
            yield Page("contact_roles", deals.contact_roles(links), None, mode=mode)

    # --- Changes ----------------------------------------------------------------------------------------------

    def _changes(self, state: State, until: datetime) -> Iterator[Page] | None:
        sent = self._api.requests
        ours = len(self.ours.written)
        shown = self._wanted.properties if ours else ()
        found = look_for_changes(self._api, "deals", state, until, self._options, ours, shown)
        return self._changed_pages(found, state, sent) if found else None

    def _changed_pages(self, found: Iterator[Changes], state: State, sent: int) -> Iterator[Page]:
        people = dict(state.people)

        def known() -> dict[str, str]:
            if not people:
                people.update(self._portal.people())
            return people

        deals = self._deals(known)
        gone, archived = self._archived(state)
        restored = sorted(set(state.archived) - set(archived))
        for some in found:
            as_held = self._as_held(deals, some.records)
            ids = [r["id"] for r in some.records if r["id"] not in as_held]
            ids += restored if some.last else ()
            records = answers.read(self._api, self._wanted, ids)
            if ids:
                yield from self._children(deals, records, self._linked(ids), replacing=False)
            rows, rejects = deals.opportunities(records)
            state = replace(some.state, people=people)
            deleted = tuple(deals.merged(records))
            if some.last:
                state, deleted = replace(state, archived=archived), (*deleted, *gone)
            yield Page(
                OPPORTUNITIES, rows, self._cursor(state), deleted=deleted,
                rejects=tuple(rejects), requests=self._api.requests - sent, last=some.last,
            )  # fmt: skip
            sent = self._api.requests

    def _as_held(self, deals: Deals, records: Sequence[Json]) -> frozenset[str]:
        """Return the deals that only our own write has modified: HubSpot's search tells when, and not by whom.

        They were modified while we wrote to them, and every mapped property is as it is mirrored.
        """
        spans = self.ours.written
        some = [
            r
            for r in records
            if r["id"] in spans and spans[r["id"]][0] <= from_millis(modified(r)) <= spans[r["id"]][1]
            if not absorbed(r["properties"].get(MERGED), r["id"])  # maybe just now
        ]
        if not some:
            return frozenset()
        shown = replace(self._wanted, history=(), associations=())
        rows, _ = deals.opportunities(answers.records_of(some, shown))
        held = {row["id"]: row for row in self.ours.held([r["id"] for r in some])}
        return frozenset(
            row["id"]
            for row in rows.to_pylist()
            if (before := held.get(row["id"]))
            and all(before[name] == value for name, value in row.items() if name != "modified_at")
        )

    def _linked(self, ids: Sequence[str]) -> dict[str, list[Link]]:
        if not self._wanted.associations:
            return {}
        try:
            return linked(self._api, "deals", "contacts", ids)
        except PermissionMissing as refused:
            self._do_without_roles(refused)
            return {}

    def _archived(self, state: State) -> tuple[tuple[str, ...], list[str]]:
        gone, there = archived_since(self._api, "deals", state.since, self._options)
        return gone, there if len(there) <= _REMEMBERED_ARCHIVED else []


def archived_since(api: Api, kind: str, since: int, options: Options) -> tuple[tuple[str, ...], list[str]]:
    """Return the ids archived since (ms, less the overlap), and all that the archive holds.

    Archiving modifies nothing and hides from every search, so the archive is looked through as a whole.
    """
    since -= int(options.overlap / timedelta(milliseconds=1))
    gone, there = [], []
    for page in listed(api, Wanted(kind, ("hs_object_id",)), archived=True):
        for record in page.records:
            there.append(str(record["id"]))
            if not record.get("archivedAt") or millis(moment(record["archivedAt"])) >= since:
                gone.append(str(record["id"]))
    return tuple(gone), there


def gathered(
    pages: Iterator[Listed] | Iterator[answers.Answer],
) -> Iterator[tuple[list[Any], str | None, int]]:  # Any: what a page holds its records in
    """Put pages together up to what is committed at once: their records, where the next starts, requests.

    What came before an error is yielded first: where the day's requests end, the next day goes on from there.
    """
    parts: list[Any] = []
    after: str | None = None
    failed: CrmError | None = None
    try:
        for page in pages:
            parts.append(page.records)
            after = page.after
            if sum(map(len, parts)) >= _TOGETHER:
                yield parts, after, len(parts)
                parts = []
    except CrmError as error:
        failed = error
    if parts:
        yield parts, after, len(parts)
    if failed:
        raise failed
