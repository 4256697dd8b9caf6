"""Business days, in the zone of the person who has to do the work."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo


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
