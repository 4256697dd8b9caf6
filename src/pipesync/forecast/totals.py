"""Period totals by simulation: every roll-up is a sum over the same draws, so that the parts add up to the whole.

In each draw a shock that all opportunities share moves their log-odds (independent coins cover 38% of what should
be 80%, notes 0.7); then each opportunity is won or not, new business is drawn, and everything is summed per group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from pipesync.forecast.arrivals import Arrivals
from pipesync.forecast.history import Floats

DRAWS = 4000
PRIOR_SHOCK = 0.3
"""Standard deviation of the shared shock on log-odds, before earlier origins have taught another (notes 0.7)."""
_BLOCK = 500
_TAIL = 0.1
"""Beyond either end of an 80% interval."""
NOBODY = ""
"""The group of opportunities that have no value for a dimension."""


@dataclass(frozen=True)
class Portfolio:
    """What may still be won. `groups` has one row per opportunity and one column per dimension."""

    win: Floats
    amount: Floats
    groups: pd.DataFrame
    new: Arrivals
    new_amount: Floats
    """Of the pool's wins."""
    new_groups: pd.DataFrame
    """Of the pool's wins."""
    residuals: tuple[float, ...] = ()
    """How far, in logarithms, final amounts lay from the expected ones."""
    by_week: Floats | None = None
    """Opportunities x weeks: which share of its wins within the period is won by each week's end; 1 in the last."""
    new_by_week: Floats | None = None
    """The same of new business: one value per week."""


@dataclass(frozen=True)
class Draws:
    """Amounts still to be won, per dimension and group: draws x groups."""

    open: dict[str, Floats]
    new: dict[str, Floats]
    names: dict[str, list[str]]
    weeks: Floats | None = None
    """Draws x weeks: what is won by each week's end, open and new together; the last is the total."""

    def total(self) -> Floats:
        found: Floats = self.open["total"][:, 0] + self.new["total"][:, 0]
        return found


