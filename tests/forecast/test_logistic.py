"""The regression of exposures against scikit-learn's, on the matrix that it never makes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipesync.forecast.logistic import Exposed, fit


def _exposed(seed: int, classes: int) -> Exposed:
    """Landmarks with up to eight bins each, the last of which may carry a label."""
    draw = np.random.default_rng(seed)
    count = draw.integers(1, 9, size=300)
    row = np.repeat(np.arange(300), count)
    k = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    fixed = draw.normal(size=(300, 6))
    label = np.zeros(len(row), dtype=np.int64)
    last = k == count[row] - 1
    label[last] = draw.integers(0, classes, size=300) * (fixed[row[last], 0] > -0.5)
    bins = np.arange(8)
    return Exposed(
        fixed,
        np.column_stack([np.ones(300), draw.normal(size=300)]),
        np.column_stack([np.log1p(bins), bins == 0, bins == 1]).astype(float),
        row,
        k,
        label,
        draw.uniform(0.2, 1.5, size=300),
    )


def _spelled_out(seen: Exposed) -> np.ndarray:
    later = [seen.moving[seen.row] * seen.basis[seen.bin, j][:, None] for j in range(seen.basis.shape[1])]
    return np.concatenate([seen.fixed[seen.row], *later], axis=1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_scikit_learn(seed: int, classes: int) -> None:
    """Two independent programs give every exposure the same probabilities."""
    seen = _exposed(seed, classes)
    matrix = _spelled_out(seen)
    other = LogisticRegression(C=0.1, solver="newton-cholesky", tol=1e-10, max_iter=200)
    other.fit(matrix, seen.label, sample_weight=seen.weight[seen.row])

    weights, intercept = fit(seen, 0.1)

    scores = matrix @ weights.T + intercept
    share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.allclose(share, other.predict_proba(matrix), atol=1e-7)
    assert np.allclose(weights - weights[0], _against_first(other.coef_), atol=1e-6)


def _against_first(weights: np.ndarray) -> np.ndarray:
    """Return weights against the first class's; scikit-learn gives two classes one row."""
    if len(weights) == 1:
        return np.vstack([np.zeros(weights.shape[1]), weights])
    found: np.ndarray = weights - weights[0]
    return found


def test_a_class_that_one_column_tells_apart_is_still_held() -> None:
    """Where the data would send a weight to infinity, the penalty holds it and the steps end."""
    seen = _exposed(5, 3)
    seen.label[:] = 0
    seen.label[seen.fixed[seen.row, 0] > 1.0] = 2

    weights, intercept = fit(seen, 0.1)

    assert np.isfinite(weights).all()
    assert np.isfinite(intercept).all()
    assert weights[1, 0] > 0.1
