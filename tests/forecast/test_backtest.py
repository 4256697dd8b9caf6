"""The backtest scores what could have been said, against what came, beside every baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from io import StringIO

import numpy as np
import pytest
from benchmarks import simulate
from rich.console import Console
from tests.forecast.worlds import AS_OF, NAME

from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.forecast import backtest, ladder, replay
from pipesync.forecast.backtest import METRICS, Backtest
from pipesync.report import views
from pipesync.store.warehouse import Warehouse

HORIZON = timedelta(days=28)
ORIGINS = [AS_OF - timedelta(days=28 * k) for k in (4, 3, 2, 1)]


@pytest.fixture(scope="module", autouse=True)
def few_earlier_origins() -> Iterator[None]:
    """Three earlier origins teach enough for these tests, and cost a quarter of twelve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "earlier_origins", partial(replay.earlier_origins, most=3))
        yield


@pytest.fixture(scope="module")
def done(warehouse: Warehouse, few_earlier_origins: None) -> Backtest:
    return backtest.run(warehouse, NAME, Calendar(), origins=ORIGINS, horizon=HORIZON)


def test_actuals_are_what_was_won(done: Backtest, company: simulate.Company) -> None:
    """New business included, to the cent."""
    for one in done.origins:
        assert one.actual == pytest.approx(
            float(company.actual(one.origin, one.origin + HORIZON).sum()), abs=0.01
        )
        assert 0 < one.p10 < one.p50 < one.p90


def test_every_method_is_scored_on_the_same_origins(done: Backtest) -> None:
    """The model and each baseline have every figure that they can have; what cannot be is named."""
    assert set(done.metrics) == {"model", "stage", "stage_age", "run_rate", "crm_probability"}
    assert done.left_out.keys() == {"crm_category"}
    for method, scores in done.metrics.items():
        assert set(scores) == set(METRICS)
        told = {name for name, value in scores.items() if value is not None}
        assert told == set(METRICS) - (
            {"auc", "brier", "brier_skill", "ece"} if method == "run_rate" else set()
        )


def test_every_figure_lies_in_its_interval(done: Backtest) -> None:
    """Bootstrapped ones too."""
    for method, scores in done.metrics.items():
        for name in ("auc", "brier", "wape", "bias"):
            interval, value = done.intervals[method][name], scores[name]
            if interval is not None and value is not None:
                assert interval[0] - 1e-9 <= value <= interval[1] + 1e-9, (method, name)


def test_the_model_is_held_against_every_baseline_in_pairs(done: Backtest) -> None:
    """The difference of the figures, with an interval that says whether it is real."""
    assert done.against.keys() == set(done.metrics) - {"model"}
    for method, differences in done.against.items():
        for name, one in differences.items():
            mine, other = done.metrics["model"][name], done.metrics[method][name]
            assert mine is not None
            assert other is not None
            assert one.value == pytest.approx(mine - other)
            low, high = one.interval
            assert (one.says == "not enough evidence") == (low <= 0 <= high)
    assert done.against["crm_probability"]["brier"].says == "better"


def test_people_see_intervals_and_what_is_beaten(done: Backtest) -> None:
    """Every method with its interval, differences with theirs, and how much all of it is worth."""
    console = Console(width=200, file=StringIO(), highlight=False)

    console.print(*views.backtest(done))

    told = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    low, high = done.intervals["model"]["brier"] or (0.0, 0.0)
    assert f"{low:.3f} … {high:.3f}" in told
    assert "model less ..." in told
    assert "totals: enough" in told
    assert "crm_category is left out" in told


def test_evidence_is_said_where_it_is_short(done: Backtest, warehouse: Warehouse) -> None:
    """Four periods are just enough for totals; two origins are not."""
    few = backtest.run(warehouse, NAME, Calendar(), origins=ORIGINS[:2], horizon=HORIZON)

    assert done.evidence["totals"] == "enough"
    assert few.evidence["totals"].startswith("not enough evidence: 2.0 periods")


def test_what_happened_later_does_not_change_an_origin(company: simulate.Company, done: Backtest) -> None:
    """An origin scored as of a later watermark says what it said, although the warehouse knows more."""
    with company.warehouse(AS_OF + timedelta(days=40)) as later:
        found = backtest.run(later, NAME, Calendar(), origins=ORIGINS[:1], horizon=HORIZON)

    assert replace(found.origins[0]) == done.origins[0]


def test_origins_whose_end_is_not_known_are_refused(warehouse: Warehouse) -> None:
    """With the last one that is possible."""
    last = (AS_OF - HORIZON).date().isoformat()

    with pytest.raises(InputError, match=last):
        backtest.run(warehouse, NAME, Calendar(), origins=[date(2030, 1, 1)], horizon=HORIZON)


def test_too_short_a_history_is_refused(warehouse: Warehouse) -> None:
    """A year cannot be backtested on a year."""
    with pytest.raises(InputError, match="three times as much"):
        backtest.run(warehouse, NAME, Calendar(), horizon=timedelta(days=365))


def test_default_origins_are_weekly_and_leave_room_to_learn(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one ends at the watermark; the first has two horizons before it."""
    monkeypatch.setattr(ladder, "is_challenged", lambda closed, won: False)

    found = backtest.run(warehouse, NAME, Calendar(), horizon=timedelta(days=112))

    asked = [one.origin for one in found.origins]
    assert asked[-1] == AS_OF.replace(hour=0) - timedelta(days=112)
    assert set(np.diff([a.timestamp() for a in asked])) == {7 * 86400.0}
    assert asked[0] - timedelta(days=223) > simulate.EPOCH
