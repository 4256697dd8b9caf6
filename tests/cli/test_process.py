"""The process that a command is: its exit code, all of its output, and what is left when it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Pipesync = Callable[..., "Ran"]
MODULE = (sys.executable, "-m", "pipesync.cli")
TWO = """\
version: 1
connections:
  company: {adapter: files, data: exports}
  lost: {adapter: files, data: nowhere}
"""


def run_process(*words: str, program: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, or a program that leads to one; more than two minutes fail."""
    start = MODULE if program is None else (sys.executable, "-c", program)
    return subprocess.run([*start, *words], capture_output=True, text=True, timeout=120, check=False)


def _as_it_is(work: Path) -> None:
    pass


def _with_a_second_connection(work: Path) -> None:
    (work / "pipesync.yaml").write_text(TWO)


@pytest.mark.parametrize(
    ("prepare", "command", "code"),
    [
        (_as_it_is, "pull -q", 0),
        (_as_it_is, "status --max-age 1h", 1),
        (_as_it_is, "pull --no-such-option", 2),
        (_as_it_is, "pull --config nowhere.yaml", 2),
        (_with_a_second_connection, "pull", 4),
    ],
)
def test_the_exit_code_is_the_commands(
    prepare: Callable[[Path], None], command: str, code: int, fresh: Path
) -> None:
    """A process ends with the code that the command asks for."""
    prepare(fresh)

    ended = run_process(*command.split())

    assert ended.returncode == code, ended.stderr


def test_a_traceback_is_whole(fresh: Path) -> None:
    """With -v an error is raised out of the process, with 1 and everything that it tells."""
    ended = run_process("pull", "-v", "--config", "nowhere.yaml")

    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback (most recent call last)")
    assert "pipesync.errors.InputError: nowhere.yaml: no configuration" in ended.stderr


@pytest.fixture
def much(fresh: Path) -> Path:
    """A configuration of which `suppressions list` tells more than a pipe holds."""
    silenced = "".join(
        f"  - {{rule: hygiene.amount_missing, opportunity: o{n}, until: 2999-01-31, reason: a test}}\n"
        for n in range(1500)
    )
    with (fresh / "pipesync.yaml").open("a") as file:
        file.write(f"suppressions:\n{silenced}")
    return fresh


@pytest.fixture(autouse=True)
def _buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a buffer Python does not notice a reader that goes away in the middle of a write."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


LISTED = ("suppressions", "list", "--format", "json")


def test_all_of_a_large_output_goes_through_a_pipe(much: Path, pipesync: Pipesync) -> None:
    """More than a pipe holds, to a reader that takes its time, is what the command prints elsewhere."""
    with subprocess.Popen([*MODULE, *LISTED], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        time.sleep(0.5)
        printed = started.stdout.read()

    assert started.returncode == 0
    assert len(printed) > 2 * 65536
    is_whole = printed == pipesync(*LISTED).out  # outside of the assertion: pytest would compare line by line
    assert is_whole


def test_a_reader_that_went_away_is_no_news(much: Path) -> None:
    """`pipesync suppressions list --format json | head -1` ends with 1 and not a word of what nobody reads."""
    with subprocess.Popen(
        [*MODULE, *LISTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        first = started.stdout.readline()
        started.stdout.close()
        told = started.stderr.read()

    assert (first, told, started.returncode) == ("{\n", "", 1)


ENTRY = "from pipesync.cli.__main__ import run; run()"


def test_exit_functions_run_and_nothing_is_taken_apart(fresh: Path) -> None:
    """Exit functions of before and of meanwhile run, the last one first; modules' objects are not torn down."""
    program = f"""
import atexit, logging, sys, threading, time
class Kept:
    def __del__(self): print("torn down")
kept = Kept()
atexit.register(print, "the first")
atexit.register(print, "the second")
def late():
    time.sleep(0.2)
    print("a thread")
threading.Thread(target=late).start()
{ENTRY}
"""
    ended = run_process("--version", program=program)

    assert ended.stdout.splitlines()[1:] == ["a thread", "the second", "the first"]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_what_watches_the_process_sees_its_end(fresh: Path) -> None:
    """A profiler runs to its own end and tells what it saw."""
    ended = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "pipesync.cli", "--version"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert "function calls" in ended.stdout, ended.stderr


def test_closed_stores_leave_no_files_behind(work: Path) -> None:
    """What a store writes beside its file while it is open goes with the command, of those that only read too."""
    assert (
        run_process("suppressions", "add", "*", "--until", "2999-01-31", "--reason", "a test").returncode == 0
    )
    before = {p.name for p in work.iterdir()}

    assert run_process("suppressions", "list").returncode == 0
    assert run_process("status").returncode == 0

    assert {p.name for p in work.iterdir()} == before
    assert [name for name in before if name.endswith(("wal", "shm", ".tmp"))] == []


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("3", "3")])
def test_linear_algebra_takes_one_thread_unless_told(
    given: str | None, threads: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of ours tells OpenBLAS to start none; an admin's own number stands."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
    program = (
        f"import atexit, os; atexit.register(lambda: print(os.environ['OPENBLAS_NUM_THREADS'])); {ENTRY}"
    )

    assert run_process("--version", program=program).stdout.splitlines()[-1] == threads


def test_the_library_leaves_the_process_alone() -> None:
    """Importing the group of commands sets neither threads nor the collector of somebody else's process."""
    program = (
        "import gc, os; a = gc.get_threshold(); import pipesync.cli; "
        "print('OPENBLAS_NUM_THREADS' in os.environ, a == gc.get_threshold())"
    )
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )

    assert told.stdout.split() == ["False", "True"]


MODELS = ("pandas", "scipy", "sklearn", "sqlglot", "pipesync.forecast", "pipesync.rules")
EVENTS = ("structlog", "pygments")
OTHERS = (
    "sqlalchemy",
    "pydantic_settings",
    "requests",
    "jinja2",
    "hubspot",
    "simple_salesforce",
    "rich.progress",
)


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("pull -q", (*MODELS[1:], *EVENTS, *OTHERS)),  # exports are read with pandas
        ("pull --format json", (*MODELS[1:], *EVENTS, *OTHERS)),
        ("status", (*MODELS, *EVENTS)),
    ],
)
def test_a_command_imports_what_it_uses(command: str, unused: tuple[str, ...], fresh: Path) -> None:
    """What only other commands need, or events that nobody tells, is no part of its start."""
    told = f"print([m for m in {unused!r} if m in sys.modules])"
    program = f"import atexit, sys; atexit.register(lambda: {told}); {ENTRY}"

    ended = run_process(*command.split(), program=program)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"
