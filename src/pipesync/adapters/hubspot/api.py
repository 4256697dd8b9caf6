"""Requests to one portal: signed in, timed out, paced, retried, and judged by what to do next.

What is read goes through a pool of connections of ours: the calls of hubspot-api-client open a connection each, or
spend ten times the CPU on typed models, and drop fields that they do not know. So does a sign-in by OAuth: the client
knows only the path that HubSpot switches off in February 2027. What is written goes through the client, over one kept
`ApiClient`, as raw JSON.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

import orjson
import urllib3
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from pipesync import __version__
from pipesync.adapters.hubspot.options import Options, Paths
from pipesync.adapters.hubspot.pacing import Pace
from pipesync.adapters.hubspot.transport import CONNECT, Answer, Transport
from pipesync.errors import (
    BudgetSpent,
    CrmError,
    PermissionMissing,
    RequestRefused,
    RetryLater,
    SignInRefused,
)
from pipesync.options import secret
from pipesync.secrecy import end_session, hide_session

T = TypeVar("T")
Json = dict[str, Any]
"""A JSON object of HubSpot's; what stands in it is checked where it is used."""

ATTEMPTS = 6
PATIENCE = 120.0
"""Seconds; where HubSpot asks to wait longer (a portal being moved: up to a day), the run ends instead."""
_UNCLEAR = {0, 408, 500, 502, 503, 504, 521, 522, 523, 524}
"""No answer, or one behind which the work may have been done."""
_LATER = {408, 423, 429, 477, 500, 502, 503, 504, 521, 522, 523, 524}


