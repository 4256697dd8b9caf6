"""Taking a run back: what is ours is as before, and what people touched is left and told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pipesync.apply import undo
from pipesync.errors import InputError, RetryLater
from pipesync.model import PeriodForecast

if TYPE_CHECKING:
    from tests.apply.conftest import Flaky, World, Worlds

Foretell = Callable[..., PeriodForecast]


@pytest.mark.parametrize("when_mended", ["delete", "complete"])
def test_everything_is_as_before(worlds: Worlds, foretell: Foretell, when_mended: str) -> None:
    """A run that created, changed and ended tasks and moved a forecast is taken back whole."""
    world = worlds(f"tasks: {{when_mended: {when_mended}}}")
    world.fire("006A", message="old")
    world.fire("006B")
    world.forecasts = [foretell()]
    world.sync()
    before = world.snapshot()
    world.fire("006A", message="new")
    world.clear("006B")
    world.fire("006C")
    world.basis, world.forecasts = "b2", [foretell(p50=Decimal(200)), foretell(scope="owner", scope_id="rep")]
    done = world.sync()
    assert world.snapshot() != before

    taken = undo(done.run, world.adapter, world.ledger)

    assert (taken.applied, taken.failed, taken.skipped) == (done.applied, [], [])
    assert world.snapshot() == before
    assert world.ledger.run(taken.run).kind == "undo"


def test_a_run_that_was_cut_off_is_taken_back_too(
    world: World, flaky: type[Flaky], foretell: Foretell
) -> None:
    """What arrived without an answer is found and removed."""
    for c in "ABC":
        world.fire(f"006{c}")
    with pytest.raises(RetryLater):
        world.apply(adapter=flaky(world.adapter, lose=("answer", 1)))
    assert len(world.snapshot()) == 2

    undo(world.ledger.runs("crm")[0].id, world.adapter, world.ledger)

    assert world.snapshot() == {}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"body": "My notes"}, "people changed it since"),
        ({"is_done": "true"}, "people changed it since"),
        (None, "it is not there any more"),
    ],
    ids=["edited", "closed", "deleted"],
)
def test_what_people_touched_stays_as_they_left_it(
    world: World, edit: dict[str, str] | None, said: str
) -> None:
    """Undo reports what it left, and why."""
    world.fire("006A")
    world.fire("006B")
    done = world.sync()
    key = world.key_of("006A")
    if edit:
        world.edit(key, **edit)
    else:
        world.remove(key)
    before = world.snapshot()

    taken = undo(done.run, world.adapter, world.ledger)

    assert (taken.applied, [(o.key, o.error) for o in taken.skipped]) == (1, [(key, said)])
    del before[world_key(before, "006B")]
    assert world.snapshot() == before


def world_key(snapshot: dict[str, str], opportunity: str) -> str:
    return next(k for k, text in snapshot.items() if f'"{opportunity}"' in text)


def test_what_a_later_run_wrote_stays(world: World) -> None:
    """The older of two runs cannot be taken back through the newer one."""
    world.fire("006A", message="old")
    first = world.sync()
    world.fire("006A", message="new")
    second = world.sync()
    before = world.snapshot()

    taken = undo(first.run, world.adapter, world.ledger)

    assert [o.error for o in taken.skipped] == [f"run {second.run} wrote to it since"]
    assert world.snapshot() == before


def test_what_was_taken_back_rests(world: World) -> None:
    """The next plans do not repeat it at once; after the cooldown what still holds is asked for again."""
    world.fire("006A")
    done = world.sync()
    undo(done.run, world.adapter, world.ledger)
    world.pull()

    now = world.plan()
    world.as_of += timedelta(days=7)
    later = world.plan()

    assert now.changes == ()
    assert [c.action for c in later.changes] == ["create"]


def test_undo_can_be_repeated(world: World) -> None:
    """A second time finds nothing left to take back."""
    world.fire("006A")
    done = world.sync()
    first = undo(done.run, world.adapter, world.ledger)

    second = undo(done.run, world.adapter, world.ledger)

    assert second.applied == 0
    assert [o.error for o in second.skipped] == [f"run {first.run} wrote to it since"]


def test_an_unknown_run_is_said(world: World) -> None:
    """A mistyped id writes nothing."""
    with pytest.raises(InputError, match="no run 'nope'"):
        undo("nope", world.adapter, world.ledger)
