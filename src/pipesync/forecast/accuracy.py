"""How good the issued forecasts were, and the people's own calls beside them.

What was issued is read from the ledger and never recalculated: only periods that have ended are scored, by the
week of the period in which a forecast was issued. A call is what the CRM said at that moment (`calls`): closed so
far plus the amounts that were committed with a close date in the period. Calls are those that the ledger has of that
moment; for moments before it kept them, the category's is read from its history, which nothing later changes.
What simpler methods said of the total is kept with the calls, and judged in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd

from pipesync.forecast import history, landmarks, learning, metrics, rollup
from pipesync.forecast.calls import COMMIT, COMMITTED, METHOD
from pipesync.forecast.history import DAY, History, Ms, day_ms, to_ms
from pipesync.forecast.periods import Period
from pipesync.model import Call, PeriodForecast, Scope
from pipesync.store.warehouse import Warehouse

CALLED: tuple[Scope, ...] = ("total", "owner", "team", "manager")
"""Scopes that people make calls for."""


@dataclass(frozen=True)
class Scored:
    """One issued forecast whose period has ended; amounts in the home currency."""

    as_of: datetime
    week: int
    """Of the period, from 1."""
    forecast: PeriodForecast
    actual: float
    call: float | None
    """By the forecast category; None where nobody kept it and it has no history, or the scope has no callers."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Further calls by kind, such as a manager's."""
    methods: Mapping[str, float] = field(default_factory=dict)
    """What simpler methods said of the total at that moment; empty where they were not kept yet."""


@dataclass(frozen=True)
class Called:
    """How good one further kind of call, or a simpler method, was, over those forecasts that it stood beside."""

    kind: str
    count: int
    wape: float
    bias: float
    own_wape: float
    """Of those forecasts themselves."""


@dataclass(frozen=True)
class Record:
    """A row of the record: one scope, a group of it or all, one week of the period or all."""

    scope: Scope
    scope_id: str | None
    week: int | None
    count: int
    wape: float
    bias: float
    pinball: float
    """Mean over the quantiles, as a share of the mean actual."""
    coverage_80: float
    call_wape: float | None
    call_bias: float | None
    calls: int
    """How many had a call to compare with; the call's figures are of those."""
    others: tuple[Called, ...] = ()
    methods: tuple[Called, ...] = ()


