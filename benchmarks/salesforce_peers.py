"""Other people's Salesforce clients against the sandbox: their environments, and what each brings of the opportunities.

`aio-sf`, `tap-salesforce` and `airbyte-source-salesforce` live in throw-away environments that `environment` makes;
simple-salesforce, which pipesync is built on, runs from this one. The two extractors insist on signing in at
https://login.salesforce.com: a proxy carries that one request to the sandbox, everything else goes there directly.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from benchmarks.hubspot_intercept import intercepting

from pipesync.sandbox.process import Sandbox
from pipesync.sandbox.salesforce.oauth import REFRESH_TOKEN
from pipesync.sandbox.salesforce.objects import OBJECTS
from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET

FIELDS = (
    "Id", "IsDeleted", "Name", "AccountId", "OwnerId", "StageName", "Amount", "CloseDate", "IsClosed", "IsWon",
    "LeadSource", "SystemModstamp",
)  # fmt: skip
"""The twelve fields that everybody reads."""
NAMES = {
    "id": "Id", "name": "Name", "account_id": "AccountId", "owner_id": "OwnerId", "stage": "StageName",
    "amount": "Amount", "close_date": "CloseDate", "is_closed": "IsClosed", "is_won": "IsWon",
    "source": "LeadSource", "modified_at": "SystemModstamp",
}  # fmt: skip
"""Of pipesync's columns; deleted rows are no rows there."""
PACKAGES = {
    "aio-sf": "aio-sf==0.1.0b14",
    "tap-salesforce": "tap-salesforce==2.8.1",
    "airbyte-source-salesforce": "airbyte-source-salesforce==2.10.3",
}
SINCE = "2024-01-01T00:00:00Z"
Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Cost:
    """What one run of a client's process cost."""

    who: str
    wall: float
    cpu: float
    resident: float
    """In MB, at its highest."""
    requests: int
    slept: float = 0.0
    """Of the wall time, what the client slept: between two looks at a job."""
    output: str = ""

    def line(self) -> str:
        slept = f"   {self.slept:.1f} s of it polling" if self.slept else ""
        return (
            f"{self.who:<28}{self.wall:>8.2f} s{self.cpu:>8.2f} s CPU{self.resident:>7.0f} MB"
            f"{self.requests:>6} requests{slept}"
        )


