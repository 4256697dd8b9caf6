"""What a connection with `adapter: hubspot` may say, and the paths that its one `api_version` stands for."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from pipesync.config import Duration, Section

ApiVersion = Literal["2026-09", "2026-03", "v3"]
Engagement = Literal["calls", "emails", "meetings", "tasks", "notes"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return value.rstrip("/")
    raise ValueError("expected an https address (http only for this machine itself)")


class Options(Section):
    """Of a connection with `adapter: hubspot`. Secrets are named by `..._env` or `..._file`, never given."""

    url: Annotated[str, AfterValidator(_url)] = "https://api.hubapi.com"
    api_version: ApiVersion = "2026-09"
    token_env: str | None = None
    token_file: str | None = None
    """A service key, or the token of a private app."""
    client_id: str | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    refresh_token_env: str | None = None
    refresh_token_file: str | None = None
    """OAuth of a public app, in place of a token."""
    activities: tuple[Engagement, ...] = ()
    """Engagements to read one by one; without them a deal's own properties tell its last and next activity."""
    task_key: Literal["property", "body"] = "property"
    """Where a task holds our key; in its text, for portals that refuse properties of their own on tasks."""
    native_forecast: bool = False
    """Write win probabilities into HubSpot's own forecast probability as well, which changes the portal's forecast."""
    overlap: Duration = timedelta(minutes=15)
    """How far behind the last pull an incremental one looks again, because the search index lags."""
    rescan: Duration = timedelta(days=7)
    """How often everything is listed anew, which finds what vanished without a trace."""
    reference: Duration = timedelta(hours=6)
    """How long owners, products, goals, rates and our own forecasts are taken as unchanged."""
    daily_share: float = Field(default=0.5, gt=0, le=1)
    """Stop when less than the rest of the account's daily requests is left: it is for the others."""
    searches_per_second: int = Field(default=4, ge=1)
    """HubSpot allows five to all that use the account together; one is left to others."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without an answer after which a request counts as lost."""

    @property
    def is_oauth(self) -> bool:
        return self.client_id is not None


class Paths:
    """Every path of the API, from one version. `v3` stands for the legacy family, whose associations are `v4`."""

    def __init__(self, version: ApiVersion) -> None:
        self.version = version
        self._is_legacy = version == "v3"

    def _path(self, family: str, rest: str = "", *, area: str = "crm", legacy: str = "v3") -> str:
        if self._is_legacy:
            return f"/{area}/{legacy}/{family}{rest}" if family else f"/{area}/{legacy}{rest}"
        return f"/{area}/{family}/{self.version}{rest}" if family else f"/{area}/{self.version}{rest}"

    def token(self) -> str:
        """Return where OAuth signs in. HubSpot switches the v1 path off in February 2027."""
        return "/oauth/v3/token" if self._is_legacy else f"/oauth/{self.version}/token"

    def objects(self, kind: str, rest: str = "") -> str:
        return self._path("objects", f"/{kind}{rest}")

    def properties(self, kind: str, rest: str = "") -> str:
        return self._path("properties", f"/{kind}{rest}")

    def pipelines(self, kind: str, rest: str = "") -> str:
        return self._path("pipelines", f"/{kind}{rest}")

    def owners(self) -> str:
        return self._path("owners")

    def associations(self, of: str, to: str, rest: str) -> str:
        return self._path("associations", f"/{of}/{to}{rest}", legacy="v4")

    def account(self) -> str:
        return self._path("", "/details", area="account-info")

    def limits(self, what: str) -> str:
        return self._path("limits", f"/{what}")

    def exchange_rates(self) -> str:
        if self._is_legacy:
            return "/settings/v3/currencies/exchange-rates"
        return f"/settings/currencies/{self.version}/exchange-rates"

    def schemas(self, rest: str = "") -> str:
        return self._path("", f"/schemas{rest}", area="crm-object-schemas")
