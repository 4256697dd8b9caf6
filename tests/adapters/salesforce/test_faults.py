"""Whatever goes wrong on the way, the warehouse ends up equal to the org, and the org with each task once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations_with_replacement

import pytest
from tests.adapters.salesforce.conftest import Connect, edit, facts, order, put, tasks

from pipesync.adapters.salesforce import bulk, writing
from pipesync.errors import PipesyncError
from pipesync.model import Change
from pipesync.pull import pull
from pipesync.sandbox.company import generate
from pipesync.sandbox.faults import KINDS
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.warehouse import Warehouse

PAIRS = tuple(combinations_with_replacement(KINDS, 2))
FEW, MANY = (3, 29, 40), range(7 * len(PAIRS))
STREAMS = (
    "opportunities", "stages", "users", "field_changes", "accounts", "contact_roles", "activities", "own_tasks",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A company that is small enough for hundreds of runs."""
    folder = tmp_path_factory.mktemp("small") / "exports"
    generate(folder, opportunities=50, activities_per_opportunity=2)
    with running(folder, "salesforce") as sandbox:
        yield sandbox


@pytest.mark.parametrize("seed", FEW)
def test_a_few_runs_under_faults_end_well(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A sample of the campaign, for every run of the tests."""
    _campaign(connect, sandbox, monkeypatch, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", MANY)
def test_every_run_under_faults_ends_well(
    connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Every kind of fault alone and in pairs, seven times over, by REST and by Bulk."""
    _campaign(connect, sandbox, monkeypatch, seed)


def _campaign(connect: Connect, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(bulk, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writing, "_ROW_PAUSE", 0.001)
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    kinds = sorted(set(PAIRS[seed % len(PAIRS)]))
    put(sandbox, page_size=chance.choice((17, 60, 2000)))
    how = {"bulk_from": 20, "bulk_page": 100} if seed // len(PAIRS) % 2 else {"page_size": 60}
    seconds = {"lag": 120, "slow": 0.005}
    faults = [{"kind": k, "rate": 0.1, "seconds": seconds.get(k, 0), "retry_after": 0} for k in kinds]
    sandbox.ask("POST", "faults", {"faults": faults, "seed": seed})
    changes: list[Change] = []
    with Warehouse() as warehouse, Warehouse() as fresh:
        _until_done(lambda: pull(connect(**how), warehouse, streams=STREAMS))
        for _ in range(2):
            _disturb(sandbox, chance)
            changes += tasks(warehouse, 5, start=len(changes))
            _until_done(partial(_write, connect, changes))
            sandbox.ask("POST", "clock", {"advance": 30})
            _until_done(lambda: pull(connect(**how), warehouse, streams=STREAMS))
        order(sandbox)
        sandbox.ask("POST", "clock", {"advance": 30})
        pull(connect(**how), warehouse, streams=STREAMS)
        put(sandbox, page_size=2000)
        pull(connect(), fresh, streams=STREAMS)

        assert facts(warehouse) == facts(fresh)
    held = Counter(t["Pipesync_Key__c"] for t in sandbox.ask("GET", "dump")["Task"] if t["Pipesync_Key__c"])
    assert held == Counter({c.key: 1 for c in changes})


def _until_done(step: Callable[[], object]) -> None:
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


def _disturb(sandbox: Sandbox, chance: random.Random) -> None:
    """Play people: change, delete and purge opportunities, roles and activities, merge accounts."""
    for record in chance.sample(_there(sandbox, "Opportunity"), 6):
        edit(
            sandbox,
            record,
            Amount=chance.randrange(1, 99_999),
            NextStep=chance.choice(("Call", None, "Meet")),
        )
    for thing in ("Event", "OpportunityContactRole", "Opportunity"):
        gone, purged = chance.sample(_there(sandbox, thing), 2)
        edit(sandbox, gone, deleted=True)
        edit(sandbox, purged, purged=True)
    loser, winner = chance.sample(_there(sandbox, "Account"), 2)
    edit(sandbox, loser, merged_into=winner)


def _there(sandbox: Sandbox, thing: str) -> list[str]:
    return [row["Id"] for row in sandbox.ask("GET", "dump")[thing]]
