"""The forecast against quota, and the opportunities that carry it: plan A, and plan B in case it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipesync.forecast import rollup
from pipesync.model import OpportunityForecast, Scope
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.forecast import Forecast


_HOPE = 0.02
"""Opportunities that are likelier to be won than this may be in plan B; there is no pulling in the others."""


@dataclass(frozen=True)
class Target:
    """Amounts in the home currency."""

    scope: Scope
    scope_id: str
    quota: float
    closed: float
    gap: float
    """Quota less closed, at least 0."""
    p50: float
    reach: float
    """Probability that the period ends at or above the quota."""
    open_amount: float
    """Everything open, at full amount."""
    coverage: float | None
    """Open amount over the gap; None once the quota is reached."""
    coverage_needed: float | None
    """What coverage has to be at this point of the period: one over what open amounts convert at until its end."""


@dataclass(frozen=True)
class Carrier:
    """An opportunity in plan A or plan B."""

    id: str
    amount: float
    win_in_period: float
    win_probability: float
    running: float
    """What there is without them, and the expected amounts up to and with this one."""


@dataclass(frozen=True)
class Plans:
    target: float
    a: tuple[Carrier, ...]
    """Most expected amount first, until they and what is closed make the target; all of them where they never do."""
    b: tuple[Carrier, ...]
    """Those not in plan A that would bring most if they came in time, best first."""
    short: float
    """What plan A lacks to the target."""

    @property
    def ids(self) -> list[str]:
        return [one.id for one in (*self.a, *self.b)]


def against_quota(
    warehouse: Warehouse, connection: str, forecast: Forecast, owners: pd.Series[str]
) -> list[Target]:
    """Compare total, managers, owners, teams and products with their quotas; `owners`: opportunity id -> owner id.

    A quota of another span counts in proportion to the days that it shares with the period. A manager's quota is
    the sum of those below; one of his own that is at least as large stands for all of them (so CRMs with quotas per
    level have it), a smaller one is what he is to sell himself and comes on top. The total is that of whoever has
    no manager, or the sum of the teams' where no owner has a quota.
    """
    frame = warehouse.frame(
        "SELECT owner_id, team, product, amount::DOUBLE AS amount, period_start, period_end FROM quotas "
        "WHERE connection = ? AND period_start < ? AND period_end > ?",
        [connection, forecast.period.end, forecast.period.start],
    )
    if not len(frame):
        return []
    begin = pd.to_datetime(frame["period_start"]).to_numpy("datetime64[D]")
    end = pd.to_datetime(frame["period_end"]).to_numpy("datetime64[D]")
    start, stop = np.datetime64(forecast.period.start, "D"), np.datetime64(forecast.period.end, "D")
    shared = (np.minimum(end, stop) - np.maximum(begin, start)).astype(float) / (end - begin).astype(float)
    frame["amount"] = frame["amount"] * shared
    whole = frame[frame["product"].isna()]
    found: list[tuple[Scope, str, float]] = []
    by_owner = whole[whole["owner_id"].notna()].groupby("owner_id")["amount"].sum()
    by_team = whole[whole["owner_id"].isna() & whole["team"].notna()].groupby("team")["amount"].sum()
    by_product = frame[frame["product"].notna()].groupby("product")["amount"].sum()
    own = {str(name): float(amount) for name, amount in by_owner.items()}
    people = rollup.people_of(warehouse, connection)
    teams, whole_company = _by_level(own, people)
    found.append(("total", "", whole_company or float(by_team.sum() or by_product.sum())))
    found += [("manager", name, amount) for name, amount in teams.items()]
    found += [
        ("owner", name, amount)
        for name, amount in own.items()
        if name not in teams or own[name] < teams[name]
    ]
    found += [("team", str(name), float(amount)) for name, amount in by_team.items()]
    found += [("product", str(name), float(amount)) for name, amount in by_product.items()]
    below = rollup.managed({str(o) for o in owners.dropna().unique()}, people)
    owner_of = {str(i): owner for i, owner in owners.items()}  # asked once per quota and opportunity
    return [_target(forecast, owner_of, below, *one) for one in found if one[2] > 0]


def owners_of(warehouse: Warehouse, connection: str) -> pd.Series[str]:
    """Return the owner by opportunity id."""
    frame = warehouse.frame("SELECT id, owner_id FROM opportunities WHERE connection = ?", [connection])
    return frame.set_index("id")["owner_id"]


def _by_level(own: Mapping[str, float], people: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Return the quota of every manager, and that of the whole company."""
    chains = rollup.above(people)
    direct: dict[str, list[str]] = {}
    for person in sorted({*own, *chains}):
        for manager in chains.get(person, ())[:1]:
            direct.setdefault(manager, []).append(person)
    teams: dict[str, float] = {}

    def quota(person: str, seen: frozenset[str]) -> float:
        if person not in direct or person in seen:
            return own.get(person, 0.0)
        below = sum(quota(one, seen | {person}) for one in direct[person])
        mine = own.get(person, 0.0)
        teams[person] = mine if mine >= below else below + mine
        return teams[person]

    tops = [p for p in sorted({*own, *direct}) if not chains.get(p)]
    total = sum(quota(person, frozenset()) for person in tops)
    return teams, total or sum(own.values())


