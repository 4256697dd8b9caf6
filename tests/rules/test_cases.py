"""Shipped rules say what their cases say, and no operator or threshold of theirs can change unnoticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipesync._paths import shipped
from pipesync.errors import InputError
from pipesync.rules import test as run_cases
from pipesync.rules.cases import read_cases
from pipesync.rules.format import load_rule, read_rule
from pipesync.rules.mutation import campaign
from pipesync.rules.ruleset import rule_files
from pipesync.yamlsource import parse

HOME = shipped("rules")
FILES = rule_files(HOME)


def test_every_shipped_rule_passes_its_cases() -> None:
    """At least one that fires, one that is clear and one that is unknown, and every threshold from both sides."""
    results = run_cases([load_rule(path, HOME) for path in FILES.values()])

    assert [f"{r.rule}, {r.case}: {r.got}, not {r.expected}" for r in results if not r.passed] == []
    by_rule = Counter(r.rule for r in results)
    assert {rule for rule in FILES if by_rule[rule] < 3} == set()


def test_every_shipped_rule_says_what_it_does_not_know() -> None:
    """Only rules over the analysis' own table of stages, which knows all of its columns, may do without."""
    said = {
        r: any(s.result == "unknown" for c in read_cases(load_rule(p, HOME)) for s in c.steps)
        for r, p in FILES.items()
    }

    assert {rule for rule, is_said in said.items() if not is_said} <= {
        "bottleneck.queue_growing", "bottleneck.stage_bottleneck",
    }  # fmt: skip


@pytest.mark.parametrize("every", [pytest.param(12), pytest.param(1, marks=pytest.mark.campaign)])
def test_cases_kill_mutants_of_every_rule(every: int) -> None:
    """At least 95% of the changes to an operator, a value or a threshold break a case; the survivors are listed."""
    found = campaign([load_rule(path, HOME) for path in FILES.values()], every=every)

    assert found.total > 500 / every
    assert found.killed >= 0.95, found.survivors


def test_a_boundary_that_no_case_stands_on_is_a_survivor() -> None:
    """The campaign names what was changed."""
    text = (
        FILES["hygiene.close_date_pushed"]
        .read_text(encoding="utf-8")
        .replace("push_count: 3", "push_count: 9")
    )
    rule = read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    found = campaign([rule])

    assert "hygiene.close_date_pushed: when.push_count: gte -> gt" in found.survivors
    assert 0 < found.killed < 1


def test_a_case_that_is_wrong_is_said_to_be() -> None:
    """What the rule says instead stands beside it."""
    text = (
        FILES["hygiene.no_next_step"].read_text(encoding="utf-8").replace("expect: clear", "expect: fires", 1)
    )
    rule = read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    failed = [r for r in run_cases([rule]) if not r.passed]

    assert [(r.expected, r.got) for r in failed] == [("fires", "clear")]
    assert failed[0].place.line > 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("expect: fires", "expect: fire", "a rule is never 'fire'"),
        (
            "given: {is_open: true, stage_order: 2",
            "given: {is_opne: true, stage_order: 2",
            "did you mean 'is_open'",
        ),
        ("stage_order: 2, stage", "stage_order: two, stage", "stage_order (integer) cannot be 'two'"),
        ("unknown: [next_step]", "unknown: [next_stap]", "did you mean 'next_step'"),
        ("today: 2026-11-23", "today: soon", "'soon' is not a day"),
        ("    given:", "    givn:", "did you mean 'given'"),
    ],
)
def test_a_case_that_cannot_be_read_names_the_mend(old: str, new: str, said: str) -> None:
    """With the line of the case."""
    text = FILES["hygiene.no_next_step"].read_text(encoding="utf-8").replace(old, new, 1)
    rule = read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    with pytest.raises(InputError) as error:
        run_cases([rule])

    assert said in str(error.value)
    assert "r.yaml:" in str(error.value)


def test_a_rule_without_a_firing_case_is_refused() -> None:
    """A rule that nobody has seen fire may never do so."""
    text = (
        FILES["hygiene.duplicate_open"].read_text(encoding="utf-8").replace("expect: fires", "expect: clear")
    )
    rule = read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    with pytest.raises(InputError, match="no case is fires"):
        run_cases([rule])
