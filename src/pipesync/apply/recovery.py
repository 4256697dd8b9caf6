"""After a crash or a lost answer: what did the CRM take? Asked by key, before anything is sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from pipesync.adapters.base import Adapter
from pipesync.model import Change, JournalEntry, Outcome, OwnForecast, OwnTask
from pipesync.plan.forecasts import holds
from pipesync.plan.threads import same
from pipesync.store.ledger import Ledger


def now() -> datetime:
    return datetime.now(UTC)


def recover(adapter: Adapter, ledger: Ledger, connection: str, *, clock: Callable[[], datetime] = now) -> int:
    """Settle the connection's unconfirmed intents by what the CRM now holds; return how many there were.

    What did not arrive is settled as failed, and the next plan plans it anew, under the same key. LeaseTaken where
    the run that left them is still writing.
    """
    entries = ledger.unconfirmed(connection)
    if not entries:
        return 0
    with ledger.lease(connection, f"recovery of {entries[0].run}", clock()):
        return settle_unconfirmed(adapter, ledger, connection, clock)


def settle_unconfirmed(
    adapter: Adapter, ledger: Ledger, connection: str, clock: Callable[[], datetime]
) -> int:
    """Do what `recover` does, under a lease that the caller holds."""
    entries = ledger.unconfirmed(connection)
    if not entries:
        return 0
    tasks, forecasts = look_up(adapter, entries)
    by_run: dict[str, list[Outcome]] = {}
    for entry in entries:
        by_run.setdefault(entry.run, []).append(_outcome(entry, tasks, forecasts))
    for run, outcomes in by_run.items():
        ledger.settle(run, outcomes, at=clock())
    return len(entries)


def look_up(
    adapter: Adapter, writes: Iterable[JournalEntry | Change]
) -> tuple[dict[str, OwnTask], dict[str, OwnForecast]]:
    """Return what the CRM holds now under the keys of these writes."""
    asked = [w for w in writes if w.object != "opportunity"]
    if not asked:
        return {}, {}
    tasks, forecasts = adapter.own(
        {w.key for w in asked}, {w.opportunity_id for w in asked if w.opportunity_id}
    )
    return {t.key: t for t in tasks}, {f.key: f for f in forecasts}


def _outcome(
    entry: JournalEntry, tasks: Mapping[str, OwnTask], forecasts: Mapping[str, OwnForecast]
) -> Outcome:
    row = tasks.get(entry.key) if entry.object == "task" else forecasts.get(entry.key)
    if _has_arrived(entry, row):
        return Outcome(key=entry.key, status="applied", target=row.id if row else entry.target)
    return Outcome(key=entry.key, status="failed", target=entry.target, error="it never reached the CRM")


def _has_arrived(entry: JournalEntry, row: OwnTask | OwnForecast | None) -> bool:
    if entry.object == "opportunity":
        return False  # setting the same values again does no harm, so the next plan does
    if entry.action == "delete" or row is None:
        return entry.action == "delete" and row is None
    return entry.action == "create" or has(row, after(entry))


def after(entry: JournalEntry | Change) -> dict[str, object]:
    """Return the values that a write leaves behind."""
    return {**entry.after, "is_done": True} if entry.action == "complete" else dict(entry.after)


def has(row: OwnTask | OwnForecast, values: Mapping[str, object]) -> bool:
    """Whether a record of ours holds these values."""
    return same(row, values, None) if isinstance(row, OwnTask) else holds(row, values)
