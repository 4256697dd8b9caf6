"""What a forecaster is fitted on: landmarks of the past with what became of them until the cut-off, and weights.

Nothing after the cut-off enters: a landmark's fate is censored there, and so are the rates and dwell times that
its columns hold, which stop at the landmark's own origin already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipesync.forecast import landmarks
from pipesync.forecast.history import DAY, Floats, History, Ms
from pipesync.forecast.landmarks import Fate, Landmarks
from pipesync.forecast.rhythm import months_of

WEEK = 7 * DAY
HALF_LIFE = 180.0
"""Days after which a landmark counts half: two quarters (notes 3.5: two to three)."""
_MOST_ORIGINS = 104
_MOST_ROWS = 60_000
"""More landmarks than this add cost and next to nothing else: those of one opportunity are alike."""


@dataclass(frozen=True)
class Training:
    rows: Landmarks
    fate: Fate
    weight: Floats
    cutoff: Ms
    closed: int
    """Opportunities closed before the cut-off, whether or not a landmark saw them open."""
    won: int
    default_rates: dict[str, float]
    """The CRM's own probability per stage, where it has one."""
    months: tuple[Ms, ...] = ()
    """First moments of the company's fiscal months, past and to come (`rhythm.months_of`)."""


def start_of_history(history: History, cutoff: Ms) -> Ms:
    """Return when exposure begins: before the first closing on record nothing open could have been seen to close."""
    closed = history.closed[(history.closed <= cutoff) & (history.closed > history.created)]
    return max(int(closed.min()) if len(closed) else cutoff, history.tracked_since)


def training_at(
    history: History,
    cutoff: Ms,
    *,
    banned: frozenset[str] = frozenset(),
    seed: int = 0,
    most_rows: int = _MOST_ROWS,
) -> Training:
    """Take weekly landmarks back from the cut-off; a seeded part of them where there are very many."""
    start = start_of_history(history, cutoff)
    weeks = min(max(int((cutoff - start) // WEEK), 0), _MOST_ORIGINS)
    origins = [cutoff - week * WEEK for week in range(weeks, 0, -1)]
    rows = landmarks.at(history, origins, banned=banned, most=most_rows, seed=seed)
    past = history.closed <= cutoff
    return Training(
        rows=rows,
        fate=landmarks.fates(history, rows, cutoff),
        weight=np.exp2(-(cutoff - rows.origin) / DAY / HALF_LIFE),
        cutoff=cutoff,
        closed=int(past.sum()),
        won=int((past & history.won).sum()),
        default_rates={
            f"{pipeline or ''}/{name}": facts.probability
            for (pipeline, name), facts in history.stages.items()
            if facts.probability is not None and facts.phase not in ("won", "lost")
        },
        months=months_of(history.calendar, cutoff),
    )
