"""Losses that were close, and those worth another try.

Near: lost from a late stage. Worth another try: lost a month ago or longer, and nothing is open with the account.
Both are ranked by the win rate of the stage they were lost from, times the amount. Reads the session's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

_LOSSES = """
WITH last_stay AS (
    SELECT opportunity_id, stage, pipeline FROM stage_visits
    QUALIFY row_number() OVER (PARTITION BY opportunity_id ORDER BY visit DESC) = 1
),
rates AS (
    SELECT v.pipeline, v.stage, count(DISTINCT v.opportunity_id) AS decided,
           count(DISTINCT v.opportunity_id) FILTER (f.is_won) AS won
    FROM stage_visits AS v JOIN features AS f ON f.id = v.opportunity_id WHERE f.is_closed GROUP BY ALL
),
late AS (SELECT pipeline, name FROM stage_list WHERE phase = 'late')
SELECT f.id, f.name, f.owner_id, f.segment, l.stage, CAST(local_date(f.closed_at) AS DATE), f.lost_reason,
       f.amount::DOUBLE, (r.won + 1) / (r.decided + 2) AS rate, f.days_since_closed,
       EXISTS (SELECT 1 FROM late WHERE late.pipeline IS NOT DISTINCT FROM l.pipeline AND late.name = l.stage),
       EXISTS (SELECT 1 FROM features AS n WHERE n.is_open AND n.account_id = f.account_id)
FROM features AS f
JOIN last_stay AS l ON l.opportunity_id = f.id
JOIN rates AS r ON r.pipeline IS NOT DISTINCT FROM l.pipeline AND r.stage = l.stage
WHERE f.is_closed AND NOT f.is_won AND f.days_since_closed <= ?
ORDER BY rate * coalesce(f.amount, 0) DESC, f.id
"""


@dataclass(frozen=True)
class Loss:
    """`amount` and `worth` in the home currency."""

    opportunity_id: str
    name: str
    owner_id: str | None
    segment: str | None
    lost_from: str
    lost_on: date
    reason: str | None
    """None too where the present reason is not known of that moment."""
    amount: float | None
    win_rate: float
    """Of what ever was in that stage and is decided, one win and one loss added."""

    @property
    def worth(self) -> float:
        return self.win_rate * (self.amount or 0.0)


@dataclass(frozen=True)
class Losses:
    near: tuple[Loss, ...]
    """Lost from a late stage; worthiest first."""
    again: tuple[Loss, ...]
    """Lost at least 30 days ago, with an amount, and nothing is open with that account."""
    missing: tuple[str, ...]


def losses(warehouse: Warehouse, features: Features, *, days: int = 365, most: int = 20) -> Losses:
    """Return at most `most` of each kind, lost in the last `days`."""
    missing = [n for n in ("stage", "amount", "lost_reason") if n in features.unknown]
    if "stage" in features.unknown:
        return Losses((), (), tuple(missing))
    near, again = [], []
    for *values, since, is_near, is_back in warehouse.rows(_LOSSES, [days]):
        loss = Loss(*values)
        if is_near:
            near.append(loss)
        if since >= 30 and not is_back and loss.amount:
            again.append(loss)
    return Losses(tuple(near[:most]), tuple(again[:most]), tuple(n.replace("_", " ") for n in missing))
