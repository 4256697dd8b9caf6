"""Reading what a plan rests on from a warehouse and a ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipesync import features, rules
from pipesync.config import Calendar
from pipesync.model import Change, Outcome, Reason
from pipesync.plan import gather
from pipesync.plan.facts import read
from pipesync.schema import table
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from tests.conftest import Build

CRM = "crm"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
OPPORTUNITY = {
    "id": "006A", "name": "Acme", "owner_id": "rep", "stage": "Offer", "created_at": NOW - timedelta(days=30),
    "close_date": (NOW - timedelta(days=9)).date(), "is_closed": False, "is_won": False,
}  # fmt: skip


def test_what_of_ours_is_there_is_read(build: Build) -> None:
    """Tasks, users, and the opportunities that tasks are about, those of the journal too."""
    warehouse = build(
        opportunities=[OPPORTUNITY, {**OPPORTUNITY, "id": "006B", "is_closed": True, "is_won": True}],
        users=[{"id": "rep", "is_active": True}],
        own_tasks=[{"id": "T1", "key": "ps1-x-1", "opportunity_id": "006A", "is_done": False}],
    )

    found = read(warehouse, CRM, ["amount"], ["006B", "gone"])

    assert [t.key for t in found.tasks] == ["ps1-x-1"]
    assert found.users["rep"].is_active
    assert {i: (s.is_closed, s.is_won) for i, s in found.opportunities.items()} == {
        "006A": (False, False),
        "006B": (True, True),
    }
    assert found.takes == {"task"}
    assert found.behind == ()


def test_a_stream_that_was_not_reached_is_named(build: Build) -> None:
    """Where rules read activities and the last pull did not get to them, that is known; unread ones do not matter."""
    warehouse = build(opportunities=[OPPORTUNITY], activities=[], leads=[])
    later = NOW + timedelta(hours=1)
    for stream, last in (("opportunities", True), ("activities", False), ("leads", False)):
        warehouse.merge(CRM, stream, table(stream, []), cursor=None, until=later, last=last)

    with_activities = read(warehouse, CRM, ["last_activity_at"]).behind
    without = read(warehouse, CRM, ["amount"]).behind

    assert with_activities == ("activities",)
    assert without == ()


def test_our_own_records_may_be_ahead(build: Build) -> None:
    """After an apply they are read again, at a later moment of the CRM's; that leaves nothing else behind."""
    warehouse = build(opportunities=[OPPORTUNITY], users=[], own_tasks=[], own_forecasts=[])
    later = NOW + timedelta(minutes=1)
    warehouse.merge(CRM, "own_tasks", table("own_tasks", []), cursor=None, until=later, last=True)

    ahead = read(warehouse, CRM, ["amount"]).behind
    warehouse.merge(CRM, "opportunities", table("opportunities", []), cursor=None, until=later, last=True)

    assert ahead == ()
    assert read(warehouse, CRM, ["amount"]).behind == ("own_forecasts", "users")


def test_the_fingerprint_moves_with_the_opportunities_alone(build: Build) -> None:
    """Another amount is another pipeline; another task, or another order, is not."""
    other = {**OPPORTUNITY, "id": "006B"}

    def basis(*opportunities: dict[str, object], **streams: list[dict[str, object]]) -> str:
        return read(build(opportunities=list(opportunities), **streams), CRM, []).basis

    same = basis(OPPORTUNITY, other)

    assert basis(other, OPPORTUNITY, own_tasks=[{"id": "T", "key": "k", "is_done": False}]) == same
    assert basis(OPPORTUNITY, {**other, "stage": "Won"}) != same
    assert basis(OPPORTUNITY) != same


def test_both_stores_are_gathered(build: Build, tmp_path: Path) -> None:
    """Findings in force, counts, the journal and what the ledger remembers, ready to plan from."""
    warehouse: Warehouse = build(
        opportunities=[OPPORTUNITY], users=[{"id": "rep", "is_active": True}], own_tasks=[]
    )
    ruleset = rules.load().only(["hygiene.close_date_past"])
    computed = features.compute(warehouse, CRM, NOW, Calendar())
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        run = ledger.start_run(CRM, "apply", NOW)
        why = Reason(kind="findings", text="")
        change = Change(key="ps1-x-1", action="create", object="task", opportunity_id="006A", reason=why)
        ledger.intend(run, [change], at=NOW, as_of=NOW)
        ledger.settle(run.id, [Outcome(key="ps1-x-1", status="applied")], at=NOW)
        evaluation = rules.evaluate(warehouse, computed, ruleset, standing=ledger.standing_findings(CRM))
        standing = rules.advance((), evaluation, ruleset)

        found = gather(warehouse, ledger, evaluation, standing, ruleset)
        alone = gather(warehouse, None, evaluation, standing, ruleset)

    assert [f.rule for f in found.findings] == ["hygiene.close_date_past"]
    assert (found.counts["hygiene.close_date_past"].fired, found.last_counts) == (1, {})
    assert [e.key for e in found.journal] == ["ps1-x-1"]
    assert list(found.facts.opportunities) == ["006A"]
    assert (alone.journal, alone.fates, found.held) == ([], [], [])
