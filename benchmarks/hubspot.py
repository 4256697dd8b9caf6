"""HubSpot: what a pull costs, beside other people's extractors against the same sandbox process.

    python -m benchmarks.hubspot --peers DIR

`DIR` holds throw-away environments `pipeline-diff` and `meltano` (each made with `python -m venv` and
`pip install pipeline-diff` or `meltano-tap-hubspot`); without it only pipesync runs. Every answer of the sandbox
is 50 ms late and nothing is limited, so that CPU and the number of requests are what differs; CPU is that of the
client's whole process, start-up and storing included. The last part switches the Professional tier's limits on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from benchmarks.hubspot_intercept import intercepting

from pipesync.sandbox.company import generate
from pipesync.sandbox.process import HUBSPOT_TOKEN, Sandbox, running
from pipesync.store.warehouse import Warehouse

TRACKED = ("dealstage", "amount", "closedate", "hubspot_owner_id", "pipeline", "hs_manual_forecast_category")
_PULL = """
import sys
from pathlib import Path
from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse
import yaml
work = Path(sys.argv[1])
config = ConnectionConfig.model_validate(yaml.safe_load((work / "connection.yaml").read_text()))
adapter = open_adapter("hubspot", config, work)
streams = [s for s in adapter.streams if s in sys.argv[2].split(",")]
with Warehouse(work / "warehouse.duckdb") as warehouse:
    pull(adapter, warehouse, streams=streams)
    print(*(warehouse.rows(f'SELECT count(*) FROM {s}')[0][0] for s in ("opportunities", "field_changes")))
"""
STREAMS = "opportunities,field_changes,stages,pipelines,users"


@dataclass(frozen=True)
class Cost:
    """What one run of a client cost."""

    who: str
    wall: float
    cpu: float
    requests: int
    rows: str
    output: str = ""

    def facts(self) -> set[tuple[str, int | None, str | None]]:
        """Return id, amount in cents and owner of the deals in a tap's output."""
        messages = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        records = [m["record"] for m in messages if m["type"] == "RECORD"]
        told = [(r["id"], r.get("properties") or r) for r in records]
        return {(i, cents(p["amount"]), p["hubspot_owner_id"]) for i, p in told}

    def line(self) -> str:
        return f"{self.who:<34}{self.wall:>8.2f} s{self.cpu:>8.2f} s CPU{self.requests:>7} requests   {self.rows}"


def measure(
    who: str, sandbox: Sandbox, command: list[str], environment: dict[str, str] | None = None
) -> Cost:
    """Run a client and count its CPU, its time and the requests that reached the sandbox."""
    sandbox.ask("DELETE", "counters")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(who, wall, cpu, sandbox.ask("GET")["requests"], _told(done.stdout), done.stdout)


def _told(output: str) -> str:
    """Return the last line that says something, or for a tap's stream how many records it has."""
    lines = output.strip().splitlines()
    records = sum('"type":"RECORD"' in line.replace(" ", "")[:40] for line in lines)
    return f"{records} records" if records else (lines[-1] if lines else "")


