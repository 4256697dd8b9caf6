"""Conditions: rows of field, operator and value, joined by all, any and not; typed before anything runs.

A condition is a YAML map whose entries must all hold. An entry is a field with a value (equals), a list (one of) or
a map of operators; or `all`, `any` (lists of maps) or `not` (a map). Reading one checks every leaf against the
catalogue of its level and reports all that is wrong with it, each with its place and the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from pipesync.errors import Problem
from pipesync.features.columns import Column, Kind
from pipesync.store.warehouse import is_pattern
from pipesync.yamlsource import Document, nearest

Scalar = str | int | float | bool | Decimal | date
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Parameter:
    """`$name`: the rule's parameter, as the site and the segment set it."""

    name: str


@dataclass(frozen=True)
class Field:
    """Another field of the same row, times a factor."""

    name: str
    times: float = 1.0


Operand = Scalar | Parameter | Field | timedelta | tuple[Scalar, ...]


@dataclass(frozen=True)
class Leaf:
    """One row of the filter: `field operator value`. `or_missing`: a blank counts as true."""

    field: str
    kind: Kind
    operator: str
    value: Operand
    or_missing: bool = False


@dataclass(frozen=True)
class All:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    part: Condition


Condition = Leaf | All | AnyOf | Not

_ORDERED = ("gt", "gte", "lt", "lte", "between")
_SAME = ("eq", "ne", "in", "not_in")
_ANY = ("missing",)
_TIME = ("within_next", "within_last", "older_than")
OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": (*_SAME, *_ANY, "contains", "matches"),
    "category": (*_SAME, *_ANY),
    "money": (*_SAME, *_ORDERED, *_ANY),
    "number": (*_SAME, *_ORDERED, *_ANY),
    "integer": (*_SAME, *_ORDERED, *_ANY),
    "days": (*_SAME, *_ORDERED, *_ANY),
    "date": (*_SAME, *_ORDERED, *_ANY, *_TIME),
    "moment": (*_ORDERED, *_ANY, *_TIME),
    "flag": ("eq", "ne", *_ANY),
}
"""What can be asked of each kind of field."""

NUMERIC: frozenset[Kind] = frozenset({"money", "number", "integer", "days"})
_JOINS = ("all", "any", "not")


