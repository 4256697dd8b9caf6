"""What a period asks of the company, its managers, owners, teams and products; the one place that adds quotas up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipesync.forecast import history, rollup
from pipesync.forecast.periods import Period
from pipesync.store.warehouse import Warehouse

Chains = Mapping[str, tuple[str, ...]]
_MONTH = 30.44


@dataclass(frozen=True)
class Quotas:
    """Home currency, by id. Nobody is in more than one of owners and managers for the same number."""

    total: float | None
    """None where nobody has one."""
    owner: dict[str, float]
    """Of those who sell; a manager's own is among them where it does not stand for the people below."""
    manager: dict[str, float]
    team: dict[str, float]
    product: dict[str, float]


def quotas_of(warehouse: Warehouse, connection: str, period: Period) -> Quotas:
    """Return the quotas of a period.

    A quota of another span counts in proportion to the days that it shares with the period; where somebody has quotas
    of several spans, those that cover most of it are taken, then those nearest to its length. A manager's quota is the
    sum of those below; one of his own that is at least as large stands for all of them (so CRMs with quotas per level
    have it), a smaller one is what he is to sell himself and comes on top. A team's stands for its people's likewise;
    what it exceeds theirs by (an open position) counts for the nearest manager of all of them, and for the company.
    """
    frame = warehouse.frame(
        "SELECT owner_id, team, product, currency, amount::DOUBLE AS amount, period_start, period_end FROM quotas "
        "WHERE connection = ? AND period_start < ? AND period_end > ? AND period_end > period_start",
        [connection, period.end, period.start],
    )
    rates = history.rates_of(warehouse, connection)
    frame["amount"] *= [rates.get(code, 1.0) for code in frame["currency"]]
    frame = _within(frame, period)
    whole = frame[frame["product"].isna()]
    own = _sums(whole, "owner_id")
    by_team = _sums(whole[whole["owner_id"].isna()], "team")
    by_product = _sums(frame, "product")
    people = rollup.people_of(warehouse, connection)
    chains = rollup.above(people)
    managers, _ = _roll_up(own, chains, {})
    standing = {name for name, amount in managers.items() if 0 < amount <= own.get(name, 0.0)}
    sellers = {owner: amount for owner, amount in own.items() if owner not in standing}
    members = {str(team): [str(i) for i in part.index] for team, part in people.groupby("team")}
    teams = {team: sum(sellers.get(m, 0.0) for m in ids) for team, ids in members.items()}
    beyond: dict[str | None, float] = {}
    for team, amount in by_team.items():
        head = _head(members.get(team, []), chains)
        beyond[head] = beyond.get(head, 0.0) + max(amount - teams.get(team, 0.0), 0.0)
        teams[team] = max(amount, teams.get(team, 0.0))
    headless = beyond.pop(None, 0.0)
    managers, total = _roll_up(own, chains, {str(head): amount for head, amount in beyond.items()})
    total = total + headless or sum(by_product.values())
    return Quotas(
        total=total or None,
        owner=sellers,
        manager={name: amount for name, amount in managers.items() if amount > 0},
        team={name: amount for name, amount in teams.items() if amount > 0},
        product=by_product,
    )


def _sums(frame: pd.DataFrame, by: str) -> dict[str, float]:
    sums = frame[frame[by].notna()].groupby(by)["amount"].sum()
    return {str(name): float(amount) for name, amount in sums.items() if amount > 0}


def _within(frame: pd.DataFrame, period: Period) -> pd.DataFrame:
    """Keep of everybody the quotas of one span, with the part of the amount that the period shares."""
    begin = pd.to_datetime(frame["period_start"]).to_numpy("datetime64[D]")
    end = pd.to_datetime(frame["period_end"]).to_numpy("datetime64[D]")
    start, stop = np.datetime64(period.start, "D"), np.datetime64(period.end, "D")
    shared = (np.minimum(end, stop) - np.maximum(begin, start)).astype(float)
    length = (end - begin).astype(float)
    days = float((stop - start).astype(int))
    subject = ["owner_id", "team", "product"]
    frame = frame.assign(
        amount=frame["amount"] * shared / length,
        shared=shared,
        months=np.maximum(np.round(length / _MONTH), 1),
    )
    spans = frame.groupby([*subject, "months"], dropna=False, as_index=False).agg({"shared": "sum"})
    spans["lacks"] = np.maximum(days - spans["shared"], 0.0)
    spans["off"] = (spans["months"] - days / _MONTH).abs()
    best = spans.sort_values(["lacks", "off"]).drop_duplicates(subject)[[*subject, "months"]]
    return frame.merge(best, on=[*subject, "months"])


def _roll_up(
    own: Mapping[str, float], chains: Chains, beyond: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """Return the quota of every manager and of all; `beyond` is what somebody's teams are to bring on top."""
    direct: dict[str, list[str]] = {}
    for person in sorted({*own, *chains}):
        for manager in chains.get(person, ())[:1]:
            direct.setdefault(manager, []).append(person)
    managers: dict[str, float] = {}

    def quota(person: str, seen: frozenset[str]) -> float:
        mine = own.get(person, 0.0)
        if person not in direct or person in seen:
            return mine
        below = sum(quota(one, seen | {person}) for one in direct[person])
        more = below + (0.0 if mine >= below else mine) + beyond.get(person, 0.0)
        managers[person] = max(mine, more)
        return managers[person]

    tops = [person for person in sorted({*own, *direct}) if not chains.get(person)]
    return managers, sum(quota(person, frozenset()) for person in tops)


def _head(members: list[str], chains: Chains) -> str | None:
    """Return the nearest manager who is above all of them, or one of them and above the others."""
    managers = {manager for chain in chains.values() for manager in chain}
    above = [(*((one,) if one in managers else ()), *chains.get(one, ())) for one in members]
    common = set(above[0]).intersection(*above[1:]) if above else set()
    return next((manager for manager in above[0] if manager in common), None) if common else None
