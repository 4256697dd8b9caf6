"""The forecast against quota, and the opportunities that carry it: plan A, and plan B in case it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipesync.forecast import rollup
from pipesync.forecast.quotas import quotas_of
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
    """Open and dated in the period, at full amount; everything open where close dates are not known."""
    coverage: float | None
    """Open amount over the gap; None once the quota is reached."""
    coverage_needed: float | None
    """What coverage has to be at this point of the period: that amount over what the forecast expects to be won until
    its end, new business with it. `analysis.coverage` asks past periods the same."""


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
    """Those not in plan A of which most is expected only after the period, so that pulling them in would bring most;
    where plan A is everything and falls short, they are of it."""
    short: float
    """What plan A lacks to the target."""

    @property
    def ids(self) -> list[str]:
        return [one.id for one in (*self.a, *self.b)]


def against_quota(
    warehouse: Warehouse, connection: str, forecast: Forecast, owners: pd.Series[str]
) -> list[Target]:
    """Compare total, managers, owners, teams and products with their quotas; `owners`: opportunity id -> owner id.

    `quotas_of` says how they are added up.
    """
    asked = quotas_of(warehouse, connection, forecast.period)
    found: list[tuple[Scope, str, float]] = [("total", "", asked.total or 0.0)]
    groups: tuple[Scope, ...] = ("manager", "owner", "team", "product")
    found += [(scope, *one) for scope in groups for one in sorted(getattr(asked, scope).items())]
    people = rollup.people_of(warehouse, connection)
    selling = {str(o) for o in owners.dropna().unique()}
    counted: dict[Scope, Mapping[str, Sequence[str]]] = {
        "owner": {one: [one] for one in selling},
        "manager": rollup.managed(selling, people),
        "team": {str(team): [str(i) for i in part.index] for team, part in people.groupby("team")},
    }
    owner_of = {str(i): owner for i, owner in owners.items()}  # asked once per quota and opportunity
    return [_target(forecast, owner_of, counted, *one) for one in found if one[2] > 0]


def owners_of(warehouse: Warehouse, connection: str) -> pd.Series[str]:
    """Return the owner by opportunity id."""
    frame = warehouse.frame("SELECT id, owner_id FROM opportunities WHERE connection = ?", [connection])
    return frame.set_index("id")["owner_id"]


def _target(
    forecast: Forecast,
    owners: Mapping[str, str],
    counted: Mapping[Scope, Mapping[str, Sequence[str]]],
    scope: Scope,
    name: str,
    quota: float,
) -> Target:
    figures = {one.scope_id: one for one in forecast.rollups[scope]}.get(name)
    drawn = forecast.draws[scope].get(name, np.zeros(1))
    people = set(counted.get(scope, {}).get(name, ()))
    closed = float(figures.closed) if figures else 0.0
    gap = max(quota - closed, 0.0)
    opened = sum(a for i, a in forecast.dated.items() if scope == "total" or owners.get(i) in people)
    expected = float(figures.open + figures.new) if figures else 0.0
    known = scope == "total" or scope in counted
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
        coverage_needed=opened / expected if known and opened > 0 and expected > 0 else None,
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
    taken = {one.id for one in carried} if running >= target else set()
    # What pulling it in would add: what is expected of it only later; then what is expected of it at all.
    rest = sorted(
        (one for one in opportunities if one.id not in taken and one.win_probability >= _HOPE),
        key=lambda one: (
            -round(_amount(one) * (one.win_probability - one.win_in_period), 2),
            -_amount(one) * one.win_probability,
            one.id,
        ),
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
