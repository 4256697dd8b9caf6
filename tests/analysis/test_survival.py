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

from pipesync.analysis.significance import deviation, kept, two_shares, wilson
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
    """The pooled z test; without cases it says nothing."""
    assert two_shares(50, 100, 70, 100) == pytest.approx(0.00389, abs=1e-4)
    assert two_shares(5, 10, 5, 10) == 1
    assert two_shares(0, 0, 5, 10) == 1
    assert two_shares(10, 10, 10, 10) == 1


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


def test_a_count_is_held_against_its_expectation() -> None:
    """Two standard deviations off is 4.55%; without variance nothing can be said."""
    assert deviation(12, 10, 1) == pytest.approx(0.0455, abs=1e-4)
    assert deviation(12, 10, 0) == 1
