"""Connections to HubSpot that are kept, by the proxy and the certificates that the machine's environment names.

`requests` would do this too, with several times the CPU of urllib3, which it and hubspot-api-client are built on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3

from pipesync.errors import InputError, Problem

CONNECT = 10.0
"""Seconds to wait for a connection."""


class Way(NamedTuple):
    """How this machine reaches an address."""

    proxy: str | None
    proxy_headers: dict[str, str] | None
    certificates: str


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


def way(url: str) -> Way:
    """Return how the environment says to reach an address; this machine itself is reached directly.

    InputError for a proxy of another kind than http.
    """
    named = (os.environ.get(n) for n in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
    certificates = next(filter(None, named), certifi.where())
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if parts.scheme == "http" or not proxy or proxy_bypass(parts.hostname or ""):
        return Way(None, None, certificates)
    given = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if given.scheme not in ("http", "https"):
        raise InputError(
            Problem(
                f"{given.scheme} is no way to reach {url}", fix="name an http proxy in HTTPS_PROXY, or none"
            )
        )
    headers = None
    if given.username:
        headers = urllib3.make_headers(
            proxy_basic_auth=f"{unquote(given.username)}:{unquote(given.password or '')}"
        )
    place = given.netloc.rpartition("@")[2]
    return Way(urlunsplit((given.scheme, place, "", "", "")), headers, certificates)


class Transport:
    """One pool of connections to one address. Nothing is repeated here, and no redirect is followed."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self.way = way(url)
        trusted, by = self.way.certificates, self.way.proxy_headers
        pools = (
            urllib3.ProxyManager(self.way.proxy, proxy_headers=by, ca_certs=trusted)
            if self.way.proxy
            else urllib3.PoolManager(ca_certs=trusted)
        )
        # The pool itself: its manager would take long addresses apart once more for each request.
        self._pool = pools.connection_from_url(url)
        self._root = urlsplit(url).path
        self._headers = dict(headers)
        self._timeout = urllib3.Timeout(connect=CONNECT, read=timeout)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send and read the whole answer; urllib3's HTTPError where there is none."""
        answer = self._pool.urlopen(
            method,
            self._root + path + (f"?{urlencode(query, safe=',')}" if query else ""),
            body=body,
            headers={**self._headers, **(headers or {})},
            timeout=self._timeout,
            retries=False,
            redirect=False,
            assert_same_host=False,
        )
        return Answer(answer.status, answer.headers, answer.data)

    def close(self) -> None:
        self._pool.close()
