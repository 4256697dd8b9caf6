"""A stop on request: at any checkpoint, and the next run makes it whole."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipesync.cli.stopping import stopping
from pipesync.config import load
from pipesync.errors import Stopped
from pipesync.sandbox.company import generate
from pipesync.sync import Cycle, sync_all

CONFIGURATION = """\
mode: enforce
guard: {first_apply: 1000000}
connections:
  company: {adapter: files, data: exports, outbox: outbox, write: {enabled: true, tasks: true, forecasts: true}}
"""


def _stop_at(number: int) -> Callable[[], None]:
    passed = 0

    def checkpoint() -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            raise Stopped("asked to")

    return checkpoint


def _keys(folder: Path) -> set[str]:
    file = folder / "outbox" / "tasks.csv"
    if not file.exists():
        return set()
    with file.open(newline="") as rows:
        return {row["key"] for row in csv.DictReader(rows)}


def test_sigterm_is_obeyed_at_the_next_checkpoint() -> None:
    """The signal itself interrupts nothing; the checkpoint after it does; afterwards the old handler is back."""
    before = signal.getsignal(signal.SIGTERM)

    with stopping() as checkpoint:
        checkpoint()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            checkpoint()

    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_sync_is_made_whole_by_the_next(tmp_path: Path) -> None:
    """Stopped while pulling and again before writing: nothing is written until a run goes through, then everything."""
    generate(tmp_path / "exports", opportunities=60)
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION)
    config = load(tmp_path / "pipesync.yaml")

    stopped = [sync_all(config, ["company"], checkpoint=_stop_at(n))["company"] for n in (1, 4, 16)]
    written = _keys(tmp_path)
    whole = sync_all(config, ["company"])["company"]

    assert [type(s) for s in stopped] == [Stopped, Stopped, Stopped]
    assert written == set()
    assert isinstance(whole, Cycle)
    assert whole.applied
    assert len(_keys(tmp_path)) == sum(c.object == "task" for c in whole.prepared.plan.changes) > 0
