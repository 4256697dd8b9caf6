"""What the format can say, each on cases as ops write them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipesync import rules
from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.rules.format import Rule, read_rule
from pipesync.rules.ruleset import RuleSet
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

Build = Callable[..., Warehouse]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)  # a Monday


def rule(when: str, tests: str, more: str = "") -> Rule:
    text = f"""\
rule: site.example
title: An example
why: Because.
severity: low
message: An example.
{more}
when: {when}
tests:
{tests}
"""
    return read_rule(parse(text, "r.yaml"), Path("r.yaml"))


def case(expect: str, given: str, today: str = "2026-11-23") -> str:
    return f"  - {{today: {today}, given: {{{given}}}, expect: {expect}}}\n"


CASES = {
    "business days, gone by": (
        "{last_activity_at: {older_than: 3 business days}}",
        case("fires", "last_activity_at: 2026-11-17") + case("clear", "last_activity_at: 2026-11-18"),
    ),
    "business days, just now": (
        "{stage_entered_at: {within_last: 1bd}}",
        case("fires", "stage_entered_at: 2026-11-20") + case("clear", "stage_entered_at: 2026-11-19"),
    ),
    "business days, to come": (
        "{close_date: {within_next: 5 business days}}",
        case("fires", "close_date: 2026-11-30")
        + case("clear", "close_date: 2026-12-01")
        + case("clear", "close_date: 2026-11-22"),
    ),
    "a change of late": (
        "{close_date: {changed_within: 14d}}",
        case("fires", "close_date_changed_at: 2026-11-10")
        + case("clear", "close_date_changed_at: 2026-11-01"),
    ),
    "between two fields": (
        "{amount: {between: [{field: first_amount}, {field: won_amount_p95, times: 2}]}}",
        case("fires", "amount: 20, first_amount: 20, won_amount_p95: 10")
        + case("clear", "amount: 21, first_amount: 20, won_amount_p95: 10"),
    ),
    "a pattern": (
        "{name: {matches: '(?i)^(test|demo)\\b'}}",
        case("fires", "name: Demo of Acme") + case("clear", "name: Demonstration"),
    ),
    "none of": (
        "{not: {any: [{stage: [Propose, Close]}, {owner_id: {missing: true}}]}}",
        case("fires", "stage: Discover, owner_id: u1") + case("clear", "stage: Close, owner_id: u1"),
    ),
    "a custom field that is a number": (
        "{custom.seats: {gte: 100}}",
        case("fires", "custom.seats: 100") + case("clear", "custom.seats: 99") + case("clear", "name: A"),
    ),
    "a custom field that is a date": (
        "{custom.renewal: {within_next: 30d}}",
        case("fires", "custom.renewal: 2026-12-20") + case("clear", "custom.renewal: 2027-12-20"),
    ),
    "a custom field that is a flag": (
        "{custom.vip: true}",
        case("fires", "custom.vip: true") + case("clear", "custom.vip: false"),
    ),
    "a custom field that is text": (
        "{custom.region: [EMEA, APAC]}",
        case("fires", "custom.region: APAC") + case("clear", "custom.region: US"),
    ),
    "a custom field that is blank": (
        "{custom.region: {missing: true}}",
        case("fires", "custom.region: null") + case("clear", "custom.region: US"),
    ),
}


@pytest.mark.parametrize(("when", "tests"), CASES.values(), ids=CASES)
def test_an_operator_says_what_it_means(when: str, tests: str) -> None:
    """On either side of its boundary."""
    results = rules.test([rule(when, tests)])

    assert [f"{r.place}: {r.got}" for r in results if not r.passed] == []


def test_parameters_may_be_lists_texts_and_lengths_of_time_in_any_unit() -> None:
    """A segment changes them like any other, and an override may be of business days."""
    more = """\
params:
  placeholders: {default: [1, 100, 999], help: Amounts that nobody meant}
  kind: {default: New Business}
  quiet: {default: 5, min: 1, max: 30, unit: business_days}
overrides:
  - {match: {segment: enterprise}, params: {placeholders: [5000], quiet: 10}}
"""
    when = "{amount: {in: $placeholders}, type: $kind, last_activity_at: {older_than: $quiet}}"
    tests = (
        case("fires", "amount: 999, type: New Business, last_activity_at: 2026-11-13")
        + case("clear", "amount: 5000, type: New Business, last_activity_at: 2026-11-13")
        + case("clear", "amount: 999, type: Renewal, last_activity_at: 2026-11-13")
        + case("clear", "amount: 999, type: New Business, last_activity_at: 2026-11-16")
        + case("clear", "amount: 5000, type: New Business, segment: enterprise, last_activity_at: 2026-11-13")
        + case("fires", "amount: 5000, type: New Business, segment: enterprise, last_activity_at: 2026-11-06")
    )

    results = rules.test([rule(when, tests, more)])

    assert [f"{r.place}: {r.got}" for r in results if not r.passed] == []


def test_a_finding_may_ask_for_more_than_being_clear_to_be_resolved() -> None:
    """Between the two thresholds it stays as it is, and does not flap."""
    more = "resolve: {when: {push_count: {lt: 2}}}\n"
    tests = (
        case("fires", "push_count: 3")
        + case("clear", "push_count: 2")
        + "  - given: {push_count: 3}\n    timeline:\n"
        + "      - {today: 2026-11-23, expect: fires}\n"
        + "      - {today: 2026-11-24, set: {push_count: 2}, expect: fires}\n"
        + "      - {today: 2026-11-25, set: {push_count: 1}, expect: resolved}\n"
    )

    results = rules.test([rule("{push_count: {gte: 3}}", tests, more)])

    assert [f"{r.place}: {r.got}" for r in results if not r.passed] == []


MEASURED = """\
level: owner
min_n: 2
measures:
  late_share: {calculate: share, field: amount, where: {days_past_due: {gt: 0}}, among: {is_open: true}}
  biggest: {calculate: max, field: amount, where: {is_open: true}}
