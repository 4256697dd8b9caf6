"""Scores agree with those of libraries that are known to be right, and their intervals with theory."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from pipesync.forecast import learning, metrics


def test_auc_and_brier_agree_with_scikit_learn() -> None:
    """Ties included."""
    random = np.random.default_rng(0)
    p = random.random(500).round(2)
    won = random.random(500) < p

    assert metrics.auc(won, p) == pytest.approx(roc_auc_score(won, p))
    assert metrics.brier(won, p) == pytest.approx(brier_score_loss(won, p))


def test_one_class_has_no_auc() -> None:
    """It is not a number rather than a guess."""
    assert np.isnan(metrics.auc(np.ones(5, dtype=bool), np.arange(5.0)))


def test_calibrated_probabilities_have_a_small_calibration_error() -> None:
    """And ones that are a tenth too high have one of a tenth."""
    random = np.random.default_rng(1)
    p = random.uniform(0.1, 0.8, 20_000)
    won = random.random(20_000) < p

    assert metrics.ece(won, p) < 0.015
    assert metrics.ece(won, p + 0.1) == pytest.approx(0.1, abs=0.015)


def test_totals_are_scored_by_hand() -> None:
    """WAPE, bias, pinball and coverage of two periods."""
    said, actual = np.array([110.0, 80.0]), np.array([100.0, 100.0])

    assert metrics.wape(said, actual) == pytest.approx(0.15)
    assert metrics.bias(said, actual) == pytest.approx(-0.05)
    assert metrics.coverage(np.array([90.0, 90.0]), np.array([120.0, 95.0]), actual) == 0.5
    assert learning.pinball((90, 100, 130), 120.0) == pytest.approx((0.1 * 30 + 0.5 * 20 + 0.1 * 10) / 3)


def test_the_interval_of_a_mean_is_as_wide_as_its_clusters_make_it() -> None:
    """Rows that repeat in clusters of ten leave as much doubt as one row each."""
    random = np.random.default_rng(2)
    values = random.normal(0, 1, 100)
    rows, cluster = np.repeat(values, 10), np.repeat(np.arange(100), 10)

    low, high = metrics.by_cluster(lambda r: float(rows[r].mean()), cluster, draws=400)

    assert high - low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.2)


def test_blocks_of_origins_never_claim_certainty() -> None:
    """Even where a horizon is longer than all origins together."""
    values = np.array([0.1, 0.2, -0.1, 0.3])

    low, high = metrics.by_block(lambda r: float(values[r].mean()), 4, 10, periods=4)

    assert low < values.mean() < high
