"""The sandbox's HubSpot serves clients that others wrote, unchanged, and each returns the rows that pipesync pulls.

    python -m benchmarks.hubspot_conformance [--peers DIR] [--deals N]

Deals are compared by id, name, amount, owner, stage, pipeline and close date; history of stage, amount and owner by
moment and value, with the clients that read any. The typed calls of HubSpot's published client, on which pipesync is
built, are compared for what stands around the deals as well.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import hubspot_peers as peers
from benchmarks.hubspot import connection, dataset, pull

from pipesync.sandbox.process import running
from pipesync.store.warehouse import Warehouse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peers", type=Path, default=peers.HOME, help="where their environments are, or are made"
    )
    parser.add_argument("--deals", type=int, default=1000)
    given = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset(folder / "data", given.deals, 14)
        with running(folder / "data", "hubspot") as sandbox:
            work = connection(sandbox, folder / "full", whole=True)
            pull("pipesync", sandbox, work)
            ours = peers.pipesync_rows(work / "warehouse.duckdb", sandbox)
            print(f"{'pipesync':<22}{len(ours.deals):>7,} deals{len(ours.history or ()):>9,} changes")
            theirs = {
                "hubspot-api-client": peers.published_client(sandbox),
                "hubspot-sdk": peers.official_sdk(sandbox, given.peers),
                "pipeline-diff": peers.pipeline_diff(sandbox, given.peers, folder)[1],
                "meltano-tap-hubspot": peers.meltano(sandbox, given.peers, folder)[1],
            }
            for who, found in theirs.items():
                same &= compared(who, ours, found)
            with Warehouse(work / "warehouse.duckdb", read_only=True) as warehouse:
                for stream, rows in peers.around(sandbox).items():
                    pulled = warehouse.rows(f"SELECT id, {peers.AROUND[stream]} FROM {stream}")
                    is_same = frozenset(pulled) == rows
                    same &= is_same
                    print(f"  {stream:<20}{len(rows):>7,} rows    {'identical' if is_same else 'DIFFERENT'}")
    if not same:
        raise SystemExit(1)


def compared(who: str, ours: peers.Brought, theirs: peers.Brought) -> bool:
    """Print how a client's rows compare; name a few that differ."""
    parts: list[tuple[str, frozenset[Any], frozenset[Any]]] = [("deals", ours.deals, theirs.deals)]
    told = f"{who:<22}{len(theirs.deals):>7,} deals"
    if theirs.history is not None:
        parts.append(("changes", ours.history or frozenset(), theirs.history))
        told += f"{len(theirs.history):>9,} changes"
    different = [(what, a ^ b) for what, a, b in parts if a != b]
    print(f"{told:<56}{'DIFFERENT' if different else 'identical'}")
    for what, rows in different:
        print(f"    {len(rows):,} {what} differ, such as {sorted(map(repr, rows))[:4]}")
    return not different


if __name__ == "__main__":
    main()
