"""The table that rules of one level are judged over: a row per owner, team, stage, product, source or pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from sqlglot import exp

from pipesync.analysis import owners
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
    "won_this_quarter_amount": "coalesce(sum(amount) FILTER (is_won AND quarters_since_closed = 0), 0)",
    "commit_count": "count(*) FILTER (is_open AND forecast_category = 'commit')",
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
    "decided_amount_365d": f"coalesce(sum(amount) FILTER ({_LAST_YEAR}), 0)",
    "called_amount_365d": f"coalesce(sum(amount) FILTER ({_LAST_YEAR} AND was_committed), 0)",
    # Steps on the way to a figure.
    "expected": "coalesce(sum(amount * stage_win_rate) FILTER (is_open AND closes_this_quarter), 0)",
    "spread": "coalesce(sqrt(sum(amount::DOUBLE ** 2 * stage_win_rate * (1 - stage_win_rate)) "
    "FILTER (is_open AND closes_this_quarter)), 0)",
}
_P20 = 0.8416
"""Standard deviations below the mean that a normal figure exceeds in four of five cases."""
_COMPANY = f"""
SELECT count(*) FILTER (is_won) / nullif(count(*), 0) AS company_win_rate_365d,
       (sum(amount) FILTER (is_won))::DOUBLE / nullif(sum(amount), 0)::DOUBLE AS company_value_rate_365d,
       median(cycle_days) FILTER (is_won) AS company_cycle_p50_365d, avg(amount) FILTER (is_won) AS average_win,
       sum(amount) FILTER (is_won) AS company_won
FROM features WHERE {_LAST_YEAR}
"""
_DERIVED = {
    "low_this_quarter_amount": f"(won_this_quarter_amount + greatest(expected - {_P20} * spread, 0))::DECIMAL(18, 2)",
    "win_rate_high_365d": "CASE WHEN won_365d + lost_365d > 0 THEN "
    "(win_rate_365d + 1.9207 / (won_365d + lost_365d) + 1.96 * sqrt(win_rate_365d * (1 - win_rate_365d) "
    "/ (won_365d + lost_365d) + 0.9604 / (won_365d + lost_365d) ** 2)) / (1 + 3.8415 / (won_365d + lost_365d)) END",
    "company_win_rate_365d": "company_win_rate_365d",
    "company_value_rate_365d": "company_value_rate_365d",
    "company_cycle_p50_365d": "company_cycle_p50_365d",
}
_OF_QUOTA = {
    "quota_gap": "greatest(quota - won_this_quarter_amount, 0)",
    "needed_open_amount": "(greatest(quota - won_this_quarter_amount, 0) / nullif(company_value_rate_365d, 0))"
    "::DECIMAL(18, 2)",
}
_MORE: dict[Level, dict[str, str]] = {
    "owner": {
        **_OF_QUOTA,
        "hygiene_score": "hygiene_score",
        "call_ratio_365d": "(won_amount_365d + 2 * average_win)::DOUBLE / "
        "nullif(called_amount_365d + 2 * average_win, 0)::DOUBLE",
        "stage_visits_365d": "coalesce(stage_visits_365d, 0)",
        "advance_gap": "advance_gap",
        "advance_gap_is_real": "coalesce(advance_gap_is_real, FALSE)",
    },
    "team": _OF_QUOTA,
    "source": {
        "leads_91d": "coalesce(leads_91d, 0)",
        "leads_365d": "coalesce(leads_365d, 0)",
        "needed_leads": "coalesce(leads_365d, 0) * (SELECT greatest(sum(amount) FILTER (owner_id IS NULL), "
        "sum(amount) FILTER (owner_id IS NOT NULL)) FROM quotas_now)::DOUBLE / nullif(company_won, 0)::DOUBLE",
    },
}
_LEADS = """
SELECT source AS subject_id, count(*) FILTER (created_at > getvariable('as_of') - INTERVAL 91 DAY) AS leads_91d,
       count(*) AS leads_365d
FROM leads
WHERE connection = getvariable('connection') AND source IS NOT NULL AND created_at <= getvariable('as_of')
  AND created_at > getvariable('as_of') - INTERVAL 365 DAY
GROUP BY source
"""
# An opportunity without an amount weighs as much as the mean of the others.
_SCORES = """
SELECT owner_id AS subject_id,
       100 * (1 - sum(least(10, coalesce(points, 0)) * weight) / sum(10 * weight)) AS hygiene_score
FROM (SELECT id, owner_id, CASE WHEN amount > 0 THEN amount::DOUBLE
             ELSE coalesce(avg(amount) FILTER (amount > 0) OVER (), 1) END AS weight FROM features WHERE is_open)
LEFT JOIN penalties USING (id)
WHERE owner_id IS NOT NULL GROUP BY owner_id
"""
_ADVANCES = ("stage_visits_365d", "advance_gap", "advance_gap_is_real")
_OF_OWNER = {
    "owner_id": "any_value(owner_id)",
    "owner_name": "any_value(owner_name)",
    "owner_active": "any_value(owner_active)",
    "team": "any_value(team)",
    "quota": "max(owner_quota)",
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
        key, base = f'"{KEYS[level]}"', "book"
        _make_book(warehouse, level, key, rules)
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


def _make_book(warehouse: Warehouse, level: Level, key: str, rules: Sequence[Rule]) -> None:
    """Make the table `book` of a level: its figures, and what follows from them and from the whole company's."""
    named = _OF_OWNER if level == "owner" else {KEYS[level]: f"any_value({key})", "owner_id": "NULL::VARCHAR"}
    if level == "team":
        named = {**named, "quota": "max(team_quota)"}
    figures = ", ".join(f'{sql} AS "{n}"' for n, sql in {**named, **_FIGURES}.items())
    beside = ""
    if level == "owner":
        warehouse.execute("CREATE TEMP TABLE IF NOT EXISTS penalties (id VARCHAR, points BIGINT)")
        warehouse.register("advances", _advances(warehouse, rules))
        beside = f"LEFT JOIN ({_SCORES}) USING (subject_id) LEFT JOIN advances USING (subject_id)"
    elif level == "source":
        beside = f"LEFT JOIN ({_LEADS}) USING (subject_id)"
    derived = ", ".join(f'{sql} AS "{n}"' for n, sql in {**_DERIVED, **_MORE.get(level, {})}.items())
    own = ", ".join(f'"{n}"' for n in ("subject_id", *named, *_FIGURES))
    warehouse.execute(
        f"CREATE OR REPLACE TEMP TABLE book AS SELECT {own}, {derived}, open_amount AS amount "
        f"FROM (SELECT {key} AS subject_id, {figures} FROM features WHERE {key} IS NOT NULL GROUP BY {key}) "
        f"{beside} CROSS JOIN ({_COMPANY})"
    )


def _advances(warehouse: Warehouse, rules: Sequence[Rule]) -> pd.DataFrame:
    """Compare owners with their peers where a rule asks for it; that takes as long as all other figures together."""
    if any(rule.fields & set(_ADVANCES) for rule in rules):
        return owners.advances(warehouse).rename(columns={"owner_id": "subject_id"})
    empty = {
        "subject_id": "str",
        "stage_visits_365d": "int64",
        "advance_gap": "float64",
        "advance_gap_is_real": "bool",
    }
    return pd.DataFrame({n: pd.Series(dtype=kind) for n, kind in empty.items()})


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
