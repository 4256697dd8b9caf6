"""What waits in each stage: how old it is, how long it would take to drain, and whether the figures agree.

In a steady state Little's law holds: the number that waits is arrivals per day times the mean stay (Little 1961). The
weeks in which a stage was steady are found and told, and both sides of the law are shown for them: where they differ,
history is incomplete or times are not what they seem.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from pipesync.analysis.stages import number_stages
from pipesync.analysis.survival import incidence, kaplan_meier, percentile
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

Floats = npt.NDArray[np.float64]
STEADY_WEEKS = 6
"""At least so many, and at least three mean stays."""
STEADY_DRIFT = 0.10
"""The number waiting may differ by this share of its average between the first and the last moment."""
MIN_GONE, MIN_WAITING = 20, 5
"""Stays that ended in these weeks, and average number waiting: below, one more or less decides the figures."""
_EXITS = ("advance", "backward", "won", "lost")

_STAYS = """
SELECT number, date_diff('microsecond', entered_at, getvariable('as_of')) / 86400e6 AS entered,
       coalesce(date_diff('microsecond', left_at, getvariable('as_of')) / 86400e6, -1) AS gone,
       CASE exit WHEN 'advance' THEN 1 WHEN 'backward' THEN 2 WHEN 'won' THEN 3 WHEN 'lost' THEN 4
            ELSE CASE WHEN left_at IS NULL THEN 0 ELSE 5 END END::BIGINT AS way
FROM stage_visits AS v
JOIN stage_numbers AS s ON s.stage = v.stage AND s.pipeline = coalesce(v.pipeline, '')
"""


@dataclass(frozen=True)
class Little:
    """Both sides of the law over the steady weeks from `start` to `end` (not included)."""

    start: date
    end: date
    waiting: float
    """Average number there."""
    arrivals_per_day: float
    mean_days: float
    """Of the stays that ended then."""

    @property
    def expected(self) -> float:
        return self.arrivals_per_day * self.mean_days

    @property
    def ratio(self) -> float:
        return self.waiting / self.expected


@dataclass(frozen=True)
class Flow:
    pipeline: str
    stage: str
    wip: int
    ages: tuple[int, int, int, int]
    """Of those that wait: up to the median stay, up to P85, up to P95, and beyond (Kaplan-Meier). What the curve
    does not reach counts as below."""
    drain_weeks: float | None
    """Until it is empty, if nobody came any more, at the exits of the last 8 weeks; None without exits."""
    exits: dict[str, float]
    """Share that has left each way within the longest stay seen, the ways competing (Aalen-Johansen)."""
    little: Little | None
    """None where it was never steady for long enough."""


def flows(warehouse: Warehouse, features: Features) -> tuple[Flow, ...]:
    """Return one entry per pipeline and stage that was ever visited, in the order of the pipeline."""
    stages = number_stages(warehouse)
    stays = warehouse.arrow(_STAYS)
    number, entered, gone, way = (stays.column(n).to_numpy() for n in ("number", "entered", "gone", "way"))
    found = []
    for i, (pipeline, stage) in enumerate(stages):
        here = number == i
        found.append(_flow(pipeline, stage, entered[here], gone[here], way[here], features))
    return tuple(found)


def _flow(
    pipeline: str, stage: str, entered: Floats, left: Floats, way: npt.NDArray[np.int64], features: Features
) -> Flow:
    """`entered` and `left` are days before the moment; `left` is -1 while it lasts."""
    over = way > 0
    days = entered - np.where(over, left, 0.0)
    curve = kaplan_meier(days, over)
    limits = [percentile(curve, share) for share in (0.5, 0.85, 0.95)]
    limits = [np.inf if limit != limit else limit for limit in limits]
    bands = np.searchsorted(limits, days[~over], side="left")
    ages = np.bincount(bands, minlength=4)
    exits = {}
    for number, name in enumerate(_EXITS, start=1):
        _, share = incidence(days, way, number)
        exits[name] = float(share[-1]) if len(share) else 0.0
    recent = int((over & (left < 56)).sum())
    waiting = int((~over).sum())
    return Flow(
        pipeline, stage, waiting, (int(ages[0]), int(ages[1]), int(ages[2]), int(ages[3])),
        waiting / (recent / 8) if recent else None, exits, _steady(entered, left, over, features),
    )  # fmt: skip


def _steady(entered: Floats, left: Floats, over: npt.NDArray[np.bool_], features: Features) -> Little | None:
    """Find the longest run of whole weeks, up to two years back, in which as many came as went.

    The integral of the number waiting up to a moment t is the sum of (t - entered) over those that came by then, less
    that of (t - left) over those that went: prefix sums over weeks give every run's average at once.
    """
    weeks = min(int(entered.max() // 7), 104)
    if weeks < STEADY_WEEKS:
        return None
    edges: Floats = np.arange(weeks, -1, -1).astype(np.float64) * 7  # days before the moment, the past first
    came = _until(entered, edges)
    went = _until(left[over], edges)
    stays = np.concatenate([[0.0], np.cumsum(_binned(left[over], edges, (entered - left)[over]))])
    best: tuple[int, int] | None = None
    for i in range(weeks - STEADY_WEEKS + 1):
        ends = np.arange(i + STEADY_WEEKS, weeks + 1)
        span = (ends - i) * 7.0
        first, last = came[0][i] - went[0][i], came[0][ends] - went[0][ends]
        average = (came[1][ends] - went[1][ends] - came[1][i] + went[1][i]) / span
        gone = went[0][ends] - went[0][i]
        mean = (stays[ends] - stays[i]) / np.maximum(gone, 1)
        steady = (np.abs(last - first) <= STEADY_DRIFT * average) & (span >= 3 * mean)
        steady &= (gone >= MIN_GONE) & (average >= MIN_WAITING)
        if steady.any():
            j = int(ends[np.flatnonzero(steady)[-1]])
            if best is None or j - i >= best[1] - best[0]:
                best = (i, j)
    if best is None:
        return None
    i, j = best
    length = (j - i) * 7.0
    waiting = float(came[1][j] - went[1][j] - came[1][i] + went[1][i]) / length
    arrivals = float(came[0][j] - came[0][i]) / length
    stay = float(stays[j] - stays[i]) / float(went[0][j] - went[0][i])
    today = features.as_of.date()
    return Little(
        today - timedelta(days=float(edges[i])),
        today - timedelta(days=float(edges[j])),
        waiting,
        arrivals,
        stay,
    )


def _until(ago: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """For each edge: how many events had happened by then, and the sum of the days since them."""
    ordered = np.sort(ago)[::-1]
    count = np.searchsorted(-ordered, -edges, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    return count.astype(float), sums[count] - count * edges


def _binned(ago: Floats, edges: Floats, values: Floats) -> Floats:
    found, _ = np.histogram(-ago, bins=-edges, weights=values)
    return np.asarray(found, dtype=np.float64)
