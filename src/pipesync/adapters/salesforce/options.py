"""What a connection with `adapter: salesforce` may say."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pipesync.config import Duration, Section

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "https" and is_loopback(value):
        raise ValueError("a stand-in on this machine is spoken to by http, such as http://127.0.0.1:8080")
    if (
        not parts.hostname
        or parts.path.strip("/")
        or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(value)))
    ):
        raise ValueError("expected your My Domain, such as https://acme.my.salesforce.com")
    if not is_loopback(value) and not parts.hostname.endswith(".salesforce.com"):
        raise ValueError(
            "expected your My Domain, such as https://acme.my.salesforce.com, not a page's address"
        )
    if parts.hostname in ("login.salesforce.com", "test.salesforce.com"):
        raise ValueError("sign-in goes to your My Domain, such as https://acme.my.salesforce.com")
    return value.rstrip("/")


class Options(Section):
    """Of a connection with `adapter: salesforce`. Secrets are named, never given.

    `..._env` names an environment variable, `..._file` a file, `..._keyring` an entry SERVICE/USER of the key ring.
    """

    url: Annotated[str, AfterValidator(_url)]
    """The org's My Domain."""
    api_version: Annotated[str, Field(pattern=r"^\d{2}\.0$")] = "62.0"
    client_id: str | None = None
    """The consumer key of the external client app."""
    username: str | None = None
    """JWT bearer (the first choice): the integration user, with `private_key_...`."""
    private_key_env: str | None = None
    private_key_file: str | None = None
    private_key_keyring: str | None = None
    certificate_file: str | None = None
    """The certificate that the app holds, so that `doctor` can say when it ends."""
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    client_secret_keyring: str | None = None
    """Client credentials."""
    session_env: str | None = None
    session_file: str | None = None
    session_keyring: str | None = None
    """A session handed in (`sf org display`), for trying out; it cannot be renewed."""
    look_back: Duration = timedelta(minutes=10)
    """How far behind the last pull an incremental one looks again: changes become visible late."""
    sweep: Duration = timedelta(days=7)
    """How often all ids are listed, to find what this user may not see any more: no log tells that."""
    daily_share: float = Field(default=0.2, gt=0, le=1)
    """The share of the org's daily requests that a run never exceeds."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without an answer after which a request counts as lost."""
    page_size: int = Field(default=2000, ge=1, le=2000)
    bulk_from: int = Field(default=10_000, ge=1)
    """From so many rows on an object is read by a Bulk job instead of page by page."""
    bulk_page: int = Field(default=10_000, ge=100)
    """Rows of a page of a Bulk job's result."""

    @property
    def is_session(self) -> bool:
        """Whether a session was handed in: it cannot be renewed."""
        return bool(self.session_env or self.session_file or self.session_keyring)
