"""Every stage of every pipeline: how many passed and wait, how long, and where they went next.

Reads `stage_visits` and `features` as `features.compute` left them in the warehouse's session. All times are days,
all money is in the home currency.
"""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pandas as pd
from scipy.special import betainc

from pipesync.analysis.significance import MIN_CASES, MIN_EFFECT, kept, wilson
from pipesync.analysis.survival import (
    Bools,
    Floats,
    Ints,
    kaplan_meier,
    log_rank,
    percentile,
    restricted_mean,
)
from pipesync.config import Calendar
from pipesync.store.warehouse import Warehouse

RATE_WEEKS = 8
"""Weeks before `as_of` that arrivals and exits are averaged over."""
DROP_DISCOVERY = 0.05
"""Share of the drops named that may be chance."""

_PASSED = """
SELECT
    coalesce(v.pipeline, '') AS pipeline, v.stage,
    any_value(v.stage_order) AS stage_order,
    count(*) AS visits,
    count(*) FILTER (left_at IS NULL) AS wip,
    count(*) FILTER (left_at IS NOT NULL) AS ended,
    count(*) FILTER (exit IN ('advance', 'won')) AS advanced,
    count(*) FILTER (exit = 'backward') AS went_back,
    count(*) FILTER (exit = 'won') AS won,
    count(*) FILTER (exit = 'lost') AS lost,
    count(*) FILTER (left_at > {recent}) AS recent_ended,
    count(*) FILTER (left_at > {recent} AND exit IN ('advance', 'won')) AS recent_advanced,
    count(*) FILTER (left_at <= {recent} AND left_at > {recent} - INTERVAL 365 DAY) AS earlier_ended,
    count(*) FILTER (left_at <= {recent} AND left_at > {recent} - INTERVAL 365 DAY AND exit IN ('advance', 'won'))
        AS earlier_advanced,
    count(DISTINCT v.opportunity_id) FILTER (f.is_closed) AS decided,
    count(DISTINCT v.opportunity_id) FILTER (f.is_won) AS decided_won,
    avg(f.amount)::DOUBLE AS mean_amount,
    coalesce(sum(f.amount) FILTER (left_at IS NULL), 0)::DOUBLE AS wip_amount
FROM stage_visits AS v JOIN features AS f ON f.id = v.opportunity_id
GROUP BY ALL
ORDER BY pipeline, stage_order NULLS LAST, v.stage
""".replace("{recent}", "getvariable('as_of') - INTERVAL 91 DAY")
_WEEKS = """
SELECT coalesce(pipeline, '') AS pipeline, stage, week, sum(arrived) AS arrived, sum(departed) AS departed FROM (
    SELECT pipeline, stage, date_diff('second', entered_at, getvariable('as_of')) // 604800 AS week,
           1 AS arrived, 0 AS departed FROM stage_visits
    UNION ALL
    SELECT pipeline, stage, date_diff('second', left_at, getvariable('as_of')) // 604800, 0, 1
    FROM stage_visits WHERE left_at IS NOT NULL
) WHERE week < 26 GROUP BY ALL
"""
_NUMBERED = """
CREATE OR REPLACE TEMP TABLE stage_numbers AS
SELECT coalesce(pipeline, '') AS pipeline, stage,
       row_number() OVER (ORDER BY coalesce(pipeline, ''), any_value(stage_order) NULLS LAST, stage) - 1 AS number
FROM stage_visits GROUP BY coalesce(pipeline, ''), stage
"""
# In the order of their length, so that no curve has to sort millions again.
_DWELL = """
SELECT number, date_diff('microsecond', entered_at, coalesce(left_at, getvariable('as_of'))) / 86400e6 AS days,
       left_at IS NOT NULL AS ended
FROM stage_visits AS v
JOIN stage_numbers AS s ON s.stage = v.stage AND s.pipeline = coalesce(v.pipeline, '')
ORDER BY days
"""