class Api:
    """One signed-in portal. Nothing of it shows a secret."""

    def __init__(
        self, name: str, options: Options, raw_options: Mapping[str, Any], pace: Pace | None = None
    ) -> None:
        self._name, self._options, self._raw = name, options, dict(raw_options)
        self._pace = pace or Pace(searches=options.searches_per_second)
        self.paths = Paths(options.api_version)
        self.requests = 0
        """Sent so far, repeats included."""
        self._spent: BudgetSpent | None = None
        self._token: str | None = None
        common = {
            "User-Agent": f"pipesync/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
        }
        self._transport = Transport(options.url, common, options.timeout)
        self._writer: _Writer | None = None
        self.budget: tuple[int, int] | None = None
        """Requests used and allowed today, as the last answer told."""
        self.server_time: datetime | None = None
        """As the last answer's Date header told it."""

    def close(self) -> None:
        self._transport.close()
        self._forget_token()

    @property
    def burst(self) -> tuple[int, float]:
        """Requests within seconds that the portal allows, as headers told; 0 where none did."""
        return self._pace.burst

    # --- Verbs ------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str | int | bool | None) -> Json:
        """Read; `query` without its None values. Lists are comma-separated texts."""
        return self.get_as(parsed, path, **query)

    def get_as(self, read: Callable[[bytes], T], path: str, **query: str | int | bool | None) -> T:
        """Read in a form of one's own: `read` takes the answer's bytes, and raises JSONDecodeError if it broke off."""
        given = {k: _word(v) for k, v in query.items() if v is not None}
        return self._retried(lambda: self._read(read, "GET", path, query=given))

    def ask(self, path: str, body: Json, *, search: bool = False, **query: str | bool) -> Json:
        """Read by POST: search and batch reads, which may be repeated like any GET."""
        return self.ask_as(parsed, path, body, search=search, **query)

    def ask_as(
        self, read: Callable[[bytes], T], path: str, body: Json, *, search: bool = False, **query: str | bool
    ) -> T:
        """Read by POST in a form of one's own, as `get_as`."""
        given = {k: _word(v) for k, v in query.items()}
        return self._retried(lambda: self._read(read, "POST", path, query=given, body=body, search=search))

    def write(self, method: str, path: str, body: Json | list[Json], *, repeatable: bool = True) -> Json:
        """Write. Where a repeat could do the work twice, a lost answer is the caller's to look into."""
        return self._retried(lambda: self._write(method, path, body, repeatable=repeatable))

    # --- Signing in -------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        if self._token is None:
            self._token = self._signed_in()
        return self._token

    def _forget_token(self) -> None:
        if self._token is not None and self._options.is_oauth:
            end_session(self._token)
        self._token = None

    def _signed_in(self) -> str:
        if not self._options.is_oauth:
            return secret(self._raw, "token", connection=self._name).get_secret_value()
        given = {
            name: secret(self._raw, name, connection=self._name).get_secret_value()
            for name in ("client_secret", "refresh_token")
        }
        self.requests += 1
        try:
            form = {"grant_type": "refresh_token", "client_id": self._options.client_id, **given}
            answer = self._transport.send(
                "POST",
                self.paths.token(),
                body=urlencode(form).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
        except urllib3.exceptions.HTTPError:
            raise _unreachable(self._options.url) from None
        if answer.status in _LATER:
            raise RetryLater("HubSpot's sign-in is busy", code=str(answer.status))
        token = _object(answer.content).get("access_token") if 200 <= answer.status < 300 else None
        if not token:
            raise SignInRefused(
                f"connection {self._name!r}: HubSpot refused the refresh token",
                fix="install the app in the portal again and store its new refresh token",
                code=str(answer.status),
            )
        return hide_session(str(token))

    # --- One request ------------------------------------------------------------------------------------------

    def _read(
        self,
        read: Callable[[bytes], T],
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Json | None = None,
        search: bool = False,
    ) -> T:
        self._stop_when_spent()
        self._pace.wait(search=search)
        token = self.token
        self.requests += 1
        try:
            answer = self._transport.send(
                method,
                path,
                query=query,
                body=orjson.dumps(body) if body is not None else None,
                headers={"Authorization": f"Bearer {token}"},
            )
        except urllib3.exceptions.SSLError:
            raise CrmError(
                f"{self._options.url} has no certificate that can be trusted",
                fix="check the address; verification is never off",
            ) from None
        except urllib3.exceptions.HTTPError:
            raise _unreachable(self._options.url) from None
        finally:
            self._pace.count(search=search)
        return self._judged(*answer, path, read)

    def _write(self, method: str, path: str, body: Json | list[Json], *, repeatable: bool) -> Json:
        self._stop_when_spent()
        self._pace.wait(search=False)
        if self._writer is None:
            self._writer = _Writer(self._options, self._transport)
        token = self.token
        self.requests += 1
        try:
            status, headers, content = self._writer.send(method, path, body, token)
        finally:
            self._pace.count(search=False)
        if status in _UNCLEAR and not repeatable:
            raise Lost("HubSpot did not say what became of the request", code=str(status or "no answer"))
        if not status:
            raise _unreachable(self._options.url)
        # An archive is answered by 204, without a body.
        return self._judged(status, headers, content or b"{}", path, parsed)

    def _retried(self, send: Callable[[], T]) -> T:
        """Send until it passes. A refused token is taken anew once: it may have expired, or been replaced."""
        refreshed = False
        while True:
            try:
                return Retrying(
                    retry=retry_if_exception_type(RetryLater),
                    stop=stop_after_attempt(ATTEMPTS),
                    wait=_wait,
                    reraise=True,
                )(send)
            except SignInRefused:
                if refreshed:
                    raise
                refreshed = True
                self._forget_token()

    # --- Judging ----------------------------------------------------------------------------------------------

    def _judged(
        self,
        status: int,
        headers: Mapping[str, str],
        content: bytes,
        path: str,
        read: Callable[[bytes], T],
    ) -> T:
        self._pace.learn(headers)
        if told := headers.get("Date"):
            self.server_time = parsedate_to_datetime(told).astimezone(UTC)
        if not 200 <= status < 300:
            _refuse(status, headers, content, path, self._name)
        self._count(headers)
        try:
            return read(content)
        except orjson.JSONDecodeError:
            raise RetryLater("HubSpot's answer broke off") from None

    def _stop_when_spent(self) -> None:
        """Stop before a request rather than after one, whose answer would be lost."""
        if self._spent:
            raise self._spent

    def _count(self, headers: Mapping[str, str]) -> None:
        whole, left = (headers.get(f"X-HubSpot-RateLimit-Daily{suffix}", "") for suffix in ("", "-Remaining"))
        if not (whole.isdigit() and left.isdigit()):
            return
        self.budget = (int(whole) - int(left), int(whole))
        if int(left) < int(whole) * (1 - self._options.daily_share):
            self._spent = BudgetSpent(
                f"connection {self._name!r}: {int(left):,} of the portal's {int(whole):,} daily requests are left,"
                " which are for others",
                fix="the next run goes on from here; raise `daily_share` if pipesync may use more",
            )


class Lost(CrmError):
    """A write may or may not have been done; look it up before sending it again."""


class _Writer:
    """The client's transport, which is loaded where something is written: a pull has no use for its modules."""

    def __init__(self, options: Options, transport: Transport) -> None:
        from hubspot.crm.objects import ApiException

        import hubspot

        client = hubspot.Client.create(
            host=options.url,
            retry=urllib3.Retry(total=0, redirect=0, raise_on_status=False, respect_retry_after_header=False),
            proxy=transport.way.proxy,
            proxy_headers=transport.way.proxy_headers,
            ssl_ca_cert=transport.way.certificates,
        )
        # The property builds a new pool on each access, so the one object is kept.
        self._client: Any = client.crm.objects.basic_api.api_client  # Any: the client publishes no types
        self._refused: type[Any] = ApiException
        self._timeout = (CONNECT, options.timeout)

    def send(self, method: str, path: str, body: Json | list[Json], token: str) -> Answer:
        """Send; status 0 stands for no answer."""
        self._client.configuration.access_token = token
        try:
            answer = self._client.call_api(
                path,
                method,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["oauth2"],
                _preload_content=False,
                _request_timeout=self._timeout,
            )
            return Answer(answer.status, answer.headers, answer.data)
        except self._refused as error:  # any other status than 2xx; 0 where TLS failed
            return Answer(error.status, error.headers or {}, (error.body or "").encode())
        except urllib3.exceptions.HTTPError:
            return Answer(0, {}, b"")


def _word(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unreachable(url: str) -> RetryLater:
    return RetryLater(f"no answer from {url}", fix="check the network, or `url` in the connection")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RetryLater) and error.after is not None:
        return error.after
    return wait_random_exponential(multiplier=0.5, max=20)(state)


def _refuse(status: int, headers: Mapping[str, str], content: bytes, path: str, connection: str) -> NoReturn:
    """Raise what an error answer means. HubSpot's own messages hold record values, so only their codes are told."""
    body = _object(content)
    told = {
        "code": str(body.get("category") or body.get("errorType") or status),
        "request_id": str(body.get("correlationId") or headers.get("X-HubSpot-Correlation-Id") or ""),
    }
    if status == 401:
        raise SignInRefused(
            f"connection {connection!r}: HubSpot refused the token",
            fix="create a service key under Development > Keys > Service keys and store it again",
            **told,
        )
    if status == 403:
        scopes = missing_scopes(body)
        raise PermissionMissing(
            f"HubSpot allows no {path}",
            fix=f"add the scope {' or '.join(scopes)} to the key" if scopes else "",
            **told,
        )
    if status == 429 and str(body.get("policyName", "")).upper() == "DAILY":
        raise BudgetSpent(
            "the portal's daily requests are used up", fix="the next run goes on from here", **told
        )
    if status in _LATER:
        after = _retry_after(headers, least=2.0 if status == 423 else 0.0)
        if after is not None and after > PATIENCE:
            raise CrmError(
                f"HubSpot asks to come back in {after / 60:,.0f} minutes", fix="run again after that", **told
            )
        raise RetryLater("HubSpot asks to come back later", after=after, **told)
    why = "; ".join(reasons(body)) or f"status {status}"
    raise RequestRefused(f"HubSpot refused {path}: {why}", **told)


def parsed(content: bytes) -> Json:
    """Parse an answer; JSONDecodeError where it broke off. A list counts as results.

    Garbage is not looked for meanwhile: JSON has no cycles, and the looking takes as long as the parsing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        found = orjson.loads(content)
    finally:
        if was_on:
            gc.enable()
    return found if isinstance(found, dict) else {"results": found}


def _object(content: bytes) -> Json:
    """Return an answer's JSON object; an empty one where it is anything else."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(headers: Mapping[str, str], *, least: float) -> float | None:
    told = headers.get("Retry-After", "")
    try:
        return max(float(told), least)
    except ValueError:
        return least or None


def missing_scopes(body: Json) -> list[str]:
    """Return the scopes that a 403 names."""
    found: list[str] = []
    for one in (body, *(e for e in body.get("errors") or () if isinstance(e, dict))):
        context = one.get("context") or {}
        for key in ("requiredGranularScopes", "requiredScopes"):
            found += [str(s) for s in context.get(key) or ()]
    return list(dict.fromkeys(found))


def reasons(error: Json) -> list[str]:
    """Return codes and property names of an error, without its message, which repeats the record's values."""
    found = []
    for one in error.get("errors") or [error]:
        if not isinstance(one, dict):
            continue
        context = one.get("context") or {}
        names: Sequence[str] = context.get("propertyName") or context.get("properties") or ()
        code = one.get("code") or one.get("subCategory") or one.get("category") or ""
        found.append(" ".join(filter(None, [str(code), ", ".join(map(str, names))])))
    return [f for f in found if f]
