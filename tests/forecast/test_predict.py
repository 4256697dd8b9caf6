"""A forecast of a period: what adds up, what is ordered, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from benchmarks import simulate
from tests.forecast.worlds import AS_OF, PERIOD, features, small_warehouse

from pipesync.errors import InputError
from pipesync.forecast import Forecast, Model, Period, fit_model, fitting, predict, rollup
from pipesync.forecast.rollup import above
from pipesync.model import Scope
from pipesync.store.warehouse import Warehouse


def test_the_parts_are_the_whole(forecast: Forecast) -> None:
    """Closed, open and new add up, within each figure and over the groups of every scope."""
    for scope, figures in forecast.rollups.items():
        assert all(f.closed + f.open + f.new == f.mean for f in figures), scope
        if scope == "manager":
            figures = [f for f in figures if f.scope_id in ("m0", "m1", "m2")]  # those of one level
        for part in ("closed", "open", "new", "mean"):
            total = sum(float(getattr(f, part)) for f in figures)
            assert total == pytest.approx(float(getattr(forecast.total, part)), abs=0.02 * len(figures)), (
                scope
            )


def test_draws_of_groups_add_up_to_draws_of_the_total(forecast: Forecast) -> None:
    """Not only the means: every single draw."""
    total = forecast.draws["total"][""]

    scopes: tuple[Scope, ...] = ("owner", "team", "product")
    for scope in scopes:
        parts = np.sum(list(forecast.draws[scope].values()), axis=0)
        assert np.allclose(parts, total), scope


def test_whoever_manages_managers_has_all_of_it(forecast: Forecast) -> None:
    """The head's figure is the total's, draw by draw."""
    assert np.allclose(forecast.draws["manager"]["head"], forecast.draws["total"][""])


def test_intervals_are_in_order(forecast: Forecast) -> None:
    """P10 to P90, never under what is closed already."""
    for figure in [f for figures in forecast.rollups.values() for f in figures]:
        assert figure.closed <= figure.p10 <= figure.p50 <= figure.p90


def test_the_interval_holds_four_of_five_draws(forecast: Forecast) -> None:
    """Of an owner too, for whom P10 to P90 would hold more; of the total both are one."""
    for one in forecast.by_owner:
        low, high = (float(end) for end in one.interval)
        drawn = forecast.draws["owner"][one.scope_id]
        held = float(np.mean((drawn >= low - 0.01) & (drawn <= high + 0.01)))
        assert 0.795 <= held <= max(0.805, float(np.mean(drawn <= low)))
    assert forecast.total.interval == (forecast.total.p10, forecast.total.p90)
    assert any(one.interval != (one.p10, one.p90) for one in forecast.by_owner)


def test_the_path_by_week_leads_to_the_total(forecast: Forecast) -> None:
    """Week by week nothing falls, every step is in order, and the last one is the period's figure."""
    ends = [week.end for week in forecast.path]

    assert ends == [(AS_OF + timedelta(days=7 * n)).date() for n in range(1, 6)]
    for before, after in pairwise(forecast.path):
        assert (before.p10, before.p50, before.p90) <= (after.p10, after.p50, after.p90)
        assert before.p10 <= before.p50 <= before.p90
    last, total = forecast.path[-1], forecast.total
    assert (last.p10, last.p50, last.p90) == (total.p10, total.p50, total.p90)


def test_weeks_that_are_past_hold_what_was_won(
    warehouse: Warehouse, company: simulate.Company, model: Model
) -> None:
    """Two weeks into a period two of its weeks are known to the cent, and those to come begin there."""
    start = AS_OF - timedelta(days=14)
    begun = Period(start.date(), PERIOD.end)

    found = predict(warehouse, features(), begun, model=model).path

    assert [week.is_past for week in found] == [True, True, False, False, False, False, False]
    won = float(company.actual(begun.starts_at, begun.starts_at + timedelta(days=14)).sum())
    assert float(found[1].p10) == float(found[1].p90) == pytest.approx(won)
    assert found[2].p10 >= found[1].p50


def test_a_period_to_come_has_its_path_too(warehouse: Warehouse, model: Model) -> None:
    """Nothing of what is won before it begins is in its first week."""
    later = Period(PERIOD.end, PERIOD.end + timedelta(days=28))

    found = predict(warehouse, features(), later, model=model)

    assert [week.is_past for week in found.path] == [False] * 4
    assert found.path[-1].p50 == found.total.p50
    assert 0.1 < float(found.path[0].p50) / float(found.total.p50) < 0.5


