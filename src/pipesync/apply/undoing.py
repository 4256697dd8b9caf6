"""Taking a run back: its tasks go, its changes are reversed, and what anybody touched since is left and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pipesync.adapters.base import Adapter
from pipesync.apply.recovery import after, has, holds_fields, look_up, now, settle_unconfirmed
from pipesync.apply.writing import Applied, running, send
from pipesync.model import Change, JournalEntry, OwnForecast, OwnTask, Plan, Reason
from pipesync.plan.threads import TEXTS
from pipesync.store.ledger import Ledger


def undo(run: str, adapter: Adapter, ledger: Ledger, *, clock: Callable[[], datetime] = now) -> Applied:
    """Take back what a run wrote, also one that was cut off; return what was taken back and what was left, and why.

    A task that people changed, closed or deleted since stays as they left it. The findings of tasks that are taken
    back rest for the cooldown, as if a rep had closed them. InputError where there is no such run.
    """
    old = ledger.run(run)
    with running(ledger, None, old.connection, "undo", old.as_of, clock) as (entered, told):
        settle_unconfirmed(adapter, ledger, old.connection, clock)
        entries = [e for e in ledger.journal_of(run) if e.status == "applied"]
        newest = {e.key: e for e in ledger.journal(old.connection) if e.status == "applied"}
        there = look_up(adapter, entries)
        changes = []
        for entry in entries:
            row = there.of(entry.key)
            change = _reversed(entry, row)
            if entry.object in there.unreadable:
                told.skip([change], there.unreadable[entry.object])
            elif newest[entry.key].seq > entry.seq:
                told.skip([change], f"run {newest[entry.key].run} wrote to it since")
            elif why := _changed(entry, row, there.fields.get(entry.opportunity_id or "")):
                told.skip([change], why)
            else:
                changes.append(change)
        plan = Plan(connection=old.connection, id="", as_of=old.as_of or clock())
        send(changes, entered, plan, adapter, ledger, told, clock)
    return told


def _changed(
    entry: JournalEntry, row: OwnTask | OwnForecast | None, fields: Mapping[str, object] | None
) -> str:
    """Say why a write cannot be taken back; nothing where it can. `fields` are ours on its opportunity."""
    if entry.object == "opportunity":
        if fields is None:
            return "it is not there any more"
        return "" if holds_fields(fields, entry.after) else "people changed it since"
    if entry.object == "finding":
        return ""  # nobody else writes them
    if entry.action == "delete":
        return "it is there again" if row else ""
    if row is None:
        return "it is not there any more"
    held = {"is_done": False, **after(entry)} if isinstance(row, OwnTask) else after(entry)
    return "" if has(row, held) else "people changed it since"


def _reversed(entry: JournalEntry, row: OwnTask | OwnForecast | None) -> Change:
    values: dict[str, Any]  # Any: JSON, and an action
    if entry.action == "create":
        before = row.model_dump(mode="json", include=set(TEXTS)) if isinstance(row, OwnTask) else {}
        values = {"action": "delete", "before": before}
    elif entry.action == "delete":
        values = {"action": "create", "after": entry.before}
    else:
        values = {"action": "update", "before": after(entry), "after": entry.before}
    return Change(
        connection=entry.connection,
        key=entry.key,
        object=entry.object,
        target=None if entry.action == "delete" else (row.id if row else entry.target),
        opportunity_id=entry.opportunity_id,
        owner_id=entry.owner_id,
        reason=Reason(kind="undo", rules=entry.reason.rules, text=f"takes back run {entry.run}"),
        **values,
    )
