"""HubSpot is reached as the machine's environment says, for reading and for writing alike."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import certifi
import pytest
from tests.adapters.hubspot.conftest import Connect, task

from pipesync.adapters.hubspot.transport import Transport, way
from pipesync.errors import InputError, RetryLater

HUBSPOT = "https://api.hubapi.com"
_NAMES = ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A proxy that lets nobody through and remembers who asked: (target, credentials)."""
    asked: list[tuple[str, str | None]] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:  # http.server's own name
            asked.append((self.path, self.headers.get("Proxy-Authorization")))
            self.send_error(403)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_without_a_word_it_is_reached_directly() -> None:
    """No proxy, and the certificates that come along."""
    assert way(HUBSPOT) == (None, None, certifi.where())


def test_a_proxy_carries_what_is_read_and_what_is_written(
    connect: Connect, proxy: tuple[str, list[tuple[str, str | None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask the proxy, with its credentials, which go nowhere else."""
    place, asked = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s%40y@{place}")
    monkeypatch.setattr("pipesync.adapters.hubspot.api.ATTEMPTS", 1)
    adapter = connect(url=HUBSPOT)

    with pytest.raises(RetryLater, match="no answer"):
        adapter.connection()
    with pytest.raises(RetryLater, match="no answer"):
        adapter._api.write("POST", "/crm/objects/2026-09/tasks/batch/create", {"inputs": [task("1").key]})

    assert asked == [("api.hubapi.com:443", "Basic bWU6c0B5")] * 2


def test_an_exception_from_the_proxy_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY, and this machine itself, go past it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "hubapi.com")

    assert way(HUBSPOT).proxy is None
    assert way("https://api.example.com").proxy == "http://127.0.0.1:1"
    assert way("http://127.0.0.1:8080").proxy is None


def test_certificates_of_the_site_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As requests takes them, so that nothing changes for who set it up for that."""
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/second.pem")
    assert way(HUBSPOT).certificates == "/etc/second.pem"

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/first.pem")
    assert way(HUBSPOT).certificates == "/etc/first.pem"


def test_a_proxy_of_another_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than going past it."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")

    with pytest.raises(InputError, match="socks5 is no way"):
        Transport(HUBSPOT, {}, 1)
