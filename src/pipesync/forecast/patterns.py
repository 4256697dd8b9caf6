"""What opportunities that won had done by the same stage that others had not: advice to repeat, with its doubt.

One landmark per opportunity and stage, the first one there, so that those who stay long do not count often. A
difference is reported when its interval (Newcombe 1998, from Wilson's) excludes none and it survives a false
discovery rate of 10% over everything that was looked at (Benjamini & Hochberg 1995). It is an association: who
writes more may be who had something to write about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from pipesync.forecast import history, leakage
from pipesync.forecast.history import Bools, to_ms
from pipesync.forecast.training import Training, training_at
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.features import Features

_LEAST = 20
_RATE = 0.10
_Z = 1.96


@dataclass(frozen=True)
class Pattern:
    stage: str
    habit: str
    with_it: float
    """Share won of those that had it."""
    without: float
    difference: tuple[float, float, float]
    """Estimate, and its 95% interval."""
    count: tuple[int, int]
    """Opportunities with and without."""


_Habit = tuple[str, str, Callable[["pd.Series[float]"], "pd.Series[bool]"]]
_HABITS: tuple[_Habit, ...] = (
    ("acts_7", "an activity within the last week", lambda v: v >= 1),
    ("acts_30", "more than two activities within 30 days", lambda v: v > 2),
    ("idle_days", "no week without activity before", lambda v: v <= 7),
    ("pushes", "a close date that was never pushed", lambda v: v == 0),
    ("due_in", "a close date within 45 days", lambda v: (v >= 0) & (v <= 45)),
    ("back_moves", "no step back", lambda v: v == 0),
    ("skipped", "no stage skipped", lambda v: v == 0),
    ("account_wins", "an account that bought before", lambda v: v > 0),
    ("amount_changes", "an amount that was revised", lambda v: v > 0),
)


def patterns(warehouse: Warehouse, features: Features) -> list[Pattern]:
    """Return the connection's winning patterns as of a moment; fields that give the outcome away are not looked at."""
    past = history.load(warehouse, features.connection, features.calendar)
    as_of = to_ms(features.as_of)
    return winning_patterns(training_at(past, as_of, banned=leakage.banned(warehouse, past, as_of)))


def winning_patterns(training: Training) -> list[Pattern]:
    """Return what winners did, the largest difference first; stages by their name with the pipeline before it."""
    ended = training.fate.won | training.fate.lost
    frame = training.rows.frame.assign(won=training.fate.won, opportunity=training.rows.opportunity)[ended]
    first = frame.drop_duplicates(["opportunity", "stage"])
    found: list[tuple[float, Pattern]] = []
    for stage, part in first.groupby("stage"):
        for column, habit, test in _HABITS:
            known = part[part[column].notna()]
            has = test(known[column]).to_numpy(bool)
            if min(has.sum(), (~has).sum()) >= _LEAST:
                found.append(_compare(str(stage), habit, has, known["won"].to_numpy(bool)))
    found.sort(key=lambda pair: pair[0])
    kept = [i for i, (p, _) in enumerate(found) if p <= _RATE * (i + 1) / len(found)]
    certain = [one for _, one in found[: kept[-1] + 1]] if kept else []
    helpful = [p for p in certain if p.difference[1] > 0]
    return sorted(helpful, key=lambda p: (-p.difference[0], p.stage, p.habit))


def _compare(stage: str, habit: str, has: Bools, won: Bools) -> tuple[float, Pattern]:
    n1, n0 = int(has.sum()), int((~has).sum())
    p1, p0 = float(won[has].mean()), float(won[~has].mean())
    low1, high1 = wilson(p1, n1)
    low0, high0 = wilson(p0, n0)
    difference = p1 - p0
    low = difference - math.hypot(p1 - low1, high0 - p0)
    high = difference + math.hypot(high1 - p1, p0 - low0)
    together = (p1 * n1 + p0 * n0) / (n1 + n0)
    error = math.sqrt(max(together * (1 - together) * (1 / n1 + 1 / n0), 1e-12))
    chance = math.erfc(abs(difference) / error / math.sqrt(2))
    return chance, Pattern(stage, habit, p1, p0, (difference, low, high), (n1, n0))


def wilson(share: float, n: int) -> tuple[float, float]:
    middle = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return (middle - half) / (1 + _Z**2 / n), (middle + half) / (1 + _Z**2 / n)
