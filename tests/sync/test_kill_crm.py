"""kill -9 or SIGTERM at any moment of a sync with a CRM that misbehaves: it ends as after an undisturbed run."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.sync.kills import kill_repeatedly

from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.cli.stopping import stopping
from pipesync.config import Config, load
from pipesync.errors import PipesyncError
from pipesync.sandbox.company import generate
from pipesync.sandbox.faults import KINDS
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.ledger import Ledger
from pipesync.sync import sync_all

pytestmark = pytest.mark.thorough

KILLS = 3
LONG = range(50)
HOW: dict[str, dict[str, Any]] = {
    "status": {"rate": 0.1},
    "lost": {"rate": 0.1, "method": "POST|PATCH|DELETE"},
    "refused": {"rate": 0.1},
    "slow": {"rate": 0.2, "seconds": 0.02},
    "session": {"rate": 0.03},
    "partial": {"rate": 0.3},
    "lock": {"rate": 0.3},
    "limit": {"rate": 0.1},
    "lag": {"seconds": 30},
}
"""How often each fault of the harness happens here."""
VOLATILE = {"Id", "id", "CreatedDate", "LastModifiedDate", "SystemModstamp", "hs_object_id"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["pipesync.sync", "pipesync.adapters.salesforce", "pipesync.adapters.hubspot"]
)


@dataclass
class Base:
    """A CRM whose tasks were written once and that has changed since, and how a sync goes that nobody disturbs."""

    folder: Path
    sandbox: Sandbox
    crm: str
    expected: dict[str, list[dict[str, Any]]]
    duration: float


def started(config: Config, crm: str) -> multiprocessing.process.BaseProcess:
    process = _context.Process(target=sync_all, args=(config, [crm]))
    process.start()
    return process


def ours(sandbox: Sandbox) -> dict[str, list[dict[str, Any]]]:
    """Return our records by kind and key, without ids and the moments of their writing."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, rows in sandbox.ask("GET", "dump").items():
        keyed = [(r.get("Pipesync_Key__c") or r.get("pipesync_key"), r) for r in rows]
        kept = [
            (key, {n: v for n, v in r.items() if n not in VOLATILE and "date" not in n})
            for key, r in keyed
            if key
        ]
        if kept:
            found[kind] = [r for _, r in sorted(kept, key=lambda k: k[0])]
    return found


@pytest.fixture(scope="module", params=["salesforce", "hubspot"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    folder = tmp_path_factory.mktemp(request.param)
    generate(folder / "exports", opportunities=60, activities_per_opportunity=2)
    work = folder / "work"
    work.mkdir()
    with running(folder / "exports", request.param) as sandbox:
        config = write_configuration(work, [Crm(sandbox, request.param, work)])
        sync_all(config, [request.param])
        held = sandbox.ask("GET", "dump")
        edited = [str(r.get("Id") or r.get("id")) for r in held.get("Opportunity") or held["deals"]][-24:]
        for opportunity in edited[::3]:
            sandbox.edit(request.param, opportunity, {"outcome": "Closed Lost"})
        for opportunity in edited[1::3]:
            sandbox.edit(request.param, opportunity, {"amount": "", "next_step": ""})
        sandbox.ask("POST", "keep")
        again = folder / "undisturbed"
        shutil.copytree(work, again)
        began = time.monotonic()
        process = started(load(again / "pipesync.yaml"), request.param)
        process.join()
        assert process.exitcode == 0
        yield Base(work, sandbox, request.param, ours(sandbox), time.monotonic() - began)


def ends_as_undisturbed(base: Base, seed: int, work: Path) -> None:
    """Kill at random moments while faults happen, then run once to the end; compare what the CRM holds."""
    shutil.copytree(base.folder, work)
    config = load(work / "pipesync.yaml")
    base.sandbox.ask("POST", "reset")
    kind = KINDS[seed % len(KINDS)]
    base.sandbox.ask("POST", "faults", {"faults": [{"kind": kind, **HOW[kind]}], "seed": seed})
    killed = kill_repeatedly(lambda: started(config, base.crm), KILLS, base.duration, seed)
    base.sandbox.ask("POST", "faults", {"faults": []})

    process = started(config, base.crm)
    process.join()

    assert process.exitcode == 0
    assert killed > 0
    assert ours(base.sandbox) == base.expected


def test_a_killed_sync_is_made_good_by_the_next(base: Base, tmp_path: Path) -> None:
    """The same tasks and forecasts, none twice, none lost."""
    ends_as_undisturbed(base, KINDS.index("lost"), tmp_path / "work")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", LONG)
def test_fifty_killed_syncs_are_made_good(base: Base, seed: int, tmp_path: Path) -> None:
    """Every kind of fault in turn, on each CRM."""
    ends_as_undisturbed(base, seed, tmp_path / "work")


def sync_until_told(config: Config, crm: str) -> None:
    """Be the command: SIGTERM ends it at the next checkpoint, with exit code 4; a second run is refused with 2."""
    try:
        with stopping() as checkpoint:
            done = sync_all(config, [crm], checkpoint=checkpoint)[crm]
    except PipesyncError as error:
        sys.exit(error.exit_code)
    sys.exit(done.exit_code if isinstance(done, PipesyncError) else 0)


def stopped_again_and_again(base: Base, cycles: int, work: Path) -> None:
    """Two syncs start at once, faults happen, both get SIGTERM or kill -9 at a random moment; then one goes through."""
    shutil.copytree(base.folder, work)
    config = load(work / "pipesync.yaml")
    base.sandbox.ask("POST", "reset")
    chance = random.Random(cycles)  # noqa: S311  # seeded on purpose
    ended: list[tuple[int, list[int | None]]] = []
    for cycle in range(cycles):
        kind = KINDS[cycle % len(KINDS)]
        base.sandbox.ask("POST", "faults", {"faults": [{"kind": kind, **HOW[kind]}], "seed": cycle})
        both = [_context.Process(target=sync_until_told, args=(config, base.crm)) for _ in range(2)]
        for process in both:
            process.start()
        time.sleep(chance.uniform(0.1, base.duration))
        how = signal.SIGTERM if cycle % 2 else signal.SIGKILL
        for process in both:
            if process.is_alive():
                os.kill(process.pid or 0, how)
        for process in both:
            process.join(60)
        ended.append((how, [process.exitcode for process in both]))
    base.sandbox.ask("POST", "faults", {"faults": []})
    last = _context.Process(target=sync_until_told, args=(config, base.crm))
    last.start()
    last.join()

    assert last.exitcode == 0
    assert ours(base.sandbox) == base.expected
    by_term = [code for how, codes in ended for code in codes if how == signal.SIGTERM]
    assert {code for code in by_term if code is not None} <= {0, 2, 3, 4, -signal.SIGTERM}, (
        "each ended by itself"
    )
    assert None not in by_term
    with Ledger(config.ledger_url) as ledger:
        whole = [run for run in ledger.runs(base.crm, limit=500) if run.status in ("done", "partly")]
    spans = sorted((run.started_at, run.finished_at) for run in whole if run.finished_at)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans)), "no two worked at once"


@pytest.mark.campaign
def test_fifty_stops_miss_nothing_and_never_overlap(base: Base, tmp_path: Path) -> None:
    """Every kind of fault in turn, SIGTERM and kill -9 in turn, on each CRM."""
    stopped_again_and_again(base, 50, tmp_path / "work")