"""


def test_a_portfolio_rule_has_measures_of_its_own() -> None:
    """Used like columns, in cases as well."""
    tests = (
        case("fires", "n: 2, late_share: 0.5, biggest: 7")
        + case("clear", "n: 2, late_share: 0.4, biggest: 7")
        + case("out_of_scope", "n: 1, late_share: 0.9, biggest: 7")
    )

    results = rules.test([rule("{late_share: {gte: 0.5}, biggest: {gt: 5}}", tests, MEASURED)])

    assert [f"{r.place}: {r.got}" for r in results if not r.passed] == []


OPPORTUNITIES = [
    {
        "id": "a",
        "owner_id": "u1",
        "amount": 60,
        "close_date": NOW.date().replace(day=1),
        "custom": {"region": "EMEA"},
    },
    {
        "id": "b",
        "owner_id": "u1",
        "amount": 40,
        "close_date": NOW.date().replace(day=30),
        "custom": {"region": "US"},
    },
    {"id": "c", "owner_id": "u2", "amount": 90, "close_date": NOW.date().replace(day=30), "custom": {}},
    {"id": "d", "owner_id": "u2", "amount": 10, "close_date": NOW.date().replace(day=1), "custom": {}},
]
USERS = [{"id": "u1", "name": "Ann", "is_active": True}, {"id": "u2", "name": "Bob", "is_active": True}]


def test_owners_are_judged_by_what_their_book_holds(build: Build) -> None:
    """The finding is about the owner, with what the measure came to."""
    one = rule(
        "{late_share: {gte: 0.5}}", case("fires", "n: 2, late_share: 0.5") + case("clear", "n: 2"), MEASURED
    )
    text = one.document.text.replace(
        "message: An example.", 'message: "{owner_name}: {late_share:percent} late"'
    )
    one = read_rule(parse(text, "r.yaml"), Path("r.yaml"))
    warehouse = build(opportunities=OPPORTUNITIES, users=USERS)
    features = compute(warehouse, "crm", NOW, Calendar())

    found = rules.evaluate(warehouse, features, RuleSet({one.id: one}))

    assert [(f.level, f.subject_id, f.owner_id, f.message, int(f.amount or 0)) for f in found.findings] == [
        ("owner", "u1", "u1", "Ann: 60% late", 100)
    ]
    assert [(r.fired, r.clear, r.unknown) for r in found.rules] == [(1, 1, 0)]


def test_a_measure_of_what_is_unknown_is_unknown(build: Build) -> None:
    """And the field to blame is named; where owners themselves are unknown, so is the rule."""
    one = rule(
        "{late_share: {gte: 0.5}}", case("fires", "n: 2, late_share: 0.5") + case("clear", "n: 2"), MEASURED
    )
    said = {}
    for column in ("opportunities.close_date", "opportunities.owner_id"):
        warehouse = build(opportunities=OPPORTUNITIES, users=USERS, unmapped=(column,))
        features = compute(warehouse, "crm", NOW, Calendar())
        [result] = rules.evaluate(warehouse, features, RuleSet({one.id: one})).rules
        said[column] = (result.fired, result.unknown, result.blame)

    assert said["opportunities.close_date"] == (0, 2, ("days_past_due",))
    assert said["opportunities.owner_id"] == (0, 1, ("owner_id",))


def test_a_custom_field_that_no_opportunity_has_is_unknown(build: Build) -> None:
    """A name that the mapping does not know must not count as blank."""
    tests = case("fires", "custom.regoin: null") + case("clear", "custom.regoin: US")
    wrong = rule("{custom.regoin: {missing: true}}", tests)
    right = read_rule(
        parse(
            wrong.document.text.replace("regoin", "region").replace("site.example", "site.other"), "o.yaml"
        ),
        Path("o.yaml"),
    )
    warehouse = build(opportunities=OPPORTUNITIES)
    features = compute(warehouse, "crm", NOW, Calendar())

    found = rules.evaluate(warehouse, features, RuleSet({r.id: r for r in (wrong, right)}))

    assert {r.id: (r.fired, r.unknown, r.blame) for r in found.rules} == {
        "site.example": (0, 4, ("custom.regoin",)),
        "site.other": (2, 0, ()),
    }


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("{calculate: sum}", "sum of which field?"),
        ("{calculate: share, field: amount}", "a share needs `where`"),
        ("{calculate: count, field: amount}", "count takes no field"),
        ("{calculate: mean, field: amonut}", "did you mean 'amount'"),
        ("{calculate: count, where: {is_opne: true}}", "did you mean 'is_open'"),
        ("{calculate: count, among: {is_open: true}}", "only a share is `among` something"),
        ("{calculate: average, field: amount}", "allowed: 'count'"),
    ],
)
def test_a_wrong_measure_is_said_to_be(measure: str, said: str) -> None:
    """With the mend."""
    more = f"level: owner\nmeasures:\n  mine: {measure}\n"

    with pytest.raises(InputError) as error:
        rule("{mine: {gt: 1}}", case("fires", "mine: 2") + case("clear", "mine: 1"), more)

    assert said in str(error.value)
