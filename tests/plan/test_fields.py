"""Our own fields on open opportunities: coarse, with reasons, and quiet until something moved."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pipesync.model import OpportunityForecast
from pipesync.plan.facts import Standing

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def forecast(opportunity: str = "006A", **more: Any) -> OpportunityForecast:  # Any: fields
    days = (date(2026, 12, 1), date(2026, 12, 8), date(2026, 12, 20))
    given = {
        "win_probability": 0.43,
        "win_in_period": 0.21,
        "expected_amount": Decimal(500),
        "expected_close": days,
    }
    return OpportunityForecast(id=opportunity, **{**given, **more})


@pytest.fixture
def opted(bench: Bench) -> Bench:
    """A connection that asks for our fields, with three open opportunities and one that is won."""
    bench.configure("", write="enabled: true, opportunity_fields: true")
    bench.know(
        opportunities={n: Standing(n == "won", n == "won", "rep") for n in ("006A", "006B", "006C", "won")}
    )
    return bench


def test_nothing_is_written_unless_asked_for(bench: Bench) -> None:
    """Tasks and forecasts alone are no leave to touch opportunities."""
    bench.know(opportunities={"006A": Standing(False, False, "rep")})

    assert bench.plan(opportunities=[forecast()]).changes == ()


def test_values_are_coarse_and_say_why(opted: Bench) -> None:
    """Probabilities in steps of five points, the close at its week's Friday, the reasons cut to what a field holds."""
    made = opted.plan(opportunities=[forecast()], reasons={"006A": "+ " + "x" * 400})

    [change] = made.changes
    assert (change.object, change.action, change.opportunity_id, change.owner_id) == (
        "opportunity", "update", "006A", "rep",
    )  # fmt: skip
    reasons = change.after.pop("reasons")
    assert change.after == {"win_probability": 0.45, "win_in_period": 0.2, "expected_close": "2026-12-11"}
    assert (len(reasons), reasons[-1]) == (255, "…")
    assert change.before == dict.fromkeys([*change.after, "reasons"])
    assert change.rests_on == {"is_closed": None}


def test_open_opportunities_only_the_largest_first(opted: Bench) -> None:
    """What is closed keeps what it has; what is at stake sets the order."""
    found = [
        forecast("006A"),
        forecast("won"),
        forecast("006B", expected_amount=Decimal(900)),
        forecast("unknown"),
    ]

    made = opted.plan(opportunities=found)

    assert [c.opportunity_id for c in made.changes] == ["006B", "006A"]


@pytest.mark.parametrize(
    ("more", "reasons", "changed"),
    [
        ({}, "+ something else", set()),
        ({"win_probability": 0.52}, "", set()),
        ({"win_probability": 0.53}, "", {"win_probability"}),
        ({"win_in_period": 0.11}, "", {"win_in_period"}),
        ({"win_in_period": 0.11}, "+ new", {"win_in_period", "reasons"}),
        ({"expected_close": (date(2026, 12, 15),) * 3}, "", set()),
        ({"expected_close": (date(2026, 12, 22),) * 3}, "", {"expected_close"}),
        ({"expected_close": None}, "", {"expected_close"}),
    ],
    ids=[
        "only the reasons", "within the tolerance", "beyond it", "in the period", "the reasons go along", "a week",
        "two weeks", "never like it won",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pulled", [True, False])
def test_it_is_rewritten_when_it_moved(
    opted: Bench, more: dict[str, Any], reasons: str, changed: set[str], pulled: bool
) -> None:
    """By ten points or two weeks; then what differs is written, with its before."""
    opted.carry_out(opted.plan(opportunities=[forecast()], reasons={}), pulled=pulled)

    made = opted.plan(
        opportunities=[forecast(**more)], reasons={"006A": reasons} if reasons else {}, as_of=MONDAY + DAY
    )

    assert {n for c in made.changes for n in c.after} == changed
    if changed:
        assert made.changes[0].before.keys() == changed
