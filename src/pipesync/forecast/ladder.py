"""Which model speaks, by how much there is to learn from; the output says which one and why.

Under 30 closed opportunities a pooled prior; then the logistic hazards; above 1,500 closed and 200 won the
boosting challenger is tried, and used only where its log loss on earlier origins was lower by more than the
standard error of the difference (notes 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipesync.forecast.metrics import log_loss
from pipesync.forecast.replay import Settled

POOLED_BELOW = 30
_CHALLENGE_ABOVE = 1500
_CHALLENGE_WINS = 200
ORIGINS = 6
"""Earlier origins that decide; fewer decide nothing."""


@dataclass(frozen=True)
class Rung:
    forecaster: str
    why: str


def is_challenged(closed: int, won: int) -> bool:
    return closed > _CHALLENGE_ABOVE and won > _CHALLENGE_WINS


def choose(closed: int, won: int, settled: Sequence[Settled], *, tried: bool = True) -> Rung:
    """Return the forecaster to use; `settled` are earlier origins, those that fitted both say who was better.

    `tried`: whether they were to fit both.
    """
    if closed < POOLED_BELOW:
        return Rung(
            "stage_age", f"{closed} closed opportunities; under {POOLED_BELOW} a pooled stage rate is safer"
        )
    if not is_challenged(closed, won):
        return Rung("hazard", f"{closed} closed opportunities; boosting is tried above {_CHALLENGE_ABOVE}")
    if not tried:
        return Rung(
            "hazard",
            f"{closed} closed opportunities; boosting is tried by `sync`, weekly, and by the backtest",
        )
    both = [s for s in settled if "boosting" in s.issue.win and "hazard" in s.issue.win and len(s.won)]
    if len(both) < ORIGINS:
        return Rung("hazard", f"boosting had {len(both)} earlier origins to show itself; it needs {ORIGINS}")
    gain = np.array(
        [
            np.mean(log_loss(s.won, s.issue.win["hazard"]) - log_loss(s.won, s.issue.win["boosting"]))
            for s in both
        ]
    )
    mean, error = float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))
    said = f"log loss of boosting is {abs(mean):.4f} {'lower' if mean > 0 else 'higher'} (standard error {error:.4f})"
    return Rung("boosting" if mean > error else "hazard", f"on {len(both)} earlier origins the {said}")
