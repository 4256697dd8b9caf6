"""A HubSpot portal of the sandbox behind a real port, filled anew for each test, with faults to order."""

from __future__ import annotations

import email.utils
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from pipesync.adapters import open_adapter
from pipesync.adapters.hubspot.adapter import HubspotAdapter
from pipesync.config import ConnectionConfig, Write
from pipesync.model import Change, Reason
from pipesync.pull import pull
from pipesync.sandbox.company import AS_OF, generate
from pipesync.sandbox.hubspot import Filled, Portal, fill, routes
from pipesync.store.warehouse import Warehouse

TOKEN = "sandbox-token"
UNHURRIED = {"searches_per_second": 1000}
"""This portal limits nothing, so nobody waits."""

DEALS = (
    "opportunities",
    "stages",
    "pipelines",
    "field_changes",
    "contact_roles",
    "own_tasks",
    "own_forecasts",
)

Fault = Callable[[str, str], Any]
"""(method, path) -> None, (status, headers, JSON), "partial", or "lost" to do the work and break the connection."""


@dataclass
class Running:
    """The served portal, as tests look at it and disturb it."""

    url: str
    now_ms: int = 0
    portal: Portal | None = None
    app: Any = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of every request so far."""
    authorizations: list[str] = field(default_factory=list)

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def count(self, word: str = "") -> int:
        return sum(word in path for _, path in self.asked)

    @property
    def records(self) -> Any:
        assert self.portal
        return self.portal.records

    def deal(self, number: int) -> Any:
        return self.records.get("deals", [number])[number]

    def edit(self, number: int, **properties: str | None) -> None:
        """Change a deal as a person would, a second later than anything before."""
        from pipesync.sandbox.hubspot.records import Source

        self.advance(1)
        self.records.update("deals", self.deal(number), properties, Source("CRM_UI", "", 50_100_001))
        self.records.db.commit()

    def fail(self, fault: Any, *, times: int = 1, where: str = "") -> None:
        """Have the next `times` requests whose path contains `where` meet this fault."""
        left = [times]

        def meet(method: str, path: str) -> Any:
            if where in path and left[0] > 0:
                left[0] -= 1
                return fault
            return None

        self.faults.append(meet)


class _Served:
    """ASGI: the current portal, with its clock in the Date header, and faults before or after the work."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        running = self._running
        if scope["type"] != "http":
            return
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        running.authorizations.append(headers.get("authorization", ""))
        running.asked.append((scope["method"], scope["path"]))
        found = next((f for fault in running.faults if (f := fault(scope["method"], scope["path"]))), None)
        if isinstance(found, tuple):
            status, extra, body = found
            await receive()
            told = [(k.encode(), v.encode()) for k, v in extra.items()]
            await send({"type": "http.response.start", "status": status, "headers": told})
            await send({"type": "http.response.body", "body": body.encode()})
            return
        date = email.utils.formatdate(running.now_ms / 1000, usegmt=True).encode()

        async def dated(message: Any) -> None:
            if found == "lost":
                return
            if message["type"] == "http.response.start":
                message["headers"].append((b"date", date))
            await send(message)

        if found == "partial":
            scope["faults"] = {"partial"}
        await running.app(scope, receive, dated)
        if found == "lost":  # a body that is promised and never comes makes the server break the connection
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made-up company as a dataset folder."""
    folder = tmp_path_factory.mktemp("company")
    generate(folder, opportunities=240, seed=11, activities_per_opportunity=3)
    return folder


@pytest.fixture(scope="session")
def template(company: Path) -> tuple[sqlite3.Connection, Filled]:
    """The company in a portal's database, to be copied."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    start = round(AS_OF.timestamp() * 1000)
    filled = fill(Portal(db, lambda: start), company)
    return db, filled


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Running(f"http://127.0.0.1:{port}")
    config = uvicorn.Config(
        _Served(running), port=port, log_level="critical", date_header=False, lifespan="off", access_log=False
    )
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    while not served.started:
        time.sleep(0.005)
    yield running
    served.should_exit = True
    thread.join(5)


@pytest.fixture(scope="session")
def whole(
    server: Running, template: tuple[sqlite3.Connection, Filled], tmp_path_factory: pytest.TempPathFactory
) -> Warehouse:
    """A warehouse with every stream of the portal, which tests only look at."""
    _serve(server, template[0])
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mapping.yaml").write_text(template[1].mapping, encoding="utf-8")
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    options = {**UNHURRIED, "url": server.url, "token_file": str(folder / "token"), **template[1].options}
    config = ConnectionConfig(adapter="hubspot", mapping=folder / "mapping.yaml", options=options)
    warehouse = Warehouse()
    pull(open_adapter("hs", config, folder), warehouse)
    return warehouse


def _serve(server: Running, content: sqlite3.Connection) -> None:
    """Have the server serve a copy of this content, at the company's moment."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    content.backup(db)
    server.now_ms = round(AS_OF.timestamp() * 1000)
    server.portal = Portal(db, lambda: server.now_ms)
    server.app = Starlette(routes=routes(server.portal))
    server.faults.clear()
    server.asked.clear()
    server.authorizations.clear()


@pytest.fixture
def hubspot(
    server: Running, template: tuple[sqlite3.Connection, Filled], monkeypatch: pytest.MonkeyPatch
) -> Running:
    """A portal of its own for one test."""
    _serve(server, template[0])
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    monkeypatch.setattr("pipesync.adapters.hubspot.api._wait", lambda _: 0.0)
    return server


Connect = Callable[..., HubspotAdapter]


@pytest.fixture
def connect(
    hubspot: Running, template: tuple[sqlite3.Connection, Filled], tmp_path: Path
) -> Iterator[Connect]:
    """Open the portal as a connection `hs`; `mapping=None` takes the shipped one."""
    site = tmp_path / "mapping.yaml"
    site.write_text(template[1].mapping, encoding="utf-8")
    opened: list[HubspotAdapter] = []

    def open_(
        *, mapping: Path | None = site, write: bool = True, allowed: Write | None = None, **options: Any
    ) -> HubspotAdapter:
        allowed = allowed or Write(enabled=write, tasks=write, forecasts=write, opportunity_fields=write)
        given = {**UNHURRIED, "url": hubspot.url, "token_env": "HUBSPOT_TOKEN", **options}
        config = ConnectionConfig(adapter="hubspot", mapping=mapping, write=allowed, options=given)
        adapter = open_adapter("hs", config, tmp_path)
        assert isinstance(adapter, HubspotAdapter)
        opened.append(adapter)
        return adapter

    yield open_
    for adapter in opened:
        adapter.close()


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as opened:
        yield opened


@pytest.fixture
def pulled(connect: Connect, warehouse: Warehouse, hubspot: Running) -> Warehouse:
    """A warehouse that knows the portal's deals and our records; an hour later, with counters at zero."""
    pull(connect(), warehouse, streams=DEALS)
    hubspot.asked.clear()
    hubspot.advance(3600)
    return warehouse


def task(deal: str, number: int = 1, **after: Any) -> Change:
    """A planned task on a deal."""
    given = {"subject": "Call", "body": "one\ntwo", "due": "2026-11-20", "priority": "high", **after}
    return Change(
        key=f"ps1-{deal}-{number}", action="create", object="task", opportunity_id=deal, owner_id="100001",
        after=given, reason=Reason(kind="findings", text="a test"),
    )  # fmt: skip
