"""A year of scheduled syncs in an hour: many cycles against the sandbox, faults on, while people change the pipeline.

    python -m benchmarks.soak --crm salesforce --cycles 500

Every cycle has a kind of fault of its own, one opportunity that somebody changed, and an hour that went by. Memory and
file sizes are told as they go; at the end, without faults, the mirror must equal the CRM, no write may be unconfirmed,
every open task of ours must be known to the journal, once per opportunity and assignee, and the next plan be empty.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.config import load
from pipesync.sandbox.company import generate
from pipesync.sandbox.faults import KINDS
from pipesync.sandbox.process import running
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse, published
from pipesync.sync import Cycle, sync_all

HOW: dict[str, dict[str, Any]] = {
    "status": {"rate": 0.1},
    "lost": {"rate": 0.1, "method": "POST|PATCH|DELETE"},
    "refused": {"rate": 0.1},
    "slow": {"rate": 0.1, "seconds": 0.01},
    "session": {"rate": 0.03},
    "partial": {"rate": 0.3},
    "lock": {"rate": 0.3},
    "limit": {"rate": 0.1},
    "lag": {"seconds": 30},
}
PIECE = 10
"""Cycles between two lines of figures."""


def resident() -> float:
    """Return this process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crm", choices=["salesforce", "hubspot"], default="salesforce")
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--opportunities", type=int, default=60)
    parser.add_argument("--keep", default="6 months")
    given = parser.parse_args()
    chance = random.Random(7)  # noqa: S311  # seeded on purpose
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        generate(folder / "exports", opportunities=given.opportunities, activities_per_opportunity=2)
        with running(folder / "exports", given.crm) as sandbox:
            write_configuration(folder, [Crm(sandbox, given.crm, folder)])
            with (folder / "pipesync.yaml").open("a") as file:
                file.write(f"store: {{keep: {given.keep}}}\n")
            config = load(folder / "pipesync.yaml")
            held = sandbox.ask("GET", "dump")
            ids = [str(r.get("Id") or r.get("id")) for r in held.get("Opportunity") or held["deals"]]
            ends: Counter[str] = Counter()
            began = time.monotonic()
            for first in range(0, given.cycles, PIECE):
                for number in range(first, min(first + PIECE, given.cycles)):
                    kind = KINDS[number % len(KINDS)]
                    fault = {"faults": [{"kind": kind, **HOW[kind]}], "seed": number}
                    sandbox.ask("POST", "faults", {"faults": []})
                    edit(sandbox, given.crm, chance, ids)
                    sandbox.ask("POST", "clock", {"advance": 3600})
                    sandbox.ask("POST", "faults", fault)
                    done = sync_all(config, [given.crm])[given.crm]
                    ends["whole" if isinstance(done, Cycle) else type(done).__name__] += 1
                gc.collect()
                sizes = {p.name: round(p.stat().st_size / 1e6, 2) for p in sorted(folder.glob("*.d*b*"))}
                told = {
                    "cycles": sum(ends.values()),
                    "rss_mb": round(resident(), 1),
                    **sizes,
                    "ends": dict(ends),
                }
                print(json.dumps({**told, "minutes": round((time.monotonic() - began) / 60, 1)}), flush=True)
            sandbox.ask("POST", "faults", {"faults": []})
            last = sync_all(config, [given.crm])[given.crm]
            again = sync_all(config, [given.crm])[given.crm]
            assert isinstance(last, Cycle), last
            assert isinstance(again, Cycle), again
            print(
                json.dumps(
                    judged(config.ledger_url, config.warehouse, given.crm, sandbox.ask("GET", "dump"), again)
                )
            )


def edit(sandbox: Any, crm: str, chance: random.Random, ids: list[str]) -> None:
    """Be the rep who changes something."""
    values = chance.choice(
        [
            {"amount": str(chance.randrange(1000, 90000))},
            {"amount": ""},
            {"next_step": ""},
            {"next_step": "Call"},
        ]
    )
    sandbox.edit(crm, chance.choice(ids), values)


def judged(url: str, warehouse: Path, crm: str, held: dict[str, Any], again: Cycle) -> dict[str, Any]:
    """Hold what we know against what the CRM holds."""
    opportunities = held.get("Opportunity") or held["deals"]
    theirs = {
        str(r.get("Id") or r["id"]): float(amount) if (amount := r.get("Amount") or r.get("amount")) else None
        for r in opportunities
    }
    tasks = [
        r
        for r in held.get("Task") or held.get("tasks") or []
        if r.get("Pipesync_Key__c") or r.get("pipesync_key")
    ]
    keys = [str(r.get("Pipesync_Key__c") or r.get("pipesync_key")) for r in tasks]
    with Warehouse(published(warehouse), read_only=True) as mirror:
        ours = {
            i: float(a) if a is not None else None
            for i, a in mirror.rows("SELECT id, amount FROM opportunities")
        }
        double = mirror.rows(
            "SELECT count(*) FROM (SELECT opportunity_id, owner_id FROM own_tasks WHERE NOT is_done "
            "GROUP BY ALL HAVING count(*) > 1)"
        )
    with Ledger(url) as ledger:
        journal = {e.key for e in ledger.journal(crm)}
        unconfirmed = len(ledger.unconfirmed(crm))
    return {
        "opportunities": len(theirs),
        "differing": sum(theirs.get(i) != a for i, a in ours.items()),
        "task_keys_twice": len(keys) - len(set(keys)),
        "tasks_unknown_to_journal": len(set(keys) - journal),
        "double_open_tasks": double[0][0],
        "unconfirmed": unconfirmed,
        "next_plan": len(again.prepared.plan.changes),
    }


if __name__ == "__main__":
    main()
