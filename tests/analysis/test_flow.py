"""Velocity, linearity and coverage: figures that can be checked by hand, and answers where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipesync.analysis.coverage import coverage
from pipesync.analysis.linearity import clusters, gini, linearity
from pipesync.analysis.velocity import creation_against_closing, velocity
from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.forecast.periods import Period, period_of
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values


def opportunity(name: str, created: float, closed: float | None = None, **values: Any) -> Row:
    at = None if closed is None else NOW - timedelta(days=closed)
    given = {
        "id": name, "pipeline": "p", "stage": "A", "amount": Decimal(100), "owner_id": "u",
        "created_at": NOW - timedelta(days=created), "close_date": at.date() if at else date(2026, 12, 1),
        "closed_at": at, "is_closed": at is not None,
    }  # fmt: skip
    return {**given, **values}


def test_velocity_is_its_formula(build: Make) -> None:
    """Two open, one of two won, 300 on average, 30 days: 2 x 0.5 x 300 / 30 = 10 a day."""
    warehouse = build(
        opportunities=[
            opportunity("a", 10), opportunity("b", 10),
            opportunity("c", 40, 10, is_won=True, amount=Decimal(300)), opportunity("d", 40, 10),
        ]
    )  # fmt: skip

    [found] = velocity(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert found.per_day == pytest.approx(10)
    gains = {lever.name: lever.gain for lever in found.levers}
    assert gains["win_rate"] == pytest.approx(910 * 0.02)
    assert gains["opportunities"] == pytest.approx(13 * 150)
    assert gains["cycle"] == pytest.approx(2 * 0.5 * 300 / 29 * 91 - 910)
    assert [lever.gain for lever in found.levers] == sorted(gains.values(), reverse=True)


def test_velocity_is_told_per_group_and_refused_for_others(process: Make) -> None:
    """Groups add up to the whole; a group that cannot be read has none."""
    warehouse = process()
    features = compute(warehouse, "crm", NOW, Calendar())

    [whole] = velocity(warehouse, features)
    parts = velocity(warehouse, features, "segment")

    assert sum(p.won for p in parts) == whole.won
    assert [p.key for p in parts] == ["s0", "s1"]
    with pytest.raises(InputError, match="no velocity by"):
        velocity(warehouse, features, "moon")  # type: ignore[arg-type]  # what is refused


def test_without_a_win_there_is_no_velocity(build: Make) -> None:
    """None, not a number that was made up."""
    warehouse = build(opportunities=[opportunity("a", 10)])

    [found] = velocity(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert (found.per_day, found.levers, found.win_rate) == (None, (), None)


def test_weeks_tell_what_came_in_and_what_went_out(build: Make) -> None:
    """By the Monday that they begin on."""
    rows = [opportunity("a", 1), opportunity("b", 20, 1, is_won=True), opportunity("c", 20, 8)]
    warehouse = build(opportunities=rows)

    found = creation_against_closing(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert [(w.start, w.created, w.won, w.lost, w.net_amount) for w in found] == [
        (date(2026, 11, 2), 2, 0, 0, 200.0),
        (date(2026, 11, 9), 0, 0, 1, -100.0),
        (date(2026, 11, 16), 1, 1, 0, 0.0),
    ]


def test_a_hockey_stick_is_seen_once_its_quarter_is_over(build: Make) -> None:
    """Nine tenths of the third quarter were won in its last days."""
    september = (NOW - datetime(2026, 9, 28, 8, tzinfo=UTC)).days
    rows = [
        opportunity("a", 200, september, is_won=True, amount=Decimal(900)),
        opportunity("b", 200, 120, is_won=True),
        opportunity("c", 200, 10, is_won=True),
    ]
    warehouse = build(opportunities=rows)

    found = linearity(warehouse, compute(warehouse, "crm", NOW, Calendar()), Calendar())

    assert [(q.period.start, q.won, q.is_over) for q in found] == [
        (date(2026, 7, 1), 2, True),
        (date(2026, 10, 1), 1, False),
    ]
    assert found[0].last_two_weeks == pytest.approx(0.9)
    assert found[0].by_month == pytest.approx((0.1, 0, 0.9))
    assert [q.is_hockey_stick for q in found] == [True, False]
    assert sum(found[0].by_week) == pytest.approx(1)


def test_gini_is_nothing_for_equals_and_most_for_one() -> None:
    """Of n weeks with everything in one it is 1 - 1/n."""
    assert gini([5, 5, 5, 5]) == 0
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([]) == gini([0, 0]) == 0


def test_dates_at_the_end_of_a_month_pile_up(build: Make) -> None:
    """Worst owner first; 30 November 2026 is a Monday and the last business day."""
    end = date(2026, 11, 30)
    rows = [
        opportunity("a", 10, close_date=end), opportunity("b", 10),
        opportunity("c", 10, close_date=end, owner_id="v"),
    ]  # fmt: skip
    warehouse = build(opportunities=rows)

    found = clusters(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert [(c.owner_id, c.at_end, c.share) for c in found] == [("v", 1, 1.0), ("u", 1, 0.5)]


def test_coverage_needed_is_learnt_from_past_quarters(build: Make) -> None:
    """Half of what was open at the same point was won in the rest of each quarter: 2 is needed."""
    rows: list[Row] = []
    changes: list[Row] = []
    for quarter in (date(2026, 1, 1), date(2026, 4, 1), date(2026, 7, 1)):
        for k, is_won in enumerate((True, False)):
            name, start = f"{quarter}{k}", datetime(quarter.year, quarter.month, 1, 9, tzinfo=UTC)
            closed = start + timedelta(days=80)
            rows.append(
                opportunity(name, 0, created_at=start - timedelta(days=20), closed_at=closed, is_closed=True,
                            is_won=is_won, close_date=closed.date())
            )  # fmt: skip
            changes.append(
                {"id": name, "opportunity_id": name, "field": "close_date", "value": closed.date().isoformat(),
                 "changed_at": start - timedelta(days=20)}
            )  # fmt: skip
    rows += [opportunity(f"now{i}", 40) for i in range(3)]
    rows.append(opportunity("old", 700, 650))
    quotas = [
        {
            "owner_id": "u",
            "period_start": date(2026, 10, 1),
            "period_end": date(2027, 1, 1),
            "amount": Decimal(200),
        }
    ]
    warehouse = build(opportunities=rows, field_changes=changes, quotas=quotas)
    features = compute(warehouse, "crm", NOW, Calendar())
    period = period_of(NOW, "quarter", Calendar())

    found = coverage(warehouse, features, period, Calendar())

    assert found.total.coverage == pytest.approx(300 / 200)
    assert [(c.scope_id, c.gap) for c in found.rows] == [("u", 200.0)]
    assert [(p.open_amount, p.won_later) for p in found.past if p.open_amount] == [(200.0, 100.0)] * 3
    assert found.needed == pytest.approx(2)
    assert found.missing == ()
    assert warehouse.rows("SELECT max(age_days) FROM features") == [(700.0,)]


def test_nothing_to_cover_is_said(build: Make) -> None:
    """No quotas, no past; every analysis of an empty pipeline answers."""
    warehouse = build(opportunities=[])
    features = compute(warehouse, "crm", NOW, Calendar())

    found = coverage(warehouse, features, Period(date(2026, 10, 1), date(2027, 1, 1)), Calendar())

    assert (found.total.coverage, found.needed, found.rows) == (None, None, ())
    assert "no quotas for this period" in found.missing
    assert velocity(warehouse, features, "owner_id") == ()
    assert linearity(warehouse, features, Calendar()) == ()
    assert creation_against_closing(warehouse, features) == ()
    assert clusters(warehouse, features) == ()
