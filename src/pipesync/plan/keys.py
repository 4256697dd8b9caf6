"""Keys say what a record of ours is about, so that a repeated write meets its own key in the CRM.

A task's key is a thread (connection, opportunity, assignee) and the episode of it; a forecast's is its connection,
scope and period. Both fit into 80 characters and hold nothing that tells customers apart.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import date


def thread(connection: str, opportunity_id: str, assignee: str | None) -> str:
    """Name the line of tasks that one assignee gets about one opportunity."""
    return f"ps1-{_digest(connection, opportunity_id, assignee or '')}"


def task(thread: str, episode: int) -> str:
    return f"{thread}-{episode}"


def episode_of(key: str) -> tuple[str, int] | None:
    """Return a task key's thread and episode; None for a key that is not of this form."""
    line, _, number = key.rpartition("-")
    return (line, int(number)) if line.startswith("ps1-") and number.isdecimal() else None


def forecast(connection: str, scope: str, scope_id: str, period_start: date) -> str:
    return f"psf1-{_digest(connection, scope, scope_id, period_start.isoformat())}"


def finding(connection: str, rule: str, level: str, subject_id: str) -> str:
    return f"psn1-{_digest(connection, rule, level, subject_id)}"


def fields(connection: str, opportunity_id: str) -> str:
    """Name our fields on one opportunity."""
    return f"pso1-{_digest(connection, opportunity_id)}"


def _digest(*parts: str) -> str:
    found = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.b32encode(found)[:20].decode().lower()
