"""Streams beside the deals: owners, companies, products, line items, leads, goals, rates, and activities by choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from pipesync.adapters.base import Cursor, Page, Reject
from pipesync.adapters.hubspot.api import Api, Json
from pipesync.adapters.hubspot.options import Engagement, Options
from pipesync.adapters.hubspot.portal import Portal
from pipesync.adapters.hubspot.reading import Link, Wanted, inline_links, linked, listed, read
from pipesync.adapters.hubspot.streams import (
    State,
    archived_since,
    form_of,
    from_millis,
    gathered,
    look_for_changes,
    millis,
    must_list,
    state_of,
)
from pipesync.adapters.hubspot.values import day, is_ours, moment, typed
from pipesync.mapping import FieldMapping, Mapping, StreamMapping
from pipesync.schema import empty, schema, table

LINK = "associations."
"""Begins the name of a link to another object in a mapping."""
_SELDOM = ("products", "leads")
"""Searched only as often as `reference` says."""
_MOMENT = timedelta(milliseconds=1)
_GOAL_TYPE, _QUOTA = "hs_goal_type", "sales_quota"


def pull_objects(
    api: Api,
    portal: Portal,
    mapping: Mapping,
    options: Options,
    stream: str,
    cursor: Cursor | None,
    until: datetime,
) -> Iterator[Page]:
    """Yield a stream whose records are objects of one kind: listed at first, then what a search finds changed."""
    told = mapping.streams[stream]
    form = form_of(mapping.fingerprint(), stream)
    reader = _Objects(api, portal, told, stream)
    state = state_of(cursor, form)
    if state and not must_list(state, until, options):
        if stream in _SELDOM and from_millis(state.since) + options.reference > until:
            yield Page(stream, empty(stream), cursor, last=True)
            return
        sent = api.requests
        found = look_for_changes(api, told.source, state, until, options)
        for some in found or ():
            rows, rejects = reader.by_id([r["id"] for r in some.records])
            gone: tuple[str, ...] = ()
            state = some.state
            if some.last and from_millis(state.swept) + options.reference <= until:
                gone, _ = archived_since(api, told.source, state.swept, options)
                state = replace(state, swept=millis(until))
            sent, before = api.requests, sent
            yield Page(
                stream, rows, state.cursor(), deleted=gone, rejects=rejects, requests=sent - before, last=some.last
            )  # fmt: skip
        if found:
            return
    if state is None or not state.listing:
        state = State(form, since=millis(until), scanned=millis(until), swept=millis(until))
    first = state.after is None
    for parts, after, requests in gathered(listed(api, reader.wanted, after=state.after)):
        records = list(chain.from_iterable(parts))
        state = replace(state, after=after, count=state.count + len(records))
        if after is None:
            state = replace(state, listing=False)
        rows, rejects = reader.rows(records, {})
        yield Page(
            stream, rows, state.cursor(), mode="replace" if first else "merge", rejects=rejects, requests=requests,
            last=after is None,
        )  # fmt: skip
        first = False


def objects_of(
    api: Api, portal: Portal, mapping: Mapping, stream: str, deals: Sequence[str]
) -> Iterator[Page]:
    """Yield a stream's rows of these deals, whenever they were changed."""
    told, sent = mapping.streams[stream], api.requests
    ids = _around(api, told.source, deals)
    rows, rejects = _Objects(api, portal, told, stream).by_id(ids)
    yield Page(stream, rows, None, rejects=rejects, requests=api.requests - sent)


def _around(api: Api, kind: str, deals: Sequence[str]) -> list[str]:
    return sorted({link.to for links in linked(api, "deals", kind, deals).values() for link in links})


