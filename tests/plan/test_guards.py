"""What people are to look at before it is written, and what the ledger tells of rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pipesync.config import Guard
from pipesync.model import StandingFinding
from pipesync.plan import effects
from pipesync.plan.guards import guarded

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)
PAST, COMMIT = "hygiene.close_date_past", "hygiene.stale_commit"


def test_the_first_apply_stops_early(bench: Bench) -> None:
    """A connection that nothing was written to gets the worst few; the rest waits for --yes."""
    made = bench.plan(*(bench.finding(f"006{i}") for i in range(8)))

    part, waiting = guarded(made, [], Guard(first_apply=3))

    assert part.changes == made.changes[:3]
    assert [o.key for o in waiting] == [c.key for c in made.changes[3:]]
    assert "--yes" in waiting[0].error


def test_a_first_apply_that_died_early_is_still_the_first(bench: Bench) -> None:
    """What is left of its few may be written; two writes are no usual size of a plan."""
    bench.carry_out(bench.plan(bench.finding("A"), bench.finding("B")))
    made = bench.plan(bench.finding("A"), bench.finding("B"), *(bench.finding(f"006{i}") for i in range(6)))

    part, waiting = guarded(made, bench.situation.journal, Guard(first_apply=5, at_least=1))

    assert (len(made.changes), len(part.changes), len(waiting)) == (6, 3, 3)


@pytest.mark.parametrize(
    ("size", "expected"), [(3, 3), (8, 8), (9, 0)], ids=["usual", "large", "far too large"]
)
def test_a_plan_far_larger_than_usual_is_not_written(bench: Bench, size: int, expected: int) -> None:
    """What is usual is the median of the last runs."""
    bench.configure("budget: {open_tasks_per_owner: 99, new_tasks_per_owner_per_run: 99}")
    bench.carry_out(bench.plan(bench.finding("A"), bench.finding("B")))
    bench.know(basis="b2")
    found = [bench.finding("A"), bench.finding("B"), *(bench.finding(f"006{i}") for i in range(size))]
    made = bench.plan(*found, as_of=MONDAY + DAY)

    part, waiting = guarded(made, bench.situation.journal, Guard(first_apply=0, at_least=4, times_usual=4))

    assert len(made.changes) == size
    assert (len(part.changes), len(waiting)) == (expected, size - expected)


def test_small_plans_are_never_unusual(bench: Bench) -> None:
    """Ten changes after a week of one a day need no meeting."""
    bench.carry_out(bench.plan(bench.finding("A")))
    made = bench.plan(*(bench.finding(f"006{i}") for i in range(5)))

    part, waiting = guarded(made, bench.situation.journal, Guard(first_apply=0, at_least=100, times_usual=2))

    assert (part, waiting) == (made, ())


@pytest.mark.parametrize(
    ("days", "put_off", "expected"),
    [(2, False, []), (3, False, ["boss"]), (3, True, [])],
    ids=["too early", "three business days", "put off by the rep"],
)
def test_what_nobody_settles_goes_to_the_manager_as_well(
    bench: Bench, days: int, put_off: bool, expected: list[str]
) -> None:
    """After the rule's days the manager gets a task of their own, unless the rep moved the date ahead."""
    bench.carry_out(first := bench.plan(bench.finding(rule=COMMIT)))
    if put_off:
        bench.edit(first.changes[0].key, due=(MONDAY + 30 * DAY).date())

    made = bench.plan(bench.finding(rule=COMMIT), as_of=MONDAY + days * DAY)

    assert [c.owner_id for c in made.changes] == expected
    bench.carry_out(made)
    assert bench.plan(bench.finding(rule=COMMIT)).changes == ()
    bench.know(opportunities={})
    assert {c.action for c in bench.plan().changes} <= {"delete", "complete"}


def test_the_effect_of_a_rule_is_counted(bench: Bench) -> None:
    """How often it fired, what became of its tasks, and how long mending took."""
    bench.carry_out(bench.plan(bench.finding("A"), bench.finding("B"), bench.finding("C")))
    closed = next(c.key for c in bench.plan().changes if c.opportunity_id == "B")
    bench.edit(closed, is_done=True)
    bench.carry_out(bench.plan(bench.finding("B"), bench.finding("C")))
    made = bench.plan(bench.finding("B"), bench.finding("C"))
    bench.carry_out(made)
    episodes = [
        StandingFinding(
            rule=PAST, subject_id=s, severity="high", first_seen=MONDAY, last_seen=MONDAY, resolved_at=end
        )
        for s, end in (("A", MONDAY + 2 * DAY), ("B", None), ("C", None))
    ]

    found = effects(episodes, bench.situation.journal, bench.situation.fates)[PAST]

    assert (found.episodes, found.open, found.days_to_mend) == (3, 2, 2.0)
    assert (found.tasks, found.mended, found.refused, found.acted_on) == (3, 1, 1, 0.5)


def test_what_is_ignored_and_what_came_of_it_is_counted(bench: Bench) -> None:
    """A task still open after its date was ignored; of what the rule fired on, the lost are set against the decided."""
    bench.carry_out(bench.plan(bench.finding("A"), bench.finding("B")))
    due = max(t.due for t in bench.tasks.values() if t.due)
    episodes = [
        StandingFinding(
            connection="crm", rule=PAST, subject_id=s, severity="high", first_seen=MONDAY, last_seen=MONDAY
        )
        for s in "ABCD"
    ]
    outcomes = {("crm", "B"): False, ("crm", "C"): False, ("crm", "D"): True, ("crm", "E"): True}

    on_time = effects(episodes, bench.situation.journal, (), outcomes=outcomes, today=due)[PAST]
    late = effects(episodes, bench.situation.journal, (), outcomes=outcomes, today=due + DAY)[PAST]

    assert (on_time.ignored, on_time.acted_on) == (0, None)
    assert (late.ignored, late.acted_on) == (2, 0.0)
    assert (late.decided, late.decided_lost, late.foretold) == (3, 2, 2 / 3)
