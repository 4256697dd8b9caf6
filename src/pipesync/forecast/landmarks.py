"""Open opportunities as they looked at chosen moments: what a forecaster learns from and speaks about.

A landmark is an opportunity at an origin. Every column is computed from events up to the origin, or from fields
that do not change; what became of it afterwards stands apart, in `Fate`, and only up to a cut-off.
(Landmarking: van Houwelingen & Putter, Dynamic Prediction in Clinical Survival Analysis, 2011.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipesync.forecast.history import DAY, NEVER, STATIC, Bools, Events, Floats, History, Ints, Ms

NUMBERS = (
    "age", "stage_days", "idle_days", "acts_7", "acts_30", "acts_all", "moves", "back_moves", "skipped",
    "stage_order", "amount", "amount_changes", "due_in", "past_due", "pushes", "push_days",
    "owner_load", "owner_rate", "source_rate", "product_rate", "segment_rate", "type_rate", "account_wins",
)  # fmt: skip
"""Columns that models may use, all float: days, counts, home currency, log-odds. NaN: blank or unknown."""
GROUPS = ("owner_id", "product", "source", "segment", "type")
_SHRINK = 10.0
"""Closed opportunities that the overall win rate weighs in a group's own (notes: a of about 10)."""


@dataclass(frozen=True)
class Landmarks:
    """Rows in order of origin, then opportunity. `frame` has NUMBERS, `stage` and the group columns."""

    frame: pd.DataFrame
    opportunity: Ints
    """Index into the history."""
    origin: Ints

    def __len__(self) -> int:
        return len(self.origin)

    def take(self, rows: npt.NDArray[np.int64] | Bools) -> Landmarks:
        return Landmarks(
            self.frame.loc[rows].reset_index(drop=True)
            if rows.dtype == bool
            else self.frame.iloc[rows].reset_index(drop=True),
            self.opportunity[rows],
            self.origin[rows],
        )


@dataclass(frozen=True)
class Fate:
    """What became of each landmark up to a cut-off: days until it closed or was last seen open."""

    days: Floats
    won: Bools
    lost: Bools
    """Neither: still open at the cut-off (censored)."""


def fates(history: History, rows: Landmarks, cutoff: Ms) -> Fate:
    closed = history.closed[rows.opportunity]
    seen = closed <= cutoff
    won = history.won[rows.opportunity]
    return Fate((np.minimum(closed, cutoff) - rows.origin) / DAY, seen & won, seen & ~won)


def at(
    history: History,
    origins: Sequence[Ms],
    *,
    banned: frozenset[str] = frozenset(),
    most: int | None = None,
    seed: int = 0,
) -> Landmarks:
    """Return the opportunities open at each origin, or a seeded part of `most` of them.

    Fields in `banned` are left blank; `stage:NAME` leaves out that stage.
    """
    pairs = [np.flatnonzero(history.is_open(origin)) for origin in origins]
    opportunity = np.concatenate([*pairs, np.empty(0, dtype=np.int64)]).astype(np.int64)
    origin = np.repeat(np.asarray(origins, dtype=np.int64), [len(p) for p in pairs])
    if most is not None and len(origin) > most:
        kept = np.sort(np.random.default_rng(seed).choice(len(origin), most, replace=False))
        opportunity, origin = opportunity[kept], origin[kept]
    tell = _Teller(history, opportunity, origin, banned)
    columns: dict[str, object] = {
        "age": (origin - history.created[opportunity]) / DAY,
        **tell.stage(),
        **tell.activity(),
        **tell.amount(),
        **tell.close_date(),
        **tell.groups(),
    }
    frame = pd.DataFrame(columns)
    frame["probability"] = tell.number("probability")
    frame["forecast_category"] = tell.value("forecast_category")
    return Landmarks(frame, opportunity, origin)


