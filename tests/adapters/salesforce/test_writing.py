"""Writing into an org: findings, accounts side by side, locks, what was taken and not stored, refusals told."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.salesforce.conftest import WRITE, Connect, order, put, tasks

from pipesync import health, plan
from pipesync.apply import apply, undo
from pipesync.config import Config, Write, from_text
from pipesync.model import Change, Finding, Plan, Reason
from pipesync.plan.facts import Facts
from pipesync.plan.situation import Situation
from pipesync.rules.examination import load_rules
from pipesync.sandbox.process import Sandbox
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

AS_OF = datetime(2026, 11, 16, 8, tzinfo=UTC)
ALL = Write(enabled=True, tasks=True, forecasts=True, opportunity_fields=True, findings=True)
FIELDS = {"win_probability": 0.45, "win_in_period": 0.2, "expected_close": "2026-12-18", "reasons": "quiet"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return from_text(
        "version: 1\nconnections:\n  crm:\n    adapter: salesforce\n    url: https://acme.my.salesforce.com\n"
        "    write: {enabled: true, findings: true}\n",
        tmp_path,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


def finding(opportunity: str, rule: str = "hygiene.no_next_step", **values: Any) -> Finding:
    told = {
        "severity": "medium",
        "message": "Nothing is planned.",
        "amount": Decimal(5000),
        "first_seen": AS_OF,
    }
    return Finding(connection="crm", rule=rule, subject_id=opportunity, **{**told, **values})


def planned(config: Config, ledger: Ledger, *findings: Finding) -> Plan:
    situation = Situation("crm", AS_OF, findings, Facts(), journal=ledger.journal("crm"))
    return plan.make(situation, config, load_rules(config))


def held(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.ask("GET", "dump")["Pipesync_Finding__c"]
    return found


def open_ones(warehouse: Warehouse, n: int) -> list[str]:
    return [
        i
        for (i,) in warehouse.rows(f"SELECT id FROM opportunities WHERE NOT is_closed ORDER BY id LIMIT {n}")
    ]


def test_findings_live_in_the_org_as_they_do_here(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, config: Config, ledger: Ledger
) -> None:
    """Made by key, changed when they change, resolved when they are gone; a second plan is empty."""
    one, two = open_ones(pulled, 2)
    adapter = connect(ALL)

    apply(planned(config, ledger, finding(one), finding(two)), adapter, ledger, write=ALL)
    again = planned(config, ledger, finding(one), finding(two))
    apply(planned(config, ledger, finding(one, severity="high")), adapter, ledger, write=ALL)

    assert again.changes == ()
    assert {
        (r["Opportunity__c"], r["Severity__c"], r["Status__c"], r["Amount__c"]) for r in held(sandbox)
    } == {
        (one, "high", "open", 5000.0),
        (two, "medium", "resolved", 5000.0),
    }


def test_a_repeated_finding_meets_its_own_key_and_undo_removes_it(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, config: Config, ledger: Ledger
) -> None:
    """Also after the answer was lost: the next plan writes it once more, under the same key."""
    adapter, one = connect(ALL), finding(*open_ones(pulled, 1))
    order(sandbox, {"kind": "lost", "method": "PATCH", "path": "composite", "count": 1})

    done = apply(planned(config, ledger, one), adapter, ledger, write=ALL)
    list(adapter.write(planned(config, ledger, one).changes or ledger_changes(ledger)))
    there = len(held(sandbox))
    undo(done.run, adapter, ledger)

    assert (there, held(sandbox)) == (1, [])


def ledger_changes(ledger: Ledger) -> list[Change]:
    """Return what was written, to be written again."""
    return [
        Change(
            connection="crm", key=e.key, action=e.action, object=e.object, opportunity_id=e.opportunity_id,
            after=e.after, reason=e.reason,
        )
        for e in ledger.journal("crm")
    ]  # fmt: skip


def test_findings_are_written_only_where_they_were_asked_for(
    config: Config, ledger: Ledger, pulled: Warehouse, tmp_path: Path
) -> None:
    """Not at first, and not into a CRM that has no object for them."""
    one = finding(*open_ones(pulled, 1))
    text = "version: 1\nconnections:\n  crm:\n    adapter: {}\n    write: {{enabled: true, {}: true}}\n"

    silent = planned(from_text(text.format("salesforce", "tasks"), tmp_path), ledger, one)
    other = planned(from_text(text.format("hubspot", "findings"), tmp_path), ledger, one)

    assert [c for c in silent.changes if c.object == "finding"] == []
    assert (other.changes, list(other.held_back)) == (
        (),
        ["findings have no object of their own in this CRM"],
    )


def test_what_belongs_to_one_account_goes_in_one_request(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, ledger: Ledger
) -> None:
    """A plan of several batches meets no lock that it has itself left behind; without accounts it meets many."""
    adapter = connect()
    accounts = dict(pulled.rows("SELECT id, account_id FROM opportunities WHERE account_id IS NOT NULL"))
    refused: list[str] = []
    real = adapter._api.send  # type: ignore[attr-defined]  # what comes back is looked at

    def spied(method: str, path: str, body: Any = None, **query: str) -> Any:
        answer = real(method, path, body, **query)
        refused.extend(r["errors"][0]["statusCode"] for r in answer if not r["success"])
        return answer

    adapter._api.send = spied  # type: ignore[attr-defined]
    put(sandbox, busy_after=1)

    def applied(start: int, known: dict[str, str]) -> tuple[int, set[str]]:
        refused.clear()
        made = tasks(pulled, 450, start)
        some = Plan(connection="crm", id="p", as_of=AS_OF, changes=tuple(made))
        done = apply(some, adapter, ledger, write=WRITE, accounts=known)
        assert (done.applied, done.failed) == (450, [])
        return len(refused), set(refused)

    together, apart = applied(0, accounts), applied(1000, {})

    assert together == (0, set())
    assert apart[1] == {"UNABLE_TO_LOCK_ROW"}
    assert apart[0] > 50


def test_an_account_that_someone_holds_fails_alone_and_is_told(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """After five tries; the others are written."""
    changes = tasks(pulled, 12)
    account = dict(pulled.rows("SELECT id, account_id FROM opportunities"))
    locked = account[changes[0].opportunity_id]
    put(sandbox, locked=[locked])

    found = {o.key: o for o in connect().write(changes)}

    for change in changes:
        is_locked = account[change.opportunity_id] == locked
        assert found[change.key].status == ("failed" if is_locked else "applied")
        assert ("UNABLE_TO_LOCK_ROW" in found[change.key].error) == is_locked


def test_what_salesforce_takes_and_does_not_keep_has_failed(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Read back field by field: a flow of the customer's may put its own value there."""
    put(sandbox, ignored=["Opportunity.Pipesync_Reasons__c"])
    (record,) = open_ones(pulled, 1)
    change = Change(
        connection="crm", key="pso1-a", action="update", object="opportunity", target=record, opportunity_id=record,
        after=FIELDS, reason=Reason(kind="forecast", text="a test"),
    )  # fmt: skip

    (outcome,) = connect(ALL).write([change])

    assert (outcome.status, "Pipesync_Reasons__c" in outcome.error) == ("failed", True)
    assert "Pipesync_Win_Probability__c" not in outcome.error


