"""Our tasks and forecasts as HubSpot holds them, found without its search index, which lags behind writes.

Tasks that we know are read by their ids, new ones by listing from the newest id on, and any by following the
deals' associations. Forecasts are few and are listed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from pipesync.adapters.base import Cursor, Page
from pipesync.adapters.hubspot.api import Api, Json
from pipesync.adapters.hubspot.portal import Portal
from pipesync.adapters.hubspot.reading import (
    SEARCH_PAGE,
    Wanted,
    inline_links,
    linked,
    listed,
    modified,
    read,
    read_by,
    search,
)
from pipesync.adapters.hubspot.streams import State, form_of, from_millis, millis, state_of
from pipesync.adapters.hubspot.values import day, from_day, moment
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.model import OwnForecast, OwnTask, Priority
from pipesync.schema import empty, table

KEY = "pipesync_key"
"""The property that holds our key, unique within its object."""
_TASK = Wanted(
    "tasks",
    (
        KEY, "hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_priority", "hs_timestamp",
        "hubspot_owner_id", "hs_lastmodifieddate",
    ),
    (),
    ("deals",),
)  # fmt: skip
FORECAST = "pipesync_forecast"
FORECAST_FIELDS = tuple(n for n in OwnForecast.model_fields if n not in ("connection", "id", "key"))
_PRIORITIES: dict[Priority, str] = {"low": "LOW", "normal": "MEDIUM", "high": "HIGH"}
_MARK = re.compile(r"(?:<br>)*\[(ps\d-[^\]<\s]+)\]\s*$")
_SETTLED = timedelta(days=30)
"""A task that was done so long ago is read no more; a search would still find it changed."""


@dataclass(frozen=True)
class _Known:
    """What the cursor of our tasks remembers."""

    form: str
    tasks: dict[str, str | None] = field(default_factory=dict)
    """Deal by task, of the tasks that are looked at in every pull."""
    newest: int = 0
    """Highest id of anyone's task so far."""
    searched: int = 0

    def cursor(self) -> Cursor:
        return orjson.dumps(self).decode()


