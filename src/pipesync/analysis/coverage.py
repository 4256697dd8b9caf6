"""Is there enough in the pipeline: open amount that is to close in a period against what the target still lacks.

How much is enough follows from the company's own quarters, not from a fixed multiple: at the same point of each past
period, the open amount that was dated in it, and what was won in the rest of it, whatever it came from. Their ratio is
the yield, and coverage needed is one over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from pipesync.config import Calendar
from pipesync.features import Features, stand
from pipesync.forecast.periods import Period, PeriodKind, period_of
from pipesync.forecast.quotas import quotas_of
from pipesync.store.warehouse import Warehouse

_SCOPES = ("owner_id", "team")

_OPEN = """
SELECT {scope}, coalesce(sum(amount) FILTER (is_open AND close_date >= ? AND close_date < ?), 0)::DOUBLE,
       coalesce(sum(amount) FILTER (is_won AND local_date(closed_at) >= ? AND local_date(closed_at) < ?), 0)::DOUBLE
FROM features GROUP BY 1 ORDER BY 1 NULLS LAST
"""


@dataclass(frozen=True)
class Coverage:
    """Money in the home currency. `scope_id` None: the whole company, or what has no owner or team."""

    scope: str
    scope_id: str | None
    open_amount: float
    """Open and dated in the period."""
    closed: float
    quota: float | None
    gap: float | None
    """Quota less closed, at least 0."""
    coverage: float | None
    """Open amount over the gap; None without a quota or a gap."""


@dataclass(frozen=True)
class PastYield:
    """Of an earlier period, at the same point of it."""

    period: Period
    open_amount: float
    won_later: float

    @property
    def share(self) -> float | None:
        return self.won_later / self.open_amount if self.open_amount > 0 else None


@dataclass(frozen=True)
class Coverages:
    period: Period
    total: Coverage
    rows: tuple[Coverage, ...]
    past: tuple[PastYield, ...]
    """Oldest first."""
    needed: float | None
    """One over the median yield of the past periods; None before two of them."""
    missing: tuple[str, ...]


def coverage(
    warehouse: Warehouse, features: Features, period: Period, calendar: Calendar, *,
    by: str = "owner_id", periods: int = 4,
) -> Coverages:  # fmt: skip
    """Return coverage of a period in total and by `owner_id` or `team`."""
    if by not in _SCOPES:
        raise ValueError(f"coverage is by one of {_SCOPES}")
    missing = [f"{n} cannot be read" for n in ("amount", "close_date", by) if n in features.unknown]
    dates = [period.start, period.end, period.start, period.end]
    quotas = quotas_of(warehouse, features.connection, period)
    if quotas.total is None:
        missing.append("no quotas for this period")
    [(_, open_amount, closed)] = warehouse.rows(_OPEN.format(scope="NULL"), dates) or [(None, 0.0, 0.0)]
    rows = () if by in features.unknown else warehouse.rows(_OPEN.format(scope=by), dates)
    own = quotas.team if by == "team" else quotas.owner
    made = [_coverage(by, name, o, c, own.get(name)) for name, o, c in rows]
    past = _past(warehouse, features, period, calendar, periods)
    shares = [p.share for p in past if p.share]
    if len(shares) < 2:
        missing.append("fewer than two past periods to learn the coverage needed from")
    return Coverages(
        period, _coverage("total", None, open_amount, closed, quotas.total),
        tuple(c for c in made if c.open_amount or c.closed or c.quota),
        past, 1 / median(shares) if len(shares) >= 2 else None, tuple(missing),
    )  # fmt: skip


def _coverage(
    scope: str, name: str | None, open_amount: float, closed: float, quota: float | None
) -> Coverage:
    gap = None if quota is None else max(quota - closed, 0.0)
    return Coverage(scope, name, open_amount, closed, quota, gap, open_amount / gap if gap else None)


def _past(
    warehouse: Warehouse, features: Features, period: Period, calendar: Calendar, periods: int
) -> tuple[PastYield, ...]:
    days = (period.end - period.start).days
    kind: PeriodKind = "month" if days < 45 else "quarter" if days < 180 else "year"
    into = min(max(features.as_of - period.starts_at, timedelta()), period.ends_at - period.starts_at)
    first = warehouse.rows(
        "SELECT min(created_at) FROM opportunities WHERE connection = ?", [features.connection]
    )[0][0]
    won = warehouse.rows(
        "SELECT closed_at, coalesce(amount, 0)::DOUBLE FROM features WHERE is_won AND closed_at IS NOT NULL"
    )
    zone = ZoneInfo("UTC")
    found: list[PastYield] = []
    one, known = period, features.unknown & {"amount", "close_date"}
    for _ in range(periods):
        one = period_of(one.starts_at - timedelta(days=1), kind, calendar)
        moment = one.starts_at + into
        if known or first is None or one.starts_at < first.replace(tzinfo=zone) or moment >= features.as_of:
            break
        then = stand(warehouse, features.connection, moment, calendar, "stood")
        if then.unknown & {"amount", "close_date"}:
            break
        [(open_amount,)] = warehouse.rows(
            "SELECT coalesce(sum(amount) FILTER (NOT is_closed AND close_date >= ? AND close_date < ?), 0)::DOUBLE "
            "FROM stood",
            [one.start, one.end],
        )
        found.append(PastYield(one, open_amount, _won_between(won, moment, one.ends_at)))
    return tuple(reversed(found))


def _won_between(won: list[tuple[datetime, float]], start: datetime, end: datetime) -> float:
    low, high = start.replace(tzinfo=None), end.replace(tzinfo=None)
    return sum(amount for at, amount in won if low < at < high)