class _Objects:
    """How one kind of object becomes rows of one stream."""

    def __init__(self, api: Api, portal: Portal, told: StreamMapping, stream: str) -> None:
        self._api, self._portal, self._told, self._stream = api, portal, told, stream
        plain = [f.field for f in told.fields.values() if not f.field.startswith(LINK)]
        self._links = [f.field.removeprefix(LINK) for f in told.fields.values() if f.field.startswith(LINK)]
        more = [_GOAL_TYPE] if stream == "quotas" else []
        self.wanted = Wanted(told.source, (*plain, *more), (), tuple(self._links))

    def by_id(self, ids: Sequence[str]) -> tuple[pa.Table, tuple[Reject, ...]]:
        records = read(self._api, self.wanted, ids)
        links = {to: linked(self._api, self._told.source, to, ids) for to in self._links} if ids else {}
        return self.rows(records, links)

    def rows(
        self, records: Sequence[Json], links: MappingOf[str, MappingOf[str, Sequence[Link]]]
    ) -> tuple[pa.Table, tuple[Reject, ...]]:
        """Return rows; links that were not followed apart stand in the records. What belongs to no deal is left out."""
        found, rejects = [], []
        for record in records:
            row: dict[str, Any] = {}
            for name, field in self._told.fields.items():
                if field.field.startswith(LINK):
                    to = field.field.removeprefix(LINK)
                    of = links[to].get(str(record["id"]), ()) if to in links else inline_links(record, to, "")
                    row[name] = of[0].to if of else None
                    continue
                text = record["properties"].get(field.field)
                kind = schema(self._stream).field(name).type
                try:
                    row[name] = typed(field.values.get(text or "", text), kind, self._portal.zone)
                except (ValueError, OverflowError, ArithmeticError):
                    row[name] = None
                    rejects.append(
                        Reject(
                            f"{self._told.source} {record['id']}", f"{field.field}: cannot be read as {name}"
                        )
                    )
            if self._stream == "quotas":
                if (record["properties"].get(_GOAL_TYPE) or _QUOTA) != _QUOTA:
                    continue  # a number of calls, say, and no money
                self._settle_quota(row, record["properties"])
            if "id" in schema(self._stream).names:
                row["id"] = str(record["id"])
            if self._stream == "line_items" and row.get("opportunity_id") is None:
                continue
            if self._stream == "quotas" and None in (row["amount"], row["period_start"], row["period_end"]):
                continue
            if "currency" in schema(self._stream).names:
                row["currency"] = row.get("currency") or self._portal.currency
            found.append(row)
        return (table(self._stream, found) if found else empty(self._stream)), tuple(rejects)

    def _settle_quota(self, row: dict[str, Any], told: Json) -> None:
        """Give the day after the last as end, and teams by their names."""
        if row.get("period_end"):
            # Whether a goal ends with its last moment or with the next midnight differs; a blank day is neither.
            ends = moment(told[self._told.fields["period_end"].field])
            row["period_end"] = day((ends - _MOMENT).isoformat(), self._portal.zone) + timedelta(days=1)
        if team := row.get("team"):
            row["team"] = self._portal.teams().get(team, team)


# --- What changes seldom ----------------------------------------------------------------------------------------


def pull_reference(
    api: Api,
    portal: Portal,
    mapping: Mapping,
    options: Options,
    stream: str,
    cursor: Cursor | None,
    until: datetime,
) -> Iterator[Page]:
    """Yield owners, goals or exchange rates whole, unless they were read not long ago."""
    form = form_of(mapping.fingerprint(), stream)
    state = state_of(cursor, form)
    if state and from_millis(state.scanned) + options.reference > until:
        yield Page(stream, empty(stream), cursor, last=True)
        return
    sent = api.requests
    rejects: tuple[Reject, ...] = ()
    if stream == "quotas":
        reader = _Objects(api, portal, mapping.streams[stream], stream)
        records = [r for page in listed(api, reader.wanted) for r in page.records]
        found, rejects = reader.rows(records, {})
    else:
        rows = _users(portal) if stream == "users" else _rates(api)
        found = table(stream, rows) if rows else empty(stream)
    done = State(form, listing=False, scanned=millis(until)).cursor()
    yield Page(stream, found, done, mode="replace", rejects=rejects, requests=api.requests - sent, last=True)


def _users(portal: Portal) -> list[dict[str, Any]]:
    return [
        {
            "id": str(owner["id"]),
            "name": " ".join(filter(None, [owner.get("firstName"), owner.get("lastName")])) or None,
            "email": owner.get("email") or None,
            "is_active": not owner.get("archived", False),
            "team": _team(owner),
        }
        for owner in {str(o["id"]): o for o in portal.owners}.values()
    ]


def _team(owner: Json) -> str | None:
    teams = sorted(owner.get("teams") or [], key=lambda t: not t.get("primary", False))
    return str(teams[0]["name"]) if teams else None


def _rates(api: Api) -> list[dict[str, Any]]:
    found: dict[tuple[str, Any], dict[str, Any]] = {}
    after: str | None = None
    while True:
        page = api.get(api.paths.exchange_rates(), limit=100, after=after)
        for rate in page.get("results", []):
            since = day(rate["effectiveAt"], "UTC")
            row = {
                "currency": rate["fromCurrencyCode"],
                "rate": float(rate["conversionRate"]),
                "valid_from": since,
            }
            found[row["currency"], since] = row
        after = (page.get("paging") or {}).get("next", {}).get("after")
        if after is None:
            return list(found.values())


# --- Activities, one by one ---------------------------------------------------------------------------------------

_OF: dict[Engagement, tuple[str, str, str]] = {
    "calls": ("hs_activity_type", "hs_call_status", "hs_call_direction"),
    "emails": ("hs_activity_type", "hs_email_status", "hs_email_direction"),
    "meetings": ("hs_activity_type", "hs_meeting_outcome", ""),
    "tasks": ("hs_task_type", "hs_task_status", ""),
    "notes": ("hs_activity_type", "", ""),
}
"""Properties that hold kind, state and direction; never a subject or a body."""
_DONE = {"COMPLETED", "SENT", "HELD", "DONE"}
_OPEN = {"NOT_STARTED", "IN_PROGRESS", "WAITING", "DEFERRED", "SCHEDULED", "QUEUED"}
_DIRECTIONS = {
    "INBOUND": "in",
    "OUTBOUND": "out",
    "INCOMING_EMAIL": "in",
    "EMAIL": "out",
    "FORWARDED_EMAIL": "out",
}


