"""The main model: weekly hazards of winning and losing, from an L2 multinomial logistic regression.

For every landmark and every later bin that it enters open and that ends before the cut-off there is one row with
the label none, won or lost; what is still open contributes its exposure and no guess. From the hazards follow
S(k) = prod(1 - h_w - h_l) and the cumulative incidence of winning, sum S(k-1) h_w(k) (notes 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipesync.forecast import logistic
from pipesync.forecast.design import Design, design
from pipesync.forecast.history import DAY, Floats, Ints
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.logistic import Exposed
from pipesync.forecast.rhythm import SILENT, Rhythm, Steps, Weeks, learn
from pipesync.forecast.training import Training

_PENALTY = 0.1
"""C of scikit-learn: the cautious end of what the notes (3.1) name, which small companies need."""
_MOST_BINS = 26
_MOST_EXPOSURES = 150_000
_BLOCK = 4096


@dataclass(frozen=True)
class Bins:
    """Equal steps of `width` days; `count` reach twice the 95th percentile of cycles.

    `learnt` are those that half of the weeks of history saw end: what only its first weeks saw is their luck, and a
    trend drawn from it would run on.
    """

    width: float
    learnt: int
    count: int

    def basis(self) -> Floats:
        """Return count x 3: logarithm of the bin, first bin, second bin; held where nothing was learnt."""
        k = np.minimum(np.arange(self.count), self.learnt - 1)
        return np.column_stack([np.log1p(k), k == 0, k == 1]).astype(float)


@dataclass(frozen=True)
class Exposures:
    """One row per landmark and bin: label 0 none, 1 won, 2 lost."""

    row: Ints
    bin: Ints
    label: Ints


def bins_of(training: Training) -> Bins:
    won = training.fate.won
    cycle = training.rows.frame["age"].to_numpy(float)[won] + training.fate.days[won]
    width = max(7.0, float(np.median(cycle)) / 8) if len(cycle) else 7.0
    seen = (training.cutoff - np.unique(training.rows.origin)) / DAY if len(training.rows) else np.zeros(1)
    learnt = int(np.clip(np.median(seen) // width, 1, _MOST_BINS))
    reach = 2 * float(np.quantile(cycle, 0.95)) if len(cycle) else float(seen.max())
    return Bins(width, learnt, int(np.clip(np.ceil(reach / width), learnt, 104)))


def exposures(training: Training, bins: Bins, *, seed: int = 0) -> Exposures:
    days, seen = training.fate.days, (training.cutoff - training.rows.origin) / DAY
    finished = np.minimum(seen // bins.width, bins.learnt).astype(np.int64)
    ended = training.fate.won | training.fate.lost
    last = np.where(ended, np.ceil(days / bins.width).astype(np.int64), finished)
    count = np.minimum(np.maximum(last, 1), finished)
    row = np.repeat(np.arange(len(count)), count)
    k = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    final = ended[row] & (k == last[row] - 1)
    label = np.where(final & training.fate.won[row], 1, np.where(final, 2, 0))
    if len(row) > _MOST_EXPOSURES:
        landmark = np.random.default_rng(seed).random(len(count)) < _MOST_EXPOSURES / len(row)
        kept = landmark[row]
        row, k, label = row[kept], k[kept], label[kept]
    return Exposures(row, k, label)


@dataclass(frozen=True)
class Hazard:
    penalty: float = _PENALTY

    def fit(self, training: Training) -> FittedHazard:
        bins = bins_of(training)
        plan = design(training.rows, training.weight)
        seen = exposures(training, bins)
        fixed, moving = plan.matrix(training.rows), _moving(training.rows)
        basis = bins.basis()
        classes = np.unique(seen.label)
        # A class that training never saw stays next to impossible.
        weights = np.zeros((3, fixed.shape[1] + basis.shape[1] * moving.shape[1]))
        intercept = np.full(3, -12.0)
        if len(classes) > 1:
            cells = Exposed(fixed, moving, basis, seen.row, seen.bin, seen.label, training.weight)
            weights[classes], intercept[classes] = logistic.fit(cells, self.penalty)
        else:
            intercept = np.log([1.0, 0.01, 0.01])
        fitted = FittedHazard(bins, plan, weights, intercept)
        return replace(fitted, rhythm=rhythm_seen(training, seen, bins, *fitted.first_bin(training.rows)))


def rhythm_seen(training: Training, seen: Exposures, bins: Bins, win: Floats, lose: Floats) -> Rhythm:
    """Learn the calendar's rhythm from each week of each opportunity once: a landmark's first bin.

    `win` and `lose` are the hazards that the model without it gives every landmark there.
    """
    first = seen.bin == 0
    row, label = seen.row[first], seen.label[first]
    origin, week = np.unique(training.rows.origin[row], return_inverse=True)
    count = np.bincount(week)

    def summed(values: Floats) -> Floats:
        return np.bincount(week, weights=values, minlength=len(origin)).astype(float)

    weeks = Weeks(
        origin,
        bins.width,
        summed(training.weight[row]) / np.maximum(count, 1),
        np.column_stack([summed(win[row]), summed(lose[row])]),
        np.column_stack([summed((label == 1).astype(float)), summed((label == 2).astype(float))]),
    )
    return learn(weeks, training.months, _PENALTY)


def _moving(rows: Landmarks) -> Floats:
    """Return what changes its effect with the bin: a constant, and the time in the stage."""
    return np.column_stack([np.ones(len(rows)), np.log1p(rows.frame["stage_days"].to_numpy(float)) - 2.0])


@dataclass(frozen=True)
class FittedHazard:
    bins: Bins
    design: Design
    weights: Floats
    """3 x columns: none, won, lost."""
    intercept: Floats
    rhythm: Rhythm = SILENT

    def first_bin(self, rows: Landmarks) -> tuple[Floats, Floats]:
        """Return the hazards of winning and of losing in the first bin, whatever the calendar."""
        win, lose = self._plain(rows, self.bins.basis()[:1])
        return win[:, 0], lose[:, 0]

    def _plain(self, rows: Landmarks, basis: Floats) -> tuple[Floats, Floats]:
        """Return the hazards of winning and of losing, rows x bins each, whatever the calendar."""
        fixed, moving = self.design.matrix(rows), _moving(rows)
        known = fixed @ self.weights[:, : fixed.shape[1]].T + self.intercept
        later = self.weights[:, fixed.shape[1] :].reshape(3, basis.shape[1], moving.shape[1])
        score = known[:, :, None] + np.einsum("im,cjm,kj->ick", moving, later, basis)
        score -= score.max(axis=1, keepdims=True)
        share = np.exp(score)
        share /= share.sum(axis=1, keepdims=True)
        return share[:, 1], share[:, 2]

    def win_by(self, rows: Landmarks, days: Floats) -> Floats:
        found = np.empty((len(rows), len(days)))
        for start in range(0, len(rows), _BLOCK):
            part = rows.take(np.arange(start, min(start + _BLOCK, len(rows))))
            hazards = self._plain(part, self.bins.basis())
            found[start : start + len(part)] = incidence_in(
                self.rhythm, part.origin, *hazards, self.bins.width, days
            )
        return found


def incidence_in(
    rhythm: Rhythm, origin: Ints, win: Floats, lose: Floats, width: float, days: Floats
) -> Floats:
    """Return the probability to be won within each number of days, where hazards move with the calendar."""
    found = np.empty((len(win), len(days)))
    if rhythm.is_silent:
        return incidence(win, lose, days / width)
    for at in np.unique(origin):
        here = origin == at
        steps = rhythm.steps(int(at), width, win.shape[1])
        found[here] = incidence(*moved(win[here], lose[here], steps), steps.place(days))
    return found


def moved(win: Floats, lose: Floats, steps: Steps) -> tuple[Floats, Floats]:
    """Return hazards of bins with the calendar's factors on the odds against staying open."""
    won, lost = win * np.exp(steps.win), lose * np.exp(steps.lose)
    whole = 1 - win - lose + won + lost
    return won / whole, lost / whole


def incidence(win: Floats, lose: Floats, place: Floats) -> Floats:
    """Return the probability to be won up to each place among the bins (2.5: half of the third one's wins)."""
    survival = np.cumprod(np.clip(1 - win - lose, 0, 1), axis=1)
    before = np.concatenate([np.ones((len(win), 1)), survival[:, :-1]], axis=1)
    cumulative = np.concatenate([np.zeros((len(win), 1)), np.cumsum(before * win, axis=1)], axis=1)
    position = np.clip(place, 0, win.shape[1])
    low = np.minimum(position.astype(np.int64), win.shape[1] - 1)
    part = position - low
    found: Floats = cumulative[:, low] * (1 - part) + cumulative[:, low + 1] * part
    return found
