"""A task offers the right next step: what its opportunity's playbook says, in the assignee's language."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipesync.plan.facts import Standing
from pipesync.rules.playbooks import Advice

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
STEP = "hygiene.no_next_step"


def advice(bench: Bench, *steps: str) -> dict[str, dict[str, Advice]]:
    phase = bench.rules.playbooks["new_business"].phases["middle"]
    return {"006A": {"new_business": Advice("new_business", steps, phase, {"name": "Acme"})}}


def test_a_task_says_what_comes_next(bench: Bench) -> None:
    """Below its points: the next step, what gets in the way, what to send to whom, and a draft that the rep sends."""
    bench.know(opportunities={"006A": Standing(False, False, "rep", {"pipeline": "Sales"})})

    [change] = bench.plan(bench.finding(), advice=advice(bench, "Bring in a second person")).changes

    assert change.after["body"].splitlines()[:9] == [
        "☐ 006A: hygiene.close_date_past",
        "",
        "Next step: Bring in a second person",
        "What often gets in the way: One contact alone carries the decision, and goes on holiday.",
        "Worth sending: The business case, with their own figures (for whoever decides)",
        "",
        "A draft for you to send: Who else should be in the room",
        "  To make this easy for you inside your company: who else has to agree, and what do they look at first?",
        "  I am glad to prepare a page for each of them.",
    ]


def test_it_speaks_the_assignees_language(bench: Bench) -> None:
    """The playbook is translated like the rest of the task."""
    bench.user("rep", locale="sv_SE")

    [change] = bench.plan(bench.finding(), advice=advice(bench, "Bring in a second person")).changes

    assert "Nästa steg: Ta in en andra person" in change.after["body"]
    assert "till den som beslutar" in change.after["body"]


def test_a_step_that_was_taken_changes_the_text_once(bench: Bench) -> None:
    """The next one stands there then, and the plan after that is empty."""
    both = ("Bring in a second person", "Put an amount on it that the customer has seen")
    bench.carry_out(bench.plan(bench.finding(), advice=advice(bench, *both)))

    made = bench.plan(bench.finding(), advice=advice(bench, both[1]))
    bench.carry_out(made)

    assert [(c.action, sorted(c.after)) for c in made.changes] == [("update", ["body"])]
    assert f"Next step: {both[1]}" in made.changes[0].after["body"]
    assert bench.plan(bench.finding()).changes == ()


def test_without_advice_there_is_none(bench: Bench) -> None:
    """A phase that no playbook has leaves the task as it was."""
    [change] = bench.plan(bench.finding()).changes

    assert "Next step" not in change.after["body"]


def test_a_step_that_cannot_be_judged_changes_no_text(bench: Bench) -> None:
    """When contacts cannot be read any more, tasks stay as they are; a point that changes is written all the same."""
    bench.carry_out(bench.plan(bench.finding(), advice=advice(bench, "Bring in a second person")))
    [known] = bench.situation.advice["006A"].values()
    partial = {"006A": {"new_business": replace(known, steps=(), is_partial=True)}}

    unsure = bench.plan(bench.finding(), advice=partial)
    phaseless = bench.plan(bench.finding(), advice={}, is_advice_known=False)
    changed = bench.plan(bench.finding(message="006A: moved"), advice=partial, is_advice_known=True)

    assert (unsure.changes, phaseless.changes) == ((), ())
    assert [sorted(c.after) for c in changed.changes] == [["body"]]
    assert bench.plan(bench.finding(), advice={}, is_advice_known=True).changes != ()
