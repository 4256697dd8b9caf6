"""Months, quarters and fiscal years as spans of time, and the texts that people write for them.

A period belongs to the company's calendar: it begins at local midnight of its first day. `end` is the day after
the last one, so that periods neither overlap nor leave a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pipesync.config import Calendar
from pipesync.errors import InputError, Problem

PeriodKind = Literal["month", "quarter", "year"]
_MONTHS: dict[PeriodKind, int] = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, order=True)
class Period:
    start: date
    end: date
    """The day after the last."""
    timezone: str = "UTC"

    @property
    def starts_at(self) -> datetime:
        return _midnight(self.start, self.timezone)

    @property
    def ends_at(self) -> datetime:
        return _midnight(self.end, self.timezone)

    def weeks(self) -> list[Period]:
        """Return the period in steps of seven days from its first; the last ends with it and may be shorter."""
        days = range(0, (self.end - self.start).days, 7)
        starts = [self.start + timedelta(days=day) for day in days]
        return [Period(a, b, self.timezone) for a, b in zip(starts, [*starts[1:], self.end], strict=True)]

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


def _midnight(day: date, timezone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)


def _later(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)


def _span(day: date, kind: PeriodKind, calendar: Calendar) -> Period:
    length = _MONTHS[kind]
    since_start = (day.month - calendar.fiscal_year_starts) % length
    start = _later(date(day.year, day.month, 1), -since_start)
    return Period(start, _later(start, length), calendar.timezone)


def period_of(as_of: datetime, kind: PeriodKind, calendar: Calendar) -> Period:
    """Return the month, fiscal quarter or fiscal year of the company's calendar that holds the moment."""
    return _span(as_of.astimezone(ZoneInfo(calendar.timezone)).date(), kind, calendar)


def following(period: Period, calendar: Calendar) -> Period:
    """Return the period of the same length in months that begins where this one ends."""
    months = (period.end.year - period.start.year) * 12 + period.end.month - period.start.month
    if period.start.day != 1 or period.end.day != 1 or months < 1:
        return Period(period.end, period.end + (period.end - period.start), calendar.timezone)
    return Period(period.end, _later(period.end, months), calendar.timezone)


def parse_period(text: str, calendar: Calendar) -> Period:
    """Read `2026`, `2026-Q4`, `2026-11` or `2026-11-01..2026-12-01` (the last day is not in it).

    Years and quarters are fiscal ones, named after the calendar year in which the fiscal year begins.
    """
    if found := re.fullmatch(r"(\d{4})(?:-Q([1-4]))?", text):
        first = date(int(found[1]), calendar.fiscal_year_starts, 1)
        kind: PeriodKind = "quarter" if found[2] else "year"
        return _span(_later(first, 3 * (int(found[2] or 1) - 1)), kind, calendar)
    if found := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text):
        return _span(date(int(found[1]), int(found[2]), 1), "month", calendar)
    if ".." in text:
        try:
            start, end = (date.fromisoformat(part) for part in text.split(".."))
        except ValueError:
            pass
        else:
            if start < end:
                return Period(start, end, calendar.timezone)
            raise InputError(
                Problem(f"period {text!r} ends before it begins", fix="the last day is not part of it")
            )
    raise InputError(
        Problem(f"{text!r} is not a period", fix="write 2026-Q4, 2026-11, 2026 or 2026-11-01..2026-12-01")
    )
