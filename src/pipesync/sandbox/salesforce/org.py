"""One org: records in SQLite, who is signed in, what this user may see, and what the org's admins demand."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from pipesync.sandbox.salesforce.objects import CHILDREN, KINDS, OBJECTS, OWNED, REQUIRED, FieldOf, ObjectOf
from pipesync.sandbox.salesforce.soql import Malformed, Query, parse, stored_time

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
        self.db, self._now_ms = db, now_ms
        self.rules: list[Json] = []
        """Validation rules: {object, field, forbidden, message}."""
        self.cursors: dict[str, tuple[str, list[Json], int]] = {}
        """Locator -> (session that made it, its rows, page size)."""
        self.jobs: dict[str, Job] = {}
        """Bulk queries by id."""
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
        return stored_time(datetime.fromtimestamp(self._now_ms() / 1000 + later, UTC))

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

    # --- Queries ----------------------------------------------------------------------------------------------

    def query(self, text: str, *, is_all: bool) -> tuple[int, list[Json]]:
        """Return the total and the rows as Salesforce writes them."""
        thing, query, where = self._read(text, is_all=is_all)
        if query.is_count:
            sql = f'SELECT count(*) FROM "sf_{thing.name}" AS t WHERE {where}'
            return int(self.db.execute(sql, query.values).fetchone()[0]), []
        if query.group or any("(" in f for f in query.fields):
            return self._grouped(thing, query, where)
        rows = self._records(thing, query, where)
        for child in query.children:
            self._add_children(thing, child, rows)
        return len(rows), rows

    def _records(self, thing: ObjectOf, query: Query, where: str, values: Iterable[Any] = ()) -> list[Json]:
        shapes = [self._shape(thing, f) for f in query.fields]
        found = self.db.execute(self._sql(thing, query, where), (*query.values, *values))
        return [self._row(thing, shapes, row) for row in found]

    def _add_children(self, parent: ObjectOf, query: Query, rows: list[Json]) -> None:
        """Put a child query's records under its relationship's name; null where a record has none."""
        thing, own = self._child(parent, query.entity)
        where = f'({query.where}) AND t."IsDeleted" = 0 AND t."{own}" = ?'
        for row in rows:
            found = self._records(thing, query, where, (row["attributes"]["url"].rpartition("/")[2],))
            told = {"totalSize": len(found), "done": True, "records": found}
            row[query.entity] = told if found else None

    def table(self, text: str, *, is_all: bool) -> tuple[str, list[tuple[str, str]], list[tuple[Any, ...]]]:
        """Return the object, its columns (path, kind) and the bare rows: what a bulk job answers with."""
        thing, query, where = self._read(text, is_all=is_all)
        if (
            query.is_count
            or query.group
            or query.offset
            or query.children
            or any("(" in f for f in query.fields)
        ):
            raise Refused(
                400, "INVALIDJOB", "Aggregate, nested and OFFSET queries are not supported by the Bulk API"
            )
        shapes = [self._shape(thing, f) for f in query.fields]
        rows = [row[1:] for row in self.db.execute(self._sql(thing, query, where), query.values)]
        return thing.name, [(".".join(steps), kind) for steps, kind in shapes], rows

    def _read(self, text: str, *, is_all: bool) -> tuple[ObjectOf, Query, str]:
        """Parse a query for this user; its condition leaves the recycle bin out unless it `is_all`."""
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        things: dict[str, ObjectOf] = {}

        def resolve(name: str, parent: str, alias: str) -> tuple[str, Callable[[str], str]]:
            thing = self._child(things[parent], name)[0] if parent else self.object(name)
            things[name] = thing
            return f'"sf_{thing.name}"', lambda f: self._expression(thing, f, alias)

        try:
            query = parse(text, resolve, now)
        except Malformed as error:
            raise Refused(400, "MALFORMED_QUERY", str(error)) from None
        for field in query.fields:
            self._expression(things[query.entity], field, "t")  # refuses what cannot be seen
        if query.group or any("(" in f for f in query.fields):
            loose = [f for f in query.fields if "(" not in f and f not in query.group]
            if loose:
                raise Refused(400, "MALFORMED_QUERY", f"Field must be grouped or aggregated: {loose[0]}")
        where = query.where if is_all else f'({query.where}) AND t."IsDeleted" = 0'
        if unshared := self.setting("unshared", []):  # records that this user may not see
            where = f'({where}) AND t."Id" NOT IN ({", ".join(repr(str(i)) for i in unshared)})'
        return things[query.entity], query, where

    def _child(self, parent: ObjectOf, relationship: str) -> tuple[ObjectOf, str]:
        """Return the object of a child relationship (`OpportunityLineItems`), and its field that leads back."""
        for thing in OBJECTS.values():
            for name, (own, other) in thing.parents.items():
                if (
                    other == parent.name
                    and child_name(thing.name, name).casefold() == relationship.casefold()
                ):
                    return self.object(thing.name), own
        raise Refused(
            400,
            "INVALID_TYPE",
            f"Didn't understand relationship '{relationship}' in FROM part of query call.",
        )

    def _expression(self, thing: ObjectOf, field: str, table: str) -> str:
        """Return a field or a function of one as SQL."""
        function, is_function, inner = field.rstrip(")").partition("(")
        if not is_function:
            return self.column(thing, field, table)
        function = function.upper()
        said = self.column(thing, inner, table) if inner else "*"
        return f"count(DISTINCT {said})" if function == "COUNT_DISTINCT" else f"{function}({said})"

    def _sql(self, thing: ObjectOf, query: Query, where: str) -> str:
        order = ", ".join(f"{self.column(thing, f)} {d}" for f, d in query.order)
        columns = ", ".join(self.column(thing, f) for f in query.fields)
        sql = f'SELECT t."Id", {columns} FROM "sf_{thing.name}" AS t WHERE {where}'
        sql += f" ORDER BY {order}" if order else ' ORDER BY t."Id"'
        return f"{sql} LIMIT {-1 if query.limit is None else query.limit} OFFSET {query.offset}"

    def _grouped(self, thing: ObjectOf, query: Query, where: str) -> tuple[int, list[Json]]:
        unnamed = [f for f in query.fields if "(" in f and f not in query.aliases]
        names = [
            query.aliases.get(f) or (f"expr{unnamed.index(f)}" if f in unnamed else f.rpartition(".")[2])
            for f in query.fields
        ]
        columns = ", ".join(self._expression(thing, f, "t") for f in query.fields)
        sql = f'SELECT {columns} FROM "sf_{thing.name}" AS t WHERE {where}'
        sql += f" GROUP BY {', '.join(self.column(thing, g) for g in query.group)}" if query.group else ""
        sql += f" HAVING {query.having}" if query.having else ""
        order = ", ".join(f"{self._expression(thing, f, 't')} {d}" for f, d in query.order)
        sql += f" ORDER BY {order}" if order else ""
        sql += f" LIMIT {query.limit}" if query.limit is not None else ""
        rows = [
            {"attributes": {"type": "AggregateResult"}, **dict(zip(names, row, strict=True))}
            for row in self.db.execute(sql, query.values)
        ]
        return len(rows), rows

    def _shape(self, thing: ObjectOf, path: str) -> tuple[tuple[str, ...], str]:
        """Return the path in the names that Salesforce answers with, and the kind of the field at its end."""
        steps = path.split(".")
        for step in steps[:-1]:
            name = {n.casefold(): n for n in thing.parents}[step.casefold()]
            steps[steps.index(step)] = name
            thing = OBJECTS[thing.parents[name][1]]
        last = {n.casefold(): n for n in thing.fields}[steps[-1].casefold()]
        return (*steps[:-1], last), thing.fields[last].kind

    def _row(self, thing: ObjectOf, shapes: list[tuple[tuple[str, ...], str]], row: tuple[Any, ...]) -> Json:
        url = f"/services/data/v62.0/sobjects/{thing.name}/{row[0]}"
        found: Json = {"attributes": {"type": thing.name, "url": url}}
        for (steps, kind), value in zip(shapes, row[1:], strict=True):
            said = bool(value) if kind == "flag" and value is not None else value
            if len(steps) == 1:
                found[steps[0]] = said
                continue
            at = found
            for step in steps[:-1]:
                if at.get(step) is None:
                    at[step] = {"attributes": {"type": step}}
                at = at[step]
            at[steps[-1]] = said
        for steps, _ in shapes:
            if (
                len(steps) == 2
                and found[steps[0]]
                and all(v is None for k, v in found[steps[0]].items() if k != "attributes")
            ):
                found[steps[0]] = None
        return found

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
        """Refuse what concerns an account that someone else is holding."""
        locked = self.setting("locked", [])
        about = (
            record_id if thing.name == "Opportunity" else values.get("WhatId") or values.get("Opportunity__c")
        )
        if not locked or not about:
            return
        found = self.db.execute(
            'SELECT "AccountId" FROM "sf_Opportunity" WHERE "Id" = ?', (about,)
        ).fetchone()
        if found and found[0] in locked:
            raise Refused(
                400, "UNABLE_TO_LOCK_ROW", f"unable to obtain exclusive access to this record: {found[0]}"
            )

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

    def deleted(self, thing: ObjectOf, start: str, end: str) -> list[Json]:
        """Return what went between two moments, into the recycle bin or past it."""
        rows = self.db.execute(
            f'SELECT "Id", "SystemModstamp" AS at FROM "sf_{thing.name}" WHERE "IsDeleted" = 1 '
            "AND at >= :start AND at <= :end "
            "UNION ALL SELECT id, at FROM sf_purged WHERE object = :name AND at >= :start AND at <= :end",
            {"start": start, "end": end, "name": thing.name},
        )
        return [{"id": i, "deletedDate": at} for i, at in rows]

    def updated(self, thing: ObjectOf, start: str, end: str) -> list[str]:
        table = f'"sf_{thing.name}"'
        sql = f'SELECT "Id" FROM {table} WHERE "IsDeleted" = 0 AND "SystemModstamp" BETWEEN ? AND ?'
        return [row[0] for row in self.db.execute(sql, (start, end))]

    def describe(self, thing: ObjectOf) -> Json:
        readonly = self.readonly()
        can = thing.name not in readonly
        may_delete = can and f"{thing.name}:delete" not in readonly
        custom = thing.name.endswith("__c")
        base = f"/services/data/v62.0/sobjects/{thing.name}"
        return {
            "activateable": False, "custom": custom, "customSetting": False, "createable": can, "deletable": may_delete,
            "deprecatedAndHidden": False, "feedEnabled": False, "keyPrefix": thing.prefix, "label": thing.name,
            "labelPlural": f"{thing.name}s", "layoutable": True, "mergeable": thing.name in ("Account", "Lead"),
            "mruEnabled": False, "name": thing.name, "queryable": True, "replicateable": True, "retrieveable": True,
            "searchable": True, "triggerable": True, "undeletable": can, "updateable": can,
            "fields": [self._described(thing, f, readonly) for f in self.visible(thing).values()],
            "childRelationships": [
                {"childSObject": o.name, "field": own, "cascadeDelete": False, "deprecatedAndHidden": False,
                 "relationshipName": child_name(o.name, r)}
                for o in OBJECTS.values() for r, (own, other) in o.parents.items() if other == thing.name
            ],
            "recordTypeInfos": [],
            "urls": {"sobject": base, "describe": f"{base}/describe", "rowTemplate": base + "/{ID}"},
        }  # fmt: skip

    def _described(self, thing: ObjectOf, f: FieldOf, readonly: set[str]) -> Json:
        can = f.is_writeable and f"{thing.name}.{f.name}" not in readonly
        led = {r: other for r, (own, other) in thing.parents.items() if own == f.name}
        is_text = f.kind in ("text", "area", "pick", "combo")
        return {
            "aggregatable": True, "autoNumber": False, "byteLength": 3 * f.length, "calculated": False,
            "caseSensitive": f.is_external_id, "createable": can, "custom": f.name.endswith("__c"),
            "defaultValue": None, "defaultedOnCreate": not f.is_writeable, "deprecatedAndHidden": False,
            "digits": 0, "externalId": f.is_external_id, "filterable": f.kind != "area", "groupable": f.kind != "area",
            "idLookup": f.is_external_id or f.name == "Id", "label": f.name.replace("__c", "").replace("_", " "),
            "length": f.length or (18 if f.kind in ("id", "ref") else 255 if is_text else 0), "name": f.name,
            "nameField": f.name == "Name", "nillable": f.is_writeable, "picklistValues": [],
            "precision": 18 if f.kind in ("money", "number", "percent") else 0,
            "referenceTo": list(led.values()), "relationshipName": next(iter(led), None), "restrictedPicklist": False,
            "scale": 2 if f.kind in ("money", "percent") else 0, "soapType": f"xsd:{KINDS[f.kind]}", "sortable": True,
            "type": KINDS[f.kind], "unique": f.is_external_id and thing.name != "Task", "updateable": can,
        }  # fmt: skip


def child_name(entity: str, relationship: str) -> str:
    """Return what a parent calls its children of this object."""
    return CHILDREN.get((entity, relationship), entity.replace("History", "Historie") + "s")
