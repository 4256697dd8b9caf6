"""Scores of forecasts (notes 3.6), each a function of arrays, and their clustered bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pipesync.forecast.history import Bools, Floats, Ints


def auc(won: Bools, p: Floats) -> float:
    """Return the chance that a won one was given more than a lost one, ties counting half; NaN with one class."""
    positive = int(won.sum())
    negative = len(won) - positive
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return float((middle[inverse][won].sum() - positive * (positive + 1) / 2) / (positive * negative))


def brier(won: Bools, p: Floats) -> float:
    return float(np.mean((won - p) ** 2)) if len(won) else float("nan")


def log_loss(won: Bools, p: Floats) -> Floats:
    """Return one loss per row."""
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    found: Floats = -np.where(won, np.log(inside), np.log(1 - inside))
    return found


def ece(won: Bools, p: Floats, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal mass."""
    if not len(won):
        return float("nan")
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(float(won[b].mean() - p[b].mean())) * len(b) for b in parts if len(b)) / len(won))


def wape(forecast: Floats, actual: Floats) -> float:
    return float(np.abs(forecast - actual).sum() / actual.sum()) if actual.sum() else float("nan")


def bias(forecast: Floats, actual: Floats) -> float:
    return float((forecast - actual).sum() / actual.sum()) if actual.sum() else float("nan")


def coverage(low: Floats, high: Floats, actual: Floats) -> float:
    return float(np.mean((low <= actual) & (actual <= high))) if len(actual) else float("nan")


Interval = tuple[float, float]


def by_cluster(
    score: Callable[[Ints], float], cluster: npt.NDArray[np.int64], *, seed: int = 0, draws: int = 200
) -> Interval:
    """Return the 95% interval of a score of rows, drawing whole clusters (an opportunity with all its landmarks)."""
    return middle_of(scores_by_cluster(score, cluster, seed=seed, draws=draws))


def scores_by_cluster(
    score: Callable[[Ints], float], cluster: npt.NDArray[np.int64], *, seed: int = 0, draws: int = 200
) -> Floats:
    """Return the score of every draw; one seed draws the same clusters for every score, so differences are paired."""
    random = np.random.default_rng(seed)
    order = np.argsort(cluster, kind="stable")
    _, start = np.unique(cluster[order], return_index=True)
    groups = np.split(order, start[1:])
    found = []
    for _ in range(draws):
        picked = random.integers(0, len(groups), len(groups))
        found.append(score(np.concatenate([groups[i] for i in picked])))
    return np.array(found)


def by_block(
    score: Callable[[Ints], float],
    count: int,
    length: int,
    *,
    periods: float,
    seed: int = 0,
    draws: int = 1000,
) -> Interval:
    """Return the 95% interval of a score of origins in time order, drawing runs of `length` that overlap in time.

    A bootstrap of few periods is too narrow, so the interval is widened as Student's t is over the normal (Hesterberg
    2015, section 3.2).
    """
    found = scores_by_block(score, count, length, seed=seed, draws=draws)
    return widened(score(np.arange(count)), found, periods)


def scores_by_block(
    score: Callable[[Ints], float], count: int, length: int, *, seed: int = 0, draws: int = 1000
) -> Floats:
    """Return the score of every draw of a circular block bootstrap: near origins share most of their outcome."""
    random = np.random.default_rng(seed)
    length = max(min(length, count // 2), 1)  # one run of everything would say that there is no doubt
    runs = -(-count // length)
    found = []
    for _ in range(draws):
        starts = random.integers(0, count, runs)
        found.append(score(np.concatenate([(s + np.arange(length)) % count for s in starts])[:count]))
    return np.array(found)


def widened(value: float, found: Floats, periods: float) -> Interval:
    """Return the interval of draws around a value, as much wider as Student's t of so many periods asks."""
    from scipy.special import stdtrit

    low, high = middle_of(found)
    wider = float(stdtrit(max(periods - 1, 1.0), 0.975)) / 1.96
    return value - wider * (value - low), value + wider * (high - value)


def middle_of(found: Sequence[float] | Floats) -> Interval:
    finite = np.array([f for f in found if np.isfinite(f)])
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)
