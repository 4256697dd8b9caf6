"""Whatever goes wrong on the way, the warehouse ends up equal to the portal, and the portal with each task once."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import pytest
from tests.adapters.hubspot.conftest import DEALS, Connect, Running, task

from pipesync.errors import PipesyncError
from pipesync.model import Change
from pipesync.pull import pull
from pipesync.sandbox.faults import Harness, parse
from pipesync.store.warehouse import Warehouse

KINDS = ("status", "lost", "refused", "slow", "session", "partial", "lock", "limit", "lag")
PAIRS = tuple(combinations_with_replacement(KINDS, 2))
FEW, MANY = (37, 170), range(300)
COMPARED = ("opportunities", "field_changes", "contact_roles", "own_tasks", "stages")


@pytest.mark.parametrize("seed", FEW)
def test_a_few_runs_under_faults_end_well(
    connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int
) -> None:
    """A sample of the campaign, for every run of the tests."""
    _campaign(connect, warehouse, hubspot, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", MANY)
def test_every_run_under_faults_ends_well(
    connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int
) -> None:
    """Every kind of fault alone and in pairs, several times over."""
    _campaign(connect, warehouse, hubspot, seed)


def _campaign(connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    sane = hubspot.app
    kinds = set(PAIRS[seed % len(PAIRS)])
    plan = parse([{"kind": kind, "rate": 0.1, "seconds": 0.005, "retry_after": 0.01} for kind in kinds])
    hubspot.app = Harness(sane, plan, seed)
    hubspot.records.lag = 60_000 if "lag" in kinds else 0
    _until_done(lambda: pull(connect(), warehouse, streams=DEALS))
    changes: list[Change] = []
    for _ in range(3):
        changes += [task(deal) for deal in _disturb(hubspot, chance)]
        _until_done(partial(_write, connect, changes))
        hubspot.advance(30)
        _until_done(lambda: pull(connect(), warehouse, streams=DEALS))

    hubspot.app = sane
    hubspot.advance(3600)
    pull(connect(), warehouse, streams=DEALS)

    with Warehouse() as fresh:
        pull(connect(), fresh, streams=DEALS)
        for stream in COMPARED:
            sql = f'SELECT * FROM "{stream}" ORDER BY ALL'
            assert warehouse.rows(sql) == fresh.rows(sql), stream
    left = hubspot.records.page("tasks", after=0, limit=999, archived=False)
    keys = Counter(t.properties["pipesync_key"] for t in left)
    assert keys == Counter({c.key: 1 for c in changes})


def _until_done(step: Any) -> None:
    """Run a step again until it passes, as a schedule does."""
    for _ in range(20):
        try:
            step()
        except PipesyncError:
            continue
        return
    raise AssertionError("never passed")


def _write(connect: Connect, changes: list[Change]) -> None:
    outcomes = list(connect().write(changes))
    if {o.status for o in outcomes} != {"applied"} or len(outcomes) != len(changes):
        raise PipesyncError("some failed")


def _disturb(hubspot: Running, chance: random.Random) -> list[str]:
    """Play people: change some deals, archive one; return deals for new tasks."""
    db = hubspot.records.db
    there = [
        r[0]
        for r in db.execute("SELECT id FROM hs_objects WHERE kind = 'deals' AND NOT archived ORDER BY id")
    ]
    with_tasks = {
        r[0] for r in db.execute("SELECT to_id FROM hs_links WHERE kind = 'tasks' AND to_kind = 'deals'")
    }
    chosen = chance.sample([d for d in there if d not in with_tasks], 9)
    for deal in chosen[:5]:
        hubspot.edit(
            deal, amount=str(chance.randrange(1, 99_999)), hs_next_step=chance.choice(("Call", None, "Meet"))
        )
    hubspot.records.archive("deals", chosen[5:6])
    db.commit()
    return [str(d) for d in chosen[6:]]
