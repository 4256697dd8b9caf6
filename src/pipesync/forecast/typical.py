"""What is usual: the middle value of every column, of all landmarks and of those that were won later.

Reasons compare with it ("winners take 9 days"), and a kept model carries it along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipesync.forecast.landmarks import NUMBERS
from pipesync.forecast.training import Training

_LEAST = 20


@dataclass(frozen=True)
class Typical:
    usual: dict[str, float]
    """Median of each column over all landmarks."""
    winners: dict[str, dict[str, float]]
    """By stage: median of each column over landmarks that were won later; stages with too few are left out."""
    stage: str
    """The most frequent one."""


def typical_of(training: Training) -> Typical:
    frame = training.rows.frame
    if not len(frame):
        return Typical({}, {}, "")
    names = [n for n in NUMBERS if frame[n].notna().any()]
    won = frame.loc[training.fate.won]
    winners: dict[str, dict[str, float]] = {}
    for stage, part in won.groupby("stage"):
        if len(part) >= _LEAST:
            medians = part[names].median()
            winners[str(stage)] = {str(n): float(v) for n, v in medians.items() if np.isfinite(v)}
    return Typical(
        usual={n: float(np.nanmedian(frame[n].to_numpy(float))) for n in names},
        winners=winners,
        stage=str(frame["stage"].mode().iloc[0]),
    )
