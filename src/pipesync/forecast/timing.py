"""When an opportunity will be won, given that it will be."""

from __future__ import annotations

import numpy as np

from pipesync.forecast.forecasters import EVER, Fitted
from pipesync.forecast.history import Floats
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.learning import QUANTILES, Learned

DAYS = np.array(
    [
        1,
        2,
        3,
        5,
        7,
        10,
        14,
        21,
        28,
        35,
        42,
        56,
        70,
        91,
        119,
        150,
        182,
        228,
        273,
        319,
        365,
        456,
        547,
        730,
        EVER,
    ],
    dtype=float,
)
"""The curve's points: days from the origin."""


def quantile_days(fitted: Fitted, rows: Landmarks, learned: Learned) -> Floats:
    """Return rows x 3: the days by which P10, P50 and P90 of its winning has happened; NaN where it never wins."""
    return quantiles_on(learned.calibrate(fitted.win_by(rows, DAYS)))


def quantiles_on(curve: Floats) -> Floats:
    """Read quantiles off curves over DAYS."""
    ever = curve[:, -1:]
    share = np.concatenate([np.zeros((len(curve), 1)), curve / np.where(ever > 0, ever, np.nan)], axis=1)
    days = np.r_[0.0, DAYS]
    found = np.full((len(curve), len(QUANTILES)), np.nan)
    rows = np.flatnonzero(np.isfinite(share).all(axis=1))
    for column, q in enumerate(QUANTILES):
        after = np.argmax(share[rows] >= q, axis=1)
        below, above = share[rows, after - 1], share[rows, after]
        part = np.where(above > below, (q - below) / np.maximum(above - below, 1e-12), 0.0)
        found[rows, column] = days[after - 1] + part * (np.minimum(days[after], 1095.0) - days[after - 1])
    return found
