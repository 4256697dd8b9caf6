"""Each normalized stream from the org's objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import orjson

from pipesync.adapters.base import Cursor, Page
from pipesync.adapters.salesforce.api import Json
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.reading import (
    Batch,
    Key,
    at_path,
    batches,
    normalized,
    parse_time,
    sequence,
    typed,
    vanished,
)
from pipesync.errors import PermissionMissing
from pipesync.mapping import segment
from pipesync.schema import schema, table

OPPORTUNITY = "006"
"""The key prefix of opportunities: tasks and events are about many kinds of records."""
KEY = "Pipesync_Key__c"
HISTORY = {
    "stage": "StageName",
    "amount": "Amount",
    "close_date": "CloseDate",
    "forecast_category": "ForecastCategory",
    "probability": "Probability",
}
"""Column -> field of OpportunityHistory, which every org keeps."""
TRACKED = {"owner_id": "Owner", "next_step": "NextStep"}
"""Column -> name in OpportunityFieldHistory, where the admin tracks the field."""


class Streams:
    """Reads streams of one org as pages."""

    def __init__(self, org: Org, options: Options) -> None:
        self._org, self._api, self._options = org, org.api, options

    def visible(self, stream: str) -> list[str]:
        """Return the mapped columns that the user can read."""
        told = self._org.mapping.streams[stream]
        return [c for c, f in told.fields.items() if self._org.sees(told.source, f.field)]

    def _all(
        self, stream: str, cursor: Cursor | None, until: datetime, **how: Any
    ) -> Iterator[tuple[Batch, bool]]:
        """Yield batches, and whether it is the first of a full scan."""
        told = self._org.mapping.streams[stream]
        visible = self.visible(stream)
        if self._org.fields(told.source) is None:
            raise PermissionMissing(
                f"{told.source} cannot be read", fix="assign the permission set Pipesync_Integration"
            )
        columns = [told.fields[c].field for c in visible] + list(how.pop("extra", ()))
        start, gone = self._since(told.source, cursor, until)
        is_full = start.at is None
        batch_of = batches(
            self._api,
            told.source,
            columns,
            start,
            until,
            deleted=not is_full,
            size=self._options.page_size,
            **how,
        )
        for i, batch in enumerate(batch_of):
            yield (replace(batch, gone=gone) if i == 0 else batch), is_full and i == 0

    def _since(self, source: str, cursor: Cursor | None, until: datetime) -> tuple[Key, tuple[str, ...]]:
        """Return where to begin, and what has vanished since; at the beginning where nobody can tell that."""
        key = Key.read(cursor)
        gone = vanished(self._api, source, key, self._options.look_back, until)
        return (key.back(self._options.look_back), gone) if gone is not None else (Key(), ())

    # --- Objects that are mirrored as they are ------------------------------------------------------------------

    def objects(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Any object whose mapped fields are its columns."""
        told = self._org.mapping.streams[stream]
        visible = self.visible(stream)
        for batch, is_first in self._all(stream, cursor, until):
            kept = [r for r in batch.rows if not r.get("IsDeleted")]
            rows = [normalized(r, stream, told.fields, visible) for r in kept]
            yield Page(
                stream,
                table(stream, rows) if rows else schema(stream).empty_table(),
                _after(batch, until),
                mode="replace" if is_first else "merge",
                deleted=batch.deleted,
                requests=batch.requests,
                last=batch.is_last,
            )

    def users(self, until: datetime) -> Iterator[Page]:
        """Users as a whole: a role's new name does not move its users' SystemModstamp."""
        rows: list[Json] = []
        requests = 0
        told = self._org.mapping.streams["users"]
        visible = self.visible("users")
        for batch, _ in self._all("users", None, until):
            rows += [normalized(r, "users", told.fields, visible) for r in batch.rows]
            requests += batch.requests
        yield Page("users", table("users", rows), None, mode="replace", requests=requests, last=True)

    def opportunities(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        mapping = self._org.mapping
        told = mapping.streams["opportunities"]
        visible = self.visible("opportunities")
        custom = {n: f for n, f in told.custom.items() if self._org.sees(told.source, f)}
        for batch, is_first in self._all("opportunities", cursor, until, extra=custom.values()):
            rows = []
            for record in batch.rows:
                if record.get("IsDeleted"):
                    continue
                row = normalized(record, "opportunities", told.fields, visible)
                row["pipeline"] = row.get("pipeline") or mapping.default_pipeline
                row["closed_at"] = row.get("closed_at") if row.get("is_closed") else None
                if custom:
                    row["custom"] = {n: _text(at_path(record, f)) for n, f in custom.items()}
                rows.append(row)
            page = table("opportunities", rows) if rows else schema("opportunities").empty_table()
            if rows and mapping.segments:
                page = page.append_column("segment", segment(page, mapping.segments))
            yield Page(
                "opportunities",
                page,
                _after(batch, until),
                mode="replace" if is_first else "merge",
                deleted=batch.deleted,
                requests=batch.requests,
                last=batch.is_last,
            )

    def contact_roles(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """A role that was deleted has the others of its opportunity read again: roles have no id of their own here."""
        told = self._org.mapping.streams["contact_roles"]
        visible = self.visible("contact_roles")
        name = "contact_roles"
        for batch, is_first in self._all(name, cursor, until):
            gone = sorted({r["OpportunityId"] for r in batch.rows if r.get("IsDeleted")})
            rows = [normalized(r, name, told.fields, visible) for r in batch.rows if not r.get("IsDeleted")]
            requests = batch.requests
            if gone:
                yield Page(name, schema(name).empty_table(), None, deleted=tuple(gone))
                for start in range(0, len(gone), 200):
                    ids = ", ".join(f"'{i}'" for i in gone[start : start + 200])
                    columns = ", ".join(told.fields[c].field for c in visible)
                    soql = f"SELECT {columns} FROM {told.source} WHERE OpportunityId IN ({ids})"
                    rows += [
                        normalized(r, name, told.fields, visible) for r in self._api.query(soql)["records"]
                    ]
                    requests += 1
            yield Page(
                name,
                table(name, rows) if rows else schema(name).empty_table(),
                _after(batch, until),
                mode="replace" if is_first else "merge",
                requests=requests,
                last=batch.is_last,
            )

    # --- Activities ---------------------------------------------------------------------------------------------

    def activities(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Events and tasks on opportunities; ours are not activity. A blank `is_done`: once its time has come."""
        told = orjson.loads(cursor) if cursor else {"Event": None, "Task": None}
        sources = [s for s in ("Event", "Task") if self._org.fields(s) is not None]
        if not sources:
            raise PermissionMissing("neither Event nor Task can be read", fix="assign the permission set")
        since = {s: self._since(s, told.get(s), until) for s in sources}
        if any(told.get(s) and since[s][0].at is None for s in sources):  # lost sight of one: both anew
            told, since = {}, dict.fromkeys(sources, (Key(), ()))
        is_first = not any(told.values())
        for i, source in enumerate(sources):
            for batch in self._engagements(source, *since[source], until):
                rows = [r for row in batch.rows if (r := self._activity(source, row))]
                told[source] = _after(batch, until)
                yield Page(
                    "activities",
                    table("activities", rows) if rows else schema("activities").empty_table(),
                    orjson.dumps(told).decode(),
                    mode="replace" if is_first else "merge",
                    deleted=batch.deleted,
                    requests=batch.requests,
                    last=batch.is_last and i == len(sources) - 1,
                )
                is_first = False

    def _engagements(
        self, source: str, start: Key, gone: tuple[str, ...], until: datetime
    ) -> Iterator[Batch]:
        mapped = self._org.mapping.streams["activities"].fields
        own = [mapped[c].field for c in ("kind", "direction") if c in mapped]
        times = (
            ["StartDateTime"] if source == "Event" else ["CompletedDateTime", "ActivityDate", "IsClosed", KEY]
        )
        columns = [f for f in ("WhatId", "OwnerId", *own, *times) if self._org.sees(source, f)]
        size = self._options.page_size
        found = batches(self._api, source, columns, start, until, deleted=start.at is not None, size=size)
        for i, batch in enumerate(found):
            yield replace(batch, gone=gone) if i == 0 else batch

    def _activity(self, source: str, row: Json) -> Json | None:
        if row.get("IsDeleted") or row.get(KEY) or not str(row.get("WhatId") or "").startswith(OPPORTUNITY):
            return None
        mapped = self._org.mapping.streams["activities"].fields
        at = row.get("StartDateTime") or row.get("CompletedDateTime")
        moment = parse_time(at) if at else _end_of(row.get("ActivityDate"))
        if moment is None:
            return None
        return {
            "id": row["Id"],
            "opportunity_id": row["WhatId"],
            "kind": row.get(mapped["kind"].field) if "kind" in mapped else None,
            "direction": row.get(mapped["direction"].field) if "direction" in mapped else None,
            "at": moment,
            "is_done": bool(row.get("IsClosed")) if source == "Task" else None,
            "owner_id": row.get("OwnerId"),
        }

    # --- History ------------------------------------------------------------------------------------------------

    def tracked(self) -> dict[str, str]:
        """Return column -> field of OpportunityHistory that can be read."""
        mapped = self._org.mapping.streams["opportunities"].fields
        return {
            c: f
            for c, f in HISTORY.items()
            if c in mapped and mapped[c].history == "full" and self._org.sees("OpportunityHistory", f)
        }

    def field_changes(self, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        told = orjson.loads(cursor) if cursor else {}
        is_first = cursor is None
        sources = [("OpportunityHistory", tuple(self.tracked().values()))]
        if self._org.fields("OpportunityFieldHistory") is not None:
            sources.append(("OpportunityFieldHistory", ("Field", "NewValue")))
        seen: dict[tuple[str, str], Any] = {}
        for i, (source, columns) in enumerate(sources):
            start = Key.read(told.get(source)).back(self._options.look_back)
            wanted = ["OpportunityId", "CreatedById", *columns]
            for batch in batches(
                self._api, source, wanted, start, until, by="CreatedDate", size=self._options.page_size
            ):
                of_row = self._history_rows if source == "OpportunityHistory" else self._field_rows
                rows = [change for row in batch.rows for change in of_row(row, seen)]
                told[source] = _after(batch, until)
                yield Page(
                    "field_changes",
                    table("field_changes", rows) if rows else schema("field_changes").empty_table(),
                    orjson.dumps(told).decode(),
                    mode="replace" if is_first else "merge",
                    requests=batch.requests,
                    last=batch.is_last and i == len(sources) - 1,
                )
                is_first = False

    def _history_rows(self, row: Json, seen: dict[tuple[str, str], Any]) -> Iterator[Json]:
        """A row holds all its fields as they were from then on; what did not change is left out."""
        mapped = self._org.mapping.streams["opportunities"].fields
        kinds = {f.name: f.type for f in schema("opportunities")}
        for column, field in self.tracked().items():
            value = row.get(field)
            key = (row["OpportunityId"], column)
            if key in seen and seen[key] == value:
                continue
            seen[key] = value
            if mapped[column].values and isinstance(value, str):
                value = mapped[column].values.get(value, value)
            yield _change(row, column, typed(value, kinds[column], is_share=column == "probability"))

    def _field_rows(self, row: Json, seen: dict[tuple[str, str], Any]) -> Iterator[Json]:
        """A changed lookup has two rows, one with names and one with ids; the ids are kept."""
        column = {f: c for c, f in TRACKED.items()}.get(row["Field"])
        value = row.get("NewValue")
        if column and not (column == "owner_id" and value and not str(value).startswith("005")):
            yield _change(row, column, value)


def _change(row: Json, column: str, value: Any) -> Json:
    return {
        "id": f"{row['Id']}:{column}",
        "opportunity_id": row["OpportunityId"],
        "field": column,
        "value": None if value is None else str(value),
        "changed_at": parse_time(row["CreatedDate"]),
        "changed_by": row.get("CreatedById"),
        "seq": sequence(row["Id"]),
    }


def _after(batch: Batch, until: datetime) -> Cursor:
    """Return the cursor after a batch: at the end of a pull everything up to `until` is there."""
    return Key(until.astimezone(UTC).isoformat()).text() if batch.is_last else batch.key.text()


def _end_of(day: str | None) -> datetime | None:
    """A task is due on a day; it is late once that day is over."""
    if day is None:
        return None
    return (
        datetime.combine(datetime.fromisoformat(day).date(), time(), UTC)
        + timedelta(days=1)
        - timedelta(seconds=1)
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
