"""The table that rules of one level are judged over: a row per owner, team, stage, product, source or pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from sqlglot import exp

from pipesync.model import Level
from pipesync.rules.compile import Compiler, column, measure, measured
from pipesync.rules.format import Rule
from pipesync.rules.levels import KEYS, LEVELS
from pipesync.store.warehouse import Warehouse

_LAST_YEAR = "is_closed AND days_since_closed < 365"
_FIGURES = {
    "n": f"count(*) FILTER (is_open OR {_LAST_YEAR})",
    "open_count": "count(*) FILTER (is_open)",
    "open_amount": "coalesce(sum(amount) FILTER (is_open), 0)",
    "largest_open_amount": "max(amount) FILTER (is_open)",
    "open_this_quarter_amount": "coalesce(sum(amount) FILTER (is_open AND closes_this_quarter), 0)",
    "commit_amount": "coalesce(sum(amount) FILTER (is_open AND forecast_category = 'commit'), 0)",
    "largest_commit_amount": "max(amount) FILTER (is_open AND forecast_category = 'commit')",
    "overdue_count": "count(*) FILTER (is_open AND days_past_due > 0)",
    "overdue_amount": "coalesce(sum(amount) FILTER (is_open AND days_past_due > 0), 0)",
    "created_90d": "count(*) FILTER (age_days < 90)",
    "created_amount_90d": "coalesce(sum(amount) FILTER (age_days < 90), 0)",
    "won_365d": f"count(*) FILTER (is_won AND {_LAST_YEAR})",
    "lost_365d": f"count(*) FILTER (NOT is_won AND {_LAST_YEAR})",
    "won_amount_365d": f"coalesce(sum(amount) FILTER (is_won AND {_LAST_YEAR}), 0)",
    "win_rate_365d": f"(count(*) FILTER (is_won AND {_LAST_YEAR})) / nullif(count(*) FILTER ({_LAST_YEAR}), 0)",
    "cycle_p50_365d": f"median(cycle_days) FILTER (is_won AND {_LAST_YEAR})",
}
_OF_OWNER = {
    "owner_id": "any_value(owner_id)",
    "owner_name": "any_value(owner_name)",
    "owner_active": "any_value(owner_active)",
    "team": "any_value(team)",
}


def table_of(
    warehouse: Warehouse, level: Level, rules: Sequence[Rule], stages: pd.DataFrame | None
) -> str | None:
    """Make the level's table in the session; return its name, or None where its figures are not there.

    Columns: those of the level, `subject_id`, `amount` (at stake), `owner_id`, and the rules' measures.
    """
    if level == "opportunity":
        return "features"
    if level == "stage":
        if stages is None:
            return None
        warehouse.register("stage_figures", _stage_rows(stages))
        key, base = "coalesce(pipeline, '') || '/' || stage", "stage_figures"
    else:
        name = KEYS[level]
        key, base = f'"{name}"', "book"
        named = _OF_OWNER if level == "owner" else {name: f'any_value("{name}")', "owner_id": "NULL::VARCHAR"}
        figures = ", ".join(f'{sql} AS "{n}"' for n, sql in {**named, **_FIGURES}.items())
        warehouse.execute(
            f"CREATE OR REPLACE TEMP TABLE book AS SELECT {key} AS subject_id, {figures}, open_amount AS amount "
            f"FROM features WHERE {key} IS NOT NULL GROUP BY {key}"
        )
    asked = [(rule, m) for rule in rules for m in rule.measures.values()]
    if not asked:
        return base
    among = exp.select(
        exp.alias_(exp.maybe_parse(key, dialect="duckdb"), "subject_id"),
        *(exp.alias_(measure(rule, m), measured(rule, m.name), quoted=True) for rule, m in asked),
    ).from_("features")
    grouped = f"{among.sql(dialect='duckdb')} WHERE {key} IS NOT NULL GROUP BY {key}"
    warehouse.execute(
        f"CREATE OR REPLACE TEMP TABLE measured_book AS SELECT * FROM {base} LEFT JOIN ({grouped}) USING (subject_id)"
    )
    return "measured_book"


def unknown_of(level: Level, unknown: frozenset[str]) -> frozenset[str]:
    """Return the level's columns that cannot be known where these features are not."""
    if level == "opportunity":
        return unknown
    columns = LEVELS[level]
    return unknown | {n for n, c in columns.items() if any(f in unknown for f in c.needs)}


def has_no_key(level: Level, unknown: frozenset[str]) -> str | None:
    """Return the feature that a level is gathered by where it is unknown: then there are no subjects to judge."""
    key = KEYS.get(level)
    return key if key in unknown else None


def scope(rule: Rule, compiler: Compiler) -> exp.Expr:
    """Return what the rule applies to; a portfolio rule to subjects that rest on enough."""
    found = compiler.condition(rule.applies_to)
    if not rule.min_n:
        return found
    return exp.and_(found, exp.GTE(this=column("n"), expression=exp.Literal.number(rule.min_n)))


def _stage_rows(stages: pd.DataFrame) -> pd.DataFrame:
    names = [n for n in LEVELS["stage"] if n in stages]
    rows = stages[names].copy()
    rows["subject_id"] = stages["pipeline"].fillna("") + "/" + stages["stage"]
    rows["n"] = stages["visits"]
    rows["amount"] = stages["wip_amount"].round(2)
    rows["owner_id"] = None
    return rows
