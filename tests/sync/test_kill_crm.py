"""kill -9 at any moment of a sync with a CRM that misbehaves: it ends as after an undisturbed run."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.sync.kills import kill_repeatedly

from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.config import Config, load
from pipesync.sandbox.company import generate
from pipesync.sandbox.faults import KINDS
from pipesync.sandbox.process import Sandbox, running
from pipesync.sync import sync_all

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
