"""What a rule may ask for on each level: an opportunity's features, a stage's figures, or a book of opportunities.

A book is what an owner, a team, a product, a source or a pipeline has. On these levels `needs` names the features that
a column is made of, where any; a column of which one is unknown is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
    Column("recent_ended", "integer", "Visits that ended in the last 91 days"),
    Column("recent_advance", "number", "Share of those that went on", "share"),
    Column("earlier_ended", "integer", "Visits that ended in the year before"),
    Column("earlier_advance", "number", "Share of those that went on", "share"),
    Column(
        "drop_is_real",
        "flag",
        "The share fell by five points or more, at a false discovery rate of 5% over all stages",
    ),
    Column("win_rate", "number", "Share won of the decided ones that passed", "share"),
)
_BOOK = (
    Column("n", "integer", _N),
    Column("open_count", "integer", "Open opportunities"),
    Column("open_amount", "money", "Their amount", _HOME, ("amount",)),
    Column("largest_open_amount", "money", "The largest of them", _HOME, ("amount",)),
    Column("open_this_quarter_amount", "money", "Open ones that close in this fiscal quarter", _HOME,
           ("amount", "close_date")),
    Column("won_this_quarter_amount", "money", "Amount won in this fiscal quarter", _HOME, ("amount", *_DECIDED)),
    Column("low_this_quarter_amount", "money",
           "What the quarter brings at least in four of five cases: won, and of the open ones that close in it their "
           "stages' share of wins", _HOME, ("amount", "close_date", "stage_win_rate", *_DECIDED)),
    Column("commit_count", "integer", "Open ones in Commit", needs=("forecast_category",)),
    Column("commit_amount", "money", "Their amount", _HOME, ("amount", "forecast_category")),
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
    Column("win_rate_high_365d", "number", "Upper end of that share's 95% interval (Wilson)", "share", _DECIDED),
    Column("company_win_rate_365d", "number", "The same share of the whole company", "share", _DECIDED),
    Column("company_value_rate_365d", "number", "Share won of the amount decided in the last four quarters, of the "
           "whole company", "share", ("amount", *_DECIDED)),
    Column("cycle_p50_365d", "days", "Median time from creation to won, of the wins of the last four quarters",
           "days", ("created_at", *_DECIDED)),
    Column("company_cycle_p50_365d", "days", "The same of the whole company", "days", ("created_at", *_DECIDED)),
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
_QUOTA = (
    Column("quota", "money", "Quota of the present fiscal quarter", _HOME, ("owner_quota",)),
    Column("quota_gap", "money", "What it lacks of that, at least 0", _HOME, ("owner_quota", "amount", *_DECIDED)),
    Column("needed_open_amount", "money", "Open amount that would close the gap at the company's own share of wins",
           _HOME, ("owner_quota", "amount", *_DECIDED)),
)  # fmt: skip
_MORE: dict[Level, tuple[Column, ...]] = {
    "owner": (
        *_QUOTA,
        Column("hygiene_score", "number", "100 less what findings take off the open ones, weighted by amount"),
        Column("decided_amount_365d", "money", "Amount decided in the last four quarters", _HOME,
               ("amount", *_DECIDED)),
        Column("called_amount_365d", "money", "Of that, what was in Commit at some time", _HOME,
               ("amount", "was_committed", *_DECIDED)),
        Column("call_ratio_365d", "number", "Amount won over amount called, in the last four quarters; both with two "
               "of the company's average wins added, so that few cases say little", "times",
               ("amount", "was_committed", *_DECIDED)),
        Column("stage_visits_365d", "integer", "Stays in a stage that ended in the last year",
               needs=("stage_entered_at",)),
        Column("advance_gap", "number", "Share of them that went on, less that of peers with similar opportunities",
               "share", ("stage_entered_at",)),
        Column("advance_gap_is_real", "flag", "At a false discovery rate of 10% over all owners",
               needs=("stage_entered_at",)),
    ),
    "team": tuple(replace(c, needs=tuple(n.replace("owner_quota", "team_quota") for n in c.needs)) for c in _QUOTA),
    "source": (
        Column("leads_91d", "integer", "Leads of the last 91 days", needs=("lead_created_at",)),
        Column("leads_365d", "integer", "Leads of the last year", needs=("lead_created_at",)),
        Column("needed_leads", "number", "Leads that a quarter's quota would take: those of the year, times the "
               "company's quota over what it won in that year",
               needs=("lead_created_at", "owner_quota", "amount", *_DECIDED)),
    ),
}  # fmt: skip
"""What only some levels have."""


def _by_name(*columns: Column) -> dict[str, Column]:
    return {c.name: c for c in columns}


LEVELS: dict[Level, Mapping[str, Column]] = {
    "opportunity": COLUMNS,
    "stage": _by_name(*_STAGE),
    **{level: _by_name(*names, *_BOOK, *_MORE.get(level, ())) for level, names in _NAMES.items()},
}
"""Levels that rules may have."""

KEYS: dict[Level, str] = {
    "owner": "owner_id", "team": "team", "product": "product", "source": "source", "pipeline": "pipeline",
}  # fmt: skip
"""The feature by which a level's opportunities are gathered; stages are gathered by pipeline and stage."""
