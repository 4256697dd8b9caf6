"""What a forecast learns from its own earlier origins: calibration, the size of its errors, how much to believe it.

Periods overlap and share their luck, so the number of landmarks says little about how much is known: what counts
is the number of completed periods, and everything here is shrunk by it toward the plain model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from pipesync.forecast.baselines import Pace
from pipesync.forecast.history import DAY, Floats, Ms
from pipesync.forecast.replay import Issue, Settled
from pipesync.forecast.totals import PRIOR_SHOCK, Portfolio, interval_of, simulate

QUANTILES = (0.1, 0.5, 0.9)
_LEVEL_SD = 0.15
"""How far a level is off for good; the rest of a period's error is its own luck, and the next model has seen it."""
_SLOPE_SD = 0.2
_PRIOR_PERIODS = 4.0
"""Completed periods that the prior shock is worth (notes 3.1: .3 until eight of them)."""
EQUAL = 0.5
"""Weight of the run-rate before any period has told: equal ones are hard to beat (Clemen 1989; Smith & Wallis 2009)."""
_EQUAL_PERIODS = 2.0
"""Completed periods that equal weights are worth."""
_HALF_LIFE = 180.0
_SMALLEST_SHOCK = 0.05
_TRIAL_DRAWS = 1000
_RUN_RATE_SD = 0.3
_Z80 = 1.2816


@dataclass(frozen=True)
class Learned:
    """Numbers only, so that a fitted model can be kept as JSON."""

    intercept: float = 0.0
    """Platt: log-odds become intercept + slope x log-odds."""
    slope: float = 1.0
    new_factor: float = 1.0
    shock: float = PRIOR_SHOCK
    stretch: float = 1.0
    """Conformal: how much wider the interval has to be than the draws say, in logarithms."""
    run_rate_weight: float = 0.0
    run_rate_sd: float = _RUN_RATE_SD
    periods: float = 0.0
    """Completed periods that this rests on, overlapping ones counted in part."""

    def calibrate(self, p: Floats) -> Floats:
        if (self.intercept, self.slope) == (0.0, 1.0):
            return p
        inside = np.clip(p, 1e-6, 1 - 1e-6)
        score = self.intercept + self.slope * np.log(inside / (1 - inside))
        return np.where(p <= 1e-6, p, 1 / (1 + np.exp(-score)))


@dataclass(frozen=True)
class Spoken:
    """Quantiles of the amount still to be won, by what said them."""

    model: tuple[float, float, float]
    mean: float
    interval: tuple[float, float]
    """80%, as `totals.interval_of` has it."""
    hazard: tuple[float, float, float]
    """Before the blend."""


def quantiles_of(
    made: Issue, method: str, learned: Learned, *, seed: int = 0, draws: int = _TRIAL_DRAWS
) -> Spoken:
    """Draw the total of an issue and read its quantiles."""
    totals = simulate(
        portfolio_of(made, method, learned), shock=learned.shock, draws=draws, seed=seed
    ).total()
    stretched = stretch(totals, learned.stretch)
    final = blend(stretched, made.run_rate, learned)
    return Spoken(_three(final), float(final.mean()), interval_of(final), _three(stretched))


def portfolio_of(made: Issue, method: str, learned: Learned) -> Portfolio:
    import pandas as pd

    new = made.new.scaled(learned.new_factor)
    return Portfolio(
        learned.calibrate(made.said(method)),
        made.value,
        pd.DataFrame(index=range(len(made.rows))),
        new,
        made.new_values,
        pd.DataFrame(index=range(len(made.new.pool))),
        made.amount.residuals,
    )


