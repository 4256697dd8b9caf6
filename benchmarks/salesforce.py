"""Salesforce: what a pull costs, beside other people's extractors against the same sandbox process.

    python -m benchmarks.salesforce [--peers DIR] [--opportunities N]

Every answer of the sandbox is 50 ms late. The org shows twelve fields of opportunities, so that who reads all fields
reads the same ones. CPU and memory are those of the client's whole process, start-up and, for pipesync, storing
included; what a client sleeps between two looks at a job is told apart. Then an incremental run over every object.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import salesforce_peers as peers

from pipesync.sandbox.company import generate
from pipesync.sandbox.process import Sandbox, running

DELAY = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--opportunities", type=int, default=100_000)
    parser.add_argument("--peers", type=Path, help="where the peers' environments are, or are made")
    parser.add_argument("--alone", action="store_true", help="pipesync only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        generate(work / "data", opportunities=given.opportunities, activities_per_opportunity=0.01)
        with running(work / "data", "salesforce", delay=DELAY) as sandbox:
            print(
                f"{given.opportunities:,} opportunities, 12 fields, {1000 * DELAY:.0f} ms added to every answer,"
            )
            print("pages of 2,000 rows by REST, Bulk jobs ready at the second look; no limits, no faults")
            full(sandbox, work, None if given.alone else given.peers or work / "peers")
        generate(work / "small", opportunities=5000, activities_per_opportunity=3)
        with running(work / "small", "salesforce", delay=DELAY) as sandbox:
            increments(sandbox, work)


def full(sandbox: Sandbox, work: Path, home: Path | None) -> None:
    """A first pull by everybody, with the ratios to pipesync's."""
    peers.only_the_twelve(sandbox)
    ours = peers.pipesync("pipesync, stored", sandbox, peers.connection(sandbox, work / "full"))
    print(ours.line())
    rows = peers.pulled(work / "full")
    if home is None:
        return
    for cost, theirs in (
        *((c := peers.tap(sandbox, home, work, how), peers.tap_rows(c)) for how in ("REST", "BULK")),
        (c := peers.airbyte(sandbox, home, work), peers.airbyte_rows(c)),
    ):
        awake = (cost.wall - cost.slept) / (ours.wall - ours.slept)
        print(cost.line())
        print(
            f"    {cost.cpu / ours.cpu:.1f} times pipesync's CPU, {cost.wall / ours.wall:.1f} times its wall time "
            f"({awake:.1f} without what either slept); rows {'identical' if theirs == rows else 'DIFFERENT'}"
        )


def increments(sandbox: Sandbox, work: Path) -> None:
    """Every object again when 1% of the opportunities has changed."""
    folder = work / "all"
    folder.mkdir()
    (folder / "connection.yaml").write_text(sandbox.settings_text("salesforce", folder), encoding="utf-8")
    ids = list(sandbox.ids("salesforce")["opportunities"].values())
    print(f"\nevery object of an org with {len(ids):,} opportunities")
    print(peers.pipesync("pipesync, first", sandbox, folder, streams="").line())
    sandbox.ask("POST", "clock", {"advance": 3600})
    for record in ids[::100]:
        sandbox.ask("POST", "edit", {"crm": "salesforce", "id": record, "fields": {"NextStep": "Call"}})
    cost = peers.pipesync(f"pipesync, {len(ids[::100])} changed", sandbox, folder, streams="")
    print(cost.line())
    objects = [path for path in sandbox.ask("GET")["by_path"] if path.endswith("/describe")]
    pages = -(-len(ids[::100]) // 2000)
    print(
        f"    {cost.requests} requests for {len(objects)} objects and the sign-in; "
        f"3 an object and a page each 2,000 changed rows would be {3 * len(objects) + pages}"
    )


if __name__ == "__main__":
    main()
