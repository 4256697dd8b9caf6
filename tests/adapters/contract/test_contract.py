"""What every adapter keeps, whichever CRM is behind it. A new one passes by giving a `Place`."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.apply import apply, recover, undo
from pipesync.config import ConnectionConfig, Write
from pipesync.errors import CrmError, PipesyncError
from pipesync.model import Change, Plan, Reason
from pipesync.plan.facts import read, rests_on
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 16, 8, tzinfo=UTC)
WRITE = Write(enabled=True, tasks=True, forecasts=True)


class Place(Protocol):
    """Where an adapter's records live, and how a test disturbs them."""

    def open(self) -> Adapter: ...
    def edit(self, opportunity: str, values: dict[str, str]) -> None: ...
    def delete(self, opportunity: str) -> None: ...
    def lose_the_next_answer(self) -> None: ...
    def break_credentials(self) -> None: ...
    def hide(self) -> str:
        """Take a permission away; return the column that becomes unknown."""
        ...


class Folder:
    """A dataset folder and its outbox."""

    def __init__(self, tmp: Path, company: Path) -> None:
        self._tmp, self._data = tmp, tmp / "exports"
        shutil.copytree(company, self._data)

    def open(self) -> Adapter:
        options = {"data": str(self._data), "outbox": str(self._tmp / "outbox")}
        return open_adapter("crm", ConnectionConfig(adapter="files", options=options, write=WRITE), self._tmp)

    def _rewrite(self, change: Callable[[list[dict[str, str]]], list[dict[str, str]]], name: str) -> None:
        file = self._data / name
        with file.open(newline="") as text:
            reader = csv.DictReader(text)
            columns, rows = list(reader.fieldnames or ()), list(reader)
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(change(rows))

    def edit(self, opportunity: str, values: dict[str, str]) -> None:
        self._rewrite(
            lambda rows: [r | values if r["opportunity_id"] == opportunity else r for r in rows],
            "opportunities.csv",
        )

    def delete(self, opportunity: str) -> None:
        self._rewrite(
            lambda rows: [r for r in rows if r["opportunity_id"] != opportunity], "opportunities.csv"
        )

    def lose_the_next_answer(self) -> None:
        """A file has no answer to lose: a repeat is all that can happen."""

    def break_credentials(self) -> None:
        shutil.rmtree(self._data)

    def hide(self) -> str:
        (self._data / "contact_roles.csv").unlink()
        return "contact_roles.contact_id"


class Crm:
    """One face of the sandbox."""

    def __init__(self, tmp: Path, sandbox: Sandbox, crm: str) -> None:
        self._tmp, self._sandbox, self._crm = tmp, sandbox, crm
        self._secret = ""

    def open(self) -> Adapter:
        keys = self._sandbox.settings(self._crm, self._tmp)
        keys.pop("adapter")
        if self._secret:
            (self._tmp / f"{self._crm}-secret").write_text(self._secret)
        mapping = Path(keys.pop("mapping"))
        config = ConnectionConfig(adapter=self._crm, mapping=mapping, options=keys, write=WRITE)  # type: ignore[arg-type]  # a literal
        return open_adapter("crm", config, self._tmp)

    def edit(self, opportunity: str, values: dict[str, str]) -> None:
        self._sandbox.edit(self._crm, opportunity, values)

    def delete(self, opportunity: str) -> None:
        if self._crm == "salesforce":
            fields = {"deleted": True}
            self._sandbox.ask("POST", "edit", {"crm": self._crm, "id": opportunity, "fields": fields})
            return
        import requests

        headers = {"Authorization": "Bearer sandbox-token"}
        url = f"{self._sandbox.url}/crm/v3/objects/deals/{opportunity}"
        requests.delete(url, headers=headers, timeout=10).raise_for_status()

    def lose_the_next_answer(self) -> None:
        path = "composite" if self._crm == "salesforce" else "objects/.*tasks"
        plan = [{"kind": "lost", "method": "POST|PATCH", "path": path, "count": 1}]
        self._sandbox.ask("POST", "faults", {"faults": plan})

    def break_credentials(self) -> None:
        self._secret = "planted-secret-that-is-wrong"

    def hide(self) -> str:
        if self._crm == "salesforce":
            self._sandbox.ask("POST", "settings", {"salesforce": {"hidden": ["OpportunityLineItem"]}})
            return "line_items.id"
        kept = [f"crm.objects.{o}.read" for o in ("deals", "owners", "contacts", "companies")] + [
            "crm.objects.contacts.write",
            "crm.objects.deals.write",
            "crm.objects.custom.read",
        ]
        self._sandbox.ask("POST", "settings", {"tokens": {"sandbox-token": kept}})
        return "line_items.id"


