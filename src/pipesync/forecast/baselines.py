"""What a company has without a model: the CRM's own probabilities, and the run-rate of what was won lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipesync.forecast.history import DAY, Floats, History, Ms
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training


def of(history: History) -> tuple[str, ...]:
    """Name the baselines that have a forecaster; the category is one only where its past is known."""
    known = "forecast_category" in history.events and any(
        one is not None for one in history.now["forecast_category"]
    )
    return ("stage", "stage_age", "crm_probability", *(("crm_category",) if known else ()))


_LOOK_BACK = 90.0
"""Days whose wins make the run-rate."""
_LOWEST, _HIGHEST = 0.1, 0.8
"""What CRMs ship for the first and the last open stage, where a company gives no probabilities of its own."""


@dataclass(frozen=True)
class CrmProbability:
    """Counts every open opportunity at its CRM probability, if its close date is in the period or not known."""

    def fit(self, training: Training) -> FittedCrmProbability:
        found = training.rows.frame["stage_order"].to_numpy(float)
        span = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
        return FittedCrmProbability(training.default_rates, span)


@dataclass(frozen=True)
class FittedCrmProbability:
    by_stage: dict[str, float]
    orders: tuple[float, float]

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        first, last = self.orders
        place = (rows.frame["stage_order"].to_numpy(float) - first) / max(last - first, 1.0)
        ladder = _LOWEST + (_HIGHEST - _LOWEST) * np.clip(place, 0, 1)
        stage = rows.frame["stage"].map(self.by_stage).to_numpy(float)
        own = rows.frame["probability"].to_numpy(float)
        chance = np.where(np.isfinite(own), own, np.where(np.isfinite(stage), stage, ladder))
        due = rows.frame["due_in"].to_numpy(float)
        counts = np.isnan(due)[:, None] | (due[:, None] <= days[None, :])
        found: Floats = chance[:, None] * counts
        return found


class Pace(NamedTuple):
    """What goes on as before brings: an amount in so many days, by what came in the `over` days before."""

    amount: float
    days: float
    over: float


def run_rate(history: History, origin: Ms, days: float, start: Ms) -> Pace:
    """Return the amount won per day over the last 90 days (or since the history's start), times the days."""
    begin = max(origin - int(_LOOK_BACK * DAY), start)
    span = (origin - begin) / DAY
    if span < 1:
        return Pace(0.0, days, 1.0)
    won = history.won & (history.closed > begin) & (history.closed <= origin)
    return Pace(float(np.nansum(history.amount[won])) / span * days, days, span)
