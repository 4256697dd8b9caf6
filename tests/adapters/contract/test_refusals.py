"""One change of a batch cannot be made: it is told with its reason, and the others go through. On both CRMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.apply import Applied, apply, recover
from pipesync.config import ConnectionConfig, Write
from pipesync.model import Change, Plan, Reason
from pipesync.sandbox.process import HUBSPOT_TOKEN, Sandbox
from pipesync.store.ledger import Ledger

WRITE = Write(enabled=True, tasks=True, forecasts=True)
AS_OF = datetime(2026, 11, 16, 8, tzinfo=UTC)
Ruin = Callable[["Desk", list[Change]], list[Change]]


@dataclass
class Desk:
    """A CRM, and four changes for it: three tasks and a forecast."""

    sandbox: Sandbox
    crm: str
    adapter: Adapter
    ledger: Ledger
    opportunities: list[str]
    owner: str

    def task(self, number: int, **more: Any) -> Change:  # Any: fields
        after = {"subject": f"Call {number}", "body": "a point", "due": "2026-11-20", "priority": "normal"}
        return Change(
            connection="crm", key=f"ps1-aaaaaaaaaaaaaaaaaaa{number}-1", action="create", object="task",
            opportunity_id=self.opportunities[number], owner_id=more.pop("owner_id", self.owner),
            after={**after, **more}, reason=Reason(kind="findings", text="a test"),
        )  # fmt: skip

    def forecast(self) -> Change:
        money = dict.fromkeys(("p10", "p50", "p90", "mean", "closed", "open", "new"), "100.00")
        period = {"period_start": "2026-10-01", "period_end": "2027-01-01", "scope": "total", "scope_id": ""}
        return Change(
            connection="crm", key="psf1-aaaaaaaaaaaaaaaaaaaa", action="create", object="forecast",
            after={**period, **money, "currency": "EUR", "as_of": date(2026, 11, 16).isoformat(), "basis": "b"},
            reason=Reason(kind="forecast", text="a test"),
        )  # fmt: skip

    def apply(self, changes: list[Change]) -> Applied:
        made = Plan(connection="crm", id="p", as_of=AS_OF, changes=tuple(changes))
        return apply(made, self.adapter, self.ledger, write=WRITE)

    def settings(self, **given: Any) -> None:  # Any: JSON
        self.sandbox.ask("POST", "settings", {self.crm: given})

    def delete_property(self, kind: str, name: str) -> None:
        url = f"{self.sandbox.url}/crm/v3/properties/{kind}/{name}"
        requests.delete(
            url, headers={"Authorization": f"Bearer {HUBSPOT_TOKEN}"}, timeout=10
        ).raise_for_status()


@pytest.fixture(params=["salesforce", "hubspot"])
def desk(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Iterator[Desk]:
    keys = sandbox.settings(request.param, tmp_path)
    keys.pop("adapter")
    mapping = Path(keys.pop("mapping"))
    config = ConnectionConfig(adapter=request.param, mapping=mapping, options=keys, write=WRITE)
    adapter = open_adapter("crm", config, tmp_path)
    held = sandbox.ask("GET", "dump")
    rows = held.get("Opportunity") if request.param == "salesforce" else held["deals"]
    owner = "OwnerId" if request.param == "salesforce" else "hubspot_owner_id"
    rows = [r for r in rows if r.get(owner)]
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ids = [str(r.get("Id") or r.get("id")) for r in rows[:4]]
        yield Desk(sandbox, request.param, adapter, ledger, ids, rows[0][owner])
    adapter.close()


def inactive_assignee(desk: Desk, changes: list[Change]) -> list[Change]:
    if desk.crm == "salesforce":
        leaver = next(u["Id"] for u in desk.sandbox.ask("GET", "dump")["User"] if u["Id"] != desk.owner)
        desk.sandbox.ask("POST", "edit", {"crm": "salesforce", "id": leaver, "fields": {"IsActive": 0}})
    else:
        url = f"{desk.sandbox.url}/crm/v3/owners?archived=true"
        headers = {"Authorization": f"Bearer {HUBSPOT_TOKEN}"}
        leaver = requests.get(url, headers=headers, timeout=10).json()["results"][0]["id"]
    return [desk.task(1, owner_id=leaver), *changes[1:]]


def too_long(desk: Desk, changes: list[Change]) -> list[Change]:
    return [desk.task(1, subject="x" * 70_000), *changes[1:]]


def validation_rule(desk: Desk, changes: list[Change]) -> list[Change]:
    rule: dict[str, Any]  # Any: JSON
    if desk.crm == "salesforce":
        rule = {
            "object": "Task",
            "field": "Priority",
            "forbidden": "High",
            "message": "Only managers may use High",
        }
    else:
        rule = {
            "kind": "tasks",
            "property": "hs_task_type_detail",
            "required_when": {"hs_task_priority": "HIGH"},
        }
    desk.settings(rules=[rule])
    return [desk.task(1, priority="high"), *changes[1:]]


def read_only_field(desk: Desk, changes: list[Change]) -> list[Change]:
    if desk.crm == "salesforce":
        desk.settings(readonly=["Task.ActivityDate"])
        return [changes[0], *(c.model_copy(update={"after": _without_due(c)}) for c in changes[1:])]
    pytest.skip("HubSpot's own task properties cannot be made read-only for an app")


def _without_due(change: Change) -> dict[str, Any]:  # Any: JSON
    return {n: v for n, v in change.after.items() if n != "due"}


@pytest.mark.parametrize(
    ("ruin", "said"),
    [
        (inactive_assignee, {"salesforce": "INACTIVE_OWNER_OR_USER", "hubspot": "is not active"}),
        (too_long, {"salesforce": "STRING_TOO_LONG", "hubspot": "hs_task_subject"}),
        (validation_rule, {"salesforce": "Only managers may use High", "hubspot": "hs_task_type_detail"}),
        (read_only_field, {"salesforce": "ActivityDate"}),
    ],
    ids=["inactive assignee", "text too long", "validation rule", "read-only field"],
)
def test_what_cannot_be_written_leaves_the_others_alone(desk: Desk, ruin: Ruin, said: dict[str, str]) -> None:
    """One is told with the CRM's reason, the journal keeps it, and the other three are there."""
    changes = ruin(desk, [desk.task(1), desk.task(2), desk.task(3), desk.forecast()])

    done = desk.apply(changes)

    assert (done.applied, [o.key for o in done.failed]) == (3, [changes[0].key]), done.failed
    assert said[desk.crm] in done.failed[0].error
    assert [(e.status, e.error) for e in desk.ledger.journal_of(done.run) if e.key == changes[0].key] == [
        ("failed", done.failed[0].error)
    ]


