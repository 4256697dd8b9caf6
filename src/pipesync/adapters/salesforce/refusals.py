"""Salesforce's error codes as data: what each asks of us. Where they come from: Salesforce's own error reference."""

from __future__ import annotations

from typing import Literal

Action = Literal["retry", "sign_in", "restart", "shrink", "record", "permission", "budget", "stop"]

ACTIONS: dict[str, Action] = {
    "INVALID_SESSION_ID": "sign_in",
    "INVALID_AUTH_HEADER": "sign_in",
    "INVALID_JWT_FORMAT": "sign_in",
    "SERVER_UNAVAILABLE": "retry",
    "UNKNOWN_EXCEPTION": "retry",
    "UNABLE_TO_LOCK_ROW": "retry",
    "INVALID_QUERY_LOCATOR": "restart",
    "QUERY_TIMEOUT": "shrink",
    "QUERY_TOO_COMPLICATED": "shrink",
    "OPERATION_TOO_LARGE": "shrink",
    "EXCEEDED_ID_LIMIT": "shrink",
    "INSUFFICIENT_ACCESS": "permission",
    "INSUFFICIENT_ACCESS_OR_READONLY": "permission",
    "API_DISABLED_FOR_ORG": "permission",
    "API_CURRENTLY_DISABLED": "permission",
    "TXN_SECURITY_METERING_ERROR": "permission",
    "INVALID_TYPE": "permission",
    "INVALID_FIELD": "permission",
    "MALFORMED_QUERY": "stop",
}
"""Top-level codes; REQUEST_LIMIT_EXCEEDED is read by its message."""

ROW_RETRY = frozenset({"UNABLE_TO_LOCK_ROW", "UNKNOWN_EXCEPTION", "SERVER_UNAVAILABLE"})
"""Codes of one record in a collection that may pass later; every other one is final for that record."""

TRANSIENT = frozenset({406, 408, 420, 429, 500, 502, 503, 504})
"""HTTP statuses that pass, whatever the body is."""

OF_THE_ORG = frozenset({"API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED", "TXN_SECURITY_METERING_ERROR"})
"""Codes that no object is to blame for: nothing can be read at all."""

FIXES = {
    "API_DISABLED_FOR_ORG": "the edition needs API access, and the user the permission API Enabled",
    "API_CURRENTLY_DISABLED": "give the integration user the permission API Enabled",
    "INVALID_TYPE": "assign the permission set Pipesync_Integration (adapters/salesforce/README.md)",
    "INVALID_FIELD": "assign the permission set Pipesync_Integration, or unmap the field",
    "INSUFFICIENT_ACCESS": "assign the permission set Pipesync_Integration",
    "TXN_SECURITY_METERING_ERROR": "give the user Exempt from Transaction Security",
}


def action_of(status: int, code: str, message: str) -> Action:
    """Say what to do about an answer that is not a success."""
    if code == "REQUEST_LIMIT_EXCEEDED":
        return "retry" if "concurrent" in message.casefold() else "budget"
    if code in ACTIONS:
        return ACTIONS[code]
    if status in TRANSIENT:
        return "retry"
    if status in (414, 431):
        return "shrink"
    return {401: "sign_in", 403: "permission"}.get(status, "stop")  # type: ignore[return-value]  # literals
