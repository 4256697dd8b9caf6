"""Texts of findings and tasks: `{field}`, `{field:filter}`, and `{field:filter|words for a blank}`.

A template names fields and filters and can do nothing else. Both are checked when the rule is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipesync.features.columns import Column, Kind
from pipesync.yamlsource import nearest

if TYPE_CHECKING:
    from babel import Locale

_SLOT = re.compile(r"\{(?P<field>[^{}:|]*)(?::(?P<filter>[^{}|]*))?(?:\|(?P<blank>[^{}]*))?\}")
_COUNTED = ("number", "integer", "days")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FILTERS = ("text", "words", "money", "date", "number", "percent")


@dataclass(frozen=True)
class Slot:
    field: str
    filter: str
    blank: str


@dataclass(frozen=True)
class Template:
    parts: tuple[str | Slot, ...]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(p.field for p in self.parts if isinstance(p, Slot))


def parse_template(text: str, columns: Mapping[str, Column]) -> tuple[Template, list[tuple[str, str]]]:
    """Return the template, and (message, fix) for each thing that is wrong with it."""
    parts: list[str | Slot] = []
    wrong = []
    end = 0
    for found in _SLOT.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        name, kind = found["field"].strip(), (found["filter"] or "").strip()
        column = columns.get(name)
        if column is None and not name.startswith("custom."):
            wrong.append((f"unknown field {name!r} in the text", nearest(name, columns)))
            continue
        if kind and kind not in FILTERS:
            wrong.append((f"unknown filter {kind!r} in the text", nearest(kind, FILTERS)))
            continue
        parts.append(Slot(name, kind or usual_filter(column.kind if column else None), found["blank"] or "–"))
    parts.append(text[end:])
    rest = "".join(p for p in parts if isinstance(p, str))
    if "{" in rest or "}" in rest:
        wrong.append(("a brace in the text is not closed", "write {field} or {field:filter}"))
    return Template(tuple(p for p in parts if p != "")), wrong


def usual_filter(kind: Kind | None) -> str:
    """Return how a value of this kind is shown where nothing else is said."""
    shown = {"money": "money", "date": "date", "moment": "date"} | dict.fromkeys(_COUNTED, "number")
    return shown.get(kind or "", "text")


def render(
    template: Template, row: Mapping[str, Any], currency: str | None = None, locale: Locale | None = None
) -> str:
    """Fill a template with a row's values. The same row gives the same text, whatever day it is.

    With a `locale` dates, money and numbers take its form; values may then be JSON's, as `spoken_values` makes them.
    """
    return "".join([p if isinstance(p, str) else _slot(p, row, currency, locale) for p in template.parts])


def _slot(slot: Slot, row: Mapping[str, Any], currency: str | None, locale: Locale | None) -> str:
    value = value_of(row, slot.field)
    if is_blank(value):
        return slot.blank
    if locale is not None and (said := _localized(value, slot.filter, currency, locale)) is not None:
        return said
    return show(value, slot.filter, currency)


def value_of(row: Mapping[str, Any], name: str) -> Any:  # Any: a column's value
    value = row.get(name)
    if value is None and name.startswith("custom."):
        return (row.get("custom") or {}).get(name.removeprefix("custom."))
    return value


def spoken_values(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:  # Any: to JSON
    """Return a row's values as JSON keeps them, so that its texts can be said again in another language."""
    found = {}
    for name in names:
        value = value_of(row, name)
        if isinstance(value, datetime | date):
            value = value.isoformat()
        elif isinstance(value, Decimal):
            value = str(value)
        found[name] = None if is_blank(value) else value
    return found


def _localized(value: Any, kind: str, currency: str | None, locale: Locale) -> str | None:
    """Return a value in a locale's form; None for what looks the same everywhere, or is not of its kind."""
    from babel import dates, numbers  # here: most connections tell no locale

    try:
        if kind == "money" and currency:
            whole = locale.currency_formats["standard"].pattern.replace(".00", "")
            return numbers.format_currency(float(value), currency, whole, locale, currency_digits=False)
        if kind == "money":
            return numbers.format_decimal(round(float(value)), locale=locale)
        if kind == "date":
            day = value if isinstance(value, date) else datetime.fromisoformat(str(value)).date()
            return dates.format_date(day, "medium", locale=locale)
        if kind == "number":
            return numbers.format_decimal(round(float(value), 1), locale=locale)
        if kind == "percent":
            return numbers.format_percent(round(float(value), 2), locale=locale)
    except ValueError:
        return None
    return None


def is_blank(value: object) -> bool:
    return value is None or value != value or value == ""


def show(value: Any, kind: str, currency: str | None = None) -> str:
    """Write one value: money with thousands and currency, dates as `23 Nov 2026`, numbers without noise.

    `words` writes our own words for people: `best_case` as `best case`.
    """
    if kind == "words":
        return str(value).replace("_", " ")
    if kind == "money":
        return f"{float(value):,.0f} {currency or ''}".rstrip()
    if kind == "date" and isinstance(value, date | datetime):
        return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"
    if kind == "percent":
        return f"{float(value):.0%}"
    if kind == "number" and isinstance(value, int | float):
        return f"{value:,.1f}".removesuffix(".0")
    if kind == "number" and isinstance(value, Decimal):
        return f"{value:,.2f}".removesuffix(".00")
    return str(value)
