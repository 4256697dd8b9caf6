"""The four ways to read HubSpot's objects: listing, searching, reading by id, following associations.

Listing is ordered by id, so records that change meanwhile move nothing; it sees every record at once. Searching
is what finds changes, but its index lags, its windows end at 10,000 results, and offsets shift while people work.
So a search here never pages by offset: each request starts anew from the last moment seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from pipesync.adapters.hubspot.api import Api, Json

LIST_PAGE, HISTORY_PAGE, SEARCH_PAGE, BATCH, LINKS = 100, 50, 200, 100, 1000
"""HubSpot's largest sizes; with history a list page (and, to be safe, a batch) has 50."""
_LONGEST_LIST = 6_000
"""Characters of property names in an address; beyond 8,000 or so HubSpot answers 414."""
_MODIFIED = "hs_lastmodifieddate"


class Listed(NamedTuple):
    records: list[Json]
    after: str | None
    """Where the next page starts; None behind the last."""


@dataclass(frozen=True)
class Wanted:
    """What is read of an object's records."""

    kind: str
    properties: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    associations: tuple[str, ...] = ()


def listed(api: Api, wanted: Wanted, *, after: str | None = None, archived: bool = False) -> Iterator[Listed]:
    """Yield pages of all records in the order of their ids, from `after` on."""
    while True:
        page = api.get(api.paths.objects(wanted.kind), **listing(wanted, after, archived=archived))
        records = page.get("results", [])
        if is_long(wanted):
            records = _with_links(read(api, wanted, [r["id"] for r in records]), records)
        for to in wanted.associations:
            _complete_links(api, wanted.kind, records, to)
        after = (page.get("paging") or {}).get("next", {}).get("after")
        yield Listed(records, after)
        if after is None:
            return


def is_long(wanted: Wanted) -> bool:
    """Tell whether what is wanted does not fit into an address, and is read by the ids that a listing brings."""
    return len(",".join(wanted.properties)) + len(",".join(wanted.history)) > _LONGEST_LIST


def listing(
    wanted: Wanted, after: str | None, *, archived: bool = False
) -> dict[str, str | int | bool | None]:
    """Return what to ask for a page of a listing."""
    by_id = is_long(wanted)
    return {
        "limit": HISTORY_PAGE if wanted.history and not by_id else LIST_PAGE,
        "after": after,
        "archived": True if archived else None,
        "properties": None if by_id else ",".join(wanted.properties) or None,
        "propertiesWithHistory": None if by_id else ",".join(wanted.history) or None,
        "associations": ",".join(wanted.associations) or None,
    }


def _with_links(records: list[Json], listed_records: list[Json]) -> list[Json]:
    links = {r["id"]: r.get("associations", {}) for r in listed_records}
    return [{**r, "associations": links.get(r["id"], {})} for r in records]


def _complete_links(api: Api, kind: str, records: list[Json], to: str) -> None:
    """Give listed records with more associations than a page all of them, in the form of an answer."""
    told = {r["id"]: (r.get("associations") or {}).get(to) or {} for r in records}
    more = [i for i, one in told.items() if ((one.get("paging") or {}).get("next") or {}).get("after")]
    for i, found in linked(api, kind, to, more).items():
        told[i]["results"] = [{"id": link.to, "type": link.label or ""} for link in found]


def read(api: Api, wanted: Wanted, ids: Iterable[str]) -> list[Json]:
    """Return the records of these ids that exist and are not archived; HubSpot is silent about the others."""
    path = api.paths.objects(wanted.kind, "/batch/read")
    found: list[Json] = []
    for some in batches(ids, size_of_batch(wanted)):
        found += api.ask(path, those(some, wanted)).get("results", [])
    return found


def size_of_batch(wanted: Wanted) -> int:
    return HISTORY_PAGE if wanted.history else BATCH


def those(ids: Iterable[str], wanted: Wanted) -> Json:
    """Return the body of a batch read."""
    return {
        "inputs": [{"id": i} for i in ids],
        "properties": list(wanted.properties),
        "propertiesWithHistory": list(wanted.history),
    }


def read_by(api: Api, wanted: Wanted, key: str, values: Iterable[str]) -> list[Json]:
    """Return the records whose unique property `key` has one of the values."""
    found: list[Json] = []
    for some in batches(values, BATCH):
        body: Json = {
            "inputs": [{"id": v} for v in some],
            "idProperty": key,
            "properties": list(wanted.properties),
            "propertiesWithHistory": [],
        }
        found += api.ask(api.paths.objects(wanted.kind, "/batch/read"), body).get("results", [])
    return found