@pytest.fixture(params=["files", "salesforce", "hubspot"])
def place(request: pytest.FixtureRequest, tmp_path: Path, company_folder: Path) -> Place:
    if request.param == "files":
        return Folder(tmp_path, company_folder)
    return Crm(tmp_path, request.getfixturevalue("sandbox"), request.param)


@pytest.fixture
def adapter(place: Place) -> Iterator[Adapter]:
    opened = place.open()
    yield opened
    opened.close()


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as opened:
        yield opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


def opportunity(
    warehouse: Warehouse, where: str = "NOT is_closed AND next_step IS NOT NULL"
) -> tuple[str, str]:
    """Return an opportunity of the CRM and its owner."""
    rows = warehouse.rows(f"SELECT id, owner_id FROM opportunities WHERE {where} ORDER BY id LIMIT 1")
    return rows[0][0], rows[0][1]


def task(opportunity_id: str, owner: str | None, number: int = 1, **after: Any) -> Change:
    given = {
        "opportunity_id": opportunity_id, "owner_id": owner, "subject": f"Call {number}", "body": "- one\n- two",
        "due": "2026-11-20", "priority": "high", **after,
    }  # fmt: skip
    return Change(
        connection="crm", key=f"ps1-aaaaaaaaaaaaaaaaaaa{number}-1", action="create", object="task",
        opportunity_id=opportunity_id, owner_id=owner, after=given, reason=Reason(kind="findings", text="a test"),
    )  # fmt: skip


def plan(changes: Sequence[Change]) -> Plan:
    as_of = datetime(2026, 11, 16, 8, tzinfo=UTC)
    return Plan(connection="crm", id="plan-test", as_of=as_of, changes=tuple(changes))


