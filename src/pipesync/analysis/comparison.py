"""Stages now against before, or between segments: which differ by more than chance, and by enough to matter.

Reads the session's `stage_visits`. Time is compared by log-rank; advancing by the share that went on of what ended
within the time that nine tenths of the slower side's stays take, among entries that were watched for so long. Of all
stays that ended the quick ones are too many where a side is young. All stages and both measures together are held to
a false discovery rate of 10%, on at least 20 stays on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipesync.analysis.significance import MIN_CASES, MIN_EFFECT, kept, two_shares
from pipesync.analysis.stages import number_stages
from pipesync.analysis.survival import kaplan_meier, log_rank, percentile, restricted_mean
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

Measure = Literal["time", "advance"]
MIN_RATIO = 0.2
"""Mean stays have to differ by this share."""

_STAYS = """
SELECT number, {group} AS side,
       date_diff('microsecond', entered_at, least(coalesce(left_at, {until}), {until})) / 86400e6 AS days,
       coalesce(left_at <= {until}, FALSE) AS ended,
       coalesce(exit IN ('advance', 'won') AND left_at <= {until}, FALSE) AS advanced,
       date_diff('microsecond', entered_at, {until}) / 86400e6 AS watched
FROM stage_visits AS v
JOIN stage_numbers AS s ON s.stage = v.stage AND s.pipeline = coalesce(v.pipeline, '')
WHERE {among} ORDER BY days
"""


@dataclass(frozen=True)
class Difference:
    """Of one stage: side `one` against side `other`; days and shares."""

    pipeline: str
    stage: str
    measure: Measure
    one: str
    other: str
    n_one: int
    n_other: int
    value_one: float
    """Mean stay up to the longest that both sides have seen, or the share that advanced."""
    value_other: float
    median_one: float | None
    median_other: float | None
    """Only of time; None where the curve does not get there."""
    p_value: float


def with_period_before(warehouse: Warehouse, features: Features, days: int = 91) -> tuple[Difference, ...]:
    """Compare what entered each stage in the last `days` with what entered in as many before that.

    Each side is watched up to the end of its own period, so that the earlier one has no more time than the later.
    """
    turn = f"(getvariable('as_of') - INTERVAL {int(days)} DAY)"
    stays = _STAYS.format(
        group=f"CASE WHEN entered_at > {turn} THEN 'now' ELSE 'before' END",
        until=f"(CASE WHEN entered_at > {turn} THEN getvariable('as_of') ELSE {turn} END)",
        among=f"entered_at > getvariable('as_of') - INTERVAL {2 * int(days)} DAY",
    )
    return _differences(warehouse, stays, ("now", "before"))


def between_segments(warehouse: Warehouse, features: Features, days: int = 365) -> tuple[Difference, ...]:
    """Compare each segment with all the others, of what entered in the last `days`."""
    if "segment" in features.unknown:
        return ()
    stays = _STAYS.format(
        group="segment", until="getvariable('as_of')",
        among=f"segment IS NOT NULL AND entered_at > getvariable('as_of') - INTERVAL {int(days)} DAY",
    )  # fmt: skip
    return _differences(warehouse, stays, None)


def _differences(warehouse: Warehouse, stays: str, sides: tuple[str, str] | None) -> tuple[Difference, ...]:
    stages = number_stages(warehouse)
    table = warehouse.arrow(stays)
    coded = table.column("side").combine_chunks().dictionary_encode()
    code, names_of = coded.indices.to_numpy(), coded.dictionary.to_pylist()
    number = table.column("number").to_numpy()
    tested: list[Difference] = []
    for i, names in enumerate(stages):
        here = number == i
        side = code[here]
        days, ended, advanced, watched = (
            table.column(n).to_numpy()[here] for n in ("days", "ended", "advanced", "watched")
        )
        for one in [sides[0]] if sides else sorted(names_of):
            own = side == names_of.index(one) if one in names_of else np.zeros(len(side), dtype=bool)
            if min(int((ended & own).sum()), int((ended & ~own).sum())) < MIN_CASES:
                continue
            against = sides[1] if sides else "the others"
            tested += _both(names, one, against, days, ended, advanced, watched, own)
    real = kept([d.p_value for d in tested])
    return tuple(d for d, is_real in zip(tested, real, strict=True) if is_real and _matters(d))


Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


def _both(
    names: tuple[str, str], one: str, other: str, days: np.ndarray[tuple[int], np.dtype[np.float64]],
    ended: Bools, advanced: Bools, watched: np.ndarray[tuple[int], np.dtype[np.float64]], own: Bools,
) -> list[Difference]:  # fmt: skip
    curves = [kaplan_meier(days[g], ended[g]) for g in (own, ~own)]
    until = min(c.last for c in curves)
    medians = [None if (m := percentile(c, 0.5)) != m else m for c in curves]
    found = [
        Difference(*names, "time", one, other, int(own.sum()), int((~own).sum()), restricted_mean(curves[0], until),
                   restricted_mean(curves[1], until), medians[0], medians[1], log_rank(days, ended, own)[0]),
    ]  # fmt: skip
    span = np.max(
        [percentile(c, 0.9) for c in curves]
    )  # NaN, and nothing is ripe, where a curve does not get there
    ripe = (watched >= span) & ended & (days <= span)
    within = advanced & ripe
    n = (int((ripe & own).sum()), int((ripe & ~own).sum()))
    k = (int((within & own).sum()), int((within & ~own).sum()))
    if min(n) >= MIN_CASES:
        found.append(
            Difference(*names, "advance", one, other, *n, k[0] / n[0], k[1] / n[1], None, None,
                       two_shares(k[0], n[0], k[1], n[1]))
        )  # fmt: skip
    return found


def _matters(found: Difference) -> bool:
    gap = abs(found.value_one - found.value_other)
    return gap >= MIN_EFFECT if found.measure == "advance" else gap > MIN_RATIO * found.value_other
