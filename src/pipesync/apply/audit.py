"""Every write as a table for auditors: what, why, when, by which run, and what the CRM said."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from pipesync.model import JournalEntry
from pipesync.report.encode import to_csv

COLUMNS = (
    "seq", "connection", "run", "run_kind", "intended_at", "settled_at", "status", "action", "object", "key", "target",
    "opportunity_id", "owner_id", "rules", "reason", "before", "after", "error", "request_id",
)  # fmt: skip


def export(entries: Iterable[JournalEntry]) -> str:
    """Return the journal as CSV; what a spreadsheet would run as a formula is made text."""
    rows = (
        {
            **dict(e),
            "rules": " ".join(e.reason.rules),
            "reason": e.reason.text,
            "before": orjson.dumps(e.before).decode(),
            "after": orjson.dumps(e.after).decode(),
        }
        for e in entries
    )
    return to_csv(rows, COLUMNS)
