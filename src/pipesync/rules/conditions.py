"""Conditions: rows of field, operator and value, joined by all, any and not. `reader` makes them from YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from pipesync.features.columns import Kind

Scalar = str | int | float | bool | Decimal | date
_UNITS = {
    "h": "hours", "hour": "hours", "hours": "hours", "d": "days", "day": "days", "days": "days",
    "w": "weeks", "week": "weeks", "weeks": "weeks",
}  # fmt: skip
_SPAN = re.compile(r"(\d{1,5})\s*(business days?|bd|[a-z]+)")


@dataclass(frozen=True)
class BusinessDays:
    """A length of time in days on which people work."""

    days: int

    def __str__(self) -> str:
        return f"{self.days} business day{'' if self.days == 1 else 's'}"


Span = timedelta | BusinessDays


@dataclass(frozen=True)
class Parameter:
    """`$name`: the rule's parameter, as the site and the segment set it."""

    name: str


@dataclass(frozen=True)
class Field:
    """Another field of the same row, times a factor."""

    name: str
    times: float = 1.0


Operand = Scalar | Parameter | Field | Span | tuple["Scalar | Parameter | Field", ...]


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
TIMED = ("within_next", "within_last", "older_than")
CHANGED = "changed_within"
"""Of the fields whose last change has a column of its own (`Column.changed`)."""
OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": (*_SAME, *_ANY, "contains", "matches"),
    "category": (*_SAME, *_ANY),
    "money": (*_SAME, *_ORDERED, *_ANY),
    "number": (*_SAME, *_ORDERED, *_ANY),
    "integer": (*_SAME, *_ORDERED, *_ANY),
    "days": (*_SAME, *_ORDERED, *_ANY),
    "date": (*_SAME, *_ORDERED, *_ANY, *TIMED),
    "moment": (*_ORDERED, *_ANY, *TIMED),
    "flag": ("eq", "ne", *_ANY),
}
"""What can be asked of each kind of field."""

NUMERIC: frozenset[Kind] = frozenset({"money", "number", "integer", "days"})


def duration(value: object) -> timedelta | None:
    """Read `7d`, `12h`, `2w` or `7 days`; None for anything else."""
    found = span(value)
    return found if isinstance(found, timedelta) else None


def span(value: object) -> Span | None:
    """Read a duration, or `3 business days` (short: `3bd`); None for anything else."""
    found = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        return None
    if found[2].startswith("b"):
        return BusinessDays(int(found[1])) if found[2] == "bd" or "business" in found[2] else None
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found[2] in _UNITS else None


def as_text(value: object) -> str:
    """Write a parameter's or a condition's value as a rule file does."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        hours = value.total_seconds() / 3600
        return f"{value.days}d" if hours % 24 == 0 else f"{hours:g}h"
    return str(value)


def leaves(condition: Condition) -> list[Leaf]:
    """Return the leaves in the order in which they were written."""
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, Not):
        return leaves(condition.part)
    return [leaf for part in condition.parts for leaf in leaves(part)]


def read_by(leaf: Leaf) -> set[str]:
    """Return every field that a leaf reads."""
    operands = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
    return {leaf.field} | {o.name for o in operands if isinstance(o, Field)}


def fields(condition: Condition) -> set[str]:
    """Return every field that the condition reads."""
    return {name for leaf in leaves(condition) for name in read_by(leaf)}


def as_moment(value: date) -> datetime:
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the warehouse's times are naive UTC
