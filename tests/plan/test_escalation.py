"""Who else is asked when the owner's task stays open: step by step, and only about what is severe enough."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.plan.conftest import MONDAY, Bench

from pipesync.rules.format import read_rule
from pipesync.yamlsource import parse

RULE = """
rule: site.quiet
title: Quiet
why: It matters.
severity: medium
when: {amount: {gte: 1}}
message: M
task: {subject: S}
escalate:
  - {after: 7 business days, to: ops, from: high}
  - {after: 3 business days}
tests: [{}]
"""


@pytest.fixture
def asked(bench: Bench) -> Bench:
    """A bench on which the rep's task about a finding stands since Monday."""
    rule = read_rule(parse(RULE, "quiet.yaml"), Path("quiet.yaml"))
    bench.rules.rules[rule.id] = rule
    bench.configure("tasks: {ops: ops}")
    return bench


@pytest.mark.parametrize(
    ("severity", "days", "others"),
    [
        ("high", 2, []),
        ("high", 3, ["boss"]),
        ("high", 9, ["boss", "ops"]),
        ("critical", 9, ["boss", "ops"]),
        ("medium", 9, ["boss"]),
    ],
)
def test_steps_are_taken_in_their_time(asked: Bench, severity: str, days: int, others: list[str]) -> None:
    """Nine days are seven business days; what is less severe than a step asks for never takes it."""
    finding = asked.finding(rule="site.quiet", severity=severity)
    asked.carry_out(asked.plan(finding))

    made = asked.plan(finding, as_of=MONDAY + timedelta(days=days))
    asked.carry_out(made)

    assert sorted(c.owner_id or "" for c in made.changes) == others
    assert {c.action for c in made.changes} <= {"create"}
    assert asked.plan(finding).changes == ()


def test_nobody_is_asked_twice(asked: Bench) -> None:
    """An owner who is ops, and has no manager, is asked once."""
    asked.user("rep", manager_id=None)
    asked.configure("tasks: {ops: rep}")
    finding = asked.finding(rule="site.quiet", severity="high")
    asked.carry_out(asked.plan(finding))

    assert asked.plan(finding, as_of=MONDAY + timedelta(days=30)).changes == ()
