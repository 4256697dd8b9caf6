"""Where opportunities come from: leads to opportunities to wins, by source, campaign or month, judged when ripe.

A lead of last week has not failed to convert. Shares are therefore of cohorts that are old enough: older than nine
tenths of the leads that did convert took to. Younger leads are counted apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pipesync.analysis.significance import wilson
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

By = Literal["source", "campaign", "month"]
_KEYS = {"source": "source", "campaign": "campaign", "month": "strftime(created_at, '%Y-%m')"}

_LAGS = """
SELECT quantile_cont(date_diff('second', l.created_at, l.converted_at) / 86400.0, 0.9),
       quantile_cont(date_diff('second', l.created_at, f.closed_at) / 86400.0, 0.9) FILTER (f.is_won),
       count(*) FILTER (l.converted_at <= getvariable('as_of')), count(*) FILTER (f.is_won)
FROM leads AS l LEFT JOIN features AS f ON f.id = l.opportunity_id AND l.converted_at <= getvariable('as_of')
WHERE l.connection = getvariable('connection') AND l.created_at <= getvariable('as_of')
  AND l.converted_at <= getvariable('as_of')
"""
_LEADS = """
WITH known AS (
    SELECT l.source, l.campaign, l.created_at, l.created_at <= getvariable('as_of') - to_seconds(?::BIGINT) AS is_ripe,
           l.created_at <= getvariable('as_of') - to_seconds(?::BIGINT) AS is_decided,
           l.converted_at <= getvariable('as_of') AS has_converted, f.is_won, f.amount,
           CASE WHEN l.first_touch_at <= getvariable('as_of')
                THEN date_diff('second', l.created_at, l.first_touch_at) / 3600.0 END AS touch_hours,
           date_diff('second', l.created_at, l.converted_at) / 86400.0 AS convert_days
    FROM leads AS l LEFT JOIN features AS f ON f.id = l.opportunity_id AND l.converted_at <= getvariable('as_of')
    WHERE l.connection = getvariable('connection') AND l.created_at <= getvariable('as_of')
)
SELECT {key}, count(*), count(*) FILTER (is_ripe), count(*) FILTER (is_ripe AND has_converted),
       count(*) FILTER (is_decided), count(*) FILTER (is_decided AND is_won), count(*) FILTER (is_won),
       coalesce(sum(amount) FILTER (is_won), 0)::DOUBLE, avg(amount) FILTER (is_won)::DOUBLE,
       median(touch_hours), count(touch_hours), median(convert_days) FILTER (has_converted),
       count(*) FILTER (created_at > getvariable('as_of') - INTERVAL 91 DAY) / 13.0
FROM known GROUP BY 1 ORDER BY 8 DESC, 2 DESC, 1
"""
_OPPORTUNITIES = """
SELECT source, count(*) FILTER (is_closed), count(*) FILTER (is_won), count(*),
       coalesce(sum(amount) FILTER (is_won), 0)::DOUBLE
FROM features GROUP BY source ORDER BY 5 DESC, 4 DESC, source
"""


@dataclass(frozen=True)
class Share:
    """`k` of `n` with Wilson's 95% interval; `rate` is None of nothing."""

    k: int
    n: int
    rate: float | None
    low: float
    high: float


def share(k: int, n: int) -> Share:
    return Share(k, n, k / n if n else None, *wilson(k, n))


@dataclass(frozen=True)
class Source:
    key: str | None
    leads: int
    young: int
    """Too young to be judged; not in `converted`."""
    converted: Share
    """Leads that became opportunities."""
    won: Share
    """Leads that became wins, of those old enough for it."""
    wins: int
    won_amount: float
    average: float | None
    """Per win, in the home currency."""
    touch_hours: float | None
    """Median from creation to the first touch, of `touched` leads."""
    touched: int
    convert_days: float | None
    """Median from creation to conversion, of those that did."""
    leads_per_week: float
    """Of the last 13 weeks."""

    def leads_for(self, wins: float) -> tuple[int, int | None, int | None] | None:
        """Return how many leads so many wins need: expected, at best, at worst by the interval; None: unknown."""
        if not self.won.rate:
            return None
        best = math.ceil(wins / self.won.high)
        worst = math.ceil(wins / self.won.low) if self.won.low > 0 else None
        return math.ceil(wins / self.won.rate), best, worst


@dataclass(frozen=True)
class FromSource:
    """Opportunities by their own source, where leads are not known."""

    source: str | None
    opportunities: int
    won: Share
    won_amount: float


@dataclass(frozen=True)
class Sources:
    rows: tuple[Source, ...]
    """Most won amount first; empty without leads."""
    opportunities: tuple[FromSource, ...]
    convert_lag: float | None
    """Days within which nine tenths of those that convert have done so."""
    win_lag: float | None
    """Days within which nine tenths of the wins came, from the lead's creation."""
    missing: tuple[str, ...]


def sources(warehouse: Warehouse, features: Features, *, by: By = "source") -> Sources:
    """Tell sources, campaigns or monthly cohorts of leads apart."""
    missing = []
    own: tuple[FromSource, ...] = ()
    if "source" in features.unknown:
        missing.append("the source of opportunities")
    else:
        own = tuple(
            FromSource(name, total, share(won, closed), amount)
            for name, closed, won, total, amount in warehouse.rows(_OPPORTUNITIES)
        )
    convert_lag, win_lag, converted, won = warehouse.rows(_LAGS)[0]
    if not warehouse.rows("SELECT 1 FROM leads WHERE connection = ? LIMIT 1", [features.connection]):
        return Sources((), own, None, None, (*missing, "leads"))
    if not converted:
        missing.append("no lead has converted yet")
    if not won:
        missing.append("no lead has led to a win yet")
    # Before anything converted, only leads of a quarter and older are held against their source.
    ripe, decided = (int((91.0 if lag is None else lag) * 86400) for lag in (convert_lag, win_lag))
    rows = warehouse.rows(_LEADS.format(key=_KEYS[by]), [ripe, decided])
    found = [
        Source(
            key, leads, leads - n_ripe, share(k_ripe, n_ripe), share(k_won, n_won), wins, amount, average,
            touch, touched, days, weekly,
        )
        for key, leads, n_ripe, k_ripe, n_won, k_won, wins, amount, average, touch, touched, days, weekly in rows
    ]  # fmt: skip
    return Sources(tuple(found), own, convert_lag, win_lag, tuple(missing))


@dataclass(frozen=True)
class Need:
    """Leads that a source would have to bring, if it alone were to close a gap."""

    key: str | None
    wins: float
    leads: int
    worst: int | None
    """By the lower end of the interval; None where that is 0."""
    weeks: float | None
    """At its present pace; None where none come."""


def leads_needed(found: Sources, gap: float | None = None, *, wins: float | None = None) -> tuple[Need, ...]:
    """Return what so many wins, or else closing a revenue gap (home currency), would take per source.

    Sources without a win rate, and for a gap without an average, are left out: nothing can be said of them.
    """
    needs = []
    for one in found.rows:
        count = wins if wins is not None else gap / one.average if gap is not None and one.average else None
        if count is not None and (leads := one.leads_for(count)):
            weeks = leads[0] / one.leads_per_week if one.leads_per_week else None
            needs.append(Need(one.key, count, leads[0], leads[2], weeks))
    return tuple(sorted(needs, key=lambda n: (n.weeks is None, n.weeks or 0.0)))
