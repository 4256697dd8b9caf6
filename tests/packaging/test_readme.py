"""The README's first steps are few, and work as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipesync.cli import main
from pipesync.cli.pages import walk

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(mark: str) -> list[str]:
    """Return the commands that follow a mark."""
    after = README.split(f"<!-- {mark} -->")[1]
    block = re.match(r"\n+((?:    .*\n)+)", after)
    assert block
    return [line.strip().partition("  #")[0] for line in block[1].splitlines()]


@pytest.mark.parametrize("mark", ["first plan", "own data"])
def test_a_first_plan_takes_ten_commands_at_most(mark: str) -> None:
    """From nothing to a plan, in either way."""
    asked = commands(mark)

    assert len(asked) <= 10
    assert asked[-1] == "pipesync plan"


def test_every_command_that_the_readme_names_is_there() -> None:
    """Whatever it says after `pipesync` is a command of today."""
    known = {" ".join(name[1:]) for name, _ in walk(main, ("pipesync",))}
    named = set(re.findall(r"(?:^    |`)pipesync ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", README, re.MULTILINE))

    assert {n for n in named if n not in known and shlex.split(n)[0] not in known} == set()


@pytest.mark.campaign
@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
def test_the_readme_leads_to_a_plan(crm: str) -> None:
    """Exactly its commands, in an empty HOME, with this environment in place of a new one; CI makes a new one."""
    ran = subprocess.run(
        [str(ROOT / ".ci" / "readme"), crm, "--here"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert f"{crm}: a first plan in" in ran.stdout