def environment(peers: Path, name: str) -> Path:
    """Return the folder of a peer's programs, making its environment where it is not there."""
    home = peers / name
    if not (home / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin/pip"), "install", "-q", PACKAGES[name]], check=True)
    return home / "bin"


def measure(who: str, sandbox: Sandbox, command: list[str], extra: Mapping[str, str] | None = None) -> Cost:
    """Run a client and count its CPU, time, memory, and the requests that reached the sandbox."""
    sandbox.ask("DELETE", "counters")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as log,
    ):
        given = {**os.environ, **_watched(Path(folder)), **(extra or {})}
        started = time.perf_counter()
        run = subprocess.Popen(command, env=given, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        out.seek(0)
        log.seek(0)
        output, said = out.read().decode(), log.read().decode(errors="replace")
        told = (Path(folder) / "told").read_text().split()
    if run.returncode:
        raise SystemExit(f"{who} failed:\n{(said or output)[-3000:]}")
    requests = sandbox.ask("GET")["requests"]
    cpu = used.ru_utime + used.ru_stime
    return Cost(who, wall, cpu, int(told[1]) / 1024, requests, float(told[0]), output)


def _watched(folder: Path) -> dict[str, str]:
    """Have a Python program tell at its end how long it slept and its highest memory; nothing of it is touched.

    Its parent cannot tell the memory: a child begins with its parent's.
    """
    (folder / "sitecustomize.py").write_text(_WATCH, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{folder}:{before}" if before else str(folder), "TOLD": str(folder / "told")}


_WATCH = """
import atexit, os, time
total, sleep = [0.0], time.sleep
def counted(seconds):
    started = time.perf_counter()
    sleep(seconds)
    total[0] += time.perf_counter() - started
def tell():
    with open("/proc/self/status") as status:
        highest = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    with open(os.environ["TOLD"], "w") as file:
        file.write(f"{total[0]} {highest}")
time.sleep = counted
atexit.register(tell)
"""


def only_the_twelve(sandbox: Sandbox) -> None:
    """Hide the other fields of opportunities, so that who reads all fields reads the same ones."""
    others = [f"Opportunity.{f}" for f in OBJECTS["Opportunity"].fields if f not in FIELDS]
    sandbox.ask("POST", "settings", {"salesforce": {"hidden": others}})


# --- pipesync -----------------------------------------------------------------------------------------------------

_PULL = """
import sys
import tempfile
from pathlib import Path
from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse
import yaml
work = Path(sys.argv[1])
config = ConnectionConfig.model_validate(yaml.safe_load((work / "connection.yaml").read_text()))
adapter = open_adapter("salesforce", config, work)
with Warehouse(work / "warehouse.duckdb") as warehouse:
    done = pull(adapter, warehouse, streams=sys.argv[2].split(",") if len(sys.argv) > 2 else None)
    print({s: p.requests for s, p in done.items()})
"""


def connection(sandbox: Sandbox, work: Path, **options: Any) -> Path:
    """Write a connection that reads the twelve fields of opportunities and nothing else; return its folder."""
    work.mkdir(parents=True, exist_ok=True)
    keys = sandbox.settings("salesforce", work)
    mapping = {
        "version": 1,
        "streams": {"opportunities": {"source": "Opportunity", "fields": NAMES}},
        "stages": {"Open": {"phase": "early"}},
    }
    (work / keys["mapping"]).write_text(yaml.safe_dump(mapping), encoding="utf-8")
    (work / "connection.yaml").write_text(yaml.safe_dump(keys | options), encoding="utf-8")
    return work


def pipesync(who: str, sandbox: Sandbox, work: Path, streams: str = "opportunities") -> Cost:
    return measure(who, sandbox, [sys.executable, "-c", _PULL, str(work), *([streams] if streams else [])])


def pulled(work: Path) -> set[Row]:
    """Return the rows that pipesync has stored."""
    from pipesync.store.warehouse import Warehouse

    columns = ", ".join(f'"{c}"' for c in NAMES)
    with Warehouse(work / "warehouse.duckdb", read_only=True) as warehouse:
        found = warehouse.rows(f"SELECT {columns} FROM opportunities")
    return facts(dict(zip(NAMES.values(), row, strict=True)) for row in found)


# --- The others ---------------------------------------------------------------------------------------------------

_AIO = """
import asyncio, json, sys
from aio_sf import ClientCredentialsAuth, SalesforceClient
async def main():
    auth = ClientCredentialsAuth(sys.argv[1], sys.argv[2], sys.argv[3])
    async with SalesforceClient(auth) as client:
        found = await client.query.soql(sys.argv[4])
        async for row in found:
            print(json.dumps({k: v for k, v in row.items() if k != "attributes"}))
asyncio.run(main())
"""
_SOQL = f"SELECT {', '.join(FIELDS)} FROM Opportunity"


def simple_salesforce(sandbox: Sandbox, how: str) -> set[Row]:
    """By `query_all_iter`, or by `bulk2`."""
    from simple_salesforce.api import Salesforce
    from simple_salesforce.login import SalesforceLogin

    session = _through_http(sandbox.url)
    token, _ = SalesforceLogin(
        domain="sandbox.my", consumer_key=CONSUMER_KEY, consumer_secret=CONSUMER_SECRET, session=session
    )
    client: Any = Salesforce(  # Any: it makes its objects as they are asked for
        session_id=token, instance="sandbox.my.salesforce.com", version="62.0", session=session
    )
    if how == "rest":
        return facts(client.query_all_iter(_SOQL))
    pages = client.bulk2.Opportunity.query(_SOQL, max_records=5000)
    return facts(row for page in pages for row in csv.DictReader(io.StringIO(page)))


def _through_http(url: str) -> Any:
    """simple-salesforce only speaks https: carry it to the sandbox's http."""
    import requests
    from requests.adapters import HTTPAdapter

    class Carried(HTTPAdapter):
        def send(self, request: Any, *args: Any, **how: Any) -> requests.Response:
            request.url = re.sub("^https://[^/]+", url, request.url)
            return super().send(request, *args, **how)

    session = requests.Session()
    session.mount("https://", Carried())
    return session


def aio_sf(sandbox: Sandbox, peers: Path) -> set[Row]:
    program = [str(environment(peers, "aio-sf") / "python"), "-c", _AIO]
    cost = measure("aio-sf", sandbox, [*program, sandbox.url, CONSUMER_KEY, CONSUMER_SECRET, _SOQL])
    return facts(map(json.loads, cost.output.splitlines()))


def tap(sandbox: Sandbox, peers: Path, work: Path, how: str) -> Cost:
    """Run tap-salesforce for opportunities alone, by `REST` or `BULK`; discovery is not counted."""
    program, config, catalog = (
        str(environment(peers, "tap-salesforce") / "tap-salesforce"),
        work / "tap.json",
        work / "catalog.json",
    )
    config.write_text(json.dumps(_signing_in() | {"start_date": SINCE, "api_type": how}), encoding="utf-8")
    with intercepting(sandbox.url, work, "login.salesforce.com") as extra:
        found = measure("discovery", sandbox, [program, "--config", str(config), "--discover"], extra)
        told = json.loads(found.output)
        told["streams"] = [s for s in told["streams"] if s["stream"] == "Opportunity"]
        for entry in told["streams"][0]["metadata"]:
            entry["metadata"]["selected"] = True
        catalog.write_text(json.dumps(told), encoding="utf-8")
        command = [program, "--config", str(config), "--properties", str(catalog)]
        return measure(f"tap-salesforce, {how}", sandbox, command, extra)


def tap_rows(cost: Cost) -> set[Row]:
    messages = map(json.loads, cost.output.splitlines())
    return facts(m["record"] for m in messages if m["type"] == "RECORD")


def airbyte(sandbox: Sandbox, peers: Path, work: Path) -> Cost:
    """Run airbyte's source for opportunities alone; discovery is not counted."""
    program = str(environment(peers, "airbyte-source-salesforce") / "source-salesforce")
    config, catalog = work / "airbyte.json", work / "configured.json"
    config.write_text(
        json.dumps(_signing_in() | {"start_date": SINCE, "is_sandbox": False}), encoding="utf-8"
    )
    with intercepting(sandbox.url, work, "login.salesforce.com") as extra:
        found = measure("discovery", sandbox, [program, "discover", "--config", str(config)], extra)
        messages = map(json.loads, found.output.splitlines())
        streams = next(m["catalog"]["streams"] for m in messages if m["type"] == "CATALOG")
        chosen = [
            {"stream": s, "sync_mode": "incremental", "destination_sync_mode": "append"}
            for s in streams
            if s["name"] == "Opportunity"
        ]
        catalog.write_text(json.dumps({"streams": chosen}), encoding="utf-8")
        command = [program, "read", "--config", str(config), "--catalog", str(catalog)]
        return measure("airbyte-source-salesforce", sandbox, command, extra)


def airbyte_rows(cost: Cost) -> set[Row]:
    messages = map(json.loads, cost.output.splitlines())
    return facts(m["record"]["data"] for m in messages if m["type"] == "RECORD")


def _signing_in() -> dict[str, Any]:
    return {"client_id": CONSUMER_KEY, "client_secret": CONSUMER_SECRET, "refresh_token": REFRESH_TOKEN}


# --- One form for all ---------------------------------------------------------------------------------------------


def facts(rows: Iterable[Mapping[str, Any]]) -> set[Row]:
    """Return the common fields of what is not deleted, as texts of one form; some clients leave blanks out."""
    wanted = [f for f in FIELDS if f != "IsDeleted"]
    return {
        tuple(_plain(row.get(f), f) for f in wanted)
        for row in rows
        if str(row.get("IsDeleted")).lower() != "true"
    }


def _plain(value: Any, field: str) -> str | None:
    if value is None or value == "":
        return None
    if field == "Amount":
        return f"{float(value):.2f}"
    if field == "CloseDate":
        return str(value)[:10]  # singer makes a time of it
    if field == "SystemModstamp":
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return str(value).lower() if field in ("IsClosed", "IsWon") else str(value)
