"""What becomes of findings: which tasks are made, changed, ended and left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pipesync.model import Finding, Plan, RuleCount, StandingFinding
from pipesync.plan.facts import Standing

if TYPE_CHECKING:
    from tests.plan.conftest import Bench

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)
PAST, STEP, INACTIVE = "hygiene.close_date_past", "hygiene.no_next_step", "hygiene.owner_inactive"


def actions(made: Plan) -> list[tuple[str, str | None]]:
    return [(c.action, c.opportunity_id) for c in made.changes]


def held(finding: Finding) -> StandingFinding:
    """The finding as the ledger has it, where this run cannot tell whether it still holds."""
    known = {n: v for n, v in finding if n in StandingFinding.model_fields}
    return StandingFinding.model_validate({**known, "last_seen": finding.first_seen})


# --- Making tasks -----------------------------------------------------------------------------------------------


def test_a_finding_becomes_a_task_of_the_owner(bench: Bench) -> None:
    """The task says what to do, why and by when, under a key that names what it is about."""
    made = bench.plan(bench.finding(message="Acme was to close on 1 Nov 2026.", headline="Set a date: Acme"))

    [change] = made.changes
    assert (change.action, change.object, change.owner_id) == ("create", "task", "rep")
    assert change.after["subject"] == "Set a date: Acme"
    assert change.after["body"].startswith("☐ Acme was to close on 1 Nov 2026.\n")
    assert change.after["due"] == "2026-11-25"
    assert (change.reason.kind, change.reason.rules) == ("findings", (PAST,))
    assert change.key.startswith("ps1-")
    assert change.key.endswith("-1")


def test_findings_of_one_opportunity_share_a_task(bench: Bench) -> None:
    """The checklist has all points, the subject is the worst one's, the earliest date and highest priority count."""
    made = bench.plan(
        bench.finding(rule=STEP, severity="low"), bench.finding(severity="high"), bench.finding("006B")
    )

    assert sorted(actions(made)) == [("create", "006A"), ("create", "006B")]
    both = next(c for c in made.changes if c.opportunity_id == "006A")
    assert both.after["subject"] == f"Mend {PAST} (+1)"
    assert [line[:1] for line in both.after["body"].splitlines()[:2]] == ["☐", "☐"]
    assert both.after["body"].index(PAST) < both.after["body"].index(STEP)
    assert both.after["due"] == "2026-11-25"
    assert both.after["priority"] == "high"


def test_what_is_meant_for_managers_goes_to_their_own_task(bench: Bench) -> None:
    """Rep and manager do not share a checklist."""
    made = bench.plan(bench.finding(), bench.finding(rule=INACTIVE))

    assert sorted((c.owner_id, c.reason.rules) for c in made.changes) == [
        ("boss", (INACTIVE,)),
        ("rep", (PAST,)),
    ]
    assert len({c.key for c in made.changes}) == 2


@pytest.mark.parametrize(
    ("managers", "expected"),
    [
        ({"boss": {}}, "boss"),
        ({"boss": {"is_active": False, "manager_id": "chief"}, "chief": {}}, "chief"),
        ({"boss": {"is_active": False, "manager_id": "rep"}}, "office"),
        ({"boss": {"is_active": False}}, "office"),
    ],
    ids=["manager", "manager's manager", "circle", "nobody"],
)
def test_the_owner_who_left_is_replaced(
    bench: Bench, managers: dict[str, dict[str, object]], expected: str
) -> None:
    """The nearest active person above gets the task; where there is none, whoever ops named."""
    bench.configure("tasks: {ops: office}")
    bench.user("rep", is_active=False, manager_id="boss")
    for name, fields in managers.items():
        bench.user(name, **fields)

    made = bench.plan(bench.finding())

    assert [c.owner_id for c in made.changes] == [expected]


def test_data_without_owners_makes_tasks_for_nobody(bench: Bench) -> None:
    """Where nobody owns an opportunity and ops named nobody, its task is unassigned."""
    made = bench.plan(bench.finding(owner_id=None))

    assert [(c.action, c.owner_id) for c in made.changes] == [("create", None)]


