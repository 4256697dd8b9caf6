"""What an org answers to a query, as this user: rows as Salesforce writes them, or bare ones for a bulk job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pipesync.sandbox.salesforce.describing import child_name
from pipesync.sandbox.salesforce.objects import OBJECTS, ObjectOf
from pipesync.sandbox.salesforce.org import Json, Org, Refused
from pipesync.sandbox.salesforce.soql import Malformed, Query, parse

_MOST_UNBOUNDED = 200
"""Rows of a query for fields whose number nobody limits."""


def answer(org: Org, text: str, *, is_all: bool) -> tuple[int, list[Json]]:
    """Return the total and the rows as Salesforce writes them."""
    thing, query, where = _read(org, text, is_all=is_all)
    if query.is_count:
        sql = f'SELECT count(*) FROM "sf_{thing.name}" AS t WHERE {where}'
        return int(org.db.execute(sql, query.values).fetchone()[0]), []
    if query.group or any("(" in f for f in query.fields):
        return _grouped(org, thing, query, where)
    rows = _records(org, thing, query, where)
    for child in query.children:
        _add_children(org, thing, child, rows)
    return len(rows), rows


def _records(org: Org, thing: ObjectOf, query: Query, where: str, values: Iterable[Any] = ()) -> list[Json]:
    shapes = [_shape(thing, f) for f in query.fields]
    found = org.db.execute(_sql(org, thing, query, where), (*query.values, *values))
    return [_row(thing, shapes, row) for row in found]


def _add_children(org: Org, parent: ObjectOf, query: Query, rows: list[Json]) -> None:
    """Put a child query's records under its relationship's name; null where a record has none."""
    thing, own = _child(org, parent, query.entity)
    where = f'({query.where}) AND t."IsDeleted" = 0 AND t."{own}" = ?'
    for row in rows:
        found = _records(org, thing, query, where, (row["attributes"]["url"].rpartition("/")[2],))
        told = {"totalSize": len(found), "done": True, "records": found}
        row[query.entity] = told if found else None


def table(org: Org, text: str, *, is_all: bool) -> tuple[str, list[tuple[str, str]], list[tuple[Any, ...]]]:
    """Return the object, its columns (path, kind) and the bare rows: what a bulk job answers with."""
    thing, query, where = _read(org, text, is_all=is_all)
    if query.is_count or query.group or query.offset or query.children or any("(" in f for f in query.fields):
        raise Refused(
            400, "INVALIDJOB", "Aggregate, nested and OFFSET queries are not supported by the Bulk API"
        )
    shapes = [_shape(thing, f) for f in query.fields]
    rows = [row[1:] for row in org.db.execute(_sql(org, thing, query, where), query.values)]
    return thing.name, [(".".join(steps), kind) for steps, kind in shapes], rows


def _read(org: Org, text: str, *, is_all: bool) -> tuple[ObjectOf, Query, str]:
    """Parse a query for this user; its condition leaves the recycle bin out unless it `is_all`."""
    now = datetime.fromtimestamp(org.now_ms() / 1000, UTC)
    things: dict[str, ObjectOf] = {}

    def resolve(name: str, parent: str, alias: str) -> tuple[str, Callable[[str], str]]:
        thing = _child(org, things[parent], name)[0] if parent else org.object(name)
        things[name] = thing
        return f'"sf_{thing.name}"', lambda f: _expression(org, thing, f, alias)

    try:
        query = parse(text, resolve, now)
    except Malformed as error:
        raise Refused(400, "MALFORMED_QUERY", str(error)) from None
    query = replace(query, fields=_named(org, things[query.entity], query))
    for field in query.fields:
        _expression(org, things[query.entity], field, "t")  # refuses what cannot be seen
    if query.group or any("(" in f for f in query.fields):
        loose = [f for f in query.fields if "(" not in f and f not in query.group]
        if loose:
            raise Refused(400, "MALFORMED_QUERY", f"Field must be grouped or aggregated: {loose[0]}")
    where = query.where if is_all else f'({query.where}) AND t."IsDeleted" = 0'
    if unshared := org.setting("unshared", []):  # records that this user may not see
        where = f'({where}) AND t."Id" NOT IN ({", ".join(repr(str(i)) for i in unshared)})'
    return things[query.entity], query, where


def _named(org: Org, thing: ObjectOf, query: Query) -> tuple[str, ...]:
    """Return a query's fields, each by its name: `FIELDS(...)` is all of a kind that this user sees."""
    named: list[str] = []
    for field in query.fields:
        if not field.startswith("FIELDS("):
            named.append(field)
            continue
        if field != "FIELDS(STANDARD)" and not 0 < (query.limit or 0) <= _MOST_UNBOUNDED:
            said = f"The SOQL FIELDS function must have a LIMIT of at most {_MOST_UNBOUNDED}"
            raise Refused(400, "MALFORMED_QUERY", said)
        wanted = {"FIELDS(STANDARD)": (False,), "FIELDS(CUSTOM)": (True,)}.get(field, (False, True))
        named += [f for f in org.visible(thing) if f.endswith("__c") in wanted]
    if twice := next((f for f in named if named.count(f) > 1), None):
        raise Refused(400, "INVALID_FIELD", f"duplicate field selected: {twice}")
    return tuple(named)


