"""Runs of apply over a CRM's own protocol, in processes of their own that can be killed at any moment.

Findings are made once, from what a first pull brought; each run then does what a sync does after its rules: look up
what is unconfirmed, read our own records again, plan, apply.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipesync import plan, rules
from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.apply import Applied, apply, recover
from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.config import Config, load
from pipesync.model import PeriodForecast, Plan
from pipesync.plan import Situation, facts
from pipesync.pull import pull
from pipesync.rules.examination import examine
from pipesync.sandbox.process import Sandbox
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

VOLATILE = {
    "Id",
    "id",
    "CreatedDate",
    "LastModifiedDate",
    "SystemModstamp",
    "hs_object_id",
    "CompletedDateTime",
}
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "tests.apply.lives",
        "pipesync.adapters.salesforce",
        "pipesync.adapters.hubspot",
        "pipesync.store.migrations",
    ]
)
Row = dict[str, Any]  # Any: the sandbox's JSON


@dataclass
class Scene:
    """A CRM and the working folder of a connection to it, with findings that ask for every kind of change."""

    sandbox: Sandbox
    crm: str
    folder: Path

    @property
    def config(self) -> Config:
        return load(self.folder / "pipesync.yaml")

    def copied(self, folder: Path) -> Scene:
        """Return the same scene in another folder, with stores of its own; the CRM is put back to where it was kept."""
        shutil.copytree(self.folder, folder)
        self.sandbox.ask("POST", "reset")
        return Scene(self.sandbox, self.crm, folder)

    def disturb(self, faults: list[dict[str, Any]], seed: int = 0) -> None:
        self.sandbox.ask("POST", "faults", {"faults": faults, "seed": seed})

    def started(self) -> BaseProcess:
        process = _context.Process(target=live, args=(self.folder, self.crm))
        process.start()
        return process

    def killed(self, after: float, *, from_first_write: bool = False) -> tuple[bool, bool]:
        """Run, and kill the run after so many seconds, counted from its start or from its first intent.

        Return whether it was still at it, and whether it had begun to write.
        """
        before = self.entries()
        process = self.started()
        while from_first_write and process.is_alive() and self.entries() == before:
            process.join(0.005)
        process.join(after)
        was_alive = process.is_alive()
        process.kill()
        process.join()
        return was_alive, self.entries() > before

    def entries(self) -> int:
        """Return how many writes the journal knows of, intended ones among them."""
        with closing(sqlite3.connect(self.folder / "ledger.db")) as db:
            return int(db.execute("SELECT count(*) FROM journal").fetchone()[0])

    def ledger(self) -> Ledger:
        return Ledger(self.config.ledger_url)

    def adapter(self) -> Adapter:
        return open_adapter(self.crm, self.config.connections[self.crm], self.folder)

    def dump(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = self.sandbox.ask("GET", "dump")
        return found

    def ours(self) -> dict[str, list[Row]]:
        """Return our records by kind, in the order of their keys, without ids and the moments of their writing."""
        return {
            kind: sorted((still(r) for r in rows if key_of(r)), key=lambda r: str(key_of(r)))
            for kind, rows in self.dump().items()
            if any(map(key_of, rows))
        }


def key_of(row: Row) -> str | None:
    found: str | None = row.get("Pipesync_Key__c") or row.get("pipesync_key")
    return found


def still(row: Row) -> Row:
    """Return a record without what differs with every writing."""
    return {n: v for n, v in row.items() if n not in VOLATILE and "date" not in n}


def set_up(sandbox: Sandbox, crm: str, folder: Path) -> Scene:
    """Write the first tasks and forecasts, let people change what they are about, and keep what a next run finds."""
    folder.mkdir()
    config = write_configuration(folder, [Crm(sandbox, crm, folder)])
    scene = Scene(sandbox, crm, folder)
    with Ledger(config.ledger_url) as ledger:
        adapter = scene.adapter()
        first = situation(config, crm, adapter, ledger, _forecasts(crm, 100))
        apply(made(first, config), adapter, ledger, write=config.connections[crm].write)
        about = sorted({c.opportunity_id for c in ledger.journal(crm) if c.opportunity_id})
        for opportunity in about[::3]:
            sandbox.edit(crm, opportunity, {"outcome": "Closed Lost"})
        for opportunity in about[1::3]:
            sandbox.edit(crm, opportunity, {"amount": "", "next_step": ""})
        for opportunity in sorted(_open(first) - set(about))[::2]:
            sandbox.edit(crm, opportunity, {"amount": "", "next_step": ""})
        adapter.close()
        adapter = scene.adapter()
        second = situation(config, crm, adapter, ledger, _forecasts(crm, 200))
        adapter.close()
    sandbox.ask("POST", "keep")
    (folder / "situation.pickle").write_bytes(pickle.dumps((second, _ruleset(config))))
    return scene


def _ruleset(config: Config) -> rules.RuleSet:
    return rules.load(config, strict=True)


def _open(found: Situation) -> set[str]:
    return {f.subject_id for f in found.findings if f.level == "opportunity"}


def _forecasts(crm: str, amount: int) -> list[PeriodForecast]:
    numbers: dict[str, Any] = dict.fromkeys(
        ("p10", "p50", "p90", "mean", "closed", "open", "new"), Decimal(amount)
    )
    return [
        PeriodForecast(
            connection=crm, period_start=date(2026, 10, 1), period_end=date(2027, 1, 1), scope="product",
            scope_id=f"product {i}", currency="EUR", model="m", **numbers,
        )
        for i in range(5)
    ]  # fmt: skip


def situation(
    config: Config, crm: str, adapter: Adapter, ledger: Ledger, forecasts: Iterable[PeriodForecast] = ()
) -> Situation:
    """Pull everything and judge it."""
    ruleset = _ruleset(config)
    with Warehouse(config.warehouse) as warehouse:
        pull(adapter, warehouse)
        as_of = warehouse.pulled_to(crm)
        before = ledger.standing_findings(crm)
        evaluation = examine(warehouse, crm, config, ruleset, as_of, before).evaluation
        standing = rules.advance(before, evaluation, ruleset)
        found = plan.gather(warehouse, ledger, evaluation, standing, ruleset, forecasts=tuple(forecasts))
        ledger.save_findings(crm, standing)
    return found


def made(found: Situation, config: Config) -> Plan:
    return plan.make(found, config, _ruleset(config))


def live(folder: Path, crm: str) -> None:
    """One run, from looking up what is unconfirmed to the last request."""
    run(folder, crm)


def run(folder: Path, crm: str) -> Applied:
    config = load(folder / "pipesync.yaml")
    kept: tuple[Situation, rules.RuleSet] = pickle.loads((folder / "situation.pickle").read_bytes())  # noqa: S301  # ours
    found, ruleset = kept
    with Ledger(config.ledger_url) as ledger, Warehouse(config.warehouse) as warehouse:
        adapter = open_adapter(crm, config.connections[crm], folder)
        try:
            recover(adapter, ledger, crm)
            pull(adapter, warehouse, streams=("own_tasks", "own_forecasts"))
            about = {e.opportunity_id for e in ledger.journal(crm) if e.opportunity_id}
            now = replace(
                found,
                facts=facts.read(warehouse, crm, (), about | _open(found)),
                journal=ledger.journal(crm),
                fates=ledger.fates(crm),
            )
            return apply(
                plan.make(now, config, ruleset), adapter, ledger, write=config.connections[crm].write
            )
        finally:
            adapter.close()


# --- Faults -----------------------------------------------------------------------------------------------------

FAULTS: dict[str, dict[str, Any]] = {
    "lost": {"rate": 0.15, "method": "POST|PATCH|DELETE"},
    "partial": {"rate": 0.4},
    "lock": {"rate": 0.4},
    "limit": {"rate": 0.1},
    "lag": {"seconds": 30},
    "status": {"rate": 0.1},
    "refused": {"rate": 0.1},
    "slow": {"rate": 0.2, "seconds": 0.02},
    "session": {"rate": 0.03},
}
"""Lost responses, partial failures, locked rows, 429, search lag, and the harness's others; how often each happens."""