def test_what_was_refused_stands_in_status_until_it_goes_through(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, config: Config, ledger: Ledger
) -> None:
    """In the words of the customer's own validation rule."""
    adapter, one = connect(ALL), finding(*open_ones(pulled, 1))
    rule = {
        "object": "Pipesync_Finding__c",
        "field": "Severity__c",
        "forbidden": "medium",
        "message": "Be bolder",
    }
    put(sandbox, rules=[rule])

    apply(planned(config, ledger, one), adapter, ledger, write=ALL)
    _, refused = health.status(config, ("crm",), ledger, AS_OF)
    put(sandbox, rules=[])
    apply(planned(config, ledger, one), adapter, ledger, write=ALL)
    _, mended = health.status(config, ("crm",), ledger, AS_OF)

    (told,) = refused["crm"]["refused"]
    assert (told["object"], told["error"]) == ("finding", "FIELD_CUSTOM_VALIDATION_EXCEPTION: Be bolder")
    assert mended["crm"]["refused"] == []


def test_updates_completion_and_removal_reach_the_task_of_an_org(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Each with an outcome of its own; what is gone already counts as removed."""
    adapter, changes = connect(), tasks(pulled, 3)
    made = {o.key: o.target for o in adapter.write(changes)}
    gone = [c.model_copy(update={"action": "delete", "target": made[c.key], "after": {}}) for c in changes]

    first = [o.status for o in adapter.write(gone[:2])]
    again = [o.status for o in adapter.write(gone)]

    assert (first, again) == (["applied"] * 2, ["applied"] * 3)
    assert [t for t in sandbox.ask("GET", "dump")["Task"] if t["Pipesync_Key__c"]] == []
