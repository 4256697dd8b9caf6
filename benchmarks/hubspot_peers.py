"""Other people's HubSpot clients against the sandbox: their environments, and what each brings of the deals.

`pipeline-diff`, `meltano-tap-hubspot` and `hubspot-sdk` live in throw-away environments that `environment` makes;
hubspot-api-client, which pipesync is built on, runs from this one. The first two insist on https://api.hubapi.com: a
proxy carries their requests to the sandbox.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import requests
from benchmarks.hubspot_intercept import intercepting

import hubspot
from pipesync.sandbox.process import HUBSPOT_TOKEN, Sandbox
from pipesync.store.warehouse import Warehouse

TRACKED = {
    "stage": "dealstage", "amount": "amount", "close_date": "closedate", "owner_id": "hubspot_owner_id",
    "pipeline": "pipeline", "forecast_category": "hs_manual_forecast_category",
}  # fmt: skip
"""The six properties whose history everybody reads who reads any."""
COMPARED = ("stage", "amount", "owner_id")
"""Of these, those whose past values every client tells in a form that can be compared exactly."""
PROPERTIES = ("dealname", *TRACKED.values())
PACKAGES = {
    "pipeline-diff": ("pipeline-diff==0.1.0",),
    "meltano": ("meltano-tap-hubspot==0.10.1",),
    "hubspot-sdk": ("--pre", "hubspot-sdk==0.1.0a9"),
    "openapi": ("openapi-core==0.23.1", "requests"),
}
HOME = Path(tempfile.gettempdir()) / "pipesync-peers"
"""Where environments are made unless somebody says otherwise; kept for the next run."""


class Deal(NamedTuple):
    """A deal as everybody tells it: amount in cents, stage and pipeline by id, the close date in UTC."""

    id: str
    name: str | None
    amount: int | None
    owner: str | None
    stage: str | None
    pipeline: str | None
    close_date: str | None


class Past(NamedTuple):
    """One entry of a deal's history, its moment to the second."""

    deal: str
    field: str
    at: str
    value: str | None


@dataclass(frozen=True)
class Brought:
    """The rows of one client; history is None where it reads none."""

    deals: frozenset[Deal]
    history: frozenset[Past] | None = None


@dataclass(frozen=True)
class Cost:
    """What one run of a client's process cost."""

    who: str
    wall: float
    cpu: float
    requests: int
    output: str = ""

    def line(self, more: str = "") -> str:
        return f"{self.who:<34}{self.wall:>8.2f} s{self.cpu:>8.2f} s CPU{self.requests:>7} requests   {more}"


def environment(home: Path, name: str) -> Path:
    """Return the folder of a peer's programs, making its environment where it is not there."""
    folder = home / name
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[name]], check=True, stderr=subprocess.DEVNULL)
        (folder / "ready").touch()
    return folder / "bin"


def measure(
    who: str, sandbox: Sandbox, command: Sequence[str], extra: Mapping[str, str] | None = None
) -> Cost:
    """Run a client and count its CPU, its time and the requests that reached the sandbox."""
    sandbox.ask("DELETE", "counters")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **(extra or {})}, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(who, wall, cpu, sandbox.ask("GET")["requests"], done.stdout)


# --- pipesync ---------------------------------------------------------------------------------------------------


def pipesync_rows(warehouse: Path, sandbox: Sandbox) -> Brought:
    """Return what pipesync stored, its stages turned back into ids."""
    stages = {(p, label): i for i, (p, label) in _stages(sandbox).items()}
    with Warehouse(warehouse, read_only=True) as stored:
        deals = stored.rows(
            "SELECT id, name, amount, owner_id, pipeline, stage, close_date::VARCHAR FROM opportunities"
        )
        past = stored.rows(
            "SELECT opportunity_id, field, changed_at, value, pipeline FROM field_changes AS c "
            "JOIN opportunities AS o ON o.id = c.opportunity_id WHERE list_contains(?, field)",
            [list(COMPARED)],
        )
    history = set()
    for deal, field, at, value, p in past:
        told = stages.get((p, value), value) if field == "stage" else value
        history.add(Past(deal, field, _second(at.replace(tzinfo=UTC)), _past(field, told)))
    return Brought(
        frozenset(Deal(i, n, cents(a), o, stages[p, s], p, c) for i, n, a, o, p, s, c in deals),
        frozenset(history),
    )


