"""The journal for auditors."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

from pipesync.apply import export
from pipesync.config import Guard

if TYPE_CHECKING:
    from tests.apply.conftest import World


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+49 30", "-1"])
def test_every_write_is_exported_and_no_cell_is_a_formula(world: World, text: str) -> None:
    """What, why, when, by which run; a name that looks like a formula stays text in a spreadsheet."""
    world.fire("006A", message=text)
    done = world.apply()

    [row] = csv.DictReader(export(world.ledger.journal("crm")).splitlines())

    assert (row["run"], row["status"], row["action"], row["opportunity_id"]) == (
        done.run,
        "applied",
        "create",
        "006A",
    )
    assert row["reason"] == "'" + text
    assert row["rules"] == "hygiene.close_date_past"
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


def test_a_guarded_apply_writes_what_needs_no_asking(world: World) -> None:
    """The first apply stops after its few; with the guard lifted the rest follows."""
    for i in range(5):
        world.fire(f"006{i}")

    first = world.apply(guard=Guard(first_apply=2))
    rest = world.apply()

    assert (first.applied, len(first.skipped)) == (2, 3)
    assert (rest.applied, len(world.tasks())) == (3, 5)