def test_opportunities_are_told_consistently(forecast: Forecast) -> None:
    """Every open one, no more likely in the period than ever, with close dates in order and not in the past."""
    assert len(forecast.opportunities) == len({o.id for o in forecast.opportunities})
    for one in forecast.opportunities:
        assert 0 <= one.win_in_period <= one.win_probability <= 1
        if one.expected_close:
            low, middle, high = one.expected_close
            assert AS_OF.date() <= low <= middle <= high


def test_the_same_question_has_the_same_answer(
    warehouse: Warehouse, forecast: Forecast, model: Model
) -> None:
    """Nothing in a forecast depends on anything but its input and seed."""
    again = predict(warehouse, features(), PERIOD)

    assert again.total == forecast.total
    assert again.opportunities == forecast.opportunities
    assert predict(warehouse, features(), PERIOD, model=model, seed=1).total != forecast.total


def test_a_kept_model_forecasts_as_the_fitted_one(
    warehouse: Warehouse, forecast: Forecast, model: Model
) -> None:
    """Through JSON and back, to the cent."""
    document = json.loads(json.dumps(fitting.to_document(model)))

    found = predict(warehouse, features(), PERIOD, model=fitting.from_document(document))

    assert found.rollups == forecast.rollups
    assert found.opportunities == forecast.opportunities
    assert found.model == forecast.model


def test_a_model_for_little_data_can_be_kept_too() -> None:
    """With its baselines, as text and nothing but text."""
    with small_warehouse(
        [{"id": "o1", "created_at": AS_OF - timedelta(days=9), "stage": "Proposal"}]
    ) as opened:
        made = fit_model(opened, features(), PERIOD)

    document = json.loads(json.dumps(fitting.to_document(made)))

    assert document["rung"]["forecaster"] == "stage_age"
    assert document["baselines"].keys() == {"stage", "stage_age", "crm_probability"}
    assert fitting.from_document(document) == made


def test_simpler_methods_stand_beside_the_forecast(forecast: Forecast) -> None:
    """Each from what is closed on; the run-rate too."""
    assert forecast.baselines.keys() == {"stage", "stage_age", "crm_probability", "run_rate"}
    assert all(amount > float(forecast.total.closed) for amount in forecast.baselines.values())


def test_a_manager_holds_his_own_and_everybody_below() -> None:
    """Through all levels; who has no manager and manages nobody stands apart."""
    people = pd.DataFrame({"manager": {"a": "m", "m": "head", "b": "head", "alone": None}})

    found = rollup.managed(["a", "m", "b", "alone"], people)

    assert found == {"m": ["a", "m"], "head": ["a", "m", "b"], "": ["alone"]}


def test_a_model_of_another_version_is_refused(model: Model) -> None:
    """With what to do about it."""
    document = fitting.to_document(model)
    assert document is not None

    with pytest.raises(InputError, match="fit it anew"):
        fitting.from_document({**document, "version": 0})


def test_a_model_from_the_future_is_refused(warehouse: Warehouse, model: Model) -> None:
    """It knows what came after the moment asked for."""
    with pytest.raises(InputError, match="came after"):
        predict(warehouse, features(AS_OF - timedelta(days=30)), PERIOD, model=model)


def test_a_period_that_is_over_is_what_was_won(warehouse: Warehouse, company: simulate.Company) -> None:
    """No doubt is left: closed is everything, and all quantiles are it."""
    period = Period(AS_OF.date() - timedelta(days=60), AS_OF.date() - timedelta(days=30))

    found = predict(warehouse, features(), period).total

    won = float(company.actual(period.starts_at, period.ends_at).sum())
    assert found.p10 == found.p90 == found.closed == found.mean
    assert float(found.closed) == pytest.approx(won, rel=1e-6)


def test_a_period_that_is_to_come_counts_only_what_is_won_in_it(warehouse: Warehouse, model: Model) -> None:
    """This period and the next are together the one that spans both; what is won before it begins is not in it."""
    turn = PERIOD.end
    later = Period(turn, turn + timedelta(days=60))
    first, second, both = (
        predict(warehouse, features(), period, model=model)
        for period in (PERIOD, later, Period(PERIOD.start, later.end))
    )

    chances = zip(first.opportunities, second.opportunities, both.opportunities, strict=True)
    assert all(
        a.win_in_period + b.win_in_period == pytest.approx(c.win_in_period, abs=2e-4) for a, b, c in chances
    )
    assert second.total.closed == 0
    for name in ("stage", "stage_age", "run_rate"):
        assert first.baselines[name] + second.baselines[name] == pytest.approx(both.baselines[name], rel=1e-6)
    assert float(second.total.mean) < float(both.total.mean)