def _stages(sandbox: Sandbox) -> dict[str, tuple[str, str]]:
    """Return stage id -> (pipeline, label), as the portal tells them."""
    answer = requests.get(
        f"{sandbox.url}/crm/pipelines/2026-09/deals",
        headers={"Authorization": f"Bearer {HUBSPOT_TOKEN}"},
        timeout=30,
    )
    return {s["id"]: (p["id"], s["label"]) for p in answer.json()["results"] for s in p["stages"]}


# --- pipeline-diff ----------------------------------------------------------------------------------------------


def pipeline_diff(sandbox: Sandbox, home: Path, scratch: Path) -> tuple[Cost, Brought]:
    program = str(environment(home, "pipeline-diff") / "pipeline-diff")
    with intercepting(sandbox.url, scratch) as proxied:
        command = [program, "--data-dir", str(scratch / "pd"), "sync", "hubspot"]
        cost = measure(
            "pipeline-diff", sandbox, command, {**proxied, "PIPELINE_DIFF_HUBSPOT_TOKEN": HUBSPOT_TOKEN}
        )
    deals, history = (_lines(scratch / f"pd/hubspot/{name}.jsonl") for name in ("deals", "history"))
    return cost, Brought(
        frozenset(
            Deal(d["id"], d["name"], cents(d["amount"]), d["owner_id"], d["stage"], d["pipeline"], d["close_date"])
            for d in deals
        ),
        frozenset(
            Past(h["deal_id"], h["field"], h["changed_at"], _past(h["field"], h["value"]))
            for h in history if h["field"] in COMPARED
        ),
    )  # fmt: skip


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- meltano-tap-hubspot ----------------------------------------------------------------------------------------


def meltano(sandbox: Sandbox, home: Path, scratch: Path) -> tuple[Cost, Brought]:
    """Run the tap over its `deals` stream alone; discovery is not counted."""
    programs, config = environment(home, "meltano"), scratch / "tap.json"
    config.write_text(json.dumps({"access_token": HUBSPOT_TOKEN}), encoding="utf-8")
    tap = [str(programs / "tap-hubspot"), "--config", str(config)]
    with intercepting(sandbox.url, scratch) as proxied, _trusted_by(programs / "python", scratch):
        found = subprocess.run(
            [*tap, "--discover"], env={**os.environ, **proxied}, capture_output=True, text=True, check=True
        )
        catalog = json.loads(found.stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] == "deals"
        chosen = scratch / "catalog.json"
        chosen.write_text(json.dumps(catalog), encoding="utf-8")
        cost = measure("meltano-tap-hubspot", sandbox, [*tap, "--catalog", str(chosen)], proxied)
    messages = [json.loads(line) for line in cost.output.splitlines() if line.startswith("{")]
    records = [m["record"] for m in messages if m["type"] == "RECORD"]
    return cost, Brought(frozenset(_deal(r["id"], r.get("properties") or r) for r in records))


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


# --- HubSpot's own clients --------------------------------------------------------------------------------------


def published_client(sandbox: Sandbox) -> Brought:
    """Return what the typed calls of hubspot-api-client bring: a listing, and another one with history."""
    client = hubspot.Client.create(access_token=HUBSPOT_TOKEN, host=sandbox.url)
    deals = client.crm.deals.get_all(properties=list(PROPERTIES))
    past = client.crm.deals.get_all(properties_with_history=[TRACKED[f] for f in COMPARED])
    return Brought(
        frozenset(_deal(d.id, d.properties) for d in deals),
        frozenset(_typed_history((d.id, d.properties_with_history) for d in past)),
    )


