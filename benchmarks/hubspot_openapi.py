"""Judge what pipesync asks and what the sandbox answers by HubSpot's own OpenAPI files, for whoever has them.

    python -m benchmarks.hubspot_openapi --openapi DIR [--version 2026-09]...

`DIR` is searched for OpenAPI documents; HubSpot publishes them without a licence to pass them on, so none is here. A
small portal is looked at, installed, pulled, changed, pulled again and written to, by each version, and every request
and answer is validated by openapi-core, which lives in a throw-away environment. Exits with 1 where one is wrong.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import uvicorn
from benchmarks.hubspot_peers import HOME, environment
from starlette.applications import Starlette

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.adapters.hubspot.options import ApiVersion, Engagement
from pipesync.config import ConnectionConfig, Write
from pipesync.model import Change, Reason
from pipesync.pull import pull
from pipesync.sandbox.company import AS_OF, generate
from pipesync.sandbox.hubspot import Portal, fill, routes
from pipesync.sandbox.hubspot.definitions import ALL_SCOPES
from pipesync.sandbox.hubspot.records import Source
from pipesync.sandbox.process import HUBSPOT_TOKEN
from pipesync.store.warehouse import Warehouse

Exchange = dict[str, Any]  # Any: JSON
_TOKEN = {"token_file": "token"}
_APP = {"client_id": "app", "client_secret_file": "token", "refresh_token_file": "refresh"}
_JUDGE = Path(__file__).with_name("hubspot_openapi_judge.py")


class _Recorder:
    """ASGI that keeps each request with its answer."""

    def __init__(self, app: Any) -> None:
        self._app, self.exchanges = app, list[Exchange]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        told: Exchange = {
            "method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode(),
            "headers": {k.decode(): v.decode() for k, v in scope["headers"]}, "body": b"", "answer": b"",
        }  # fmt: skip

        async def heard() -> Any:
            message = await receive()
            told["body"] += message.get("body", b"")
            return message

        async def said(message: Any) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
            told["answer"] += message.get("body", b"")
            await send(message)

        await self._app(scope, heard, said)
        told |= {"body": told["body"].decode(), "answer": told["answer"].decode()}
        self.exchanges.append(told)


@contextmanager
def served(portal: Portal) -> Iterator[tuple[str, list[Exchange]]]:
    recorder = _Recorder(Starlette(routes=routes(portal)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(recorder, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", recorder.exchanges
    finally:
        server.should_exit = True
        thread.join(5)


def record(version: ApiVersion, folder: Path) -> list[Exchange]:
    """Do with a small portal whatever pipesync does with one."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    now = round(AS_OF.timestamp() * 1000)
    portal = Portal(db, lambda: now)
    fill(portal, folder / "data")
    portal.records.set("oauth", {"refresh": list(ALL_SCOPES)})
    rate = {"id": "1", "fromCurrencyCode": "USD", "toCurrencyCode": "EUR", "conversionRate": 0.9,
            "effectiveAt": "2026-11-02T00:00:00Z", "createdAt": "2026-11-02T00:00:00Z",
            "updatedAt": "2026-11-02T00:00:00Z", "visibleInUI": True}  # fmt: skip
    portal.records.set("rates", [rate])
    db.commit()
    with served(portal) as (url, exchanges):
        adapter = _opened(folder, url, version, _TOKEN)
        with Warehouse() as warehouse:
            pull(adapter, warehouse)
            list(adapter.checks())
            _take_out(portal)
            adapter.install_fields()
            portal.records.archive("deals", [int(warehouse.rows("SELECT min(id) FROM opportunities")[0][0])])
            deals = [r[0] for r in warehouse.rows("SELECT id FROM opportunities WHERE NOT is_closed LIMIT 3")]
            portal.records.update(
                "deals",
                portal.records.get("deals", [int(deals[0])])[int(deals[0])],
                {"amount": "7"},
                Source(),
            )
            changes = _changes(deals)
            outcomes = {o.key: o for o in adapter.write(changes)}
            list(adapter.write(changes))
            adapter.own([c.key for c in changes], deals)
            later = [c.model_copy(update={"action": "complete", "target": outcomes[c.key].target})
                     for c in changes if c.object == "task" and outcomes[c.key].target]  # fmt: skip
            list(adapter.write(later))
            list(adapter.write([c.model_copy(update={"action": "delete"}) for c in later]))
            pull(_opened(folder, url, version, _TOKEN), warehouse)
        signed_in = _opened(folder, url, version, _APP)
        signed_in.connection()
    return exchanges


def _opened(folder: Path, url: str, version: ApiVersion, sign_in: dict[str, str]) -> Adapter:
    allowed = Write(enabled=True, tasks=True, forecasts=True, opportunity_fields=True)
    (folder / "token").write_text(HUBSPOT_TOKEN, encoding="utf-8")
    (folder / "refresh").write_text("refresh", encoding="utf-8")
    given = {"url": url, "api_version": version, "activities": list(get_args(Engagement)), "reference": "0s",
             "searches_per_second": 1000, "native_forecast": True, **sign_in}  # fmt: skip
    return open_adapter("hs", ConnectionConfig(adapter="hubspot", write=allowed, options=given), folder)


def _take_out(portal: Portal) -> None:
    for kind in ("deals", "tasks"):
        left = [d for d in portal.definitions(kind) if not d["name"].startswith("pipesync_")]
        portal.records.set(f"properties.{kind}", left)
        portal.records.set(f"groups.{kind}", [])
        portal.forget_definitions(kind)
    portal.records.set("schemas", [])
    portal.forget_definitions("pipesync_forecast")


def _changes(deals: list[str]) -> list[Change]:
    why = Reason(kind="forecast", text="a check")
    tasks = [
        Change(key=f"ps1-{d}", action="create", object="task", opportunity_id=d, reason=why,
               after={"subject": "Call", "body": "now", "due": "2026-11-20", "priority": "high"})
        for d in (*deals, "999")  # the last one is not there, and fails by itself
    ]  # fmt: skip
    quarter = {"period_start": "2026-10-01", "period_end": "2027-01-01", "scope": "total", "currency": "EUR",
               **dict.fromkeys(("p10", "p50", "p90", "mean", "closed", "open", "new"), "1.00"),
               "as_of": "2026-11-16", "basis": "b"}  # fmt: skip
    forecast = Change(key="psf1-a", action="create", object="forecast", after=quarter, reason=why)
    field = Change(key="pso1-a", action="update", object="opportunity", target=deals[0], opportunity_id=deals[0],
                   after={"win_probability": 0.4, "expected_close": "2026-12-01"}, reason=why)  # fmt: skip
    return [*tasks, forecast, field]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--openapi", type=Path, required=True)
    parser.add_argument("--version", action="append", choices=get_args(ApiVersion))
    parser.add_argument(
        "--peers", type=Path, default=HOME, help="where openapi-core's environment is, or is made"
    )
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate(folder / "data", opportunities=120, seed=3, activities_per_opportunity=2)
        python = environment(given.peers, "openapi") / "python"
        for version in given.version or get_args(ApiVersion):
            exchanges = record(version, folder)
            (folder / "exchanges.json").write_text(json.dumps(exchanges), encoding="utf-8")
            print(f"{version}: {len(exchanges):,} requests with their answers")
            sys.stdout.flush()
            command = [python, _JUDGE, given.openapi, folder / "exchanges.json"]
            done = subprocess.run(list(map(str, command)), check=False)
            failed |= done.returncode != 0
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