def faults_of(seed: int) -> list[dict[str, Any]]:
    """Return one or two kinds of faults, every pair of kinds in turn."""
    names = sorted(FAULTS)
    one, other = names[seed % len(names)], names[seed // len(names) % len(names)]
    return [{"kind": kind, **FAULTS[kind]} for kind in dict.fromkeys((one, other))]


@dataclass
class Told:
    """What a trial came to."""

    runs: int = 0
    killed: int = 0
    writing: int = 0
    """Of the killed, those that had begun to write."""


def survive(scene: Scene, seed: int, usual: float, kills: int) -> Told:
    """Run under faults and kill it, again and again, then run once undisturbed to the end."""
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    scene.disturb(faults_of(seed), seed)
    told = Told()
    span = usual
    for _ in range(kills):
        if chance.random() < 0.5:
            dead, wrote = scene.killed(chance.uniform(0, span))
        else:
            dead, wrote = scene.killed(chance.uniform(0, span / 8), from_first_write=True)
        if not dead:  # it was done before: the next has less to do, and is to be hit earlier
            span /= 2
        told.killed += dead
        told.writing += dead and wrote
        told.runs += 1
    scene.disturb([])
    process = scene.started()
    process.join()
    assert process.exitcode == 0, "the last run failed"
    told.runs += 1
    return told


def usual_duration(scene: Scene) -> float:
    """Return how long a run takes that nobody disturbs, its process's start included."""
    began = time.monotonic()
    process = scene.started()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began