def around(sandbox: Sandbox) -> dict[str, frozenset[tuple[str, str | None]]]:
    """Return id and a name of what stands around the deals, by stream, from typed calls of the same client."""
    client = hubspot.Client.create(access_token=HUBSPOT_TOKEN, host=sandbox.url)
    owners = [
        o
        for archived in (False, True)
        for o in client.crm.owners.owners_api.get_page(limit=500, archived=archived).results
    ]
    return {
        "users": frozenset((o.id, o.email) for o in owners),
        "accounts": frozenset(
            (c.id, c.properties["name"]) for c in client.crm.companies.get_all(properties=["name"])
        ),
        "products": frozenset(
            (p.id, p.properties["name"]) for p in client.crm.products.get_all(properties=["name"])
        ),
        "line_items": frozenset(
            (i.id, i.properties["hs_product_id"])
            for i in client.crm.line_items.get_all(properties=["hs_product_id"])
        ),
        "stages": frozenset(
            (s.id, s.label)
            for p in client.crm.pipelines.pipelines_api.get_all("deals").results
            for s in p.stages
        ),
    }


AROUND = {
    "users": "email",
    "accounts": "name",
    "products": "name",
    "line_items": "product_id",
    "stages": "name",
}
"""Stream -> the column that stands beside the id."""

_SDK = """
import json, sys
from hubspot_sdk import HubSpot
client = HubSpot(access_token=sys.argv[2], base_url=sys.argv[1])
names, past = sys.argv[3].split(","), sys.argv[4].split(",")
for deal in client.crm.objects.deals.list(limit=50, properties=names, properties_with_history=past):
    told = deal.properties_with_history or {}
    history = {n: [[e.timestamp.isoformat(), e.value] for e in entries] for n, entries in told.items()}
    print(json.dumps([deal.id, {n: deal.properties.get(n) for n in names}, history]))
"""


def official_sdk(sandbox: Sandbox, home: Path) -> Brought:
    python = str(environment(home, "hubspot-sdk") / "python")
    past = ",".join(TRACKED[f] for f in COMPARED)
    command = [python, "-c", _SDK, sandbox.url, HUBSPOT_TOKEN, ",".join(PROPERTIES), past]
    cost = measure("hubspot-sdk", sandbox, command)
    rows = [json.loads(line) for line in cost.output.splitlines()]
    fields = {p: f for f, p in TRACKED.items()}
    return Brought(
        frozenset(_deal(i, told) for i, told, _ in rows),
        frozenset(
            Past(i, fields[name], _second(datetime.fromisoformat(at)), _past(fields[name], value))
            for i, _, history in rows for name, entries in history.items() for at, value in entries
        ),
    )  # fmt: skip


def _typed_history(deals: Iterable[tuple[str, Any]]) -> Iterator[Past]:  # Any: the client's own types
    fields = {p: f for f, p in TRACKED.items()}
    for deal, history in deals:
        for name, entries in (history or {}).items():
            for one in entries:
                yield Past(deal, fields[name], _second(one.timestamp), _past(fields[name], one.value))


# --- Values -----------------------------------------------------------------------------------------------------


def _deal(i: str, told: Mapping[str, Any]) -> Deal:  # Any: JSON
    return Deal(
        i, told["dealname"], cents(told["amount"]), told["hubspot_owner_id"], told["dealstage"], told["pipeline"],
        (told["closedate"] or "")[:10] or None,
    )  # fmt: skip


def cents(amount: Any) -> int | None:  # Any: text, a number or a decimal
    return None if amount in (None, "") else round(float(amount) * 100)


def _past(field: str, value: Any) -> str | None:  # Any: text or a number
    if value in (None, ""):
        return None
    return str(cents(value)) if field == "amount" else str(value)


def _second(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
