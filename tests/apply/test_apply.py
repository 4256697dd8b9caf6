"""Writing a plan: intents first, nothing twice, nothing that people changed, and an honest account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pipesync.apply import recover
from pipesync.config import Write
from pipesync.errors import RetryLater
from pipesync.model import Change, PeriodForecast
from pipesync.store.ledger import LeaseTaken

if TYPE_CHECKING:
    from tests.apply.conftest import Flaky, World, Worlds

PAST, STEP = "hygiene.close_date_past", "hygiene.no_next_step"
Foretell = Callable[..., PeriodForecast]


# --- Writing ----------------------------------------------------------------------------------------------------


def test_what_is_planned_is_written_once(world: World, foretell: Foretell) -> None:
    """The CRM holds the tasks and forecasts, and a second plan is empty, read again or not, and a day later."""
    world.fire("006A")
    world.fire("006B")
    world.forecasts = [foretell()]

    done = world.apply()

    assert (done.applied, done.failed, done.skipped) == (3, [], [])
    assert {row["opportunity_id"] for row in world.tasks().values()} == {"006A", "006B"}
    assert world.plan().changes == ()
    world.pull()
    assert world.plan().changes == ()
    world.as_of += timedelta(days=1)
    assert world.plan().changes == ()
    assert world.ledger.run(done.run).status == "done"
    assert world.ledger.run(done.run).detail == {"applied": 3, "failed": 0, "skipped": 0}


def test_the_intent_is_in_the_journal_before_the_request(world: World, flaky: type[Flaky]) -> None:
    """Whatever is sent can be looked up after a crash."""
    world.fire("006A")
    seen: list[str] = []

    def look(changes: Sequence[Change]) -> None:
        waiting = {e.key for e in world.ledger.unconfirmed("crm")}
        seen.extend(c.key for c in changes if c.key in waiting)

    made = world.plan()
    world.apply(made, flaky(world.adapter, before_write=look))

    assert seen == [c.key for c in made.changes]
    assert world.ledger.unconfirmed("crm") == []


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (Write(), 0),
        (Write(tasks=True, forecasts=True), 0),
        (Write(enabled=True), 0),
        (Write(enabled=True, tasks=True), 1),
        (Write(enabled=True, forecasts=True), 1),
        (Write(enabled=True, tasks=True, forecasts=True), 2),
    ],
    ids=["default", "not enabled", "nothing chosen", "tasks", "forecasts", "both"],
)
def test_only_what_the_connection_allows_is_written(
    world: World, foretell: Foretell, write: Write, written: int
) -> None:
    """Nothing by default; the rest is told."""
    world.fire("006A")
    world.forecasts = [foretell()]

    done = world.apply(write=write)

    assert done.applied == len(world.snapshot()) == written
    assert [o.error for o in done.skipped] == ["the connection's `write:` does not allow it"] * (2 - written)


def test_a_limit_takes_the_worst_first(world: World) -> None:
    """A careful admin starts with a few."""
    for i in range(5):
        world.fire(f"006{i}", amount=Decimal(i))

    done = world.apply(limit=2)

    assert {row["opportunity_id"] for row in world.tasks().values()} == {"0064", "0063"}
    assert len(done.skipped) == 3
    assert len(world.plan().changes) == 3


def test_many_changes_go_in_few_batches(world: World, flaky: type[Flaky]) -> None:
    """450 changes are three calls of the adapter, which packs them into its own batches."""
    for i in range(450):
        world.fire(f"006{i}")
    counted = flaky(world.adapter)

    world.apply(adapter=counted)

    assert counted.writes == 3
    assert len(world.tasks()) == 450


def test_a_refused_record_leaves_the_others_alone(world: World, flaky: type[Flaky]) -> None:
    """It is told with its reason and the CRM's request id, and tried again by the next run."""
    world.fire("006A")
    world.fire("006B")

    done = world.apply(adapter=flaky(world.adapter, refuse={"006A"}))

    assert (done.applied, [(o.error, o.request_id) for o in done.failed]) == (
        1,
        [("its validation rule says no", "q")],
    )
    assert world.ledger.run(done.run).status == "partly"
    again = world.plan()
    assert [(c.action, c.opportunity_id) for c in again.changes] == [("create", "006A")]
    assert again.changes[0].key == done.failed[0].key


def test_a_run_that_mostly_fails_stops(world: World, flaky: type[Flaky]) -> None:
    """When most of a batch is refused something is wrong with the whole, and the rest is left alone."""
    for i in range(401):
        world.fire(f"006{i:03}", severity="high" if i < 200 else "low")

    done = world.apply(adapter=flaky(world.adapter, refuse={f"006{i:03}" for i in range(150)}))

    assert (done.applied, len(done.failed), len(done.skipped)) == (50, 150, 201)
    assert done.skipped[0].error == "stopped, because most of what was sent before failed"


def test_one_kind_that_is_refused_stops_no_other(
    world: World, flaky: type[Flaky], foretell: Foretell
) -> None:
    """Who may write no tasks, say, still gets forecasts."""
    for i in range(220):
        world.fire(f"006{i:03}")
    world.forecasts = [foretell()]

    done = world.apply(adapter=flaky(world.adapter, refuse={f"006{i:03}" for i in range(220)}))

    assert (done.applied, len(done.failed), len(done.skipped)) == (1, 200, 20)


