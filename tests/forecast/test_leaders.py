"""What leaders and reps read: reasons, quotas, plans, waterfall, accuracy beside people's calls, patterns, alarms."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from benchmarks import simulate
from tests.forecast.worlds import AS_OF, NAME, PERIOD, features, small_warehouse

from pipesync.forecast import (
    Forecast,
    Model,
    accuracy,
    history,
    landmarks,
    patterns,
    predict,
    reasons,
    regime,
)
from pipesync.forecast.history import DAY, History, to_ms
from pipesync.forecast.landmarks import Fate
from pipesync.forecast.targets import against_quota, plans, plans_for
from pipesync.forecast.training import Training
from pipesync.forecast.waterfall import waterfall
from pipesync.model import OpportunityForecast, PeriodForecast
from pipesync.store.warehouse import Warehouse

NOW = to_ms(AS_OF)

# --- Reasons ----------------------------------------------------------------------------------------------------


def test_a_reason_is_what_the_model_would_say_otherwise(model: Model, past: History) -> None:
    """Its points are the difference that putting the trait back to usual makes, for every row."""
    rows = landmarks.at(past, [NOW], banned=model.banned)
    said = model.learned.calibrate(model.fitted.win_by(rows, np.array([28.0])))[:, 0]

    for trait, points in reasons.effects(model, rows, 28.0).items():
        usual = rows if trait == "calendar" else reasons.as_usual(model, rows, reasons.TRAITS[trait])
        other = reasons.without_rhythm(model) if trait == "calendar" else model
        without = other.learned.calibrate(other.fitted.win_by(usual, np.array([28.0])))[:, 0]
        assert points == pytest.approx(said - without)


def test_reasons_are_ranked_and_split_by_direction(model: Model, past: History, forecast: Forecast) -> None:
    """At most three each way, the strongest first, in words with dates."""
    ids = [o.id for o in forecast.opportunities[:20]]

    told = reasons.of(model, past, ids, NOW, 28.0)

    assert set(told) == set(ids)
    for up, down in told.values():
        assert [w.points for w in up] == sorted((w.points for w in up), reverse=True)
        assert [w.points for w in down] == sorted(w.points for w in down)
        assert len(up) <= 3
        assert len(down) <= 3
        assert all(w.points > 0 and w.text for w in up)
        assert all(w.points < 0 and w.text for w in down)


def test_time_in_a_stage_is_told_with_its_date(model: Model, past: History) -> None:
    """`in Proposal since 12 Dec 2024, winners are 9 days in`."""
    rows = landmarks.at(past, [NOW], banned=model.banned)

    told = [
        w for up, down in reasons.explain(model, rows, 28.0) for w in (*up, *down) if w.trait == "stage_days"
    ]

    assert told
    assert all(" since " in w.text and "winners are" in w.text and "days in" in w.text for w in told)


# --- Quota, plan A and plan B -----------------------------------------------------------------------------------


def test_quotas_are_held_against_the_draws(
    company: simulate.Company, model: Model, owners: pd.Series[str]
) -> None:
    """Half of what a group will win is likely reached, twice as much is not; other spans count by their days."""
    with company.warehouse(AS_OF) as opened:
        made = predict(opened, features(), PERIOD, model=model)
        for owner, share in (("r3", 0.5), ("r4", 3.0)):
            amount = share * next(float(f.p50) for f in made.by_owner if f.scope_id == owner)
            opened.execute(
                "INSERT INTO quotas (connection, owner_id, period_start, period_end, amount) VALUES (?, ?, ?, ?, ?)",
                [NAME, owner, PERIOD.start, PERIOD.end + (PERIOD.end - PERIOD.start), 2 * amount],
            )
        found = {(t.scope, t.scope_id): t for t in against_quota(opened, NAME, made, owners)}

    easy, hard, total = found["owner", "r3"], found["owner", "r4"], found["total", ""]
    assert easy.reach > 0.75 > 0.25 > hard.reach
    assert total.quota == pytest.approx(easy.quota + hard.quota)
    assert hard.gap == pytest.approx(max(hard.quota - hard.closed, 0))
    assert hard.coverage is not None
    assert hard.coverage_needed is not None
    assert hard.coverage_needed > 1


@pytest.mark.parametrize(("own", "total"), [(10.0, 110.0), (120.0, 120.0), (None, 100.0)])
def test_quotas_of_managers_count_nobody_twice(
    company: simulate.Company, model: Model, owners: pd.Series[str], own: float | None, total: float
) -> None:
    """A quota that covers the team stands for it, one that does not comes on top."""
    with company.warehouse(AS_OF) as opened:
        made = predict(opened, features(), PERIOD, model=model)
        for owner, amount in (("r0", 60.0), ("r3", 40.0), ("m0", own)):
            if amount is not None:
                opened.execute(
                    "INSERT INTO quotas (connection, owner_id, period_start, period_end, amount) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [NAME, owner, PERIOD.start, PERIOD.end, amount],
                )
        found = {(t.scope, t.scope_id): t for t in against_quota(opened, NAME, made, owners)}

    assert found["total", ""].quota == total
    assert found["manager", "m0"].quota == total
    assert found["manager", "head"].quota == total
    assert found["manager", "m0"].coverage_needed is not None


def test_where_nothing_is_enough_plan_b_still_says_what_to_pull_in(forecast: Forecast) -> None:
    """A target out of reach takes every opportunity into plan A, and leaves a plan B to work on."""
    found = plans_for(forecast, [], 100 * float(forecast.total.p90))

    assert found.short > 0
    assert found.b
    assert {one.id for one in found.b} <= {one.id for one in found.a}


def test_plans_count_on_what_is_won_and_new(forecast: Forecast) -> None:
    """For the number asked for; without one or a quota, for what is likely."""
    there = float(forecast.total.closed) + float(forecast.total.new)

    near, far = plans_for(forecast, [], there), plans_for(forecast, [])

    assert near.a == ()
    assert far.target == float(forecast.total.p50)
    assert far.a[0].running > there


def test_no_quota_no_target(warehouse: Warehouse, forecast: Forecast, owners: pd.Series[str]) -> None:
    """A company without quotas is not measured against zero."""
    assert against_quota(warehouse, NAME, forecast, owners) == []


def said(name: str, amount: float, in_period: float, ever: float) -> OpportunityForecast:
    return OpportunityForecast(
        id=name, win_probability=ever, win_in_period=in_period, expected_amount=Decimal(str(amount))
    )


def test_plan_a_carries_the_number_and_plan_b_waits() -> None:
    """A: most expected amount first until the target stands; B: what would add most if it came in time."""
    opened = [
        said("sure", 100, 0.9, 0.95),
        said("good", 100, 0.5, 0.6),
        said("late", 400, 0.05, 0.8),
        said("no", 90, 0, 0.1),
    ]

    found = plans(opened, closed=50, target=180)

    assert [c.id for c in found.a] == ["sure", "good"]
    assert found.a[-1].running == pytest.approx(190)
    assert found.short == 0
    assert [c.id for c in found.b] == ["late", "no"]


def test_a_target_out_of_reach_says_what_is_short() -> None:
    """Everything is in plan A, and it does not make it."""
    found = plans([said("a", 100, 0.5, 0.6)], closed=0, target=200)

    assert found.short == pytest.approx(150)


# --- Waterfall --------------------------------------------------------------------------------------------------


def test_the_steps_of_a_waterfall_add_up(company: simulate.Company, forecast: Forecast) -> None:
    """From the mean a week ago to today's, each opportunity by one name."""
    before_at = AS_OF - timedelta(days=7)
    with company.warehouse(before_at) as earlier:
        before = predict(earlier, features(before_at), PERIOD)
    done = company.opportunities.query("won").set_index("id")
    low, high = ((t - simulate.EPOCH) / timedelta(days=1) for t in (before_at, AS_OF))
    won = {
        str(i): float(a) for i, a in done["amount"][(done["closed"] > low) & (done["closed"] <= high)].items()
    }

    found = waterfall(before, forecast, won)

    assert found.start + sum(s.amount for s in found.steps) == pytest.approx(found.end)
    assert (found.start, found.end) == (float(before.total.mean), float(forecast.total.mean))
    assert {"won", "created", "rest"} <= set(found.by_kind())
    opened = {o.id for o in before.opportunities}
    assert all(s.opportunity_id not in opened for s in found.steps if s.kind == "created")


