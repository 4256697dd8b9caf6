"""A rep puts a task off from within the CRM, with a day and a reason; it comes back when that day is past."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pipesync.plan.snoozes import Snooze, snooze

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)
PAST, STEP = "hygiene.close_date_past", "hygiene.no_next_step"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("snooze 14d: customer on holiday", ("2026-12-07", "customer on holiday")),
        ("Snooze 2w, legal review", ("2026-12-07", "legal review")),
        ("SNOOZE until 2026-12-01 - budget round", ("2026-12-01", "budget round")),
        ("  > snooze: 3 d", ("2026-11-26", "")),
        ("snooze 2027-12-31: next year", ("2027-02-21", "next year")),
        ("snooze 2026-02-31: no such day", None),
        ("snooze later", None),
        ("please snooze 14d: not at the start of a line", None),
        ("To put it off, write in a line of its own here: snooze 14d, and why.", None),
        ("", None),
    ],
)
def test_a_line_puts_off(line: str, expected: tuple[str, str] | None) -> None:
    """A span counts from the day it was written, no longer than allowed; our own hint is no such line."""
    found = snooze(f"☐ a point\n{line}\nmore", date(2026, 11, 23), timedelta(days=90))

    assert found == (Snooze(date.fromisoformat(expected[0]), expected[1]) if expected else None)


def test_a_task_that_was_put_off_goes_and_comes_back(bench: Bench) -> None:
    """It is completed with a note, rests through its last day whatever plans are made, and is asked for again then."""
    bench.carry_out(first := bench.plan(bench.finding()))
    key = first.changes[0].key
    bench.edit(key, body=f"{bench.tasks[key].body}\nsnooze 10d: waiting for legal", modified_at=MONDAY)

    away = bench.plan(bench.finding(), as_of=MONDAY + DAY)
    bench.carry_out(away)
    later = [bench.plan(bench.finding(), as_of=MONDAY + days * DAY) for days in (1, 2, 10, 11)]

    [change] = away.changes
    assert (change.action, change.reason.text) == ("complete", "put off until 2026-12-03: waiting for legal")
    assert change.after["body"].endswith("Put off until 2026-12-03: waiting for legal.")
    assert [[c.action for c in made.changes] for made in later] == [[], [], [], ["create"]]
    assert later[0].held_back == {"put off by people": 1}
    assert [(f.ending, f.rests_until, f.note) for f in bench.situation.fates] == [
        ("snoozed", date(2026, 12, 3), "waiting for legal")
    ]


def test_what_came_up_since_is_asked_for_at_once(bench: Bench) -> None:
    """A new point was not put off: one plan puts the old task away and makes a new one, and the second is empty."""
    bench.carry_out(first := bench.plan(bench.finding()))
    bench.edit(first.changes[0].key, body="snooze 10d: waiting", modified_at=MONDAY)
    both = (bench.finding(), bench.finding(rule=STEP))

    made = bench.plan(*both, as_of=MONDAY + DAY)
    bench.carry_out(made)

    assert {c.action: c.reason.rules for c in made.changes} == {"create": (STEP,), "complete": (PAST,)}
    assert bench.plan(*both).changes == ()


@pytest.mark.parametrize(("days", "expected"), [(2, []), (3, ["create"])])
def test_closing_with_a_day_means_that_day(bench: Bench, days: int, expected: list[str]) -> None:
    """Who closes a task and names a day is asked again after it, not after the cooldown."""
    bench.carry_out(first := bench.plan(bench.finding()))
    bench.edit(first.changes[0].key, body="snooze 2d: call on Thursday", is_done=True, modified_at=MONDAY)
    bench.carry_out(bench.plan(bench.finding(), as_of=MONDAY + DAY))

    made = bench.plan(bench.finding(), as_of=MONDAY + days * DAY)

    assert [c.action for c in made.changes] == expected


def test_what_was_put_off_is_not_escalated(bench: Bench) -> None:
    """The manager hears of it when the rep's day is past and it still holds."""
    commit = bench.finding(rule="hygiene.stale_commit")
    bench.carry_out(first := bench.plan(commit))
    bench.edit(first.changes[0].key, body="snooze 20d: signed next month", modified_at=MONDAY)

    made = bench.plan(commit, as_of=MONDAY + 7 * DAY)

    assert [(c.action, c.owner_id) for c in made.changes] == [("complete", "rep")]
