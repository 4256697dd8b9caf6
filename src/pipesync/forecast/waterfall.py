"""What changed from one forecast of a period to a later one, opportunity by opportunity.

Each opportunity's expected amount (probability to win in the period times amount) goes from before to after for
one reason, so that the steps add up to the difference of the two means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pipesync.forecast.periods import Period
from pipesync.model import OpportunityForecast
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.forecast import Forecast

StepKind = Literal[
    "won", "lost", "created", "likelier", "less_likely", "increased", "decreased", "closed_before", "rest"
]


@dataclass(frozen=True)
class Step:
    """`amount` in the home currency, as it moves the mean."""

    kind: StepKind
    opportunity_id: str | None
    amount: float


@dataclass(frozen=True)
class Issued:
    """What the ledger kept of an earlier forecast: as of when, its mean, and by opportunity (probability, amount)."""

    as_of: datetime
    period: Period
    mean: float
    opportunities: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Waterfall:
    start: float
    """Mean of the earlier forecast."""
    steps: tuple[Step, ...]
    """Largest first; `rest` is last: new business, and what the totals know beyond single opportunities."""
    end: float

    def by_kind(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for step in self.steps:
            found[step.kind] = found.get(step.kind, 0.0) + step.amount
        return found


def since(warehouse: Warehouse, before: Issued, after: Forecast) -> Waterfall:
    """Explain the way from an issued forecast to this one; reads the session's `features`, as of this one."""
    moment = before.as_of.astimezone(UTC).replace(tzinfo=None)
    closed = warehouse.rows(
        "SELECT id, is_won, coalesce(amount, 0)::DOUBLE FROM features WHERE is_closed AND closed_at > ?",
        [moment],
    )
    old = {
        name: OpportunityForecast(
            id=name, win_probability=p, win_in_period=p, expected_amount=Decimal(str(amount))
        )
        for name, (p, amount) in before.opportunities.items()
    }
    if before.period != after.period:
        raise ValueError("a waterfall compares two forecasts of one period")
    won = {name: amount for name, is_won, amount in closed if is_won}
    lost = frozenset(name for name, is_won, _ in closed if not is_won)
    return _between(old, before.mean, after, won, lost)


def waterfall(
    before: Forecast, after: Forecast, won: Mapping[str, float], lost: frozenset[str] = frozenset()
) -> Waterfall:
    """Explain the way from one forecast to the next of the same period.

    `won` holds what was won between the two (id -> amount), `lost` what was lost.
    """
    if before.period != after.period:
        raise ValueError("a waterfall compares two forecasts of one period")
    old = {one.id: one for one in before.opportunities}
    return _between(old, float(before.total.mean), after, won, lost)


def _between(
    old: Mapping[str, OpportunityForecast],
    start: float,
    after: Forecast,
    won: Mapping[str, float],
    lost: frozenset[str],
) -> Waterfall:
    new = {one.id: one for one in after.opportunities}
    steps = []
    for name in sorted({*old, *new, *won}):
        steps += _steps(name, old.get(name), new.get(name), won.get(name), name in lost)
    steps = sorted(
        (s for s in steps if abs(s.amount) >= 0.005), key=lambda s: (-abs(s.amount), str(s.opportunity_id))
    )
    end = float(after.total.mean)
    rest = end - start - sum(s.amount for s in steps)
    return Waterfall(start, (*steps, Step("rest", None, rest)), end)


def _steps(
    name: str, old: OpportunityForecast | None, new: OpportunityForecast | None, won: float | None, lost: bool
) -> list[Step]:
    before = _expected(old)
    if won is not None:
        return [Step("won", name, won - before)]
    if new is None:
        # Gone without an outcome: deleted, or moved out of what can be seen.
        return [Step("lost" if lost else "closed_before", name, -before)]
    if old is None:
        return [Step("created", name, _expected(new))]
    more_chance = (new.win_in_period - old.win_in_period) * _amount(old)
    more_amount = (_amount(new) - _amount(old)) * new.win_in_period
    return [
        Step("likelier" if more_chance > 0 else "less_likely", name, more_chance),
        Step("increased" if more_amount > 0 else "decreased", name, more_amount),
    ]


def _expected(one: OpportunityForecast | None) -> float:
    return 0.0 if one is None else one.win_in_period * _amount(one)


def _amount(one: OpportunityForecast) -> float:
    return float(one.expected_amount or 0)
