"""Requests to one org through simple-salesforce: signed in, timed out, retried, and judged by what to do next.

simple-salesforce signs in and builds the requests; what it leaves open is closed here in the session that it is
handed: a timeout on every call, no redirects to elsewhere, one new sign-in when a session has expired (under a lock,
never a storm), the org's clock and its limits read off every answer. It only speaks https; for a loopback address,
where the sandbox is, the session's transport carries https to http. Certificates are always verified.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import jwt
import orjson
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError
from simple_salesforce.login import SalesforceLogin
from simple_salesforce.util import exception_handler
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from pipesync import __version__
from pipesync.adapters.salesforce.options import Options, is_loopback
from pipesync.adapters.salesforce.refusals import FIXES, TRANSIENT, action_of
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

Json = dict[str, Any]
"""A JSON object of Salesforce's; what stands in it is checked where it is used."""
T = TypeVar("T")

ATTEMPTS = 6
_PATIENCE = 120.0
_USAGE = re.compile(r"api-usage=(\d+)/(\d+)")
_SANDBOX_DOMAIN = "sandbox.my"


class Restart(CrmError):
    """The locator or the session that a page sequence belongs to is gone; begin again at the last checkpoint."""


class Shrink(CrmError):
    """The query was too large; ask for less at a time."""


class _Transport(HTTPAdapter):
    """Gives every request a timeout, and carries https to http where the org is on this machine."""

    def __init__(self, timeout: float, plain: str | None = None) -> None:
        self._timeout, self._plain = timeout, plain
        super().__init__(pool_maxsize=2)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (10.0, self._timeout)
        if self._plain and request.url:
            parts = urlsplit(request.url)
            request.url = f"{self._plain}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        return super().send(request, *args, **kwargs)


class _Heard(threading.local):
    """What the answers to one thread said."""

    requests = 0
    asked_to_wait: float | None = None


