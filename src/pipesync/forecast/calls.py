"""What people say will be won, as the CRM holds it at a moment: kept beside the model and apart from it.

A call is what is closed in the period plus the open amounts that somebody has committed for it. The rep's is the
CRM's forecast category; others (a manager's) are custom fields that a site names: a category word commits the
opportunity's amount, a number is the amount itself. Calls are entered into the ledger at every run, because a field
without a history forgets; what is entered is never changed, whatever becomes of periods and teams.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipesync.features import Features
from pipesync.forecast import rollup
from pipesync.forecast.periods import Period
from pipesync.forecast.totals import NOBODY
from pipesync.model import Call, PeriodForecast, Scope
from pipesync.store.warehouse import Warehouse

COMMITTED = ("commit", "closed")
COMMIT = "commit"
"""The kind of the call that the forecast category makes."""
METHOD = "method:"
"""Before the name of a simpler method, whose total is kept beside people's calls."""
_WORDS = (*COMMITTED, "yes", "true")

_CLOSED = """
SELECT owner_id, sum(amount)::DOUBLE AS amount FROM features
WHERE is_won AND local_date(closed_at) >= ? AND local_date(closed_at) < ? GROUP BY owner_id
"""
_OPEN = """
SELECT owner_id, sum({amount})::DOUBLE AS amount FROM features
WHERE is_open AND {is_called} AND (close_date IS NULL OR close_date < ?) GROUP BY owner_id
"""


def calls(
    warehouse: Warehouse, features: Features, period: Period, fields: Mapping[str, str] | None = None
) -> list[Call]:
    """Return the calls of the session's `features` in total, by owner, team and manager; none where nobody calls.

    `fields`: kind of call -> custom field that holds it.
    """
    kinds: dict[str, tuple[str, str, list[str]]] = {}
    if "forecast_category" not in features.unknown and warehouse.rows(
        "SELECT 1 FROM features WHERE is_open AND forecast_category IS NOT NULL LIMIT 1"
    ):
        kinds[COMMIT] = ("amount", "forecast_category IN (SELECT unnest(?))", [*COMMITTED])
    if "custom" not in features.unknown:
        for kind, field in (fields or {}).items():
            held = f"custom['{field.replace(chr(39), chr(39) * 2)}']"
            number = f"TRY_CAST({held} AS DOUBLE)"
            kinds[kind] = (
                f"CASE WHEN {number} IS NULL THEN amount::DOUBLE ELSE {number} END",
                f"({number} IS NOT NULL OR lower({held}) IN (SELECT unnest(?)))",
                [*_WORDS],
            )
    closed = warehouse.frame(_CLOSED, [period.start, period.end])
    people = rollup.people_of(warehouse, features.connection)
    found = []
    for kind, (amount, is_called, words) in kinds.items():
        opened = warehouse.frame(_OPEN.format(amount=amount, is_called=is_called), [words, period.end])
        both = pd.concat([closed, opened]).assign(owner_id=lambda f: f["owner_id"].fillna(NOBODY))
        sums = {str(o): float(a) for o, a in both.groupby("owner_id")["amount"].sum().items()}
        found += [
            Call(
                connection=features.connection, period_start=period.start, period_end=period.end,
                scope=scope, scope_id=name, kind=kind, amount=rollup.money(sum(sums[o] for o in owners)),
            )
            for (scope, name), owners in _groups(list(sums), people).items()
        ]  # fmt: skip
    return found


def of_methods(total: PeriodForecast, baselines: Mapping[str, float]) -> list[Call]:
    """Return what simpler methods say of the same total, so that both can be held against what came."""
    return [
        Call(
            connection=total.connection, period_start=total.period_start, period_end=total.period_end,
            kind=f"{METHOD}{name}", amount=rollup.money(amount),
        )
        for name, amount in sorted(baselines.items())
    ]  # fmt: skip


def _groups(owners: list[str], people: pd.DataFrame) -> dict[tuple[Scope, str], list[str]]:
    team = people["team"].to_dict()
    found: dict[tuple[Scope, str], list[str]] = {("total", NOBODY): owners}
    for owner in owners:
        found["owner", owner] = [owner]
        named = team.get(owner)
        found.setdefault(("team", named if isinstance(named, str) else NOBODY), []).append(owner)
    for manager, below in rollup.managed(owners, people).items():
        found["manager", manager] = below
    return found