@dataclass
class Reader:
    """Reads conditions of one file against one catalogue, and gathers what is wrong."""

    document: Document
    columns: Mapping[str, Column]
    parameters: Mapping[str, object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Names of the parameters that were met."""

    def complain(self, path: Sequence[str | int], message: str, fix: str = "", *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, fix=fix, key=key))

    def read(self, data: object, path: tuple[str | int, ...]) -> Condition:
        """Return the condition at `path`; parts that are wrong are left out, and complained of."""
        if not isinstance(data, Mapping):
            self.complain(
                path, "expected a map of fields", "write `field: value` or `field: {operator: value}`"
            )
            return All(())
        parts: list[Condition] = []
        for key, value in data.items():
            at = (*path, key)
            if key in ("all", "any"):
                parts.append(self._join(key, value, at))
            elif key == "not":
                parts.append(Not(self.read(value, at)))
            else:
                parts += self._field(key, value, at)
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _join(self, kind: str, value: object, at: tuple[str | int, ...]) -> Condition:
        if not isinstance(value, list) or not value:
            self.complain(
                at, f"`{kind}` takes a list of conditions", f"write `{kind}:` and below it `- field: value`"
            )
            return All(())
        parts = tuple(self.read(v, (*at, i)) for i, v in enumerate(value))
        return All(parts) if kind == "all" else AnyOf(parts)

    def _field(self, name: str, value: object, at: tuple[str | int, ...]) -> list[Condition]:
        kind = self._kind(name, at)
        if kind is None:
            self._spare(value)
            return []
        if isinstance(value, list):
            value = {"in": value}
        elif not isinstance(value, Mapping):
            value = {"eq": value}
        or_missing = value.get("or_missing", False)
        if not isinstance(or_missing, bool):
            self.complain((*at, "or_missing"), "or_missing is true or false")
        leaves: list[Condition] = []
        operators = [k for k in value if k != "or_missing"]
        if not operators:
            self.complain(
                at, f"{name} is not compared with anything", f"operators: {', '.join(OPERATORS[kind])}"
            )
        for operator in operators:
            if operator not in OPERATORS[kind]:
                fix = nearest(operator, OPERATORS[kind])
                self.complain((*at, operator), f"{name} ({kind}) has no operator {operator!r}", fix, key=True)
                self._spare(value[operator])
                continue
            operand = self._operand(name, kind, operator, value[operator], self._at(at, operator))
            if operand is not None:
                leaves.append(Leaf(name, kind, operator, operand, or_missing is True))
        return leaves

    def _spare(self, value: object) -> None:
        """Count parameters of a leaf that is wrong as used: one mistake is one complaint."""
        for item in value.values() if isinstance(value, Mapping) else [value]:
            if isinstance(item, str) and item.startswith("$"):
                self.used.add(item[1:])

    def _at(self, at: tuple[str | int, ...], operator: str) -> tuple[str | int, ...]:
        """The operator may be ours (`field: value` means eq), and then has no place of its own."""
        return (*at, operator) if (*at, operator) in self.document.values else at

    def _kind(self, name: str, at: tuple[str | int, ...]) -> Kind | None:
        if name.startswith("custom.") and "custom" in self.columns:
            return "text"
        column = self.columns.get(name)
        if column is None or name == "custom":
            self.complain(at, f"unknown field {name!r}", nearest(name, (*self.columns, *_JOINS)), key=True)
            return None
        return column.kind

    # --- Values -----------------------------------------------------------------------------------------------

    def _operand(
        self, name: str, kind: Kind, operator: str, value: object, at: tuple[str | int, ...]
    ) -> Operand | None:
        if operator == "missing":
            return self._typed("flag", value, at)
        if operator in _TIME:
            return self._duration(value, at)
        if operator in ("in", "not_in", "between"):
            if not isinstance(value, list) or not value or (operator == "between" and len(value) != 2):
                wanted = "a list of two values, [low, high]" if operator == "between" else "a list of values"
                self.complain(at, f"{operator} takes {wanted}")
                return None
            found = []
            for i, item in enumerate(value):
                if isinstance(item, Mapping) or (isinstance(item, str) and item.startswith("$")):
                    self._spare(item)
                    self.complain(
                        self._item(at, i),
                        f"{operator} takes plain values",
                        "compare with gte and lte instead",
                    )
                    continue
                found.append(self._scalar(name, kind, item, self._item(at, i)))
            return tuple(v for v in found if v is not None and not isinstance(v, Parameter | Field))
        if operator == "matches":
            return self._pattern(value, at)
        return self._scalar(name, kind, value, at)

    def _item(self, at: tuple[str | int, ...], i: int) -> tuple[str | int, ...]:
        return (*at, i) if (*at, i) in self.document.values else at

    def _scalar(
        self, name: str, kind: Kind, value: object, at: tuple[str | int, ...]
    ) -> Scalar | Parameter | Field | None:
        if isinstance(value, str) and value.startswith("$"):
            return self._parameter(value[1:], at, "number" if kind in NUMERIC else None)
        if isinstance(value, Mapping):
            return self._other(kind, value, at)
        found = self._typed(kind, value, at)
        allowed = self.columns[name].values if name in self.columns else ()
        if allowed and found is not None and found not in allowed:
            self.complain(at, f"{name} is never {value!r}", nearest(value, allowed))
            return None
        return found

    def _parameter(self, name: str, at: tuple[str | int, ...], wanted: str | None) -> Parameter | None:
        """Return the parameter where it is of the kind that is compared with: `number`, `duration`, or none at all."""
        if name not in self.parameters:
            self.complain(
                at, f"no parameter {name!r}", nearest(name, self.parameters) or "add it under `params`"
            )
            return None
        self.used.add(name)
        given = self.parameters[name]
        default = given.get("default") if isinstance(given, Mapping) else getattr(given, "default", None)
        kind = "duration" if duration(default) is not None else "number"
        if kind != wanted:
            expected = f"a {wanted}" if wanted else "a plain value"
            self.complain(at, f"${name} is a {kind}, expected {expected}")
            return None
        return Parameter(name)

    def _other(self, kind: Kind, value: Mapping[str, object], at: tuple[str | int, ...]) -> Field | None:
        for key in value:
            if key not in ("field", "times"):
                self.complain((*at, key), f"unknown key {key!r}", nearest(key, ("field", "times")), key=True)
        other = value.get("field")
        column = self.columns.get(str(other))
        if column is None:
            self.complain((*at, "field"), f"unknown field {other!r}", nearest(other, self.columns))
            return None
        if (column.kind in NUMERIC) != (kind in NUMERIC) or (kind not in NUMERIC and column.kind != kind):
            self.complain((*at, "field"), f"a {kind} cannot be compared with {other} ({column.kind})")
            return None
        times = value.get("times", 1)
        if isinstance(times, bool) or not isinstance(times, int | float):
            self.complain((*at, "times"), f"times takes a number, not {times!r}")
            return None
        if times != 1 and kind not in NUMERIC:
            self.complain((*at, "times"), f"a {kind} cannot be multiplied")
            return None
        return Field(str(other), float(times))

    def _typed(self, kind: Kind, value: object, at: tuple[str | int, ...]) -> Scalar | None:
        if kind == "flag":
            if isinstance(value, bool):
                return value
            self.complain(at, f"expected true or false, not {value!r}")
        elif kind in NUMERIC:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return Decimal(str(value)) if kind == "money" else value
            self.complain(at, f"expected a number, not {value!r}")
        elif kind in ("date", "moment"):
            if value == "today":
                return "today"
            try:
                return date.fromisoformat(str(value))
            except ValueError:
                self.complain(at, f"{value!r} is not a date", "write 2026-11-23, or `today`")
        elif isinstance(value, str):
            return value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        else:
            self.complain(
                at,
                f"expected text, not {value!r}",
                "quote it" if value is not None else "use {missing: true}",
            )
        return None

    def _duration(self, value: object, at: tuple[str | int, ...]) -> Operand | None:
        if isinstance(value, str) and value.startswith("$"):
            return self._parameter(value[1:], at, "duration")
        found = duration(value)
        if found is None:
            self.complain(at, f"{value!r} is not a duration", "write 7d, 12h or 2w")
        return found

    def _pattern(self, value: object, at: tuple[str | int, ...]) -> str | None:
        """RE2 does the matching, which takes linear time whatever the pattern is, and knows no look-around."""
        if isinstance(value, str) and is_pattern(value):
            return value
        self.complain(at, f"{value!r} is not a pattern", "write a regular expression, such as ^(test|demo)")
        return None


def duration(value: object) -> timedelta | None:
    """Read `7d`, `12h` or `2w`; None for anything else."""
    found = re.fullmatch(r"(\d{1,5})\s*([hdw])", value.strip()) if isinstance(value, str) else None
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def leaves(condition: Condition) -> list[Leaf]:
    """Return the leaves in the order in which they were written."""
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, Not):
        return leaves(condition.part)
    return [leaf for part in condition.parts for leaf in leaves(part)]


def fields(condition: Condition) -> set[str]:
    """Return every field that the condition reads."""
    found = set()
    for leaf in leaves(condition):
        found.add(leaf.field)
        if isinstance(leaf.value, Field):
            found.add(leaf.value.name)
    return found


def as_moment(value: date) -> datetime:
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the warehouse's times are naive UTC
