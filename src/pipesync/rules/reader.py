"""Conditions as people write them: a YAML map whose entries must all hold; typed before anything runs.

An entry is a field with a value (equals), a list (one of) or a map of operators; or `all`, `any` (lists of maps) or
`not` (a map). Reading checks every leaf against the catalogue of its level and reports all that is wrong with it,
each with its place and the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal

from pipesync.errors import Problem
from pipesync.features.columns import Column, Kind
from pipesync.rules.conditions import (
    CHANGED,
    NUMERIC,
    OPERATORS,
    TIMED,
    All,
    AnyOf,
    Condition,
    Field,
    Leaf,
    Not,
    Operand,
    Parameter,
    Scalar,
    span,
)
from pipesync.store.opening import is_pattern
from pipesync.yamlsource import Document, nearest

_JOINS = ("all", "any", "not")
_MEANT = {
    ">": "gt", ">=": "gte", "=>": "gte", "<": "lt", "<=": "lte", "=<": "lte", "=": "eq", "==": "eq", "!=": "ne",
    "<>": "ne", "equals": "eq", "is": "eq", "is_not": "ne", "not": "ne", "greater_than": "gt", "less_than": "lt",
    "before": "lt", "after": "gt", "like": "contains", "is_null": "missing", "blank": "missing",
    "or": "any", "and": "all",
}  # fmt: skip
"""What other languages call our operators and joins."""
_COUNTED = {"older_than": "gt", "within_last": "lte", "within_next": "lte"}
_COMPARISON = re.compile(r"\s*([A-Za-z_.0-9]+)\s*(>=|<=|=>|=<|==|!=|<>|>|<|=)\s*(.+?)\s*")
_NUMBER = re.compile(r"[^\d-]{0,4}(-?\d{1,3}(?:[ ,_']\d{3})+|-?\d+)(\.\d+)?\s*([kKmM]?)\s*[^\d]{0,4}")
UNITS = (
    "business_days", "days", "weeks", "hours", "home_currency", "share", "percent", "times", "count"
)  # fmt: skip
"""Of a parameter. Those of time make a number usable where a duration is asked for."""
TIME_UNITS = ("business_days", "days", "weeks", "hours")
_COLUMN_UNITS = {"days": "days", "business days": "business_days", "home currency": "home_currency",
                 "its own currency": "its own currency", "share": "share", "percent": "percent"}  # fmt: skip
ParamKind = Literal["number", "duration", "text", "list"]


def param_kind(default: object) -> ParamKind:
    if isinstance(default, list | tuple):
        return "list"
    if isinstance(default, str):
        return "text" if span(default) is None else "duration"
    return "number"


def like_ours(word: object, known: Iterable[str]) -> str:
    """Return the mend of a word that another language uses, or the nearest of ours."""
    names = tuple(known)
    meant = _MEANT.get(str(word).strip().lower().replace(" ", "_"), "")
    return f"write `{meant}`" if meant in names else nearest(word, names)


def as_number(value: object) -> str:
    """Return the mend of a number with thousands, a unit or a currency in it; empty for what holds none."""
    found = _NUMBER.fullmatch(str(value)) if isinstance(value, str) else None
    if found is None:
        return ""
    whole, rest, many = re.sub(r"[ ,_']", "", found[1]), found[2] or "", found[3].lower()
    number = Decimal(whole + rest) * {"": 1, "k": 1000, "m": 1_000_000}[many]
    return f"write {number.normalize():f}"


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
            fix = "write `field: value` or `field: {operator: value}`"
            if isinstance(data, str) and (told := _COMPARISON.fullmatch(data)):
                fix = f"write `{told[1]}: {{{_MEANT[told[2]]}: {told[3]}}}`"
            self.complain(path, "expected a map of fields", fix)
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
        if isinstance(value, list):
            value = {"in": value}
        elif not isinstance(value, Mapping):
            value = {"eq": value}
        kind = self._kind(name, value, at)
        if kind is None:
            self._spare(value)
            return []
        or_missing = value.get("or_missing", False)
        if not isinstance(or_missing, bool):
            self.complain((*at, "or_missing"), "or_missing is true or false")
        leaves: list[Condition] = []
        operators = [k for k in value if k != "or_missing"]
        allowed = self.operators(name, kind)
        if not operators:
            self.complain(at, f"{name} is not compared with anything", f"operators: {', '.join(allowed)}")
        for operator in operators:
            if operator not in allowed:
                fix = like_ours(operator, (*allowed, "or_missing"))
                if operator in TIMED and kind in NUMERIC:
                    fix = f"it is a number: write `{_COUNTED[operator]}`"
                self.complain((*at, operator), f"{name} ({kind}) has no operator {operator!r}", fix, key=True)
                self._spare(value[operator])
                continue
            operand = self._operand(name, kind, operator, value[operator], self._at(at, operator))
            if operand is None:
                continue
            if operator == CHANGED:
                changed = self.columns[name].changed
                leaves.append(Leaf(changed, "moment", "within_last", operand, or_missing is True))
            else:
                leaves.append(Leaf(name, kind, operator, operand, or_missing is True))
        return leaves

    def operators(self, name: str, kind: Kind) -> tuple[str, ...]:
        """Return what can be asked of a field."""
        column = self.columns.get(name)
        return (*OPERATORS[kind], CHANGED) if column is not None and column.changed else OPERATORS[kind]

    def _spare(self, value: object) -> None:
        """Count parameters of a leaf that is wrong as used: one mistake is one complaint."""
        for item in value.values() if isinstance(value, Mapping) else [value]:
            if isinstance(item, str) and item.startswith("$"):
                self.used.add(item[1:])

    def _at(self, at: tuple[str | int, ...], operator: str) -> tuple[str | int, ...]:
        """The operator may be ours (`field: value` means eq), and then has no place of its own."""
        return (*at, operator) if (*at, operator) in self.document.values else at

    def _kind(self, name: str, asked: Mapping[str, object], at: tuple[str | int, ...]) -> Kind | None:
        column = self.columns.get(name)
        if name.startswith("custom.") and "custom" in self.columns:
            return self._custom_kind(asked) if self._has_custom(name, at) else None
        if column is None or name == "custom":
            fix = like_ours(name, (*self.columns, *_JOINS))
            self.complain(at, f"unknown field {name!r}", fix, key=True)
            return None
        return column.kind

    def _has_custom(self, name: str, at: tuple[str | int, ...]) -> bool:
        """Whether the CRM's mapping has this field; without a CRM to ask every name may be one."""
        mapped = self.columns["custom"].values
        if not mapped or name.removeprefix("custom.") in mapped:
            return True
        fix = nearest(name, [f"custom.{m}" for m in mapped])
        self.complain(at, f"no custom field {name!r} is mapped", fix, key=True)
        return False

    def _custom_kind(self, asked: Mapping[str, object]) -> Kind:
        """A custom field is text in the mirror; what it is compared with says what it is read as."""
        for operator, value in asked.items():
            if operator in TIMED:
                return "date"
            if operator in ("contains", "matches"):
                return "text"
            for item in value if isinstance(value, list) else [value]:
                told = self._default(item[1:]) if isinstance(item, str) and item.startswith("$") else item
                other = self.columns.get(str(item.get("field"))) if isinstance(item, Mapping) else None
                if other is not None:
                    return other.kind
                if isinstance(told, bool) and operator in ("eq", "ne"):
                    return "flag"
                if isinstance(told, int | float) and not isinstance(told, bool):
                    return "number"
                if told == "today" or (isinstance(told, str) and _day(told)):
                    return "date"
        return "text"

    def _default(self, parameter: str) -> object:
        given = self.parameters.get(parameter)
        return given.get("default") if isinstance(given, Mapping) else getattr(given, "default", None)

    def _unit(self, parameter: str) -> str:
        given = self.parameters.get(parameter)
        unit = given.get("unit") if isinstance(given, Mapping) else getattr(given, "unit", None)
        return unit if isinstance(unit, str) else ""

    # --- Values -----------------------------------------------------------------------------------------------

    def _operand(
        self, name: str, kind: Kind, operator: str, value: object, at: tuple[str | int, ...]
    ) -> Operand | None:
        if operator == "missing":
            return self._typed("flag", value, at)
        if operator in TIMED or operator == CHANGED:
            return self._span(value, at)
        if operator in ("in", "not_in") and isinstance(value, str) and value.startswith("$"):
            return self._parameter(value[1:], at, name, kind, "list")
        if operator in ("in", "not_in", "between"):
            if not isinstance(value, list) or not value or (operator == "between" and len(value) != 2):
                wanted = "a list of two values, [low, high]" if operator == "between" else "a list of values"
                self._spare(value)
                self.complain(at, f"{operator} takes {wanted}")
                return None
            found = [self._scalar(name, kind, item, self._item(at, i)) for i, item in enumerate(value)]
            return tuple(v for v in found if v is not None) if None not in found else None
        if operator == "matches":
            return self._pattern(value, at)
        if operator == "contains" and not (isinstance(value, str) and value.startswith("$")):
            return self._typed(kind, value, at)
        return self._scalar(name, kind, value, at)

    def _item(self, at: tuple[str | int, ...], i: int) -> tuple[str | int, ...]:
        return (*at, i) if (*at, i) in self.document.values else at

    def _scalar(
        self, name: str, kind: Kind, value: object, at: tuple[str | int, ...]
    ) -> Scalar | Parameter | Field | None:
        if isinstance(value, str) and value.startswith("$"):
            wanted: ParamKind | None = "number" if kind in NUMERIC else None
            wanted = "text" if kind in ("text", "category") else wanted
            return self._parameter(value[1:], at, name, kind, wanted)
        if isinstance(value, Mapping):
            return self._other(kind, value, at)
        found = self._typed(kind, value, at)
        return found if found is None or self._is_a_value(name, found, at) else None

    def _is_a_value(self, name: str, value: object, at: tuple[str | int, ...]) -> bool:
        allowed = self.columns[name].values if name in self.columns else ()
        if allowed and value not in allowed:
            self.complain(at, f"{name} is never {value!r}", nearest(value, allowed))
            return False
        return True

    def _parameter(
        self, name: str, at: tuple[str | int, ...], of: str, kind: Kind, wanted: ParamKind | None
    ) -> Parameter | None:
        """Return the parameter where it is of the kind, and in the unit, of what it is compared with."""
        if not self._exists(name, at):
            return None
        default = self._default(name)
        found = param_kind(default)
        if found != wanted:
            expected = f"a {wanted}" if wanted else "a plain value"
            self.complain(at, f"${name} is a {found}, expected {expected}")
            return None
        ours = self._unit(name)
        theirs = _COLUMN_UNITS.get(self.columns[of].unit, "") if of in self.columns else ""
        if found == "number" and ours in _COLUMN_UNITS.values() and theirs and ours != theirs:
            said = f"${name} is in {_spoken(ours)}, {of} in {_spoken(theirs)}"
            self.complain(at, said, f"compare a field in {_spoken(ours)}, or correct its `unit`")
            return None
        if found in ("text", "list"):
            told = default if isinstance(default, list | tuple) else [default]
            place = ("params", name, "default")
            fits = [self._typed(kind, v, place) for v in told]
            if None in fits or not all(self._is_a_value(of, v, place) for v in fits):
                return None
        return Parameter(name)

    def _exists(self, name: str, at: tuple[str | int, ...]) -> bool:
        if name not in self.parameters:
            self.complain(
                at, f"no parameter {name!r}", nearest(name, self.parameters) or "add it under `params`"
            )
            return False
        self.used.add(name)
        return True

    def _other(self, kind: Kind, value: Mapping[str, object], at: tuple[str | int, ...]) -> Field | None:
        for key in value:
            if key not in ("field", "times"):
                self.complain((*at, key), f"unknown key {key!r}", nearest(key, ("field", "times")), key=True)
        other = value.get("field")
        if isinstance(other, str) and other.startswith("custom.") and "custom" in self.columns:
            theirs: Kind | None = kind if self._has_custom(other, (*at, "field")) else None
        else:
            column = self.columns.get(str(other))
            theirs = column.kind if column else None
            if theirs is None:
                self.complain((*at, "field"), f"unknown field {other!r}", nearest(other, self.columns))
        if theirs is None:
            return None
        if (theirs in NUMERIC) != (kind in NUMERIC) or (kind not in NUMERIC and theirs != kind):
            self.complain((*at, "field"), f"a {kind} cannot be compared with {other} ({theirs})")
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
            meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower())
            self.complain(at, f"expected true or false, not {value!r}", f"write {meant or 'true or false'}")
        elif kind in NUMERIC:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return Decimal(str(value)) if kind == "money" else value
            self.complain(at, f"expected a number, not {value!r}", as_number(value))
        elif kind in ("date", "moment"):
            if value == "today":
                return "today"
            if found := _day(str(value)):
                return found
            self.complain(at, f"{value!r} is not a date", "write 2026-11-23, or `today`")
        elif isinstance(value, str):
            return value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        else:
            fix = "use {missing: true}" if value is None else "quote it"
            fix = "write `in: [...]`, one of them" if isinstance(value, list) else fix
            self.complain(at, f"expected text, not {value!r}", fix)
        return None

    def _span(self, value: object, at: tuple[str | int, ...]) -> Operand | None:
        if isinstance(value, str) and value.startswith("$"):
            name = value[1:]
            if not self._exists(name, at):
                return None
            kind = param_kind(self._default(name))
            if kind == "duration" or (kind == "number" and self._unit(name) in TIME_UNITS):
                return Parameter(name)
            fix = f"give it a `unit`: {', '.join(TIME_UNITS)}" if kind == "number" else "write 7d, 12h or 2w"
            self.complain(at, f"${name} is a {kind}, expected a duration", fix)
            return None
        found = span(value)
        if found is None:
            self.complain(at, f"{value!r} is not a duration", "write 7d, 12h, 2w or 3 business days")
        return found

    def _pattern(self, value: object, at: tuple[str | int, ...]) -> str | None:
        """RE2 does the matching, which takes linear time whatever the pattern is, and knows no look-around."""
        if isinstance(value, str) and is_pattern(value):
            return value
        self.complain(at, f"{value!r} is not a pattern", "write a regular expression, such as ^(test|demo)")
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _spoken(unit: str) -> str:
    return unit.replace("_", " ")
