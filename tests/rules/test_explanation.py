"""The tree of a verdict: every condition with its value, whichever way it went."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipesync import rules
from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.model import Finding
from pipesync.rules.explanation import Node, explain
from pipesync.rules.format import read_rule
from pipesync.rules.ruleset import RuleSet
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

Build = Callable[..., Warehouse]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
TEXT = """\
rule: site.example
title: An example
why: Because.
severity: low
applies_to: {is_open: true}
params: {least: {default: 50, unit: home_currency}}
overrides: [{match: {type: Renewal}, params: {least: 500}}]
severity_ladder: [{when: {amount: {gte: 1000}}, severity: high}]
when:
  any:
    - all: [{amount: {gte: $least}}, {not: {next_step: {missing: false}}}]
    - close_date: {lt: {field: first_close_date}}
message: "{name} at {amount:money}"
tests: []
"""
RULE = read_rule(parse(TEXT.replace("tests: []", "tests: [{}]"), "r.yaml"), Path("r.yaml"))
BASE = {"created_at": NOW - timedelta(days=9), "close_date": NOW.date(), "is_closed": False}
ROWS = [
    {"id": "a", "name": "Alpha", "amount": 100, **BASE},
    {"id": "b", "name": "Beta", "amount": 100, "type": "Renewal", **BASE},
    {"id": "c", "name": "Gamma", "amount": 2000, "type": "Renewal", "next_step": "call", **BASE},
    {
        "id": "d",
        "name": "Alpha",
        "amount": 100,
        **BASE,
        "is_closed": True,
        "closed_at": NOW - timedelta(days=1),
    },
]


def tree(node: Node, depth: int = 0) -> list[str]:
    mark = {True: "+", False: "-", None: "?"}[node.verdict]
    value = f": {node.value}" if node.field else ""
    return [
        f"{'  ' * depth}{mark} {node.words}{value}",
        *(line for part in node.parts for line in tree(part, depth + 1)),
    ]


def test_every_condition_is_shown_with_its_value(build: Build) -> None:
    """Those that do not decide as well; parameters as they hold for this opportunity."""
    warehouse = build(opportunities=ROWS)
    features = compute(warehouse, "crm", NOW, Calendar())

    told = explain(warehouse, features, RuleSet({RULE.id: RULE}), RULE.id, "a", currency="EUR")

    assert (told.result, told.severity, told.message) == ("fires", "low", "Alpha at 100 EUR")
    assert tree(told.when) == [
        "+ any",
        "  + all",
        "    + amount >= 50 EUR ($least): 100 EUR",
        "    + not",
        "      - next_step is not blank: None",
        "  - close_date < first_close_date (23 Nov 2026): 23 Nov 2026",
    ]


def test_an_override_shows_in_the_numbers(build: Build) -> None:
    """And which one matched."""
    warehouse = build(opportunities=ROWS)
    features = compute(warehouse, "crm", NOW, Calendar())
    ruleset = RuleSet({RULE.id: RULE})

    beta = explain(warehouse, features, ruleset, RULE.id, "Beta", currency="EUR")

    assert (beta.result, beta.override, beta.params) == ("clear", 1, {"least": "500"})
    assert "    - amount >= 500 EUR ($least): 100 EUR" in tree(beta.when)


def test_what_is_unknown_or_out_of_scope_says_so(build: Build) -> None:
    """With the leaf to blame."""
    warehouse = build(opportunities=ROWS, unmapped=("opportunities.next_step",))
    features = compute(warehouse, "crm", NOW, Calendar())
    ruleset = RuleSet({RULE.id: RULE})

    unknown = explain(warehouse, features, ruleset, RULE.id, "a")
    outside = explain(warehouse, features, ruleset, RULE.id, "d")

    assert (unknown.result, outside.result) == ("unknown", "out_of_scope")
    assert "      ? next_step is not blank: None" in tree(unknown.when)
    assert tree(outside.scope) == ["- is_open is true: false"]


def test_a_name_that_two_have_is_no_answer(build: Build) -> None:
    """The ids are given to choose from."""
    warehouse = build(opportunities=ROWS)
    features = compute(warehouse, "crm", NOW, Calendar())

    with pytest.raises(InputError, match="give an id: "):
        explain(warehouse, features, RuleSet({RULE.id: RULE}), RULE.id, "alpha")


def test_every_finding_is_explained_as_it_was_found(pulled_company: Warehouse) -> None:
    """Whatever rule and level: the tree comes to the same verdict, severity and words."""
    from pipesync.analysis import stages

    as_of = pulled_company.pulled_to("crm")
    ruleset = rules.load()
    features = compute(pulled_company, "crm", as_of, Calendar())
    table = stages.analyse(pulled_company, "crm", as_of, Calendar())
    found = rules.evaluate(pulled_company, features, ruleset, stages=table).findings
    one_each: dict[str, Finding] = {f.rule: f for f in found}
    assert len(one_each) >= 12

    told = {
        rule: explain(
            pulled_company, features, ruleset, rule, f.subject_id, stages=table, currency=f.currency
        )
        for rule, f in one_each.items()
    }

    assert {r: (e.result, e.severity, e.message) for r, e in told.items()} == {
        r: ("fires", f.severity, f.message) for r, f in one_each.items()
    }
