"""What is written to a portal, what a repeat or a lost answer does, and what a refusal leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.hubspot.conftest import DEALS, UNHURRIED, Connect, Running, task

from pipesync.adapters.hubspot.adapter import HubspotAdapter
from pipesync.apply import apply
from pipesync.config import Config, ConnectionConfig, Write
from pipesync.connections import pull_all
from pipesync.errors import RetryLater
from pipesync.model import Change, Outcome, Plan, Reason
from pipesync.pull import Written, pull, written_since
from pipesync.sandbox.company import AS_OF
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

WHY = Reason(kind="forecast", text="a test")
QUARTER = {
    "period_start": "2026-10-01", "period_end": "2027-01-01", "scope": "owner", "scope_id": "100001", "currency": "EUR",
    "p10": "1.50", "p50": "2.25", "p90": "3.00", "mean": "2.20", "closed": "1.00", "open": "1.00", "new": "0.20",
    "as_of": "2026-11-16", "basis": "b1",
}  # fmt: skip


def _deals(hubspot: Running, count: int) -> list[str]:
    rows = hubspot.records.db.execute(
        "SELECT id FROM hs_objects WHERE kind = 'deals' AND json_extract(properties, '$.hs_is_closed') = 'false' "
        "ORDER BY id LIMIT ?",
        (count,),
    )
    return [str(r[0]) for r in rows]


def _tasks(hubspot: Running) -> list[dict[str, Any]]:
    found = hubspot.records.page("tasks", after=0, limit=1000, archived=False)
    return [record.properties for record in found]


def _by_key(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {o.key: o for o in outcomes}


def forecast(key: str = "psf1-a", **after: str) -> Change:
    return Change(key=key, action="create", object="forecast", after={**QUARTER, **after}, reason=WHY)


def fields(deal: str, key: str = "field", **after: Any) -> Change:
    return Change(
        key=key,
        action="update",
        object="opportunity",
        target=deal,
        opportunity_id=deal,
        after=after,
        reason=WHY,
    )


def test_a_task_comes_back_as_it_was_planned(connect: Connect, hubspot: Running) -> None:
    """Subject, text with its lines and signs, due day, priority and owner survive HubSpot's forms."""
    (deal,) = _deals(hubspot, 1)
    change = task(deal, subject="A & B <c>", body='- one\n- "two" & <three>')
    adapter = connect()

    (outcome,) = adapter.write([change])

    (found,), _ = adapter.own([change.key], [deal])
    assert outcome.status == "applied"
    assert (found.id, found.opportunity_id, found.owner_id) == (outcome.target, deal, "100001")
    assert (found.subject, found.body) == (change.after["subject"], change.after["body"])
    assert (str(found.due), found.priority, found.is_done) == ("2026-11-20", "high", False)


def test_a_repeat_creates_nothing(connect: Connect, hubspot: Running) -> None:
    """The same create again is applied with the first one's id, although no index knows it yet."""
    deals = _deals(hubspot, 3)
    hubspot.records.lag = 3_600_000
    changes = [task(d) for d in deals]
    first = _by_key(list(connect().write(changes)))

    again = _by_key(list(connect().write(changes)))

    assert again == first
    assert len(_tasks(hubspot)) == 3


@pytest.mark.parametrize("fault", ["lost", (502, {}, ""), (504, {}, "")])
def test_a_lost_answer_makes_no_second_task(connect: Connect, hubspot: Running, fault: Any) -> None:
    """When the work was (or may have been) done and the answer is lost, the deals' own tasks are looked up first."""
    deals = _deals(hubspot, 3)
    hubspot.fail(fault, where="tasks/batch/create")

    outcomes = list(connect().write([task(d) for d in deals]))

    assert [o.status for o in outcomes] == ["applied"] * 3
    assert len(_tasks(hubspot)) == 3