def _target(
    forecast: Forecast,
    owners: Mapping[str, str],
    below: Mapping[str, Sequence[str]],
    scope: Scope,
    name: str,
    quota: float,
) -> Target:
    figures = {one.scope_id: one for one in forecast.rollups[scope]}.get(name)
    drawn = forecast.draws[scope].get(name, np.zeros(1))
    counted = {name} if scope == "owner" else set(below.get(name, ())) if scope == "manager" else set()
    mine = [one for one in forecast.opportunities if scope == "total" or owners.get(one.id) in counted]
    closed = float(figures.closed) if figures else 0.0
    gap = max(quota - closed, 0.0)
    opened = sum(_amount(one) for one in mine)
    expected = sum(_amount(one) * one.win_in_period for one in mine)
    known = scope in ("total", "owner", "manager")
    return Target(
        scope=scope,
        scope_id=name,
        quota=quota,
        closed=closed,
        gap=gap,
        p50=float(figures.p50) if figures else 0.0,
        reach=float(np.mean(drawn >= quota)),
        open_amount=opened,
        coverage=opened / gap if known and gap > 0 else None,
        coverage_needed=opened / expected if known and expected > 0 else None,
    )


def plans_for(forecast: Forecast, quotas: Sequence[Target], target: float | None = None) -> Plans:
    """Choose the plans of a forecast: for the number asked for, else the company's quota, else what is likely.

    What is won and what new business is expected to bring come before any opportunity.
    """
    quota = next((t.quota for t in quotas if t.scope == "total"), None)
    number = next((n for n in (target, quota) if n is not None), float(forecast.total.p50))
    there = float(forecast.total.closed) + float(forecast.total.new)
    return plans(forecast.opportunities, there, number)


def plans(
    opportunities: Sequence[OpportunityForecast], closed: float, target: float, *, most: int = 10
) -> Plans:
    """Choose what carries the number, and what to turn to if it does not.

    `closed` is what there is without open opportunities: won so far, and new business where that is counted on.
    """
    ranked = sorted(opportunities, key=lambda one: (-_amount(one) * one.win_in_period, one.id))
    running, carried = closed, []
    for one in ranked:
        if running >= target or one.win_in_period <= 0:
            break
        running += _amount(one) * one.win_in_period
        carried.append(_carrier(one, running))
    taken = {one.id for one in carried}
    # What winning it in time would add to what is expected of it anyway.
    rest = sorted(
        (one for one in opportunities if one.id not in taken and one.win_probability >= _HOPE),
        key=lambda one: (-_amount(one) * one.win_probability * (1 - one.win_in_period), one.id),
    )
    return Plans(
        target,
        tuple(carried),
        tuple(_carrier(one, running) for one in rest[:most]),
        max(target - running, 0.0),
    )


def _carrier(one: OpportunityForecast, running: float) -> Carrier:
    return Carrier(one.id, _amount(one), one.win_in_period, one.win_probability, running)


def _amount(one: OpportunityForecast) -> float:
    return float(one.expected_amount or 0)
