"""Kill -9 at random moments of a run: the next one ends with what an undisturbed run would have."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pipesync.apply import undo
from pipesync.model import PeriodForecast

if TYPE_CHECKING:
    from tests.apply.conftest import World, Worlds

Foretell = Callable[..., PeriodForecast]


def company(world: World, foretell: Foretell) -> World:
    """Two runs' worth of work: tasks that stay, change, go and come, and forecasts that move."""
    for i in range(120):
        world.fire(f"006{i:03}", message="old")
    world.forecasts = [foretell(scope="owner", scope_id=f"rep{i}") for i in range(10)]
    world.sync()
    world.as_of += timedelta(days=1)
    for i in range(40):
        world.fire(f"006{i:03}", message="new")
        world.clear(f"006{i + 40:03}")
        world.fire(f"006{i + 120:03}")
    world.basis = "b2"
    world.forecasts = [foretell(scope="owner", scope_id=f"rep{i}", p50=Decimal(200)) for i in range(10)]
    return world


def run_and_kill(world: World, after: float) -> bool:
    """Sync in a process of its own and kill it after so many seconds; return whether it was still at it."""
    world.close()
    child = os.fork()
    if child == 0:
        try:
            world.reopen()
            world.sync()
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    world.reopen()
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_run_leaves_no_trace(worlds: Worlds, foretell: Foretell, seed: int) -> None:
    """Up to five kills, then one run to the end: the same tasks, none twice, none lost, and nothing left to do."""
    undisturbed, world = company(worlds(), foretell), company(worlds(), foretell)
    started = time.monotonic()
    undisturbed.sync()
    usual = time.monotonic() - started
    moments = random.Random(seed)  # noqa: S311  # chance, not secrecy

    # A moment may come after the run has ended; then that run was whole, which must make no difference either.
    for _ in range(5):
        run_and_kill(world, moments.uniform(0, usual))
    world.sync()

    assert world.snapshot() == undisturbed.snapshot()
    assert world.ledger.unconfirmed("crm") == []
    world.pull()
    assert world.plan().changes == ()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_can_be_taken_back(worlds: Worlds, foretell: Foretell, seed: int) -> None:
    """After undo of a run that was cut off anywhere, our tasks and values are as before it."""
    world = company(worlds(), foretell)
    before, earlier = world.snapshot(), world.ledger.runs("crm")[0]
    moments = random.Random(seed)  # noqa: S311  # chance, not secrecy
    run_and_kill(world, moments.uniform(0.0, 0.3))

    newest = world.ledger.runs("crm")[0]
    if newest.id != earlier.id:
        undo(newest.id, world.adapter, world.ledger)

    assert world.snapshot() == before
