"""The sandbox's Salesforce serves clients that others wrote, unchanged, and each returns the rows that pipesync pulls.

    python -m benchmarks.salesforce_conformance [--peers DIR]

`DIR` keeps the throw-away environments of `aio-sf`, `tap-salesforce` and `airbyte-source-salesforce`; what is not
there is made, with pip. Printed are each client's rows and a hash over the twelve common fields.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path

from benchmarks import salesforce_peers as peers

from pipesync.sandbox.company import generate
from pipesync.sandbox.process import running


def digest(rows: set[peers.Row]) -> str:
    """Hash the rows in the order of their ids."""
    said = "\n".join("\t".join(v or "" for v in row) for row in sorted(rows, key=lambda r: r[0] or ""))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--opportunities", type=int, default=5000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        home = given.peers or work / "peers"
        generate(work / "data", opportunities=given.opportunities, activities_per_opportunity=0.01)
        with running(work / "data", "salesforce") as sandbox:
            gone = list(sandbox.ids("salesforce")["opportunities"].values())[:50]
            for record in gone:
                sandbox.ask("POST", "edit", {"crm": "salesforce", "id": record, "fields": {"deleted": True}})
            peers.only_the_twelve(sandbox)
            found = {}
            for how, bulk_from in (("REST", 10**9), ("Bulk 2.0", 1)):
                folder = peers.connection(sandbox, work / how, bulk_from=bulk_from)
                peers.pipesync("pipesync", sandbox, folder)
                found[f"pipesync, {how}"] = peers.pulled(folder)
            found["simple-salesforce, REST"] = peers.simple_salesforce(sandbox, "rest")
            found["simple-salesforce, Bulk 2.0"] = peers.simple_salesforce(sandbox, "bulk")
            found["aio-sf"] = peers.aio_sf(sandbox, home)
            for how in ("REST", "BULK"):
                found[f"tap-salesforce, {how}"] = peers.tap_rows(peers.tap(sandbox, home, work, how))
            found["airbyte-source-salesforce"] = peers.airbyte_rows(peers.airbyte(sandbox, home, work))
    first = next(iter(found.values()))
    for who, rows in found.items():
        said = "identical" if rows == first else f"DIFFERENT in {len(rows ^ first)} rows"
        print(f"{who:<28}{len(rows):>8,} opportunities   {digest(rows)}   {said}")
    if any(rows != first for rows in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
