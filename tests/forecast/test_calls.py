"""What people say: counted as of now, kept beside the model, and never lost to a later change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.forecast.test_leaders import issued
from tests.forecast.worlds import AS_OF, NAME, small_warehouse

from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.forecast import accuracy
from pipesync.forecast.calls import calls
from pipesync.forecast.periods import Period
from pipesync.model import Call
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
QUARTER = Period(date(2026, 10, 1), date(2027, 1, 1))
USERS = [
    {"id": "a", "team": "North", "manager_id": "m", "is_active": True},
    {"id": "b", "team": "South", "manager_id": "m", "is_active": True},
    {"id": "m", "is_active": True},
]


def row(name: str, owner: str, amount: int, **more: Any) -> dict[str, Any]:
    return {"id": name, "owner_id": owner, "pipeline": "p", "amount": Decimal(amount), "custom": {},
            "created_at": NOW - timedelta(days=30)} | more  # fmt: skip


@pytest.fixture
def pipeline(build: Callable[..., Warehouse]) -> Warehouse:
    """Won this quarter: 100. Committed in it: 50 and 30; later, or not committed: 7 each. The manager's own words."""
    soon, later = date(2026, 12, 15), date(2027, 2, 1)
    return build(
        stages=[],
        users=USERS,
        opportunities=[
            row("won", "a", 100, is_closed=True, is_won=True, closed_at=NOW - timedelta(days=3)),
            row("in", "a", 50, forecast_category="commit", close_date=soon, custom={"mgr": "no"}),
            row("too", "b", 30, forecast_category="commit", close_date=soon, custom={"mgr": "Commit"}),
            row("late", "b", 7, forecast_category="commit", close_date=later),
            row("open", "m", 7, forecast_category="pipeline", close_date=soon, custom={"mgr": "5.5"}),
        ],
    )


def test_calls_are_what_is_won_and_committed(pipeline: Warehouse) -> None:
    """In total and by owner, team and manager; what closes after the period is not in it."""
    features = compute(pipeline, "crm", NOW, Calendar())

    found = {(c.scope, c.scope_id): c.amount for c in calls(pipeline, features, QUARTER)}

    assert found == {
        ("total", ""): 180, ("owner", "a"): 150, ("owner", "b"): 30, ("team", "North"): 150,
        ("team", "South"): 30, ("manager", "m"): 180,
    }  # fmt: skip


def test_a_manager_calls_in_a_field_of_its_own(pipeline: Warehouse) -> None:
    """A word commits the amount, a number is the amount, anything else is no call."""
    features = compute(pipeline, "crm", NOW, Calendar())

    found = calls(pipeline, features, QUARTER, {"manager": "mgr"})

    manager = {(c.scope, c.scope_id): c.amount for c in found if c.kind == "manager"}
    assert manager["total", ""] == Decimal("135.50")
    assert (manager["owner", "b"], manager["owner", "m"]) == (Decimal(30), Decimal("5.50"))


def test_where_nobody_calls_there_is_no_call(build: Callable[..., Warehouse]) -> None:
    """A CRM without categories has none, not zero."""
    warehouse = build(stages=[], users=[], opportunities=[row("x", "a", 5)])

    assert calls(warehouse, compute(warehouse, "crm", NOW, Calendar()), QUARTER) == []


def test_kept_calls_are_scored_as_they_were_said() -> None:
    """The ledger's word counts where it has one, each kind for itself."""
    at, forecast = issued(10, 900)
    kept = [
        (
            at,
            Call(
                period_start=date(2024, 6, 1), period_end=date(2024, 7, 1), kind=kind, amount=Decimal(amount)
            ),
        )
        for kind, amount in (("commit", 800), ("manager", 1100), ("method:run_rate", 700))
    ]
    won = {"id": "x", "owner_id": "a", "created_at": datetime(2024, 5, 1, tzinfo=UTC), "is_closed": True,
           "closed_at": datetime(2024, 6, 20, tzinfo=UTC), "is_won": True, "amount": 1000}  # fmt: skip
    with small_warehouse([won]) as opened:
        scored = accuracy.score(opened, NAME, [(at, forecast)], known_at=AS_OF, kept=kept)

    [record] = [r for r in accuracy.summarise(scored) if r.week is None]
    [manager] = record.others
    assert (record.calls, manager.kind, manager.count) == (1, "manager", 1)
    assert record.call_bias == pytest.approx(-0.2)
    assert manager.bias == pytest.approx(0.1)
    [method] = record.methods
    assert (method.kind, method.count) == ("run_rate", 1)
    assert method.wape == pytest.approx(0.3)
    assert method.own_wape == pytest.approx(0.1)
