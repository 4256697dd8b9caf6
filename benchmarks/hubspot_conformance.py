"""The sandbox's HubSpot serves clients that others wrote, unchanged, and each returns the rows that pipesync pulls.

    python -m benchmarks.hubspot_conformance --peers DIR

`DIR` holds throw-away environments: `pipeline-diff`, `meltano`, and `hubspot-sdk` (`pip install --pre hubspot-sdk`).
HubSpot's published client, which pipesync is built on, runs from this environment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks.hubspot import cents, connection, dataset, facts, meltano, pipeline_diff, pipesync

import hubspot
from pipesync.sandbox.process import HUBSPOT_TOKEN, Sandbox, running

Facts = set[tuple[str, int | None, str | None]]
_SDK = """
import json, sys
from hubspot_sdk import HubSpot
client = HubSpot(access_token=sys.argv[2], base_url=sys.argv[1])
for deal in client.crm.objects.deals.list(limit=100, properties=["amount", "hubspot_owner_id"]):
    print(json.dumps([deal.id, deal.properties.get("amount"), deal.properties.get("hubspot_owner_id")]))
"""


def published_client(sandbox: Sandbox) -> Facts:
    client = hubspot.Client.create(access_token=HUBSPOT_TOKEN, host=sandbox.url)
    deals = client.crm.deals.get_all(properties=["amount", "hubspot_owner_id"])
    return {(d.id, cents(d.properties["amount"]), d.properties["hubspot_owner_id"]) for d in deals}


def official_sdk(sandbox: Sandbox, peers: Path) -> Facts:
    command = [str(peers / "hubspot-sdk/bin/python"), "-c", _SDK, sandbox.url, HUBSPOT_TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"hubspot-sdk failed:\n{done.stderr[-2000:]}")
    return {(i, cents(amount), owner) for i, amount, owner in map(json.loads, done.stdout.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--deals", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset(folder / "data", given.deals, 12)
        with running(folder / "data", "hubspot") as sandbox:
            work = connection(sandbox, folder / "full", history=True)
            pipesync("pipesync", sandbox, work)
            ours = facts(work / "warehouse.duckdb")
            pipeline_diff(sandbox, given.peers, folder)
            lines = (folder / "pd/hubspot/deals.jsonl").read_text(encoding="utf-8").splitlines()
            stored = map(json.loads, lines)
            theirs: dict[str, Facts] = {
                "hubspot-api-client": published_client(sandbox),
                "hubspot-sdk": official_sdk(sandbox, given.peers),
                "pipeline-diff": {(d["id"], cents(d["amount"]), d["owner_id"]) for d in stored},
                "meltano-tap-hubspot": meltano(sandbox, given.peers, folder).facts(),
            }
    for who, found in theirs.items():
        print(f"{who:<22}{len(found):>7,} deals   {'identical' if found == ours else 'DIFFERENT'}")
    if any(found != ours for found in theirs.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
