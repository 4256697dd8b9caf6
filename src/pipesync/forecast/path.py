"""The way to a period's total: closed, open and new together by the end of each of its weeks, from the same draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd

from pipesync.forecast.history import DAY, Floats, Ms, to_ms
from pipesync.forecast.periods import Period
from pipesync.forecast.rollup import money
from pipesync.model import PeriodForecast


@dataclass(frozen=True)
class WeekEnd:
    """What is won in the period by the end of one of its weeks, home currency. Where that is past, all three agree."""

    end: date
    """The day after the week's last."""
    p10: Decimal
    p50: Decimal
    p90: Decimal
    is_past: bool


def ahead(period: Period, as_of: Ms) -> Floats:
    """Return the days from `as_of` until each end of a week that is still to come; none once the period is over."""
    ends = np.array([to_ms(week.ends_at) for week in period.weeks()], dtype=float)
    return (ends[ends > as_of] - as_of) / DAY


def shares(by_week: Floats) -> Floats:
    """Make rows of running chances (rows x weeks) shares of the last: never falling, 1 at the end."""
    rising = np.maximum.accumulate(np.maximum(by_week, 0.0), axis=1)
    last = rising[:, -1:]
    return np.divide(rising, last, out=np.ones_like(rising), where=last > 0)


def walk(
    total: PeriodForecast,
    period: Period,
    as_of: Ms,
    closed: pd.DataFrame,
    weeks: Floats | None,
    factor: Floats,
) -> tuple[WeekEnd, ...]:
    """Return every week's end; the last says what `total` says.

    `closed` is what was won so far: `at`, `amount`; `weeks` are the draws (draws x weeks to come) of what is still to
    be won by each; `factor` is what stretching and blending make of each draw.
    """
    at, amount = closed["at"].to_numpy(np.int64), closed["amount"].to_numpy(float)
    found: list[WeekEnd] = []
    coming = 0
    for week in period.weeks():
        until = to_ms(week.ends_at)
        quantiles = np.full(3, float(amount[at < until].sum()))
        if is_coming := until > as_of and weeks is not None:
            quantiles += np.quantile(weeks[:, coming] * factor, (0.1, 0.5, 0.9))
            coming += 1
        low, middle, high = (money(q) for q in quantiles)
        found.append(WeekEnd(week.end, low, middle, high, is_past=not is_coming))
    return (*found[:-1], replace(found[-1], p10=total.p10, p50=total.p50, p90=total.p90))