def ours(adapter: Adapter, warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Return our tasks as the next pull sees them."""
    pull(adapter, warehouse)
    return warehouse.rows(
        "SELECT key, subject, body, due::VARCHAR, priority, owner_id, is_done FROM own_tasks ORDER BY key"
    )


def test_a_pull_brings_every_stream_up_to_the_clock(adapter: Adapter, warehouse: Warehouse) -> None:
    """All 150 opportunities with owners, stages, history and accounts; the watermark is the CRM's own time."""
    found = pull(adapter, warehouse)

    assert warehouse.watermark("crm") == datetime(2026, 11, 16, 8, tzinfo=UTC)
    counts = {s: warehouse.rows(f'SELECT count(*) FROM "{s}"')[0][0] for s in found}
    assert counts["opportunities"] == 150
    assert min(counts[s] for s in ("users", "stages", "pipelines", "field_changes", "accounts")) > 0
    assert warehouse.rows("SELECT count(*) FROM opportunities WHERE amount IS NOT NULL")[0][0] > 100


def test_history_tells_each_stage_that_was_entered(adapter: Adapter, warehouse: Warehouse) -> None:
    """The last stage of the history is the stage that the opportunity is in."""
    pull(adapter, warehouse)

    differing = warehouse.rows(
        "SELECT count(*) FROM opportunities AS o WHERE stage <> (SELECT arg_max(value, (changed_at, seq)) "
        "FROM field_changes WHERE opportunity_id = o.id AND field = 'stage')"
    )
    assert differing == [(0,)]


def test_nothing_changed_is_nothing_to_do(adapter: Adapter, warehouse: Warehouse) -> None:
    """A second pull may look again, and changes nothing."""
    pull(adapter, warehouse)

    again = pull(adapter, warehouse)

    assert sum(p.changed for p in again.values()) == 0


def test_a_change_arrives_with_the_next_pull(adapter: Adapter, warehouse: Warehouse, place: Place) -> None:
    """Also one that was made at the very moment of the last pull."""
    pull(adapter, warehouse)
    changed, _ = opportunity(warehouse)

    place.edit(changed, {"next_step": "Meet the board", "amount": "4711"})
    pull(place.open(), warehouse)

    rows = warehouse.rows("SELECT next_step, amount FROM opportunities WHERE id = ?", [changed])
    assert rows == [("Meet the board", Decimal("4711.00"))]
    assert warehouse.rows("SELECT count(*) FROM opportunities") == [(150,)]


def test_what_is_deleted_there_is_gone_here_with_its_history(
    adapter: Adapter, warehouse: Warehouse, place: Place
) -> None:
    """Opportunities take their history along."""
    pull(adapter, warehouse)
    deleted, _ = opportunity(warehouse)

    place.delete(deleted)
    pull(place.open(), warehouse)

    for table, column in (("opportunities", "id"), ("field_changes", "opportunity_id")):
        assert warehouse.rows(f'SELECT count(*) FROM "{table}" WHERE "{column}" = ?', [deleted]) == [(0,)]


def test_a_task_is_written_and_read_back_as_it_was_meant(adapter: Adapter, warehouse: Warehouse) -> None:
    """Texts with line breaks, dates, priorities and owners come back as they were sent, also without an owner."""
    pull(adapter, warehouse)
    about, owner = opportunity(warehouse)

    outcomes = list(adapter.write([task(about, owner), task(about, None, 2, priority="low")]))

    assert [o.status for o in outcomes] == ["applied", "applied"]
    assert ours(adapter, warehouse) == [
        ("ps1-aaaaaaaaaaaaaaaaaaa1-1", "Call 1", "- one\n- two", "2026-11-20", "high", owner, False),
        ("ps1-aaaaaaaaaaaaaaaaaaa2-1", "Call 2", "- one\n- two", "2026-11-20", "low", None, False),
    ]


def test_a_repeated_write_meets_its_own_key(adapter: Adapter, warehouse: Warehouse) -> None:
    """Twice sent is once there."""
    pull(adapter, warehouse)
    change = task(*opportunity(warehouse))

    (first,), (second,) = (list(adapter.write([change])) for _ in range(2))

    assert (first.status, second.status) == ("applied", "applied")
    assert first.target == second.target
    assert len(ours(adapter, warehouse)) == 1


def test_a_lost_answer_makes_no_second_task(
    adapter: Adapter, warehouse: Warehouse, place: Place, ledger: Ledger
) -> None:
    """The work was done and nobody heard: the journal's look-up, or the repeat, finds it."""
    pull(adapter, warehouse)
    change = task(*opportunity(warehouse))
    place.lose_the_next_answer()

    with contextlib.suppress(CrmError):
        apply(plan([change]), adapter, ledger, write=WRITE)
    apply(plan([change]), adapter, ledger, write=WRITE)

    assert [row[0] for row in ours(adapter, warehouse)] == [change.key]
    assert ledger.unconfirmed("crm") == []


def test_updates_completion_and_removal_reach_the_task(adapter: Adapter, warehouse: Warehouse) -> None:
    """Only what changes is sent."""
    pull(adapter, warehouse)
    one, two = task(*opportunity(warehouse)), task(*opportunity(warehouse), 2)
    targets = {o.key: o.target for o in adapter.write([one, two])}

    update = {"action": "update", "target": targets[one.key], "before": {}, "after": {"subject": "Call now"}}
    list(adapter.write([one.model_copy(update=update)]))
    done = {"action": "complete", "target": targets[one.key], "before": {}, "after": {"is_done": True}}
    list(adapter.write([one.model_copy(update=done)]))
    gone = {"action": "delete", "target": targets[two.key], "before": dict(two.after), "after": {}}
    list(adapter.write([two.model_copy(update=gone)]))

    rows = ours(adapter, warehouse)
    assert [(r[0], r[1], r[6]) for r in rows] == [(one.key, "Call now", True)]


def test_undo_takes_a_run_back(adapter: Adapter, warehouse: Warehouse, ledger: Ledger) -> None:
    """Nothing of ours is left of it."""
    pull(adapter, warehouse)
    about, owner = opportunity(warehouse)
    done = apply(plan([task(about, owner), task(about, owner, 2)]), adapter, ledger, write=WRITE)

    taken = undo(done.run, adapter, ledger)

    assert (done.applied, taken.applied) == (2, 2)
    assert ours(adapter, warehouse) == []


def test_what_we_wrote_is_found_by_its_key(adapter: Adapter, warehouse: Warehouse) -> None:
    """And nothing is found under a key that was never written."""
    pull(adapter, warehouse)
    change = task(*opportunity(warehouse))
    list(adapter.write([change]))

    tasks, forecasts = adapter.own({change.key, "ps1-nothing-1"}, {change.opportunity_id or ""})

    assert [t.key for t in tasks] == [change.key]
    assert list(forecasts) == []


def test_what_is_seen_is_what_was_pulled_until_people_change_it(
    adapter: Adapter, warehouse: Warehouse, place: Place
) -> None:
    """Every opportunity looks as the pull left it; what was edited looks new at once, what is deleted is missing."""
    pull(adapter, warehouse)
    ids = {i for (i,) in warehouse.rows("SELECT id FROM opportunities")}
    pulled = {i: s.rests_on for i, s in read(warehouse, "crm", (), ids).opportunities.items()}
    (changed, _), (deleted, _) = opportunity(warehouse), opportunity(warehouse, "is_closed")

    before = {i: rests_on(seen.facts) for i, seen in adapter.see(ids).items()}
    place.edit(changed, {"next_step": "Meet the board"})
    place.delete(deleted)
    after = adapter.see([changed, deleted])

    assert {i: {n: facts[n] for n in pulled[i]} for i, facts in before.items()} == pulled
    assert len(before) == 150
    assert {i: seen.facts["next_step"] for i, seen in after.items()} == {changed: "Meet the board"}


def test_a_change_of_an_opportunity_that_people_changed_meanwhile_is_skipped(
    adapter: Adapter, warehouse: Warehouse, ledger: Ledger, place: Place
) -> None:
    """It is told with what differs, and the others go through."""
    pull(adapter, warehouse)
    rows = warehouse.rows("SELECT id, owner_id FROM opportunities WHERE NOT is_closed ORDER BY id LIMIT 3")
    seen = read(warehouse, "crm", (), [i for i, _ in rows]).opportunities
    changes = [
        task(i, owner, n).model_copy(update={"rests_on": seen[i].rests_on})
        for n, (i, owner) in enumerate(rows, start=1)
    ]
    place.edit(rows[0][0], {"next_step": "Meet the board"})
    place.delete(rows[1][0])

    done = apply(plan(changes), adapter, ledger, write=WRITE)

    assert done.applied == 1
    assert {o.key: o.error for o in done.skipped} == {
        changes[0].key: "the opportunity changed since it was pulled (next_step)",
        changes[1].key: "the opportunity is not there any more",
    }
    assert [t[0] for t in ours(adapter, warehouse)] == [changes[2].key]


class TestOurFields:
    """Our own fields on opportunities, which a connection asks for."""

    ALLOWED = Write(enabled=True, opportunity_fields=True)
    VALUES: ClassVar[dict[str, Any]] = {
        "win_probability": 0.45, "win_in_period": 0.2, "expected_close": "2026-12-11",
        "reasons": "+ two people know us",
    }  # fmt: skip

    def change(self, opportunity_id: str, before: dict[str, Any] | None = None, **after: Any) -> Change:
        after = after or self.VALUES
        return Change(
            connection="crm", key="pso1-aaaaaaaaaaaaaaaaaaaa", action="update", object="opportunity",
            target=opportunity_id, opportunity_id=opportunity_id, before=before or dict.fromkeys(after), after=after,
            reason=Reason(kind="forecast", text="a test"), rests_on={"is_closed": None},
        )  # fmt: skip

    def test_they_are_written_seen_and_taken_back(
        self, adapter: Adapter, warehouse: Warehouse, ledger: Ledger
    ) -> None:
        """What was there before is restored exactly, blank included, and nothing of people's moves."""
        pull(adapter, warehouse)
        about, _ = opportunity(warehouse)
        before = adapter.see([about])[about]

        done = apply(plan([self.change(about)]), adapter, ledger, write=self.ALLOWED)
        written = adapter.see([about])[about]
        taken = undo(done.run, adapter, ledger)
        after = adapter.see([about])[about]

        assert (done.applied, taken.applied) == (1, 1)
        assert dict(written.ours) == self.VALUES
        assert rests_on(written.facts) == rests_on(before.facts)
        assert dict(after.ours) == dict(before.ours) == dict.fromkeys(self.VALUES)

    def test_what_people_wrote_there_is_left_and_told(
        self, adapter: Adapter, warehouse: Warehouse, ledger: Ledger
    ) -> None:
        """Neither a later run nor an undo writes over it."""
        pull(adapter, warehouse)
        about, _ = opportunity(warehouse)
        done = apply(plan([self.change(about)]), adapter, ledger, write=self.ALLOWED)
        list(adapter.write([self.change(about, reasons="I know better")]))

        later = self.change(about, before={"reasons": self.VALUES["reasons"]}, reasons="+ a new reason")
        made = plan([later]).model_copy(update={"journal": 1})
        again = apply(made, adapter, ledger, write=self.ALLOWED)
        taken = undo(done.run, adapter, ledger)

        assert [o.error for o in again.skipped] == ["people changed it since"]
        assert [o.error for o in taken.skipped] == ["people changed it since"]
        assert adapter.see([about])[about].ours["reasons"] == "I know better"

    def test_a_lost_answer_is_looked_up(self, adapter: Adapter, warehouse: Warehouse, ledger: Ledger) -> None:
        """What arrived is entered as applied, what did not as failed."""
        pull(adapter, warehouse)
        about, _ = opportunity(warehouse)
        run = ledger.start_run("crm", "apply", NOW)
        ledger.intend(run, [self.change(about)], at=NOW, as_of=NOW)
        list(adapter.write([self.change(about)]))
        other = ledger.start_run("crm", "sync", NOW)
        ledger.intend(other, [self.change(about, reasons="never sent")], at=NOW, as_of=NOW)

        recover(adapter, ledger, "crm")

        assert [e.status for e in ledger.journal("crm")] == ["applied", "failed"]


def test_wrong_credentials_are_one_clear_error(place: Place, warehouse: Warehouse) -> None:
    """It says what to do, and never repeats the secret."""
    place.break_credentials()

    with pytest.raises(PipesyncError) as refused:
        pull(place.open(), warehouse)

    assert "planted-secret" not in str(refused.value)
    assert len(str(refused.value)) > 20


def test_a_missing_permission_makes_a_column_unknown_and_stops_nothing(
    place: Place, warehouse: Warehouse
) -> None:
    """The rest is pulled."""
    hidden = place.hide()

    pull(place.open(), warehouse)

    stream, column = hidden.split(".")
    states = {(c.stream, c.column): c.state for c in warehouse.columns("crm")}
    assert states.get((stream, column), "unmapped") != "known"
    assert warehouse.rows("SELECT count(*) FROM opportunities") == [(150,)]