class Searched(NamedTuple):
    records: list[Json]
    total: int
    """Of this window, as HubSpot counts."""


def changed(api: Api, kind: str, since: datetime, properties: Sequence[str] = ()) -> Iterator[Searched]:
    """Yield records modified at or after `since`, oldest change first; a record may come twice.

    Each page starts at the last moment of the one before. Where one moment fills a whole page (a bulk update), its
    records are walked by id.
    """
    anchor, seen = _millis(since.isoformat()), set[str]()
    wanted = list(dict.fromkeys([_MODIFIED, *properties]))
    while True:
        filters = [{"propertyName": _MODIFIED, "operator": "GTE", "value": str(anchor)}]
        page = search(api, kind, filters, sort=_MODIFIED, properties=wanted)
        yield Searched([r for r in page.records if r["id"] not in seen], page.total)
        if len(page.records) < SEARCH_PAGE:
            return
        last = modified(page.records[-1])
        if last > anchor or modified(page.records[0]) < last:
            anchor = last
            seen = {r["id"] for r in page.records if modified(r) == last}
            continue
        yield from _bucket(api, kind, anchor, wanted)
        anchor, seen = anchor + 1, set()


def _bucket(api: Api, kind: str, moment: int, properties: Sequence[str]) -> Iterator[Searched]:
    last = "0"
    while True:
        filters = [
            {"propertyName": _MODIFIED, "operator": "EQ", "value": str(moment)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": last},
        ]
        page = search(api, kind, filters, sort="hs_object_id", properties=properties)
        yield page
        if len(page.records) < SEARCH_PAGE:
            return
        last = page.records[-1]["id"]


def search(
    api: Api,
    kind: str,
    filters: Sequence[Json],
    *,
    sort: str,
    properties: Sequence[str],
    descending: bool = False,
    limit: int | None = None,
) -> Searched:
    """Return the first page of a search. All keys are sent: the published specification requires them."""
    body: Json = {
        "filterGroups": [{"filters": list(filters)}] if filters else [],
        "sorts": [{"propertyName": sort, "direction": "DESCENDING" if descending else "ASCENDING"}],
        "properties": list(properties),
        "limit": limit or SEARCH_PAGE,
        "after": "0",
    }
    page = api.ask(api.paths.objects(kind, "/search"), body, search=True)
    return Searched(page.get("results", []), int(page.get("total", 0)))


class Link(NamedTuple):
    to: str
    label: str | None
    is_primary: bool


def linked(api: Api, of: str, to: str, ids: Iterable[str]) -> dict[str, list[Link]]:
    """Return what each record is associated with; records without any are left out."""
    found: dict[str, list[Link]] = {}
    for some in batches(ids, LINKS):
        inputs: list[Json] = [{"id": i} for i in some]
        while inputs:
            answer = api.ask(api.paths.associations(of, to, "/batch/read"), {"inputs": inputs})
            inputs = []
            for one in answer.get("results", []):
                source = str(one["from"]["id"])
                found.setdefault(source, []).extend(_link(t) for t in one.get("to", []))
                if after := (one.get("paging") or {}).get("next", {}).get("after"):
                    inputs.append({"id": source, "after": after})
    return found


def _link(told: Json) -> Link:
    labels = [t.get("label") for t in told.get("associationTypes", []) if t.get("label")]
    own = [label for label in labels if label != "Primary"]
    return Link(str(told["toObjectId"]), own[0] if own else None, "Primary" in labels)


def inline_links(record: Json, to: str, of: str = "deal") -> list[Link]:
    """Return the associations that came with a listed record; types of HubSpot's own are no labels."""
    told = (record.get("associations") or {}).get(to, {}).get("results", [])
    return links_of(((str(one["id"]), str(one.get("type", ""))) for one in told), of)


def links_of(told: Iterable[tuple[str, str]], of: str) -> list[Link]:
    """Return links from their targets and types, each target once."""
    found: dict[str, Link] = {}
    for target, kind in told:
        label = None if kind.startswith(f"{of}_to_") else kind or None
        before = found.get(target)
        found[target] = Link(target, label or (before.label if before else None), False)
    return list(found.values())


def modified(record: Json) -> int:
    """Return when a record was last modified, in milliseconds since 1970."""
    told = record["properties"].get(_MODIFIED) or record.get("updatedAt")
    return _millis(str(told))


def _millis(told: str) -> int:
    if told.isdigit():
        return int(told)
    moment = datetime.fromisoformat(told)
    return round(moment.timestamp() * 1000)


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(dict.fromkeys(items))
    while some := list(islice(rest, size)):
        yield some