def test_an_outage_ends_with_an_error_and_loses_nothing(connect: Connect, hubspot: Running) -> None:
    """While HubSpot refuses to answer nothing is claimed; the same changes pass afterwards."""
    (deal,) = _deals(hubspot, 1)
    hubspot.fail((503, {}, ""), times=1000, where="tasks")

    with pytest.raises(RetryLater):
        list(connect().write([task(deal)]))

    hubspot.faults.clear()
    assert [o.status for o in connect().write([task(deal)])] == ["applied"]


def test_a_refused_record_leaves_the_others_alone(connect: Connect, hubspot: Running) -> None:
    """One deal that does not exist fails by itself, with HubSpot's code and none of its text."""
    good, other = _deals(hubspot, 2)
    changes = [task(good), task("4242424242"), task(other)]

    outcomes = _by_key(list(connect().write(changes)))

    assert [outcomes[c.key].status for c in changes] == ["applied", "failed", "applied"]
    assert "ASSOCIATION_TARGET_NOT_FOUND" in outcomes[changes[1].key].error


@pytest.mark.parametrize("partial", [True, False])
def test_partial_failures_work_where_trace_ids_do_not(
    connect: Connect, hubspot: Running, partial: bool
) -> None:
    """Whether updates honour trace ids is not known; where they do not, the culprit is found record by record."""
    assert hubspot.portal
    hubspot.portal.turn("partial_failures", partial)
    deals = _deals(hubspot, 2)
    changes = [
        fields(deals[0], "good", win_probability=0.5),
        fields(deals[1], "bad", no_such="1"),
    ]

    outcomes = _by_key(list(connect().write(changes)))

    assert (outcomes["good"].status, outcomes["bad"].status) == ("applied", "failed")
    assert "PROPERTY_DOESNT_EXIST" in outcomes["bad"].error


def test_what_passes_at_the_second_try_has_one_outcome(connect: Connect, hubspot: Running) -> None:
    """A record that HubSpot could not do just now is sent once more; its first refusal is not told as well."""
    changes = [fields(d, f"field {d}", win_probability=0.5) for d in _deals(hubspot, 3)]
    hubspot.fail("partial", where="deals/batch/update")

    outcomes = list(connect().write(changes))

    assert sorted((o.key, o.status) for o in outcomes) == sorted((c.key, "applied") for c in changes)


def test_a_portals_validation_rule_fails_one_record(connect: Connect, hubspot: Running) -> None:
    """A conditional required property refuses one deal; nothing is retried and the batch goes on."""
    assert hubspot.portal
    first, second = _deals(hubspot, 2)
    stage = hubspot.deal(int(first)).properties["dealstage"]
    hubspot.edit(int(first), hs_next_step=None)
    rule = {"kind": "deals", "property": "hs_next_step", "required_when": {"dealstage": stage}}
    hubspot.portal.turn("rules", [rule])
    hubspot.edit(int(second), hs_next_step="There")

    outcomes = _by_key(
        list(connect().write([fields(first, "a", reasons="high"), fields(second, "b", reasons="low")]))
    )

    assert (outcomes["a"].status, outcomes["b"].status) == ("failed", "applied")
    assert hubspot.count("deals/batch/update") == 1


def test_completing_updating_and_deleting(connect: Connect, hubspot: Running) -> None:
    """Each action does its own, and doing it again changes nothing."""
    deals = _deals(hubspot, 3)
    adapter = connect()
    made = _by_key(list(adapter.write([task(d) for d in deals])))
    keys = [task(d).key for d in deals]

    def change(i: int, action: Any, **after: Any) -> Change:
        return Change(
            key=keys[i], action=action, object="task", target=made[keys[i]].target, opportunity_id=deals[i],
            after=after, reason=WHY,
        )  # fmt: skip

    changes = [
        change(0, "complete", body="mended"),
        change(1, "update", due="2026-12-01"),
        change(2, "delete"),
    ]
    for _ in range(2):
        outcomes = list(adapter.write(changes))
        assert [o.status for o in outcomes] == ["applied"] * 3

    found = {t.key: t for t in adapter.own(keys, deals)[0]}
    assert (found[keys[0]].is_done, found[keys[0]].body) == (True, "mended")
    assert (str(found[keys[1]].due), found[keys[1]].subject) == ("2026-12-01", "Call")
    assert keys[2] not in found


