"""One org: records in SQLite, who is signed in, what this user may see, and what the org's admins demand."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from pipesync.sandbox.salesforce.objects import OBJECTS, OWNED, REQUIRED, ObjectOf
from pipesync.sandbox.salesforce.soql import stored_time

if TYPE_CHECKING:
    from pipesync.sandbox.salesforce.bulk import Job

Json = dict[str, Any]
ORG_ID, USER_ID = "00DPS0000000000AAA", "005PS0000000000AAA"
"""The org, and the integration user as whom the client is signed in."""
CONSUMER_KEY, CONSUMER_SECRET = "sandbox-consumer", "sandbox-consumer-secret"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Refused(Exception):
    """An answer of the CRM's that is an error: the HTTP status and Salesforce's own body."""

    def __init__(self, status: int, code: str, message: str, fields: Iterable[str] = ()) -> None:
        self.status = status
        self.body: list[Json] = [{"message": message, "errorCode": code}]
        if named := list(fields):
            self.body[0]["fields"] = named
        super().__init__(message)

    @property
    def row_error(self) -> Json:
        """The same as part of a collection's answer, where the code has another name."""
        said = self.body[0]
        return {"statusCode": said["errorCode"], "message": said["message"], "fields": said.get("fields", [])}


def full_id(prefix: str, number: int) -> str:
    """Return an 18-character id: 15 of which tell case apart, and 3 that say which letters are capitals."""
    digits = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    short = f"{prefix}PS0{digits}"[:15]
    tail = ""
    for start in (0, 5, 10):
        bits = sum(1 << i for i, c in enumerate(short[start : start + 5]) if "A" <= c <= "Z")
        tail += _ALPHABET[bits]
    return short + tail