def test_a_waterfall_of_two_periods_is_refused(
    warehouse: Warehouse, forecast: Forecast, model: Model
) -> None:
    """It would compare what cannot be compared."""
    from pipesync.forecast import Period

    other = predict(
        warehouse, features(), Period(PERIOD.start, PERIOD.start + timedelta(days=7)), model=model
    )

    with pytest.raises(ValueError, match="one period"):
        waterfall(forecast, other, {})


# --- Accuracy ---------------------------------------------------------------------------------------------------

JUNE = (date(2024, 6, 1), date(2024, 7, 1))


def issued(day: int, p50: int, scope_id: str = "") -> tuple[datetime, PeriodForecast]:
    figure = PeriodForecast(
        period_start=JUNE[0], period_end=JUNE[1], scope="owner" if scope_id else "total", scope_id=scope_id,
        p10=Decimal(p50 - 100), p50=Decimal(p50), p90=Decimal(p50 + 100), mean=Decimal(p50), closed=Decimal(0),
        open=Decimal(p50), new=Decimal(0), model="hazard",
    )  # fmt: skip
    return datetime(2024, 6, day, tzinfo=UTC), figure


@pytest.fixture
def called() -> Warehouse:
    """June: owner a wins 1,000 that was in commit from the 5th on; owner b loses 400 that was in commit too."""
    june = datetime(2024, 6, 1, tzinfo=UTC)
    rows = [
        {"id": "x", "owner_id": "a", "created_at": june - timedelta(days=9), "closed_at": june + timedelta(days=20),
         "is_closed": True, "is_won": True, "amount": 1000, "forecast_category": "closed"},
        {"id": "y", "owner_id": "b", "created_at": june - timedelta(days=9), "closed_at": june + timedelta(days=25),
         "is_closed": True, "amount": 400, "forecast_category": "omitted"},
    ]  # fmt: skip
    days = [
        ("x", "pipeline", 0),
        ("x", "commit", 4),
        ("x", "closed", 20),
        ("y", "commit", 0),
        ("y", "omitted", 25),
    ]
    changes = [
        {
            "opportunity_id": i,
            "field": "forecast_category",
            "value": v,
            "changed_at": june + timedelta(days=d),
        }
        for i, v, d in days
    ]
    return small_warehouse(rows, changes)


