"""Shipped rules say what their cases say, and no operator or threshold of theirs can change unnoticed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipesync._paths import shipped
from pipesync.errors import InputError
from pipesync.rules import test as run_cases
from pipesync.rules.format import Rule, load_rule, read_rule
from pipesync.rules.ruleset import rule_files
from pipesync.yamlsource import parse

HOME = shipped("rules")
FILES = rule_files(HOME)
_SWAPPED = {"gt": "gte", "gte": "gt", "lt": "lte", "lte": "lt"}


@pytest.mark.parametrize("rule_id", FILES)
def test_every_shipped_rule_passes_its_cases(rule_id: str) -> None:
    """At least one that fires and one that is clear."""
    results = run_cases([load_rule(FILES[rule_id], HOME)])

    assert [f"{r.case}: {r.got}, not {r.expected}" for r in results if not r.passed] == []
    assert len(results) >= 2


def mutants(data: Any) -> Iterator[tuple[str, Any]]:  # Any: YAML
    """Yield copies of a rule file with one operator or threshold changed."""

    def walk(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        yield path, node
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in items:
            yield from walk(child, (*path, key))

    def changed(path: tuple[Any, ...], value: Any) -> Any:
        copy = yaml.safe_load(yaml.safe_dump(data))
        at = copy
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return copy

    for area in ("when", "applies_to", "severity_ladder", "overrides"):
        for path, node in walk(data.get(area, {}), (area,)):
            if isinstance(node, bool) and path[-1] != "or_missing":
                yield f"{path} {not node}", changed(path, not node)
            elif isinstance(node, dict):
                for operator in _SWAPPED:
                    if operator in node and not isinstance(node[operator], dict):
                        swapped = {_SWAPPED.get(k, k) if k == operator else k: v for k, v in node.items()}
                        yield f"{path} {operator}", changed(path, swapped)
                if "or_missing" in node:
                    yield (
                        f"{path} or_missing",
                        changed(path, {k: v for k, v in node.items() if k != "or_missing"}),
                    )
            elif isinstance(node, list) and path[-1] in ("all", "any", "in") and len(node) > 1:
                for i in range(len(node)):
                    yield f"{path} without {i}", changed(path, node[:i] + node[i + 1 :])
    for name, parameter in data.get("params", {}).items():
        default = parameter["default"]
        if isinstance(default, int | float):
            for value in (default + 1, default - 1):
                if parameter.get("min", value) <= value <= parameter.get("max", value):
                    yield f"params {name} {value}", changed(("params", name, "default"), value)


def mutated(rule_id: str) -> Iterator[Rule]:
    """Read every mutant that is a rule, under a file name that says what was changed."""
    data = yaml.safe_load(FILES[rule_id].read_text(encoding="utf-8"))
    for said, copy in mutants(data):
        text = yaml.safe_dump(copy, sort_keys=False, allow_unicode=True)
        with contextlib.suppress(InputError):  # what cannot be read is no mutant
            yield read_rule(parse(text, f"{rule_id}: {said}"), Path(f"{rule_id}.yaml"))


def test_cases_kill_mutants_of_every_rule() -> None:
    """At least 95% of the changes to an operator or threshold break a case; the survivors are listed."""
    rules = [rule for rule_id in FILES for rule in mutated(rule_id)]

    results = run_cases(rules)

    total = {r.place.file for r in results}
    survivors = total - {r.place.file for r in results if not r.passed}
    assert len(total) == len(rules) > 50
    assert len(survivors) <= 0.05 * len(total), sorted(survivors)


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
