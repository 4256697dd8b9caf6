"""The documentation is true: its commands run, its settings are read, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from pipesync.config import load

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for folder in ("tutorials", "how-to") for p in (ROOT / "docs" / folder).glob("*.md"))
USERS = {"admin", "sales-ops", "rep", "manager", "leader"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def test_each_of_the_five_has_a_tutorial() -> None:
    """Nobody is left without one."""
    assert {p.stem for p in PAGES if p.parent.name == "tutorials"} == USERS


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_command_on_a_page_runs(page: Path, work: Path, pipesync: Callable[..., Ran]) -> None:
    """One after the other, in one folder, as a reader types them."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
    assert lines

    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program == "pipesync", line
        ran = pipesync(*words)
        assert ran.code == 0, f"{line}: {ran.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_setting_on_a_page_is_read(page: Path, tmp_path: Path, pipesync: Callable[..., Ran]) -> None:
    """Each YAML block is a part of a configuration that is valid, rules and parameters too."""
    for block in blocks(page, "yaml"):
        given = {"connections": {"company": {"adapter": "files", "data": "exports"}}, **yaml.safe_load(block)}
        (tmp_path / "pipesync.yaml").write_text(yaml.safe_dump(given))

        assert load(tmp_path / "pipesync.yaml").connections
        listed = pipesync("rules", "list", "--config", str(tmp_path / "pipesync.yaml"))
        assert listed.code == 0, listed.err


@pytest.mark.campaign
def test_the_site_builds_without_a_warning() -> None:
    """Strictly, as `make docs` does: a link that leads nowhere stops the build."""
    built = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py")], capture_output=True, text=True, check=False
    )

    assert built.returncode == 0, built.stdout + built.stderr
    assert (ROOT / "build" / "site" / "docs" / "tutorials" / "admin" / "index.html").exists()
