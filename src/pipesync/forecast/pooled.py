"""Historical conversion by stage, by stage and age, by category: the baselines, and the model for little data.

A cell's rate is shrunk toward the rate of what contains it: p = (wins + m p0) / (n + m) with m = 20 (empirical
Bayes, notes 3.2). Where almost nothing was closed, the CRM's own probability of a stage is what its rate is shrunk
toward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipesync.forecast.history import DAY, Floats
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training

WEIGHT = 20.0
AGE_BINS = (7.0, 14.0, 28.0, 56.0, 91.0, 182.0, 365.0)
DAYS = (1.0, 3.0, 7.0, 14.0, 21.0, 28.0, 30.0, 42.0, 60.0, 75.0, 90.0, 120.0, 182.0, 365.0)
"""Horizons that rates are counted at; between them they are interpolated, after them they stay."""
NOTHING_KNOWN = 0.2
"""The share won where no opportunity was ever closed and the CRM gives no probability."""

Cells = Callable[[Landmarks], "pd.Series[str]"]


def _stage(rows: Landmarks) -> pd.Series[str]:
    return rows.frame["stage"].astype(str)


def _stage_age(rows: Landmarks) -> pd.Series[str]:
    bins = pd.Series(np.digitize(rows.frame["age"], AGE_BINS), index=rows.frame.index)
    return _stage(rows) + "|" + bins.astype(str)


def _category(rows: Landmarks) -> pd.Series[str]:
    return rows.frame["forecast_category"].fillna("none").astype(str)


CELLS: dict[str, tuple[Cells, Cells | None]] = {
    "stage": (_stage, None),
    "stage_age": (_stage_age, _stage),
    "crm_category": (_category, None),
}
"""By name: the cell of a row, and the cell that contains it."""


@dataclass(frozen=True)
class Pooled:
    by: str = "stage_age"

    def fit(self, training: Training) -> FittedPooled:
        seen = (training.cutoff - training.rows.origin) / DAY
        cell_of, above_of = CELLS[self.by]
        cells = cell_of(training.rows)
        above = above_of(training.rows) if above_of else None
        longest = float(seen.max()) if len(seen) else 0.0
        days = [d for d in DAYS if d <= longest] or [min(DAYS[0], longest) or DAYS[0]]
        prior, rates, outer = [], [], []
        for d in days:
            whole = seen >= d
            won = (training.fate.won & (training.fate.days <= d))[whole].astype(float)
            weight = training.weight[whole]
            base = (np.sum(weight * won) + WEIGHT * _prior(training)) / (np.sum(weight) + WEIGHT)
            prior.append(float(base))
            wide = _shrunk(
                (above if above is not None else cells)[whole], won, weight, _defaults(training, base), base
            )
            outer.append(wide)
            if above is not None:
                inside = dict(zip(cells[whole], above[whole], strict=True))
                rates.append(
                    _shrunk(cells[whole], won, weight, {c: wide[a] for c, a in inside.items()}, base)
                )
            else:
                rates.append(wide)
        return FittedPooled(self.by, tuple(days), _table(prior), _spans(rates), _spans(outer))


def _prior(training: Training) -> float:
    rates = list(training.default_rates.values())
    guess = float(np.mean(rates)) if rates else NOTHING_KNOWN
    return (training.won + guess) / (training.closed + 1)


def _defaults(training: Training, base: float) -> dict[str, float]:
    """Return the CRM's probabilities while they are all there is to go by: under thirty closed opportunities."""
    return training.default_rates if training.closed < 30 else {}


def _shrunk(
    cell: pd.Series[str], won: Floats, weight: Floats, above: dict[str, float], base: float
) -> dict[str, float]:
    table = (
        pd.DataFrame({"cell": cell.to_numpy(object), "won": won * weight, "n": weight}).groupby("cell").sum()
    )
    return {
        str(name): float((wins + WEIGHT * above.get(str(name), base)) / (n + WEIGHT))
        for name, wins, n in zip(table.index, table["won"], table["n"], strict=True)
    }


def _table(rates: list[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in np.maximum.accumulate(rates)) if rates else ()


def _spans(rates: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Turn one table per horizon into one curve per cell; a cell that long horizons lack stays where it was."""
    found: dict[str, tuple[float, ...]] = {}
    for cell in sorted({name for table in rates for name in table}):
        curve, last = [], 0.0
        for table in rates:
            last = max(last, table.get(cell, last))
            curve.append(last)
        found[cell] = tuple(curve)
    return found


@dataclass(frozen=True)
class FittedPooled:
    by: str
    days: tuple[float, ...]
    prior: tuple[float, ...]
    rates: dict[str, tuple[float, ...]]
    outer: dict[str, tuple[float, ...]]

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        cell_of, above_of = CELLS[self.by]
        cells = cell_of(rows).to_numpy(object)
        above = above_of(rows).to_numpy(object) if above_of else cells
        grid = np.r_[0.0, self.days]
        asked: dict[tuple[Any, Any], Floats] = {}  # Any: cells are texts in object arrays
        found = np.empty((len(rows), len(days)))
        for i, pair in enumerate(zip(cells, above, strict=True)):
            if pair not in asked:
                curve = self.rates.get(pair[0]) or self.outer.get(pair[1]) or self.prior
                asked[pair] = np.interp(days, grid, np.r_[0.0, curve])
            found[i] = asked[pair]
        return found

    def document(self) -> dict[str, Any]:  # Any: JSON
        return {
            "by": self.by,
            "days": self.days,
            "prior": self.prior,
            "rates": self.rates,
            "outer": self.outer,
        }
