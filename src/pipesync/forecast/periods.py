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

from pipesync import fiscal
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


def _span(day: date, kind: PeriodKind, calendar: Calendar) -> Period:
    return Period(*fiscal.span(day, _MONTHS[kind], calendar), calendar.timezone)


def period_of(as_of: datetime, kind: PeriodKind, calendar: Calendar) -> Period:
    """Return the month, fiscal quarter or fiscal year of the company's calendar that holds the moment."""
    return _span(as_of.astimezone(ZoneInfo(calendar.timezone)).date(), kind, calendar)


def following(period: Period, calendar: Calendar) -> Period:
    """Return the period of as many fiscal months that begins where this one ends; of as many days where it has none."""
    year = fiscal.year_of(period.start, calendar)
    years = range(year, 2 * fiscal.year_of(period.end, calendar) - year + 2)
    starts = sorted({day for one in years for day in fiscal.months(one, calendar)})
    if not {period.start, period.end} <= set(starts):
        return Period(period.end, period.end + (period.end - period.start), calendar.timezone)
    at = starts.index(period.end)
    return Period(period.end, starts[2 * at - starts.index(period.start)], calendar.timezone)


def parse_period(text: str, calendar: Calendar) -> Period:
    """Read `2026`, `2026-Q4`, `2026-11` or `2026-11-01..2026-12-01` (the last day is not in it).

    Years and quarters are fiscal ones, named after the calendar year in which the fiscal year begins. A month of whole
    weeks is that which stands for the calendar's.
    """
    if found := re.fullmatch(r"(\d{4})(?:-Q([1-4]))?", text):
        kind: PeriodKind = "quarter" if found[2] else "year"
        first = fiscal.months(int(found[1]), calendar)[3 * (int(found[2] or 1) - 1)]
        return _span(first, kind, calendar)
    if found := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text):
        later = (int(found[2]) - calendar.fiscal_year_starts) % 12
        year = int(found[1]) - (int(found[2]) < calendar.fiscal_year_starts)
        return _span(fiscal.months(year, calendar)[later], "month", calendar)
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
