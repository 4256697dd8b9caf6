"""The challenger: the same hazards by gradient boosting, for companies with more data than a linear model can use.

It is asked only where the ladder says so, and used only when it was better on earlier origins (notes 5.2: it lost
at every size up to 1,600 closed opportunities).

scikit-learn grows the trees; what is kept of them are their nodes, as numbers, so that a fitted model goes into a
document like the others and nothing is ever unpickled. A landmark's bins differ in one column only, so a leaf is
reached by a row and by a bin independently, and all bins of all rows are one product of matrices per class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipesync.forecast.hazard import Bins, bins_of, exposures, incidence_in, rhythm_seen
from pipesync.forecast.history import Floats
from pipesync.forecast.landmarks import NUMBERS, Landmarks
from pipesync.forecast.rhythm import SILENT, Rhythm
from pipesync.forecast.training import Training

_BLOCK = 2048
_LARGEST = 1e300
"""In place of an infinite threshold, which JSON has not: everything known is below it."""


@dataclass(frozen=True)
class Tree:
    """Nodes by number, the root first. A value up to `threshold`, or a blank if `blank_left`, goes left."""

    feature: tuple[int, ...]
    """-1: a leaf."""
    threshold: tuple[float, ...]
    blank_left: tuple[bool, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def leaves(self) -> Iterator[tuple[float, tuple[tuple[int, bool], ...]]]:
        """Yield each leaf's value and its way: node and whether it goes left there."""
        waiting: list[tuple[int, tuple[tuple[int, bool], ...]]] = [(0, ())]
        while waiting:
            node, way = waiting.pop()
            if self.feature[node] < 0:
                yield self.value[node], way
            else:
                waiting += [
                    (self.left[node], (*way, (node, True))),
                    (self.right[node], (*way, (node, False))),
                ]


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
            return FittedBoosting(bins, stages, known, (), (), ())
        table = np.column_stack([_table(training.rows, stages, known)[seen.row[kept]], seen.bin[kept]])
        model = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=15, min_samples_leaf=40, l2_regularization=1.0,
            early_stopping=False, random_state=0,
        )  # fmt: skip
        model.fit(table, seen.label[kept])
        fitted = read_trees(model, bins, stages, known)
        share = fitted.shares(_table(training.rows, stages, known), np.zeros(1))[:, :, 0]
        return replace(fitted, rhythm=rhythm_seen(training, seen, bins, share[1], share[2]))


def read_trees(
    model: Any,  # Any: scikit-learn has no types
    bins: Bins,
    stages: tuple[str, ...],
    known: tuple[str, ...],
) -> FittedBoosting:
    """Take the nodes out of a fitted classifier; a test holds what they say against its own `predict_proba`."""
    start = tuple(float(v) for v in np.ravel(model._baseline_prediction))
    trees = tuple(
        tuple(_tree(one.nodes) for one in column) for column in zip(*model._predictors, strict=True)
    )
    return FittedBoosting(bins, stages, known, tuple(int(c) for c in model.classes_), start, trees)


def _tree(nodes: Any) -> Tree:  # Any: a structured array
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=tuple(np.where(leaf, -1, nodes["feature_idx"].astype(int)).tolist()),
        threshold=tuple(np.clip(nodes["num_threshold"].astype(float), -_LARGEST, _LARGEST).tolist()),
        blank_left=tuple(nodes["missing_go_to_left"].astype(bool).tolist()),
        left=tuple(nodes["left"].astype(int).tolist()),
        right=tuple(nodes["right"].astype(int).tolist()),
        value=tuple(nodes["value"].astype(float).tolist()),
    )


@dataclass(frozen=True)
class FittedBoosting:
    bins: Bins
    stages: tuple[str, ...]
    numbers: tuple[str, ...]
    classes: tuple[int, ...]
    """Labels that training saw; none where it saw one only: then nothing is won."""
    start: tuple[float, ...]
    """Score that the trees of each column add to."""
    trees: tuple[tuple[Tree, ...], ...]
    """A column per class; with two classes one column, of the second's log-odds."""
    rhythm: Rhythm = SILENT

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        if not self.classes or not len(rows):
            return np.zeros((len(rows), len(days)))
        reach = float(np.max(days, initial=0.0))
        count = int(min(self.bins.count, np.ceil(reach / self.bins.width) + 1))
        later = np.minimum(np.arange(count), self.bins.learnt - 1).astype(np.float64)
        found = np.empty((len(rows), len(days)))
        for begin in range(0, len(rows), _BLOCK):
            part = rows.take(np.arange(begin, min(begin + _BLOCK, len(rows))))
            share = self.shares(_table(part, self.stages, self.numbers), later)
            found[begin : begin + len(part)] = incidence_in(
                self.rhythm, part.origin, share[1], share[2], self.bins.width, days
            )
        return found

    def shares(self, table: Floats, later: Floats) -> Floats:
        """Return the probability of each label: 3 x rows x bins."""
        score = np.stack(
            [
                s + _sum_of_trees(column, table, later)
                for s, column in zip(self.start, self.trees, strict=True)
            ]
        )
        if len(score) == 1:
            score = np.concatenate([np.zeros_like(score), score])
        score -= score.max(axis=0)
        each = np.exp(score)
        each /= each.sum(axis=0)
        found = np.zeros((3, *each.shape[1:]))
        found[list(self.classes)] = each
        return found


def _sum_of_trees(trees: tuple[Tree, ...], table: Floats, later: Floats) -> Floats:
    by_row, by_bin = [], []
    for tree in trees:
        goes_left: dict[int, npt.NDArray[np.bool_]] = {}
        of_bin: dict[int, npt.NDArray[np.bool_]] = {}
        for node, feature in enumerate(tree.feature):
            if feature == table.shape[1]:
                of_bin[node] = later <= tree.threshold[node]
            elif feature >= 0:
                values = table[:, feature]
                below = values <= tree.threshold[node]
                goes_left[node] = below | np.isnan(values) if tree.blank_left[node] else below
        for value, way in tree.leaves():
            here, then = np.ones(len(table), dtype=bool), np.ones(len(later), dtype=bool)
            for node, is_left in way:
                if node in of_bin:
                    then &= of_bin[node] if is_left else ~of_bin[node]
                else:
                    here &= goes_left[node] if is_left else ~goes_left[node]
            by_row.append(here)
            by_bin.append(then * value)
    found: Floats = np.array(by_row, dtype=np.float64).T @ np.array(by_bin)
    return found


def _table(rows: Landmarks, stages: tuple[str, ...], known: tuple[str, ...]) -> Floats:
    numbers = rows.frame[list(known)].to_numpy(float)
    code = rows.frame["stage"].map({stage: float(i) for i, stage in enumerate(stages)}).to_numpy(float)
    return np.column_stack([numbers, code])