def test_a_task_that_is_gone_cannot_be_updated(connect: Connect, hubspot: Running) -> None:
    """An update of a task that somebody deleted fails with a reason."""
    (deal,) = _deals(hubspot, 1)
    adapter = connect()
    (made,) = adapter.write([task(deal)])
    hubspot.records.archive("tasks", [int(made.target or 0)])
    change = task(deal).model_copy(update={"action": "update", "target": made.target})

    (outcome,) = adapter.write([change])

    assert outcome.status == "failed"
    assert "OBJECT_NOT_FOUND" in outcome.error


def test_a_forecast_is_put_once_under_its_key(connect: Connect, hubspot: Running) -> None:
    """A forecast is created, found by its key, and rewritten in place; repeats make no second record."""
    adapter = connect()
    first = list(adapter.write([forecast()]))
    hubspot.fail("lost", where="batch/upsert")

    again = list(adapter.write([forecast(p50="2.75")]))

    (found,) = adapter.own(["psf1-a"], [])[1]
    assert first[0].target == again[0].target == found.id
    assert (str(found.p50), found.scope_id, str(found.period_end), found.basis) == (
        "2.75",
        "100001",
        "2027-01-01",
        "b1",
    )
    assert len(hubspot.records.page("pipesync_forecast", after=0, limit=9, archived=False)) == 1


