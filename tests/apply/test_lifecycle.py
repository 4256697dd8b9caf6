"""The life of tasks as a state machine: findings come and go, people do what they like, pulls and runs fail.

After every step the promises of careful writing are checked against the CRM's own rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipesync.apply import recover
from pipesync.config import Suppression
from pipesync.errors import RetryLater

if TYPE_CHECKING:
    from tests.apply.conftest import Flaky, World, Worlds

PAST, STEP = "hygiene.close_date_past", "hygiene.no_next_step"
OPPORTUNITIES = ("006A", "006B", "006C")
SUBJECTS = st.tuples(st.sampled_from((PAST, STEP)), st.sampled_from(OPPORTUNITIES))
COOLDOWN = timedelta(days=7)


def _listed(row: dict[str, str]) -> list[str]:
    """Return the rules that a task's text speaks of."""
    return [name for name in (PAST, STEP) if name in row["body"]]


class TaskLife(RuleBasedStateMachine):
    """What people and pipesync do to three opportunities. Subclassed by the test, which gives it a world."""

    worlds: Worlds
    flaky: type[Flaky]

    @initialize()
    def begin(self) -> None:
        self.world: World = self.worlds()
        self.theirs: dict[str, dict[str, str]] = {}
        """Rows as people left them, by key: nobody but them may change what they say."""
        self.refused: dict[tuple[str, str, str], datetime] = {}
        """Rule, opportunity and assignee of what people closed or deleted, and as of when."""
        self.put_off: dict[tuple[str, str, str], date] = {}
        """The same of what people put off, and the last day of its rest."""
        self.is_quiet = False
        """The last thing that happened was a whole run."""

    # --- The world turns ------------------------------------------------------------------------------------------

    @rule(subject=SUBJECTS, message=st.sampled_from(("old", "new")))
    def fires(self, subject: tuple[str, str], message: str) -> None:
        known = self.world.findings.get(subject)
        first_seen = known.first_seen if known else self.world.as_of
        self.world.fire(subject[1], subject[0], message=f"{subject}: {message}", first_seen=first_seen)
        self.is_quiet = False

    @rule(subject=SUBJECTS)
    def clears(self, subject: tuple[str, str]) -> None:
        self.world.findings.pop(subject, None)
        self.world.unknown.discard(subject)
        self.is_quiet = False

    @rule(subject=SUBJECTS)
    def becomes_unknown(self, subject: tuple[str, str]) -> None:
        if subject in self.world.findings:
            self.world.unknown.add(subject)
            self.is_quiet = False

    @rule()
    def everything_is_known(self) -> None:
        self.is_quiet = self.is_quiet and not self.world.unknown
        self.world.unknown.clear()

    @rule(opportunity=st.sampled_from(OPPORTUNITIES), owner=st.sampled_from(("rep", "colleague")))
    def changes_hands(self, opportunity: str, owner: str) -> None:
        for (name, subject), finding in list(self.world.findings.items()):
            if subject == opportunity:
                self.world.findings[name, subject] = finding.model_copy(update={"owner_id": owner})
        self.is_quiet = False

    @rule(days=st.integers(1, 8))
    def time_passes(self, days: int) -> None:
        """A day alone makes no work; the end of a cooldown may."""
        self.world.as_of += timedelta(days=days)
        if self.refused or self.put_off or self.world.suppressions:
            self.is_quiet = False

    @rule(is_back=st.booleans())
    def a_rep_leaves_or_comes_back(self, is_back: bool) -> None:
        """Who left is replaced by the manager."""
        self.world.inactive = set() if is_back else {"rep"}
        self.is_quiet = False

    @rule(name=st.sampled_from((PAST, STEP)))
    def a_rule_is_switched(self, name: str) -> None:
        """Ops switch a rule off, or on again."""
        self.world.off ^= {name}
        self.is_quiet = False

    @rule(subject=SUBJECTS, days=st.integers(0, 10))
    def ops_suppress(self, subject: tuple[str, str], days: int) -> None:
        until = self.world.as_of.date() + timedelta(days=days)
        told = Suppression(rule=subject[0], opportunity=subject[1], until=until, reason="ops know why")
        self.world.suppressions.append(told)
        self.is_quiet = False

    # --- People ---------------------------------------------------------------------------------------------------

    def _open(self) -> list[str]:
        return sorted(k for k, row in self.world.tasks().items() if row["is_done"] == "false")

    def _said_no(self, key: str) -> None:
        row = self.world.tasks()[key]
        for name in _listed(row):
            self.refused[name, row["opportunity_id"], row["owner_id"]] = self.world.as_of
        self.is_quiet = False

    @precondition(lambda self: self._open())
    @rule(data=st.data(), field=st.sampled_from(("subject", "body", "priority")))
    def a_rep_edits(self, data: st.DataObject, field: str) -> None:
        key = data.draw(st.sampled_from(self._open()))
        row = self.world.tasks()[key]
        values = {
            "subject": f"{row['subject']}!",
            "body": f"{row['body']} (I will call on Friday)",
            "priority": "normal",  # which neither rule gives
        }
        self.world.edit(key, **{field: values[field]})
        self.theirs[key] = self.world.tasks()[key]
        self.is_quiet = False

    @precondition(lambda self: self._open())
    @rule(data=st.data(), days=st.integers(1, 12), is_done=st.booleans())
    def a_rep_snoozes(self, data: st.DataObject, days: int, is_done: bool) -> None:
        """A line in the task's text, in a task that is left open or closed."""
        key = data.draw(st.sampled_from(self._open()))
        row = self.world.tasks()[key]
        until = self.world.as_of.date() + timedelta(days=days)
        for name in _listed(row):
            self.put_off[name, row["opportunity_id"], row["owner_id"]] = until
        body = f"{row['body']}\nsnooze {until}: on holiday"
        moment = self.world.as_of.isoformat()
        self.world.edit(key, body=body, modified_at=moment, is_done="true" if is_done else "false")
        self.theirs[key] = self.world.tasks()[key]
        self.is_quiet = False

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def a_rep_closes(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._open()))
        self._said_no(key)
        self.world.edit(key, is_done="true", modified_at=self.world.as_of.isoformat())
        self.theirs[key] = self.world.tasks()[key]

    @precondition(lambda self: self._open())
    @rule(data=st.data())
    def a_rep_deletes(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._open()))
        if key not in {e.key for e in self.world.ledger.unconfirmed("crm")}:
            self._said_no(key)  # else nobody can tell the deletion from a request that never arrived
        self.is_quiet = False
        self.world.remove(key)
        self.theirs.pop(key, None)

    # --- Pipesync -------------------------------------------------------------------------------------------------

    @rule()
    def a_run(self) -> None:
        self._run(None)
        self.is_quiet = True

    @rule(lost=st.sampled_from(("answer", "request")), after=st.integers(0, 3))
    def a_run_is_cut_off(self, lost: str, after: int) -> None:
        try:
            self._run((lost, after))
        except RetryLater:
            self.is_quiet = False

    @rule()
    def a_pull_stops_half_way(self) -> None:
        """A run whose pull did not reach what the rules read plans nothing, and nothing is written."""
        if self.world.ledger.unconfirmed("crm"):
            return
        before = self.world.tasks()
        self.world.behind = ("activities",)
        self.world.pull()
        made = self.world.plan()
        self.world.apply(made)
        self.world.behind = ()
        self.world.pull()
        assert made.changes == ()
        assert self.world.tasks() == before

    @rule()
    def nothing_is_pulled(self) -> None:
        """A run over old facts: its plan is applied to a CRM that has moved on."""
        if not self.world.ledger.unconfirmed("crm"):
            self._watched(lambda: self.world.apply())
            self.is_quiet = False

    def _run(self, lose: tuple[str, int] | None) -> None:
        recover(self.world.adapter, self.world.ledger, "crm")
        self.world.pull()
        adapter = self.flaky(self.world.adapter, lose=lose)
        self._watched(lambda: self.world.apply(adapter=adapter))

    def _watched(self, work: Callable[[], Any]) -> None:  # Any: nobody reads it
        """Run, and see that nothing was ended, made or repeated without a reason."""
        before = self.world.tasks()
        try:
            work()
        finally:
            after = self.world.tasks()
            for key, row in before.items():
                if row["is_done"] == "false" and self._is_unknown(row):
                    assert after.get(key, {}).get("is_done") == "false", "what could not be judged was ended"
            for key in after.keys() - before.keys():
                self._check_new(after[key])

    def _is_unknown(self, row: dict[str, str]) -> bool:
        """Whether the task lists a finding of its assignee that cannot be judged now, and that nothing puts to rest."""
        subjects = {(name, row["opportunity_id"]) for name in _listed(row)} & self.world.unknown
        return any(
            self._assignee(s) == row["owner_id"] and not self._rests(s, row["owner_id"]) for s in subjects
        )

    def _assignee(self, subject: tuple[str, str]) -> str | None:
        owner = self.world.findings[subject].owner_id
        return "boss" if owner in self.world.inactive else owner

    def _rests(self, subject: tuple[str, str], owner: str) -> bool:
        """Whether a rule is off, or ops or the assignee put its finding to rest."""
        today = self.world.as_of.date()
        suppressed = any(
            (s.rule, s.opportunity) == subject and s.until >= today for s in self.world.suppressions
        )
        put_off = self.put_off.get((*subject, owner))
        return subject[0] in self.world.off or suppressed or (put_off is not None and put_off >= today)

    def _check_new(self, row: dict[str, str]) -> None:
        for name in _listed(row):
            subject = (name, row["opportunity_id"])
            assert subject in self.world.findings, "a task for what is not found"
            assert subject not in self.world.unknown, "a task for what cannot be judged"
            assert not self._rests(subject, row["owner_id"]), "a task for what was put to rest"
            refused = self.refused.get((*subject, row["owner_id"]))
            assert refused is None or self.world.as_of >= refused + COOLDOWN, "a no was not respected"

    # --- Promises -------------------------------------------------------------------------------------------------

    @invariant()
    def one_open_task_each(self) -> None:
        """Per opportunity and assignee never more than one open task of ours."""
        if not hasattr(self, "world"):
            return
        rows = [r for r in self.world.tasks().values() if r["is_done"] == "false"]
        assert max(Counter((r["opportunity_id"], r["owner_id"]) for r in rows).values(), default=1) == 1

    @invariant()
    def what_people_wrote_stays(self) -> None:
        """Their subject and priority are as they left them, and their text is at most added to."""
        if not hasattr(self, "world"):
            return
        rows = self.world.tasks()
        for key, theirs in self.theirs.items():
            assert key in rows, "a task that people touched was removed"
            assert (rows[key]["subject"], rows[key]["priority"]) == (theirs["subject"], theirs["priority"])
            assert rows[key]["body"].startswith(theirs["body"])

    @invariant()
    def a_second_plan_is_empty(self) -> None:
        """After a whole run there is nothing left to do, whether or not the CRM is read again."""
        if getattr(self, "is_quiet", False):
            assert self.world.plan().changes == ()
            self.world.pull()
            assert self.world.plan().changes == ()

    @invariant()
    def what_was_put_off_is_out_of_the_way(self) -> None:
        """After a whole run no task stands open whose every point its assignee put off."""
        if not getattr(self, "is_quiet", False):
            return
        for row in self.world.tasks().values():
            subjects = [(name, row["opportunity_id"]) for name in _listed(row)]
            today = self.world.as_of.date()
            resting = [self.put_off.get((*s, row["owner_id"])) for s in subjects]
            if row["is_done"] == "false" and subjects:
                assert not all(until and until >= today for until in resting)


CAMPAIGN = [pytest.param(200, piece, marks=pytest.mark.campaign) for piece in range(5)]


@pytest.mark.parametrize(("examples", "piece"), [pytest.param(15, 0), *CAMPAIGN])
def test_the_promises_hold_whatever_happens(
    worlds: Worlds, flaky: type[Flaky], examples: int, piece: int
) -> None:
    """Any order of findings, people, time and faults keeps every promise; the campaign goes in pieces."""
    machine = type("Life", (TaskLife,), {"worlds": staticmethod(worlds), "flaky": flaky})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate,),  # shrinking a failure of this machine takes minutes
        ),
    )