def pull_activities(
    api: Api, mapping: Mapping, options: Options, cursor: Cursor | None, until: datetime, *, key: str
) -> Iterator[Page]:
    """Yield engagements of the chosen kinds. Tasks that carry our `key` property are not activity.

    The cursor holds one state per kind; a kind's listing is committed page by page.
    """
    form = form_of(mapping.fingerprint(), "activities", options.activities)
    mapped = mapping.streams["activities"].fields
    states = _states(cursor, form, options.activities)
    started = any(states.values())
    for number, kind in enumerate(options.activities):
        last_kind = number == len(options.activities) - 1
        engagements = _Engagements(api, kind, until, key, mapped)
        state = states[kind]
        if state and not must_list(state, until, options):
            sent = api.requests
            found = look_for_changes(api, kind, state, until, options)
            for some in found or ():
                rows = engagements.by_id([r["id"] for r in some.records])
                states[kind] = some.state
                yield Page(
                    "activities", rows, _joined(states), requests=api.requests - sent, last=some.last and last_kind
                )  # fmt: skip
                sent = api.requests
            if found:
                continue
        if state is None or not state.listing:
            state = State(form, since=millis(until), scanned=millis(until))
        for parts, after, requests in gathered(listed(api, engagements.wanted, after=state.after)):
            records = list(chain.from_iterable(parts))
            state = replace(state, after=after, count=state.count + len(records), listing=after is not None)
            states[kind] = state
            rows = engagements.rows(records, None)
            mode: Any = "merge" if started else "replace"
            started = True
            last = last_kind and after is None
            yield Page("activities", rows, _joined(states), mode=mode, requests=requests, last=last)


def activities_of(
    api: Api, mapping: Mapping, options: Options, deals: Sequence[str], until: datetime, *, key: str
) -> Iterator[Page]:
    """Yield the engagements with these deals, whenever they were changed."""
    mapped = mapping.streams["activities"].fields
    for kind in options.activities:
        sent = api.requests
        rows = _Engagements(api, kind, until, key, mapped).by_id(_around(api, kind, deals))
        yield Page("activities", rows, None, requests=api.requests - sent)


def _states(cursor: Cursor | None, form: str, kinds: Sequence[Engagement]) -> dict[Engagement, State | None]:
    given = orjson.loads(cursor) if cursor else {}
    return {
        kind: state_of(orjson.dumps(given.get(kind)).decode() if given.get(kind) else None, form)
        for kind in kinds
    }


def _joined(states: MappingOf[Engagement, State | None]) -> Cursor:
    return orjson.dumps(states).decode()


class _Engagements:
    def __init__(
        self, api: Api, kind: Engagement, until: datetime, key: str, mapped: MappingOf[str, FieldMapping]
    ) -> None:
        self._api, self._kind, self._until, self._key, self._mapped = api, kind, until, key, mapped
        names = ["hs_timestamp", "hubspot_owner_id", *filter(None, _OF[kind])]
        if kind == "tasks":
            names.append(key)
        self.wanted = Wanted(kind, tuple(names), (), ("deals",))

    def by_id(self, ids: Sequence[str]) -> pa.Table:
        records = read(self._api, self.wanted, ids)
        return self.rows(records, linked(self._api, self._kind, "deals", ids) if ids else {})

    def rows(self, records: Sequence[Json], links: MappingOf[str, Sequence[Link]] | None) -> pa.Table:
        found = []
        for record in records:
            told = record["properties"]
            at = told.get("hs_timestamp")
            if not at or told.get(self._key) or (self._kind == "tasks" and is_ours(at)):
                continue
            of = links.get(str(record["id"]), ()) if links is not None else inline_links(record, "deals", "")
            for n, link in enumerate(of):
                found.append(self._row(record, told, link.to, n))
        return table("activities", found) if found else empty("activities")

    def _row(self, record: Json, told: Json, deal: str, n: int) -> dict[str, Any]:
        kind, state, direction = _OF[self._kind]
        at = moment(told["hs_timestamp"])
        said = str(told.get(state) or "")
        row = {
            "id": f"{self._kind}:{record['id']}" + (f":{n}" if n else ""),
            "opportunity_id": deal,
            "kind": told.get(kind) or self._kind.removesuffix("s"),
            "at": at.replace(tzinfo=None),
            "is_done": said in _DONE or (said not in _OPEN and at <= self._until),
            "direction": "both"
            if self._kind == "meetings"
            else _DIRECTIONS.get(str(told.get(direction) or "")),
            "owner_id": told.get("hubspot_owner_id") or None,
        }
        return {name: value for name, value in row.items() if name in self._mapped or name == "is_done"}