class Api:
    """One org, for any number of threads. Nothing of it shows a secret."""

    def __init__(self, name: str, options: Options, raw_options: Mapping[str, Any]) -> None:
        self._name, self._options, self._raw = name, options, dict(raw_options)
        self._lock = threading.Lock()
        self._client: Salesforce | None = None
        self._mine = _Heard()
        self.used: tuple[int, int] | None = None
        """The org's requests of the last 24 hours, and its limit."""
        self._counting = threading.Lock()
        self._answers, self._waited = 0, 0.0
        self._spent, self._under_way = 0, 0
        """Requests that count against the day's limit: answered, and asked just now."""
        self.server_time: datetime | None = None
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"pipesync/{__version__}"
        self._session.hooks["response"].append(self._heard)
        self._session.max_redirects = 0
        plain = options.url if is_loopback(options.url) and options.url.startswith("http://") else None
        self._session.mount("https://", _Transport(options.timeout))
        if plain:
            self._session.trust_env = False
            for host in (urlsplit(options.url).netloc, f"{_SANDBOX_DOMAIN}.salesforce.com"):
                self._session.mount(f"https://{host}", _Transport(options.timeout, plain))

    def close(self) -> None:
        self._session.close()
        with self._lock:
            if self._client is not None:
                end_session(self._client.session_id)

    @property
    def asked(self) -> int:
        """What this thread has asked so far, repeats included."""
        return self._mine.requests

    def _heard(self, answer: requests.Response, *_: object, **__: object) -> None:
        waiting = answer.headers.get("Retry-After", "")
        self._mine.requests += 1
        self._mine.asked_to_wait = float(waiting) if re.fullmatch(r"\d+(\.\d+)?", waiting) else None
        with self._counting:
            self._answers += 1
            self._waited += answer.elapsed.total_seconds()
            if date := answer.headers.get("Date"):
                self.server_time = parsedate_to_datetime(date).astimezone(UTC)
            if found := _USAGE.search(answer.headers.get("Sforce-Limit-Info", "")):
                self.used = (int(found[1]), int(found[2]))
                self._spent += 1

    # --- Signing in -------------------------------------------------------------------------------------------

    @property
    def client(self) -> Salesforce:
        with self._lock:
            if self._client is None:
                self._client = self._sign_in()
            return self._client

    def _renew(self, old: Salesforce | None) -> None:
        """Sign in again, unless another thread has done so since."""
        if self._options.is_session:
            raise SignInRefused(
                "the session that was handed in has expired", fix="hand in a new one, or set up JWT"
            )
        with self._lock:
            if self._client is old:
                self._client = self._sign_in()
                if old is not None:
                    end_session(old.session_id)

    def _sign_in(self) -> Salesforce:
        options, url = self._options, self._options.url
        host = urlsplit(url).netloc
        domain = _SANDBOX_DOMAIN if is_loopback(url) else host.removesuffix(".salesforce.com")
        if options.is_session:
            session_id = self._secret("session")
        else:
            session_id, host = self._grant(domain, host)
        version = options.api_version
        hide_session(session_id)
        return Salesforce(session_id=session_id, instance=host, version=version, session=self._session)

    def _grant(self, domain: str, host: str) -> tuple[str, str]:
        options = self._options
        given: Json = {"domain": domain, "consumer_key": options.client_id, "session": self._session}
        if not options.client_id:
            raise SignInRefused(
                f"connection {self._name!r} has no client_id", fix="give the app's consumer key"
            )
        if options.username:
            given |= {
                "username": options.username,
                "privatekey": self._secret("private_key"),
                "instance_url": domain,
            }
        else:
            given["consumer_secret"] = self._secret("client_secret")
        try:
            with warnings.catch_warnings(action="ignore"):  # it warns of what the error says anyway
                session_id, instance = SalesforceLogin(**given)
        except SalesforceAuthenticationFailed as refused:
            raise self._sign_in_refused(refused) from None
        except requests.RequestException as error:
            raise _unreachable(error, self._options.url) from None
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise SignInRefused(
                f"the private key of {self._name!r} cannot be used ({type(error).__name__})",
                fix="it must be an RSA key of 2048 bits or more, in PEM: BEGIN PRIVATE KEY",
            ) from None
        return session_id, instance if not is_loopback(options.url) else host

    def _sign_in_refused(self, refused: SalesforceAuthenticationFailed) -> CrmError:
        """Turn a refusal into one of ours: an OAuth error, or a page that is no JSON under its HTTP status."""
        code, said = refused.code, str(refused.auth_message or "")
        if isinstance(code, int):
            if code in TRANSIENT:
                return RetryLater(
                    f"Salesforce answered {code} to the sign-in", after=self._mine.asked_to_wait
                )
            return SignInRefused(f"{self._options.url} is no Salesforce org ({code})", fix=_ADDRESS)
        why = f": {said}" if said in _SIGN_IN_FIXES else ""
        message = f"Salesforce refused to sign {self._name!r} in{why}"
        return SignInRefused(message, code=str(code or ""), fix=_sign_in_fix(str(code or ""), said))

    def _secret(self, name: str) -> str:
        return secret(self._raw, name, connection=self._name).get_secret_value()

    # --- Verbs ------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Any:
        """Read `path` below the version's address; the answer's JSON."""
        return self._retried(lambda c: c.restful(path, params=query or None, method="GET"))

    @property
    def latency(self) -> float:
        """Return the seconds that an answer has taken, on the average."""
        return self._waited / max(1, self._answers)

    def identity(self) -> Json:
        """Return who is signed in."""
        found: Any = self._retried(lambda c: c.oauth2("userinfo", method="GET"))
        return dict(found)

    def versions(self) -> list[str]:
        """Return the API versions that the org speaks, the newest last; costs nothing of the day's limit."""

        def ask(client: Salesforce) -> list[str]:
            with self._session.get(f"https://{client.sf_instance}/services/data/") as answer:
                answer.raise_for_status()
                return sorted((str(v["version"]) for v in answer.json()), key=float)

        return self._retried(ask)

    def query(self, soql: str, *, deleted: bool = False) -> Json:
        path = "queryAll" if deleted else "query"
        found: Json = self.get(path, q=soql)
        return found

    def pages(self, soql: str) -> Iterator[list[Json]]:
        """Yield the rows of a query that is small enough to be asked again as a whole, page by page."""
        found = self.query(soql)
        yield found["records"]
        while not found["done"]:
            found = self.more(found["nextRecordsUrl"])
            yield found["records"]

    def more(self, url: str) -> Json:
        """Follow `nextRecordsUrl`, which is an address from the org's root."""
        found: Json = self._retried(lambda c: c.query_more(url, identifier_is_url=True))
        return found

    def count(self, entity: str, where: str) -> int:
        """Return how many records there are: one request, whatever the answer."""
        return int(self.query(f"SELECT COUNT() FROM {entity} WHERE {where}")["totalSize"])

    def download(self, path: str, into: IO[bytes], **query: str) -> Mapping[str, str]:
        """Write an answer that is not JSON to a file, without holding it; return its headers."""

        def ask(client: Salesforce) -> Mapping[str, str]:
            into.seek(0)
            into.truncate()
            headers = {**client.headers, "Accept": "text/csv"}
            with self._session.get(
                client.base_url + path, params=query, headers=headers, stream=True
            ) as answer:
                if answer.status_code >= 300:
                    exception_handler(answer, name=path)
                for chunk in answer.iter_content(1 << 16):
                    into.write(chunk)
                return answer.headers

        return self._retried(ask)

    def send(self, method: str, path: str, body: Json | None = None, **query: str) -> Any:
        """Write. Everything we write is keyed, so that a repeat does no more than the first did."""
        content = orjson.dumps(body) if body is not None else None
        return self._retried(lambda c: c.restful(path, params=query or None, method=method, data=content))

    def _retried(self, ask: Callable[[Salesforce], T]) -> T:
        renewed = False

        def once() -> T:
            nonlocal renewed
            client = self.client
            try:
                with self._within_budget():
                    return ask(client)
            except SalesforceError as refused:
                error = self._judge(refused)
                if isinstance(error, _Expired) and not renewed:
                    renewed = True
                    self._renew(client)
                    raise RetryLater("the session has expired", after=0) from None
                raise error from None
            except requests.RequestException as error:
                raise _unreachable(error, self._options.url) from None
            except ValueError:
                raise RetryLater(
                    "Salesforce answered with something that is not JSON", fix=_ADDRESS
                ) from None

        retrying = Retrying(
            retry=retry_if_exception_type(RetryLater),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            reraise=True,
        )
        return retrying(once)

    @contextmanager
    def _within_budget(self) -> Iterator[None]:
        """Stop before the request that would be one too many; before the first answer nobody knows the limit."""
        with self._counting:
            if self.used is not None:
                used, limit = self.used
                if self._spent + self._under_way + 1 > self._options.daily_share * limit:
                    raise BudgetSpent(
                        f"this run has used its share of {self._name!r}'s daily requests ({self._spent:,} of "
                        f"{limit:,}; {used:,} are used by everybody)",
                        fix="the next run goes on from here; raise `daily_share` if it may use more",
                    )
            self._under_way += 1
        try:
            yield
        finally:
            with self._counting:
                self._under_way -= 1

    def _judge(self, refused: SalesforceError) -> CrmError:
        """Turn simple-salesforce's error into one of ours: the code and a fix, never the body."""
        status, code, message = int(refused.status or 0), "", ""
        content: Any = refused.content  # Any: simple-salesforce says bytes, and gives parsed JSON
        if isinstance(content, list) and content and isinstance(content[0], dict):
            code, message = str(content[0].get("errorCode", "")), str(content[0].get("message", ""))
        action = action_of(status, code, message)
        said = f"Salesforce answered {status}"
        if action == "retry":
            return RetryLater(said, code=code, after=self._mine.asked_to_wait)
        if action == "sign_in":
            return _Expired(
                "the session is not valid", code=code, fix="check the app's policies and the user"
            )
        if action == "restart":
            return Restart(said, code=code)
        if action == "shrink":
            return Shrink(said, code=code)
        if action == "budget":
            return BudgetSpent(
                "the org's daily requests are used up", code=code, fix="the next run goes on from here"
            )
        if action == "permission":
            field = re.search(r"(?:column|type|field|entity) '([\w.]+)'", message)
            said = f"{said}: {field[1]} cannot be read" if field else said
            return PermissionMissing(said, code=code, fix=FIXES.get(code, FIXES["INSUFFICIENT_ACCESS"]))
        return RequestRefused(said, code=code, fix=FIXES.get(code, ""))