def _three(draws: Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(draws, QUANTILES)
    return float(low), float(middle), float(high)


def stretch(draws: Floats, by: float) -> Floats:
    """Widen or narrow draws around their median, on the logarithmic scale."""
    middle = float(np.median(draws))
    if by == 1.0 or middle <= 0:
        return draws
    found: Floats = middle * (np.maximum(draws, 1e-9 * middle) / middle) ** by
    return found


def factor_of(draws: Floats, pace: Pace, learned: Learned) -> Floats:
    """Return what stretching and blending make of each draw, as a factor: parts times it add up to the whole."""
    final = blend(stretch(draws, learned.stretch), pace, learned)
    return np.divide(final, draws, out=np.ones_like(draws), where=draws > 0)


def blend(draws: Floats, pace: Pace, learned: Learned) -> Floats:
    """Average the draws' quantiles with those of the run-rate; each draw keeps its rank.

    Averaging quantiles instead of pooling draws keeps the blend as sharp as its parts.
    """
    weight = learned.run_rate_weight
    if weight <= 0 or pace.amount <= 0 or not len(draws):
        return draws
    rank = np.empty(len(draws))
    rank[np.argsort(draws, kind="stable")] = (np.arange(len(draws)) + 0.5) / len(draws)
    other = run_rate_by(ndtri(rank), pace, learned.run_rate_sd)
    found: Floats = (1 - weight) * draws + weight * other
    return found


def run_rate_by(z: Floats, pace: Pace, sd: float) -> Floats:
    """Return what the run-rate says at standard normal quantiles; `sd` is that of its error in logarithms.

    The rate is an average with luck of its own, over the days that made it, and so is what it foretells. Both have the
    same mean, and the shorter one the lower median.
    """
    apart = (pace.over - pace.days) / (pace.over + pace.days)
    found: Floats = pace.amount * np.exp(sd * z - apart * sd**2 / 2)
    return found


def learn(settled: Sequence[Settled], method: str, now: Ms, closed_now: int, *, seed: int = 0) -> Learned:
    """Walk through earlier origins in their order; each was spoken of with what those before it had taught.

    `closed_now` is how many closed opportunities the model to be corrected has seen.
    """
    ordered = sorted((s for s in settled if s.issue.end <= now), key=lambda s: s.issue.origin)
    memory: list[_Remembered] = []
    for one in ordered:
        before = [m for m in memory if m.settled.issue.end <= one.issue.origin]
        told = _summary(before, method, one.issue.origin, one.issue.closed)
        spoken = quantiles_of(one.issue, method, told, seed=seed)
        memory.append(_Remembered(one, told, spoken, _shock_seen(one, method, told, spoken, seed)))
    return _summary(memory, method, now, closed_now)


@dataclass(frozen=True)
class _Remembered:
    settled: Settled
    told: Learned
    spoken: Spoken
    shock_seen: float
    """Square of the shock that explains the error, less what chance alone explains."""


def _summary(memory: Sequence[_Remembered], method: str, now: Ms, closed_now: int) -> Learned:
    if not memory:
        return Learned(run_rate_weight=EQUAL)
    origins = np.array([m.settled.issue.origin for m in memory], dtype=float)
    days = memory[0].settled.issue.days
    periods = min((origins.max() - origins.min()) / DAY / days + 1.0, float(len(memory)))
    # An origin that had seen a tenth of today's closings spoke with another, poorer model.
    closed = np.array([m.settled.issue.closed for m in memory], dtype=float)
    weight = np.exp2(-(now - origins) / DAY / _HALF_LIFE) * np.clip(closed / max(closed_now, 1), 0.01, 1.0)
    share = weight / max(weight.max(), 1e-9) * periods / len(memory)
    periods = float(share.sum())
    intercept, slope = _platt([m.settled for m in memory], method, share, periods)
    shock = (_PRIOR_PERIODS * PRIOR_SHOCK**2 + np.sum(share * [m.shock_seen for m in memory])) / (
        _PRIOR_PERIODS + periods
    )
    run_rate_weight, run_rate_sd = _trust(memory, share, periods)
    return Learned(
        intercept=intercept,
        slope=slope,
        new_factor=_new_factor([m.settled for m in memory], share, periods),
        shock=float(np.sqrt(max(shock, _SMALLEST_SHOCK**2))),
        stretch=_stretch(memory, periods),
        run_rate_weight=run_rate_weight,
        run_rate_sd=run_rate_sd,
        periods=float(periods),
    )


def _platt(settled: Sequence[Settled], method: str, share: Floats, periods: float) -> tuple[float, float]:
    """Fit log-odds by Newton's method, held toward no change (Platt 1999; refit with every period that ends)."""
    p = np.concatenate([s.issue.said(method) for s in settled])
    if not len(p):
        return 0.0, 1.0
    won = np.concatenate([s.won for s in settled]).astype(float)
    row_weight = np.concatenate([np.full(len(s.won), w) for s, w in zip(settled, share, strict=True)])
    p = np.clip(p, 1e-6, 1 - 1e-6)
    x = np.column_stack([np.ones(len(p)), np.log(p / (1 - p))])
    # One period says as much about the level as its shared shock lets it, however many opportunities it has.
    row_weight *= min(1.0, periods / PRIOR_SHOCK**2 / max(float(np.sum(row_weight * p * (1 - p))), 1e-9))
    beta, held = np.array([0.0, 1.0]), np.diag([_LEVEL_SD**-2, _SLOPE_SD**-2])
    for _ in range(25):
        q = 1 / (1 + np.exp(-x @ beta))
        slope = x.T @ (row_weight * (won - q)) - held @ (beta - [0.0, 1.0])
        curve = (x * (row_weight * q * (1 - q))[:, None]).T @ x + held
        step = np.linalg.solve(curve, slope)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def _new_factor(settled: Sequence[Settled], share: Floats, periods: float) -> float:
    seen = float(np.sum(share * [s.new_count for s in settled]))
    expected = float(np.sum(share * [s.issue.new.rate for s in settled]))
    if expected <= 0 or seen <= 0:
        return 1.0
    dispersion = float(np.mean([s.issue.new.dispersion for s in settled]))
    noise = PRIOR_SHOCK**2 / periods + dispersion / seen
    return float(np.exp(np.log(seen / expected) * _LEVEL_SD**2 / (_LEVEL_SD**2 + noise)))


def _shock_seen(one: Settled, method: str, told: Learned, spoken: Spoken, seed: int) -> float:
    """Compare the error with that of independent opportunities, both on the scale of the shock."""
    made = one.issue
    p = told.calibrate(made.said(method))
    opened, new = float(np.sum(p * made.value)), made.new.rate * told.new_factor * made.new_value
    if opened + new <= 0 or one.actual <= 0:
        return PRIOR_SHOCK**2
    reach = (float(np.sum(p * (1 - p) * made.value)) + new) / (opened + new)
    alone = simulate(portfolio_of(made, method, told), shock=1e-6, draws=400, seed=seed).total()
    chance = float(np.var(alone) / np.mean(alone) ** 2)
    error = float(np.clip(np.log(one.actual / (opened + new)), -1.0, 1.0))
    return (error**2 - chance) / max(reach, 0.1) ** 2


def _stretch(memory: Sequence[_Remembered], periods: float) -> float:
    """Split conformal on ratios: the share of the half-interval that 80% of errors needed.

    Few errors have not seen the next larger one, so their quantile is raised by the finite-sample correction
    (Vovk et al. 2005; Lei et al. 2018); what counts as one is a period, for those that overlap err together.
    """
    scores = [_score(m.settled.actual, m.spoken.hazard) for m in memory]
    scores = [s for s in scores if np.isfinite(s)]
    if periods < 4 or len(scores) < 4:
        return 1.0
    needed = float(np.quantile(scores, min(0.8 * (1 + 1 / periods), 1.0)))
    return float(np.clip(1 + (needed - 1) * periods / (periods + 8), 0.6, 2.0))


def _score(actual: float, said: tuple[float, float, float]) -> float:
    low, middle, high = (np.log(max(q, 1e-9)) for q in said)
    error = np.log(max(actual, 1e-9)) - middle
    half = (high - middle) if error >= 0 else (middle - low)
    return abs(float(error)) / half if half > 1e-9 else float("inf")


def _trust(memory: Sequence[_Remembered], share: Floats, periods: float) -> tuple[float, float]:
    """Return the run-rate's weight with which the blend would have had the least pinball loss, and the rate's error.

    The blend's own loss is looked at instead of its parts', which mostly err together (Granger & Ramanathan 1984).
    Weights start equal and move as periods are completed; until four are, neither gets less than 20% (notes 3.1).
    """
    rated = [
        (m, w)
        for m, w in zip(memory, share, strict=True)
        if m.settled.issue.run_rate.amount > 0 and m.settled.actual > 0
    ]
    if not rated:
        return EQUAL, _RUN_RATE_SD
    errors = np.array([np.log(m.settled.actual / m.settled.issue.run_rate.amount) for m, _ in rated])
    weight = np.array([w for _, w in rated])
    spread = (_PRIOR_PERIODS * _RUN_RATE_SD**2 + np.sum(weight * np.clip(errors, -1, 1) ** 2)) / (
        _PRIOR_PERIODS + weight.sum()
    )
    sd = float(np.sqrt(spread))
    tried = np.linspace(0, 1, 41)
    loss = np.zeros(len(tried))
    for m, w in rated:
        issue, actual = m.settled.issue, m.settled.actual
        rate = run_rate_by(_Z80 * np.array([-1.0, 0.0, 1.0]), issue.run_rate, sd)
        blends = np.outer(1 - tried, m.spoken.hazard) + np.outer(tried, rate)
        loss += w * _losses(blends, actual) / actual
    best = float(tried[loss <= loss.min() * (1 + 1e-9)].mean())
    found = (_EQUAL_PERIODS * EQUAL + periods * best) / (_EQUAL_PERIODS + periods)
    return float(np.clip(found, 0.2, 0.8)) if periods < 4 else float(found), sd


def pinball(said: Sequence[float], actual: float) -> float:
    """Return the mean over the three quantiles of max(t (a - q), (t - 1)(a - q))."""
    return float(_losses(np.asarray(said, dtype=float), actual))


def _losses(said: Floats, actual: float) -> Floats:
    """Return the pinball loss of each row of quantiles."""
    level = np.array(QUANTILES)
    found: Floats = np.maximum(level * (actual - said), (level - 1) * (actual - said)).mean(axis=-1)
    return found
