"""Fields that give the outcome away, and fields that say nothing about it.

A field without history is read as it is today, and today it may hold what only the closing put there: an account
that is filled in when a deal is won, a probability of 0 or 100, a loss reason. Such a field makes a backtest shine
and a forecast fail, so it is banned and named (notes 0.9, 3.4). Every check compares what is open with what is
closed, or won with lost, as of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from pipesync.forecast import history as histories
from pipesync.forecast.history import DAY, NEVER, Bools, Floats, History, Ms, column_ms, to_ms
from pipesync.forecast.metrics import Interval, auc
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.features import Features

LeakKind = Literal["missing", "values", "outcome", "follows_closing"]
_LIMIT = 0.6
"""AUC of a blank for having been closed (or won) above which a field is banned (notes 3.4)."""
_OUTCOME_LIMIT = 0.9
_AT_ONCE: Ms = 5 * 60_000
"""A stage that is entered so shortly before the closing was entered by it."""
_LEAST_CLOSED, _LEAST_OPEN = 30, 10
_NO_SIGNAL = 0.03
"""An AUC this close to a half is none, however small its interval (notes: .47 to .53)."""
_NOT_FIELDS = {"connection", "id", "name", "pipeline", "stage", "is_closed", "is_won", "created_at", "closed_at",
               "currency", "custom"}  # fmt: skip
_SHRINK = 10.0


@dataclass(frozen=True)
class Leak:
    field: str
    kind: LeakKind
    why: str


@dataclass(frozen=True)
class Signal:
    """How well a field alone tells winners from losers among closed opportunities, out of sample."""

    field: str
    auc: float
    interval: Interval
    says: Literal["signal", "no signal"]


@dataclass(frozen=True)
class Guard:
    leaks: tuple[Leak, ...]
    signals: tuple[Signal, ...]
    """Of every static field, and of `all static fields` together."""
    notes: tuple[str, ...] = ()
    """What else is not read of the past, and why."""

    @property
    def banned(self) -> frozenset[str]:
        return frozenset(leak.field for leak in self.leaks)


def guard(warehouse: Warehouse, features: Features) -> Guard:
    """Check a connection's fields as of a moment."""
    return check(warehouse, histories.load(warehouse, features.connection), to_ms(features.as_of))


def check(warehouse: Warehouse, past: History, as_of: Ms) -> Guard:
    """Look at every field that is read without history, the site's own included."""
    fields, closed, won = _static_fields(warehouse, past, as_of)
    leaks = [leak for name in fields for leak in _leaks(name, fields[name], closed, won, past, as_of)]
    bad = {leak.field for leak in leaks}
    honest = {name: values for name, values in fields.items() if name not in bad}
    leaks += _stages(past, as_of)
    notes = (
        []
        if "stage" in past.events
        else ["stages have no history: those of the past are unknown, and not used"]
    )
    return Guard(tuple(leaks), tuple(_signals(honest, closed, won)), tuple(notes))


def banned(warehouse: Warehouse, past: History, as_of: Ms) -> frozenset[str]:
    fields, closed, won = _static_fields(warehouse, past, as_of)
    leaking = {n for n in fields if _leaks(n, fields[n], closed, won, past, as_of)}
    return frozenset(leaking | {leak.field for leak in _stages(past, as_of)})


def _static_fields(
    warehouse: Warehouse, past: History, as_of: Ms
) -> tuple[dict[str, pd.Series[str]], Bools, Bools]:
    frame = warehouse.frame("SELECT * FROM opportunities WHERE connection = ? ORDER BY id", [past.connection])
    columns = {str(n): frame[n] for n in frame.columns if n not in _NOT_FIELDS and n not in past.events}
    own = [dict(v) if isinstance(v, dict | list) else {} for v in frame["custom"]]
    for name in sorted({key for row in own for key in row}):
        columns[str(name)] = pd.Series([row.get(name) for row in own], dtype=object)
    existed = past.created <= as_of
    found = {
        name: values[existed].reset_index(drop=True)
        for name, values in columns.items()
        if name not in past.unknown and values[existed].notna().any()
    }
    closed = (past.closed <= as_of)[existed]
    return found, closed, closed & past.won[existed]


def _stages(past: History, as_of: Ms) -> list[Leak]:
    """Find open stages that only the closing puts opportunities into, such as a hand-over that is mapped as open.

    Where an opportunity begins is left out: one that is refused at once has been nowhere else.
    """
    events = past.events.get("stage")
    if events is None or not len(events.keys):
        return []
    is_open = past.is_open(as_of)
    every = np.arange(len(past))
    last = events.last(every, np.minimum(past.closed, as_of))
    began = last <= np.searchsorted(events.keys, every * NEVER)
    stage = np.full(len(past), "", dtype=object)
    stage[last >= 0] = events.value[last[last >= 0]]
    seen = (last >= 0) & (past.closed <= as_of)
    soon = np.zeros(len(past), dtype=bool)
    soon[seen] = past.closed[seen] - events.at[last[seen]] <= _AT_ONCE
    found = []
    for name in sorted({str(s) for s in stage[seen & ~began & soon]}):
        ended = seen & ~began & (stage == name)
        if ended.sum() < 20 or (is_open & (stage == name)).any():
            continue
        share, wins = float(soon[ended].mean()), float(past.won[ended].mean())
        if share >= 0.5 and max(wins, 1 - wins) > _OUTCOME_LIMIT:
            why = f"entered with the closing by {share:.0%} of those that end in it ({wins:.0%} won); none is open"
            found.append(Leak(f"stage:{name}", "follows_closing", why))
    return found