class _Teller:
    """Answers one family of columns each, for the same pairs of opportunity and origin."""

    def __init__(self, history: History, opportunity: Ints, origin: Ints, banned: frozenset[str]) -> None:
        stages = {name.removeprefix("stage:") for name in banned if name.startswith("stage:")}
        self.history = _without_stages(history, stages) if stages else history
        self.opportunity, self.origin = opportunity, origin
        self.banned = banned | history.unknown

    def value(self, name: str) -> npt.NDArray[np.object_]:
        """Return a field as of the origin; None where its history does not reach so far."""
        blank = np.full(len(self.opportunity), None, dtype=object)
        if name in self.banned or name not in self.history.now:
            return blank
        events = self.history.events.get(name)
        current = self.history.now[name][self.opportunity]
        if events is None:
            # Without a history, a field that changes is known of no past moment.
            return current if name in STATIC or name == "amount" else blank
        found = events.last(self.opportunity, self.origin)
        blank[found >= 0] = events.value[found[found >= 0]]
        never_changed = (events.last(self.opportunity, np.full_like(self.origin, NEVER)) < 0) & (found < 0)
        return np.where(never_changed, current, blank)

    def number(self, name: str) -> Floats:
        return pd.to_numeric(pd.Series(self.value(name)), errors="coerce").to_numpy(float)

    def _since(self, at: Ints, known: Bools) -> Floats:
        return np.where(known, (self.origin - at) / DAY, np.nan)

    def stage(self) -> dict[str, object]:
        history, opportunity, origin = self.history, self.opportunity, self.origin
        events = history.events.get("stage")
        pipeline = history.now["pipeline"][opportunity]
        if events is None or "stage" in self.banned:
            nothing = np.zeros(len(opportunity))
            return {
                "stage": _named(pipeline, np.full(len(opportunity), "?", dtype=object)),
                "stage_days": (origin - history.created[opportunity]) / DAY,
                "stage_order": nothing,
                "moves": nothing,
                "back_moves": nothing,
                "skipped": nothing,
            }
        found = events.last(opportunity, origin)
        known = found >= 0
        stage = np.full(len(opportunity), "?", dtype=object)
        stage[known] = events.value[found[known]]
        # An opportunity that never changed its stage has the one that it has now; one that is closed has changed it.
        unmoved = (events.last(opportunity, np.full_like(origin, NEVER)) < 0) & (
            history.closed[opportunity] == NEVER
        )
        stage[unmoved] = history.now["stage"][opportunity[unmoved]]
        entered = np.where(known, events.at[found] if len(events.at) else 0, history.created[opportunity])
        order = _orders(history, events.value, history.now["pipeline"][events.opportunity])
        first = np.r_[True, events.opportunity[1:] != events.opportunity[:-1]] if len(order) else order
        step = np.where(first, 0.0, np.diff(order, prepend=0.0))
        back, skip = np.cumsum(step < 0), np.cumsum(np.maximum(step - 1, 0))
        start = np.searchsorted(events.keys, opportunity * NEVER)
        return {
            "stage": _named(pipeline, stage),
            "stage_days": (origin - entered) / DAY,
            "stage_order": np.where(known, order[found] if len(order) else 0, 0.0),
            "moves": np.where(known, found - start, 0).astype(float),
            "back_moves": _between(back, start, found),
            "skipped": _between(skip, start, found),
        }

    def activity(self) -> dict[str, object]:
        done, opportunity, origin = self.history.activities, self.opportunity, self.origin
        if not len(done.keys):
            blank = np.full(len(opportunity), np.nan)
            return {"idle_days": blank, "acts_7": blank, "acts_30": blank, "acts_all": blank}
        total = done.position(opportunity, origin)
        last = done.last(opportunity, origin)
        at = np.maximum(done.at[last], self.history.created[opportunity])
        at = np.where(last >= 0, at, self.history.created[opportunity])
        return {
            "idle_days": (origin - at) / DAY,
            "acts_7": (total - done.position(opportunity, origin - 7 * DAY)).astype(float),
            "acts_30": (total - done.position(opportunity, origin - 30 * DAY)).astype(float),
            "acts_all": done.count(opportunity, origin).astype(float),
        }

    def amount(self) -> dict[str, object]:
        changes = self.history.events.get("amount")
        count = (
            np.maximum(changes.count(self.opportunity, self.origin) - 1, 0).astype(float)
            if changes is not None and len(changes.keys)
            else np.zeros(len(self.opportunity))
        )
        return {"amount": self.number("amount"), "amount_changes": count}

    def close_date(self) -> dict[str, object]:
        events, opportunity, origin = self.history.events.get("close_date"), self.opportunity, self.origin
        blank = np.full(len(opportunity), np.nan)
        if events is None or not len(events.keys) or "close_date" in self.banned:
            return {"due_in": blank, "past_due": blank, "pushes": blank, "push_days": blank}
        dates = pd.to_datetime(pd.Series(events.value), errors="coerce").to_numpy("datetime64[ms]")
        due = (dates - np.datetime64("2000-01-01", "ms")).astype(float) / DAY
        due[np.isnat(dates)] = np.nan
        same = np.r_[False, events.opportunity[1:] == events.opportunity[:-1]]
        later = np.where(same, np.diff(due, prepend=np.nan), 0.0)
        later = np.where(np.isfinite(later) & (later > 0), later, 0.0)
        found = events.last(opportunity, origin)
        start = np.searchsorted(events.keys, opportunity * NEVER)
        due_in = np.where(found >= 0, due[found] - origin / DAY, np.nan)
        # A close date that never changed is what it has been all along.
        never = events.last(opportunity, np.full_like(origin, NEVER)) < 0
        current = pd.to_datetime(pd.Series(self.history.now["close_date"][opportunity]), errors="coerce")
        still = (current.to_numpy("datetime64[ms]") - np.datetime64("2000-01-01", "ms")).astype(float) / DAY
        still[current.isna().to_numpy()] = np.nan
        due_in = np.where(never, still - origin / DAY, due_in)
        return {
            "due_in": due_in,
            "past_due": np.where(np.isnan(due_in), np.nan, due_in < -1),
            "pushes": _between(np.cumsum(later > 0), start, found),
            "push_days": _between(np.cumsum(later), start, found),
        }

    def groups(self) -> dict[str, npt.NDArray[Any]]:
        columns: dict[str, npt.NDArray[Any]] = {}  # Any: numbers, and texts as objects
        for name in GROUPS:
            value = self.value(name)
            if name == "owner_id" and not {name} & {*self.history.events, *self.banned}:
                # An owner without history is taken as it is: hand-overs are rare, and blank would lose every rep.
                value = self.history.now["owner_id"][self.opportunity]
            columns[name] = value
            short = name.removesuffix("_id")
            columns[f"{short}_rate"] = self._rate(name, value)
        columns["owner_load"] = self._owner_load(columns["owner_id"])
        columns["account_wins"] = self._account_wins()
        return columns

    def _rate(self, name: str, value: npt.NDArray[np.object_]) -> Floats:
        """Return the group's win rate so far as log-odds against everyone's, shrunk toward none."""
        if name in self.banned or name not in self.history.now:
            return np.full(len(value), np.nan)
        codes, known = pd.factorize(np.r_[self.history.now[name], value], use_na_sentinel=True)
        if not len(known):
            return np.full(len(value), np.nan)
        of_all, of_rows = codes[: len(self.history)], codes[len(self.history) :]
        won, closed = self._closed_before(of_all, of_rows)
        zero = np.zeros_like(of_all)
        all_won, all_closed = self._closed_before(zero, np.zeros_like(of_rows))
        overall = (all_won + 0.5) / (all_closed + 1.0)
        share = (won + _SHRINK * overall) / (closed + _SHRINK)
        share = np.clip(share, 1e-4, 1 - 1e-4)
        found: Floats = np.where(of_rows >= 0, _logit(share) - _logit(np.clip(overall, 1e-4, 1 - 1e-4)), 0.0)
        return found

    def _owner_load(self, owner: npt.NDArray[np.object_]) -> Floats:
        """Count what the owner had open at the origin, by who owns it now."""
        codes, known = pd.factorize(np.r_[self.history.now["owner_id"], owner], use_na_sentinel=True)
        if not len(known):
            return np.full(len(owner), np.nan)
        of_all, of_rows = codes[: len(self.history)], codes[len(self.history) :]
        begun = self._count_before(of_all, of_rows, self.history.created)
        ended = self._count_before(of_all, of_rows, np.maximum(self.history.closed, self.history.created))
        return np.where(of_rows >= 0, begun - ended, np.nan).astype(float)

    def _count_before(self, of_all: Ints, of_rows: Ints, at: Ints) -> Ints:
        counted = (of_all >= 0) & (at < NEVER)
        keys = np.sort(of_all[counted] * NEVER + at[counted])
        asked = np.maximum(of_rows, 0).astype(np.int64)
        high = np.searchsorted(keys, asked * NEVER + self.origin, side="right")
        return (high - np.searchsorted(keys, asked * NEVER)).astype(np.int64)

    def _closed_before(self, of_all: Ints, of_rows: Ints) -> tuple[Ints, Ints]:
        """Count, per row, its group's wins and closings up to the row's origin."""
        history = self.history
        counted = (of_all >= 0) & (history.closed < NEVER)
        keys = of_all[counted] * NEVER + history.closed[counted]
        order = np.argsort(keys, kind="stable")
        wins = np.r_[0, np.cumsum(history.won[counted][order])]
        asked = np.maximum(of_rows, 0).astype(np.int64)
        high = np.searchsorted(keys[order], asked * NEVER + self.origin, side="right")
        low = np.searchsorted(keys[order], asked * NEVER)
        return wins[high] - wins[low], high - low

    def _account_wins(self) -> Floats:
        accounts = self.history.now.get("account_id")
        if accounts is None or "account_id" in self.banned:
            return np.full(len(self.opportunity), np.nan)
        codes, _ = pd.factorize(accounts, use_na_sentinel=True)
        won, _ = self._closed_before(codes, codes[self.opportunity])
        return np.where(codes[self.opportunity] >= 0, won, np.nan).astype(float)


