"""In how many requests changes are written: as few as the CRMs' batch limits allow, and a look at what they rest on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

import pytest

from pipesync.adapters import open_adapter
from pipesync.apply import apply
from pipesync.config import ConnectionConfig, Write
from pipesync.model import Change, Plan, Reason
from pipesync.sandbox.process import Sandbox
from pipesync.store.ledger import Ledger

AS_OF = datetime(2026, 11, 16, 8, tzinfo=UTC)
WRITE = Write(enabled=True, tasks=True, forecasts=True)


def expected(crm: str, changes: int) -> dict[str, int]:
    """Return the requests by what they do: whole batches of ours hold 200, of HubSpot's own 100."""
    batches, halves = ceil(changes / 200), ceil(changes / 100)
    if crm == "salesforce":
        return {"writes": batches, "opportunities": batches}
    # A create is looked up first, by way of its deals: a thousand deals' links a request.
    return {"writes": halves, "opportunities": halves, "links": batches}


def kinds(counts: Counter[str]) -> dict[str, int]:
    """Sort a sandbox's requests by what they do; sign-in, describe and the account's own facts are left out."""
    found: Counter[str] = Counter()
    for path, n in counts.items():
        if "composite/sobjects" in path or "tasks/batch/create" in path:
            found["writes"] += n
        elif (path.startswith("GET") and "/query" in path) or "deals/batch/read" in path:
            found["opportunities"] += n
        elif "associations" in path:
            found["links"] += n
    return dict(found)


@pytest.mark.parametrize("changes", [450, pytest.param(10_000, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
def test_changes_go_in_as_few_requests_as_batches_allow(
    sandbox: Sandbox, crm: str, changes: int, tmp_path: Path
) -> None:
    """One request per batch to write, one per batch to see what people changed; and every change is there."""
    keys = sandbox.settings(crm, tmp_path)
    keys.pop("adapter")
    config = ConnectionConfig(adapter=crm, mapping=Path(keys.pop("mapping")), options=keys, write=WRITE)  # type: ignore[arg-type]  # a literal
    adapter = open_adapter("crm", config, tmp_path)
    held = sandbox.ask("GET", "dump")
    rows = held["Opportunity"] if crm == "salesforce" else held["deals"]
    ids = sorted(str(r.get("Id") or r.get("id")) for r in rows)
    planned = tuple(
        Change(
            connection="crm", key=f"ps1-{i:020}-1", action="create", object="task", opportunity_id=ids[i % len(ids)],
            after={"subject": f"Call {i}", "body": "a point", "due": "2026-11-20", "priority": "normal"},
            reason=Reason(kind="findings", text="a test"), rests_on={"unheard_of": "x"},
        )
        for i in range(changes)
    )  # fmt: skip
    adapter.clock()
    adapter.see(ids[:1])  # what is asked once a connection is asked before we count
    sandbox.ask("DELETE", "counters")

    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        done = apply(
            Plan(connection="crm", id="p", as_of=AS_OF, changes=planned), adapter, ledger, write=WRITE
        )
    adapter.close()

    assert (done.applied, done.failed, done.skipped) == (changes, [], [])
    assert kinds(Counter(sandbox.ask("GET")["by_path"])) == expected(crm, changes)