class Own:
    """Reads our records of one portal."""

    def __init__(self, api: Api, portal: Portal, *, key_in: Literal["property", "body"]) -> None:
        self._api, self._portal, self._key_in = api, portal, key_in
        self.forecasts_written = False
        """Whether this process wrote forecasts, which its next pull reads again."""

    def key_of(self, record: Json) -> str | None:
        """Return a task's key of ours; None for other people's tasks."""
        told = record["properties"]
        if self._key_in == "property":
            return told.get(KEY) or None
        found = _MARK.search(told.get("hs_task_body") or "")
        return found[1] if found else None

    # --- Tasks ------------------------------------------------------------------------------------------------

    def gone_owners(self) -> frozenset[str]:
        """Return the owners who were deactivated; none where the token may not see owners."""
        try:
            return frozenset(str(o["id"]) for o in self._portal.owners if o.get("archived"))
        except PermissionMissing:
            return frozenset()

    def pull_tasks(self, cursor: Cursor | None, until: datetime, *, every: timedelta) -> Iterator[Page]:
        sent = self._api.requests
        form = form_of("own_tasks")
        known = _known(cursor, form)
        found: dict[str, Json] = {}
        if known:
            found = {str(r["id"]): r for r in read(self._api, _TASK, known.tasks)}
        gone = tuple(i for i in known.tasks if i not in found) if known else ()
        start = known or _Known(form)
        newest = start.newest
        searched = start.searched
        if searched + every / timedelta(milliseconds=1) <= millis(until):
            highest, marked = self._search(since=max(0, searched - int(every / timedelta(milliseconds=1))))
            newest, searched = newest or highest, millis(until)
            found |= marked
        fresh, newest = self._listed_from(newest)
        found |= fresh
        deals = self._deals_of(start.tasks, found)
        tasks = [t for i, r in found.items() if (t := self._task(r, deals.get(i)))]
        old = until - _SETTLED
        lasting = {t.id: t.opportunity_id for t in tasks if not t.is_done or (t.modified_at or until) > old}
        rows = table("own_tasks", [t.model_dump(exclude={"connection"}) for t in tasks])
        yield Page(
            "own_tasks",
            rows if rows.num_columns else empty("own_tasks"),
            replace(start, tasks=lasting, newest=newest, searched=searched).cursor(),
            mode="merge" if known else "replace",
            deleted=gone,
            requests=self._api.requests - sent,
            last=True,
        )

    def _search(self, since: int) -> tuple[int, dict[str, Json]]:
        """Return the highest task id that the index knows, and our tasks modified since (paged by id)."""
        top = search(self._api, "tasks", [], sort="hs_object_id", properties=[], descending=True, limit=1)
        highest = int(top.records[0]["id"]) if top.records else 0
        found: dict[str, Json] = {}
        last = "0"
        while True:
            filters: list[Json] = [
                {"propertyName": KEY, "operator": "HAS_PROPERTY"}
                if self._key_in == "property"
                else {"propertyName": "hs_task_body", "operator": "CONTAINS_TOKEN", "value": "ps1*"},
                {"propertyName": "hs_object_id", "operator": "GT", "value": last},
                {"propertyName": "hs_lastmodifieddate", "operator": "GTE", "value": str(since)},
            ]
            try:
                page = search(self._api, "tasks", filters, sort="hs_object_id", properties=_TASK.properties)
            except RequestRefused:  # the property is not installed, so no task has it
                return highest, {}
            found |= {str(r["id"]): r for r in page.records}
            if len(page.records) < SEARCH_PAGE:
                return highest, found
            last = page.records[-1]["id"]

    def _listed_from(self, newest: int) -> tuple[dict[str, Json], int]:
        found: dict[str, Json] = {}
        for page in listed(self._api, _TASK, after=str(newest) if newest else None):
            for record in page.records:
                newest = max(newest, int(record["id"]))
                if self.key_of(record):
                    found[str(record["id"])] = record
        return found, newest

    def _deals_of(
        self, known: MappingOf[str, str | None], found: MappingOf[str, Json]
    ) -> dict[str, str | None]:
        deals = dict(known)
        for i, record in found.items():
            if i not in deals and (links := inline_links(record, "deals", "task")):
                deals[i] = links[0].to
        rest = [i for i in found if i not in deals]
        if rest:
            links_of = linked(self._api, "tasks", "deals", rest)
            deals |= {i: links_of[i][0].to if links_of.get(i) else None for i in rest}
        return deals

    def tasks(self, keys: Collection[str], deals: Iterable[str]) -> list[OwnTask]:
        """Return our tasks under these keys, by way of the deals that they stand on."""
        links = linked(self._api, "deals", "tasks", deals)
        deal_of = {link.to: deal for deal, found in links.items() for link in found}
        records = read(self._api, _TASK, deal_of)
        tasks = [self._task(r, deal_of.get(str(r["id"]))) for r in records]
        return [t for t in tasks if t and t.key in keys]

    def _task(self, record: Json, deal: str | None) -> OwnTask | None:
        told, key = record["properties"], self.key_of(record)
        if not key:
            return None
        by_word = {word: priority for priority, word in _PRIORITIES.items()}
        return OwnTask(
            id=str(record["id"]),
            key=key,
            opportunity_id=deal,
            owner_id=told.get("hubspot_owner_id") or None,
            subject=told.get("hs_task_subject") or None,
            body=from_html(_MARK.sub("", told.get("hs_task_body") or "")),
            due=day(told["hs_timestamp"], self._portal.zone) if told.get("hs_timestamp") else None,
            priority=by_word.get(told.get("hs_task_priority") or "", "normal"),
            is_done=told.get("hs_task_status") == "COMPLETED",
            modified_at=moment(str(modified(record))),
        )

    def task_properties(self, key: str, values: MappingOf[str, Any]) -> dict[str, str]:
        """Return HubSpot's properties for fields of the OwnTask with this key, given as JSON values."""
        found: dict[str, str] = {KEY: key} if self._key_in == "property" else {}
        for name, value in values.items():
            if name == "due":
                found["hs_timestamp"] = from_day(_date(value), self._portal.zone) if value else ""
            elif name == "priority":
                priority: Priority = value or "normal"
                found["hs_task_priority"] = _PRIORITIES[priority]
            elif name == "is_done":
                found["hs_task_status"] = "COMPLETED" if value else "NOT_STARTED"
            elif name == "body":
                mark = f"<br><br>[{key}]" if self._key_in == "body" else ""
                found["hs_task_body"] = to_html(value) + mark
            elif name in ("subject", "owner_id"):
                prop = {"subject": "hs_task_subject", "owner_id": "hubspot_owner_id"}[name]
                found[prop] = value or ""
        return found

    # --- Forecasts --------------------------------------------------------------------------------------------

    @property
    def forecast_object(self) -> str:
        """The custom object's full name; `p{portal}_` is HubSpot's prefix for an account's own objects."""
        return f"p{self._portal.details['portalId']}_{FORECAST}"

    def pull_forecasts(self, cursor: Cursor | None, until: datetime, *, every: timedelta) -> Iterator[Page]:
        """Yield our forecasts, unless they were read not long ago: nobody else has a reason to change them.

        A record that somebody deleted all the same is put back by the next write of it.
        """
        form = form_of("own_forecasts")
        state = state_of(cursor, form)
        if state and not self.forecasts_written and from_millis(state.scanned) + every > until:
            yield Page("own_forecasts", empty("own_forecasts"), cursor, as_before=True, last=True)
            return
        sent = self._api.requests
        wanted = Wanted(self.forecast_object, (KEY, *FORECAST_FIELDS))
        try:
            records = [r for page in listed(self._api, wanted) for r in page.records]
        except RequestRefused as refused:
            raise PermissionMissing(
                f"this portal has no object {FORECAST}, so forecasts stay in the ledger and the report",
                fix="an Enterprise portal gets it from `pipesync install-fields`",
                code=refused.code,
                request_id=refused.request_id,
            ) from None
        found = [f.model_dump(exclude={"connection"}) for r in records if (f := _forecast(r))]
        rows = table("own_forecasts", found) if found else empty("own_forecasts")
        done = State(form, listing=False, scanned=millis(until)).cursor()
        self.forecasts_written = False
        yield Page("own_forecasts", rows, done, mode="replace", requests=self._api.requests - sent, last=True)

    def forecasts(self, keys: Collection[str]) -> list[OwnForecast]:
        if not keys:
            return []
        wanted = Wanted(self.forecast_object, (KEY, *FORECAST_FIELDS))
        return [f for r in read_by(self._api, wanted, KEY, keys) if (f := _forecast(r))]


