"""What people ask the ledger for: every write, and what is silenced."""

from __future__ import annotations

import csv
import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]
STEP = "hygiene.no_next_step"


class TestAudit:
    """`pipesync audit` tells of every write."""

    def test_every_write_is_a_row(self, work: Path, pipesync: Run) -> None:
        """As many rows as writes, each with its run; of another run none; the file is its owner's alone."""
        done = pipesync("apply", "--yes", "--format", "json").entry

        rows = list(csv.DictReader(io.StringIO(pipesync("audit").out)))
        pipesync("audit", "--out", "writes.csv")
        told = pipesync("audit", "--run", done["run"], "--format", "json").document["writes"]

        assert len(rows) == len(told) == done["applied"] > 0
        assert {row["run"] for row in rows} == {done["run"]}
        assert list(csv.DictReader(io.StringIO((work / "writes.csv").read_text()))) == rows
        assert stat.S_IMODE((work / "writes.csv").stat().st_mode) == 0o600

    def test_an_unknown_run_is_said(self, work: Path, pipesync: Run) -> None:
        """A mistyped run is no empty answer."""
        pipesync("apply", "--yes", "--limit", "1")

        assert pipesync("audit", "--run", "nope").code == 2


class TestSuppressions:
    """`pipesync suppressions` silences until a day."""

    def test_a_suppressed_rule_takes_its_tasks_along(self, work: Path, pipesync: Run) -> None:
        """Its points are held back with the reason; ended, they are asked for again."""
        before = _asked(pipesync)
        added = pipesync(
            "suppressions", "add", STEP, "--until", "2030-01-31", "--reason", "new field rolled out"
        )

        during = _asked(pipesync)
        listed = pipesync("suppressions", "list", "--format", "json").entry["suppressions"]
        pipesync("suppressions", "end", str(listed[0]["number"]))
        after = _asked(pipesync)

        assert added.code == 0
        assert before == after > 0 == during
        assert [(s["rule"], s["until"], s["reason"], s["source"]) for s in listed] == [
            (STEP, "2030-01-31", "new field rolled out", "ledger")
        ]
        assert pipesync("suppressions", "list", "--format", "json").entry["suppressions"] == []

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["add", "hygiene.no_next_stepp", "--until", "2030-01-31", "--reason", "why not"], STEP),
            (["add", STEP, "--until", "soon", "--reason", "why not"], "--until"),
            (["add", STEP, "--until", "2030-01-31", "--reason", ""], "--reason"),
            (["end", "77"], "no suppression 77"),
        ],
        ids=["no such rule", "no day", "no reason", "no such number"],
    )
    def test_bad_input_is_said(self, work: Path, pipesync: Run, words: list[str], said: str) -> None:
        """One message that names what is wrong, and nothing is entered."""
        ran = pipesync("suppressions", *words)

        assert ran.code == 2
        assert said in ran.err
        assert pipesync("suppressions", "list", "--format", "json").entry["suppressions"] == []


def _asked(pipesync: Run) -> int:
    """Count the tasks of the plan that the rule is behind."""
    changes = pipesync("plan", "--format", "json").entry["changes"]
    return sum(STEP in c["reason"]["rules"] for c in changes)


def test_a_sync_stops_after_the_first_few_and_says_so(work: Path, pipesync: Run) -> None:
    """The guard is part of `sync`: the first one writes the worst few; the rest waits for people, or the next run."""
    file = work / "pipesync.yaml"
    file.write_text(file.read_text().replace("first_apply: 1000000", "first_apply: 3"))

    first = pipesync("sync", "--format", "json").entry["applied"]

    assert (first["applied"], first["waiting"]) == (3, len(first["skipped"]))
    assert "apply --yes" in first["skipped"][0]["error"]


def test_a_sync_that_the_guard_stops_wants_somebody(work: Path, pipesync: Run) -> None:
    """A plan far larger than usual is not written, and the exit code says that something is left."""
    file = work / "pipesync.yaml"
    text = file.read_text()
    file.write_text(text.replace("first_apply: 1000000", "first_apply: 2, at_least: 1, times_usual: 2"))
    pipesync("sync")

    stopped = pipesync("sync", "--format", "json")
    agreed = pipesync("apply", "--yes", "--format", "json").entry

    assert (stopped.code, stopped.entry["applied"]["applied"]) == (4, 0)
    assert agreed["applied"] > 0
    assert pipesync("sync").code == 0


def test_rules_are_listed_with_what_they_came_to(work: Path, pipesync: Run) -> None:
    """Before the first run there is no record; then each rule says how often it fired and how many tasks it made."""
    before = {r["id"]: r for r in pipesync("rules", "list", "--format", "json").document["rules"]}
    pipesync("apply", "--yes")

    document = pipesync("rules", "list", "--format", "json").document
    after = {r["id"]: r for r in document["rules"]}

    assert before[STEP]["episodes"] is None
    assert after[STEP]["episodes"] == after[STEP]["open"] > 0
    assert after[STEP]["tasks"] > 0
    assert 0 < document["base_rate_lost"] < 1
    assert "acted on" in pipesync("rules", "list").out


def test_what_people_wrote_is_shown_as_they_wrote_it(fresh: Path, pipesync: Run) -> None:
    """Brackets and colons are no commands to the terminal, wherever they come from."""
    with (fresh / "pipesync.yaml").open("a") as file:
        file.write(
            'suppressions: [{rule: hygiene.amount_missing, until: 2999-01-31, reason: "see [/b] [red] :x:"}]\n'
        )

    assert "see [/b] [red] :x:" in pipesync("suppressions", "list").out