def _leaks(
    name: str, values: pd.Series[str], closed: Bools, won: Bools, past: History, as_of: Ms
) -> list[Leak]:
    if closed.sum() < _LEAST_CLOSED:
        return []
    found: list[Leak] = []
    blank = values.isna().to_numpy(bool) | (values.astype(str) == "").to_numpy(bool)
    is_open, lost = ~closed, closed & ~won
    if is_open.sum() >= _LEAST_OPEN:
        a, b = float(blank[is_open].mean()), float(blank[closed].mean())
        if abs(a - b) / 2 + 0.5 > _LIMIT:
            found.append(
                Leak(name, "missing", f"blank for {a:.0%} of open and {b:.0%} of closed opportunities")
            )
    if min(won.sum(), lost.sum()) >= _LEAST_OPEN:
        a, b = float(blank[won].mean()), float(blank[lost].mean())
        if abs(a - b) / 2 + 0.5 > _LIMIT:
            found.append(Leak(name, "missing", f"blank for {a:.0%} of won and {b:.0%} of lost opportunities"))
    if pd.api.types.is_datetime64_any_dtype(values):
        found += _follows(name, values, blank, closed, past, as_of)
        return found
    found += _exclusive(name, values, blank, closed)
    score = _score(values, won, closed & ~blank)
    if len(score) >= _LEAST_CLOSED:
        strength = auc(won[closed & ~blank], score)
        if max(strength, 1 - strength) > _OUTCOME_LIMIT:
            found.append(
                Leak(name, "outcome", f"tells won from lost with an AUC of {max(strength, 1 - strength):.3f}")
            )
    return found


def _follows(
    name: str, values: pd.Series[str], blank: Bools, closed: Bools, past: History, as_of: Ms
) -> list[Leak]:
    closed_at = past.closed[past.created <= as_of]
    rows = closed & ~blank & (closed_at < NEVER)
    if rows.sum() < _LEAST_CLOSED:
        return []
    # A calendar date holds for its whole day, so it may lie up to a day before the closing.
    distance = (column_ms(values)[rows] - closed_at[rows]) / DAY
    share = float(np.mean(np.abs(distance) <= 1))
    if share < 0.5:
        return []
    return [
        Leak(name, "follows_closing", f"within a day of the closing for {share:.0%} of closed opportunities")
    ]


def _exclusive(name: str, values: pd.Series[str], blank: Bools, closed: Bools) -> list[Leak]:
    """Find values that closed opportunities have and open ones never, though they should by their share."""
    opened = int((~closed & ~blank).sum())
    ended = int((closed & ~blank).sum())
    if opened < _LEAST_OPEN or ended < _LEAST_CLOSED:
        return []
    text = values.astype(str)
    here = text[closed & ~blank].value_counts()
    there = set(text[~closed & ~blank])
    missing = here[[v not in there and n >= 20 and n / ended * opened >= 5 for v, n in here.items()]]
    share = float(missing.sum()) / ended
    if share <= 0.2:
        return []
    example = ", ".join(map(str, missing.index[:3]))
    return [
        Leak(
            name, "values", f"{share:.0%} of closed opportunities have values that no open one has: {example}"
        )
    ]


def _score(values: pd.Series[str], won: Bools, rows: Bools) -> Floats:
    """Return for each row what its value says about winning, learnt on the other half of the rows."""
    part = values[rows].reset_index(drop=True)
    numbers = pd.to_numeric(part, errors="coerce")
    if len(part) and numbers.notna().all() and numbers.nunique() > 20:
        return numbers.to_numpy(dtype=np.float64)
    wins = pd.Series(won[rows].astype(float))
    score = np.zeros(len(part))
    half = np.arange(len(part)) % 2 == 0
    text = part.astype(str)
    for learn, tell in ((half, ~half), (~half, half)):
        overall = float(wins[learn].mean()) if learn.any() else 0.0
        groups = wins[learn].groupby(text[learn])
        rate = (groups.sum() + _SHRINK * overall) / (groups.count() + _SHRINK)
        # Against the half's own rate: otherwise the halves' levels, which mirror each other, would tell.
        score[tell] = text[tell].map(rate).fillna(overall).to_numpy(dtype=np.float64) - overall
    return score


def _signals(fields: dict[str, pd.Series[str]], closed: Bools, won: Bools) -> list[Signal]:
    if min(won.sum(), (closed & ~won).sum()) < _LEAST_CLOSED:
        return []
    found, together = [], np.zeros(int(closed.sum()))
    for name, values in fields.items():
        if pd.api.types.is_datetime64_any_dtype(values) or values[closed].nunique() < 2:
            continue
        filled = values.astype(object).where(values.notna(), "")
        score = _score(filled, won, closed)
        spread = float(score.std())
        if spread > 0 and filled.nunique() < 0.5 * len(filled):
            together += score
        found.append(_signal(name, won[closed], score))
    return [*found, _signal("all static fields", won[closed], together)] if found else []


def _signal(name: str, won: Bools, score: Floats) -> Signal:
    """Hanley & McNeil (1982) give the standard error of an AUC."""
    a = auc(won, score)
    n1, n0 = int(won.sum()), int(len(won) - won.sum())
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = float(np.sqrt((a * (1 - a) + (n1 - 1) * (q1 - a * a) + (n0 - 1) * (q2 - a * a)) / (n1 * n0)))
    interval = (max(a - 1.96 * error, 0.0), min(a + 1.96 * error, 1.0))
    weak = abs(a - 0.5) <= _NO_SIGNAL or interval[0] <= 0.5 <= interval[1]
    return Signal(name, a, interval, "no signal" if weak else "signal")
