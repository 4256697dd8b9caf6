"""What an opportunity brings if it is won: its amount now, and how amounts change until the end.

The mean of log(final / current) per stage is shrunk toward zero, and the residuals are drawn in the simulation.
Below 30 wins with a history of their amount nothing is learnt (notes 3.1), and amounts are taken as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipesync.forecast.history import Floats, History
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training

_LEAST_WINS = 30
_WEIGHT = 20.0
_MOST_RESIDUALS = 200


@dataclass(frozen=True)
class AmountModel:
    usual: float
    """Mean of past wins: what a blank, zero or negative amount counts as. (Totals are sums; a median is too low.)"""
    growth: dict[str, float]
    """Mean log(final / current) by stage; empty where nothing could be learnt."""
    by_product: dict[str, float] = field(default_factory=dict)
    """The mean of each product, shrunk toward everyone's."""
    residuals: tuple[float, ...] = ()
    """Quantiles of what the stage does not explain, centred so that their mean factor is one."""

    def expect(self, rows: Landmarks) -> Floats:
        usual = rows.frame["product"].map(self.by_product).astype(float).fillna(self.usual).to_numpy(float)
        amount = rows.frame["amount"].to_numpy(float)
        current = np.where(np.isfinite(amount) & (amount > 0), amount, usual)
        return current * np.exp(rows.frame["stage"].map(self.growth).fillna(0.0).to_numpy(float))


def known(amount: Floats, usual: float) -> Floats:
    found: Floats = np.where(np.isfinite(amount) & (amount > 0), amount, usual)
    return found


def learn(history: History, training: Training) -> AmountModel:
    wins = (
        history.won & (history.closed <= training.cutoff) & np.isfinite(history.amount) & (history.amount > 0)
    )
    past = history.amount[wins]
    usual = float(past.mean()) if len(past) else 0.0
    products = pd.Series(past).groupby(history.now["product"][wins].astype(str))
    means = (products.sum() + _WEIGHT * usual) / (products.count() + _WEIGHT)
    by_product = {str(name): float(mean) for name, mean in means.items()}
    won = training.fate.won
    current = training.rows.frame["amount"].to_numpy(float)[won]
    final = history.amount[training.rows.opportunity[won]]
    usable = (current > 0) & (final > 0)
    if "amount" not in history.events or pd.unique(training.rows.opportunity[won][usable]).size < _LEAST_WINS:
        return AmountModel(usual, {}, by_product)
    change = np.clip(np.log(final[usable] / current[usable]), -2.0, 2.0)
    stage = training.rows.frame["stage"].to_numpy(object)[won][usable]
    groups = pd.DataFrame({"stage": stage, "change": change}).groupby("stage")["change"]
    growth = {
        str(s): float(total / (n + _WEIGHT))
        for s, total, n in zip(groups.groups, groups.sum(), groups.count(), strict=True)
    }
    rest = change - np.array([growth[str(s)] for s in stage])
    if np.ptp(rest) < 1e-9:
        return AmountModel(usual, growth, by_product)
    residuals = np.quantile(rest, (np.arange(_MOST_RESIDUALS) + 0.5) / _MOST_RESIDUALS)
    residuals = residuals - np.log(np.mean(np.exp(residuals)))
    lift = float(np.log(np.mean(np.exp(rest))))
    return AmountModel(
        usual, {s: g + lift for s, g in growth.items()}, by_product, tuple(float(r) for r in residuals)
    )