def _without_stages(history: History, names: set[str]) -> History:
    """Return the history as if these stages had never been entered."""
    events = history.events["stage"]
    kept = ~np.isin(events.value.astype(str), sorted(names))
    stage = Events(events.keys[kept], events.opportunity[kept], events.at[kept], events.value[kept])
    return replace(history, events={**history.events, "stage": stage})


def _between(cumulated: npt.NDArray[np.generic], start: Ints, found: Ints) -> Floats:
    """Return what was added after the first event of an opportunity, up to the found one."""
    if not len(cumulated):
        return np.zeros(len(found))
    first = np.minimum(start, len(cumulated) - 1)
    return np.where(found >= 0, cumulated[found].astype(float) - cumulated[first].astype(float), 0.0)


def _named(pipeline: npt.NDArray[np.object_], stage: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Stages of different pipelines are different stages, whatever their names."""
    return (pd.Series(pipeline).fillna("").astype(str) + "/" + pd.Series(stage).astype(str)).to_numpy(object)


def _orders(history: History, stages: npt.NDArray[np.object_], pipelines: npt.NDArray[np.object_]) -> Floats:
    known = {key: float(facts.order) for key, facts in history.stages.items()}
    by_name = {name: order for (_, name), order in known.items()}
    if not len(stages):
        return np.empty(0)
    # -1 (blank) becomes the last code, so that each pair of codes is one number.
    pipeline, pipeline_names = pd.factorize(pipelines)
    stage, stage_names = pd.factorize(stages)
    first, second = [*pipeline_names, None], [*stage_names, None]
    pair = (pipeline % len(first)) * len(second) + stage % len(second)
    distinct, codes = np.unique(pair, return_inverse=True)
    names = [(first[code // len(second)], second[code % len(second)]) for code in distinct]
    orders = np.array([known.get((p, n), by_name.get(n, 0.0)) for p, n in names], dtype=float)
    found: Floats = orders[codes]
    return found


def _logit(p: Floats) -> Floats:
    found: Floats = np.log(p / (1 - p))
    return found
