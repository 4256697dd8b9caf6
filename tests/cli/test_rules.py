"""The workshop's commands: list, lint, test, show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]

RULE = """\
rule: hygiene.mine
title: A rule of the site
why: It has a reason.
severity: low
applies_to: {is_open: true}
when: {amount: {gt: 5}}
message: "{name} is large."
tests:
  - {name: large fires, today: 2026-11-16, given: {is_open: true, name: A, amount: 9}, expect: fires}
  - {name: small is clear, today: 2026-11-16, given: {is_open: true, name: A, amount: AMOUNT}, expect: clear}
"""


def _own(work: Path, amount: int) -> None:
    (work / "own" / "hygiene").mkdir(parents=True)
    (work / "own" / "hygiene" / "mine.yaml").write_text(RULE.replace("AMOUNT", str(amount)))
    file = work / "pipesync.yaml"
    file.write_text(file.read_text() + "rule_folders: [own]\n")


def test_the_shipped_cases_pass(fresh: Path, pipesync: Run) -> None:
    """Every rule of the preset carries cases, and all of them come out as they say."""
    told = pipesync("rules", "test", "--format", "json").document

    assert told["failed"] == 0
    listed = pipesync("rules", "list", "--format", "json").document["rules"]
    assert {c["rule"] for c in told["cases"]} == {r["id"] for r in listed}


def test_a_rule_of_the_site_is_listed_tested_and_used(fresh: Path, pipesync: Run) -> None:
    """A file below `rule_folders` is a rule like any other."""
    _own(fresh, 1)

    assert "hygiene.mine" in pipesync("rules", "list").out
    assert pipesync("rules", "test", "hygiene.mine").out == "2 cases passed, 0 failed\n"
    checked = pipesync("check", "--data", "exports", "--config", "pipesync.yaml", "--rule", "hygiene.mine",
                       "--format", "json").entry  # fmt: skip
    assert checked["rules"][0]["fired"] > 0


def test_a_case_that_fails_is_named_with_its_place(fresh: Path, pipesync: Run) -> None:
    """The exit code is 1, and the text says where the case is, what it expects and what it got."""
    _own(fresh, 9)

    ran = pipesync("rules", "test", "hygiene.mine")

    assert ran.code == 1
    assert "mine.yaml:10" in ran.out
    assert "1 cases passed, 1 failed" in ran.out


def test_show_prints_the_file_and_what_is_in_force(fresh: Path, pipesync: Run) -> None:
    """A site's parameter takes the place of the default."""
    file = fresh / "pipesync.yaml"
    file.write_text(file.read_text() + "rules:\n  hygiene.stale_commit: {params: {idle_days: 21}}\n")

    shown = pipesync("rules", "show", "hygiene.stale_commit").out

    assert "rule: hygiene.stale_commit" in shown
    assert "idle_days = 21" in shown


def test_lint_reports_for_programs(fresh: Path, pipesync: Run) -> None:
    """JSON has a place for every problem, and the exit code is 2."""
    _own(fresh, 1)
    mine = fresh / "own" / "hygiene" / "mine.yaml"
    mine.write_text(mine.read_text().replace("amount: {gt", "amonut: {gt"))

    ran = pipesync("rules", "lint", "--format", "json")

    assert ran.code == 2
    (problem, *_) = ran.document["problems"]
    assert (problem["line"], problem["file"].endswith("mine.yaml")) == (6, True)
