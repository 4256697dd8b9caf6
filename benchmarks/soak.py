"""A year and more of scheduled syncs: cycles against the sandbox, faults on, while people change the pipeline.

    python -m benchmarks.soak --crm salesforce --cycles 1000

Every cycle has a kind of fault of its own, one opportunity that somebody changed or closed, and twelve hours that went
by for the CRM and for pipesync alike, so that after 90 days `store.keep` has something to delete. Memory and file sizes
are told as they go. At the end, without faults, the mirror must equal a fresh pull, no write may be unconfirmed, every
open task of ours must be known to the journal, once per opportunity and assignee, and the next plan be empty: if not,
this ends with 1. SIGTERM ends it after the cycle that runs, and it judges what there is.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.config import Config, load
from pipesync.connections import pull_all
from pipesync.sandbox.company import generate
from pipesync.sandbox.faults import KINDS
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.erasure import prune
from pipesync.store.ledger import Ledger
from pipesync.store.pages import CHILDREN
from pipesync.store.warehouse import Warehouse
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


def played(sandbox: Sandbox) -> Callable[[], datetime]:
    """Return a clock that goes on from the sandbox's time as real time does."""
    then, since = sandbox.ask("GET")["now"] / 1000, time.monotonic()
    return lambda: datetime.fromtimestamp(then, UTC) + timedelta(seconds=time.monotonic() - since)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crm", choices=["salesforce", "hubspot"], default="salesforce")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=12, help="that go by in a cycle")
    parser.add_argument("--opportunities", type=int, default=120)
    parser.add_argument("--keep", default="90d")
    parser.add_argument("--closing", type=float, default=0.05, help="share of the changes that close one")
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
            began, told_to_end = time.monotonic(), False

            def end(*_: object) -> None:
                nonlocal told_to_end
                told_to_end = True

            signal.signal(signal.SIGTERM, end)
            for number in range(given.cycles):
                if told_to_end:
                    break
                kind = KINDS[number % len(KINDS)]
                sandbox.ask("POST", "faults", {"faults": []})
                edit(sandbox, given.crm, chance, ids, given.closing)
                sandbox.ask("POST", "clock", {"advance": given.hours * 3600})
                sandbox.ask("POST", "faults", {"faults": [{"kind": kind, **HOW[kind]}], "seed": number})
                done = sync_all(config, [given.crm], clock=played(sandbox))[given.crm]
                ends["whole" if isinstance(done, Cycle) else type(done).__name__] += 1
                if (number + 1) % PIECE == 0:
                    gc.collect()
                    told: dict[str, Any] = {"cycles": number + 1, "rss_mb": round(resident(), 1)}
                    told |= {p.name: round(p.stat().st_size / 1e6, 2) for p in sorted(folder.glob("*.d*b*"))}
                    told |= {"ends": dict(ends), "minutes": round((time.monotonic() - began) / 60, 1)}
                    print(json.dumps(told), flush=True)
            sandbox.ask("POST", "faults", {"faults": []})
            undisturbed(config, given.crm, sandbox)
            again = undisturbed(config, given.crm, sandbox)
            found = {
                "cycles": ends.total(),
                "ends": dict(ends),
                **judged(config, given.crm, sandbox.ask("GET", "dump"), again),
            }
            print(json.dumps(found))
    sys.exit(any(found["wrong"].values()))


def undisturbed(config: Config, crm: str, sandbox: Sandbox) -> Cycle:
    """Sync a minute later: the sandbox's time stands still while a run takes some.

    A run that begins before the end of the last would take what that one wrote for newer than what it reads itself.
    """
    sandbox.ask("POST", "clock", {"advance": 60})
    done = sync_all(config, [crm], clock=played(sandbox))[crm]
    assert isinstance(done, Cycle), done
    return done


def edit(sandbox: Sandbox, crm: str, chance: random.Random, ids: list[str], closing: float) -> None:
    """Be the rep who changes something; what is closed is left alone from then on."""
    if len(ids) > 1 and chance.random() < closing:
        outcome = chance.choice(["Closed Won", "Closed Lost"])
        sandbox.edit(crm, ids.pop(chance.randrange(len(ids))), {"outcome": outcome})
        return
    values = chance.choice(
        [
            {"amount": str(chance.randrange(1000, 90000))},
            {"amount": ""},
            {"next_step": ""},
            {"next_step": "Call"},
        ]
    )
    sandbox.edit(crm, chance.choice(ids), values)


def judged(config: Config, crm: str, held: dict[str, Any], again: Cycle) -> dict[str, Any]:
    """Hold what we know against what the CRM holds; whatever stands under `wrong` must be 0."""
    tasks = [
        (key, bool(r.get("IsClosed") or r.get("hs_task_status") == "COMPLETED"))
        for r in held.get("Task") or held.get("tasks") or []
        if (key := r.get("Pipesync_Key__c") or r.get("pipesync_key"))
    ]
    keys = [key for key, _ in tasks]
    fresh = config.model_copy(
        update={
            "store": config.store.model_copy(
                update={"warehouse": Path("fresh.duckdb"), "ledger": "fresh-ledger.db"}
            )
        }
    )
    pull_all(fresh, [crm])
    with Warehouse(config.warehouse) as ours, Warehouse(fresh.warehouse) as theirs:
        with Ledger(fresh.ledger_url) as scratch:
            prune(theirs, scratch, crm, again.as_of - (config.store.keep or timedelta(0)))
        tables = ("opportunities", *CHILDREN, "own_tasks", "own_forecasts")
        differing = {table: differing_rows(ours, theirs, table) for table in tables}
        opportunities = ours.rows("SELECT count(*), count(*) FILTER (is_closed) FROM opportunities")[0]
        double = ours.rows(
            "SELECT count(*) FROM (SELECT opportunity_id, owner_id FROM own_tasks WHERE NOT is_done "
            "GROUP BY ALL HAVING count(*) > 1)"
        )
    with Ledger(config.ledger_url) as ledger:
        journal = {e.key for e in ledger.journal(crm)}
        unconfirmed = len(ledger.unconfirmed(crm))
        runs = ledger.runs(crm, limit=1_000_000)
    return {
        "opportunities": opportunities[0],
        "closed": opportunities[1],
        "tasks_in_crm": len(keys),
        "open_tasks": sum(not done for _, done in tasks),
        "runs_kept": len(runs),
        "days_kept": (runs[0].started_at - runs[-1].started_at).days,
        "wrong": {
            **{f"{table}_differing": count for table, count in differing.items()},
            "task_keys_twice": len(keys) - len(set(keys)),
            "open_tasks_unknown_to_journal": sum(not done and key not in journal for key, done in tasks),
            "double_open_tasks": double[0][0],
            "unconfirmed": unconfirmed,
            "next_plan": len(again.prepared.plan.changes),
        },
    }


_TOLD = {
    "field_changes": "SELECT opportunity_id, field, value, changed_at FROM field_changes QUALIFY value "
    "IS DISTINCT FROM lag(value, 1, '') OVER (PARTITION BY opportunity_id, field ORDER BY changed_at, seq)"
}
"""What a table says, where it may say it twice: an increment repeats of a history row what had not changed with it."""


def differing_rows(ours: Warehouse, theirs: Warehouse, table: str) -> int:
    """Count the facts that only one of two mirrors has."""
    sql = _TOLD.get(table, f'SELECT * FROM "{table}"')
    here, there = (Counter(map(str, mirror.rows(sql))) for mirror in (ours, theirs))
    return ((here - there) | (there - here)).total()


if __name__ == "__main__":
    main()