def score(
    warehouse: Warehouse,
    connection: str,
    issued: Iterable[tuple[datetime, PeriodForecast]],
    *,
    known_at: datetime,
    timezone: str = "UTC",
    kept: Iterable[tuple[datetime, Call]] = (),
    past: History | None = None,
) -> list[Scored]:
    """Hold issued forecasts against what happened, as known at a moment (usually the watermark).

    `kept` are the ledger's calls. `past` spares reading the history again.
    """
    said: dict[tuple[object, ...], dict[str, float]] = {}
    for as_of, one_call in kept:
        said.setdefault((as_of, *_about(one_call)), {})[one_call.kind] = float(one_call.amount)
    # Where calls were kept, whoever is not among them had nothing won and nothing committed.
    committed = {key[:3] for key, calls_ in said.items() if COMMIT in calls_}
    past = past or history.load(warehouse, connection)
    people = rollup.people_of(warehouse, connection)
    closed: dict[Period, pd.DataFrame] = {}
    actuals: dict[tuple[object, ...], float] = {}
    calls: dict[tuple[Ms, Period], pd.DataFrame | None] = {}
    found = []
    for as_of, one in sorted(issued, key=lambda pair: (pair[0], pair[1].scope, pair[1].scope_id)):
        period = Period(one.period_start, one.period_end, timezone)
        if period.ends_at > known_at or as_of >= period.ends_at:
            continue
        start, end = to_ms(period.starts_at), to_ms(period.ends_at)
        if period not in closed:
            closed[period] = rollup.closed_by_group(past, people, start, end - 1)
        if _about(one) not in actuals:
            actuals[_about(one)] = _of(closed[period], one, people)
        moment, heard = to_ms(as_of), said.get((as_of, *_about(one)), {})
        week = int(max(moment - start, 0) // (7 * DAY)) + 1
        call = None
        if one.scope in CALLED and (as_of, one.period_start, one.period_end) in committed:
            call = heard.get(COMMIT, 0.0)
        elif one.scope in CALLED:
            if (moment, period) not in calls:
                calls[moment, period] = _called(past, people, moment, period)
            called = calls[moment, period]
            call = None if called is None else _of(called, one, people)
        methods = {k.removeprefix(METHOD): v for k, v in heard.items() if k.startswith(METHOD)}
        others = {k: v for k, v in heard.items() if k != COMMIT and not k.startswith(METHOD)}
        found.append(Scored(as_of, week, one, actuals[_about(one)], call, others, methods))
    return found


def summarise(scored: Sequence[Scored]) -> list[Record]:
    """Return the record by scope; by week of the period; and by group of each scope."""
    found = []
    for scope in dict.fromkeys(s.forecast.scope for s in scored):
        mine = [s for s in scored if s.forecast.scope == scope]
        found.append(_record(scope, None, None, mine))
        for week in sorted({s.week for s in mine}):
            found.append(_record(scope, None, week, [s for s in mine if s.week == week]))
        if scope != "total":
            for name in sorted({s.forecast.scope_id for s in mine}):
                found.append(_record(scope, name, None, [s for s in mine if s.forecast.scope_id == name]))
    return found


def _record(scope: Scope, name: str | None, week: int | None, scored: Sequence[Scored]) -> Record:
    actual = np.array([s.actual for s in scored])
    said = np.array([[float(s.forecast.p10), float(s.forecast.p50), float(s.forecast.p90)] for s in scored])
    interval = np.array([s.forecast.interval for s in scored], dtype=float)
    called = [s for s in scored if s.call is not None]
    calls, happened = np.array([s.call for s in called]), np.array([s.actual for s in called])
    loss = float(np.mean([learning.pinball(q, a) for q, a in zip(said, actual, strict=True)]))
    return Record(
        scope=scope,
        scope_id=name,
        week=week,
        count=len(scored),
        wape=metrics.wape(said[:, 1], actual),
        bias=metrics.bias(said[:, 1], actual),
        pinball=loss / actual.mean() if actual.mean() else float("nan"),
        coverage_80=metrics.coverage(interval[:, 0], interval[:, 1], actual),
        call_wape=metrics.wape(calls, happened) if len(called) else None,
        call_bias=metrics.bias(calls, happened) if len(called) else None,
        calls=len(called),
        others=_judged([(s, s.others) for s in scored]),
        methods=_judged([(s, s.methods) for s in scored]),
    )


def _judged(beside: Sequence[tuple[Scored, Mapping[str, float]]]) -> tuple[Called, ...]:
    found = []
    for kind in sorted({kind for _, heard in beside for kind in heard}):
        mine = [(s, heard[kind]) for s, heard in beside if kind in heard]
        said, happened = np.array([amount for _, amount in mine]), np.array([s.actual for s, _ in mine])
        own = np.array([float(s.forecast.p50) for s, _ in mine])
        wape, bias = metrics.wape(said, happened), metrics.bias(said, happened)
        found.append(Called(kind, len(mine), wape, bias, metrics.wape(own, happened)))
    return tuple(found)


def _about(one: PeriodForecast | Call) -> tuple[object, ...]:
    return one.period_start, one.period_end, one.scope, one.scope_id


def _called(past: History, people: pd.DataFrame, moment: Ms, period: Period) -> pd.DataFrame | None:
    if "forecast_category" not in past.events:
        return None
    rows = landmarks.at(past, [moment])
    due = rows.frame["due_in"].to_numpy(float)
    in_time = np.isnan(due) | (moment + due * DAY < day_ms(period.end))
    counted = rows.take(rows.frame["forecast_category"].isin(COMMITTED).to_numpy(bool) & in_time)
    open_part = rollup.groups_of(past, people, counted.opportunity).assign(
        amount=np.nan_to_num(counted.frame["amount"].to_numpy(float)), total=""
    )
    return pd.concat([rollup.closed_by_group(past, people, to_ms(period.starts_at), moment), open_part])


def _of(frame: pd.DataFrame, one: PeriodForecast, people: pd.DataFrame) -> float:
    if one.scope == "total":
        return float(frame["amount"].sum())
    if one.scope == "manager":
        owners = rollup.managed(frame["owner_id"].unique(), people).get(one.scope_id, [])
        return float(frame.loc[frame["owner_id"].isin(owners), "amount"].sum())
    return float(frame.loc[frame[rollup.DIMENSIONS[one.scope]] == one.scope_id, "amount"].sum())
