"""Fiscal years, quarters and months as days: calendar months, or whole weeks in 4-4-5 and its kin."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import get_args

from pipesync.config import Calendar, FiscalWeeks

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST_YEAR, LAST_YEAR = 1990, 2070
"""Years whose quarters of weeks the warehouse's session knows."""


def months(year: int, calendar: Calendar) -> tuple[date, ...]:
    """Return the first days of the twelve months of a fiscal year, and the day after its last.

    A year is named after the calendar year in which its first month lies; with weeks it may begin some days before it.
    """
    return _months(year, calendar.fiscal_year_starts, calendar.weeks)


@lru_cache(maxsize=512)
def _months(year: int, starts: int, weeks: FiscalWeeks | None) -> tuple[date, ...]:
    if weeks is None:
        return tuple(date(year + (starts - 1 + i) // 12, (starts - 1 + i) % 12 + 1, 1) for i in range(13))
    found = [_begins(year, starts, weeks)]
    for length in [int(n) for n in weeks.pattern.split("-")] * 4:
        found.append(found[-1] + timedelta(weeks=length))
    return (*found[:-1], _begins(year + 1, starts, weeks))  # a 53rd week is the last month's


def _begins(year: int, starts: int, weeks: FiscalWeeks) -> date:
    first = date(year, starts, 1)
    since = (first.weekday() - _WEEKDAYS.index(weeks.begins)) % 7
    begins = first - timedelta(days=since)
    return begins + timedelta(days=7) if weeks.year == "nearest" and since > 3 else begins


def year_of(day: date, calendar: Calendar) -> int:
    """Return the fiscal year that holds a day."""
    return next(y for y in (day.year + 1, day.year, day.year - 1) if months(y, calendar)[0] <= day)


def span(day: date, length: int, calendar: Calendar) -> tuple[date, date]:
    """Return the fiscal month (length 1), quarter (3) or year (12) that holds a day; the end is the day after."""
    found = months(year_of(day, calendar), calendar)
    at = bisect_right(found, day) - 1
    at -= at % length
    return found[at], found[at + length]


def quarters_of_weeks(calendar: Calendar) -> tuple[list[date], list[int]]:
    """Return the first days of all quarters, and for each day from the first of them the number of its quarter.

    Numbers begin with 1, as positions in SQL do. Empty where months are the calendar's.
    """
    if calendar.weeks is None:
        return [], []
    years = range(FIRST_YEAR, LAST_YEAR)
    starts = [months(year, calendar)[at] for year in years for at in (0, 3, 6, 9)]
    lengths = [(b - a).days for a, b in pairwise(starts)]
    return starts, [number for number, days in enumerate(lengths, start=1) for _ in range(days)]


def recognised(first_days: Sequence[date]) -> Calendar | None:
    """Return the calendar whose fiscal months begin on these days, given from a year's first on; None where none does.

    A year at least is needed. Where several calendars fit what is given, the one whose years begin nearest to a month
    stands, the simplest first: more years tell them apart.
    """
    if len(first_days) < 12:
        return None
    years = -(-len(first_days) // 12)
    begins = _WEEKDAYS[first_days[0].weekday()]
    of_weeks = [
        FiscalWeeks.said(f"{pattern} {begins} {year}")
        for year in get_args(FiscalWeeks.model_fields["year"].annotation)
        for pattern in get_args(FiscalWeeks.model_fields["pattern"].annotation)
    ]
    for weeks in (None, *of_weeks):
        for starts in range(1, 13):
            calendar = Calendar(fiscal_year_starts=starts, weeks=weeks)
            first = year_of(first_days[0], calendar)
            made = [day for year in range(first, first + years) for day in months(year, calendar)[:-1]]
            if made[: len(first_days)] == list(first_days):
                return calendar
    return None
