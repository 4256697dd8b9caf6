"""How many wins were to be expected of somebody's opportunities: the forecast's word, before the outcome.

At origins half a year and a year ago a model is fitted on what was known then and asked what chance every open
opportunity had to be won by now, in usual hands: what it knows of the owner is put back to usual, so that nobody is
expected to do as badly as before. The level is then moved until everybody's expectation is what everybody won, so
that a good or a bad year is held for or against nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipesync.forecast import history, landmarks, leakage
from pipesync.forecast.forecasters import fit, within
from pipesync.forecast.history import DAY, Bools, Floats, to_ms
from pipesync.forecast.training import start_of_history, training_at
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.features import Features

ORIGINS = (364, 182)
"""Days ago."""
_OWN = ("owner_rate", "owner_load")
_LEAST_CLOSED = 30
_ROWS = 10_000
"""Landmarks to fit on. Of 50,000 opportunities, twice as many change what is expected of an owner by 0.5% at most."""


def expected_wins(
    warehouse: Warehouse, features: Features, *, past: history.History | None = None
) -> dict[str, float]:
    """Return `foretold_wins` of a connection. `past` spares reading the history again."""
    past = past or history.load(warehouse, features.connection, features.calendar)
    now = to_ms(features.as_of)
    return foretold_wins(past, now, leakage.banned(warehouse, past, now))


def foretold_wins(past: history.History, now: history.Ms, banned: frozenset[str]) -> dict[str, float]:
    """Return by opportunity the probability to have been won by now, as of the first origin that saw it open.

    `banned` fields are not looked at. Empty where history is too short for a model at either origin.
    """
    seen: list[int] = []
    chance: list[float] = []
    for days in ORIGINS:
        origin = now - days * DAY
        if origin - start_of_history(past, origin) < 28 * DAY:
            continue
        training = training_at(past, origin, banned=banned, most_rows=_ROWS)
        if training.closed < _LEAST_CLOSED or not len(training.rows):
            continue
        rows = landmarks.at(past, [origin], banned=banned)
        usual = {name: float(np.nan_to_num(np.nanmedian(_known(training.rows, name)))) for name in _OWN}
        rows = landmarks.Landmarks(rows.frame.assign(**usual), rows.opportunity, rows.origin)
        told = within(fit("hazard", training), rows, float(days))
        first = ~np.isin(rows.opportunity, seen)
        seen += rows.opportunity[first].tolist()
        chance += told[first].tolist()
    if not seen:
        return {}
    won = past.won[seen] & (past.closed[seen] <= now)
    level = levelled(np.array(chance), won)
    return {str(past.ids[i]): float(p) for i, p in zip(seen, level, strict=True)}


def _known(rows: landmarks.Landmarks, name: str) -> Floats:
    values = rows.frame[name].to_numpy(float)
    return values if np.isfinite(values).any() else np.zeros(1)


def levelled(chance: Floats, won: Bools) -> Floats:
    """Move all log-odds by one step so that they expect as many wins as there were (half of one added)."""
    odds = np.log(np.clip(chance, 1e-6, 1 - 1e-6) / (1 - np.clip(chance, 1e-6, 1 - 1e-6)))
    wanted = float(np.clip(won.sum(), 0.5, len(won) - 0.5)) if len(won) > 1 else float(chance.sum())
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if float((1 / (1 + np.exp(-odds - middle))).sum()) < wanted else (low, middle)
        )
    found: Floats = 1 / (1 + np.exp(-odds - (low + high) / 2))
    return found
