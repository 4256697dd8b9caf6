"""Search filters as SQL: HubSpot's operators over properties, typed by their definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pipesync.sandbox.hubspot.records import Json, iso

_COLUMNS = {"hs_object_id": "id", "hs_lastmodifieddate": "updated", "hs_createdate": "created"}
_COMPARE = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
OPERATORS = (
    *_COMPARE, "BETWEEN", "IN", "NOT_IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN",
)  # fmt: skip
MAX_GROUPS, MAX_FILTERS, MAX_ALL = 5, 6, 18
"""As the documentation says; a changelog says more."""


class BadFilter(Exception):
    """The search is refused with 400, and this reason."""


class Clause(NamedTuple):
    sql: str
    values: list[Any]


def where(groups: Sequence[Json], types: Mapping[str, str]) -> Clause:
    """Return the condition of filter groups: any group, all of its filters. `types` are those of the properties."""
    if len(groups) > MAX_GROUPS or sum(len(g.get("filters", ())) for g in groups) > MAX_ALL:
        raise BadFilter("too many filter groups or filters")
    any_of, values = [], []
    for group in groups:
        filters = group.get("filters", [])
        if len(filters) > MAX_FILTERS:
            raise BadFilter(f"a filter group has more than {MAX_FILTERS} filters")
        parts = [_filter(f, types) for f in filters]
        if parts:
            any_of.append("(" + " AND ".join(p.sql for p in parts) + ")")
            values += [v for p in parts for v in p.values]
    return Clause(" OR ".join(any_of) or "1", values)


def order(sorts: Sequence[Any], types: Mapping[str, str]) -> str:
    """Return ORDER BY terms. Sorts are objects as documented, or names as the published specification has them."""
    if len(sorts) > 1:
        raise BadFilter("only one sort is allowed")
    for one in sorts:
        name = one.get("propertyName", "") if isinstance(one, dict) else str(one).lstrip("-")
        down = one.get("direction") == "DESCENDING" if isinstance(one, dict) else str(one).startswith("-")
        _known(name, types)
        return f"{_expression(name, types)} {'DESC' if down else 'ASC'}, id"
    return "created DESC, id"


def _filter(given: Json, types: Mapping[str, str]) -> Clause:
    name, operator = str(given.get("propertyName", "")), str(given.get("operator", ""))
    if operator not in OPERATORS:
        raise BadFilter(f"unknown operator {operator}")
    _known(name, types)
    sql = _expression(name, types)
    if operator == "HAS_PROPERTY":
        return Clause(f"{sql} IS NOT NULL", [])
    if operator == "NOT_HAS_PROPERTY":
        return Clause(f"{sql} IS NULL", [])
    if operator in ("IN", "NOT_IN"):
        values = given.get("values")
        if not values:
            raise BadFilter(f"{operator} needs values")
        marks = ", ".join("?" * len(values))
        negation = "NOT " if operator == "NOT_IN" else ""
        return Clause(f"{sql} {negation}IN ({marks})", [_value(name, v, types) for v in values])
    if "value" not in given:
        raise BadFilter(f"{operator} needs a value")
    value = _value(name, given["value"], types)
    if operator == "BETWEEN":
        return Clause(f"{sql} BETWEEN ? AND ?", [value, _value(name, given.get("highValue"), types)])
    if operator.endswith("CONTAINS_TOKEN"):
        negation = "NOT " if operator.startswith("NOT") else ""
        return Clause(f"{sql} {negation}LIKE ?", ["%" + str(given["value"]).replace("*", "%") + "%"])
    return Clause(f"{sql} {_COMPARE[operator]} ?", [value])


def _known(name: str, types: Mapping[str, str]) -> None:
    if name not in types:
        raise BadFilter(f"There was a problem with the request: property {name} does not exist")


def _expression(name: str, types: Mapping[str, str]) -> str:
    """Return the property as SQL. A name that gets here is one of the definitions', never the request's own text."""
    if column := _COLUMNS.get(name):
        return column
    text = "json_extract(properties, '$.\"" + name.replace("'", "").replace('"', "") + "\"')"
    if types[name] == "number":
        return f"CAST({text} AS REAL)"
    return text if types[name] in ("datetime", "date") else f"lower({text})"


def _value(name: str, given: Any, types: Mapping[str, str]) -> Any:
    """Return a filter's value as it compares: moments may come as milliseconds, numbers as text."""
    text = str(given)
    try:
        if name in ("hs_lastmodifieddate", "hs_createdate"):
            return int(text) if text.lstrip("-").isdigit() else _millis(text)
        if name == "hs_object_id":
            return int(text)
        if types[name] == "number":
            return float(text)
        if types[name] == "datetime":
            return iso(int(text)) if text.lstrip("-").isdigit() else text
    except ValueError:
        raise BadFilter(f"{name} cannot be compared with this value") from None
    return text if types[name] == "date" else text.lower()


def _millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