def test_a_field_that_was_removed_stops_its_own_records_alone(desk: Desk) -> None:
    """A field of our forecast object is gone: the forecast is told with its reason, the tasks are written."""
    if desk.crm == "salesforce":
        desk.settings(hidden=["Pipesync_Forecast__c.Basis__c"])
    else:
        desk.delete_property("pipesync_forecast", "basis")

    done = desk.apply([desk.task(1), desk.task(2), desk.forecast()])

    assert done.applied == 2
    assert [o.key for o in done.failed] == ["psf1-aaaaaaaaaaaaaaaaaaaa"]
    assert "asis" in done.failed[0].error


def test_a_kind_of_record_that_is_hidden_holds_up_no_other(desk: Desk) -> None:
    """An unconfirmed forecast that cannot be looked up any more stays unconfirmed; tasks are written all the same."""
    run = desk.ledger.start_run("crm", "apply", AS_OF)
    desk.ledger.intend(run, [desk.forecast()], at=AS_OF, as_of=AS_OF)
    if desk.crm == "salesforce":
        desk.settings(hidden=["Pipesync_Forecast__c"])
    else:
        scopes = [f"crm.objects.{o}.{w}" for o in ("deals", "contacts", "owners") for w in ("read", "write")]
        desk.sandbox.ask("POST", "settings", {"tokens": {HUBSPOT_TOKEN: scopes}})

    settled = recover(desk.adapter, desk.ledger, "crm")
    done = desk.apply([desk.task(1), desk.task(2)])

    assert (settled, done.applied, done.failed) == (0, 2, [])
    assert [e.object for e in desk.ledger.unconfirmed("crm")] == ["forecast"]
