"""Bad input of every kind: one message with the place and the mend, no traceback, the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

RULE = """\
rule: hygiene.mine
title: A rule of the site
why: It has a reason.
status: stable
severity: low
applies_to: {is_open: true}
when:
  amount: {gt: 5}
message: "{name} is large."
tests:
  - {name: large fires, today: 2026-11-16, given: {is_open: true, name: A, amount: 9}, expect: fires}
  - {name: small is clear, today: 2026-11-16, given: {is_open: true, name: A, amount: 1}, expect: clear}
"""


class Case(NamedTuple):
    """A mistake, the command that meets it, and the words that its message must have."""

    name: str
    spoil: Callable[[Path], None]
    command: str
    words: tuple[str, ...]
    code: int = 2
    reports: bool = False
    """The command goes on and reports: lint what it counted, check what the other rules found."""


def _replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(work: Path) -> None:
        path = work / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


def _write(file: str, text: str) -> Callable[[Path], None]:
    def spoil(work: Path) -> None:
        (work / file).parent.mkdir(parents=True, exist_ok=True)
        (work / file).write_text(text)

    return spoil


def _append(file: str, text: str) -> Callable[[Path], None]:
    def spoil(work: Path) -> None:
        path = work / file
        path.write_text(path.read_text() + text)

    return spoil


def _rule(old: str, new: str) -> Callable[[Path], None]:
    def spoil(work: Path) -> None:
        assert old in RULE
        _write("own/hygiene/mine.yaml", RULE.replace(old, new))(work)
        _append("pipesync.yaml", "rule_folders: [own]\n")(work)

    return spoil


def _nothing(work: Path) -> None:
    """Leave all as it is: the command itself is the mistake."""


CASES = [
    Case("no configuration", lambda w: (w / "pipesync.yaml").unlink(), "pull", ("no configuration", "pipesync init")),
    Case("unknown key", _replace("pipesync.yaml", "mode:", "moode:"), "pull",
         ("pipesync.yaml:2:1", "unknown key 'moode'", "did you mean 'mode'?")),
    Case("key given twice", _replace("pipesync.yaml", "mode: enforce", "mode: enforce\nmode: observe"), "pull",
         ("pipesync.yaml:3:1", "given twice (first on line 2)")),
    Case("not YAML", _replace("pipesync.yaml", "mode: enforce", "mode: [enforce"), "pull",
         ("pipesync.yaml:", "not valid YAML")),
    Case("unknown mode", _replace("pipesync.yaml", "enforce", "always"), "pull", ("pipesync.yaml:2:7", "observe")),
    Case("unknown option of the adapter", _replace("pipesync.yaml", "outbox: outbox", "outbocks: x"), "pull",
         ("'company'", "outbocks", "did you mean 'outbox'?")),
    Case("no such folder", _replace("pipesync.yaml", "data: exports", "data: export"), "pull",
         ("export", "no such folder")),
    Case("no such connection", _nothing, "pull --connection compnay", ("compnay", "did you mean 'company'?")),
    Case("nothing pulled", _nothing, "check", ("nothing is pulled yet", "pipesync pull")),
    Case("missing column", _replace("exports/opportunities.csv", "opportunity_id", "opp"), "pull",
         ("opportunities.csv", "opportunity_id")),
    Case("missing file", lambda w: (w / "exports" / "opportunities.csv").unlink(), "pull", ("opportunities",)),
    Case("mapped to a column that is not there",
         _write("exports/mapping.yaml",
                "extends: pipesync:files\nstreams:\n  opportunities:\n    fields:\n      amount: Betrag\n"),
         "pull", ("opportunities.csv:1", "Betrag", "mapping.yaml")),
    Case("unknown field in the mapping",
         _write("exports/mapping.yaml",
                "extends: pipesync:files\nstreams:\n  opportunities:\n    fields:\n      amonut: amount\n"),
         "pull", ("mapping.yaml:5:7", "amonut", "did you mean 'amount'?")),
    Case("rule with an unknown field", _rule("  amount: {gt: 5}", "  amuont: {gt: 5}"), "rules lint",
         ("mine.yaml:8:3", "amuont", "amount"), reports=True),
    Case("rule with a wrong operator", _rule("{gt: 5}", "{above: 5}"), "rules lint",
         ("mine.yaml:8:", "above"), reports=True),
    Case("rule with an operator of another kind", _rule("{gt: 5}", "{within_next: 7d}"), "rules lint",
         ("mine.yaml:8:", "within_next"), reports=True),
    Case("rule with a key given twice", _rule("severity: low", "severity: low\nseverity: high"), "rules lint",
         ("mine.yaml:6:1", "given twice"), reports=True),
    Case("rule that is not its path", _rule("hygiene.mine", "hygiene.yours"), "rules lint",
         ("mine.yaml:1:", "hygiene.yours"), reports=True),
    Case("a broken rule stops no other", _rule("{gt: 5}", "{above: 5}"),
         "check --data exports --config pipesync.yaml", ("mine.yaml:8:", "above", "other rules run"), 4, reports=True),
    Case("a broken rule stops all where that is asked for", _rule("{gt: 5}", "{above: 5}"),
         "check --strict --data exports --config pipesync.yaml", ("mine.yaml:8:", "above")),
    Case("setting of an unknown rule",
         _append("pipesync.yaml", "rules:\n  hygiene.no_activty: off\n"), "rules list",
         ("hygiene.no_activty", "hygiene.no_activity")),
    Case("unknown rule asked for", _nothing, "check --data exports --rule hygiene.no_activty",
         ("hygiene.no_activty", "hygiene.no_activity")),
    Case("a moment that is none", _nothing, "check --data exports --as-of yesterday", ("yesterday", "2026-11-23")),
    Case("a moment without a zone", _nothing, "check --data exports --as-of 2026-11-16T08:00", ("no zone",)),
    Case("a period that is none", _nothing, "forecast --data exports --period Q9", ("Q9",)),
    Case("a mapping without a folder", _nothing, "check --mapping exports/mapping.yaml", ("--mapping needs --data",)),
    Case("a damaged plan", _write("plan.json", '{"plans": [1'), "apply plan.json --yes", ("plan.json",)),
    Case("a plan of other keys", _write("plan.json", '{"version": 1, "plans": [{"id": "x"}]}'), "apply plan.json --yes",
         ("plan.json",)),
    Case("a damaged warehouse", _write("warehouse.duckdb", "not a database" * 400), "pull",
         ("warehouse.duckdb", "pull anew")),
    Case("a memory without its unit", _append("pipesync.yaml", "store: {memory: 600}\n"), "pull",
         ("pipesync.yaml:10:17", "memory: 600 is not understood", "'2GB'")),
    Case("too little memory", _append("pipesync.yaml", "store: {memory: 1MB}\n"), "pull",
         ("memory is too small", "`store:`", "2GB")),
    Case("a damaged ledger", _write("ledger.db", "not a database" * 400), "sync", ("ledger",)),
    Case("a run that never was", _nothing, "undo nonesuch", ("nonesuch",)),
    Case("a folder in the way", _nothing, "init . --adapter files", ("pipesync.yaml", "--force")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_bad_input_is_refused_with_its_place_and_mend(
    case: Case, fresh: Path, pipesync: Callable[..., Ran]
) -> None:
    """The message names what is wrong and what to do; nothing goes to stdout, and no traceback anywhere."""
    case.spoil(fresh)
    before = sorted(
        (p, p.read_bytes()) for p in fresh.rglob("*") if p.is_file() and p.parent.name != "outbox"
    )

    ran = pipesync(*case.command.split())

    assert ran.code == case.code, ran.err
    assert [word for word in case.words if word not in ran.err] == []
    assert ran.err.startswith("own/" if case.command == "rules lint" else "Error: ")
    assert "Traceback" not in ran.err
    assert bool(ran.out) == case.reports
    assert [path for path, content in before if path.read_bytes() != content] == []