def number_stages(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Return (pipeline, stage) of everything visited, in order, and leave their numbers as table `stage_numbers`.

    Millions of visits come out of the warehouse several times faster with a number than with two names.
    """
    warehouse.execute(_NUMBERED)
    return warehouse.rows("SELECT pipeline, stage FROM stage_numbers ORDER BY number")


def analyse(warehouse: Warehouse, connection: str, as_of: datetime, calendar: Calendar) -> pd.DataFrame:
    """Return one row per pipeline and stage that was ever visited, in the order of the pipeline.

    pipeline, stage, stage_order; visits, wip (there now), ended, advanced (won ones included), went_back, won, lost;
    arrivals_per_week, exits_per_week (last 8 weeks), queue_ratio, growing_weeks (how many weeks in a row, up to now,
    more came than went); median_days, p75_days, p90_days (Kaplan-Meier, visits that last are censored; NaN where the
    curve does not get there), mean_days (restricted to the longest time seen); advance, backward (shares of ended
    visits) with advance_low, advance_high (Wilson, 95%); win_rate of the decided ones that passed, with win_low,
    win_high, mean_amount, wip_amount; recent_ended, recent_advance (of the last 91 days), earlier_ended,
    earlier_advance (of the year before), drop_is_real (see `_add_drop`); benchmark_days (median of the pipeline's
    other stages, weighted by visits), excess_days, p_value (log-rank against the pipeline's other stages),
    held_amount and time_rank (see `bottlenecks`).
    """
    table = warehouse.frame(_PASSED)
    keys = number_stages(warehouse)
    dwell = warehouse.arrow(_DWELL)
    number, days, ended = (dwell.column(n).to_numpy() for n in ("number", "days", "ended"))
    curves = {k: kaplan_meier(days[number == i], ended[number == i]) for i, k in enumerate(keys)}
    for name, share in (("median_days", 0.5), ("p75_days", 0.75), ("p90_days", 0.9)):
        table[name] = [percentile(curves[k], share) for k in keys]
    table["mean_days"] = [restricted_mean(curves[k]) for k in keys]
    left = table["ended"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["advance"] = table["advanced"].to_numpy(float) / left
        table["backward"] = table["went_back"].to_numpy(float) / left
        table["win_rate"] = table["decided_won"].to_numpy(float) / table["decided"].to_numpy(float)
    bounds = [wilson(a, n) for a, n in zip(table["advanced"], table["ended"], strict=True)]
    wins = [wilson(w, n) for w, n in zip(table["decided_won"], table["decided"], strict=True)]
    table["win_low"], table["win_high"] = [low for low, _ in wins], [high for _, high in wins]
    table["advance_low"] = [low for low, _ in bounds]
    table["advance_high"] = [high for _, high in bounds]
    _add_drop(table)
    _add_flow(table, warehouse.frame(_WEEKS), keys)
    _add_benchmark(table, number, days, ended)
    return table.drop(columns=["decided", "decided_won"])


def _add_drop(table: pd.DataFrame) -> None:
    """Say where the share that goes on has fallen by MIN_EFFECT, of the last quarter against the year before.

    The chance that it has not is that of a Beta posterior (uniform prior) beyond the earlier share less the effect; it
    is held against a false discovery rate over all stages with enough visits on both sides.
    """
    n, k = table["recent_ended"].to_numpy(float), table.pop("recent_advanced").to_numpy(float)
    before, went_on = table["earlier_ended"].to_numpy(float), table.pop("earlier_advanced").to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["recent_advance"], table["earlier_advance"] = k / n, went_on / before
        limit = np.nan_to_num(went_on / before) - MIN_EFFECT
    enough = (n >= MIN_CASES) & (before >= MIN_CASES)
    chance = np.where(enough, 1 - betainc(k + 1, n - k + 1, np.clip(limit, 0.0, 1.0)), 1.0)
    table["drop_is_real"] = kept(chance.tolist(), DROP_DISCOVERY)


def _add_flow(table: pd.DataFrame, weeks: pd.DataFrame, keys: list[tuple[str, str]]) -> None:
    flow = {
        (pipeline, stage, int(week)): (int(arrived), int(departed))
        for pipeline, stage, week, arrived, departed in weeks.itertuples(index=False)
    }

    def of(key: tuple[str, str], week: int) -> tuple[int, int]:
        return flow.get((*key, week), (0, 0))

    def growing(key: tuple[str, str]) -> int:
        return next((w for w in range(26) if of(key, w)[0] <= of(key, w)[1]), 26)

    came = [sum(of(k, w)[0] for w in range(RATE_WEEKS)) for k in keys]
    went = [sum(of(k, w)[1] for w in range(RATE_WEEKS)) for k in keys]
    table["arrivals_per_week"] = np.array(came) / RATE_WEEKS
    table["exits_per_week"] = np.array(went) / RATE_WEEKS
    table["queue_ratio"] = [a / d if d else math.nan for a, d in zip(came, went, strict=True)]
    table["growing_weeks"] = [growing(k) for k in keys]


def _add_benchmark(table: pd.DataFrame, number: Ints, days: Floats, ended: Bools) -> None:
    medians = table["median_days"].fillna(table["mean_days"]).to_numpy(float)
    visits = table["visits"].to_numpy(float)
    same = table["pipeline"].to_numpy()
    benchmark, p_values = [], []
    for i, pipeline in enumerate(table["pipeline"]):
        here = same == pipeline
        others = np.flatnonzero(here & (np.arange(len(table)) != i))
        benchmark.append(_weighted_median(medians[others], visits[others]))
        inside = here[number]
        p, surplus = log_rank(days[inside], ended[inside], number[inside] == i)
        p_values.append(p if surplus < 0 else 1.0)
    table["benchmark_days"] = benchmark
    table["excess_days"] = np.maximum(medians - np.nan_to_num(np.array(benchmark), nan=math.inf), 0.0)
    table["p_value"] = p_values
    rate = table["exits_per_week"].to_numpy(float) / 7
    worth = np.nan_to_num(table["mean_amount"].to_numpy(float) * table["win_rate"].to_numpy(float))
    table["held_amount"] = rate * table["excess_days"].to_numpy(float) * worth
    table["time_rank"] = table["held_amount"].rank(method="first", ascending=False).astype(int)


def _weighted_median(values: Floats, weights: Floats) -> float:
    if not len(values):
        return math.nan
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])