def test_how_many_may_fail_is_the_sites_choice(world: World, flaky: type[Flaky]) -> None:
    """A careful site stops earlier."""
    for i in range(401):
        world.fire(f"006{i:03}", severity="high" if i < 200 else "low")

    refused = {f"006{i:03}" for i in range(30)}
    done = world.apply(adapter=flaky(world.adapter, refuse=refused), max_failing=10)

    assert (done.applied, len(done.failed), len(done.skipped)) == (170, 30, 201)


# --- What people did meanwhile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"subject": "Mine"}, "people changed it since it was pulled"),
        ({"is_done": "true"}, "people changed it since it was pulled"),
        (None, "it is not there any more"),
    ],
    ids=["edited", "closed", "deleted"],
)
@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_task_that_people_touched_after_the_pull_is_skipped(
    world: World, change: str, edit: dict[str, str] | None, said: str
) -> None:
    """Between plan and apply the CRM belongs to people."""
    world.fire("006A", message="old")
    world.sync()
    key = world.key_of("006A")
    if change == "update":
        world.fire("006A", message="new")
    else:
        world.clear("006A")
    made = world.plan()
    if edit:
        world.edit(key, **edit)
    else:
        world.remove(key)
    before = world.snapshot()

    done = world.apply(made)

    assert [c.action for c in made.changes] == [change]
    assert (done.applied, [o.error for o in done.skipped]) == (0, [said])
    assert world.snapshot() == before


def test_a_plan_that_another_run_overtook_is_skipped(world: World) -> None:
    """What was written since the plan was made is not written over."""
    world.fire("006A")
    kept = world.plan()
    done = world.apply()

    late = world.apply(kept)

    assert late.applied == 0
    assert [o.error for o in late.skipped] == [f"run {done.run} wrote to it since the plan was made"]


def test_two_runs_exclude_each_other(world: World, flaky: type[Flaky]) -> None:
    """The second one is refused before it writes anything."""
    world.fire("006A")
    refused: list[str] = []

    def intrude(_: Sequence[Change]) -> None:
        with pytest.raises(LeaseTaken):
            world.apply()
        refused.append("refused")

    done = world.apply(adapter=flaky(world.adapter, before_write=intrude))

    assert refused == ["refused"]
    assert (done.applied, len(world.tasks())) == (1, 1)


# --- Lost answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["answer", "request"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_was_lost_on_the_way_is_looked_up(
    worlds: Worlds, flaky: type[Flaky], foretell: Foretell, lost: str, after: int
) -> None:
    """Whether the request or its answer got lost, the next run ends with what an undisturbed one has."""

    def company(world: World) -> World:
        for c in "ABC":
            world.fire(f"006{c}")
        world.forecasts = [foretell()]
        return world

    undisturbed, world = company(worlds()), company(worlds())
    undisturbed.sync()

    with pytest.raises(RetryLater):
        world.apply(adapter=flaky(world.adapter, lose=(lost, after)))
    assert world.ledger.runs("crm")[0].status == "failed"
    assert len(world.ledger.unconfirmed("crm")) == 3 - after
    world.sync()

    assert world.snapshot() == undisturbed.snapshot()
    assert world.ledger.unconfirmed("crm") == []
    world.pull()
    assert world.plan().changes == ()


@pytest.mark.parametrize("lost", ["answer", "request"])
@pytest.mark.parametrize("kind", ["update", "complete", "delete", "forecast"])
def test_every_kind_of_write_is_looked_up(
    worlds: Worlds, flaky: type[Flaky], foretell: Foretell, kind: str, lost: str
) -> None:
    """The CRM's record tells whether a lost write arrived, and the journal says so."""
    world = worlds("tasks: {when_mended: complete}" if kind == "complete" else "")
    world.fire("006A", message="old")
    world.forecasts = [foretell()]
    world.sync()
    if kind == "update":
        world.fire("006A", message="new")
    elif kind == "forecast":
        world.basis, world.forecasts = "b2", [foretell(p50=Decimal(150))]
    else:
        world.clear("006A")
    world.pull()
    with pytest.raises(RetryLater):
        world.apply(adapter=flaky(world.adapter, lose=(lost, 0)))

    settled = recover(world.adapter, world.ledger, "crm")

    entry = world.ledger.journal("crm")[-1]
    assert (settled, entry.status) == (1, "applied" if lost == "answer" else "failed")
    world.sync()
    world.pull()
    assert world.plan().changes == ()


def test_recovering_waits_for_a_run_that_lives(world: World, flaky: type[Flaky]) -> None:
    """What a living run has sent is not looked up behind its back."""
    world.fire("006A")
    refused: list[str] = []

    def intrude(_: Sequence[Change]) -> None:
        with pytest.raises(LeaseTaken):
            recover(world.adapter, world.ledger, "crm")
        refused.append("refused")

    world.apply(adapter=flaky(world.adapter, before_write=intrude))

    assert refused == ["refused"]