def test_an_owner_that_the_crm_does_not_list_is_taken_to_be_there(bench: Bench) -> None:
    """A list of users may be partial; what is not known is not held against anybody."""
    made = bench.plan(bench.finding(owner_id="unlisted"))

    assert [c.owner_id for c in made.changes] == ["unlisted"]


def test_findings_without_an_opportunity_make_no_task(bench: Bench) -> None:
    """A stage has no owner who could be asked."""
    made = bench.plan(bench.finding("Sales/Offer", "bottleneck.stage_bottleneck", level="stage"))

    assert made.changes == ()
    assert len(made.findings) == 1


@pytest.mark.parametrize(
    ("as_of", "first_seen", "user", "calendar", "expected"),
    [
        ("2026-11-23T09:00Z", "2026-11-23T09:00Z", {}, "", "2026-11-25"),
        ("2026-11-26T09:00Z", "2026-11-26T09:00Z", {}, "", "2026-11-30"),
        ("2026-11-26T09:00Z", "2026-11-26T09:00Z", {}, "holidays: [2026-11-30]", "2026-12-01"),
        ("2026-11-26T23:30Z", "2026-11-26T23:30Z", {"timezone": "Asia/Tokyo"}, "", "2026-12-01"),
        ("2026-11-27T09:00Z", "2026-11-02T09:00Z", {}, "", "2026-11-30"),
        ("2026-11-10T09:00Z", "2026-11-10T09:00Z", {"locale": "pl_PL"}, "", "2026-11-13"),
        ("2026-11-10T09:00Z", "2026-11-10T09:00Z", {"locale": "sv_SE"}, "country: PL", "2026-11-12"),
        ("2026-11-10T09:00Z", "2026-11-10T09:00Z", {"locale": "en"}, "country: PL", "2026-11-13"),
        ("2026-11-10T09:00Z", "2026-11-10T09:00Z", {"timezone": "nowhere"}, "", "2026-11-12"),
    ],
    ids=[
        "weekdays", "over the weekend", "over a holiday of the company", "Friday there already",
        "long ago: the next business day", "over a holiday of the owner's country", "not of another country",
        "of the company's country", "a zone that is none",
    ],
)  # fmt: skip
def test_due_dates_are_business_days_of_the_owner(
    bench: Bench, as_of: str, first_seen: str, user: dict[str, str], calendar: str, expected: str
) -> None:
    """Two business days from when it was first seen, where the owner is, and never a date that has passed."""
    bench.configure(f"calendar: {{{calendar}}}")
    bench.user("rep", **user)
    now, seen = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (as_of, first_seen))

    made = bench.plan(bench.finding(first_seen=seen), as_of=now)

    assert made.changes[0].after["due"] == expected


def test_a_text_that_is_too_long_is_cut(bench: Bench) -> None:
    """CRMs refuse longer ones."""
    made = bench.plan(bench.finding(headline="x" * 400, message="y" * 40_000), bench.finding(rule=STEP))

    after = made.changes[0].after
    assert len(after["subject"]) == 255
    assert after["subject"].endswith("… (+1)")
    assert len(after["body"]) == 30_000


def test_a_rule_that_cannot_be_read_closes_none_of_its_tasks(bench: Bench) -> None:
    """A task that lists it is left alone until the rule is mended."""
    bench.carry_out(bench.plan(bench.finding(), bench.finding(rule=STEP)))
    whole = bench.rules
    others = {i: r for i, r in whole.rules.items() if i != PAST}

    bench.rules = replace(whole, rules=others, unreadable=frozenset({PAST}))
    broken = bench.plan(bench.finding(rule=STEP))
    bench.rules = whole
    mended = bench.plan(bench.finding(rule=STEP))

    assert (broken.changes, broken.held_back) == ((), {"a rule of it cannot be read": 1})
    assert [c.action for c in mended.changes] == ["update"]


# --- Quiet ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pulled", [True, False], ids=["pulled again", "not pulled again"])
def test_the_second_plan_is_empty(bench: Bench, pulled: bool) -> None:
    """What was applied is not planned again, whether or not the CRM was read since; nor is it a day later."""
    found = [bench.finding("006A"), bench.finding("006B", INACTIVE), bench.finding("006B", STEP)]
    bench.carry_out(bench.plan(*found), pulled=pulled)

    second, later = bench.plan(*found), bench.plan(*found, as_of=MONDAY + DAY)

    assert (second.changes, later.changes) == ((), ())


