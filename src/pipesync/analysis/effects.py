"""Did it help: shares and times of every stage before and after a dated change.

Stays that began before the change are held against those that began after it, each watched for the same number of
days, and those before only while the change had not come, so that neither side is judged on more time or on the
other's rules. The answer carries an interval, and says what makes
the comparison unfair: other opportunities than before, a trend that was there already, too few cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from pipesync.analysis.significance import MIN_CASES, kept, newcombe, two_shares
from pipesync.analysis.stages import number_stages
from pipesync.analysis.survival import kaplan_meier, log_rank, percentile
from pipesync.errors import InputError, Problem
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

MIX_LIMIT = 0.25
"""Population stability index from which a mix is another one (a usual mark in credit scoring)."""

_MIX = {"segment": "segments", "source": "sources", "owner": "owners", "size": "sizes"}
_STAYS = """
WITH sized AS (
    SELECT id, source, owner_id, ntile(4) OVER (ORDER BY amount NULLS FIRST, id)::VARCHAR AS size FROM features
)
SELECT number, date_diff('microsecond', $changed_at::TIMESTAMP, entered_at) / 86400e6 AS began,
       date_diff('microsecond', entered_at, coalesce(left_at, getvariable('as_of'))) / 86400e6 AS days,
       left_at IS NOT NULL AS ended, coalesce(exit IN ('advance', 'won'), FALSE) AS advanced,
       coalesce(v.segment, '') AS segment, coalesce(f.source, '') AS source, coalesce(f.owner_id, '') AS owner, f.size
FROM stage_visits AS v
JOIN stage_numbers AS s ON s.stage = v.stage AND s.pipeline = coalesce(v.pipeline, '')
JOIN sized AS f ON f.id = v.opportunity_id
WHERE began >= -$span::DOUBLE AND began < $span::DOUBLE
ORDER BY days
"""


@dataclass(frozen=True)
class Effect:
    """Of one stage. Shares are of stays that advanced within `watched` days; NaN without any that are old enough."""

    pipeline: str
    stage: str
    watched: float
    n_before: int
    n_after: int
    advance_before: float
    advance_after: float
    change: float
    """After less before."""
    low: float
    high: float
    """95% (Newcombe)."""
    median_before: float | None
    median_after: float | None
    """Days of a stay, by Kaplan-Meier; None where the curve does not get there."""
    p_advance: float
    p_time: float
    is_real: bool
    """One of the two stands at a false discovery rate of 10% over all stages."""
    unfair: tuple[str, ...]


def effect(
    warehouse: Warehouse, features: Features, changed_at: datetime, *, days: int = 91
) -> tuple[Effect, ...]:
    """Compare what began in the `days` before a change with what began in as many after it, per stage.

    Reads the session's `stage_visits` and `features`. Stages with fewer than 20 stays on either side are left out.
    """
    if changed_at >= features.as_of:
        raise InputError(
            Problem("the change lies after the moment that is looked at", fix="give an earlier date")
        )
    since = (features.as_of - changed_at) / timedelta(days=1)
    span = min(float(days), since)
    stages = number_stages(warehouse)
    near = warehouse.arrow(
        _STAYS, {"changed_at": changed_at.astimezone(UTC).replace(tzinfo=None), "span": span}
    )
    columns = {name: near.column(name).to_numpy() for name in near.schema.names if name not in _MIX}
    for name in _MIX:
        columns[name] = near.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
    found = []
    for i, (pipeline, stage) in enumerate(stages):
        here = columns["number"] == i
        part = {name: values[here] for name, values in columns.items()}
        after = part["began"] >= 0
        if min(int(after.sum()), int((~after).sum())) >= MIN_CASES:
            found.append(_effect(pipeline, stage, part, after, span, since))
    real = kept([min(2 * min(e.p_advance, e.p_time), 1.0) for e in found])
    return tuple(replace(e, is_real=is_real) for e, is_real in zip(found, real, strict=True))


Column = npt.NDArray[np.generic]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def _effect(
    pipeline: str, stage: str, part: Mapping[str, Column], after: Flags, span: float, since: float
) -> Effect:
    days, began = part["days"].astype(np.float64), part["began"].astype(np.float64)
    ended, advanced = part["ended"].astype(bool), part["advanced"].astype(bool)
    watched = span / 2
    # Old enough: watched in full, before the change or after it.
    ripe = np.where(after, began <= since - watched, began <= -watched)
    within = advanced & (days <= watched)
    n0, n1 = int((ripe & ~after).sum()), int((ripe & after).sum())
    k0, k1 = int((within & ripe & ~after).sum()), int((within & ripe & after).sum())
    before, now = k0 / n0 if n0 else math.nan, k1 / n1 if n1 else math.nan
    low, high = newcombe(k1, n1, k0, n0) if n0 and n1 else (math.nan, math.nan)
    limit = np.where(after, watched, np.minimum(watched, -began))
    shown, seen = np.minimum(days, limit), ended & (days <= limit)
    p_time, _ = log_rank(shown, seen, after)
    median_before, median_after = (percentile(kaplan_meier(shown[g], seen[g]), 0.5) for g in (~after, after))
    return Effect(
        pipeline=pipeline,
        stage=stage,
        watched=watched,
        n_before=n0,
        n_after=n1,
        advance_before=before,
        advance_after=now,
        change=now - before,
        low=low,
        high=high,
        median_before=None if median_before != median_before else median_before,
        median_after=None if median_after != median_after else median_after,
        p_advance=two_shares(k1, n1, k0, n0),
        p_time=p_time,
        is_real=False,
        unfair=tuple(_unfair(part, after, began, within, ripe)),
    )


def _unfair(
    part: Mapping[str, Column], after: Flags, began: Floats, within: Flags, ripe: Flags
) -> Sequence[str]:
    said = []
    for name, words in (
        ("segment", "segments"),
        ("source", "sources"),
        ("size", "sizes"),
        ("owner", "owners"),
    ):
        if is_another_mix(part[name][~after], part[name][after]):
            said.append(f"other {words} than before")
    earlier = ripe & ~after
    middle = float(np.median(began[earlier])) if earlier.any() else 0.0
    early, late = earlier & (began < middle), earlier & (began >= middle)
    if min(early.sum(), late.sum()) >= MIN_CASES:
        a, b = int(within[early].sum()), int(within[late].sum())
        if two_shares(b, int(late.sum()), a, int(early.sum())) < 0.05:
            said.append("it was changing before already")
    if min(int((ripe & after).sum()), int(earlier.sum())) < MIN_CASES:
        said.append("too few are old enough to be judged")
    return said


def is_another_mix(before: Column, after: Column) -> bool:
    """Whether the stability index is beyond the mark, and beyond what so few cases show by chance in one of 20.

    Without a change it is chi-squared times the sum of one over either count, with a degree less than there are values
    (Yurdakul & Naranjo 2020).
    """
    values = len(np.unique(np.concatenate([before, after])))
    by_chance = chdtri(max(values - 1, 1), 0.05) * (1 / max(len(before), 1) + 1 / max(len(after), 1))
    return stability(before, after) > max(MIX_LIMIT, float(by_chance))


def stability(before: Column, after: Column) -> float:
    """Return the population stability index of two mixes: the sum of (q - p) x ln(q / p) over the values.

    Each count is raised by half, so that a value that only one side has counts without being infinite.
    """
    values, codes = np.unique(np.concatenate([before, after]), return_inverse=True)
    p = np.bincount(codes[: len(before)], minlength=len(values)) + 0.5
    q = np.bincount(codes[len(before) :], minlength=len(values)) + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))
