"""The portal in a process of its own: `python -m pipesync.sandbox.hubspot --data DIR`, and how to start and ask it.

Beside HubSpot's own paths it answers `/_sandbox/`: counters, the clock, and edits as people make them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email.utils
import math
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
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
from pipesync.sandbox.hubspot.app import routes
from pipesync.sandbox.hubspot.fill import Filled, clock_of, fill
from pipesync.sandbox.hubspot.limits import Limits
from pipesync.sandbox.hubspot.portal import Portal
from pipesync.sandbox.hubspot.records import Source

TOKEN = "sandbox-token"  # noqa: S105 - of a portal that exists for as long as this process
_PATIENCE = 120.0


class Clock:
    """The portal's time: the dataset's moment, which stands still but for a millisecond per write, or when moved.

    Standing still makes what is read from the portal comparable with the dataset itself.
    """

    def __init__(self, start: datetime) -> None:
        self._now = math.ceil(start.timestamp()) * 1000  # the Date header tells whole seconds

    def now_ms(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * 1000)


# --- Inside the process -----------------------------------------------------------------------------------------


class _Dated:
    """Adds the portal's Date to each answer, counts, and waits where a slow network is played."""

    def __init__(self, app: ASGIApp, clock: Clock, counts: Counter[str], delay: float) -> None:
        self._app, self._clock, self._counts, self._delay = app, clock, counts, delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/_sandbox"):
            self._counts[f"{scope['method']} {scope['path']}"] += 1
            if scope["method"] != "GET" and not scope["path"].endswith(("/search", "/batch/read")):
                self._clock.advance(0.001)
            if self._delay:
                await asyncio.sleep(self._delay)

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = email.utils.formatdate(self._clock.now_ms() / 1000, usegmt=True)
                message["headers"].append((b"date", told.encode()))
            await send(message)

        await self._app(scope, receive, dated)


def _controls(portal: Portal, clock: Clock, limits: Limits, counts: Counter[str]) -> list[Route]:
    def answer(value: object) -> Response:
        return Response(orjson.dumps(value), media_type="application/json")

    async def state(request: Request) -> Response:
        return answer({"requests": counts.total(), "by_path": counts, "refused": limits.refused})

    async def forget(request: Request) -> Response:
        counts.clear()
        limits.refused = 0
        return answer({})

    async def move(request: Request) -> Response:
        clock.advance(float((await request.json())["advance"]))
        return answer({"now": clock.now_ms()})

    async def switch(request: Request) -> Response:
        for name, value in (await request.json()).items():
            portal.turn(name, value)
        portal.records.db.commit()
        return answer({})

    async def edit(request: Request) -> Response:
        """Set properties of a record as a person would, by user id."""
        clock.advance(0.001)
        given = await request.json()
        kind, number = given.get("kind", "deals"), int(given["id"])
        record = portal.records.get(kind, [number])[number]
        properties = portal.settle(kind, _closed(portal, record.properties, given["properties"]))
        portal.records.update(kind, record, properties, Source("CRM_UI", "", given.get("user")))
        portal.records.db.commit()
        return answer({})

    return [
        Route("/_sandbox/", state),
        Route("/_sandbox/counters", forget, methods=["DELETE"]),
        Route("/_sandbox/clock", move, methods=["POST"]),
        Route("/_sandbox/switches", switch, methods=["POST"]),
        Route("/_sandbox/edit", edit, methods=["POST"]),
    ]


def _closed(portal: Portal, current: Mapping[str, str], properties: dict[str, str]) -> dict[str, str]:
    """Put `outcome: lost` or `won` as the stage of the deal's pipeline that ends it so."""
    outcome = properties.pop("outcome", None)
    if outcome is None:
        return properties
    stages = next(p["stages"] for p in portal.pipelines("deals") if p["id"] == current["pipeline"])
    chance = "1.0" if outcome == "won" else "0.0"
    ends = [s["id"] for s in stages if s["metadata"] == {"isClosed": "true", "probability": chance}]
    return properties | {"dealstage": ends[0]}


