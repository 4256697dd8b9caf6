"""Historical conversion by stage, and by stage and age: the baselines, and the model of companies with little data.

A cell's rate is shrunk toward the rate of what contains it: p = (wins + m p0) / (n + m) with m = 20
(empirical Bayes, notes 3.2). A stage is shrunk toward the CRM's own probability of it where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipesync.forecast.history import DAY, Floats
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training

WEIGHT = 20.0
AGE_BINS = (7.0, 14.0, 28.0, 56.0, 91.0, 182.0, 365.0)
_NOTHING_KNOWN = 0.2
"""The share won where no opportunity was ever closed: a guess, and worth `WEIGHT` opportunities."""


@dataclass(frozen=True)
class Pooled:
    by_age: bool

    def fit(self, training: Training) -> FittedPooled:
        return FittedPooled(training, self.by_age)


@dataclass(frozen=True)
class FittedPooled:
    training: Training
    by_age: bool

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        """Beyond the longest horizon that the history has seen whole, probabilities stay as they are there."""
        found = [self._within(rows, float(d)) for d in days]
        return np.maximum.accumulate(np.column_stack(found), axis=1) if found else np.empty((len(rows), 0))

    def _within(self, rows: Landmarks, days: float) -> Floats:
        """Count landmarks that were seen for so long; one that closed sooner after a later origin would bias them."""
        training = self.training
        seen = (training.cutoff - training.rows.origin) / DAY
        longest = np.quantile(seen, 0.75) if len(seen) else 0.0
        days = min(days, float(longest))
        whole = seen >= days
        won = (training.fate.won & (training.fate.days <= days))[whole].astype(float)
        weight = training.weight[whole]
        past = training.rows.frame.loc[whole]
        prior = (np.sum(weight * won) + WEIGHT * self._prior()) / (np.sum(weight) + WEIGHT)
        stage = self._rates(past["stage"], won, weight, pd.Series(prior, index=past["stage"].unique()), prior)
        if not self.by_age:
            return _floats(rows.frame["stage"].map(stage).fillna(prior))
        bins = pd.Series(np.digitize(past["age"], AGE_BINS), index=past.index).astype(str)
        cells = past["stage"] + "|" + bins
        above = pd.Series({c: stage[c.rpartition("|")[0]] for c in cells.unique()}, dtype=float)
        rates = self._rates(cells, won, weight, above, prior)
        asked = rows.frame["stage"] + "|" + pd.Series(np.digitize(rows.frame["age"], AGE_BINS)).astype(str)
        fallback = rows.frame["stage"].map(stage).fillna(prior)
        return _floats(asked.map(rates).fillna(fallback))

    def _prior(self) -> float:
        rates = list(self.training.default_rates.values())
        if self.training.closed:
            return (self.training.won + _NOTHING_KNOWN) / (self.training.closed + 1)
        return float(np.mean(rates)) if rates else _NOTHING_KNOWN

    def _rates(
        self, cell: pd.Series[str], won: Floats, weight: Floats, above: pd.Series[float], prior: float
    ) -> pd.Series[float]:
        table = (
            pd.DataFrame({"cell": cell.to_numpy(), "won": won * weight, "n": weight}).groupby("cell").sum()
        )
        base = above.reindex(table.index).fillna(prior)
        return (table["won"] + WEIGHT * base) / (table["n"] + WEIGHT)


def _floats(values: pd.Series[float]) -> Floats:
    found: Floats = values.to_numpy(dtype=np.float64)
    return found
