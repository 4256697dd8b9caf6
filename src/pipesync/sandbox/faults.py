"""The one fault harness: what goes wrong on the way, when, and how often; for both CRMs and every campaign.

A plan is a YAML list. Each fault has a `kind`, says which requests it meets (`method`, `path` as a pattern) and when:
by `rate` (seeded), for the first `count` that match, or at the listed `moments` (1 is the first that matches).

    - {kind: status, status: 503, rate: 0.1}                   # answered so, before any work
    - {kind: lost, method: POST|PATCH, count: 2}               # the work is done, the answer never arrives
    - {kind: refused, path: /query, moments: [3]}              # the connection breaks before any work
    - {kind: slow, seconds: 0.2, rate: 0.05}                   # the body comes late
    - {kind: session, moments: [5]}                            # the session has expired
    - {kind: partial, rate: 0.1}                               # some records of a batch are refused for now
    - {kind: lock, count: 3}                                   # a row is locked by someone else
    - {kind: limit, retry_after: 1, rate: 0.05}                # 429
    - {kind: lag, seconds: 30}                                 # searches do not see what is younger

A new kind is a name here and what a face (or `Harness.__call__`) does about it.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pipesync.config import Section
from pipesync.errors import InputError, Place, Problem
from pipesync.yamlsource import read

Kind = Literal["status", "lost", "refused", "slow", "session", "partial", "lock", "limit", "lag"]
KINDS: tuple[Kind, ...] = ("status", "lost", "refused", "slow", "session", "partial", "lock", "limit", "lag")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Fault(Section):
    """One line of a plan."""

    kind: Kind
    method: str = ".*"
    path: str = ".*"
    rate: float | None = Field(default=None, ge=0, le=1)
    count: int | None = Field(default=None, ge=0)
    moments: tuple[int, ...] = ()
    status: int = Field(default=503, ge=400, le=599)
    seconds: float = Field(default=0.05, ge=0)
    retry_after: float = Field(default=0.01, ge=0)


_PLAN = TypeAdapter(tuple[Fault, ...])


def load(path: Path) -> tuple[Fault, ...]:
    """Read a fault plan; InputError with what is wrong with it."""
    document = read(path)
    return parse(document.data, str(path))


def parse(data: object, name: str = "faults") -> tuple[Fault, ...]:
    try:
        return _PLAN.validate_python(data or [])
    except ValidationError as error:
        problems = [
            Problem(f"{'.'.join(map(str, e['loc']))}: {e['msg']}", Place(name), f"kinds: {', '.join(KINDS)}")
            for e in error.errors(include_url=False)
        ]
        raise InputError(*problems) from None


class Harness:
    """ASGI around the faces: lets requests through, or has them meet what the plan says.

    What a face itself must act on (session, partial, lock) it finds in `scope["faults"]`.
    """

    def __init__(self, app: Any, plan: tuple[Fault, ...] = (), seed: int = 0) -> None:
        self._app = app
        self.order(plan, seed)

    def order(self, plan: tuple[Fault, ...], seed: int = 0) -> None:
        """Start over with another plan."""
        self.plan = plan
        self._seen = [0] * len(plan)
        self._random = random.Random(seed)  # noqa: S311  # repeatable on purpose

    @property
    def lag_seconds(self) -> float:
        return max((f.seconds for f in self.plan if f.kind == "lag"), default=0.0)

    def _due(self, method: str, path: str) -> dict[Kind, Fault]:
        found: dict[Kind, Fault] = {}
        for i, fault in enumerate(self.plan):
            if not (re.fullmatch(fault.method, method) and re.search(fault.path, path)):
                continue
            self._seen[i] += 1
            is_due = self._seen[i] in fault.moments
            is_due = is_due or (fault.count is not None and self._seen[i] <= fault.count)
            is_due = is_due or (fault.rate is not None and self._random.random() < fault.rate)
            if is_due:
                found.setdefault(fault.kind, fault)
        return found

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox"):
            await self._app(scope, receive, send)
            return
        due = self._due(scope["method"], scope["path"])
        if "refused" in due:
            await _drain(receive)
            await _break(send)
            return
        if "limit" in due or "status" in due:
            fault = due.get("limit") or due["status"]
            await _drain(receive)
            await _answer(send, 429 if fault.kind == "limit" else fault.status, fault.retry_after)
            return
        scope["faults"] = due
        if "lost" in due:
            await self._app(scope, receive, _nowhere)
            await _break(send)
            return
        if "slow" in due:
            await self._app(scope, receive, _late(send, due["slow"].seconds))
            return
        await self._app(scope, receive, send)


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _answer(send: Send, status: int, retry_after: float) -> None:
    headers = [(b"retry-after", f"{retry_after:g}".encode()), (b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"<html>try again later</html>"})


async def _break(send: Send) -> None:
    """Promise a body and send none: the server then closes the connection, where silence would become a 500."""
    headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _nowhere(_: Message) -> None:
    return


def _late(send: Send, seconds: float) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(seconds)
        await send(message)

    return sent
