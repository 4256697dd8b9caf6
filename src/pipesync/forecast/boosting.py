"""The challenger: the same hazards by gradient boosting, for companies with more data than a linear model can use.

It is asked only where the ladder says so, and used only when it was better on earlier origins (notes 5.2: it lost
at every size up to 1,600 closed opportunities).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipesync.forecast.hazard import Bins, bins_of, exposures, incidence
from pipesync.forecast.history import Floats
from pipesync.forecast.landmarks import NUMBERS, Landmarks
from pipesync.forecast.training import Training

_BLOCK = 2048


@dataclass(frozen=True)
class Boosting:
    def fit(self, training: Training) -> FittedBoosting:
        from sklearn.ensemble import HistGradientBoostingClassifier

        bins = bins_of(training)
        seen = exposures(training, bins)
        stages = tuple(sorted(training.rows.frame["stage"].astype(str).unique()))
        known = tuple(n for n in NUMBERS if training.rows.frame[n].notna().any())
        # Rows are thinned by their weight: weighting them instead makes binning the slowest step of all.
        kept = np.random.default_rng(0).random(len(seen.row)) < training.weight[seen.row]
        if len(np.unique(seen.label[kept])) < 2:
            return FittedBoosting(bins, stages, known, None)
        table = np.column_stack([_table(training.rows, stages, known)[seen.row[kept]], seen.bin[kept]])
        model = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=15, min_samples_leaf=40, l2_regularization=1.0,
            early_stopping=False, random_state=0,
        )  # fmt: skip
        model.fit(table, seen.label[kept])
        return FittedBoosting(bins, stages, known, model)


@dataclass(frozen=True)
class FittedBoosting:
    bins: Bins
    stages: tuple[str, ...]
    numbers: tuple[str, ...]
    model: Any  # Any: scikit-learn has no types
    """None where training saw one class only: then nothing is won."""

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        if self.model is None or not len(rows):
            return np.zeros((len(rows), len(days)))
        from threadpoolctl import threadpool_limits

        reach = float(np.max(days, initial=0.0))
        count = int(min(self.bins.count, np.ceil(reach / self.bins.width) + 1))
        later = np.minimum(np.arange(count), self.bins.learnt - 1)
        found = np.empty((len(rows), len(days)))
        for start in range(0, len(rows), _BLOCK):
            part = rows.take(np.arange(start, min(start + _BLOCK, len(rows))))
            table = _table(part, self.stages, self.numbers)
            asked = np.column_stack([np.repeat(table, count, axis=0), np.tile(later, len(table))])
            share = np.zeros((len(asked), 3))
            with threadpool_limits(limits=1):
                share[:, self.model.classes_.astype(int)] = self.model.predict_proba(asked)
            win, lose = share[:, 1].reshape(-1, count), share[:, 2].reshape(-1, count)
            found[start : start + len(table)] = incidence(win, lose, self.bins.width, days)
        return found


def _table(rows: Landmarks, stages: tuple[str, ...], known: tuple[str, ...]) -> Floats:
    numbers = rows.frame[list(known)].to_numpy(float)
    code = rows.frame["stage"].map({stage: float(i) for i, stage in enumerate(stages)}).to_numpy(float)
    return np.column_stack([numbers, code])