def test_the_same_situation_gives_the_same_plan(bench: Bench) -> None:
    """Nothing but the situation decides, not even the order of findings."""
    found = [bench.finding(f"006{i}", amount=Decimal(i)) for i in range(9)]

    first, second = bench.plan(*found), bench.plan(*reversed(found))

    assert first.changes == second.changes
    assert first.id == second.id


def test_a_changed_fact_changes_the_text_and_nothing_else(bench: Bench) -> None:
    """Only the fields that differ are written, and the date stays as promised."""
    bench.carry_out(bench.plan(bench.finding(message="old")))

    made = bench.plan(bench.finding(message="new"), as_of=MONDAY + 3 * DAY)

    [change] = made.changes
    assert change.action == "update"
    assert set(change.before) == set(change.after) == {"body"}
    assert "new" in change.after["body"]


def test_a_new_finding_joins_the_task(bench: Bench) -> None:
    """A second problem of the same opportunity is a line more, not a task more."""
    bench.carry_out(bench.plan(bench.finding(rule=STEP)))

    made = bench.plan(bench.finding(rule=STEP), bench.finding())

    [change] = made.changes
    assert (change.action, change.reason.rules) == ("update", (PAST, STEP))
    bench.carry_out(made)
    assert bench.plan(bench.finding(rule=STEP), bench.finding()).changes == ()


# --- The end of tasks -------------------------------------------------------------------------------------------


def test_what_is_mended_goes_away(bench: Bench) -> None:
    """The task that nobody touched is removed, with what it said kept for an undo."""
    bench.carry_out(bench.plan(bench.finding()))
    text = bench.situation.facts.tasks[0].body

    made = bench.plan()

    [change] = made.changes
    assert (change.action, change.reason.kind) == ("delete", "mended")
    assert (change.before["body"], change.after) == (text, {})
    bench.carry_out(made)
    assert bench.plan().changes == ()


def test_by_choice_what_is_mended_is_completed(bench: Bench) -> None:
    """Some want to see what was done."""
    bench.configure("tasks: {when_mended: complete}")
    bench.carry_out(bench.plan(bench.finding()))

    made = bench.plan()

    assert [(c.action, c.after) for c in made.changes] == [("complete", {"is_done": True})]
    bench.carry_out(made)
    assert bench.plan().changes == ()


def test_what_comes_back_is_a_new_episode(bench: Bench) -> None:
    """A mended problem that returns makes a new task at once, under a new key."""
    bench.carry_out(first := bench.plan(bench.finding()))
    bench.carry_out(bench.plan())

    made = bench.plan(bench.finding(first_seen=MONDAY + DAY), as_of=MONDAY + DAY)

    [change] = made.changes
    assert change.action == "create"
    assert change.key == first.changes[0].key.removesuffix("-1") + "-2"


@pytest.mark.parametrize(
    "edit",
    [{"subject": "Mine now"}, {"body": "My notes"}, {"due": date(2027, 1, 1)}, {"owner_id": "colleague"}],
    ids=["subject", "body", "due", "owner"],
)
def test_an_edited_task_is_left_alone(bench: Bench, edit: dict[str, object]) -> None:
    """What people changed stays theirs; once its points are settled it is completed with a note."""
    bench.carry_out(bench.plan(bench.finding(message="old")))
    bench.edit(bench.situation.facts.tasks[0].key, **edit)

    still, settled = bench.plan(bench.finding(message="new")), bench.plan()

    assert still.changes == ()
    assert still.held_back == {"edited by people, left alone": 1}
    [change] = settled.changes
    assert (change.action, change.after["is_done"]) == ("complete", True)
    assert change.after["body"].startswith(bench.situation.facts.tasks[0].body or "")
    assert "Settled: " in change.after["body"]


def test_white_space_is_no_edit(bench: Bench) -> None:
    """CRMs trim and wrap; that is nobody's opinion."""
    bench.carry_out(bench.plan(bench.finding(message="old")))
    [task] = bench.situation.facts.tasks
    bench.edit(task.key, body=(task.body or "").replace("\n", "\r\n") + " ", subject=f" {task.subject}")

    made = bench.plan(bench.finding(message="new"))

    assert [c.action for c in made.changes] == ["update"]