def dataset(folder: Path, deals: int, per_deal: int) -> None:
    """Write a company whose deals have about `per_deal` changes each."""
    generate(folder, opportunities=deals, activities_per_opportunity=0.01)
    chance = random.Random(7)  # noqa: S311  # repeatable on purpose
    with (folder / "opportunities.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "field_history.csv").open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["opportunity_id", "field", "old", "new", "changed_at", "changed_by"])
        for row in rows:
            created = datetime.fromisoformat(row["created_at"])
            for n in range(max(0, per_deal - 12)):
                at = created + timedelta(hours=n + 1, milliseconds=chance.randrange(1000))
                writer.writerow(
                    {
                        "opportunity_id": row["opportunity_id"], "field": "amount", "old": "", "new": 1000 + n,
                        "changed_at": at.isoformat(), "changed_by": row["owner_id"],
                    }
                )  # fmt: skip


def connection(sandbox: Sandbox, work: Path, *, history: bool) -> Path:
    """Write the connection that reads what the peers read: deals, six histories or none, pipelines, owners."""
    work.mkdir(exist_ok=True)
    keys = sandbox.settings("hubspot", work)
    keys.pop("activities", None)
    fields: dict[str, Any] = (
        {} if history else {n: {"field": p, "history": "none"} for n, p in _UNTRACKED.items()}
    )
    mapping = {
        "version": 1, "extends": "pipesync:hubspot", "currency": "EUR", "timezone": "UTC",
        "streams": {"opportunities": {"fields": fields}, "contact_roles": None},
    }  # fmt: skip
    (work / keys["mapping"]).write_text(yaml.safe_dump(mapping), encoding="utf-8")
    (work / "connection.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    return work


_UNTRACKED = {
    "stage": "dealstage", "amount": "amount", "close_date": "closedate", "owner_id": "hubspot_owner_id",
    "pipeline": "pipeline", "forecast_category": "hs_manual_forecast_category",
}  # fmt: skip


def pipesync(who: str, sandbox: Sandbox, work: Path) -> Cost:
    return measure(who, sandbox, [sys.executable, "-c", _PULL, str(work), STREAMS])


def pipeline_diff(sandbox: Sandbox, peers: Path, scratch: Path) -> Cost:
    with intercepting(sandbox.url, scratch) as environment:
        command = [
            str(peers / "pipeline-diff/bin/pipeline-diff"),
            "--data-dir",
            str(scratch / "pd"),
            "sync",
            "hubspot",
        ]
        return measure(
            "pipeline-diff", sandbox, command, {**environment, "PIPELINE_DIFF_HUBSPOT_TOKEN": HUBSPOT_TOKEN}
        )


def meltano(sandbox: Sandbox, peers: Path, scratch: Path) -> Cost:
    """Run meltano-tap-hubspot over its `deals` stream alone; discovery is not counted."""
    tap, config = str(peers / "meltano/bin/tap-hubspot"), scratch / "tap.json"
    config.write_text(json.dumps({"access_token": HUBSPOT_TOKEN}), encoding="utf-8")
    with (
        intercepting(sandbox.url, scratch) as environment,
        _trusted_by(peers / "meltano/bin/python", scratch),
    ):
        given = {**os.environ, **environment}
        found = subprocess.run(
            [tap, "--config", str(config), "--discover"],
            env=given,
            capture_output=True,
            text=True,
            check=True,
        )
        catalog = json.loads(found.stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] == "deals"
        chosen = scratch / "catalog.json"
        chosen.write_text(json.dumps(catalog), encoding="utf-8")
        command = [tap, "--config", str(config), "--catalog", str(chosen)]
        return measure("meltano-tap-hubspot", sandbox, command, environment)


@contextmanager
def _trusted_by(python: Path, scratch: Path) -> Iterator[None]:
    """Have an environment's certifi trust the proxy: singer taps heed no environment variable."""
    told = subprocess.run([str(python), "-m", "certifi"], capture_output=True, text=True, check=True)
    bundle = Path(told.stdout.strip())
    before = bundle.read_bytes()
    bundle.write_bytes(before + (scratch / "authority.pem").read_bytes())
    try:
        yield
    finally:
        bundle.write_bytes(before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deals", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=30, help="per deal")
    parser.add_argument("--peers", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset(folder / "data", given.deals, given.changes)
        with running(folder / "data", "hubspot", delay=0.05) as sandbox:
            compare(sandbox, folder, given.peers)
            increments(sandbox, folder)
        with running(folder / "data", "hubspot", tier="professional") as sandbox:
            limited(sandbox, folder)


def compare(sandbox: Sandbox, folder: Path, peers: Path | None) -> None:
    print("with six histories")
    print(pipesync("pipesync, stored", sandbox, connection(sandbox, folder / "full", history=True)).line())
    ours = facts(folder / "full" / "warehouse.duckdb")
    if peers:
        print(pipeline_diff(sandbox, peers, folder).line())
        lines = (folder / "pd/hubspot/deals.jsonl").read_text(encoding="utf-8").splitlines()
        theirs = {(d["id"], cents(d["amount"]), d["owner_id"]) for d in map(json.loads, lines)}
        print(f"    the same deals, amounts and owners: {theirs == ours}")
    print("without history")
    print(pipesync("pipesync, stored", sandbox, connection(sandbox, folder / "plain", history=False)).line())
    if peers:
        cost = meltano(sandbox, peers, folder)
        print(cost.line())
        theirs = cost.facts()
        print(f"    the same deals, amounts and owners: {theirs == ours}")


def facts(path: Path) -> set[tuple[str, int | None, str | None]]:
    """Return id, amount in cents and owner of each opportunity."""
    with Warehouse(path, read_only=True) as warehouse:
        found = warehouse.rows("SELECT id, amount, owner_id FROM opportunities")
    return {(i, cents(amount), owner) for i, amount, owner in found}


def cents(amount: Any) -> int | None:
    return None if amount in (None, "") else round(float(amount) * 100)


def increments(sandbox: Sandbox, folder: Path) -> None:
    """Pull again when nothing changed, and when some did."""
    work = folder / "full"
    sandbox.ask("POST", "clock", {"advance": 3600})
    print("again")
    print(pipesync("pipesync, nothing changed", sandbox, work).line())
    ids = list(sandbox.ids("hubspot")["deals"].values())
    for share in (50, 10):
        for deal in ids[::share]:
            sandbox.ask(
                "POST", "edit", {"crm": "hubspot", "id": deal, "fields": {"hs_next_step": f"every {share}th"}}
            )
        print(pipesync(f"pipesync, {len(ids[::share])} changed", sandbox, work).line())
        sandbox.ask("POST", "clock", {"advance": 3600})


def limited(sandbox: Sandbox, folder: Path) -> None:
    """Pull under the Professional tier's limits: 190 requests in ten seconds."""
    work = connection(sandbox, folder / "limited", history=True)
    keys = yaml.safe_load((work / "connection.yaml").read_text(encoding="utf-8"))
    print("with the Professional tier's limits")
    (work / "connection.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    cost = pipesync("pipesync", sandbox, work)
    forced = 10.0 * ((cost.requests - 1) // 190)
    print(
        f"{cost.line()}; the limits alone force {forced:.0f} s; {sandbox.ask('GET').get('refused', '?')} answers 429"
    )


if __name__ == "__main__":
    main()