class _Expired(SignInRefused):
    """The session is no longer accepted."""


def _wait(state: RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    if isinstance(failed, RetryLater) and failed.after is not None:
        return min(failed.after, _PATIENCE)
    return _backoff(state)


_backoff = wait_random_exponential(multiplier=0.2, max=20)


_ADDRESS = "check `url`: Setup > My Domain shows the current My Domain URL"


def _unreachable(error: requests.RequestException, url: str) -> CrmError:
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        told = {"has expired": "has expired", "Hostname mismatch": "is another host's"}
        why = next((ours for theirs, ours in told.items() if theirs in str(error)), "cannot be trusted")
        return CrmError(f"the certificate of {host} {why}", fix=f"{_ADDRESS}; verification is never off")
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return CrmError(f"{host} sends elsewhere: the org's My Domain has another name now", fix=_ADDRESS)
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return RetryLater(f"{host} answered with something that is not JSON", fix=_ADDRESS)
    if "NameResolutionError" in repr(error):
        return RetryLater(f"{host} cannot be found", fix=f"{_ADDRESS}, and this machine's name resolution")
    return RetryLater(f"{host} did not answer ({type(error).__name__})")


_SIGN_IN_FIXES = {
    "user hasn't approved this consumer": "pre-authorize the app: in its policies choose 'Admin approved users', and "
    "a permission set that the integration user has",
    "invalid assertion": "the app's certificate does not belong to this private key: upload the one that does",
    "expired certificate": "the app's certificate has ended: make a new pair (README, section Sign-in) and upload it",
    "expired authorization code": "this machine's clock is wrong by minutes: set it",
    "audience is invalid": "`url` is not the org that the user and the app belong to",
    "user is locked": "unlock the integration user",
    "inactive user": "activate the integration user",
}
"""What Salesforce says -> the mend; these words hold no data, so that they may be shown."""


def _sign_in_fix(code: str, said: str = "") -> str:
    return _SIGN_IN_FIXES.get(said) or {
        "invalid_client_id": "client_id is not the consumer key of an app in this org",
        "invalid_client": "client_id and client secret do not belong together",
        "invalid_grant": "pre-authorize the app for the user (permission set), and check key and username",
        "invalid_app_access": "the user's permission set does not include the app",
        "inactive_user": "the integration user is inactive",
    }.get(code, "adapters/salesforce/README.md, section Sign-in")
