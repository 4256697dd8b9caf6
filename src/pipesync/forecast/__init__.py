"""What will close: the probability of every open opportunity, and period totals with honest intervals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from pipesync.errors import InputError, Problem
from pipesync.forecast import (
    amounts,
    arrivals,
    baselines,
    fitting,
    history,
    landmarks,
    leakage,
    learning,
    path,
    rollup,
    timing,
    totals,
)
from pipesync.forecast.fitting import Model
from pipesync.forecast.forecasters import within
from pipesync.forecast.history import DAY, NEVER, Floats, History, to_moment, to_ms
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.path import WeekEnd
from pipesync.forecast.periods import Period
from pipesync.forecast.rhythm import rhythm_of
from pipesync.model import OpportunityForecast, PeriodForecast, Scope
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.features import Features

__all__ = ["Forecast", "Model", "Period", "fit_model", "predict"]

DRAWS = 2000


@dataclass(frozen=True)
class Forecast:
    """Figures per scope come from the same draws, so their means add up."""

    as_of: datetime
    period: Period
    total: PeriodForecast
    by_owner: list[PeriodForecast]
    by_product: list[PeriodForecast]
    opportunities: list[OpportunityForecast]
    model: dict[str, Any]  # Any: JSON
    rollups: dict[Scope, list[PeriodForecast]] = field(default_factory=dict)
    """Every scope, the three above among them."""
    zombies: tuple[str, ...] = ()
    """Open opportunities that are older than any that was ever closed."""
    dated: dict[str, float] = field(default_factory=dict, repr=False)
    """Amounts of the open opportunities whose close date is in the period, home currency; of all open ones where no
    close date is known. What coverage counts."""
    path: tuple[WeekEnd, ...] = ()
    """The total as it stood and will stand at the end of each week of the period; the last is the period's end."""
    draws: dict[Scope, dict[str, Floats]] = field(default_factory=dict, repr=False)
    """Amount closed in the period, by scope and group: one value per draw."""
    baselines: dict[str, float] = field(default_factory=dict)
    """What simpler methods say of the total, home currency: closed, plus open by each method and plain new business;
    `run_rate` is closed plus the days left at the pace of the last 90."""


def predict(
    warehouse: Warehouse,
    features: Features,
    period: Period,
    *,
    seed: int = 0,
    model: Model | None = None,
    past: History | None = None,
) -> Forecast:
    """Forecast a connection's period as of `features.as_of`, from what was known then.

    With a `model` that was fitted earlier (and may have been kept, see `fitting`) nothing is fitted. `past` spares
    reading the history where it was loaded already.
    """
    past = past or history.load(warehouse, features.connection, features.calendar)
    as_of = to_ms(features.as_of)
    wait, left = until(period, as_of)
    if model is None:
        model = fitting.fit(past, as_of, left, banned=leakage.banned(warehouse, past, as_of), seed=seed)
    elif model.as_of > as_of:
        raise InputError(
            Problem("the forecast model knows what came after the moment asked for", fix="fit it anew")
        )
    rows = landmarks.at(past, [as_of], banned=model.banned)
    ends = path.ahead(period, as_of)
    curve = model.learned.calibrate(model.fitted.win_by(rows, np.r_[ends, left, timing.DAYS]))
    by_week, curve = curve[:, : len(ends)], curve[:, len(ends) :]
    if wait > 0:
        early = model.learned.calibrate(model.fitted.win_by(rows, np.array([wait])))
        curve[:, :1] = np.maximum(curve[:, :1] - early, 0.0)
        by_week = by_week - early
    value = model.amount.expect(rows)
    people = rollup.people_of(warehouse, features.connection)
    rhythm = rhythm_of(model.fitted)
    before = arrivals.expect(past, as_of, wait, rhythm).rate
    new_by_week = np.array([arrivals.expect(past, as_of, days, rhythm).rate - before for days in ends])
    new = arrivals.expect(past, as_of, left, rhythm)
    new = replace(new, rate=max(new.rate - before, 0.0))
    portfolio = totals.Portfolio(
        win=curve[:, 0],
        amount=value,
        groups=rollup.groups_of(past, people, rows.opportunity),
        new=new.scaled(model.learned.new_factor),
        new_amount=amounts.known(past.amount[new.pool], model.amount.usual),
        new_groups=rollup.groups_of(past, people, new.pool),
        residuals=model.amount.residuals,
        by_week=path.shares(by_week) if len(ends) else None,
        new_by_week=path.shares(new_by_week[None, :])[0] if len(ends) else None,
    )
    draws = totals.simulate(portfolio, shock=model.learned.shock, draws=DRAWS, seed=seed)
    pace = baselines.run_rate(past, as_of, left - wait, model.since)
    factor = learning.factor_of(draws.total(), pace, model.learned)
    closed = rollup.closed_by_group(
        past, people, to_ms(period.starts_at), min(as_of, to_ms(period.ends_at) - 1)
    )
    parts = rollup.parts_of(draws, factor, closed, people)
    made = rollup.summarise(past, period, parts, model.rung.forecaster)
    simple = {
        name: float((within(one, rows, left) - (within(one, rows, wait) if wait > 0 else 0.0)) @ value)
        for name, one in model.baselines.items()
    }
    plain_new = (
        new.rate * float(np.average(portfolio.new_amount, weights=new.weight)) if len(new.pool) else 0.0
    )
    won = float(made["total"][0].closed)
    undated = int(((past.created == NEVER) & (past.closed > as_of)).sum())
    return Forecast(
        as_of=features.as_of,
        period=period,
        total=made["total"][0],
        by_owner=made["owner"],
        by_product=made["product"],
        opportunities=_opportunities(past, rows, curve, value, features),
        model={**model.card(), **({"left_out": {"no creation time": undated}} if undated else {})},
        rollups=made,
        zombies=tuple(str(past.ids[i]) for i in rows.opportunity[beyond_any_closed(past, rows)]),
        dated=_dated(past, rows, period),
        path=path.walk(made["total"][0], period, as_of, closed, draws.weeks, factor),
        draws={
            scope: {name: part.closed + part.open + part.new for name, part in groups.items()}
            for scope, groups in parts.items()
        },
        baselines={
            **{name: won + amount + plain_new for name, amount in simple.items()},
            "run_rate": won + pace.amount,
        },
    )


