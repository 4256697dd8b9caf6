"""What will close: the probability of every open opportunity, and period totals with honest intervals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipesync.forecast import arrivals, history, landmarks, totals
from pipesync.forecast.forecasters import EVER, fit
from pipesync.forecast.history import DAY, Floats, History, Ms, to_moment, to_ms
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.periods import Period
from pipesync.forecast.training import training_at
from pipesync.model import OpportunityForecast, PeriodForecast
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.features import Features

__all__ = ["Forecast", "Period", "predict"]

_DIMENSIONS = ("owner_id", "product")
_CLOSE_DAYS = np.array([3, 7, 10, 14, 21, 28, 35, 42, 56, 70, 91, 119, 150, 182, 273, 365, 547, EVER])


@dataclass(frozen=True)
class Forecast:
    period: Period
    total: PeriodForecast
    by_owner: list[PeriodForecast]
    by_product: list[PeriodForecast]
    opportunities: list[OpportunityForecast]
    model: dict[str, Any]  # Any: JSON


def predict(warehouse: Warehouse, features: Features, period: Period, *, seed: int = 0) -> Forecast:
    """Forecast a connection's period as of `features.as_of`, from what was known then."""
    past = history.load(warehouse, features.connection)
    as_of = to_ms(features.as_of)
    training = training_at(past, as_of, seed=seed)
    fitted = fit("stage_age", training)
    rows = landmarks.at(past, [as_of])
    left = max((to_ms(period.ends_at) - as_of) / DAY, 0.0)
    curve = fitted.win_by(rows, np.r_[left, _CLOSE_DAYS])
    amount, usual = _amounts(past, rows, as_of)
    new = arrivals.expect(past, as_of, left)
    groups = pd.DataFrame({d: past.now[d][rows.opportunity] for d in _DIMENSIONS})
    portfolio = totals.Portfolio(
        curve[:, 0],
        amount,
        groups,
        new,
        np.nan_to_num(past.amount[new.pool], nan=usual),
        pd.DataFrame({d: past.now[d][new.pool] for d in _DIMENSIONS}),
    )
    draws = totals.simulate(portfolio, seed=seed)
    closed = _closed(past, to_ms(period.starts_at), min(as_of, to_ms(period.ends_at)))
    made = {
        d: _period_forecasts(past, period, d, draws, closed, "stage_age") for d in ("total", *_DIMENSIONS)
    }
    return Forecast(
        period=period,
        total=made["total"][0],
        by_owner=made["owner_id"],
        by_product=made["product"],
        opportunities=_opportunities(past, rows, curve, amount, as_of),
        model={
            "rung": "stage_age",
            "closed": training.closed,
            "won": training.won,
            "shock": totals.PRIOR_SHOCK,
        },
    )


def _amounts(past: History, rows: Landmarks, as_of: Ms) -> tuple[Floats, float]:
    """Return what each row brings if won; a blank one the median of past wins."""
    wins = past.amount[past.won & (past.closed <= as_of)]
    wins = wins[np.isfinite(wins) & (wins > 0)]
    usual = float(np.median(wins)) if len(wins) else 0.0
    amount = rows.frame["amount"].to_numpy(float)
    return np.where(np.isfinite(amount) & (amount > 0), amount, usual), usual


def _closed(past: History, start: Ms, until: Ms) -> pd.DataFrame:
    """Return what was won in the period so far: amount and groups."""
    won = past.won & (past.closed >= start) & (past.closed <= until)
    columns: dict[str, Any] = {d: past.now[d][won] for d in _DIMENSIONS}
    return pd.DataFrame({"amount": np.nan_to_num(past.amount[won]), "total": totals.NOBODY, **columns})


def _period_forecasts(
    past: History, period: Period, dimension: str, draws: totals.Draws, closed: pd.DataFrame, model: str
) -> list[PeriodForecast]:
    scope = {"owner_id": "owner"}.get(dimension, dimension)
    sums = closed.groupby(closed[dimension].fillna(totals.NOBODY).astype(str))["amount"].sum()
    done = {str(name): float(amount) for name, amount in sums.items()}
    made = []
    names = draws.names[dimension]
    for name in sorted({*names, *done}):
        has = name in names
        column = names.index(name) if has else 0
        opened = draws.open[dimension][:, column] if has else np.zeros(1)
        new = draws.new[dimension][:, column] if has else np.zeros(1)
        base = float(done.get(name, 0.0))
        low, middle, high = np.quantile(opened + new, (0.1, 0.5, 0.9)) + base
        made.append(
            PeriodForecast(
                connection=past.connection,
                period_start=period.start,
                period_end=period.end,
                scope=scope,  # type: ignore[arg-type]  # one of the literals by construction
                scope_id=name,
                currency=past.currency,
                p10=_money(low),
                p50=_money(middle),
                p90=_money(high),
                mean=_money(float(opened.mean() + new.mean()) + base),
                closed=_money(base),
                open=_money(float(opened.mean())),
                new=_money(float(new.mean())),
                model=model,
            )
        )
    return made


def _opportunities(
    past: History, rows: Landmarks, curve: Floats, amount: Floats, as_of: Ms
) -> list[OpportunityForecast]:
    ever = curve[:, -1]
    made = []
    for i, index in enumerate(rows.opportunity):
        share = curve[i, 1:] / ever[i] if ever[i] > 0 else None
        close = None
        if share is not None:
            days = [float(np.interp(q, np.r_[0.0, share], np.r_[0.0, _CLOSE_DAYS])) for q in (0.1, 0.5, 0.9)]
            low, middle, high = ((to_moment(as_of) + timedelta(days=min(d, 730))).date() for d in days)
            close = (low, middle, high)
        made.append(
            OpportunityForecast(
                connection=past.connection,
                id=str(past.ids[index]),
                win_probability=round(float(ever[i]), 4),
                win_in_period=round(float(curve[i, 0]), 4),
                expected_amount=_money(float(amount[i])),
                expected_close=close,
            )
        )
    return made


def _money(value: float) -> Decimal:
    return Decimal(round(value, 2)).quantize(Decimal("0.01"))
