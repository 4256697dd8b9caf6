"""What a rule may ask for on each level: an opportunity's features, or a stage's figures."""

from __future__ import annotations

from collections.abc import Mapping

from pipesync.features.columns import COLUMNS, Column
from pipesync.model import Level

_STAGE = (
    Column("pipeline", "category", "Pipeline"),
    Column("stage", "category", "Stage"),
    Column("stage_order", "integer", "Position in the pipeline, from 1"),
    Column("visits", "integer", "Visits so far"),
    Column("wip", "integer", "Opportunities that are in it now"),
    Column("wip_amount", "money", "Their amount", "home currency"),
    Column("arrivals_per_week", "number", "Arrivals a week, over the last 8 weeks"),
    Column("exits_per_week", "number", "Exits a week, over the last 8 weeks"),
    Column("queue_ratio", "number", "Arrivals over exits of the last 8 weeks"),
    Column("growing_weeks", "integer", "Weeks in a row, up to now, in which more came than went"),
    Column("median_days", "days", "Half of the visits are shorter", "days"),
    Column("p90_days", "days", "Nine tenths of the visits are shorter", "days"),
    Column("benchmark_days", "days", "Median of the pipeline's other stages", "days"),
    Column("excess_days", "days", "Median beyond the benchmark", "days"),
    Column("p_value", "number", "Chance of so slow a stage by luck alone (log-rank)"),
    Column("held_amount", "money", "Expected wins that wait beyond the benchmark", "home currency"),
    Column("time_rank", "integer", "Place among all stages by held_amount"),
    Column("advance", "number", "Share of ended visits that went on", "share"),
    Column("backward", "number", "Share of ended visits that went back", "share"),
    Column("win_rate", "number", "Share won of the decided ones that passed", "share"),
)

STAGE_COLUMNS: dict[str, Column] = {c.name: c for c in _STAGE}
LEVELS: dict[Level, Mapping[str, Column]] = {"opportunity": COLUMNS, "stage": STAGE_COLUMNS}
"""Levels that rules may have."""
