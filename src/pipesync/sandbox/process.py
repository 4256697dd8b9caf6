"""Both faces in a process of its own: `python -m pipesync.sandbox --data DIR`, and how to start and ask it.

Beside the CRMs' own paths it answers `/_sandbox/`: counters, the clock, faults, settings, edits as people make them,
and everything that it holds, so that campaigns can compare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipesync._paths import shipped
from pipesync.mapping import load
from pipesync.sandbox import hubspot, salesforce
from pipesync.sandbox.clock import Clock
from pipesync.sandbox.faults import Fault, Harness
from pipesync.sandbox.faults import load as load_faults
from pipesync.sandbox.faults import parse as parse_faults
from pipesync.sandbox.hubspot.limits import Limits
from pipesync.sandbox.hubspot.records import Source
from pipesync.sandbox.salesforce.objects import OBJECTS
from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET

CRMS = ("salesforce", "hubspot")
HUBSPOT_TOKEN = "sandbox-token"  # noqa: S105  # of a portal that exists for as long as this process
_PATIENCE = 120.0
Json = dict[str, Any]


# --- Inside the process -----------------------------------------------------------------------------------------


@dataclass
class World:
    """What the process serves."""

    clock: Clock
    db: sqlite3.Connection
    portal: hubspot.Portal | None
    org: salesforce.Org | None
    harness: Harness | None = None
    counts: Counter[str] | None = None
    limits: Limits | None = None
    pristine: sqlite3.Connection | None = None
    start_ms: int = 0


class _Dated:
    """Adds the sandbox's Date to each answer, counts, and waits where a slow network is played."""

    def __init__(self, app: ASGIApp, world: World, delay: float) -> None:
        self._app, self._world, self._delay = app, world, delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/_sandbox"):
            if self._world.counts is not None:
                self._world.counts[f"{scope['method']} {scope['path']}"] += 1
            if self._delay:
                await asyncio.sleep(self._delay)

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"date", self._world.clock.http_date().encode()),
                ]
            await send(message)

        await self._app(scope, receive, dated)


def _answer(value: object) -> Response:
    return Response(orjson.dumps(value, default=str), media_type="application/json")


