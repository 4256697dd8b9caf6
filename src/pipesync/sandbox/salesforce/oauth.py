"""The org's OAuth token endpoint: who may sign in, and why not.

Settings of the org that this module heeds: `certificate` (of the app: a public key or an X.509 certificate in PEM),
`takes_expired` (whether a certificate that has ended still opens the door: sources differ, so it is a switch),
`username` (whom the app's policy lets in), `sign_in_refused` (an OAuth error and its description, whoever asks).
"""

from __future__ import annotations

import base64
import time
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET, ORG_ID, USER_ID, Json, Org

REFRESH_TOKEN = "sandbox-refresh"  # noqa: S105  # of an org that exists for as long as this process

_SESSION_SECONDS = 7200


def token(org: Org, request: Request, body: bytes) -> Response:
    """Grant a session for client credentials, a refresh token, or a JWT signed by the registered key."""
    given = {n: v[-1] for n, v in parse_qs(body.decode()).items()}
    refusal = org.setting("sign_in_refused") or _refusal(org, request, given)
    if refusal:
        code, said = refusal
        return JSONResponse({"error": code, "error_description": said}, 400)
    host, port = request.scope[
        "server"
    ]  # not the Host header: login.salesforce.com is only where one signs in
    base = f"http://{host}:{port}"
    return JSONResponse({
        "access_token": org.sign_in(), "instance_url": base, "token_type": "Bearer", "scope": "api",
        "id": f"{base}/id/{ORG_ID}/{USER_ID}",
    })  # fmt: skip


def introspect(org: Org, request: Request, body: bytes) -> Response:
    """Tell a token's end by the client's clock, as it stands on the same machine: the sandbox's own may rest."""
    given = {n: v[-1] for n, v in parse_qs(body.decode()).items()}
    is_active = given.get("token") in org.setting("sessions", [])
    return JSONResponse(
        {"active": is_active, "exp": round(time.time()) + _SESSION_SECONDS, "token_type": "Bearer"}
    )


def _refusal(org: Org, request: Request, given: Json) -> tuple[str, str] | None:
    kind = given.get("grant_type")
    if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
        return _assertion_refusal(org, given.get("assertion", ""))
    if kind not in ("client_credentials", "refresh_token"):
        return "unsupported_grant_type", "grant type not supported"
    key, secret = given.get("client_id"), given.get("client_secret")
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "basic":
        key, _, secret = base64.b64decode(coded).decode().partition(":")
    if (key, secret) != (CONSUMER_KEY, CONSUMER_SECRET):
        return "invalid_client", "invalid client credentials"
    if kind == "refresh_token" and given.get("refresh_token") != REFRESH_TOKEN:
        return "invalid_grant", "expired access/refresh token"
    return None


def _assertion_refusal(org: Org, assertion: str) -> tuple[str, str] | None:
    registered = org.setting("certificate")
    public: Any = registered or ""
    if registered and "BEGIN CERTIFICATE" in registered:
        certificate = x509.load_pem_x509_certificate(registered.encode())
        has_ended = certificate.not_valid_after_utc < datetime.fromisoformat(org.now())
        if has_ended and not org.setting("takes_expired", False):
            return "invalid_grant", "expired certificate"
        public = certificate.public_key()
    options: Any = {"verify_aud": False, "verify_exp": False, "verify_signature": registered is not None}
    try:
        claims = jwt.decode(assertion, public, algorithms=["RS256"], options=options)
    except (jwt.PyJWTError, ValueError):
        return "invalid_grant", "invalid assertion"
    if claims.get("iss") != CONSUMER_KEY:
        return "invalid_client_id", "client identifier invalid"
    if claims.get("sub") != org.setting("username", claims.get("sub")):
        return "invalid_grant", "user hasn't approved this consumer"
    return None
