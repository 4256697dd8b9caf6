"""What earlier origins teach: calibration, errors and trust, each shrunk toward the plain model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.forecast.worlds import AS_OF

from pipesync.forecast import learning, replay
from pipesync.forecast.arrivals import Arrivals
from pipesync.forecast.baselines import Pace
from pipesync.forecast.history import DAY, Floats, History, to_ms
from pipesync.forecast.ladder import Rung, choose
from pipesync.forecast.learning import Learned
from pipesync.forecast.replay import Settled
from pipesync.forecast.totals import Portfolio, interval_of, simulate
from pipesync.forecast.training import start_of_history

NOW = to_ms(AS_OF)


@pytest.fixture(scope="module")
def settled(past: History) -> list[Settled]:
    """Six origins, four weeks each."""
    origins = [NOW - w * 28 * DAY for w in range(6, 0, -1)]
    return [replay.settle(past, replay.issue(past, o, 28.0, ["hazard"]), NOW) for o in origins]


def altered(settled: list[Settled], change: Floats | float) -> list[Settled]:
    """Return the same origins with a model whose log-odds are off by so much."""
    found = []
    for one in settled:
        p = np.clip(one.issue.win["hazard"], 1e-6, 1 - 1e-6)
        moved = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + change)))
        found.append(replace(one, issue=replace(one.issue, win={"hazard": moved})))
    return found


def test_an_unsettled_period_teaches_nothing(past: History) -> None:
    """What has not ended is refused, not scored early."""
    made = replay.issue(past, NOW - 10 * DAY, 28.0, ["stage"])

    with pytest.raises(ValueError, match="not ended"):
        replay.settle(past, made, NOW)


def test_nothing_known_is_the_plain_model() -> None:
    """Without an earlier origin probabilities stay as they are, and run-rate weighs as much as the model."""
    learned = learning.learn([], "hazard", NOW, 100)

    assert learned == Learned(run_rate_weight=learning.EQUAL)
    assert learned.calibrate(np.array([0.0, 0.3, 1.0])) == pytest.approx([0.0, 0.3, 1.0])


def test_a_model_that_promises_too_much_is_taken_down(settled: list[Settled]) -> None:
    """And one that promises too little is lifted, both by less than the whole error."""
    plain, high, low = (
        learning.learn(altered(settled, d), "hazard", NOW, 500).calibrate(np.array([0.4]))[0]
        for d in (0.0, 1.0, -1.0)
    )

    assert high < plain < low


def test_origins_that_end_later_are_not_listened_to(settled: list[Settled]) -> None:
    """What is learned as of an earlier moment is the same with and without later origins."""
    then = NOW - 60 * DAY

    some = learning.learn([s for s in settled if s.issue.end <= then], "hazard", then, 500)

    assert learning.learn(settled, "hazard", then, 500) == some


def test_larger_errors_mean_a_larger_shock(settled: list[Settled]) -> None:
    """A history of totals that were twice or half the forecast widens the next interval."""
    wild = [
        replace(s, open_amount=s.open_amount * f, new_amount=s.new_amount * f)
        for s, f in zip(settled, (2.2, 0.4, 2.2, 0.4, 2.2, 0.4), strict=True)
    ]

    assert (
        learning.learn(wild, "hazard", NOW, 500).shock
        > 1.15 * learning.learn(settled, "hazard", NOW, 500).shock
    )


def paced(one: Settled, amount: float) -> Settled:
    """Return it with a run-rate that foretold this amount."""
    return replace(one, issue=replace(one.issue, run_rate=one.issue.run_rate._replace(amount=amount)))


def test_run_rate_is_trusted_by_its_record(settled: list[Settled]) -> None:
    """Where it was always right it weighs more than where it was nine times too high."""
    right = [paced(s, s.actual) for s in settled]
    wrong = [paced(s, 9 * s.actual) for s in settled]

    weights = [learning.learn(w, "hazard", NOW, 500).run_rate_weight for w in (right, wrong)]

    assert weights[0] > 0.6 > 0.3 > weights[1]


def test_what_counts_is_which_weight_would_have_lost_least(settled: list[Settled]) -> None:
    """Where truth lay between model and run-rate, so does the weight, whichever of the two was nearer."""
    half = []
    for one in settled:
        model = learning.quantiles_of(one.issue, "hazard", Learned()).model[1]
        half.append(paced(one, 2.0 * one.actual - model))
    right = [paced(s, s.actual) for s in settled]

    weights = [learning.learn(w, "hazard", NOW, 500).run_rate_weight for w in (half, right)]

    assert 0.35 < weights[0] < 0.65 < weights[1]


def test_a_rate_of_ninety_days_has_the_lower_median_the_shorter_the_period() -> None:
    """Over ninety days both averages are alike, and the rate is the median."""
    medians = [
        learning.run_rate_by(np.zeros(1), Pace(300.0, days, 90.0), 0.3)[0]
        for days in (7.0, 28.0, 90.0, 365.0)
    ]

    assert medians[2] == 300.0
    assert medians == sorted(medians)
    assert medians[0] > 300.0 * np.exp(-(0.3**2) / 2)


def test_a_young_companys_rate_is_as_lucky_as_its_days_are_few() -> None:
    """Of a month's wins for a month more, the rate is the median; it is not taken for one of ninety days."""
    (middle,) = learning.run_rate_by(np.zeros(1), Pace(300.0, 30.0, 30.0), 0.6)

    assert middle == 300.0