def _child(org: Org, parent: ObjectOf, relationship: str) -> tuple[ObjectOf, str]:
    """Return the object of a child relationship (`OpportunityLineItems`), and its field that leads back."""
    for thing in OBJECTS.values():
        for name, (own, other) in thing.parents.items():
            if other == parent.name and child_name(thing.name, name).casefold() == relationship.casefold():
                return org.object(thing.name), own
    raise Refused(
        400,
        "INVALID_TYPE",
        f"Didn't understand relationship '{relationship}' in FROM part of query call.",
    )


def _expression(org: Org, thing: ObjectOf, field: str, table: str) -> str:
    """Return a field or a function of one as SQL."""
    function, is_function, inner = field.rstrip(")").partition("(")
    if not is_function:
        return org.column(thing, field, table)
    function = function.upper()
    said = org.column(thing, inner, table) if inner else "*"
    return f"count(DISTINCT {said})" if function == "COUNT_DISTINCT" else f"{function}({said})"


def _sql(org: Org, thing: ObjectOf, query: Query, where: str) -> str:
    order = ", ".join(f"{org.column(thing, f)} {d}" for f, d in query.order)
    columns = ", ".join(org.column(thing, f) for f in query.fields)
    sql = f'SELECT t."Id", {columns} FROM "sf_{thing.name}" AS t WHERE {where}'
    sql += f" ORDER BY {order}" if order else ' ORDER BY t."Id"'
    return f"{sql} LIMIT {-1 if query.limit is None else query.limit} OFFSET {query.offset}"


def _grouped(org: Org, thing: ObjectOf, query: Query, where: str) -> tuple[int, list[Json]]:
    unnamed = [f for f in query.fields if "(" in f and f not in query.aliases]
    names = [
        query.aliases.get(f) or (f"expr{unnamed.index(f)}" if f in unnamed else f.rpartition(".")[2])
        for f in query.fields
    ]
    columns = ", ".join(_expression(org, thing, f, "t") for f in query.fields)
    sql = f'SELECT {columns} FROM "sf_{thing.name}" AS t WHERE {where}'
    sql += f" GROUP BY {', '.join(org.column(thing, g) for g in query.group)}" if query.group else ""
    sql += f" HAVING {query.having}" if query.having else ""
    order = ", ".join(f"{_expression(org, thing, f, 't')} {d}" for f, d in query.order)
    sql += f" ORDER BY {order}" if order else ""
    sql += f" LIMIT {query.limit}" if query.limit is not None else ""
    rows = [
        {"attributes": {"type": "AggregateResult"}, **dict(zip(names, row, strict=True))}
        for row in org.db.execute(sql, query.values)
    ]
    return len(rows), rows


def _shape(thing: ObjectOf, path: str) -> tuple[tuple[str, ...], str]:
    """Return the path in the names that Salesforce answers with, and the kind of the field at its end."""
    steps = path.split(".")
    for step in steps[:-1]:
        name = {n.casefold(): n for n in thing.parents}[step.casefold()]
        steps[steps.index(step)] = name
        thing = OBJECTS[thing.parents[name][1]]
    last = {n.casefold(): n for n in thing.fields}[steps[-1].casefold()]
    return (*steps[:-1], last), thing.fields[last].kind


def _row(thing: ObjectOf, shapes: list[tuple[tuple[str, ...], str]], row: tuple[Any, ...]) -> Json:
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


def deleted(org: Org, thing: ObjectOf, start: str, end: str) -> list[Json]:
    """Return what went between two moments, into the recycle bin or past it."""
    rows = org.db.execute(
        f'SELECT "Id", "SystemModstamp" AS at FROM "sf_{thing.name}" WHERE "IsDeleted" = 1 '
        "AND at >= :start AND at <= :end "
        "UNION ALL SELECT id, at FROM sf_purged WHERE object = :name AND at >= :start AND at <= :end",
        {"start": start, "end": end, "name": thing.name},
    )
    return [{"id": i, "deletedDate": at} for i, at in rows]


def updated(org: Org, thing: ObjectOf, start: str, end: str) -> list[str]:
    table = f'"sf_{thing.name}"'
    sql = f'SELECT "Id" FROM {table} WHERE "IsDeleted" = 0 AND "SystemModstamp" BETWEEN ? AND ?'
    return [row[0] for row in org.db.execute(sql, (start, end))]