def test_a_task_that_the_journal_does_not_know_counts_as_edited(bench: Bench) -> None:
    """After the ledger was lost nothing is repeated and nothing is removed."""
    bench.carry_out(bench.plan(bench.finding(message="old")))
    same = bench.plan(bench.finding(message="old"), journal=[])
    changed = bench.plan(bench.finding(message="new"))
    gone = bench.plan()

    assert (same.changes, changed.changes) == ((), ())
    assert [c.action for c in gone.changes] == ["complete"]


@pytest.mark.parametrize("how", ["close", "delete"])
def test_a_no_is_respected_for_the_cooldown(bench: Bench, how: str) -> None:
    """What a rep closed or deleted comes back after seven days, if it still holds, and not before."""
    bench.carry_out(first := bench.plan(bench.finding()))
    key = first.changes[0].key
    if how == "close":
        bench.edit(key, is_done=True, modified_at=MONDAY + DAY)
    else:
        bench.remove(key)
    seen = bench.plan(bench.finding(), as_of=MONDAY + DAY)
    bench.carry_out(seen)

    resting = bench.plan(bench.finding(), as_of=MONDAY + 7 * DAY)
    after = bench.plan(bench.finding(), as_of=MONDAY + 8 * DAY)

    assert [f.ending for f in seen.fates] == ["closed" if how == "close" else "deleted"]
    assert resting.changes == ()
    assert resting.held_back == {"people said no, cooling down": 1}
    assert [(c.action, c.key) for c in after.changes] == [("create", key.removesuffix("-1") + "-2")]


def test_a_no_concerns_what_the_task_said(bench: Bench) -> None:
    """Another problem of the same opportunity may ask for a task meanwhile; the old point stays out of it."""
    bench.carry_out(first := bench.plan(bench.finding()))
    bench.edit(first.changes[0].key, is_done=True, modified_at=MONDAY)

    made = bench.plan(bench.finding(), bench.finding(rule=STEP), as_of=MONDAY + DAY)

    assert [(c.action, c.reason.rules) for c in made.changes] == [("create", (STEP,))]


def test_a_new_owner_gets_a_task_of_their_own(bench: Bench) -> None:
    """The old owner's task goes when the opportunity changes hands."""
    bench.carry_out(bench.plan(bench.finding()))

    made = bench.plan(bench.finding(owner_id="heir"))

    assert sorted((c.action, c.owner_id) for c in made.changes) == [("create", "heir"), ("delete", "rep")]


@pytest.mark.parametrize(
    ("standing", "is_done", "still", "ending"),
    [
        (Standing(True, True, "rep"), False, False, "won"),
        (Standing(True, False, "rep"), False, False, "lost"),
        (Standing(False, False, "rep"), False, False, "mended"),
        (Standing(False, False, "rep"), True, False, "mended"),
        (Standing(False, False, "rep"), True, True, "closed"),
    ],
    ids=["won", "lost", "mended", "mended and closed", "closed without mending"],
)
def test_the_fate_of_a_task_is_told(
    bench: Bench, standing: Standing, is_done: bool, still: bool, ending: str
) -> None:
    """The ledger learns what became of each task, and why."""
    bench.carry_out(first := bench.plan(bench.finding()))
    bench.know(opportunities={"006A": standing})
    if is_done:
        bench.edit(first.changes[0].key, is_done=True)
    else:
        bench.carry_out(bench.plan())

    made = bench.plan(*([bench.finding()] if still else []))

    assert [(f.key, f.ending, f.rules) for f in made.fates] == [(first.changes[0].key, ending, (PAST,))]
    bench.carry_out(made)
    assert bench.plan(*made.findings).fates == ()


# --- Not known --------------------------------------------------------------------------------------------------


def test_unknown_neither_makes_nor_ends_a_task(bench: Bench) -> None:
    """A finding that cannot be judged keeps its task as it is, and asks for none."""
    bench.carry_out(bench.plan(bench.finding()))
    known, unseen = held(bench.finding()), held(bench.finding("006B"))

    made = bench.plan(held=[known, unseen])

    assert made.changes == ()


