"""Quotas of people, teams and spans add up to one number for the company."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from benchmarks import simulate
from tests.forecast.worlds import AS_OF, NAME

from pipesync.analysis.coverage import coverage
from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.forecast import Model, Period, predict
from pipesync.forecast.quotas import quotas_of
from pipesync.forecast.targets import against_quota, owners_of
from pipesync.store.warehouse import Warehouse

QUARTER = Period(date(2024, 10, 1), date(2025, 1, 1))


@pytest.fixture
def opened(company: simulate.Company) -> Iterator[Warehouse]:
    """Reps r0 to r7 in three teams; team 0 is r0, r3 and r6 under m0, and so on; the head is above m0 to m2."""
    with company.warehouse(AS_OF) as fresh:
        yield fresh


def ask(
    opened: Warehouse,
    who: str,
    amount: float,
    start: date = QUARTER.start,
    end: date = QUARTER.end,
    **more: str,
) -> None:
    column = "team" if who.startswith("team") else "owner_id"
    names = ["connection", column, "amount", "period_start", "period_end", *more]
    opened.execute(
        f"INSERT INTO quotas ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [NAME, who, amount, start, end, *more.values()],
    )


def test_what_a_team_is_to_bring_beyond_its_people_counts_for_its_manager(opened: Warehouse) -> None:
    """An open position is in the team's number, so it is in its manager's, in the head's and in the company's."""
    for rep in ("r0", "r3", "r1"):
        ask(opened, rep, 100)
    ask(opened, "team 0", 500)
    ask(opened, "team 1", 40)

    found = quotas_of(opened, NAME, QUARTER)

    assert found.team == {"team 0": 500, "team 1": 100}
    assert found.manager == {"m0": 500, "m1": 100, "head": 600}
    assert found.total == 600
    assert found.owner == {"r0": 100, "r3": 100, "r1": 100}


def test_teams_alone_have_managers_too(opened: Warehouse) -> None:
    """Where nobody has a quota of his own; a team that nobody is in counts for the company only."""
    ask(opened, "team 0", 500)
    ask(opened, "team of nobody", 70)

    found = quotas_of(opened, NAME, QUARTER)

    assert (found.total, found.manager) == (570, {"m0": 500, "head": 500})


@pytest.mark.parametrize(
    ("spans", "quota"),
    [
        ([(date(2024, 1, 1), date(2025, 1, 1), 366)], 92),
        ([(date(2024, 10, 1), date(2025, 1, 1), 90), (date(2024, 1, 1), date(2025, 1, 1), 366)], 90),
        ([(date(2024, m, 1), date(2024 + m // 12, m % 12 + 1, 1), 10) for m in (10, 11, 12)], 30),
        ([(date(2024, 10, 1), date(2024, 11, 1), 10), (date(2024, 10, 1), date(2025, 1, 1), 90)], 90),
    ],
    ids=["a year's part", "the quarter's own before the year's", "its months", "what covers it"],
)
def test_spans_are_not_counted_twice(
    opened: Warehouse, spans: list[tuple[date, date, float]], quota: float
) -> None:
    """A quota by month, quarter and year is one quota said three times."""
    for start, end, amount in spans:
        ask(opened, "r0", amount, start, end)

    assert quotas_of(opened, NAME, QUARTER).total == pytest.approx(quota)


def test_quotas_are_in_the_home_currency(opened: Warehouse) -> None:
    """A quota in dollars is what it is worth in euros."""
    opened.execute(
        "INSERT INTO currency_rates (connection, currency, rate, valid_from) VALUES (?, 'USD', 0.5, ?)",
        [NAME, date(2024, 1, 1)],
    )
    ask(opened, "r0", 100, currency="USD")
    ask(opened, "r1", 100, currency="EUR")

    assert quotas_of(opened, NAME, QUARTER).total == 150


def test_coverage_and_the_forecast_speak_of_one_quota(opened: Warehouse, model: Model) -> None:
    """Company and teams: the same quota, the same open amount, the same coverage."""
    for rep in ("r0", "r1", "r2", "r3"):
        ask(opened, rep, 40_000)
    ask(opened, "team 0", 300_000)
    ask(opened, "m1", 200_000)
    features = compute(opened, NAME, AS_OF, Calendar())
    made = predict(opened, features, QUARTER, model=model)

    foretold = {(t.scope, t.scope_id): t for t in against_quota(opened, NAME, made, owners_of(opened, NAME))}
    covered = coverage(opened, features, QUARTER, Calendar(), by="team", periods=0)

    assert foretold["total", ""].quota == covered.total.quota
    assert covered.total.coverage == pytest.approx(foretold["total", ""].coverage)
    for team in covered.rows:
        if team.quota:
            same = foretold["team", str(team.scope_id)]
            assert team.quota == same.quota
            assert team.closed == pytest.approx(same.closed)
            assert team.open_amount == pytest.approx(same.open_amount)
