"""A fitted model: which forecaster, what it learned from earlier origins, and how to keep it as JSON.

What is kept are numbers and texts, never pickled objects: a ledger may be shared, and unpickling runs code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipesync.errors import InputError, Problem
from pipesync.forecast import amounts, baselines, ladder, learning, replay
from pipesync.forecast.amounts import AmountModel
from pipesync.forecast.baselines import FittedCrmProbability
from pipesync.forecast.boosting import FittedBoosting, Tree
from pipesync.forecast.design import Column, Design
from pipesync.forecast.forecasters import Fitted
from pipesync.forecast.forecasters import fit as fit_forecaster
from pipesync.forecast.hazard import Bins, FittedHazard
from pipesync.forecast.history import History, Ms, to_moment
from pipesync.forecast.ladder import Rung
from pipesync.forecast.learning import Learned
from pipesync.forecast.pooled import FittedPooled
from pipesync.forecast.regime import Alarm, watch
from pipesync.forecast.replay import Settled
from pipesync.forecast.rhythm import Rhythm
from pipesync.forecast.training import Training, start_of_history, training_at
from pipesync.forecast.typical import Typical, typical_of

VERSION = 5
_REPLAY_ROWS = 8_000
"""Landmarks of an earlier origin's model: enough for how wrong it was, which is all that is asked of it."""


@dataclass(frozen=True)
class Model:
    as_of: Ms
    days: float
    """The horizon that calibration and intervals were learned for."""
    rung: Rung
    fitted: Fitted
    learned: Learned
    amount: AmountModel
    typical: Typical
    banned: frozenset[str]
    alarms: tuple[Alarm, ...]
    closed: int
    won: int
    since: Ms
    """Exposure begins here."""
    baselines: Mapping[str, Fitted] = field(default_factory=dict)
    """What people use without a model, fitted on the same past; shown beside it."""

    def card(self) -> dict[str, Any]:  # Any: JSON
        """Say for people what the model is, what it rests on and what to doubt."""
        return {
            "forecaster": self.rung.forecaster,
            "why": self.rung.why,
            "closed": self.closed,
            "won": self.won,
            "trained_from": to_moment(self.since).date().isoformat(),
            "trained_to": to_moment(self.as_of).isoformat(),
            "learned": {k: round(v, 4) for k, v in asdict(self.learned).items()},
            "banned_fields": sorted(self.banned),
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }


def fit(
    past: History,
    as_of: Ms,
    days: float,
    *,
    banned: frozenset[str] = frozenset(),
    seed: int = 0,
    challenger: bool = True,
) -> Model:
    """Fit what the ladder chooses as of a moment, for a period that ends `days` later.

    Without the `challenger` boosting is not tried, which is several times faster.
    """
    training = training_at(past, as_of, banned=banned, seed=seed)
    before = _earlier(past, training, as_of, days, banned, seed, challenger)
    rung = ladder.choose(training.closed, training.won, before, tried=challenger)
    return Model(
        as_of=as_of,
        days=days,
        rung=rung,
        fitted=fit_forecaster(rung.forecaster, training),
        learned=learning.learn(before, rung.forecaster, as_of, training.closed, seed=seed),
        amount=amounts.learn(past, training),
        typical=typical_of(training),
        banned=banned,
        alarms=watch(past, as_of, training, before),
        closed=training.closed,
        won=training.won,
        since=start_of_history(past, as_of),
        baselines={name: fit_forecaster(name, training) for name in baselines.of(past)},
    )


def _earlier(
    past: History,
    training: Training,
    as_of: Ms,
    days: float,
    banned: frozenset[str],
    seed: int,
    challenger: bool,
) -> list[Settled]:
    if days <= 0:
        return []
    origins = replay.earlier_origins(past, as_of, days)
    challenged = challenger and ladder.is_challenged(training.closed, training.won)
    made = []
    for number, origin in enumerate(reversed(origins)):
        names = ["hazard" if training.closed >= ladder.POOLED_BELOW else "stage_age"]
        if challenged and number < ladder.ORIGINS:
            names.append("boosting")
        issued = replay.issue(past, origin, days, names, banned=banned, seed=seed, most_rows=_REPLAY_ROWS)
        made.append(replay.settle(past, issued, as_of))
    return made[::-1]