def test_a_company_without_history_is_told_by_its_crms_probabilities() -> None:
    """Three open opportunities, nothing ever closed: the pooled rung says so, and a later stage is worth more."""
    rows = [
        {"id": n, "created_at": AS_OF - timedelta(days=20), "stage": s, "amount": 1000}
        for n, s in (("a", "Discovery"), ("b", "Proposal"), ("c", "Negotiation"))
    ]
    with small_warehouse(rows) as opened:
        found = predict(opened, features(), PERIOD)

    assert found.model["forecaster"] == "stage_age"
    assert "0 closed" in found.model["why"]
    assert all(0 < o.win_probability < 1 for o in found.opportunities)


def test_nothing_at_all_is_nothing_won() -> None:
    """An empty connection has a forecast of zero, not an error."""
    with small_warehouse([]) as opened:
        found = predict(opened, features(), PERIOD)

    assert found.total.mean == Decimal(0)
    assert found.opportunities == []


def test_odd_amounts_count_as_the_usual_one() -> None:
    """Blank, zero and negative amounts of open opportunities count as the mean win; dates ahead do no harm."""
    start = AS_OF - timedelta(days=100)
    closed = [
        {"id": f"w{i}", "created_at": start, "closed_at": start + timedelta(days=20 + i), "is_closed": True,
         "is_won": i % 2 == 0, "amount": 700, "stage": "Won"}
        for i in range(40)
    ]  # fmt: skip
    opened_rows = [
        {"id": f"o{i}", "created_at": AS_OF - timedelta(days=10), "stage": "Proposal", "amount": a}
        for i, a in enumerate([None, 0, -50, 900])
    ]
    later = [{"id": "ahead", "created_at": AS_OF + timedelta(days=5), "stage": "Proposal", "amount": 1}]
    with small_warehouse([*closed, *opened_rows, *later]) as opened:
        found = predict(opened, features(), PERIOD)

    assert {o.id: float(o.expected_amount or 0) for o in found.opportunities} == {
        "o0": 700.0, "o1": 700.0, "o2": 700.0, "o3": 900.0,
    }  # fmt: skip


def test_open_ones_without_a_creation_time_are_named() -> None:
    """They cannot be aged, and the model card says how many were left out."""
    with small_warehouse([{"id": "a", "stage": "Proposal"}]) as opened:
        found = predict(opened, features(), PERIOD)

    assert found.model["left_out"] == {"no creation time": 1}


def test_zombies_are_older_than_anything_that_ever_closed() -> None:
    """And only those."""
    start = AS_OF - timedelta(days=200)
    rows = [
        {
            "id": "x",
            "created_at": start,
            "closed_at": start + timedelta(days=50),
            "is_closed": True,
            "stage": "Lost",
        },
        {"id": "old", "created_at": AS_OF - timedelta(days=90), "stage": "Proposal"},
        {"id": "young", "created_at": AS_OF - timedelta(days=20), "stage": "Proposal"},
    ]
    with small_warehouse(rows) as opened:
        found = predict(opened, features(), PERIOD)

    assert found.zombies == ("old",)


def test_managers_are_followed_to_the_top_and_circles_end() -> None:
    """A chain of managers, and two people who manage each other."""
    import pandas as pd

    people = pd.DataFrame({"manager": {"a": "b", "b": "c", "x": "y", "y": "x"}})

    found = above(people)

    assert found["a"] == ("b", "c")
    assert found["x"] == ("y",)


def test_a_wider_stretch_is_a_wider_interval(warehouse: Warehouse, model: Model) -> None:
    """What is learned from earlier errors reaches the figures."""
    wide = replace(model, learned=replace(model.learned, shock=0.8, stretch=1.5, run_rate_weight=0.0))
    narrow = replace(model, learned=replace(model.learned, shock=0.1, stretch=1.0, run_rate_weight=0.0))

    wide_total, narrow_total = (predict(warehouse, features(), PERIOD, model=m).total for m in (wide, narrow))

    assert float(wide_total.p90 - wide_total.p10) > 1.5 * float(narrow_total.p90 - narrow_total.p10)
