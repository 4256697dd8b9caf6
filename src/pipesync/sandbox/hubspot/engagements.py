"""A dataset's activities in HubSpot's words: calls, e-mails, meetings and tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipesync.sandbox.hubspot.records import Json, millis


def last_contacts(activities: Sequence[Json], until: int) -> dict[str, int]:
    """Return when (ms) each deal's last call, e-mail or meeting took place; HubSpot counts no tasks."""
    found: dict[str, int] = {}
    for row in activities:
        if row.get("is_done") is not False and kind_of(row.get("kind")) != "tasks":
            at = millis(row["at"])
            if at <= until:
                found[row["opportunity_id"]] = max(at, found.get(row["opportunity_id"], at))
    return found


def kind_of(kind: str | None) -> str:
    """Return the object that an activity of a dataset's kind is; what HubSpot has no word for is a call."""
    word = (kind or "").casefold()
    for name in ("email", "meeting", "task"):
        if name in word:
            return f"{name}s"
    return "calls"


def _done(row: Json, yes: str, no: str) -> str:
    return yes if row.get("is_done") is not False else no


TOLD: dict[str, Callable[[Json], Json]] = {
    "calls": lambda r: {
        "hs_call_status": _done(r, "COMPLETED", "SCHEDULED"),
        **_direction("hs_call_direction", {"in": "INBOUND", "out": "OUTBOUND"}, r),
    },
    "emails": lambda r: {
        "hs_email_status": _done(r, "SENT", "SCHEDULED"),
        **_direction("hs_email_direction", {"in": "INCOMING_EMAIL", "out": "EMAIL"}, r),
    },
    "meetings": lambda r: {"hs_meeting_outcome": _done(r, "COMPLETED", "SCHEDULED")},
    "tasks": lambda r: {"hs_task_status": _done(r, "COMPLETED", "NOT_STARTED"), "hs_task_type": "TODO"},
}
"""What an activity's own properties say of it, by object."""


def _direction(name: str, words: dict[str, str], row: Json) -> Json:
    word = words.get(row.get("direction") or "")
    return {name: word} if word else {}