# --- Keeping it -------------------------------------------------------------------------------------------------


def to_document(model: Model) -> dict[str, Any]:  # Any: JSON
    """Return the model as JSON values."""
    return {
        "version": VERSION,
        "as_of": model.as_of,
        "days": model.days,
        "rung": asdict(model.rung),
        "fitted": _kept(model.fitted),
        "learned": asdict(model.learned),
        "amount": asdict(model.amount),
        "typical": asdict(model.typical),
        "banned": sorted(model.banned),
        "alarms": [asdict(a) for a in model.alarms],
        "closed": model.closed,
        "won": model.won,
        "since": model.since,
        "baselines": {name: _kept(one) for name, one in model.baselines.items()},
    }


def _kept(fitted: Fitted) -> dict[str, Any]:  # Any: JSON
    if isinstance(fitted, FittedHazard):
        return {
            "kind": "hazard",
            "bins": asdict(fitted.bins),
            "columns": [_column(c) for c in fitted.design.columns],
            "weights": fitted.weights.tolist(),
            "intercept": fitted.intercept.tolist(),
            "rhythm": asdict(fitted.rhythm),
        }
    if isinstance(fitted, FittedPooled):
        return {"kind": "pooled", **asdict(fitted)}
    if isinstance(fitted, FittedCrmProbability):
        return {"kind": "crm_probability", **asdict(fitted)}
    if isinstance(fitted, FittedBoosting):
        return {"kind": "boosting", **asdict(fitted)}
    raise TypeError(f"a {type(fitted).__name__} has no document yet: give it one here and in `_read`")


def _column(column: Column) -> dict[str, Any]:  # Any: JSON
    """JSON has no infinity: an open end is left out."""
    return {k: v for k, v in asdict(column).items() if not (isinstance(v, float) and np.isinf(v))}


def from_document(document: dict[str, Any]) -> Model:  # Any: JSON
    """Read a kept model; InputError where another version wrote it."""
    if document.get("version") != VERSION:
        raise InputError(Problem("the kept forecast model is of another version", fix="fit it anew"))
    return Model(
        as_of=int(document["as_of"]),
        days=float(document["days"]),
        rung=Rung(**document["rung"]),
        fitted=_read(document["fitted"]),
        learned=Learned(**document["learned"]),
        amount=AmountModel(**{**document["amount"], "residuals": tuple(document["amount"]["residuals"])}),
        typical=Typical(**document["typical"]),
        banned=frozenset(document["banned"]),
        alarms=tuple(Alarm(**alarm) for alarm in document["alarms"]),
        closed=int(document["closed"]),
        won=int(document["won"]),
        since=int(document["since"]),
        baselines={name: _read(kept) for name, kept in document["baselines"].items()},
    )


def _rhythm(kept: Mapping[str, Any]) -> Rhythm:  # Any: JSON
    return Rhythm(**{name: tuple(values) for name, values in kept["rhythm"].items()})


def _read(document: Mapping[str, Any]) -> Fitted:  # Any: JSON
    kept = dict(document)
    kind = kept.pop("kind")
    if kind == "hazard":
        columns = tuple(Column(**column) for column in kept["columns"])
        return FittedHazard(
            Bins(**kept["bins"]),
            Design(columns),
            np.array(kept["weights"]),
            np.array(kept["intercept"]),
            _rhythm(kept),
        )
    if kind == "boosting":
        trees = tuple(
            tuple(Tree(**{name: tuple(values) for name, values in tree.items()}) for tree in column)
            for column in kept["trees"]
        )
        names = {name: tuple(kept[name]) for name in ("stages", "numbers", "classes", "start")}
        return FittedBoosting(bins=Bins(**kept["bins"]), trees=trees, rhythm=_rhythm(kept), **names)
    if kind == "crm_probability":
        return FittedCrmProbability(kept["by_stage"], tuple(kept["orders"]))
    tables = {n: {c: tuple(r) for c, r in kept[n].items()} for n in ("rates", "outer")}
    return FittedPooled(kept["by"], tuple(kept["days"]), tuple(kept["prior"]), **tables)