def test_an_unknown_point_stays_on_the_list(bench: Bench) -> None:
    """One point is settled, the other cannot be judged: the task loses one line and keeps the other."""
    bench.carry_out(bench.plan(bench.finding(), bench.finding(rule=STEP)))

    made = bench.plan(held=[held(bench.finding(rule=STEP))])

    [change] = made.changes
    assert change.action == "update"
    assert STEP in change.after["body"]
    assert PAST not in change.after["body"]


def test_an_unknown_point_does_not_join_a_task(bench: Bench) -> None:
    """What could not be judged when the task was made is not written into it either."""
    unseen = held(bench.finding())
    bench.carry_out(bench.plan(bench.finding(rule=STEP), held=[unseen]))

    made = bench.plan(bench.finding(rule=STEP))

    assert made.changes == ()


def test_a_pull_that_stopped_early_plans_nothing(bench: Bench) -> None:
    """What was not read can neither nag nor close."""
    bench.carry_out(bench.plan(bench.finding()))
    bench.know(behind=("activities",))

    made = bench.plan(bench.finding("006B"))

    assert made.changes == ()
    assert made.held_back == {"activities is not pulled up to date": 1}


def test_where_own_tasks_cannot_be_read_none_are_written(bench: Bench) -> None:
    """Without seeing our tasks nothing about them is certain."""
    bench.know(takes=frozenset({"forecast"}))

    assert bench.plan(bench.finding()).changes == ()


def test_before_writing_is_enabled_nobody_has_to_see_own_tasks(bench: Bench) -> None:
    """A CRM without our fields has no tasks of ours: the plan shows what a first run would write."""
    bench.configure("", write="enabled: false")
    bench.know(takes=frozenset())

    made = bench.plan(bench.finding())

    assert (len(made.changes), made.held_back) == (1, {})


def test_an_unconfirmed_write_keeps_its_thread_waiting(bench: Bench) -> None:
    """Until it is known what became of a request, nothing else is planned about the same task."""
    bench.carry_out(bench.plan(bench.finding()))
    entry = bench.situation.journal[0].model_copy(update={"status": "intended", "settled_at": None})

    made = bench.plan(bench.finding(), bench.finding("006B"), journal=[entry])

    assert actions(made) == [("create", "006B")]
    assert made.held_back["an earlier write is unconfirmed"] == 1


# --- Held back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suppression", "expected"),
    [
        (f"{{rule: {PAST}, opportunity: 006A, until: 2026-12-01, reason: Legal review}}", 0),
        (f"{{rule: {PAST}, owner: rep, until: 2026-12-01, reason: On leave}}", 0),
        ('{rule: "*", opportunity: 006A, until: 2026-11-23, reason: Last day}', 0),
        (f"{{rule: {PAST}, opportunity: 006A, until: 2026-11-22, reason: Is over}}", 1),
        (f"{{rule: {PAST}, opportunity: 006B, until: 2026-12-01, reason: Another}}", 1),
        (f"{{rule: {STEP}, opportunity: 006A, until: 2026-12-01, reason: Another}}", 1),
    ],
    ids=["opportunity", "owner", "every rule, last day", "expired", "other opportunity", "other rule"],
)
def test_suppressions_hold_until_their_last_day(bench: Bench, suppression: str, expected: int) -> None:
    """Ops say which findings rest, until when and why."""
    bench.configure(f"suppressions: [{suppression}]")

    made = bench.plan(bench.finding())

    assert len(made.changes) == expected
    assert made.held_back.get("suppressed", 0) == 1 - expected


def test_suppressing_withdraws_the_task(bench: Bench) -> None:
    """A task for what ops put to rest goes, and says why."""
    bench.carry_out(bench.plan(bench.finding()))
    bench.configure(f"suppressions: [{{rule: {PAST}, until: 2026-12-01, reason: Legal review}}]")

    [change] = bench.plan(bench.finding()).changes

    assert (change.action, change.reason.kind) == ("delete", "withdrawn")
    assert "Legal review" in change.reason.text