def _controls(world: World) -> list[Route]:
    async def state(request: Request) -> Response:
        counts = world.counts or Counter()
        refused = world.limits.refused if world.limits else 0
        told = {"requests": counts.total(), "by_path": counts, "refused": refused}
        return _answer({**told, "now": world.clock.now_ms()})

    async def forget(request: Request) -> Response:
        if world.counts is not None:
            world.counts.clear()
        return _answer({})

    async def move(request: Request) -> Response:
        world.clock.advance(float((await request.json())["advance"]))
        return _answer({"now": world.clock.now_ms()})

    async def faults(request: Request) -> Response:
        given = await request.json()
        assert world.harness  # noqa: S101  # set before anything is served
        world.harness.order(parse_faults(given.get("faults")), int(given.get("seed", 0)))
        if world.portal:
            world.portal.records.lag = round(world.harness.lag_seconds * 1000)
        return _answer({})

    async def settings(request: Request) -> Response:
        """Change settings of the org (`salesforce`), switches of the portal (`hubspot`), scopes by token (`tokens`)."""
        given = await request.json()
        for name, value in given.get("salesforce", {}).items():
            assert world.org  # noqa: S101  # asked of a sandbox that has one
            world.org.put(name, value)
        for name, value in given.get("hubspot", {}).items():
            assert world.portal  # noqa: S101  # asked of a sandbox that has one
            world.portal.turn(name, value)
        if world.portal and "tokens" in given:
            world.portal.records.set("tokens", given["tokens"])
        world.db.commit()
        return _answer({})

    async def told_settings(request: Request) -> Response:
        return _answer({"salesforce": world.org.settings() if world.org else {}})

    async def insert(request: Request) -> Response:
        """Put records into the org as they are."""
        given = await request.json()
        assert world.org  # noqa: S101  # asked of a sandbox that has one
        world.org.insert(given["object"], given["records"])
        world.db.commit()
        return _answer({})

    async def reset(request: Request) -> Response:
        """Put everything back to where it was when the sandbox was filled."""
        assert world.pristine  # noqa: S101  # kept before anything is served
        assert world.harness  # noqa: S101  # set before anything is served
        world.pristine.backup(world.db)
        world.clock.ms = world.start_ms
        world.harness.order(())
        if world.portal:
            world.portal.records.lag = 0
            world.portal.forget_definitions()
        if world.org:
            world.org.cursors.clear()
            world.org.jobs.clear()
            world.org.touched[:] = [set()]
            world.org.requests = 0
        return _answer({})

    async def lose_jobs(request: Request) -> Response:
        """Lose the org's Bulk jobs, as after their seven days."""
        assert world.org  # noqa: S101  # asked of a sandbox that has one
        world.org.jobs.clear()
        return _answer({})

    async def keep(request: Request) -> Response:
        """Make what the CRMs hold now what `reset` goes back to."""
        assert world.pristine  # noqa: S101  # kept before anything is served
        world.db.backup(world.pristine)
        world.start_ms = world.clock.ms
        return _answer({})

    async def edit(request: Request) -> Response:
        """Set fields of a record as a person would."""
        given = await request.json()
        world.clock.advance(1)
        if given["crm"] == "salesforce":
            _edit_org(world, given["id"], given["fields"])
        else:
            _edit_portal(world, int(given["id"]), given.get("kind", "deals"), given["fields"])
        world.db.commit()
        return _answer({})

    async def dump(request: Request) -> Response:
        """Return everything the CRMs hold, in a fixed order."""
        held: Json = {}
        for thing in OBJECTS.values() if world.org else ():
            cursor = world.db.execute(f'SELECT * FROM "sf_{thing.name}" WHERE "IsDeleted" = 0 ORDER BY "Id"')
            names = [d[0] for d in cursor.description]
            held[thing.name] = [dict(zip(names, row, strict=True)) for row in cursor]
        if world.portal:
            rows = world.db.execute(
                "SELECT kind, id, properties FROM hs_objects WHERE NOT archived ORDER BY kind, id"
            )
            for kind, number, properties in rows:
                held.setdefault(kind, []).append({"id": number, **orjson.loads(properties)})
        return _answer(held)

    listed: list[tuple[str, str, Any]] = [  # Any: Starlette's endpoints
        ("GET", "/_sandbox/", state),
        ("DELETE", "/_sandbox/counters", forget),
        ("POST", "/_sandbox/clock", move),
        ("POST", "/_sandbox/faults", faults),
        ("POST", "/_sandbox/settings", settings),
        ("GET", "/_sandbox/settings", told_settings),
        ("POST", "/_sandbox/insert", insert),
        ("POST", "/_sandbox/reset", reset),
        ("POST", "/_sandbox/forget-jobs", lose_jobs),
        ("POST", "/_sandbox/keep", keep),
        ("POST", "/_sandbox/edit", edit),
        ("GET", "/_sandbox/dump", dump),
    ]
    return [Route(path, endpoint, methods=[method]) for method, path, endpoint in listed]


