"""From draws to figures per owner, team, manager, product, source, segment and currency; all from the same draws."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipesync.forecast.history import Floats, History, Ints, Ms
from pipesync.forecast.periods import Period
from pipesync.forecast.totals import NOBODY, Draws
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
    """Return team and manager by owner id. A manager counts for all below, through every level up to the top."""
    frame = warehouse.frame(
        "SELECT id, team, manager_id AS manager FROM users WHERE connection = ?", [connection]
    )
    return frame.astype(object).drop_duplicates("id").set_index("id")


def above(people: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the managers above each person, nearest first; a circle ends where it closes."""
    direct = {str(i): str(m) for i, m in people["manager"].items() if isinstance(m, str) and m}
    found = {}
    for person in {*direct, *direct.values()}:
        chain: list[str] = []
        at = person
        while (at := direct.get(at, "")) and at not in chain and at != person:
            chain.append(at)
        found[person] = tuple(chain)
    return found


def closed_by_group(past: History, people: pd.DataFrame, start: Ms, until: Ms) -> pd.DataFrame:
    """Return what was won in the period so far: `amount` and the groups."""
    won = np.flatnonzero(past.won & (past.closed >= start) & (past.closed <= until))
    frame = groups_of(past, people, won)
    return frame.assign(amount=np.nan_to_num(past.amount[won]), total=NOBODY)


def summarise(
    past: History, period: Period, draws: Draws, factor: Floats, closed: pd.DataFrame, model: str
) -> dict[Scope, list[PeriodForecast]]:
    """Return the figures of every scope; `factor` is what stretching and blending made of each draw's total."""
    made: dict[Scope, list[PeriodForecast]] = {}
    scopes = cast("dict[Scope, str]", {"total": "total", **DIMENSIONS})
    for scope, column in scopes.items():
        sums = closed.groupby(column)["amount"].sum()
        done = {str(name): float(amount) for name, amount in sums.items()}
        names = {name: i for i, name in enumerate(draws.names[column])}
        nothing = np.zeros(len(factor))
        made[scope] = []
        for name in [NOBODY] if scope == "total" else sorted({*names, *done}):
            has = name in names
            opened = draws.open[column][:, names[name]] * factor if has else nothing
            new = draws.new[column][:, names[name]] * factor if has else nothing
            base = done.get(name, 0.0)
            low, middle, high = np.quantile(opened + new, (0.1, 0.5, 0.9)) + base
            shared: dict[str, Any] = {  # Any: fields of two kinds
                "connection": past.connection,
                "period_start": period.start,
                "period_end": period.end,
                "currency": past.currency,
                "model": model,
            }
            made[scope].append(
                PeriodForecast(
                    **shared,
                    scope=scope,
                    scope_id=name,
                    p10=money(low),
                    p50=money(middle),
                    p90=money(high),
                    closed=money(base),
                    open=money(float(opened.mean())),
                    new=money(float(new.mean())),
                    mean=money(base) + money(float(opened.mean())) + money(float(new.mean())),
                )
            )
    return made


def money(value: float) -> Decimal:
    return Decimal(repr(round(float(value), 2))).quantize(Decimal("0.01"))


def drawn(draws: Draws, factor: Floats, closed: pd.DataFrame) -> dict[Scope, dict[str, Floats]]:
    """Return what each group closes in the period, per draw: what is closed already and what is still to come."""
    found: dict[Scope, dict[str, Floats]] = {}
    scopes = cast("dict[Scope, str]", {"total": "total", **DIMENSIONS})
    for scope, column in scopes.items():
        done = closed.groupby(column)["amount"].sum().to_dict()
        found[scope] = {
            name: (draws.open[column][:, i] + draws.new[column][:, i]) * factor + float(done.get(name, 0.0))
            for i, name in enumerate(draws.names[column])
        }
        for name, amount in done.items():
            found[scope].setdefault(str(name), np.full(len(factor), float(amount)))
    return found
