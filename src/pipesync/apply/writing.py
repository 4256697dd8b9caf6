"""Writing a plan: batch by batch, each intended before it is sent, and nothing that people changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pipesync.adapters.base import Adapter
from pipesync.apply.recovery import holds_fields, look_up, now, settle_unconfirmed
from pipesync.config import Guard, Write
from pipesync.model import Change, ChangeAction, ChangeObject, Outcome, OwnTask, Plan, Run
from pipesync.plan.facts import rests_on
from pipesync.plan.guards import guarded
from pipesync.plan.threads import Written, same, written
from pipesync.store.ledger import Ledger

BATCH = 200
"""Changes between two entries in the journal: what Salesforce takes in one request, and HubSpot in two."""
MAX_FAILING = 50.0
"""Percent of a run's writes to one kind of record that may fail before the rest of them is left alone, counted from
`MIN_FAILING` failures on."""
MIN_FAILING = 10

_ORDER: tuple[tuple[ChangeObject, ChangeAction], ...] = (
    ("task", "complete"), ("task", "delete"), ("task", "create"), ("task", "update"),
    ("forecast", "create"), ("forecast", "update"), ("forecast", "delete"), ("opportunity", "update"),
    ("finding", "create"), ("finding", "update"), ("finding", "delete"),
)  # fmt: skip
_PERMISSION = {
    "task": "tasks", "forecast": "forecasts", "opportunity": "opportunity_fields", "finding": "findings",
}  # fmt: skip


@dataclass
class Applied:
    """What a run wrote."""

    run: str
    applied: int = 0
    failed: list[Outcome] = field(default_factory=list)
    skipped: list[Outcome] = field(default_factory=list)
    waiting: int = 0
    """Of the skipped, those that the guard held back until people have looked at them."""

    def skip(self, changes: Sequence[Change], why: str) -> None:
        self.skipped += [Outcome(key=c.key, status="skipped", target=c.target, error=why) for c in changes]


def apply(
    plan: Plan,
    adapter: Adapter,
    ledger: Ledger,
    *,
    write: Write,
    limit: int | None = None,
    guard: Guard | None = None,
    max_failing: float = MAX_FAILING,
    refused: Sequence[Outcome] = (),
    accounts: Mapping[str, str] | None = None,
    run: Run | None = None,
    clock: Callable[[], datetime] = now,
) -> Applied:
    """Write what `write` allows, at most `limit` changes, the plan's first; return what became of each change.

    `guard` holds back what people are to look at first; None where they did. `max_failing` is the percentage of failed
    writes beyond which the rest of a kind is left alone. `refused` are changes that were skipped before (by
    `plan.reconcile`) and are told with the others. `accounts` tells each opportunity's account, so that batches do not
    ask for each other's locks. `run` is the caller's, where it has one. A CrmError ends the run and is raised: what it
    leaves unconfirmed is looked up by the next run. LeaseTaken where another run is writing.
    """
    with running(ledger, run, plan.connection, "apply", plan.as_of, clock) as (entered, told):
        told.skipped += refused
        settle_unconfirmed(adapter, ledger, plan.connection, clock)
        journal = ledger.journal(plan.connection)
        newer = {e.key: e.run for e in journal if e.seq > plan.journal}
        if guard is not None:
            plan, waiting = guarded(plan, journal, guard)
            told.skipped += waiting
            told.waiting = len(waiting)
        allowed = []
        for change in plan.changes:
            if not (write.enabled and getattr(write, _PERMISSION[change.object])):
                told.skip([change], "the connection's `write:` does not allow it")
            elif change.key in newer:
                told.skip([change], f"run {newer[change.key]} wrote to it since the plan was made")
            else:
                allowed.append(change)
        if limit is not None:
            told.skip(allowed[limit:], f"over the limit of {limit}")
        ledger.save_fates(plan.connection, plan.fates)  # before our writes move what was seen
        send(allowed[:limit], entered, plan, adapter, ledger, told, clock, max_failing, accounts)
    return told


@contextmanager
def running(
    ledger: Ledger,
    given: Run | None,
    connection: str,
    kind: str,
    as_of: datetime | None,
    clock: Callable[[], datetime],
) -> Iterator[tuple[Run, Applied]]:
    """Hold the lease, and enter the run's end whatever it is; a run that the caller gave is the caller's to end."""
    run = given or ledger.start_run(connection, "undo" if kind == "undo" else "apply", clock(), as_of)
    told = Applied(run.id)
    is_through = False
    try:
        with ledger.lease(connection, run.id, clock()):
            yield run, told
        is_through = True
    finally:
        if given is None:
            status = "failed" if not is_through else "partly" if told.failed else "done"
            ledger.finish_run(run.id, clock(), status, _counts(told))  # type: ignore[arg-type]  # one of its literals


def _counts(told: Applied) -> dict[str, int]:
    return {"applied": told.applied, "failed": len(told.failed), "skipped": len(told.skipped)}


def send(
    changes: Sequence[Change],
    run: Run,
    plan: Plan,
    adapter: Adapter,
    ledger: Ledger,
    told: Applied,
    clock: Callable[[], datetime],
    max_failing: float = MAX_FAILING,
    accounts: Mapping[str, str] | None = None,
) -> None:
    """Send changes kind by kind; leave one alone where most of it fails, which may be for want of a permission."""
    waiting = [
        batch
        for kind in _ORDER
        for batch in _batches([c for c in changes if (c.object, c.action) == kind], accounts or {})
    ]
    known = written(ledger.journal(run.connection))
    sent, failing = Counter[str](), Counter[str]()
    while waiting:
        kind = waiting[0][0].object
        batch = _as_seen(_untouched(waiting.pop(0), known, adapter, told), adapter, told)
        ledger.renew_lease(run.connection, run.id, clock())
        ledger.intend(run, batch, at=clock(), as_of=plan.as_of, basis=plan.basis)
        outcomes: list[Outcome] = []
        try:
            outcomes.extend(adapter.write(batch) if batch else ())
        finally:
            ledger.settle(run.id, outcomes, at=clock())
            told.applied += sum(o.status == "applied" for o in outcomes)
            told.failed += [o for o in outcomes if o.status == "failed"]
            told.skipped += [o for o in outcomes if o.status == "skipped"]
        sent[kind] += sum(o.status != "skipped" for o in outcomes)
        failing[kind] += sum(o.status == "failed" for o in outcomes)
        if failing[kind] >= MIN_FAILING and failing[kind] > max_failing / 100 * sent[kind]:
            rest = [c for b in waiting for c in b if c.object == kind]
            told.skip(rest, "stopped, because most of what was sent before failed")
            waiting = [b for b in waiting if b[0].object != kind]


def _batches(changes: Sequence[Change], accounts: Mapping[str, str]) -> list[list[Change]]:
    """Return changes in batches, those of one account in one of them as far as it holds them.

    Saving what belongs to an account locks it, for what the CRM does afterwards too: the next batch is to find it free.
    An account's turn comes with the first of its changes.
    """
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(accounts.get(change.opportunity_id or "", change.key), []).append(change)
    found: list[list[Change]] = []
    for group in groups.values():
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            if found and len(found[-1]) + len(part) <= BATCH:
                found[-1] += part
            else:
                found.append(part)
    return found


def _untouched(
    batch: list[Change], known: Mapping[str, Written], adapter: Adapter, told: Applied
) -> list[Change]:
    """Look once more at the tasks that are to be changed: people may have been at them since they were pulled."""
    asked = {c.key for c in batch if c.object == "task" and c.action != "create"}
    there = look_up(adapter, [c for c in batch if c.key in asked])
    kept = []
    for change in batch:
        row = there.tasks.get(change.key)
        if change.key in asked and change.object in there.unreadable:
            told.skip([change], there.unreadable[change.object])
        elif change.key not in asked or (row and _is_as_planned(row, change, known.get(change.key))):
            kept.append(change)
        else:
            told.skip(
                [change], "people changed it since it was pulled" if row else "it is not there any more"
            )
    return kept


def _as_seen(batch: list[Change], adapter: Adapter, told: Applied) -> list[Change]:
    """Look once more at the opportunities: what people changed since the plan saw them waits for the next plan."""
    asked = {c.opportunity_id for c in batch if c.opportunity_id and c.rests_on}
    seen = adapter.see(asked) if asked else {}
    kept = []
    for change in batch:
        if not change.opportunity_id or not change.rests_on:
            kept.append(change)
            continue
        now = seen.get(change.opportunity_id)
        if now is None:
            told.skip([change], "the opportunity is not there any more")
            continue
        facts = rests_on(now.facts)
        differing = [n for n, v in change.rests_on.items() if n in facts and facts[n] != v]
        if differing:
            told.skip([change], f"the opportunity changed since it was pulled ({', '.join(differing)})")
        elif change.object == "opportunity":
            kept += _onto(change, now.ours, told)
        else:
            kept.append(change)
    return kept


def _onto(change: Change, ours: Mapping[str, object], told: Applied) -> list[Change]:
    """Return a change of our fields with what they really hold before it, as far as the CRM still has them.

    What people wrote into them since we did is left alone; what they emptied is filled again.
    """
    missing = [n for n in change.after if n not in ours]
    if len(missing) == len(change.after):
        told.skip([change], f"the CRM has no such field of ours that may be read ({', '.join(missing)})")
        return []
    kept = {n: v for n, v in change.after.items() if n in ours}
    before = {n: ours[n] for n in kept}
    is_new = all(change.before.get(n) is None for n in kept)
    is_empty = all(v is None for v in before.values())
    if not (is_new or is_empty or holds_fields(ours, {n: change.before.get(n) for n in kept})):
        told.skip([change], "people changed it since")
        return []
    return [change.model_copy(update={"before": before, "after": kept})]


def _is_as_planned(row: OwnTask, change: Change, known: Written | None) -> bool:
    """Whether a task is as the plan saw it: as we left it, or, where we complete what people edited, as they did."""
    if change.action == "complete" or known is None:
        return same(row, {"is_done": False, **change.before}, None)
    return same(row, {"is_done": False, **known.values}, known.owner_id)