def _edit_org(world: World, record: str, fields: Json) -> None:
    assert world.org  # noqa: S101  # asked of a sandbox that has one
    thing = next(o for o in OBJECTS.values() if record.startswith(o.prefix))
    now = world.org.now()
    outcome = fields.pop("outcome", None)
    if outcome:
        is_won = outcome == "Closed Won"
        stage = world.db.execute(
            'SELECT "ApiName" FROM "sf_OpportunityStage" WHERE "IsClosed" AND "IsWon" = ? ORDER BY "SortOrder"',
            (int(is_won),),
        ).fetchone()
        fields |= {"StageName": stage[0], "IsClosed": 1, "IsWon": int(is_won), "LastStageChangeDate": now}
        world.org.insert("OpportunityHistory", [{
            "Id": world.org.next_id(OBJECTS["OpportunityHistory"]).replace("PS0", "PS9"), "OpportunityId": record,
            "StageName": stage[0], "CreatedDate": now, "SystemModstamp": now,
        }])  # fmt: skip
    if fields.pop("deleted", None):
        world.org.delete(record)
        return
    if fields.pop("purged", None):
        world.org.purge(record)
        return
    if winner := fields.pop("merged_into", None):
        world.org.merge(record, winner)
        return
    # What takes long to be saved is seen late: its stamp is older than the moment in which it shows.
    late = float(fields.pop("late", world.harness.lag_seconds if world.harness else 0))
    fields = {"SystemModstamp": world.org.now(-late), **fields}
    sets = ", ".join(f'"{n}" = ?' for n in fields)
    world.db.execute(f'UPDATE "sf_{thing.name}" SET {sets} WHERE "Id" = ?', (*fields.values(), record))


def _edit_portal(world: World, number: int, kind: str, properties: dict[str, str]) -> None:
    portal = world.portal
    assert portal  # noqa: S101  # asked of a sandbox that has one
    record = portal.records.get(kind, [number])[number]
    outcome = properties.pop("outcome", None)
    if outcome:
        stages = next(
            p["stages"] for p in portal.pipelines("deals") if p["id"] == record.properties["pipeline"]
        )
        chance = "1.0" if outcome == "Closed Won" else "0.0"
        ends = [s["id"] for s in stages if s["metadata"] == {"isClosed": "true", "probability": chance}]
        properties["dealstage"] = ends[0]
    portal.records.update(kind, record, portal.settle(kind, properties), Source("CRM_UI", "", None))


def serve(
    data: Path,
    crms: Sequence[str],
    *,
    mapping: Path | None = None,
    port: int = 0,
    delay: float = 0.0,
    tier: str | None = None,
    faults: tuple[Fault, ...] = (),
    seed: int = 0,
) -> None:
    """Fill the CRMs and serve them until told to end; says on stdout, as one JSON line, how to read them."""
    clock = Clock(hubspot.clock_of(data, mapping=mapping))
    db = sqlite3.connect(":memory:")
    told: Json = {}
    world = World(clock, db, None, None, counts=Counter())
    served: list[Route] = []
    if "salesforce" in crms:
        world.org = salesforce.Org(db, clock.now_ms)
        org = salesforce.fill(world.org, data, mapping=mapping)
        told["salesforce"] = {"options": {}, "mapping": org.mapping, "ids": org.ids}
        served += salesforce.routes(world.org)
    if "hubspot" in crms:
        world.portal = hubspot.Portal(db, clock.now_ms)
        portal = hubspot.fill(world.portal, data, mapping=mapping)
        world.portal.turn("tier", tier)
        # Without a tier nothing is limited, and nobody has to wait.
        options = portal.options if tier else {**portal.options, "searches_per_second": 1000}
        told["hubspot"] = {"options": options, "mapping": portal.mapping, "ids": portal.ids}
        world.limits = Limits()
        served += hubspot.routes(world.portal, world.limits)
    db.commit()
    world.pristine, world.start_ms = sqlite3.connect(":memory:"), clock.ms
    db.backup(world.pristine)
    world.harness = Harness(Starlette(routes=[*_controls(world), *served]), faults, seed)
    # Named as TCP, or asyncio leaves Nagle's delay on and every answer takes 40 ms longer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    told["port"] = listening.getsockname()[1]
    config = uvicorn.Config(
        _Dated(world.harness, world, delay),
        log_level="critical",
        access_log=False,
        date_header=False,
        lifespan="off",
    )
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in CRM on loopback.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mapping", type=Path)
    parser.add_argument("--crm", choices=[*CRMS, "both"], default="both")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--tier", choices=["free", "professional", "enterprise"])
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    serve(
        given.data,
        CRMS if given.crm == "both" else (given.crm,),
        mapping=given.mapping,
        port=given.port,
        delay=given.delay_ms / 1000,
        tier=given.tier,
        faults=load_faults(given.faults) if given.faults else (),
        seed=given.seed,
    )


