"""Whether a difference is more than chance: intervals of shares, tests, and how many of them may be named.

Everything that names a stage, a product or a person goes through here: a test, an effect that matters, enough cases,
and a bound on false discoveries over all that were tested, so that a page of noise is not shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

Numbers = Sequence[float] | npt.NDArray[np.float64]
FALSE_DISCOVERY = 0.10
MIN_CASES = 20
MIN_EFFECT = 0.05
"""Of a share, as a difference."""
_KNOWN = 1e8
"""Cases behind a rate that leave nothing to be learnt about it."""
_REACH, _MARGIN = 12, 30
"""Standard deviations and cases around the mean beyond which a law holds less than floating point can tell."""
_LEAST = 1e-13
_ALIKE = 1e-9


def wilson(successes: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); (0, 1) where n is 0."""
    if n <= 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def newcombe(k_a: float, n_a: float, k_b: float, n_b: float) -> tuple[float, float]:
    """Return the 95% interval of share a less share b, from Wilson's of each (Newcombe 1998, his method 10)."""
    if n_a <= 0 or n_b <= 0:
        return -1.0, 1.0
    a, b = k_a / n_a, k_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson(k_a, n_a), wilson(k_b, n_b)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def two_shares(k_a: float, n_a: float, k_b: float, n_b: float) -> float:
    """Return the two-sided p value of equal shares; 1 where nothing can be said.

    What is left to be expected of a after b was seen is a beta-binomial law (Jeffreys' prior), and k_a is held to it.
    """
    if n_a <= 0 or n_b <= 0:
        return 1.0
    return beta_binomial(k_a, [n_a], [(k_b + 0.5) / (n_b + 1)], [n_b + 1])


def two_counts(a: float, b: float) -> float:
    """Return the two-sided p value of equal rates of events: each is then as likely here as there (binomial)."""
    return beta_binomial(a, [a + b], [0.5], [math.inf]) if a + b > 0 else 1.0


def beta_binomial(observed: float, n: Numbers, mean: Numbers, strength: Numbers) -> float:
    """Return the two-sided p value of a number of successes over several groups, without approximation.

    It is the chance of all that is less likely than what was observed, as in Fisher's exact test, and half of that of
    what is as likely (mid-p), so that either tail counts by its own weight.
    Each group has `n` cases whose common rate is Beta with this mean and with `strength` cases behind it (infinite:
    known, so that the law is binomial). The law of the sum is their convolution. 1 where there are no cases.
    """
    first, chance = _law(n, mean, strength)
    if len(chance) == 1:
        return 1.0
    at = round(observed) - first
    if not 0 <= at < len(chance):
        return _LEAST
    rarer, alike = chance < chance[at] * (1 - _ALIKE), np.abs(chance - chance[at]) <= chance[at] * _ALIKE
    return _likely(chance[rarer].sum() + chance[alike].sum() / 2)


def fewer_or_more(observed: float, n: Numbers, mean: Numbers, strength: Numbers) -> tuple[float, float]:
    """Return the one-sided p values of so few and of so many successes by the law of `beta_binomial` (mid-p)."""
    first, chance = _law(n, mean, strength)
    if len(chance) == 1:
        return 1.0, 1.0
    at = round(observed) - first
    if not 0 <= at < len(chance):
        return (_LEAST, 1.0) if at < 0 else (1.0, _LEAST)
    fewer = chance[:at].sum() + chance[at] / 2
    return _likely(fewer), _likely(chance[at:].sum() - chance[at] / 2)


def _likely(chance: float) -> float:
    return float(np.clip(chance, _LEAST, 1.0))


def _law(n: Numbers, mean: Numbers, strength: Numbers) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the least sum that can be told from impossible, and the chances of it and of those after it."""
    size, behind = np.asarray(n, dtype=float), np.minimum(np.asarray(strength, dtype=float), _KNOWN)
    rate = np.clip(np.asarray(mean, dtype=float), 0.5 / (behind + 1), 1 - 0.5 / (behind + 1))
    size, behind, rate = size[size > 0], behind[size > 0], rate[size > 0]
    if not len(size):
        return 0, np.ones(1)
    spread = np.sqrt(size * rate * (1 - rate) * (1 + (size - 1) / (behind + 1)))
    first = np.maximum(np.floor(size * rate - _REACH * spread - _MARGIN), 0)
    last = np.minimum(np.ceil(size * rate + _REACH * spread + _MARGIN), size)
    k = first[:, None] + np.arange(int((last - first).max()) + 1)
    inside = k <= last[:, None]
    k = np.minimum(k, last[:, None])
    of, a, b = size[:, None], (rate * behind)[:, None], ((1 - rate) * behind)[:, None]
    ways = gammaln(of + 1) - gammaln(k + 1) - gammaln(of - k + 1)
    law = np.where(inside, np.exp(ways + betaln(k + a, of - k + b) - betaln(a, b)), 0.0)
    law /= law.sum(axis=1, keepdims=True)
    if len(law) > 1:
        length = int((last - first).sum()) + 1
        points = 1 << (length - 1).bit_length()
        law = np.fft.irfft(np.prod(np.fft.rfft(law, points, axis=1), axis=0), points)[None, :length]
    return int(first.sum()), np.maximum(law[0], 0.0)


def kept(p_values: Sequence[float], q: float = FALSE_DISCOVERY) -> list[bool]:
    """Say which tests stand when at most a share `q` of those named may be chance (Benjamini & Hochberg 1995)."""
    n = len(p_values)
    passing = [p for i, p in enumerate(sorted(p_values), start=1) if p <= q * i / n]
    limit = max(passing, default=-1.0)
    return [p <= limit for p in p_values]
