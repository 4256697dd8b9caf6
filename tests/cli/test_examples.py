"""The examples that end each command's help work, as they stand there."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync._paths import shipped
from pipesync.cli import main
from pipesync.cli.pages import walk

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

EXAMPLES = {
    " ".join(name[1:]): [line.strip() for line in (command.epilog or "").splitlines() if "pipesync " in line]
    for name, command in walk(main, ("pipesync",))
    if len(name) > 1
}
ELSEWHERE = {"demo": "test_cycle.py runs it, for it takes a while"}
LONG = {"report", "digest", "forecast backtest", "rules backtest", "rules diff", "rules score"}
FIRST = {"status": "sync"}
"""What must have run for an example to end well: where nothing ever ran, status tells of a failure."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough if name in LONG else ())
        for name in sorted(EXAMPLES.keys() - ELSEWHERE.keys())
    ],
)
def test_an_example_runs(name: str, work: Path, pipesync: Callable[..., Ran]) -> None:
    """Every line of the example ends with 0 in a folder with a configuration and exports; RUN is the last run."""
    assert EXAMPLES[name]
    if name in FIRST:
        pipesync(FIRST[name])

    for line in EXAMPLES[name]:
        words = shlex.split(line)[1:]
        if "RUN" in words:
            words[words.index("RUN")] = pipesync("sync", "--format", "json").entry["run"]
        ran = pipesync(*words)

        assert ran.code == 0, ran.err


@pytest.mark.parametrize("adapter", ["files", "salesforce", "hubspot"])
def test_init_writes_a_configuration_that_is_read(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipesync: Callable[..., Ran]
) -> None:
    """The file is commented, valid, lets nothing be written, and is not overwritten by a second init."""
    monkeypatch.chdir(tmp_path)

    first = pipesync("init", "work", "--adapter", adapter)
    second = pipesync("init", "work", "--adapter", adapter)

    assert (first.code, second.code) == (0, 2)
    assert "Next:" in first.out
    text = (tmp_path / "work" / "pipesync.yaml").read_text()
    assert text.count("#") > 10
    assert "enabled: false" in text
    assert "--force" in second.err
    monkeypatch.chdir(tmp_path / "work")
    assert pipesync("rules", "list", "--format", "json").code == 0


def test_the_first_plan_takes_five_commands(
    company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipesync: Callable[..., Ran]
) -> None:
    """init, copy the exports, pull, plan: as the README says."""
    monkeypatch.chdir(tmp_path)

    pipesync("init", "work", "--adapter", "files")
    shutil.copytree(company, tmp_path / "work" / "exports", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")
    pulled = pipesync("pull")
    planned = pipesync("plan", "--format", "json")

    assert (pulled.code, planned.code) == (0, 0)
    assert json.loads(planned.out)["connections"][0]["changes"]


def test_a_checkout_is_known_by_its_pages() -> None:
    """`docs --check` has something to check: the rules it documents lie in the checkout."""
    assert (shipped("rules") / "README.md").exists()
