"""HubSpot's records in SQLite: objects with their history, and the associations between them.

Properties are kept as one JSON text per record and histories as one JSON text per property, newest entry first: a
page is put together from them without being parsed, so that measurements measure the client.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

Json = dict[str, Any]
"""A JSON object on its way in or out."""

_TABLES = """
CREATE TABLE IF NOT EXISTS hs_objects (
    kind TEXT, id INTEGER, properties TEXT, created INTEGER, updated INTEGER, archived INTEGER DEFAULT 0,
    archived_at INTEGER, shown TEXT, shown_until INTEGER DEFAULT 0, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hs_by_change ON hs_objects (kind, archived, updated);
CREATE INDEX IF NOT EXISTS hs_lagging ON hs_objects (shown_until) WHERE shown_until > 0;
CREATE TABLE IF NOT EXISTS hs_history (
    kind TEXT, id INTEGER, property TEXT, entries TEXT, PRIMARY KEY (kind, id, property)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hs_unique (
    kind TEXT, property TEXT, value TEXT, id INTEGER, PRIMARY KEY (kind, property, value)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hs_links (
    kind TEXT, id INTEGER, to_kind TEXT, to_id INTEGER, type_id INTEGER, label TEXT,
    PRIMARY KEY (kind, id, to_kind, to_id, type_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hs_merged (kind TEXT, id INTEGER, into_id INTEGER, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hs_settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Record(NamedTuple):
    """One object as it is stored; times in milliseconds since 1970."""

    id: int
    properties: Json
    created: int
    updated: int
    archived: bool
    archived_at: int | None


class Source(NamedTuple):
    """Who changes something, as history tells it."""

    type: str = "INTEGRATION"
    id: str = ""
    user: int | None = None


class Records:
    """The store. `now` gives the sandbox's time in milliseconds; `lag` is how far the search index is behind."""

    def __init__(self, db: sqlite3.Connection, now: Callable[[], int]) -> None:
        self.db, self.now = db, now
        self.lag = 0
        self._last_write = 0
        db.executescript(_TABLES)

    # --- Settings ---------------------------------------------------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        found = self.db.execute("SELECT value FROM hs_settings WHERE name = ?", (name,)).fetchone()
        return orjson.loads(found[0]) if found else default

    def set(self, name: str, value: Any) -> None:
        text = orjson.dumps(value).decode()
        self.db.execute("INSERT OR REPLACE INTO hs_settings VALUES (?, ?)", (name, text))

    # --- Reading ----------------------------------------------------------------------------------------------

    def page(self, kind: str, *, after: int, limit: int, archived: bool) -> list[Record]:
        found = self.db.execute(
            "SELECT id, properties, created, updated, archived, archived_at FROM hs_objects "
            "WHERE kind = ? AND id >= ? AND archived = ? ORDER BY id LIMIT ?",
            (kind, after, archived, limit),
        )
        return [_record(row) for row in found]

    def get(self, kind: str, ids: Iterable[int], *, archived: bool = False) -> dict[int, Record]:
        wanted = [self.merged_into(kind, i) for i in ids]
        marks = ", ".join("?" * len(wanted))
        found = self.db.execute(
            "SELECT id, properties, created, updated, archived, archived_at FROM hs_objects "
            f"WHERE kind = ? AND archived = ? AND id IN ({marks})",
            (kind, archived, *wanted),
        )
        by_id = {row[0]: _record(row) for row in found}
        return {i: by_id[real] for i, real in zip(ids, wanted, strict=True) if real in by_id}

    def by_unique(self, kind: str, name: str, value: str) -> int | None:
        found = self.db.execute(
            "SELECT id FROM hs_unique WHERE kind = ? AND property = ? AND value = ?", (kind, name, value)
        ).fetchone()
        return int(found[0]) if found else None

    def histories(self, kind: str, ids: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, bytes]]:
        """Return the JSON text of each history, newest entry first."""
        if not ids or not names:
            return {}
        marks, named = ", ".join("?" * len(ids)), ", ".join("?" * len(names))
        found: dict[int, dict[str, bytes]] = {}
        for i, name, entries in self.db.execute(
            "SELECT id, property, entries FROM hs_history "
            f"WHERE kind = ? AND id IN ({marks}) AND property IN ({named})",
            (kind, *ids, *names),
        ):
            found.setdefault(i, {})[name] = entries.encode()
        return found

    def links(
        self, kind: str, ids: Sequence[int], to_kind: str
    ) -> dict[int, list[tuple[int, int, str | None]]]:
        """Return (to, type id, label) by record, in the order of the targets."""
        marks = ", ".join("?" * len(ids))
        found: dict[int, list[tuple[int, int, str | None]]] = {}
        for i, to, type_id, label in self.db.execute(
            f"SELECT id, to_id, type_id, label FROM hs_links WHERE kind = ? AND to_kind = ? AND id IN ({marks}) "
            "ORDER BY id, to_id, type_id",
            (kind, to_kind, *ids),
        ):
            found.setdefault(i, []).append((to, type_id, label))
        return found

    def merged_into(self, kind: str, i: int) -> int:
        found = self.db.execute(
            "SELECT into_id FROM hs_merged WHERE kind = ? AND id = ?", (kind, i)
        ).fetchone()
        return int(found[0]) if found else i

    # --- Writing ----------------------------------------------------------------------------------------------

    def _moment(self) -> int:
        """Return the time of a write: no two have the same, even while the sandbox's clock stands still."""
        self._last_write = max(self.now(), self._last_write + 1)
        return self._last_write

    def next_id(self, kind: str) -> int:
        found = self.db.execute("SELECT max(id) FROM hs_objects WHERE kind = ?", (kind,)).fetchone()[0]
        return int(found or 9_000_000_000) + 1

    def create(
        self, kind: str, properties: Mapping[str, str], source: Source, unique: Iterable[str] = ()
    ) -> Record:
        now, i = self._moment(), self.next_id(kind)
        given: Json = {n: v for n, v in properties.items() if v not in (None, "")}
        given |= {"hs_object_id": str(i), "hs_createdate": iso(now), "hs_lastmodifieddate": iso(now)}
        if kind in ("deals", "companies"):
            given.setdefault("createdate", iso(now))
        self.db.execute(
            "INSERT INTO hs_objects (kind, id, properties, created, updated, shown_until) VALUES (?, ?, ?, ?, ?, ?)",
            (kind, i, orjson.dumps(given).decode(), now, now, now + self.lag if self.lag else 0),
        )
        for name in unique:
            if name in given:
                self.db.execute("INSERT INTO hs_unique VALUES (?, ?, ?, ?)", (kind, name, given[name], i))
        self._remember(kind, i, given, now, source)
        return Record(i, given, now, now, False, None)

    def update(
        self,
        kind: str,
        record: Record,
        properties: Mapping[str, str | None],
        source: Source,
        unique: Iterable[str] = (),
    ) -> Record:
        """Set properties and remember those that changed; a blank removes one. Even an idle write is a modification."""
        now = self._moment()
        changed = {
            n: v or None for n, v in properties.items() if (v or None) != (record.properties.get(n) or None)
        }
        after = {**record.properties, **changed, "hs_lastmodifieddate": iso(now)}
        self._put(kind, record, {n: v for n, v in after.items() if v is not None}, now)
        for name in unique:
            if name in changed:
                self.db.execute(
                    "DELETE FROM hs_unique WHERE kind = ? AND property = ? AND id = ?",
                    (kind, name, record.id),
                )
                if changed[name]:
                    self.db.execute(
                        "INSERT INTO hs_unique VALUES (?, ?, ?, ?)", (kind, name, changed[name], record.id)
                    )
        self._remember(kind, record.id, changed, now, source)
        return record._replace(properties={n: v for n, v in after.items() if v is not None}, updated=now)

    def touch(self, kind: str, i: int, properties: Mapping[str, str | None]) -> None:
        """Set what HubSpot itself keeps up to date, such as a deal's next activity: modified, without history."""
        found = self.get(kind, [i]).get(i)
        if found:
            now = self._moment()
            after = {**found.properties, **properties, "hs_lastmodifieddate": iso(now)}
            self._put(kind, found, {n: v for n, v in after.items() if v is not None}, now)

    def _put(self, kind: str, before: Record, properties: Json, now: int) -> None:
        """Store; while the search index lags it goes on showing what it showed."""
        self.db.execute(
            "UPDATE hs_objects SET properties = ?, updated = ?, "
            "shown = CASE WHEN ? = 0 OR shown_until > ? THEN shown ELSE ? END, "
            "shown_until = CASE WHEN ? = 0 THEN shown_until ELSE ? END WHERE kind = ? AND id = ?",
            (
                orjson.dumps(properties).decode(), now, self.lag, now, orjson.dumps(before.properties).decode(),
                self.lag, now + self.lag, kind, before.id,
            ),
        )  # fmt: skip

    def archive(self, kind: str, ids: Iterable[int]) -> None:
        """Put into the recycle bin, which modifies nothing."""
        now = self.now()
        for i in ids:
            self.db.execute(
                "UPDATE hs_objects SET archived = 1, archived_at = ? WHERE kind = ? AND id = ? AND archived = 0",
                (now, kind, i),
            )
            self.db.execute("DELETE FROM hs_unique WHERE kind = ? AND id = ?", (kind, i))

    def restore(self, kind: str, i: int) -> None:
        self.db.execute(
            "UPDATE hs_objects SET archived = 0, archived_at = NULL WHERE kind = ? AND id = ?", (kind, i)
        )

    def absorb(self, kind: str, i: int, into: int) -> None:
        """Let a record go up in another, which takes its links and answers under its id."""
        self.db.execute("UPDATE OR IGNORE hs_links SET id = ? WHERE kind = ? AND id = ?", (into, kind, i))
        self.db.execute(
            "UPDATE OR IGNORE hs_links SET to_id = ? WHERE to_kind = ? AND to_id = ?", (into, kind, i)
        )
        self.db.execute("DELETE FROM hs_objects WHERE kind = ? AND id = ?", (kind, i))
        self.db.execute("INSERT INTO hs_merged VALUES (?, ?, ?)", (kind, i, into))

    def take_history(self, kind: str, i: int, to: int) -> None:
        """Give a new record the past of another."""
        self.db.execute("DELETE FROM hs_history WHERE kind = ? AND id = ?", (kind, to))
        self.db.execute("UPDATE hs_history SET id = ? WHERE kind = ? AND id = ?", (to, kind, i))

    def link(
        self, kind: str, i: int, to_kind: str, to: int, type_id: int, label: str | None, back: int
    ) -> None:
        rows = [(kind, i, to_kind, to, type_id, label), (to_kind, to, kind, i, back, label)]
        self.db.executemany("INSERT OR REPLACE INTO hs_links VALUES (?, ?, ?, ?, ?, ?)", rows)

    def unlink(self, kind: str, i: int, to_kind: str, to: int) -> None:
        for a, x, b, y in ((kind, i, to_kind, to), (to_kind, to, kind, i)):
            self.db.execute(
                "DELETE FROM hs_links WHERE kind = ? AND id = ? AND to_kind = ? AND to_id = ?", (a, x, b, y)
            )

    def _remember(
        self, kind: str, i: int, changed: Mapping[str, str | None], now: int, source: Source
    ) -> None:
        for name, value in changed.items():
            found = self.db.execute(
                "SELECT entries FROM hs_history WHERE kind = ? AND id = ? AND property = ?", (kind, i, name)
            ).fetchone()
            entries = [entry(value or "", now, source), *(orjson.loads(found[0]) if found else ())]
            self.db.execute(
                "INSERT OR REPLACE INTO hs_history VALUES (?, ?, ?, ?)",
                (kind, i, name, orjson.dumps(entries).decode()),
            )


def entry(value: str, at: int, source: Source) -> Json:
    """Return one entry of a property's history. What is not known is left out, never null."""
    told: Json = {"value": value, "timestamp": iso(at), "sourceType": source.type}
    if source.id:
        told["sourceId"] = source.id
    if source.user is not None:
        told |= {"sourceId": f"userId:{source.user}", "updatedByUserId": source.user}
    return told


def iso(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis % 1000:03d}Z"


def millis(value: Any) -> int:
    """Return milliseconds since 1970 of a naive UTC or aware time; 0 for none."""
    if value is None:
        return 0
    aware: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _record(row: tuple[Any, ...]) -> Record:
    return Record(row[0], orjson.loads(row[1]), row[2], row[3], bool(row[4]), row[5])