class Org:
    """State and rules of an org."""

    def __init__(self, db: sqlite3.Connection, now_ms: Callable[[], int]) -> None:
        self.db, self.now_ms = db, now_ms
        self.rules: list[Json] = []
        """Validation rules: {object, field, forbidden, message}."""
        self.cursors: dict[str, tuple[str, list[Json], int]] = {}
        """Locator -> (session that made it, its rows, page size)."""
        self.jobs: dict[str, Job] = {}
        """Bulk queries by id."""
        self.touched: list[set[str]] = [set()]
        """Accounts that were saved to: by the writing request of now, and by those before it."""
        self.page_size = 2000
        self.requests = 0
        self.session_limit: int | None = None
        for thing in OBJECTS.values():
            columns = ", ".join(f'"{f}"' for f in thing.fields if f != "Id")
            db.execute(
                f'CREATE TABLE IF NOT EXISTS "sf_{thing.name}" ("Id" TEXT PRIMARY KEY, {columns}) WITHOUT ROWID'
            )
            db.execute(
                f'CREATE INDEX IF NOT EXISTS "sf_{thing.name}_s" ON "sf_{thing.name}" ("SystemModstamp", "Id")'
            )
        for name, column in (("Task", "Pipesync_Key__c"), ("Pipesync_Forecast__c", "Pipesync_Key__c"),
                             ("Pipesync_Finding__c", "Pipesync_Key__c"),
                             ("Task", "WhatId"), ("OpportunityHistory", "OpportunityId")):  # fmt: skip
            db.execute(f'CREATE INDEX IF NOT EXISTS "sf_{name}_{column}" ON "sf_{name}" ("{column}")')
        db.execute("CREATE TABLE IF NOT EXISTS sf_settings (name TEXT PRIMARY KEY, value TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS sf_purged (object TEXT, id TEXT, at TEXT)")

    # --- Settings and sessions --------------------------------------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        found = self.db.execute("SELECT value FROM sf_settings WHERE name = ?", (name,)).fetchone()
        return orjson.loads(found[0]) if found else default

    def settings(self) -> Json:
        return {
            name: orjson.loads(value)
            for name, value in self.db.execute("SELECT name, value FROM sf_settings")
        }

    def put(self, name: str, value: Any) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO sf_settings VALUES (?, ?)", (name, orjson.dumps(value).decode())
        )

    def now(self, later: float = 0) -> str:
        """Return the org's time, or one so many seconds later, as it is stored."""
        return stored_time(datetime.fromtimestamp(self.now_ms() / 1000 + later, UTC))

    def sign_in(self) -> str:
        token = f"00DPS!{secrets.token_hex(16)}"
        self.put("sessions", [*self.setting("sessions", []), token])
        return token

    def require(self, authorization: str) -> str:
        kind, _, token = authorization.partition(" ")
        if kind.casefold() not in ("bearer", "oauth") or token not in self.setting("sessions", []):
            raise Refused(401, "INVALID_SESSION_ID", "Session expired or invalid")
        return token

    def expire(self, authorization: str) -> None:
        token = authorization.partition(" ")[2]
        self.put("sessions", [s for s in self.setting("sessions", []) if s != token])
        self.cursors = {k: c for k, c in self.cursors.items() if c[0] != token}

    # --- What may be seen -------------------------------------------------------------------------------------

    def hidden(self) -> set[str]:
        """Return what the user cannot see: `Object` or `Object.Field`."""
        return set(self.setting("hidden", []))

    def readonly(self) -> set[str]:
        return set(self.setting("readonly", []))

    def object(self, name: str) -> ObjectOf:
        known = {n.casefold(): n for n in OBJECTS}
        found = OBJECTS.get(known.get(name.casefold(), ""))
        if found is None or found.name in self.hidden():
            raise Refused(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
        return found

    def visible(self, thing: ObjectOf) -> dict[str, Any]:
        hidden = self.hidden()
        return {n: f for n, f in thing.fields.items() if f"{thing.name}.{n}" not in hidden}

    def column(self, thing: ObjectOf, path: str, table: str = "t") -> str:
        """Return a field (through relationships) as SQL; INVALID_FIELD where it cannot be seen."""
        head, _, rest = path.partition(".")
        if rest:
            led = {n.casefold(): p for n, p in thing.parents.items()}.get(head.casefold())
            if led is None:
                raise Refused(400, "INVALID_FIELD", f"Didn't understand relationship '{head}' in field path.")
            own, other = led
            inner = self.column(self.object(other), rest, f"{table}_")
            return f'(SELECT {inner} FROM "sf_{other}" AS {table}_ WHERE {table}_."Id" = {table}."{own}")'
        known = {n.casefold(): n for n in self.visible(thing)}
        if head.casefold() not in known:
            raise Refused(400, "INVALID_FIELD", f"No such column '{head}' on entity '{thing.name}'.")
        return f'{table}."{known[head.casefold()]}"'

    # --- Writing ----------------------------------------------------------------------------------------------

    def next_id(self, thing: ObjectOf) -> str:
        number = self.setting(f"next.{thing.name}", 1)
        self.put(f"next.{thing.name}", number + 1)
        return full_id(thing.prefix, number)

    def insert(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put rows in as they are: for filling."""
        thing = OBJECTS[name]
        columns = ", ".join(f'"{f}"' for f in thing.fields)
        marks = ", ".join("?" for _ in thing.fields)
        self.db.executemany(
            f'INSERT INTO "sf_{name}" ({columns}) VALUES ({marks})',
            ([row.get(f, 0 if f == "IsDeleted" else None) for f in thing.fields] for row in rows),
        )

    def find(self, thing: ObjectOf, field: str, value: str) -> list[str]:
        sql = f'SELECT "Id" FROM "sf_{thing.name}" WHERE "{field}" = ? AND "IsDeleted" = 0'
        return [row[0] for row in self.db.execute(sql, (value,))]

    def save(self, thing: ObjectOf, given: Mapping[str, Any], record_id: str | None) -> tuple[str, bool]:
        """Create or change a record as its user; return (id, created). Refused says why not."""
        values = {n: v for n, v in given.items() if n not in ("attributes", "Id", "id")}
        self._check(thing, values, is_new=record_id is None)
        self._check_lock(thing, values, record_id)
        values = {n: v for n, v in values.items() if f"{thing.name}.{n}" not in self.setting("ignored", [])}
        now = self.now()
        if thing.name == "Task" and "Status" in values:
            values["IsClosed"] = int(values["Status"] == "Completed")
            values["CompletedDateTime"] = now if values["IsClosed"] else None
        values = {n: int(v) if isinstance(v, bool) else v for n, v in values.items()}
        values |= {"LastModifiedDate": now, "SystemModstamp": now}
        if record_id is None:
            record_id = self.next_id(thing)
            defaults: Json = {"OwnerId": USER_ID} if "OwnerId" in thing.fields else {}
            if thing.name == "Task":
                defaults |= {"Status": "Not Started", "Priority": "Normal", "IsClosed": 0}
            row = {
                **defaults,
                "CreatedDate": now,
                "CreatedById": USER_ID,
                **values,
                "Id": record_id,
                "IsDeleted": 0,
            }
            self.insert(thing.name, [row])
            return record_id, True
        sets = ", ".join(f'"{n}" = ?' for n in values)
        done = self.db.execute(
            f'UPDATE "sf_{thing.name}" SET {sets} WHERE "Id" = ? AND "IsDeleted" = 0',
            (*values.values(), record_id),
        )
        if not done.rowcount:
            raise Refused(404, "ENTITY_IS_DELETED", "entity is deleted")
        return record_id, False

    def _check(self, thing: ObjectOf, values: Mapping[str, Any], *, is_new: bool) -> None:
        visible, readonly = self.visible(thing), self.readonly()
        if thing.name in readonly:
            said = f"entity type cannot be {'inserted' if is_new else 'updated'}: {thing.name}"
            raise Refused(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", said)
        for name, value in values.items():
            if name not in visible:
                raise Refused(
                    400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {thing.name}", [name]
                )
            said = visible[name]
            if not said.is_writeable or f"{thing.name}.{name}" in readonly:
                raise Refused(
                    400, "INVALID_FIELD_FOR_INSERT_UPDATE",
                    f"Unable to create/update fields: {name}. Please check the security settings of this field.",
                    [name],
                )  # fmt: skip
            if said.length and isinstance(value, str) and len(value) > said.length:
                raise Refused(
                    400, "STRING_TOO_LONG", f"{name}: data value too large (max length={said.length})", [name]
                )
            if said.kind == "ref" and name == "OwnerId" and value and not self._is_active(value):
                raise Refused(400, "INACTIVE_OWNER_OR_USER", "operation performed with inactive user", [name])
        missing = [f for f in REQUIRED.get(thing.name, ()) if is_new and not values.get(f)]
        if missing:
            raise Refused(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: {missing}", missing)
        for rule in self.setting("rules", []):
            if rule["object"] == thing.name and values.get(rule["field"]) == rule["forbidden"]:
                raise Refused(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", rule["message"], [rule["field"]])

    def _check_lock(self, thing: ObjectOf, values: Mapping[str, Any], record_id: str | None) -> None:
        """Refuse what concerns an account that someone else is holding: people, or what a save of ours has set off."""
        busy = self.touched[1 : 1 + self.setting("busy_after", 0)]
        locked = set(self.setting("locked", [])).union(*busy)
        about = (
            record_id if thing.name == "Opportunity" else values.get("WhatId") or values.get("Opportunity__c")
        )
        if not about:
            return
        found = self.db.execute(
            'SELECT "AccountId" FROM "sf_Opportunity" WHERE "Id" = ?', (about,)
        ).fetchone()
        if found and found[0] in locked:
            raise Refused(
                400, "UNABLE_TO_LOCK_ROW", f"unable to obtain exclusive access to this record: {found[0]}"
            )
        if found and found[0]:
            self.touched[0].add(found[0])

    def _is_active(self, user: str) -> bool:
        found = self.db.execute('SELECT "IsActive" FROM "sf_User" WHERE "Id" = ?', (user,)).fetchone()
        return bool(found and found[0])

    def delete(self, record_id: str) -> None:
        """Put a record into the recycle bin."""
        thing = next((o for o in OBJECTS.values() if record_id.startswith(o.prefix)), None)
        if thing is None:
            raise Refused(404, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if f"{thing.name}:delete" in self.readonly():
            raise Refused(403, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id")
        now = self.now()
        done = self.db.execute(
            f'UPDATE "sf_{thing.name}" SET "IsDeleted" = 1, "SystemModstamp" = ? WHERE "Id" = ? AND "IsDeleted" = 0',
            (now, record_id),
        )
        if not done.rowcount:
            raise Refused(404, "ENTITY_IS_DELETED", "entity is deleted")
        for name, own in self._belongings(thing):
            self.db.execute(
                f'UPDATE "sf_{name}" SET "IsDeleted" = 1, "SystemModstamp" = ? WHERE "{own}" = ? AND "IsDeleted" = 0',
                (now, record_id),
            )

    def _belongings(self, thing: ObjectOf) -> Iterable[tuple[str, str]]:
        """Yield what goes with an opportunity, and the field by which it belongs to it."""
        if thing.name == "Opportunity":
            for name in OWNED:
                yield (
                    name,
                    next(own for own, parent in OBJECTS[name].parents.values() if parent == "Opportunity"),
                )

    def merge(self, loser: str, winner: str) -> None:
        """Merge one record into another of its kind: what belonged to the loser is the winner's."""
        kind = next(o.name for o in OBJECTS.values() if loser.startswith(o.prefix))
        for thing in OBJECTS.values():
            for own, other in thing.parents.values():
                if other == kind:
                    self.db.execute(
                        f'UPDATE "sf_{thing.name}" SET "{own}" = ?, "SystemModstamp" = ? WHERE "{own}" = ?',
                        (winner, self.now(), loser),
                    )
        self.delete(loser)

    def purge(self, record_id: str) -> None:
        """Delete a record for good, past the recycle bin: no query finds it any more."""
        thing = next(o for o in OBJECTS.values() if record_id.startswith(o.prefix))
        for name, own in ((thing.name, "Id"), *self._belongings(thing)):
            self.db.execute(
                f'INSERT INTO sf_purged SELECT ?, "Id", ? FROM "sf_{name}" WHERE "{own}" = ?',
                (name, self.now(), record_id),
            )
            self.db.execute(f'DELETE FROM "sf_{name}" WHERE "{own}" = ?', (record_id,))
