"""Salesforce's error codes as data: what each asks of us. Where they come from: Salesforce's own error reference."""

from __future__ import annotations

from typing import Literal

Action = Literal["retry", "sign_in", "restart", "shrink", "record", "permission", "budget", "stop"]
"""retry: the same request again, later. sign_in: once more under a new session. restart: from the last checkpoint.
shrink: ask for less at a time. record: set this one aside with its text. permission: tell who is to grant what.
budget: stop, the next run goes on. stop: the request can never pass."""

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
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "record",
    "DUPLICATES_DETECTED": "record",
    "DUPLICATE_VALUE": "record",
    "ENTITY_IS_DELETED": "record",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "record",
    "FIELD_INTEGRITY_EXCEPTION": "record",
    "INACTIVE_OWNER_OR_USER": "record",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "record",
    "INVALID_CROSS_REFERENCE_KEY": "record",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "record",
    "REQUIRED_FIELD_MISSING": "record",
    "STRING_TOO_LONG": "record",
}
"""Code -> what it asks for; REQUEST_LIMIT_EXCEEDED is read by its message: it has several limits."""

TRANSIENT = frozenset({406, 408, 420, 429, 500, 502, 503, 504})
"""HTTP statuses that pass, whatever the body is."""

OF_THE_ORG = frozenset({
    "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED", "TXN_SECURITY_METERING_ERROR", "UNSUPPORTED_API_VERSION",
})  # fmt: skip
"""Codes that no object is to blame for: nothing can be read at all."""

FIXES = {
    "API_DISABLED_FOR_ORG": "the edition needs API access, and the user the permission API Enabled",
    "API_CURRENTLY_DISABLED": "give the integration user the permission API Enabled",
    "INVALID_TYPE": "assign the permission set Pipesync_Integration (adapters/salesforce/README.md)",
    "INVALID_FIELD": "assign the permission set Pipesync_Integration, or unmap the field",
    "INSUFFICIENT_ACCESS": "assign the permission set Pipesync_Integration",
    "TXN_SECURITY_METERING_ERROR": "give the user Exempt from Transaction Security",
    "UNSUPPORTED_API_VERSION": "name a newer `api_version`; `pipesync doctor` tells those that the org speaks",
    "NOT_FOUND": "check `api_version`; `pipesync doctor` tells those that the org speaks",
}


def may_pass_later(code: str) -> bool:
    """Whether one record of a collection is worth another try; every other code is final for that record."""
    return ACTIONS.get(code) == "retry"


def action_of(status: int, code: str, message: str) -> Action:
    """Say what to do about an answer that is not a success."""
    if code == "REQUEST_LIMIT_EXCEEDED":
        said = message.casefold()
        if "concurrent" in said:
            return "retry"
        return "stop" if "bulk" in said else "budget"  # without Bulk jobs there is still REST
    if code in ACTIONS:
        return ACTIONS[code]
    if status in TRANSIENT:
        return "retry"
    if status in (414, 431):
        return "shrink"
    return {401: "sign_in", 403: "permission"}.get(status, "stop")  # type: ignore[return-value]  # literals