def test_issued_forecasts_are_scored_beside_the_calls_of_their_moment(called: Warehouse) -> None:
    """What was in commit then counts, whatever became of it; by week of the period."""
    with called:
        found = accuracy.score(
            called, NAME, [issued(3, 900), issued(10, 1200), issued(10, 950, "a")], known_at=AS_OF
        )

    assert [(s.week, s.actual, s.call) for s in found] == [
        (1, 1000.0, 400.0),
        (2, 1000.0, 1000.0),
        (2, 1000.0, 1400.0),
    ]


def test_the_record_sums_up(called: Warehouse) -> None:
    """WAPE, bias and coverage of the model and of the people, by scope, week and owner."""
    with called:
        scored = accuracy.score(
            called, NAME, [issued(3, 900), issued(10, 1200), issued(10, 950, "a")], known_at=AS_OF
        )
    found = {(r.scope, r.scope_id, r.week): r for r in accuracy.summarise(scored)}

    total = found["total", None, None]
    assert (total.count, total.coverage_80) == (2, 0.5)
    assert (total.wape, total.bias) == pytest.approx((0.15, 0.05))
    assert total.call_wape == pytest.approx(0.5)
    assert found["total", None, 1].call_bias == pytest.approx(-0.6)
    assert found["owner", "a", None].count == 1


def test_a_period_that_runs_is_not_scored(called: Warehouse) -> None:
    """Not before its end is known."""
    with called:
        found = accuracy.score(called, NAME, [issued(3, 900)], known_at=datetime(2024, 6, 20, tzinfo=UTC))

    assert found == []


# --- Patterns and alarms ----------------------------------------------------------------------------------------


def test_a_habit_of_winners_is_found_and_chance_is_not(training: Training) -> None:
    """Plant one: those whose close date was never pushed win three times as often."""
    random = np.random.default_rng(0)
    count = len(training.rows)
    pushes = random.integers(0, 2, count).astype(float)
    won = random.random(count) < np.where(pushes == 0, 0.6, 0.2)
    frame = training.rows.frame.assign(
        pushes=pushes,
        due_in=random.uniform(0, 90, count),
        stage="default/Proposal",
        skipped=0.0,
        back_moves=0.0,
    )
    rows = replace(training.rows, frame=frame, opportunity=np.arange(count))
    planted = replace(training, rows=rows, fate=Fate(training.fate.days, won, ~won))

    found = patterns.winning_patterns(planted)

    assert found[0].habit == "a close date that was never pushed"
    assert found[0].difference[1] > 0.3 > 0
    assert all(p.habit != "a close date within 45 days" for p in found)


@pytest.mark.parametrize(("shares", "alarm"), [((1, 1, 1, 1, 1, 1), None), ((1, 1, 0.2, 0.2, 0.2, 0.2), 5)])
def test_wins_that_leave_their_range_raise_an_alarm(shares: tuple[float, ...], alarm: int | None) -> None:
    """A run of weeks with a fifth of the expected wins is found within weeks; an ordinary one is not."""
    expected = np.full(6, 5.0)

    assert regime.cusum(expected * np.array(shares), expected) == alarm


def test_another_mix_has_a_large_index() -> None:
    """Equal counts have none."""
    assert regime.psi(np.array([50, 50]), np.array([50, 50])) == pytest.approx(0)
    assert regime.psi(np.array([90, 10]), np.array([10, 90])) > 0.25


def test_a_collapse_of_wins_reaches_the_model_card(company: simulate.Company) -> None:
    """Nothing won for two months: the forecast says that the past is no guide."""
    start = (AS_OF - simulate.EPOCH) / timedelta(days=1) - 60
    frame = company.opportunities
    collapsed = replace(company, opportunities=frame.assign(won=frame["won"] & (frame["closed"] < start)))
    with collapsed.warehouse(AS_OF) as opened:
        found = predict(opened, features(), PERIOD)

    assert any(a["kind"] == "wins" and a["why"].startswith("fewer") for a in found.model["alarms"])


def test_expected_wins_of_a_week_include_new_business(past: History, training: Training) -> None:
    """The watch counts what was open and what came new, and names the week."""
    from pipesync.forecast import replay

    origin = NOW - 56 * DAY
    settled = replay.settle(past, replay.issue(past, origin, 28.0, ["hazard"]), NOW)

    seen, expected, starts = regime.weekly_wins(past, settled, NOW)

    assert len(seen) == len(expected) == len(starts) == 8
    assert (expected > 0).all()
    assert seen.sum() == (past.won & (past.closed > origin) & (past.closed <= NOW)).sum()
    assert history.to_moment(starts[0]) == AS_OF - timedelta(days=56)
