"""The estimators agree with lifelines and with what can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from lifelines.utils import qth_survival_time, restricted_mean_survival_time
from scipy.stats import betabinom, binom

from pipesync.analysis.significance import (
    beta_binomial,
    fewer_or_more,
    kept,
    newcombe,
    two_counts,
    two_shares,
    wilson,
)
from pipesync.analysis.survival import incidence, kaplan_meier, log_rank, percentile, restricted_mean

SAMPLES = st.lists(st.tuples(st.floats(0.01, 200), st.booleans()), min_size=2, max_size=60)


@settings(max_examples=60, deadline=None)
@given(SAMPLES)
def test_curves_percentiles_and_means_are_those_of_lifelines(sample: list[tuple[float, bool]]) -> None:
    """To 1e-6, with ties and censoring in any pattern."""
    days = np.round(np.array([d for d, _ in sample]), 1) + 0.1
    ended = np.array([e for _, e in sample])
    reference = KaplanMeierFitter().fit(days, ended)

    curve = kaplan_meier(days, ended)

    expected = reference.survival_function_at_times(curve.times).to_numpy()
    assert np.allclose(curve.survival, expected, atol=1e-6)
    for share in (0.25, 0.5, 0.75, 0.9):
        if np.isclose(curve.survival, 1 - share, atol=1e-9).any():
            continue  # lifelines multiplies logarithms and may miss a level that is met exactly
        theirs = qth_survival_time(1 - share, reference.survival_function_["KM_estimate"])
        ours = percentile(curve, share)
        assert (math.isinf(theirs) and math.isnan(ours)) or theirs == pytest.approx(ours, abs=1e-6)
    assert restricted_mean(curve, 50.0) == pytest.approx(
        restricted_mean_survival_time(reference, t=50.0), abs=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(SAMPLES, SAMPLES)
def test_the_log_rank_test_is_that_of_lifelines(
    one: list[tuple[float, bool]], other: list[tuple[float, bool]]
) -> None:
    """Where the test can be made at all."""
    days = np.round(np.array([d for d, _ in (*one, *other)]), 1) + 0.1
    ended = np.array([e for _, e in (*one, *other)])
    group = np.arange(len(days)) < len(one)

    p, surplus = log_rank(days, ended, group)

    if ended.any():
        theirs = logrank_test(days[group], days[~group], ended[group], ended[~group])
        assert math.isnan(theirs.p_value) or p == pytest.approx(theirs.p_value, abs=1e-6)
    else:
        assert (p, surplus) == (1.0, 0.0)


def test_nothing_gives_nothing() -> None:
    """No durations: no percentile, a mean of zero, and no difference."""
    empty = kaplan_meier(np.empty(0), np.empty(0, dtype=bool))

    assert math.isnan(percentile(empty, 0.5))
    assert restricted_mean(empty) == 0
    assert log_rank(np.array([1.0]), np.array([True]), np.array([True])) == (1.0, 0.0)


def test_shares_have_wilsons_interval() -> None:
    """8 of 10, by the formula's published example; nothing is known of 0 of 0."""
    low, high = wilson(8, 10)

    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0)


def test_two_shares_differ_by_more_than_luck_or_not() -> None:
    """What the one side leaves to be expected of the other is beta-binomial; without cases it says nothing."""
    law = betabinom(100, 70.5, 30.5).pmf(range(101))
    assert two_shares(50, 100, 70, 100) == pytest.approx(law[law < law[50]].sum() + law[50] / 2)
    assert two_shares(5, 10, 5, 10) > 0.9
    assert two_shares(0, 0, 5, 10) == 1
    assert two_shares(10, 10, 10, 10) > 0.5
    assert two_shares(300_000, 1_000_000, 310_000, 1_000_000) < 1e-9


def test_equal_shares_are_called_different_as_often_as_is_said() -> None:
    """Of small and unequal groups at one rate, 5% are beyond 5%, where a normal law would be off."""
    random = np.random.default_rng(5)
    few, many = random.binomial(25, 0.15, 3000), random.binomial(400, 0.15, 3000)

    p = [two_shares(a, 25, b, 400) for a, b in zip(few, many, strict=True)]

    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(p) < 0.01) < 0.02


def test_counts_are_held_against_counts() -> None:
    """An exact binomial: each event is as likely here as there."""
    assert two_counts(15, 5) == pytest.approx(2 * binom(20, 0.5).sf(15) + binom(20, 0.5).pmf(15), rel=1e-5)
    assert two_counts(7, 7) > 0.85
    assert two_counts(0, 0) == 1


def test_several_groups_add_up_to_the_law_of_their_sum() -> None:
    """By enumeration; a rate that is known is a binomial's, and what nobody would expect is never quite impossible."""
    one, other = betabinom(4, 2, 3), betabinom(6, 9, 1)
    chance = np.convolve(one.pmf(range(5)), other.pmf(range(7)))

    found = beta_binomial(3, [4, 6, 0], [0.4, 0.9, 0.5], [5, 10, 5])

    assert found == pytest.approx(chance[chance < chance[3]].sum() + chance[3] / 2)
    known = binom(10, 0.4).pmf(range(11))
    assert beta_binomial(2, [10], [0.4], [math.inf]) == pytest.approx(
        known[known < known[2]].sum() + known[2] / 2, rel=1e-5
    )
    assert 0 < beta_binomial(100_000, [100_000], [0.5], [math.inf]) < 1e-9
    assert beta_binomial(0, [], [], []) == 1


def test_so_few_and_so_many_have_a_chance_each() -> None:
    """What is exactly so counts half on either side; where there are no cases, neither is told."""
    known = binom(10, 0.4).pmf(range(11))

    fewer, more = fewer_or_more(2, [10], [0.4], [math.inf])

    assert fewer == pytest.approx(known[:2].sum() + known[2] / 2, rel=1e-5)
    assert fewer + more == pytest.approx(1)
    assert fewer_or_more(0, [], [], []) == (1, 1)
    assert fewer_or_more(0, [100_000], [0.5], [math.inf])[0] < 1e-9
    assert fewer_or_more(100_000, [100_000], [0.5], [math.inf])[1] < 1e-9


def test_a_difference_of_shares_has_newcombes_interval() -> None:
    """His own example: 56 of 70 against 48 of 80 is 0.0524 to 0.3339."""
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert newcombe(0, 0, 1, 2) == (-1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=60))
def test_competing_ends_are_those_of_lifelines(kinds: list[int]) -> None:
    """The share that had ended in one way by each time, without ties, which lifelines would jitter."""
    days = np.arange(1.0, len(kinds) + 1)
    ways = np.array(kinds)

    times, share = incidence(days, ways, 1)

    if not (ways == 1).any():
        assert len(times) == 0
    else:
        theirs = AalenJohansenFitter(calculate_variance=False).fit(days, ways, event_of_interest=1)
        table = theirs.cumulative_density_.iloc[:, 0]
        assert share == pytest.approx([table.loc[t] for t in times], abs=1e-6)


def test_false_discoveries_are_bounded() -> None:
    """Benjamini and Hochberg's own rule, on a worked example."""
    assert kept([0.01, 0.5, 0.04, 0.03], q=0.05) == [True, False, False, False]
    assert kept([0.01, 0.02, 0.03, 0.04], q=0.05) == [True] * 4
    assert kept([]) == []
