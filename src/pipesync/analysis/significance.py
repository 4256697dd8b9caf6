"""Whether a difference is more than chance: intervals of shares, tests, and how many of them may be named.

Everything that names a stage, a product or a person goes through here: a test, an effect that matters, enough cases,
and a bound on false discoveries over all that were tested, so that a page of noise is not shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

FALSE_DISCOVERY = 0.10
MIN_CASES = 20
MIN_EFFECT = 0.05
"""Of a share, as a difference."""


def wilson(successes: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); (0, 1) where n is 0."""
    if n <= 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def two_shares(won_a: float, n_a: float, won_b: float, n_b: float) -> float:
    """Return the two-sided p value of equal shares (pooled z test); 1 where nothing can be said."""
    if n_a <= 0 or n_b <= 0:
        return 1.0
    pooled = (won_a + won_b) / (n_a + n_b)
    spread = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    if spread <= 0:
        return 1.0
    return math.erfc(abs(won_a / n_a - won_b / n_b) / math.sqrt(spread) / math.sqrt(2))


def kept(p_values: Sequence[float], q: float = FALSE_DISCOVERY) -> list[bool]:
    """Say which tests stand when at most a share `q` of those named may be chance (Benjamini & Hochberg 1995)."""
    n = len(p_values)
    passing = [p for i, p in enumerate(sorted(p_values), start=1) if p <= q * i / n]
    limit = max(passing, default=-1.0)
    return [p <= limit for p in p_values]


def deviation(observed: float, expected: float, variance: float) -> float:
    """Return the two-sided p value of a count against its expectation, by the normal law; 1 without variance."""
    if variance <= 0:
        return 1.0
    return math.erfc(abs(observed - expected) / math.sqrt(2 * variance))