def test_what_was_there_before_makes_no_task(bench: Bench) -> None:
    """The baseline: findings from before it count in reports only."""
    bench.configure("baseline: 2026-11-22")

    made = bench.plan(bench.finding(first_seen=MONDAY - DAY), bench.finding("006B"))

    assert actions(made) == [("create", "006B")]
    assert made.held_back == {"from before the baseline": 1}
    assert len(made.findings) == 2


def test_the_breaker_stops_a_rule_that_jumps(bench: Bench) -> None:
    """New findings of a rule that suddenly fires on everything make no tasks, and old ones keep theirs."""
    old = bench.finding("006A")
    bench.carry_out(bench.plan(old))
    fresh = [bench.finding(f"006X{i}", first_seen=MONDAY + DAY) for i in range(4)]
    other = bench.finding("006Y", STEP, first_seen=MONDAY + DAY)

    made = bench.plan(
        old, *fresh, other,
        as_of=MONDAY + DAY,
        counts={PAST: count(5), STEP: count(1)},
        last_counts={PAST: count(1, MONDAY), STEP: count(0, MONDAY)},
    )  # fmt: skip

    assert actions(made) == [("create", "006Y")]
    assert made.held_back == {f"breaker: {PAST}": 4}


def test_the_first_evaluation_has_nothing_to_jump_from(bench: Bench) -> None:
    """A new rule may find as much as it finds."""
    made = bench.plan(*(bench.finding(f"006{i}") for i in range(5)), counts={PAST: count(5)}, last_counts={})

    assert len(made.changes) == 5


def count(fired: int, at: datetime = MONDAY + DAY) -> RuleCount:
    return RuleCount(rule=PAST, as_of=at, fired=fired, clear=0, unknown=0, open=20)


# --- Budgets ----------------------------------------------------------------------------------------------------


def test_the_worst_and_most_valuable_come_first(bench: Bench) -> None:
    """Of more than an owner can see, severity decides, then what is at stake."""
    bench.configure("budget: {new_tasks_per_owner_per_run: 2}")

    made = bench.plan(
        bench.finding("low", severity="low", amount=Decimal(9999)),
        bench.finding("small", severity="high", amount=Decimal(1)),
        bench.finding("big", severity="high", amount=Decimal(2)),
        bench.finding("elsewhere", owner_id="other", severity="low"),
    )

    assert actions(made) == [("create", "big"), ("create", "small"), ("create", "elsewhere")]
    assert made.held_back == {"over the owner's budget of new tasks": 1}


def test_running_twice_over_the_same_facts_is_one_run(bench: Bench) -> None:
    """What the budget held back stays back on the same day, and on any day without news."""
    bench.configure("budget: {new_tasks_per_owner_per_run: 2}")
    found = [bench.finding(f"006{i}") for i in range(5)]
    bench.carry_out(bench.plan(*found))

    again = bench.plan(*found)
    tomorrow = bench.plan(*found, as_of=MONDAY + DAY)
    bench.know(basis="b2")
    with_news = bench.plan(*found)
    same_day = bench.plan(*found, as_of=MONDAY)

    assert [len(p.changes) for p in (again, tomorrow, with_news, same_day)] == [0, 0, 2, 0]


def test_an_owner_never_has_more_open_tasks_than_the_budget(bench: Bench) -> None:
    """Room comes only where tasks went."""
    bench.configure("budget: {open_tasks_per_owner: 2, new_tasks_per_owner_per_run: 9}")
    found = [bench.finding(f"006{i}") for i in range(4)]
    bench.carry_out(bench.plan(*found))
    bench.know(basis="b2")

    full = bench.plan(*found, as_of=MONDAY + DAY)
    room = bench.plan(*found[1:], as_of=MONDAY + DAY)

    assert full.changes == ()
    assert sorted(c.action for c in room.changes) == ["create", "delete"]


def test_tasks_of_nobody_are_bounded_by_the_run(bench: Bench) -> None:
    """A budget per owner means nothing where there are no owners."""
    bench.configure("budget: {new_tasks_per_owner_per_run: 1, writes_per_run: 3}")

    made = bench.plan(*(bench.finding(f"006{i}", owner_id=None) for i in range(5)))

    assert len(made.changes) == 3
    assert made.held_back == {"over the run's budget": 2}
