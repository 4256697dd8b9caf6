"""A proxy before the sandbox that exchanges one answer for another."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import requests

Spoiling = Callable[[int, bytes, random.Random], tuple[int, bytes]]
"""Status and body as they came -> as they go on."""


class Proxy:
    """Spoils the n-th answer that is no refusal, as `arm` says; every later one of its path too where `lasting`."""

    def __init__(self, target: str, spoiling: Spoiling, *, lasting: bool = False) -> None:
        self.arm(0, 0)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                left_out = ("host", "accept-encoding")
                headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
                got = requests.request(
                    self.command, target + self.path, data=body, headers=headers, timeout=30
                )
                proxy.count += 1
                status, content = got.status_code, got.content
                path = f"{self.command} {self.path.split('?')[0]}"
                if got.ok and (proxy.count == proxy.spoil_at or (lasting and path == proxy.spoilt)):
                    status, content = spoiling(status, content, random.Random(proxy.seed))  # noqa: S311  # seeded
                    proxy.spoilt = path
                self.send_response(status)
                for name, value in got.headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def arm(self, spoil_at: int, seed: int) -> None:
        self.count, self.spoil_at, self.seed, self.spoilt = 0, spoil_at, seed, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at a path; a value that YAML's dumper refuses stays out."""
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = replaced(data[path[0]], path[1:], value)
    return copy
