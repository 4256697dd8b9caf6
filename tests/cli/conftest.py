"""A small company as a folder, and a way to run commands in a working folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.config import load
from pipesync.sandbox.company import generate
from pipesync.sync import sync_all

CONFIGURATION = """\
version: 1
mode: enforce
guard: {first_apply: 1000000}
connections:
  company:
    adapter: files
    data: exports
    outbox: outbox
    write: {enabled: true, tasks: true, forecasts: true}
"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # Any: JSON
        return json.loads(self.out)

    @property
    def entry(self) -> Any:  # Any: JSON
        """The only connection's entry."""
        (only,) = self.document["connections"]
        return only


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company of 300 opportunities, not to be changed."""
    folder = tmp_path_factory.mktemp("company") / "exports"
    generate(folder, opportunities=300)
    return folder


@pytest.fixture
def fresh(tmp_path: Path, company: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, which is the current one: a configuration that may write, the company's exports, no stores."""
    shutil.copytree(company, tmp_path / "exports")
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def _pulled(tmp_path_factory: pytest.TempPathFactory, company: Path) -> Path:
    folder = tmp_path_factory.mktemp("pulled")
    shutil.copytree(company, folder / "exports")
    file = folder / "pipesync.yaml"
    file.write_text(CONFIGURATION.replace("enforce", "observe"))
    sync_all(load(file), ["company"])
    return folder


@pytest.fixture
def work(fresh: Path, _pulled: Path) -> Path:
    """The same folder after a pull, with a forecast model in the warehouse; nothing was ever written or found."""
    for name in ("warehouse.duckdb", "warehouse.published.duckdb"):
        shutil.copyfile(_pulled / name, fresh / name)
    return fresh


def run_command(*words: str, stdin: str | None = None) -> Ran:
    """Run a command as the terminal does; an exception that is not an exit is raised."""
    ran = CliRunner(catch_exceptions=False).invoke(main, words, input=stdin, prog_name="pipesync")
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


@pytest.fixture(scope="session")
def pipesync() -> Callable[..., Ran]:
    return run_command
