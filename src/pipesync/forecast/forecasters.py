"""What a forecaster is, and the ones there are: a new one is a file here and a line in `FORECASTERS`.

`tests/forecast/test_forecasters.py` checks each of them: no look-ahead, same input same output, and sense on one class
only, no rows, one stage, everything open, everything closed, odd dates and odd amounts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from pipesync.forecast.history import Floats
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training


class Fitted(Protocol):
    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        """Return the probability that each row is won within so many days: rows x days, rising along days."""
        ...


class Forecaster(Protocol):
    def fit(self, training: Training) -> Fitted: ...


def _pooled(by: str) -> Callable[[], Forecaster]:
    def build() -> Forecaster:
        from pipesync.forecast.pooled import Pooled

        return Pooled(by)

    return build


def _hazard() -> Forecaster:
    from pipesync.forecast.hazard import Hazard

    return Hazard()


def _boosting() -> Forecaster:
    from pipesync.forecast.boosting import Boosting

    return Boosting()


def _crm_probability() -> Forecaster:
    from pipesync.forecast.baselines import CrmProbability

    return CrmProbability()


FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "hazard": _hazard,
    "boosting": _boosting,
    "stage": _pooled("stage"),
    "stage_age": _pooled("stage_age"),
    "crm_probability": _crm_probability,
    "crm_category": _pooled("crm_category"),
}


def fit(name: str, training: Training) -> Fitted:
    """Fit on one thread: these problems are small, and the sum must not depend on how many threads shared it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return FORECASTERS[name]().fit(training)


EVER = 20_000.0
"""Days within which whatever will be won is won."""


def within(fitted: Fitted, rows: Landmarks, days: float) -> Floats:
    if not len(rows):
        return np.empty(0)
    found: Floats = fitted.win_by(rows, np.array([days]))[:, 0]
    return found
