"""Business days, in the zone of the person who has to do the work."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from pipesync.config import Calendar
from pipesync.model import User


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()


def is_business_day(day: date, holidays: Collection[date]) -> bool:
    return day.weekday() < 5 and day not in holidays


def add_business_days(day: date, count: int, holidays: Collection[date]) -> date:
    """Return the `count`-th business day after `day` (count >= 1)."""
    while count:
        day += timedelta(days=1)
        count -= is_business_day(day, holidays)
    return day


def business_days_between(start: date, end: date, holidays: Collection[date]) -> int:
    """Count the business days after `start` up to and including `end`; 0 where `end` is not later."""
    days = ((end - start).days + 1) if end > start else 1
    return sum(is_business_day(start + timedelta(days=i), holidays) for i in range(1, days))


def days_off(user: User | None, calendar: Calendar, year: int) -> frozenset[date]:
    """Return the holidays of a person's country (by their locale, `pl_PL`) and the company's, of two years."""
    _, _, territory = (user.locale or "").replace("-", "_").rpartition("_") if user else ("", "", "")
    place = territory if len(territory) == 2 and territory.isupper() else calendar.country
    return frozenset(calendar.holidays) | (_public(place, year) if place else frozenset())


@cache
def _public(place: str, year: int) -> frozenset[date]:
    import holidays  # here: it costs as much as all else that a plan imports, and few calendars need it

    country, _, region = place.partition("-")
    if country not in holidays.list_supported_countries():
        return frozenset()
    return frozenset(holidays.country_holidays(country, subdiv=region or None, years=(year, year + 1)))
