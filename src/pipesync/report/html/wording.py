"""Sentences made elsewhere, with dates, amounts and numbers as values, so that they are in the reader's own form."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from pipesync.model import Finding
from pipesync.report.html.blocks import Cell, Said, Sentence, count, day, number, share
from pipesync.rules.messages import Slot, Template, is_blank, show, value_of

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATES = re.compile(
    rf"\b(?:(?P<iso>\d{{4}}-\d\d-\d\d)|(?P<day>\d\d?) (?P<month>{'|'.join(_MONTHS)}) (?P<year>\d{{4}}))\b"
)


def dated(text: str) -> Sentence:
    """Take the dates out of a sentence of our own, ISO or `23 Nov 2026`."""
    parts: list[Said] = []
    end = 0
    for found in _DATES.finditer(text):
        try:
            at = (
                date.fromisoformat(found["iso"])
                if found["iso"]
                else date(int(found["year"]), _MONTHS.index(found["month"]) + 1, int(found["day"]))
            )
        except ValueError:
            continue
        parts += [text[end : found.start()], day(at)]
        end = found.end()
    return tuple(p for p in (*parts, text[end:]) if p != "")


def capital(sentence: Sentence) -> Sentence:
    """Begin with a capital letter."""
    first, *rest = sentence or ("",)
    return (f"{first[:1].upper()}{first[1:]}", *rest) if isinstance(first, str) else sentence


def finding_text(one: Finding, template: Template | None) -> Sentence:
    """Say a finding by its rule's template; names and other texts of the CRM stay as they are."""
    if template is None or not one.values:
        return dated(one.message)
    return tuple(
        p if isinstance(p, str) else _slot(p, value_of(one.values, p.field), one.currency)
        for p in template.parts
    )


def _slot(slot: Slot, value: Any, currency: str | None) -> Said:  # Any: a JSON value
    if is_blank(value):
        return slot.blank
    try:
        if slot.filter == "date":
            return day(value if isinstance(value, date) else datetime.fromisoformat(str(value)).date())
        if slot.filter == "money":
            return Cell("amount", round(float(value), 2), show(value, "money", currency), unit=currency or "")
        if slot.filter == "percent":
            return share(float(value))
        if slot.filter == "number" and not isinstance(value, str):
            return count(value) if float(value).is_integer() else number(float(value))
    except ValueError:
        pass
    return show(value, slot.filter, currency)


def to_parts(sentence: Sentence) -> str | list[Any]:  # Any: JSON
    """Return a sentence as the page's script takes it: text, or texts and [kind, value, unit]."""
    if all(isinstance(p, str) for p in sentence):
        return "".join(p for p in sentence if isinstance(p, str))
    return [p if isinstance(p, str) else [p.kind, p.value, p.unit] for p in sentence]
