"""When in a quarter revenue comes in, and where close dates pile up.

A team that wins everything in the last two weeks learns too late that it will not; dates on the last business day of
a month are usually nobody's estimate. Reads the session's `features`; quarters are fiscal ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pipesync import fiscal
from pipesync.config import Calendar
from pipesync.features import Features
from pipesync.forecast.periods import Period, following, period_of
from pipesync.store.warehouse import Warehouse

HOCKEY_STICK = 0.5
"""Share of a quarter's wins in its last two weeks from which it is called one."""


@dataclass(frozen=True)
class Quarter:
    """Money in the home currency, by the closing date in the calendar's zone."""

    period: Period
    is_over: bool
    won: int
    won_amount: float
    by_month: tuple[float, float, float]
    """Shares of the won amount; all 0 where nothing was won."""
    by_week: tuple[float, ...]
    """Shares of its weeks from its first day on; the last may be short."""
    last_two_weeks: float
    """Share of the won amount."""
    gini: float
    """Of the weeks' amounts: 0 the same every week, towards 1 all in one."""

    @property
    def is_hockey_stick(self) -> bool:
        return self.is_over and self.last_two_weeks > HOCKEY_STICK


def linearity(
    warehouse: Warehouse,
    features: Features,
    calendar: Calendar,
    *,
    quarters: int = 8,
    team: str | None = None,
) -> tuple[Quarter, ...]:
    """Return the last fiscal quarters, the present one last, from the first in which anything was won."""
    if "closed_at" in features.unknown or (team and "team" in features.unknown):
        return ()
    won = warehouse.rows(
        "SELECT local_date(closed_at), coalesce(amount, 0)::DOUBLE FROM features "
        "WHERE is_won AND (? IS NULL OR team = ?) ORDER BY closed_at",
        [team, team],
    )
    if not won:
        return ()
    present = period_of(features.as_of, "quarter", calendar)
    one = period_of(features.as_of - timedelta(days=92 * (quarters - 1)), "quarter", calendar)
    found = []
    while one.start <= present.start:
        if one.end > won[0][0]:
            inside = [(day, amount) for day, amount in won if one.start <= day < one.end]
            found.append(_quarter(one, inside, calendar, is_over=one.end <= present.start))
        one = following(one, calendar)
    return tuple(found[-quarters:])


def _quarter(
    period: Period, won: Sequence[tuple[date, float]], calendar: Calendar, *, is_over: bool
) -> Quarter:
    weeks = -(-(period.end - period.start).days // 7)
    by_week, by_month = [0.0] * weeks, [0.0] * 3
    months = fiscal.months(fiscal.year_of(period.start, calendar), calendar)
    first = months.index(period.start)
    late = 0.0
    for day, amount in won:
        by_week[(day - period.start).days // 7] += amount
        by_month[bisect_right(months, day) - 1 - first] += amount
        late += amount if day >= period.end - timedelta(days=14) else 0.0
    total = sum(by_week)
    share = 1 / total if total else 0.0
    early, middle, end = (m * share for m in by_month)
    return Quarter(
        period, is_over, len(won), total, (early, middle, end), tuple(w * share for w in by_week), late * share,
        gini(by_week),
    )  # fmt: skip


def gini(amounts: Sequence[float]) -> float:
    """Return the Gini coefficient of amounts that are not negative; 0 where there is nothing to share."""
    ordered, n = sorted(amounts), len(amounts)
    total = sum(ordered)
    if not n or total <= 0:
        return 0.0
    return sum((2 * i - n + 1) * a for i, a in enumerate(ordered)) / (n * total)


@dataclass(frozen=True)
class Cluster:
    """Open opportunities of an owner by close date: how many fall on the last business day of a month."""

    owner_id: str | None
    owner_name: str | None
    dated: int
    """Open opportunities with a close date."""
    dated_amount: float
    at_end: int
    at_end_amount: float
    never_moved: int
    """Of those at the end: the close date is still the first one it had."""

    @property
    def share(self) -> float:
        return self.at_end_amount / self.dated_amount if self.dated_amount else 0.0


def clusters(warehouse: Warehouse, features: Features) -> tuple[Cluster, ...]:
    """Return per owner how much of the open pipeline is dated on the last business day of a month; worst first."""
    if "close_date" in features.unknown:
        return ()
    rows = warehouse.rows(
        """
        SELECT owner_id, any_value(owner_name), count(*), coalesce(sum(amount), 0)::DOUBLE,
               count(*) FILTER (close_is_period_end),
               coalesce(sum(amount) FILTER (close_is_period_end), 0)::DOUBLE,
               count(*) FILTER (close_is_period_end AND close_date_changes = 0)
        FROM features WHERE is_open AND close_date IS NOT NULL GROUP BY owner_id ORDER BY owner_id NULLS LAST
        """
    )
    found = [Cluster(*row) for row in rows]
    return tuple(sorted(found, key=lambda c: -c.share))