def serve(
    data: Path, *, mapping: Path | None, port: int, delay: float, tier: str | None, database: str = ":memory:"
) -> None:
    """Fill a portal and serve it until told to end; says on stdout, as one JSON line, how to read it."""
    clock = Clock(clock_of(data, mapping=mapping))
    portal = Portal(sqlite3.connect(database), clock.now_ms)
    filled = fill(portal, data, mapping=mapping)
    portal.turn("tier", tier)
    limits, counts = Limits(), Counter[str]()
    app = Starlette(routes=[*_controls(portal, clock, limits, counts), *routes(portal, limits)])
    # Named as TCP, or asyncio leaves Nagle's delay on and every answer takes 40 ms longer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    told = {
        "port": listening.getsockname()[1],
        "options": filled.options,
        "mapping": filled.mapping,
        "ids": filled.ids,
    }
    config = uvicorn.Config(
        _Dated(app, clock, counts, delay),
        log_level="warning",
        access_log=False,
        date_header=False,
        lifespan="off",
    )
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in HubSpot portal on loopback.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mapping", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--tier", choices=["free", "professional", "enterprise"])
    given = parser.parse_args()
    serve(given.data, mapping=given.mapping, port=given.port, delay=given.delay_ms / 1000, tier=given.tier)


# --- From outside -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sandbox:
    """A running portal."""

    url: str
    filled: Filled

    def settings(self, folder: Path, *, token_file: str = "hubspot-token") -> str:  # noqa: S107 - a file's name
        """Return the connection's keys as YAML, after writing its mapping and token into `folder`."""
        (folder / "hubspot-mapping.yaml").write_text(self.filled.mapping, encoding="utf-8")
        (folder / token_file).write_text(TOKEN, encoding="utf-8")
        keys = {
            "adapter": "hubspot",
            "url": self.url,
            "token_file": token_file,
            "mapping": "hubspot-mapping.yaml",
        }
        return yaml.safe_dump({**keys, **self.filled.options}, sort_keys=False)

    def edit(self, opportunity_id: str, values: Mapping[str, str]) -> None:
        """Change an opportunity's fields, by their normalized names, as a person would in HubSpot."""
        fields = load(shipped("adapters") / "hubspot" / "mapping.yaml").streams["opportunities"].fields
        properties: dict[str, str] = {}
        for name, value in values.items():
            if name == "outcome":
                properties[name] = "won" if value == "Closed Won" else "lost"
            elif name != "closed_at":  # HubSpot sets it itself
                words = {ours: theirs for theirs, ours in fields[name].values.items()}
                at_noon = f"{value}T12:00:00.000Z" if name == "close_date" else value
                properties[fields[name].field] = words.get(value, at_noon)
        self.ask("POST", "edit", {"id": opportunity_id, "properties": properties})

    def ask(self, method: str, what: str = "", body: Mapping[str, Any] | None = None) -> Any:
        """Ask `/_sandbox/`; the answer's JSON."""
        answer = requests.request(method, f"{self.url}/_sandbox/{what}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


@contextlib.contextmanager
def running(
    data: Path, *, mapping: Path | None = None, delay: float = 0, tier: str | None = None, port: int = 0
) -> Iterator[Sandbox]:
    """Start a portal filled from a dataset folder, and end it. `delay` in seconds is added to every answer."""
    command = [sys.executable, "-m", "pipesync.sandbox.hubspot", "--data", str(data), "--port", str(port)]
    command += ["--mapping", str(mapping)] if mapping else []
    command += ["--delay-ms", str(delay * 1000)] if delay else []
    command += ["--tier", tier] if tier else []
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints)  # noqa: S603 - ourselves
        try:
            assert process.stdout  # noqa: S101 - asked for above
            line = process.stdout.readline()
            if not line:
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"the sandbox did not start: {said[-1] if said else 'no word'}")
            told = orjson.loads(line)
            filled = Filled(told["options"], told["mapping"], told["ids"])
            yield Sandbox(f"http://127.0.0.1:{told['port']}", filled)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)
            if process.stdout is not None:
                process.stdout.close()