def test_own_records_are_pulled_without_the_index(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A pull right after a write knows all of it, however far the search index lags."""
    hubspot.records.lag = 3_600_000
    deals = _deals(hubspot, 3)
    adapter = connect()
    list(adapter.write([*(task(d) for d in deals), forecast()]))

    pull(adapter, pulled, streams=DEALS)

    assert pulled.rows("SELECT count(*) FROM own_tasks WHERE opportunity_id IS NOT NULL") == [(3,)]
    assert pulled.rows("SELECT key, p50::VARCHAR FROM own_forecasts") == [("psf1-a", "2.25")]


def test_an_unchanged_run_that_may_write_takes_eight_requests(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """With open tasks and forecasts of ours as without; the archived sweep and a look at a site's own goals apart."""
    adapter = connect()
    pull(adapter, warehouse)
    list(adapter.write([*(task(d) for d in _deals(hubspot, 90)), forecast()]))
    hubspot.advance(3600)
    pull(adapter, warehouse)
    hubspot.advance(3600)
    hubspot.asked.clear()

    found = pull(connect(), warehouse)

    apart = ("/crm/objects/2026-09/deals", "/crm/properties/2026-09/goal_targets")
    assert len([path for _, path in hubspot.asked if path not in apart]) <= 8
    assert sum(p.changed for p in found.values()) == 0
    assert warehouse.rows("SELECT count(*) FROM own_forecasts") == [(1,)]


def test_a_deleted_task_leaves_the_mirror(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """A task that a rep deleted is noticed by the next pull, one that he closed is closed."""
    deals = _deals(hubspot, 2)
    outcomes = list(connect().write([task(d) for d in deals]))
    pull(connect(), pulled, streams=DEALS)
    hubspot.advance(60)
    hubspot.records.archive("tasks", [int(outcomes[0].target or 0)])
    closed = hubspot.records.get("tasks", [int(outcomes[1].target or 0)])[int(outcomes[1].target or 0)]
    hubspot.records.touch("tasks", closed.id, {"hs_task_status": "COMPLETED"})

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT key, is_done FROM own_tasks") == [(outcomes[1].key, True)]


def test_our_own_task_is_no_planned_activity(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """HubSpot shows our task as the deal's next activity; a rule that looks for people's plans must not see it."""
    (deal,) = _deals(hubspot, 1)
    list(connect().write([task(deal)]))
    assert hubspot.deal(int(deal)).properties["notes_next_activity_date"].startswith("2026-11-20")

    pull(connect(mapping=None), warehouse, streams=DEALS)

    assert warehouse.rows("SELECT next_activity_at FROM opportunities WHERE id = ?", [deal]) == [(None,)]


def test_our_writes_are_read_once_and_change_nothing(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Tasks and own properties modify deals: they are read once more, differ in nothing, and then rest."""
    deals = _deals(hubspot, 5)
    list(
        connect().write(
            [*(task(d) for d in deals), *(fields(d, f"f{d}", win_probability=0.5) for d in deals)]
        )
    )
    hubspot.advance(60)

    first = pull(connect(), pulled, streams=DEALS)["opportunities"]
    hubspot.advance(60)
    hubspot.asked.clear()
    second = pull(connect(), pulled, streams=DEALS)["opportunities"]

    assert (first.pulled, first.changed) == (5, 0)
    assert (second.pulled, hubspot.count("deals/batch/read")) == (0, 0)


def test_reps_own_properties_are_out_of_reach(connect: Connect, hubspot: Running) -> None:
    """Whatever a change calls a field, only properties of our group are written."""
    (deal,) = _deals(hubspot, 1)
    before = hubspot.deal(int(deal)).properties["amount"]

    (outcome,) = connect().write([fields(deal, amount="1")])

    assert outcome.status == "failed"
    assert hubspot.deal(int(deal)).properties["amount"] == before


def test_without_the_tasks_scope_properties_still_work(connect: Connect, hubspot: Running) -> None:
    """A portal that refuses the contacts' scope fails the tasks, with the mend, and takes the properties."""
    assert hubspot.portal
    scopes = [s for s in hubspot.portal.tokens["sandbox-token"] if s != "crm.objects.contacts.write"]
    hubspot.records.set("tokens", {"sandbox-token": scopes})
    (deal,) = _deals(hubspot, 1)

    outcomes = _by_key(list(connect().write([task(deal), fields(deal, "field", reasons="low")])))

    assert outcomes["field"].status == "applied"
    assert "crm.objects.contacts.write" in outcomes[task(deal).key].error


def test_keys_can_stand_in_the_text(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Where a portal refuses properties on tasks the key ends the text, and nobody sees it in ours."""
    assert hubspot.portal
    left = [d for d in hubspot.portal.definitions("tasks") if d["name"] != "pipesync_key"]
    hubspot.records.set("properties.tasks", left)
    hubspot.portal.forget_definitions("tasks")
    deals = _deals(hubspot, 2)
    adapter = connect(task_key="body")

    first = list(adapter.write([task(d) for d in deals]))
    again = list(adapter.write([task(d) for d in deals]))
    pull(adapter, pulled, streams=DEALS)

    assert {o.target for o in first} == {o.target for o in again}
    assert pulled.rows("SELECT key, body FROM own_tasks ORDER BY key") == [
        (task(d).key, "one\ntwo") for d in deals
    ]


def test_a_portal_without_custom_objects_keeps_no_forecasts(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Outside Enterprise the stream is unreadable, which tells the plan to leave forecasts to ledger and report."""
    hubspot.records.set("schemas", [])

    found = pull(connect(), warehouse, streams=DEALS)

    assert "install-fields" in found["own_forecasts"].warnings[0]
    assert {c.state for c in warehouse.columns("hs") if c.stream == "own_forecasts"} == {"unreadable"}


@pytest.mark.parametrize("chosen", [False, True])
def test_native_forecast_properties_are_written_by_choice_only(
    connect: Connect, hubspot: Running, chosen: bool
) -> None:
    """With `native_forecast` HubSpot's own forecast probability follows ours, except where a person has set it.

    What we wrote there ourselves is known by its source in the property's history, and is written again.
    """
    first, second = _deals(hubspot, 2)
    hubspot.edit(int(second), hs_forecast_probability="0.9")

    def native() -> list[str | None]:
        return [hubspot.deal(int(d)).properties.get("hs_forecast_probability") for d in (first, second)]

    for probability in ("0.3", "0.4"):
        changes = [fields(d, f"{d}-{probability}", win_probability=probability) for d in (first, second)]
        outcomes = list(connect(native_forecast=chosen).write(changes))

        assert {o.status for o in outcomes} == {"applied"}
        assert hubspot.deal(int(first)).properties["pipesync_win_probability"] == probability
        assert native() == [probability if chosen else None, "0.9"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


def _applied(
    adapter: HubspotAdapter, warehouse: Warehouse, ledger: Ledger, changes: Sequence[Change]
) -> Written | None:
    """Write, and return what the next sync says of it."""
    plan = Plan(connection="hs", id="p", as_of=AS_OF, changes=tuple(changes))
    done = apply(plan, adapter, ledger, write=Write(enabled=True, tasks=True, opportunity_fields=True))
    assert (done.applied, done.failed, done.skipped) == (len(changes), [], [])
    return written_since(warehouse, ledger, "hs", datetime.now(UTC))


def test_our_own_writes_cause_no_reading(
    connect: Connect, pulled: Warehouse, ledger: Ledger, hubspot: Running
) -> None:
    """Hundreds of deals got a task and our fields: a search shows it, page by page, and none is read again."""
    adapter = connect()
    pull(adapter, pulled, streams=DEALS)
    before = pulled.rows("SELECT * FROM opportunities ORDER BY id")
    deals = [d for (d,) in pulled.rows("SELECT id FROM opportunities ORDER BY id LIMIT 210")]
    changes = [c for d in deals for c in (task(d), fields(d, key=f"f{d}", win_probability=0.5))]
    written = _applied(adapter, pulled, ledger, changes)
    hubspot.asked.clear()

    found = pull(connect(), pulled, streams=DEALS, written=written)

    assert hubspot.count("deals/search") == ceil(210 / 200)
    assert hubspot.count("deals/batch/read") == hubspot.count("deals/contacts") == 0
    assert found["opportunities"].changed == 0
    assert pulled.rows("SELECT * FROM opportunities ORDER BY id") == before
    hubspot.asked.clear()
    hubspot.advance(60)
    pull(connect(), pulled, streams=DEALS)
    assert hubspot.count("deals/batch/read") == 0


def test_a_pull_by_itself_knows_what_an_apply_wrote(
    connect: Connect, ledger: Ledger, hubspot: Running, tmp_path: Path
) -> None:
    """Who works by pull, plan and apply, without `sync`, pays as little for it."""
    options = {**UNHURRIED, "url": hubspot.url, "token_env": "HUBSPOT_TOKEN"}
    config = Config(connections={"hs": ConnectionConfig(adapter="hubspot", options=options)}, folder=tmp_path)
    pull_all(config, ["hs"], ledger=ledger)
    with Warehouse(config.warehouse) as warehouse:
        _applied(connect(), warehouse, ledger, [task(d) for d in _deals(hubspot, 3)])
    hubspot.asked.clear()

    pull_all(config, ["hs"], ledger=ledger)

    assert hubspot.count("deals/search") == 1
    assert hubspot.count("deals/batch/read") == 0


def test_what_a_person_changed_meanwhile_is_read(
    connect: Connect, pulled: Warehouse, ledger: Ledger, hubspot: Running
) -> None:
    """While we wrote to three deals somebody changed one of them, and later another: both are read, with history."""
    adapter = connect()
    pull(adapter, pulled, streams=DEALS)
    meanwhile, later, untouched = _deals(hubspot, 3)
    written = _applied(adapter, pulled, ledger, [task(d) for d in (meanwhile, later, untouched)])
    hubspot.edit(int(meanwhile), amount="4711")
    hubspot.advance(120)
    hubspot.edit(int(later), hs_next_step="Later")
    hubspot.asked.clear()
    assert written
    written = replace(written, now=written.now + timedelta(seconds=120))

    found = pull(connect(), pulled, streams=DEALS, written=written)

    assert found["opportunities"].pulled == 2
    assert hubspot.count("deals/batch/read") == 1
    sql = "SELECT last(value ORDER BY changed_at) FROM field_changes WHERE opportunity_id = ? AND field = 'amount'"
    assert pulled.rows(sql, [meanwhile]) == [("4711.00",)]
    assert pulled.rows("SELECT next_step FROM opportunities WHERE id = ?", [later]) == [("Later",)]
