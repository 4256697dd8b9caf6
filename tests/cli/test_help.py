"""Help answers at once and ends with an example."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.cli.pages import walk

COMMANDS = {" ".join(name[1:]): command for name, command in walk(main, ("pipesync",)) if len(name) > 1}
HEAVY = ("pandas", "numpy", "duckdb", "pyarrow", "sklearn", "scipy", "sqlglot", "sqlalchemy", "alembic", "requests",
         "simple_salesforce", "hubspot", "rich", "pydantic", "yaml", "orjson", "starlette", "uvicorn")  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    """Whoever asks for help does not wait for pandas."""
    code = f"import sys, pipesync.cli; print([m for m in {HEAVY!r} if m in sys.modules])"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_and_ends_with_an_example(name: str) -> None:
    """One sentence first, a runnable line last, and every option explained."""
    printed = CliRunner().invoke(main, [*name.split(), "--help"], prog_name="pipesync")

    assert printed.exit_code == 0
    assert COMMANDS[name].help
    assert printed.output.rstrip().splitlines()[-1].strip().startswith(f"pipesync {name}")
    options = [p for p in COMMANDS[name].params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


def test_every_command_is_in_the_list() -> None:
    """Each command has a short help that fits its line in the list."""
    printed = CliRunner().invoke(main, ["--help"], terminal_width=80).output

    assert [c for c in main.commands if c != "docs" and f"\n  {c} " not in printed] == []
    assert "..." not in printed.replace("COMMAND [ARGS]...", "")
