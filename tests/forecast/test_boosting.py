"""Trees that scikit-learn grew say the same without it, and go through JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from pipesync.forecast import fitting
from pipesync.forecast.boosting import read_trees
from pipesync.forecast.forecasters import fit
from pipesync.forecast.hazard import Bins
from pipesync.forecast.ladder import Rung
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.training import Training


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 2)])
def test_the_nodes_say_what_scikit_learn_says(labels: tuple[int, ...]) -> None:
    """Two classes and three, blanks among the values, to 1e-9."""
    random = np.random.default_rng(len(labels))
    rows, bins = 600, 5
    table = random.normal(size=(rows, 3))
    table[random.random(table.shape) < 0.2] = np.nan
    table[:, 2] = np.where(random.random(rows) < 0.5, np.nan, 1.0)  # whose only split is on being blank
    bin_of = random.integers(0, bins, rows).astype(float)
    score = np.nan_to_num(table[:, 0]) + np.isnan(table[:, 2]) + 0.3 * bin_of + random.normal(size=rows)
    label = np.array(labels)[np.digitize(score, np.quantile(score, np.linspace(0, 1, len(labels) + 1)[1:-1]))]
    model = HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=8, early_stopping=False, random_state=0
    )
    with threadpool_limits(limits=1):
        model.fit(np.column_stack([table, bin_of]), label)

    found = read_trees(model, Bins(7.0, bins, bins), (), ("a", "b", "c")).shares(
        table, np.arange(bins, dtype=float)
    )

    for k in range(bins):
        said = model.predict_proba(np.column_stack([table, np.full(rows, float(k))]))
        for column, one in enumerate(labels):
            assert found[one, :, k] == pytest.approx(said[:, column], abs=1e-9)
    assert found.sum(axis=0) == pytest.approx(np.ones((rows, bins)))


def test_a_boosted_model_is_kept_as_json(training: Training, model: fitting.Model) -> None:
    """What it says through JSON and back is what it said."""
    boosted = replace(model, rung=Rung("boosting", "for the test"), fitted=fit("boosting", training))
    rows = training.rows.take(np.arange(50))
    blank = Landmarks(rows.frame.assign(amount=np.nan), rows.opportunity, rows.origin)

    kept = fitting.from_document(json.loads(json.dumps(fitting.to_document(boosted), allow_nan=False)))

    days = np.array([7.0, 28.0, 200.0])
    for some in (rows, blank):
        assert (kept.fitted.win_by(some, days) == boosted.fitted.win_by(some, days)).all()
