"""What a task says: its subject, its checklist, its note when it is done."""

from __future__ import annotations

from collections.abc import Sequence

from pipesync.plan.policy import Item

MAX_SUBJECT = 255
"""Salesforce's limit for Task.Subject; HubSpot allows more."""
MAX_BODY = 30_000
"""Salesforce takes 32,000 characters and counts line breaks twice."""

_FOOTER = "This task goes away by itself once its points are settled."


def subject(items: Sequence[Item]) -> str:
    """Return the worst point's headline and how many more there are; `items` are sorted, the worst first."""
    first = items[0].headline or items[0].message
    more = f" (+{len(items) - 1})" if len(items) > 1 else ""
    return _cut(" ".join(first.split()), MAX_SUBJECT - len(more)) + more


def body(items: Sequence[Item]) -> str:
    return _cut("\n".join([*(f"☐ {item.message}" for item in items), "", _FOOTER]), MAX_BODY)


def done_note(body: str | None, why: str) -> str:
    """Return a touched task's text with the reason why it is completed."""
    return _cut(f"{body}\n\n{why}" if body else why, MAX_BODY)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