def until(period: Period, as_of: int) -> tuple[float, float]:
    """Return days until the period begins, 0 where it has, and until it ends, 0 where it is over."""
    begins, ends = to_ms(period.starts_at), to_ms(period.ends_at)
    return max((begins - as_of) / DAY, 0.0), max((ends - as_of) / DAY, 0.0)


def fit_model(
    warehouse: Warehouse, features: Features, period: Period, *, seed: int = 0, challenger: bool = True
) -> Model:
    """Fit as of `features.as_of`, to predict with later and to keep (`fitting.to_document`)."""
    past = history.load(warehouse, features.connection, features.calendar)
    as_of = to_ms(features.as_of)
    _, left = until(period, as_of)
    banned = leakage.banned(warehouse, past, as_of)
    return fitting.fit(past, as_of, left, banned=banned, seed=seed, challenger=challenger)


def beyond_any_closed(past: History, rows: Landmarks) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which rows are older than the longest cycle of anything closed before their origin (notes 0.10)."""
    if not len(rows):
        return np.zeros(0, dtype=bool)
    closed = (past.closed <= rows.origin.max()) & (past.created < NEVER)
    longest = float(((past.closed - past.created)[closed] / DAY).max()) if closed.any() else np.inf
    return rows.frame["age"].to_numpy(float) > longest


def _dated(past: History, rows: Landmarks, period: Period) -> dict[str, float]:
    """Return what is dated in the period; a day of the calendar is one, whatever the zone."""
    start = np.datetime64("2000-01-01", "D")
    first, end = (float((np.datetime64(day, "D") - start).astype(int)) for day in (period.start, period.end))
    due = rows.origin / DAY + rows.frame["due_in"].to_numpy(float)
    inside = (np.round(due) >= first) & (np.round(due) < end) if np.isfinite(due).any() else np.isnan(due)
    amount = np.nan_to_num(rows.frame["amount"].to_numpy(float))
    return {str(past.ids[i]): float(a) for i, a in zip(rows.opportunity[inside], amount[inside], strict=True)}


def _opportunities(
    past: History, rows: Landmarks, curve: Floats, value: Floats, features: Features
) -> list[OpportunityForecast]:
    start = to_moment(to_ms(features.as_of))
    days = timing.quantiles_on(curve[:, 1:])
    made = []
    for i, index in enumerate(rows.opportunity):
        close = None
        if np.isfinite(days[i]).all():
            low, middle, high = ((start + timedelta(days=float(d))).date() for d in days[i])
            close = (low, middle, high)
        made.append(
            OpportunityForecast(
                connection=past.connection,
                id=str(past.ids[index]),
                win_probability=round(float(curve[i, -1]), 4),
                win_in_period=round(float(curve[i, 0]), 4),
                expected_amount=rollup.money(value[i]),
                expected_close=close,
            )
        )
    return made
