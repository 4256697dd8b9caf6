"""kill -9 at any moment of a sync, again and again: the outbox ends as after an undisturbed run."""

from __future__ import annotations

import csv
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
from tests.sync.kills import kill_repeatedly

from pipesync.cli.rehearsal import Folder
from pipesync.config import Config, load
from pipesync.sandbox.company import generate
from pipesync.sync import sync_all

pytestmark = pytest.mark.thorough

SEEDS = range(10)
KILLS = 10
NAME = "company"
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

# Trials fork from a process that has imported everything and opened nothing.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pipesync.sync", "pipesync.adapters.files"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company whose tasks were written once and that has changed since: a sync makes, edits and ends tasks."""
    folder = tmp_path_factory.mktemp("base")
    generate(folder / "exports", opportunities=90)
    (folder / "pipesync.yaml").write_text(CONFIGURATION)
    config = load(folder / "pipesync.yaml")
    sync_all(config, [NAME])
    tasks = _outbox(folder)["tasks.csv"]
    written = sorted(row["opportunity_id"] for row in tasks.values())
    world = Folder(folder / "exports")
    for opportunity in written[::3]:
        world.edit(opportunity, {"outcome": "Closed Lost", "closed_at": "2026-11-16T07:00:00Z"})
    for opportunity in written[1::3]:
        world.edit(opportunity, {"amount": "", "next_step": ""})
    return folder


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    """What the outbox holds after a sync that nobody disturbs, and how long that takes in a process of its own."""
    folder = tmp_path_factory.mktemp("undisturbed") / "work"
    shutil.copytree(base, folder)
    began = time.monotonic()
    process = _started(load(folder / "pipesync.yaml"))
    process.join()
    assert process.exitcode == 0
    return dict(_outbox(folder)), time.monotonic() - began


def _started(config: Config) -> multiprocessing.process.BaseProcess:
    process = _context.Process(target=sync_all, args=(config, [NAME]))
    process.start()
    return process


def _outbox(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return the outbox's records by file and key, without the moment of their last change."""
    found = {}
    for name in ("tasks.csv", "forecasts.csv"):
        with (folder / "outbox" / name).open(newline="", encoding="utf-8") as file:
            found[name] = {
                row["key"]: {k: v for k, v in row.items() if k != "modified_at"}
                for row in csv.DictReader(file)
            }
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_sync_is_made_good_by_the_next(
    seed: int, base: Path, undisturbed: tuple[dict[str, object], float], tmp_path: Path
) -> None:
    """Ten kills at random moments, then one run to the end: the same tasks and forecasts, none twice, none lost."""
    expected, duration = undisturbed
    work = tmp_path / "work"
    shutil.copytree(base, work)
    config = load(work / "pipesync.yaml")

    killed = kill_repeatedly(lambda: _started(config), KILLS, duration, seed)
    process = _started(config)
    process.join()

    assert process.exitcode == 0
    assert killed > 0
    assert _outbox(work) == expected