def _known(cursor: Cursor | None, form: str) -> _Known | None:
    if cursor is None:
        return None
    try:
        found = _Known(**orjson.loads(cursor))
    except (orjson.JSONDecodeError, TypeError):
        return None
    return found if found.form == form else None


def _forecast(record: Json) -> OwnForecast | None:
    """Return None for a record that is not one of ours any more, because somebody emptied it."""
    told = {n: v for n, v in record["properties"].items() if n in FORECAST_FIELDS and v not in (None, "")}
    told["scope_id"] = told.get("scope_id", "")
    try:
        return OwnForecast.model_validate(
            {**told, "id": str(record["id"]), "key": record["properties"].get(KEY) or ""}
        )
    except ValidationError:
        return None


def _date(value: Any) -> Any:
    return datetime.fromisoformat(value).date() if isinstance(value, str) else value


def to_html(text: str | None) -> str:
    """Return a task's text as HubSpot keeps it: HTML, one `<br>` per line."""
    return html.escape(text or "", quote=False).replace("\n", "<br>")


def from_html(text: str | None) -> str | None:
    if not text:
        return None
    broken = re.sub(r"<br\s*/?>", "\n", text)
    # What people add in HubSpot's editor is in blocks of its own, each a line.
    broken = re.sub(r"(?:\s*</?(?:p|div|li|ul|ol)\b[^>]*>\s*)+", "\n", broken)
    return html.unescape(re.sub(r"<[^>]+>", "", broken)).strip("\n") or None
