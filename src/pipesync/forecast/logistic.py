"""L2 multinomial logistic regression of exposures, by Newton's method on landmarks instead of on exposures.

A landmark's exposures differ only in the bin, and what the bin changes enters through a few basis functions. So a
row of the design is [1, fixed, basis x moving], and everything that Newton's step needs is a sum over a landmark's
bins before it is a product of matrices: the work falls from exposures x columns² to landmarks x columns², and no
matrix of all exposures is ever made. The optimum is scikit-learn's `LogisticRegression(C=penalty)`, which the tests
hold it against; fitting it there took seven times as long.

Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992); the classes' weights sum to
zero at the optimum, so three classes need two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipesync.forecast.history import Floats, Ints

_MOST_STEPS = 50
_MOST_HALVINGS = 30
_ENOUGH = 1e-9
"""Newton's decrement, as a share of the loss, from which on another step moves no probability by a millionth."""


@dataclass(frozen=True)
class Exposed:
    """Landmarks and their exposures. `row` and `bin` say which cells of landmarks x bins were seen, with what label."""

    fixed: Floats
    """Landmarks x columns: the same in every bin."""
    moving: Floats
    """Landmarks x m: what changes its effect with the bin."""
    basis: Floats
    """Bins x j: how it changes."""
    row: Ints
    bin: Ints
    label: Ints
    weight: Floats
    """Per landmark."""


def fit(seen: Exposed, penalty: float) -> tuple[Floats, Floats]:
    """Return weights (classes x columns, then j x m) and intercepts of the classes that occur, in their order.

    Minimizes sum(weight * loss) + |weights|² / (2 * penalty); with two classes the first one's weights are zero.
    At least two classes occur.
    """
    problem = _Problem(seen, penalty)
    at = np.zeros(problem.size)  # from the classes' shares the first steps are too long for rare classes
    loss, share = problem.look(at)
    for _ in range(_MOST_STEPS):
        gradient, hessian = problem.slopes(at, share)
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement <= _ENOUGH * (1 + abs(loss)):
            at = at - step
            break
        length = 1.0
        for _ in range(_MOST_HALVINGS):
            lower, share = problem.look(at - length * step)
            if lower <= loss - 1e-4 * length * decrement:
                break
            length /= 2
        else:
            break
        at, loss = at - length * step, lower
    return problem.named(at)


class _Problem:
    """The loss of a parameter vector, and its slopes. Parameters: a block per class after the first."""

    def __init__(self, seen: Exposed, penalty: float) -> None:
        self.front = np.column_stack([np.ones(len(seen.fixed)), seen.fixed])
        self.moving, self.basis = seen.moving, seen.basis
        self.classes, label = np.unique(seen.label, return_inverse=True)
        shape = (len(seen.fixed), len(seen.basis))
        self.weight = np.zeros(shape)
        self.weight[seen.row, seen.bin] = seen.weight[seen.row]
        self.is_label = np.zeros((len(self.classes) - 1, *shape), dtype=bool)
        for number in range(1, len(self.classes)):
            cells = label == number
            self.is_label[number - 1, seen.row[cells], seen.bin[cells]] = True
        self.blocks = len(self.classes) - 1
        self.width = self.front.shape[1] + seen.basis.shape[1] * seen.moving.shape[1]
        self.size = self.blocks * self.width
        # |weights|² in terms of the differences to the first class, whose own weights are minus the others' mean.
        coupling = np.eye(self.blocks) - (self.blocks > 1) / (self.blocks + 1)
        free = np.ones(self.width)
        free[0] = 0.0  # the intercept is not held
        self.ridge = np.kron(coupling, np.diag(free)) / penalty

    def look(self, at: Floats) -> tuple[float, Floats]:
        """Return the loss, and the probability of each class but the first: blocks x landmarks x bins."""
        split = self.front.shape[1]
        scores = np.empty((self.blocks, *self.weight.shape))
        for number, block in enumerate(at.reshape(self.blocks, self.width)):
            later = block[split:].reshape(self.basis.shape[1], self.moving.shape[1])
            np.matmul(self.moving @ later.T, self.basis.T, out=scores[number])
            scores[number] += (self.front @ block[:split])[:, None]
        top = np.maximum(scores.max(axis=0), 0.0)
        said = np.where(self.is_label, scores, 0.0).sum(axis=0)
        share = np.exp(np.subtract(scores, top, out=scores), out=scores)
        total = np.exp(-top) + share.sum(axis=0)
        loss = float(np.vdot(self.weight, top + np.log(total) - said))
        share /= total
        return loss + 0.5 * float(at @ self.ridge @ at), share

    def slopes(self, at: Floats, share: Floats) -> tuple[Floats, Floats]:
        """Return gradient and Hessian where `look` found these probabilities."""
        gradient = np.concatenate(
            [self._sum(self.weight * (share[b] - self.is_label[b])) for b in range(self.blocks)]
        )
        hessian = self.ridge.copy()
        for a in range(self.blocks):
            for b in range(a, self.blocks):
                part = self._product(self.weight * share[a] * ((a == b) - share[b]))
                rows = slice(a * self.width, (a + 1) * self.width)
                columns = slice(b * self.width, (b + 1) * self.width)
                hessian[rows, columns] += part
                if a != b:
                    hessian[columns, rows] += part.T
        return gradient + self.ridge @ at, hessian

    def _sum(self, cells: Floats) -> Floats:
        """Return the design's columns summed over cells with these factors."""
        later = (cells @ self.basis).T @ self.moving
        return np.concatenate([cells.sum(axis=1) @ self.front, later.ravel()])

    def _product(self, cells: Floats) -> Floats:
        """Return design' diag(cells) design."""
        j, m = self.basis.shape[1], self.moving.shape[1]
        corner = self.front.T @ (cells.sum(axis=1)[:, None] * self.front)
        later = (cells @ self.basis)[:, :, None] * self.moving[:, None, :]
        side = self.front.T @ later.reshape(len(cells), j * m)
        pairs = (self.basis[:, :, None] * self.basis[:, None, :]).reshape(len(self.basis), j * j)
        squares = (self.moving[:, :, None] * self.moving[:, None, :]).reshape(len(cells), m * m)
        rest = ((cells @ pairs).T @ squares).reshape(j, j, m, m).transpose(0, 2, 1, 3).reshape(j * m, j * m)
        return np.block([[corner, side], [side.T, rest]])

    def named(self, at: Floats) -> tuple[Floats, Floats]:
        blocks = np.vstack([np.zeros(self.width), at.reshape(self.blocks, self.width)])
        if self.blocks > 1:
            blocks -= blocks.mean(axis=0)
        return blocks[:, 1:], blocks[:, 0]
