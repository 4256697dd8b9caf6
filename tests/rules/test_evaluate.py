"""Conditions as SQL say what Kleene's logic says; findings carry what people need; their life goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipesync import rules
from pipesync.analysis import stages
from pipesync.config import Calendar
from pipesync.features import Features, compute
from pipesync.model import Finding
from pipesync.rules.conditions import All, AnyOf, Condition, Leaf, Not
from pipesync.rules.evaluate import Evaluation, judge
from pipesync.rules.lifecycle import advance, in_force
from pipesync.sandbox.company import generate
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, tzinfo=UTC)
RULES = rules.load()
RULE = RULES["hygiene.close_date_past"]
Build = Callable[..., Warehouse]

LEAVES = st.builds(
    Leaf,
    st.sampled_from(["push_count", "amount_changes", "stage_order"]),
    st.just("integer"),
    st.sampled_from(["gt", "gte", "lt", "lte", "eq", "ne", "missing"]),
    st.integers(0, 3),
    st.booleans(),
)
TREES: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda p: All(tuple(p))),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: AnyOf(tuple(p))),
        inner.map(Not),
    ),
    max_leaves=8,
)
ROWS = st.fixed_dictionaries(
    {n: st.none() | st.integers(0, 3) for n in ("push_count", "amount_changes", "stage_order")}
)


def kleene(condition: Condition, row: dict[str, int | None], unknown: set[str]) -> bool | None:
    """The logic of DESIGN.md, written out."""
    if isinstance(condition, Not):
        inner = kleene(condition.part, row, unknown)
        return None if inner is None else not inner
    if isinstance(condition, All | AnyOf):
        said = [kleene(p, row, unknown) for p in condition.parts]
        decisive = isinstance(condition, AnyOf)
        return decisive if decisive in said else (None if None in said else not decisive)
    if condition.field in unknown:
        return None
    value, limit = row[condition.field], condition.value
    assert isinstance(limit, int)
    if condition.operator == "missing":
        return (value is None) == bool(limit)
    if value is None:
        return condition.or_missing
    return {
        "gt": value > limit, "gte": value >= limit, "lt": value < limit, "lte": value <= limit,
        "eq": value == limit, "ne": value != limit,
    }[condition.operator]  # fmt: skip


@pytest.fixture(scope="module")
def session() -> Warehouse:
    warehouse = Warehouse()
    warehouse.execute(
        "CREATE TEMP TABLE features AS SELECT 'o' AS id, 0::BIGINT AS push_count, 0::BIGINT AS amount_changes, "
        "0::BIGINT AS stage_order"
    )
    return warehouse


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, row=ROWS, unknown=st.sets(st.sampled_from(["push_count", "stage_order"])))
def test_sql_says_what_kleenes_logic_says(
    session: Warehouse, tree: Condition, row: dict[str, int | None], unknown: set[str]
) -> None:
    """Blank compares as false, unknown as unknown; fires, clear and unknown follow."""
    session.execute(
        "UPDATE features SET push_count = ?, amount_changes = ?, stage_order = ?",
        [row[n] for n in ("push_count", "amount_changes", "stage_order")],
    )

    judge(session, [replace(RULE, applies_to=All(()), when=tree, ladder=())], "features", frozenset(unknown))

    assert session.rows("SELECT v0 FROM judged") == [(kleene(tree, row, unknown),)]


def test_what_was_planted_is_what_is_found(tmp_path: Path, pulled_company: Warehouse) -> None:
    """Rule by rule, on the made-up company; what a stronger rule says is not said twice."""
    planted = generate(tmp_path, opportunities=600)
    features = compute(pulled_company, "crm", planted.as_of, Calendar())
    table = stages.analyse(pulled_company, "crm", planted.as_of, Calendar())

    found = rules.evaluate(pulled_company, features, RULES, stages=table)

    by_rule: dict[str, set[str]] = {}
    for finding in found.findings:
        by_rule.setdefault(finding.rule, set()).add(finding.subject_id)
    for rule, subjects in planted.rules.items():
        if rule == "hygiene.duplicate_open":  # both are planted, the later one is named
            assert by_rule[rule] < set(subjects)
        elif rule == "bottleneck.stuck_in_stage":  # a few others may be as slow by chance
            assert by_rule[rule] >= set(subjects)
        else:
            assert by_rule[rule] == set(subjects), rule
    assert 0 < found.score < 100
    assert {r.unknown for r in found.rules} == {0}


def test_a_finding_tells_what_where_and_why(pulled_company: Warehouse) -> None:
    """Its text has dates and no ages, its evidence the values that decided."""
    as_of = pulled_company.watermark("crm")
    assert as_of
    features = compute(pulled_company, "crm", as_of, Calendar())

    found = rules.evaluate(pulled_company, features, RULES.only(["hygiene.stale_commit"]))

    finding = found.findings[0]
    assert "is in Commit for" in finding.message
    assert "EUR" in finding.message
    assert finding.headline.startswith("Confirm or downgrade: ")
    assert finding.evidence[0].field == "business_days_since_last_activity"
    assert int(finding.evidence[0].value or 0) >= 10
    assert [e.test for e in finding.evidence if e.field == "next_activity_at"] == ["not within_next 7d"]
    assert finding.first_seen == as_of


def test_the_same_evaluation_a_day_later_says_the_same_words(pulled_company: Warehouse) -> None:
    """So that an unchanged fact changes no task."""
    as_of = pulled_company.watermark("crm")
    assert as_of
    said = []
    for moment in (as_of, as_of + timedelta(days=1)):
        features = compute(pulled_company, "crm", moment, Calendar())
        found = rules.evaluate(pulled_company, features, RULES)
        said.append({(f.rule, f.subject_id): f.message for f in found.findings if f.level == "opportunity"})

    both = said[0].keys() & said[1].keys()
    assert len(both) > 20
    assert {k: said[0][k] for k in both} == {k: said[1][k] for k in both}


def test_portfolio_rules_judge_stages(pulled_company: Warehouse) -> None:
    """One stage is the bottleneck."""
    as_of = pulled_company.watermark("crm")
    assert as_of
    features = compute(pulled_company, "crm", as_of, Calendar())
    table = stages.analyse(pulled_company, "crm", as_of, Calendar())

    found = rules.evaluate(
        pulled_company, features, RULES.only(["bottleneck.stage_bottleneck"]), stages=table
    )

    assert [f.level for f in found.findings] == ["stage"]
    assert "other stages" in found.findings[0].message


def test_no_opportunities_no_findings_and_a_full_score(build: Build) -> None:
    """An empty pipeline is a clean one."""
    warehouse = build(opportunities=[], stages=[])
    features = compute(warehouse, "crm", NOW, Calendar())

    found = rules.evaluate(warehouse, features, RULES)

    assert (found.findings, found.score, found.open) == ((), 100.0, 0)
    assert {(r.fired, r.clear, r.unknown) for r in found.rules} == {(0, 0, 0)}


# --- The life of a finding --------------------------------------------------------------------------------------------


def finding(**values: Any) -> Finding:
    given = {
        "connection": "crm", "rule": RULE.id, "subject_id": "o", "severity": "medium", "message": "m",
        "amount": Decimal(5), "first_seen": NOW,
    }  # fmt: skip
    return Finding(**{**given, **values})


def evaluation(
    day: int, *findings: Finding, unknown: frozenset[Any] = frozenset(), ran: bool = True
) -> Evaluation:
    result = rules.RuleResult(RULE.id, "", "stable", "medium", "opportunity", len(findings), 0, 0)
    as_of = NOW + timedelta(days=day)
    return Evaluation("crm", as_of, (result,) if ran else (), tuple(findings), 100.0, 10, unknown)


def test_a_finding_opens_stays_and_is_resolved() -> None:
    """With the moment at which its episode began."""
    opened = advance((), evaluation(0, finding()), [RULE])
    stayed = advance(opened, evaluation(1, finding()), [RULE])
    ended = advance(stayed, evaluation(2), [RULE])

    assert [s[0].status for s in (opened, stayed, ended)] == ["open", "open", "resolved"]
    assert stayed[0].first_seen == NOW
    assert (stayed[0].runs, ended[0].resolved_at) == (2, NOW + timedelta(days=2))


def test_what_could_not_be_judged_stays_as_it_was() -> None:
    """Neither an unknown verdict nor a rule that did not run resolves anything."""
    opened = advance((), evaluation(0, finding()), [RULE])

    unknown = advance(opened, evaluation(1, unknown=frozenset({(RULE.id, "opportunity", "o")})), [RULE])
    skipped = advance(opened, evaluation(1, ran=False), [RULE])

    assert unknown == skipped == opened


def test_a_rule_may_ask_for_several_runs() -> None:
    """To open, and to be resolved; what is pending is not in force."""
    slow = replace(RULE, runs=2, clean_runs=2)
    first = evaluation(0, finding())
    pending = advance((), first, [slow])
    opened = advance(pending, evaluation(1, finding()), [slow])
    clean = advance(opened, evaluation(2), [slow])
    ended = advance(clean, evaluation(3), [slow])

    assert [s[0].status for s in (pending, opened, clean, ended)] == ["pending", "open", "open", "resolved"]
    assert in_force(first, pending) == ()


def test_what_comes_back_too_soon_waits_for_one_more_run() -> None:
    """What goes to and fro opens once; after the cooldown it opens at once again."""
    opened = advance((), evaluation(0, finding()), [RULE])
    lives = [opened]
    for day in range(1, 7):
        back = finding(first_seen=NOW + timedelta(days=day), episode=2)
        lives.append(advance(lives[-1], evaluation(day, *([back] if day % 2 == 0 else [])), [RULE]))
    late = advance(lives[-2], evaluation(20, finding(first_seen=NOW + timedelta(days=20))), [RULE])

    said = [life[0].status for life in lives]
    assert said == ["open", "resolved", "pending", "resolved", "pending", "resolved", "pending"]
    assert late[0].status == "open"


def test_a_return_that_lasts_opens() -> None:
    """In its second run, with the moment at which it came back."""
    ended = advance(advance((), evaluation(0, finding()), [RULE]), evaluation(1), [RULE])
    back = finding(first_seen=NOW + timedelta(days=2), episode=2)
    waiting = advance(ended, evaluation(2, back), [RULE])
    again = advance(waiting, evaluation(3, back), [RULE])

    assert (waiting[0].status, again[0].status) == ("pending", "open")
    assert (again[0].first_seen, again[0].resolved_at) == (NOW + timedelta(days=2), None)


def test_what_people_silenced_is_suppressed_and_speaks_again_afterwards() -> None:
    """In the same episode."""
    opened = advance((), evaluation(0, finding()), [RULE])
    silenced = advance(opened, evaluation(1, finding()), [RULE], suppressed=lambda f: f.rule == RULE.id)
    again = advance(silenced, evaluation(2, finding()), [RULE])
    mended = advance(silenced, evaluation(2), [RULE])

    assert [s[0].status for s in (silenced, again, mended)] == ["suppressed", "open", "resolved"]
    assert again[0].first_seen == NOW


def test_what_ended_without_being_mended_expires(build: Build) -> None:
    """Its opportunity was closed or is gone, or its rule runs no more; leaving the scope otherwise is a mend."""
    commits = replace(
        RULE,
        applies_to=All(
            (Leaf("is_open", "flag", "eq", True), Leaf("forecast_category", "category", "eq", "commit"))
        ),
    )
    due = {"created_at": NOW - timedelta(days=90), "close_date": NOW.date() - timedelta(days=9)}
    rows = [{"id": i, "forecast_category": "commit", "is_closed": False, **due} for i in ("a", "b", "c", "d")]
    first = build(opportunities=rows)
    opened = advance((), rules.evaluate(first, compute(first, "crm", NOW, Calendar()), [commits]), [commits])
    later = NOW + timedelta(days=1)
    closed = {**rows[0], "is_closed": True, "closed_at": NOW}
    second = build(opportunities=[closed, {**rows[1], "forecast_category": "best_case"}, rows[3]])
    found = rules.evaluate(second, compute(second, "crm", later, Calendar()), [commits], standing=opened)

    after = advance(opened, found, [commits])
    retired = advance(opened, evaluation(1, ran=False), [], retired={commits.id})

    assert {s.subject_id: s.status for s in opened} == dict.fromkeys("abcd", "open")
    assert {s.subject_id: s.status for s in after} == {
        "a": "expired",
        "b": "resolved",
        "c": "expired",
        "d": "open",
    }
    assert {s.status for s in retired} == {"expired"}


def test_coming_back_is_a_new_episode(build: Build) -> None:
    """With a first_seen of its own."""
    warehouse = build(
        opportunities=[
            {"id": "o", "created_at": NOW - timedelta(days=9), "close_date": NOW.date() - timedelta(days=3)}
        ]
    )
    features = compute(warehouse, "crm", NOW, Calendar())
    only = RULES.only([RULE.id])
    opened = advance((), rules.evaluate(warehouse, features, only), only)
    ended = advance(opened, evaluation(1), only)

    again = rules.evaluate(
        warehouse, Features("crm", NOW + timedelta(days=2), features.unknown), only, standing=ended
    )

    assert [(f.episode, f.first_seen) for f in again.findings] == [(2, NOW + timedelta(days=2))]
