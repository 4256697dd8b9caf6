"""Which forecast records are written, and when they are left alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pipesync.model import PeriodForecast

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def forecast(**more: Any) -> PeriodForecast:  # Any: fields
    given = dict.fromkeys(("p10", "p50", "p90", "mean", "closed", "open", "new"), Decimal(100))
    return PeriodForecast(
        **{
            "connection": "crm", "period_start": date(2026, 10, 1), "period_end": date(2027, 1, 1),
            "currency": "EUR", "model": "m", **given, **more,
        }
    )  # fmt: skip


def test_a_new_period_is_written_whole(bench: Bench) -> None:
    """Every scope of the period gets a record of its own, with what it rests on."""
    made = bench.plan(forecasts=[forecast(), forecast(scope="owner", scope_id="rep", p50=Decimal(50))])

    assert [(c.action, c.object, c.after["scope"], c.owner_id) for c in made.changes] == [
        ("create", "forecast", "total", None),
        ("create", "forecast", "owner", "rep"),
    ]
    assert made.changes[0].after["p50"] == "100.00"
    assert (made.changes[0].after["basis"], made.changes[0].after["as_of"]) == ("b1", "2026-11-23")
    assert len({c.key for c in made.changes}) == 2


def test_what_has_no_owner_is_in_the_total_alone(bench: Bench) -> None:
    """A record about nobody helps nobody."""
    made = bench.plan(forecasts=[forecast(scope="owner", scope_id="")])

    assert made.changes == ()


@pytest.mark.parametrize(
    ("p50", "basis", "days", "expected"),
    [
        (Decimal(100), "b2", 1, 0),
        (Decimal(102), "b2", 1, 0),
        (Decimal(103), "b2", 1, 1),
        (Decimal(200), "b1", 1, 0),
        (Decimal(200), "b1", 6, 0),
        (Decimal(200), "b1", 7, 1),
        (Decimal(101), "b1", 30, 0),
    ],
    ids=[
        "the same", "within the tolerance", "beyond it", "no opportunity changed", "nor for six days",
        "a week old", "old and the same",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pulled", [True, False], ids=["pulled", "journal"])
def test_it_is_rewritten_when_it_moved(
    bench: Bench, p50: Decimal, basis: str, days: int, expected: int, pulled: bool
) -> None:
    """More than 2% on a changed pipeline, or after a week; a drift of the model alone writes nothing."""
    bench.carry_out(bench.plan(forecasts=[forecast()]), pulled=pulled)
    bench.know(basis=basis)

    made = bench.plan(forecasts=[forecast(p50=p50)], as_of=MONDAY + days * DAY)

    assert len(made.changes) == expected
    if expected:
        assert made.changes[0].before["p50"] == "100.00"
        assert made.changes[0].after["p50"] == f"{p50:.2f}"
        assert "p10" not in made.changes[0].after
        bench.carry_out(made, pulled=pulled)
        assert bench.plan(forecasts=[forecast(p50=p50)]).changes == ()


def test_where_the_crm_has_no_forecasts_none_are_written(bench: Bench) -> None:
    """Forecasts stay in the ledger and the report."""
    bench.know(takes=frozenset({"task"}))

    assert bench.plan(forecasts=[forecast()]).changes == ()


def test_the_reason_tells_the_numbers(bench: Bench) -> None:
    """People see from what to what it moved."""
    bench.carry_out(bench.plan(forecasts=[forecast(p10=Decimal(90), p90=Decimal(1200))]))
    bench.know(basis="b2")

    [change] = bench.plan(forecasts=[forecast(p10=Decimal(90), p50=Decimal(1100), p90=Decimal(1200))]).changes

    assert change.reason.text == "90 to 1,200 EUR, likely 1,100; it was 100"