@pytest.mark.parametrize(("days", "step"), [(7.0, 35), (28.0, 28), (63.0, 28), (91.0, 42)])
def test_earlier_origins_spread_over_what_there_is(past: History, days: float, step: int) -> None:
    """All of a year's history is asked, at whole weeks, and no origin whose period is not over."""
    found = replay.earlier_origins(past, NOW, days)

    assert found[-1] == NOW - int(days * DAY)
    assert set(np.diff(found)) == {step * DAY}
    assert found[0] - step * DAY < start_of_history(past, NOW) + max(days, 28.0) * DAY


def test_the_blend_lies_between_its_parts() -> None:
    """Its median is the weighted mean of the medians, and ranks stay."""
    draws = np.random.default_rng(0).lognormal(5, 0.3, 4000)

    found = learning.blend(draws, Pace(300.0, 90.0, 90.0), Learned(run_rate_weight=0.5, run_rate_sd=0.2))

    middle = 0.5 * np.median(draws) + 0.5 * 300.0
    assert np.median(found) == pytest.approx(middle, rel=0.01)
    assert (np.argsort(found) == np.argsort(draws)).all()


def test_stretching_keeps_the_median() -> None:
    """Only the spread grows."""
    draws = np.random.default_rng(0).lognormal(5, 0.3, 4001)

    found = learning.stretch(draws, 2.0)

    assert np.median(found) == pytest.approx(np.median(draws))
    assert np.log(found).std() == pytest.approx(2 * np.log(draws).std())


def portfolio(count: int) -> Portfolio:
    import pandas as pd

    nothing = Arrivals(0.0, 1.0, np.empty(0, dtype=np.int64), np.empty(0), 0.0)
    empty = pd.DataFrame(index=range(0))
    return Portfolio(
        np.full(count, 0.3),
        np.full(count, 10.0),
        pd.DataFrame(index=range(count)),
        nothing,
        np.empty(0),
        empty,
    )


def test_a_shared_shock_widens_totals_and_keeps_their_mean() -> None:
    """Many independent opportunities average out; a shared shock does not, and moves no mean."""
    alone, shared = (simulate(portfolio(2000), shock=s, draws=4000).total() for s in (1e-6, 0.3))

    assert alone.mean() == pytest.approx(6000, rel=0.01)
    assert shared.mean() == pytest.approx(6000, rel=0.02)
    assert shared.std() > 5 * alone.std()


def test_the_shock_is_drawn_from_every_slice_alike() -> None:
    """So that mean and median hardly move with the seed: by less than half of what as many free draws would give."""
    seeds = [simulate(portfolio(2000), shock=0.3, draws=500, seed=s).total() for s in range(20)]

    free = np.mean([one.std() for one in seeds]) / np.sqrt(500)

    assert np.std([one.mean() for one in seeds]) < free / 2
    assert np.std([np.median(one) for one in seeds]) < 1.25 * free / 2


def test_an_interval_is_from_p10_to_p90_where_nothing_is_lumped() -> None:
    """To the cent."""
    draws = np.random.default_rng(0).lognormal(9, 0.4, 2000)

    assert interval_of(draws) == tuple(np.quantile(draws, (0.1, 0.9)))


@pytest.mark.parametrize(
    ("nothing", "levels"),
    [(0.05, (0.1, 0.9)), (0.3, (0.0, 0.8)), (0.7, (0.0, 0.8)), (0.95, (0.0, 0.0))],
)
def test_the_tail_that_a_lump_lacks_is_taken_from_the_other_end(
    nothing: float, levels: tuple[float, float]
) -> None:
    """Where nothing more is won in a third of draws, 0 to P80 holds 80%; upside down, P20 to the most there can be."""
    draws = np.random.default_rng(0).lognormal(9, 0.4, 2000)
    draws[: int(nothing * 2000)] = 0.0

    low, high = interval_of(draws)
    upside, down = interval_of(-draws)

    assert (low, high) == pytest.approx(tuple(np.quantile(draws, levels)))
    assert (-down, -upside) == pytest.approx((low, high), rel=1e-3)
    assert 0.8 <= np.mean((draws >= low) & (draws <= high)) <= max(0.8005, nothing)


def test_weeks_are_drawn_by_their_share_and_change_no_total() -> None:
    """Half of the wins by the first of two weeks' ends, the rest by the second, where the draw is what it was."""
    half = np.tile([0.5, 1.0], (2000, 1))
    asked = replace(portfolio(2000), by_week=half, new_by_week=np.array([0.5, 1.0]))

    plain, found = simulate(portfolio(2000), draws=500), simulate(asked, draws=500)

    assert found.weeks is not None
    assert np.array_equal(found.total(), plain.total())
    assert found.weeks[:, 1] == pytest.approx(found.total())
    assert found.weeks[:, 0].mean() == pytest.approx(3000, rel=0.02)


@pytest.mark.parametrize(
    ("closed", "won", "forecaster"),
    [(0, 0, "stage_age"), (29, 9, "stage_age"), (30, 9, "hazard"), (5000, 900, "hazard")],
)  # fmt: skip
def test_the_ladder_by_data(closed: int, won: int, forecaster: str) -> None:
    """Pooled under thirty closed, hazards above, and boosting never without a record."""
    found = choose(closed, won, [])

    assert found.forecaster == forecaster
    assert str(closed) in found.why or "earlier origins" in found.why


def test_boosting_is_used_only_when_it_was_better(settled: list[Settled]) -> None:
    """Better by more than the standard error on earlier origins: used; worse: not; and the reason has the numbers."""

    def challenged(better: bool) -> Rung:
        rows = []
        for one in settled:
            sure = np.where(one.won, 0.9, 0.1)
            other = sure if better else 1 - sure
            rows.append(replace(one, issue=replace(one.issue, win={**one.issue.win, "boosting": other})))
        return choose(5000, 900, rows)

    assert challenged(better=True).forecaster == "boosting"
    assert challenged(better=False).forecaster == "hazard"
    assert "standard error" in challenged(better=True).why
