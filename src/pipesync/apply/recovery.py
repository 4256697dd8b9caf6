"""After a crash or a lost answer: what did the CRM take? Asked by key, before anything is sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipesync.adapters.base import Adapter
from pipesync.errors import PermissionMissing
from pipesync.model import Change, ChangeObject, JournalEntry, Outcome, OwnForecast, OwnTask
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
    there = look_up(adapter, entries)
    settled = [e for e in entries if e.object not in there.unreadable]
    by_run: dict[str, list[Outcome]] = {}
    for entry in settled:
        by_run.setdefault(entry.run, []).append(_outcome(entry, there))
    for run, outcomes in by_run.items():
        ledger.settle(run, outcomes, at=clock())
    return len(settled)


@dataclass(frozen=True)
class Held:
    """What the CRM holds of ours under some keys."""

    tasks: dict[str, OwnTask] = field(default_factory=dict)
    forecasts: dict[str, OwnForecast] = field(default_factory=dict)
    fields: dict[str, Mapping[str, object]] = field(default_factory=dict)
    """Our fields by opportunity."""
    unreadable: dict[ChangeObject, str] = field(default_factory=dict)
    """Kinds of records that cannot be read any more, and why: of them nothing is known."""

    def of(self, key: str) -> OwnTask | OwnForecast | None:
        return self.tasks.get(key) or self.forecasts.get(key)


def look_up(adapter: Adapter, writes: Iterable[JournalEntry | Change]) -> Held:
    """Return what the CRM holds now under the keys of these writes, kind by kind: one that is hidden hides no other."""
    found = Held()
    asked = list(writes)
    kinds: tuple[ChangeObject, ...] = ("task", "forecast", "opportunity")
    for kind in kinds:
        some = [w for w in asked if w.object == kind]
        if not some:
            continue
        about = {w.opportunity_id for w in some if w.opportunity_id}
        try:
            if kind == "opportunity":
                found.fields.update({i: seen.ours for i, seen in adapter.see(about).items()})
                continue
            tasks, forecasts = adapter.own({w.key for w in some}, about)
        except PermissionMissing as refused:
            found.unreadable[kind] = str(refused)
            continue
        found.tasks.update({t.key: t for t in tasks})
        found.forecasts.update({f.key: f for f in forecasts})
    return found


def _outcome(entry: JournalEntry, there: Held) -> Outcome:
    row = there.of(entry.key)
    if _has_arrived(entry, there):
        return Outcome(key=entry.key, status="applied", target=row.id if row else entry.target)
    return Outcome(key=entry.key, status="failed", target=entry.target, error="it never reached the CRM")


def _has_arrived(entry: JournalEntry, there: Held) -> bool:
    if entry.object == "opportunity":
        return holds_fields(there.fields.get(entry.opportunity_id or "", {}), entry.after)
    if entry.object == "finding":
        return False  # written by its key, so that the next plan does no more than write it again
    row = there.of(entry.key)
    if entry.action == "delete" or row is None:
        return entry.action == "delete" and row is None
    return entry.action == "create" or has(row, after(entry))


def holds_fields(held: Mapping[str, object], values: Mapping[str, object]) -> bool:
    """Whether our fields on an opportunity hold these values, apart from the white space that CRMs add and drop."""
    return all(n in held and _plain(held[n]) == _plain(v) for n, v in values.items())


def _plain(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


def after(entry: JournalEntry | Change) -> dict[str, object]:
    """Return the values that a write leaves behind."""
    return {**entry.after, "is_done": True} if entry.action == "complete" else dict(entry.after)


def has(row: OwnTask | OwnForecast, values: Mapping[str, object]) -> bool:
    """Whether a record of ours holds these values."""
    return same(row, values, None) if isinstance(row, OwnTask) else holds(row, values)
