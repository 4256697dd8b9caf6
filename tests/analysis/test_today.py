"""A rep's day: the right opportunities, in the right order, each with one next action."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipesync.analysis.today import today
from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
STAGES = [
    {"id": s, "name": s, "pipeline": "p", "order": i, "phase": phase}
    for i, (s, phase) in enumerate([("Qualify", "early"), ("Sign", "late"), ("Won", "won"), ("Lost", "lost")])
]


def opportunity(name: str, created: float = 30, **values: Any) -> Row:
    given = {
        "id": name, "name": name, "pipeline": "p", "stage": "Sign", "amount": Decimal(1000), "owner_id": "u",
        "created_at": NOW - timedelta(days=created), "close_date": date(2027, 1, 15), "next_step": "Call",
    }  # fmt: skip
    return {**given, **values}


def activity(name: str, days: float, **values: Any) -> Row:
    given = {"id": f"{name}{days}", "opportunity_id": name, "at": NOW - timedelta(days=days), "is_done": True}
    return {**given, **values}


def past_wins(n: int = 25, cycle: float = 40) -> list[Row]:
    return [
        opportunity(
            f"won{i}", cycle + i + 1, is_closed=True, is_won=True, stage="Won", closed_at=NOW - timedelta(days=i + 1)
        )
        for i in range(n)
    ]  # fmt: skip


def test_each_opportunity_gets_its_place_and_its_action(build: Make) -> None:
    """The overdue one, the unanswered one, the one without a plan, the early one, the dead one."""
    planned = [activity(n, -3, is_done=False) for n in ("overdue", "asked", "early", "calm")]
    warehouse = build(
        opportunities=[
            *past_wins(),
            opportunity("overdue", close_date=date(2026, 11, 1)),
            opportunity("asked"),
            opportunity("unplanned"),
            opportunity("early", stage="Qualify", close_date=date(2027, 6, 1)),
            opportunity("dead", 300, close_date=date(2027, 1, 15)),
            opportunity("calm"),
        ],
        stages=STAGES,
        field_changes=[],
        activities=[
            *planned,
            activity("asked", 2, direction="in"),
            activity("unplanned", 2, direction="out"),
        ],
    )
    features = compute(warehouse, "crm", NOW, Calendar())

    found = today(warehouse, features, owner_id="u", win_probability={"dead": 0.1})

    by_id = {i.opportunity_id: i for i in found.items}
    assert {i: (one.place, one.action) for i, one in by_id.items()} == {
        "overdue": ("work", "Agree a new close date, or close it"),
        "asked": ("work", "Answer the customer"),
        "unplanned": ("work", "Book the next meeting"),
        "early": ("nurture", "Keep in touch"),
        "dead": ("let_go", "Close it as lost, or say what has changed"),
        "calm": ("work", "Agree what moves it on from Sign"),
    }
    assert "older than any win of the last four quarters (40 days)" in by_id["dead"].because[0]
    assert "was to close on 2026-11-01" in by_id["overdue"].because
    assert found.missing == ()


def test_the_most_at_stake_and_most_urgent_is_first(build: Make) -> None:
    """Probability times amount times urgency."""
    rows = [
        opportunity("small", amount=Decimal(10)),
        opportunity("large"),
        opportunity("likely", amount=Decimal(900)),
    ]
    warehouse = build(opportunities=rows, stages=STAGES, activities=[])

    found = today(
        warehouse, compute(warehouse, "crm", NOW, Calendar()),
        win_probability={"small": 0.9, "large": 0.1, "likely": 0.8},
    )  # fmt: skip

    assert [i.opportunity_id for i in found.items] == ["likely", "large", "small"]
    assert found.items[0].stake == pytest.approx(720)
    assert found.items[0].worth == pytest.approx(720 * 1.5)


def test_without_a_forecast_the_stages_own_share_stands_in(build: Make) -> None:
    """And that is said; only the owner's own are listed."""
    rows = [*past_wins(), opportunity("mine"), opportunity("theirs", owner_id="v")]
    changes = [
        {"id": r["id"], "opportunity_id": r["id"], "field": "stage", "value": "Sign", "changed_at": r["created_at"]}
        for r in rows
    ]  # fmt: skip
    warehouse = build(
        opportunities=rows, stages=STAGES, field_changes=changes, unmapped=("opportunities.next_activity_at",)
    )

    found = today(warehouse, compute(warehouse, "crm", NOW, Calendar()), owner_id="u")

    assert [i.opportunity_id for i in found.items] == ["mine"]
    assert 0.9 < found.items[0].win_probability < 1
    assert "each stage's share of wins stands in" in found.missing[0]
    assert "next activity at" in found.missing


def test_a_rep_without_opportunities_has_an_empty_day(build: Make) -> None:
    """Not an error."""
    warehouse = build(opportunities=[], stages=[])

    assert today(warehouse, compute(warehouse, "crm", NOW, Calendar()), owner_id="nobody").items == ()