# --- From outside -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    url: str
    told: Json

    @property
    def crms(self) -> tuple[str, ...]:
        return tuple(c for c in CRMS if c in self.told)

    def ids(self, crm: str) -> dict[str, dict[str, str]]:
        """Return dataset id -> the CRM's id, by stream or object."""
        found: dict[str, dict[str, str]] = self.told[crm]["ids"]
        return found

    def settings(self, crm: str, folder: Path) -> Json:
        """Return a connection's keys, after writing its mapping and secret into `folder`."""
        (folder / f"{crm}-mapping.yaml").write_text(self.told[crm]["mapping"], encoding="utf-8")
        secret = folder / f"{crm}-secret"
        secret.touch(mode=0o600)
        secret.write_text(HUBSPOT_TOKEN if crm == "hubspot" else CONSUMER_SECRET, encoding="utf-8")
        keys: Json = {"adapter": crm, "url": self.url, "mapping": f"{crm}-mapping.yaml"}
        if crm == "hubspot":
            keys["token_file"] = secret.name
        else:
            keys |= {"client_id": CONSUMER_KEY, "client_secret_file": secret.name}
        return {**keys, **self.told[crm]["options"]}

    def settings_text(self, crm: str, folder: Path) -> str:
        return yaml.safe_dump(self.settings(crm, folder), sort_keys=False)

    def edit(self, crm: str, opportunity_id: str, values: Mapping[str, str]) -> None:
        """Change an opportunity's fields, by their normalized names, as a person would in the CRM."""
        fields = load(shipped("adapters") / crm / "mapping.yaml").streams["opportunities"].fields
        said: Json = {}
        for name, value in values.items():
            if name == "outcome":
                said[name] = value
            elif name != "closed_at":  # the CRM sets it itself
                words = {ours: theirs for theirs, ours in fields[name].values.items()}
                at_noon = f"{value}T12:00:00.000Z" if crm == "hubspot" and name == "close_date" else value
                said[fields[name].field] = words.get(value, at_noon)
        self.ask("POST", "edit", {"crm": crm, "id": opportunity_id, "fields": said})

    def ask(self, method: str, what: str = "", body: Mapping[str, Any] | None = None) -> Any:
        """Ask `/_sandbox/`; the answer's JSON."""
        answer = requests.request(method, f"{self.url}/_sandbox/{what}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()


@contextlib.contextmanager
def running(
    data: Path,
    crm: str = "both",
    *,
    mapping: Path | None = None,
    delay: float = 0,
    tier: str | None = None,
    port: int = 0,
    faults: Path | None = None,
    seed: int = 0,
) -> Iterator[Sandbox]:
    """Start a sandbox filled from a dataset folder, and end it. `delay` in seconds is added to every answer."""
    command = [
        sys.executable,
        "-m",
        "pipesync.sandbox",
        "--data",
        str(data),
        "--port",
        str(port),
        "--crm",
        crm,
    ]
    command += ["--mapping", str(mapping)] if mapping else []
    command += ["--delay-ms", str(delay * 1000)] if delay else []
    command += ["--tier", tier] if tier else []
    command += ["--faults", str(faults), "--seed", str(seed)] if faults else []
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints)  # noqa: S603  # ourselves
        try:
            assert process.stdout  # noqa: S101  # asked for above
            line = process.stdout.readline()
            if not line:
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"the sandbox did not start: {said[-1] if said else 'no word'}")
            told = orjson.loads(line)
            yield Sandbox(f"http://127.0.0.1:{told.pop('port')}", told)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_PATIENCE)
            if process.stdout is not None:
                process.stdout.close()
