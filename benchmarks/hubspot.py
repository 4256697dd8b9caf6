"""HubSpot: what a pull costs, beside other people's extractors against the same sandbox process.

    python -m benchmarks.hubspot [--deals N] [--changes N] [--peers DIR | --alone]

Every answer of the sandbox is 50 ms late and nothing is limited, so that CPU and the number of requests are what
differs; CPU is that of the client's whole process, which for pipesync is `pipesync pull`, start-up and storing
included. All clients go by TLS through the same proxy, since the others know no other address than HubSpot's own. The
last part switches the Professional tier's limits on, and pulls everything there is.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import random
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from benchmarks import hubspot_peers as peers
from benchmarks.hubspot_intercept import intercepting

import pipesync as package
from pipesync.sandbox.company import generate
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.warehouse import Warehouse

_BESIDE = ("accounts", "contact_roles", "products", "line_items", "leads", "quotas", "currency_rates")
"""Streams that the peers do not read with the deals."""


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
            more = max(0, per_deal - 12)
            for n in range(more):
                at = created + timedelta(hours=n + 1, milliseconds=chance.randrange(1000))
                writer.writerow(
                    {
                        "opportunity_id": row["opportunity_id"], "field": "amount", "old": "",
                        "new": 1000 + n if n + 1 < more else row["amount"],
                        "changed_at": at.isoformat(), "changed_by": row["owner_id"],
                    }
                )  # fmt: skip


def connection(
    sandbox: Sandbox, work: Path, *, history: bool = True, whole: bool = False, is_direct: bool = True
) -> Path:
    """Write a configuration, which reads of a deal what the peers read, with six histories or none.

    `whole` reads every stream. Where it is not `is_direct`, the portal is at HubSpot's own address, behind a proxy.
    """
    work.mkdir(exist_ok=True)
    keys = sandbox.settings("hubspot", work)
    keys.pop("activities", None)
    if not is_direct:
        keys.pop("url")
    fields: dict[str, Any] = (
        {} if history else {n: {"field": p, "history": "none"} for n, p in peers.TRACKED.items()}
    )
    streams: dict[str, Any] = {"opportunities": {"fields": fields}}
    if not whole:
        streams |= dict.fromkeys(_BESIDE)
    mapping = {
        "version": 1,
        "extends": "pipesync:hubspot",
        "currency": "EUR",
        "timezone": "UTC",
        "streams": streams,
    }
    (work / keys["mapping"]).write_text(yaml.safe_dump(mapping), encoding="utf-8")
    (work / "pipesync.yaml").write_text(yaml.safe_dump({"connections": {"hs": keys}}), encoding="utf-8")
    return work


def pull(who: str, sandbox: Sandbox, work: Path, extra: Mapping[str, str] | None = None) -> peers.Cost:
    command = [sys.executable, "-m", "pipesync.cli", "pull", "-q", "--config", str(work / "pipesync.yaml")]
    return peers.measure(who, sandbox, command, extra)


def pull_as_peers(sandbox: Sandbox, scratch: Path, work: Path) -> peers.Cost:
    with intercepting(sandbox.url, scratch) as proxied:
        return pull("pipesync, stored", sandbox, work, proxied)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deals", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=30, help="per deal")
    parser.add_argument(
        "--peers", type=Path, default=peers.HOME, help="where their environments are, or are made"
    )
    parser.add_argument("--alone", action="store_true", help="pipesync only")
    given = parser.parse_args()
    compileall.compile_dir(str(Path(package.__file__).parent), quiet=2)  # as pip does with what it installs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset(folder / "data", given.deals, given.changes)
        with running(folder / "data", "hubspot", delay=0.05) as sandbox:
            compare(sandbox, folder, None if given.alone else given.peers)
            increments(sandbox, folder)
        limited(folder)


def compare(sandbox: Sandbox, folder: Path, home: Path | None) -> None:
    print("with six histories, 50 ms added to every answer")
    full = connection(sandbox, folder / "full", is_direct=False)
    ours = pull_as_peers(sandbox, folder, full)
    print(ours.line(_rows(full)))
    if home:
        _beside(ours, *peers.pipeline_diff(sandbox, home, folder), full, sandbox)
    print("without history")
    plain = connection(sandbox, folder / "plain", history=False, is_direct=False)
    ours = pull_as_peers(sandbox, folder, plain)
    print(ours.line(_rows(plain)))
    if home:
        _beside(ours, *peers.meltano(sandbox, home, folder), plain, sandbox)


def _rows(work: Path) -> str:
    with Warehouse(work / "warehouse.duckdb", read_only=True) as stored:
        deals, changes = (
            stored.rows(f"SELECT count(*) FROM {s}")[0][0] for s in ("opportunities", "field_changes")
        )
    return f"{deals:,} deals, {changes:,} changes"


def _beside(ours: peers.Cost, cost: peers.Cost, theirs: peers.Brought, work: Path, sandbox: Sandbox) -> None:
    rows = peers.pipesync_rows(work / "warehouse.duckdb", sandbox)
    same = rows.deals == theirs.deals and theirs.history in (None, rows.history)
    print(cost.line(f"the same rows: {same}"))
    print(
        f"    pipesync takes {ours.cpu / cost.cpu:.2f} of its CPU, and {ours.requests} requests to its {cost.requests}"
    )


def increments(sandbox: Sandbox, folder: Path) -> None:
    """Pull every stream again: when nothing changed, and when some did."""
    work = connection(sandbox, folder / "full", whole=True)
    pull("first", sandbox, work)
    sandbox.ask("POST", "clock", {"advance": 3600})
    print("again, every stream; one request of each run looks through the archive")
    print(pull("pipesync, nothing changed", sandbox, work).line())
    ids = list(sandbox.ids("hubspot")["deals"].values())
    for share in (50, 10):
        for deal in ids[::share]:
            sandbox.ask(
                "POST", "edit", {"crm": "hubspot", "id": deal, "fields": {"hs_next_step": f"every {share}th"}}
            )
        count = len(ids[::share])
        allowed = 8 + -(-count // 200) + -(-count // 50)
        cost = pull(f"pipesync, {count} changed", sandbox, work)
        print(cost.line(f"at most {allowed} and the archive's"))
        sandbox.ask("POST", "clock", {"advance": 3600})


def limited(folder: Path) -> None:
    """Pull every stream under the Professional tier's limits, 190 requests in ten seconds, and without."""
    print("a full pull of every stream, without limits and with the Professional tier's")
    with running(folder / "data", "hubspot") as sandbox:
        work = connection(sandbox, folder / "free", whole=True)
        free = pull("pipesync", sandbox, work)
        print(free.line(_rows(work)))
    with running(folder / "data", "hubspot", tier="professional") as sandbox:
        held = pull("pipesync", sandbox, connection(sandbox, folder / "held", whole=True))
        print(held.line(f"{sandbox.ask('GET')['refused']} answers 429"))
    # What the limits force is their waiting, and then the work on what only comes after the last wait.
    forced = 10.0 * ((held.requests - 1) // 190)
    least = max(free.wall, forced + free.wall * ((held.requests - 1) % 190 + 1) / held.requests)
    print(
        f"    {forced:.0f} s of waiting, so {least:.1f} s are forced; it took {held.wall / least:.2f} times that"
    )


if __name__ == "__main__":
    main()
