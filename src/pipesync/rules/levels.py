"""What a rule may ask for on each level: an opportunity's features, a stage's figures, or a book of opportunities.

A book is what an owner, a team, a product, a source or a pipeline has. On these levels `needs` names the features that
a column is made of, where any; a column of which one is unknown is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipesync.features.columns import COLUMNS, Column
from pipesync.model import Level

_HOME = "home currency"
_N = "Opportunities that the figures rest on: open ones, and those closed in the last four quarters"
_DECIDED = ("closed_at",)

_STAGE = (
    Column("pipeline", "category", "Pipeline"),
    Column("stage", "category", "Stage"),
    Column("stage_order", "integer", "Position in the pipeline, from 1"),
    Column("n", "integer", "Visits that the figures rest on"),
    Column("visits", "integer", "Visits so far"),
    Column("wip", "integer", "Opportunities that are in it now"),
    Column("wip_amount", "money", "Their amount", _HOME),
    Column("arrivals_per_week", "number", "Arrivals a week, over the last 8 weeks"),
    Column("exits_per_week", "number", "Exits a week, over the last 8 weeks"),
    Column("queue_ratio", "number", "Arrivals over exits of the last 8 weeks"),
    Column("growing_weeks", "integer", "Weeks in a row, up to now, in which more came than went"),
    Column("median_days", "days", "Half of the visits are shorter", "days"),
    Column("p90_days", "days", "Nine tenths of the visits are shorter", "days"),
    Column("benchmark_days", "days", "Median of the pipeline's other stages", "days"),
    Column("excess_days", "days", "Median beyond the benchmark", "days"),
    Column("p_value", "number", "Chance of so slow a stage by luck alone (log-rank)"),
    Column("held_amount", "money", "Expected wins that wait beyond the benchmark", _HOME),
    Column("time_rank", "integer", "Place among all stages by held_amount"),
    Column("advance", "number", "Share of ended visits that went on", "share"),
    Column("backward", "number", "Share of ended visits that went back", "share"),
    Column("win_rate", "number", "Share won of the decided ones that passed", "share"),
)
_BOOK = (
    Column("n", "integer", _N),
    Column("open_count", "integer", "Open opportunities"),
    Column("open_amount", "money", "Their amount", _HOME, ("amount",)),
    Column("largest_open_amount", "money", "The largest of them", _HOME, ("amount",)),
    Column("open_this_quarter_amount", "money", "Open ones that close in this fiscal quarter", _HOME,
           ("amount", "close_date")),
    Column("commit_amount", "money", "Open ones in Commit", _HOME, ("amount", "forecast_category")),
    Column("largest_commit_amount", "money", "The largest open one in Commit", _HOME,
           ("amount", "forecast_category")),
    Column("overdue_count", "integer", "Open ones whose close date is past", needs=("close_date",)),
    Column("overdue_amount", "money", "Their amount", _HOME, ("amount", "close_date")),
    Column("created_90d", "integer", "Created in the last 90 days", needs=("created_at",)),
    Column("created_amount_90d", "money", "Their amount now", _HOME, ("amount", "created_at")),
    Column("won_365d", "integer", "Won in the last four quarters", needs=_DECIDED),
    Column("lost_365d", "integer", "Lost in the last four quarters", needs=_DECIDED),
    Column("won_amount_365d", "money", "Amount won in the last four quarters", _HOME, ("amount", *_DECIDED)),
    Column("win_rate_365d", "number", "Share won of those decided in the last four quarters", "share", _DECIDED),
    Column("cycle_p50_365d", "days", "Median time from creation to won, of the wins of the last four quarters",
           "days", ("created_at", *_DECIDED)),
)  # fmt: skip
_NAMES: dict[Level, tuple[Column, ...]] = {
    "owner": (
        Column("owner_id", "text", "Owner"),
        Column("owner_name", "text", "Name of the owner"),
        Column("owner_active", "flag", "The owner can sign in"),
        Column("team", "category", "Team of the owner"),
    ),
    "team": (Column("team", "category", "Team"),),
    "product": (Column("product", "category", "Product"),),
    "source": (Column("source", "category", "Source"),),
    "pipeline": (Column("pipeline", "category", "Pipeline"),),
}


def _by_name(*columns: Column) -> dict[str, Column]:
    return {c.name: c for c in columns}


LEVELS: dict[Level, Mapping[str, Column]] = {
    "opportunity": COLUMNS,
    "stage": _by_name(*_STAGE),
    **{level: _by_name(*names, *_BOOK) for level, names in _NAMES.items()},
}
"""Levels that rules may have."""

KEYS: dict[Level, str] = {
    "owner": "owner_id", "team": "team", "product": "product", "source": "source", "pipeline": "pipeline",
}  # fmt: skip
"""The feature by which a level's opportunities are gathered; stages are gathered by pipeline and stage."""