def simulate(portfolio: Portfolio, *, shock: float = PRIOR_SHOCK, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Draw what will be won. `total` is a dimension of one group beside those of `groups`."""
    random = np.random.default_rng(seed)
    dimensions = ["total", *portfolio.groups.columns]
    names, codes, new_codes = _codes(portfolio, dimensions)
    logit = _spread(portfolio.win, shock)
    factors = np.exp(np.array(portfolio.residuals, dtype=np.float32))
    opened: Mapping[str, list[Floats]] = {d: [] for d in dimensions}
    news: Mapping[str, list[Floats]] = {d: [] for d in dimensions}
    weeks: list[Floats] = []
    # One shock from each of as many equally likely slices (stratified sampling): most of a total's luck is the shock's,
    # and a forecast is not to move from run to run by it.
    shocks = shock * ndtri((random.permutation(draws) + random.random(draws)) / draws)
    # Numbers of its own: whether weeks are asked for changes no total.
    when = np.random.default_rng([seed, 1])
    for start in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - start)
        z = shocks[start : start + size]
        chance = _expit(logit[None, :] + z[:, None])
        luck = random.random((size, len(logit)), dtype=np.float32)
        won = luck < chance
        value = won * portfolio.amount[None, :]
        if portfolio.residuals:
            value = value * random.choice(factors, value.shape)
        count, pick = _new_wins(portfolio.new, z, random)
        owner_of_pick = np.repeat(np.arange(size), count)
        for d in dimensions:
            opened[d].append(_sum_columns(value, codes[d], len(names[d])))
            flat = owner_of_pick * len(names[d]) + new_codes[d][pick]
            sums = np.bincount(flat, weights=portfolio.new_amount[pick], minlength=size * len(names[d]))
            news[d].append(sums.astype(float).reshape(size, len(names[d])))
        if portfolio.by_week is not None and portfolio.new_by_week is not None:
            draw, row = np.nonzero(won)
            of_open = _week_of(portfolio.by_week, row, luck[draw, row] / chance[draw, row])
            of_new = np.searchsorted(portfolio.new_by_week, when.random(len(pick)), side="right")
            weeks.append(
                _running(size, portfolio.by_week.shape[1], draw, of_open, value[draw, row])
                + _running(
                    size, len(portfolio.new_by_week), owner_of_pick, of_new, portfolio.new_amount[pick]
                )
            )
    return Draws(
        {d: np.concatenate(opened[d]) for d in dimensions},
        {d: np.concatenate(news[d]) for d in dimensions},
        names,
        np.concatenate(weeks) if weeks else None,
    )


def interval_of(draws: Floats) -> tuple[float, float]:
    """Return the interval that holds 80% of draws, or as little more as lumps among them allow.

    From P10 to P90. But where an end is a lump (for many an owner nothing more is won in a third of draws) nothing, or
    less than a tenth, lies beyond it, and what the tail there lacks is taken from the other end: 0 to P80.
    """
    least = _TAIL - 1 / len(draws)
    low, high = np.quantile(draws, (_TAIL, 1 - _TAIL))
    below = float(np.mean(draws < low))
    if below < least:
        high = np.quantile(draws, 1 - (2 * _TAIL - below))
    above = float(np.mean(draws > high))
    if above < least:
        low = np.quantile(draws, 2 * _TAIL - above)
    return float(low), float(high)


def _week_of(by_week: Floats, row: npt.NDArray[np.int64], luck: Floats) -> npt.NDArray[np.int64]:
    """Return the week in which each win falls: `luck` is even between 0 and 1, given that it is won."""
    rows, weeks = by_week.shape
    steps = (by_week + np.arange(rows)[:, None]).ravel()
    found: npt.NDArray[np.int64] = np.searchsorted(steps, row + luck, side="right") - row * weeks
    return found.clip(max=weeks - 1)


def _running(
    draws: int, weeks: int, draw: npt.NDArray[np.int64], week: npt.NDArray[np.int64], amount: Floats
) -> Floats:
    """Sum amounts by draw up to each week's end."""
    sums = np.bincount(draw * weeks + week, weights=amount, minlength=draws * weeks)
    found: Floats = np.cumsum(sums.astype(float).reshape(draws, weeks), axis=1)
    return found


def _codes(
    portfolio: Portfolio, dimensions: list[str]
) -> tuple[dict[str, list[str]], dict[str, npt.NDArray[np.int64]], dict[str, npt.NDArray[np.int64]]]:
    names: dict[str, list[str]] = {"total": [NOBODY]}
    codes = {"total": np.zeros(len(portfolio.win), dtype=np.int64)}
    new_codes = {"total": np.zeros(len(portfolio.new.pool), dtype=np.int64)}
    for d in dimensions[1:]:
        both = pd.concat([portfolio.groups[d], portfolio.new_groups[d]]).fillna(NOBODY).astype(str)
        found, distinct = pd.factorize(both, sort=True)
        names[d] = [str(n) for n in distinct]
        codes[d], new_codes[d] = found[: len(portfolio.win)], found[len(portfolio.win) :]
    return names, codes, new_codes


def _sum_columns(value: Floats, codes: npt.NDArray[np.int64], groups: int) -> Floats:
    if groups == 1:
        whole: Floats = value.sum(axis=1, keepdims=True)
        return whole
    order = np.argsort(codes, kind="stable")
    present, first = np.unique(codes[order], return_index=True)
    sums = np.zeros((len(value), groups))
    if len(present):
        sums[:, present] = np.add.reduceat(value[:, order], first, axis=1)
    return sums


def _new_wins(
    new: Arrivals, z: Floats, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if new.rate <= 0 or not len(new.pool):
        return np.zeros(len(z), dtype=np.int64), np.empty(0, dtype=np.int64)
    mean = new.rate * np.exp(z - np.var(z) / 2)
    if new.dispersion > 1.0:
        mean = random.gamma(mean / (new.dispersion - 1.0 + 1e-9), new.dispersion - 1.0)
    count = random.poisson(mean)
    share = np.cumsum(new.weight) / np.sum(new.weight)
    pick = np.searchsorted(share, random.random(int(count.sum())))
    return count, np.minimum(pick, len(new.pool) - 1)


def _spread(p: Floats, shock: float) -> Floats:
    """Return log-odds whose mean probability under the shock is p (MacKay's approximation of a logistic-normal)."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    found: Floats = np.log(p / (1 - p)) * np.sqrt(1 + np.pi * shock**2 / 8)
    return found


def _expit(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-x))
    return found
