"""From draws to figures per owner, team, manager, product, source, segment and currency; all from the same draws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipesync.forecast.history import Floats, History, Ints, Ms
from pipesync.forecast.periods import Period
from pipesync.forecast.totals import NOBODY, Draws, interval_of
from pipesync.model import PeriodForecast, Scope
from pipesync.store.warehouse import Warehouse

DIMENSIONS: dict[Scope, str] = {
    "owner": "owner_id", "team": "team", "manager": "manager", "product": "product", "source": "source",
    "segment": "segment", "currency": "currency", "pipeline": "pipeline",
}  # fmt: skip
"""Scope -> the column that names its groups."""


def groups_of(past: History, people: pd.DataFrame, rows: Ints) -> pd.DataFrame:
    """Return the groups of opportunities, one column per dimension; blank is `NOBODY`."""
    columns: dict[str, npt.NDArray[np.object_]] = {}
    for column in DIMENSIONS.values():
        if column in people.columns:
            owner = pd.Series(past.now["owner_id"][rows], dtype=object)
            columns[column] = owner.map(people[column]).to_numpy(object)
        else:
            columns[column] = past.now[column][rows]
    frame = pd.DataFrame(columns, index=range(len(rows)), dtype=object)
    return frame.where(frame.notna(), NOBODY).astype(str)


def people_of(warehouse: Warehouse, connection: str) -> pd.DataFrame:
    """Return team and (direct) manager by owner id."""
    frame = warehouse.frame(
        "SELECT id, team, manager_id AS manager FROM users WHERE connection = ?", [connection]
    )
    return frame.astype(object).drop_duplicates("id").set_index("id")


def above(people: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the managers above each person, nearest first; a circle ends where it closes."""
    direct = {str(i): str(m) for i, m in people["manager"].items() if isinstance(m, str) and m}
    found = {}
    for person in sorted({*direct, *direct.values()}):
        chain: list[str] = []
        at = person
        while (at := direct.get(at, "")) and at not in chain and at != person:
            chain.append(at)
        found[person] = tuple(chain)
    return found


def closed_by_group(past: History, people: pd.DataFrame, start: Ms, until: Ms) -> pd.DataFrame:
    """Return what was won in the period so far: `amount`, `at` and the groups."""
    won = np.flatnonzero(past.won & (past.closed >= start) & (past.closed <= until))
    frame = groups_of(past, people, won)
    return frame.assign(amount=np.nan_to_num(past.amount[won]), at=past.closed[won], total=NOBODY)


@dataclass(frozen=True)
class Part:
    """One group of one scope: what is closed, and per draw what open and new opportunities still bring."""

    closed: float
    open: Floats
    new: Floats


Parts = dict[Scope, dict[str, Part]]


def parts_of(draws: Draws, factor: Floats, closed: pd.DataFrame, people: pd.DataFrame) -> Parts:
    """Sum draws by scope and group; `factor` is what stretching and blending made of each draw's total.

    A manager's group holds his own and everybody's below, through all levels, so those of one level add up and not
    all of them.
    """
    found: Parts = {}
    scopes = cast("dict[Scope, str]", {"total": "total", **DIMENSIONS})
    for scope, column in scopes.items():
        column = "owner_id" if scope == "manager" else column
        sums = closed.groupby(column)["amount"].sum()
        done = {str(name): float(amount) for name, amount in sums.items()}
        index = {name: i for i, name in enumerate(draws.names[column])}
        groups = sorted({*index, *done} | ({NOBODY} if scope == "total" else set()))
        found[scope] = {}
        members_of = managed(groups, people) if scope == "manager" else {name: [name] for name in groups}
        for name, members in members_of.items():
            columns = [index[m] for m in members if m in index]
            found[scope][name] = Part(
                closed=sum(done.get(m, 0.0) for m in members),
                open=draws.open[column][:, columns].sum(axis=1) * factor,
                new=draws.new[column][:, columns].sum(axis=1) * factor,
            )
    return found


def managed(owners: Iterable[str], people: pd.DataFrame) -> dict[str, list[str]]:
    """Return by manager the owners that count there: the manager and everybody below; `NOBODY`: under no manager."""
    chains = above(people)
    managers = {manager for chain in chains.values() for manager in chain}
    found: dict[str, list[str]] = {}
    for owner in owners:
        counted = (*((owner,) if owner in managers else ()), *chains.get(owner, ()))
        for manager in counted or (NOBODY,):
            found.setdefault(manager, []).append(owner)
    return dict(sorted(found.items()))


def summarise(past: History, period: Period, parts: Parts, model: str) -> dict[Scope, list[PeriodForecast]]:
    """Return the figures of every scope, groups in the order of their names."""
    return {
        scope: [_figure(past, period, scope, name, part, model) for name, part in groups.items()]
        for scope, groups in parts.items()
    }


def _figure(past: History, period: Period, scope: Scope, name: str, part: Part, model: str) -> PeriodForecast:
    drawn = part.open + part.new
    p10, p50, p90 = np.quantile(drawn, (0.1, 0.5, 0.9)) + part.closed
    low, high = interval_of(drawn)
    closed, opened, new = money(part.closed), money(float(part.open.mean())), money(float(part.new.mean()))
    return PeriodForecast(
        connection=past.connection,
        period_start=period.start,
        period_end=period.end,
        scope=scope,
        scope_id=name,
        currency=past.currency,
        p10=money(p10),
        p50=money(p50),
        p90=money(p90),
        mean=closed + opened + new,
        closed=closed,
        open=opened,
        new=new,
        model=model,
        low=money(low + part.closed),
        high=money(high + part.closed),
    )


def money(value: float) -> Decimal:
    return Decimal(repr(round(float(value), 2))).quantize(Decimal("0.01"))
