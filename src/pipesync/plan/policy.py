"""What may become a task, for whom, and how much of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from pipesync.config import Breaker, Budget, Suppression
from pipesync.model import (
    SEVERITIES,
    Finding,
    JournalEntry,
    Priority,
    RuleCount,
    Severity,
    StandingFinding,
    User,
)
from pipesync.plan.calendars import local_date
from pipesync.rules.format import Task

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")


@dataclass(frozen=True)
class Item:
    """One point of a task's checklist: what a finding asks of one person."""

    rule: str
    opportunity_id: str
    assignee: str | None
    severity: Severity
    amount: Decimal | None
    message: str
    headline: str
    first_seen: datetime
    task: Task
    source: Finding | StandingFinding
    cooldown: timedelta
    """How long it rests after people said no."""
    is_held: bool = False
    """Its finding could not be judged now: the point stays where it stands and makes no task."""

    @property
    def worth(self) -> tuple[int, Decimal]:
        """Sorts the worst and most valuable first, when sorted in reverse."""
        return SEVERITIES.index(self.severity), self.amount or Decimal(0)


# --- For whom -------------------------------------------------------------------------------------------------


def assignee(
    wanted: Literal["owner", "manager", "ops"],
    owner_id: str | None,
    users: Mapping[str, User],
    ops: str | None,
) -> str | None:
    """Return who gets the task: for an owner who left, and for what managers decide, the nearest active manager.

    Nobody is known: `ops`, and where that is not set either, the task stays unassigned. An owner that the CRM does
    not list is taken to be there.
    """
    owner = users.get(owner_id or "")
    if wanted == "owner" and owner_id and (owner is None or owner.is_active):
        return owner_id
    if wanted != "ops" and owner and (found := manager(owner, users)):
        return found
    return ops


def manager(user: User, users: Mapping[str, User]) -> str | None:
    """Return the nearest active person above a user; None where there is none, or where the hierarchy is a circle."""
    seen = {user.id}
    above = user.manager_id
    while above and above not in seen:
        seen.add(above)
        found = users.get(above)
        if found is None:
            return None
        if found.is_active:
            return found.id
        above = found.manager_id
    return None


# --- Whether --------------------------------------------------------------------------------------------------


def suppressed(
    finding: Finding | StandingFinding, suppressions: Iterable[Suppression], today: date
) -> Suppression | None:
    """Return the suppression that holds this finding back today."""
    return next(
        (
            s
            for s in suppressions
            if s.until >= today
            and s.rule in (finding.rule, "*")
            and s.opportunity in (None, finding.subject_id)
            and s.owner in (None, finding.owner_id)
        ),
        None,
    )


def is_baseline(first_seen: datetime, baseline: date | None, zone: ZoneInfo) -> bool:
    """Whether it was there when people began to use pipesync."""
    return baseline is not None and local_date(first_seen, zone) <= baseline


def tripped(
    counts: Mapping[str, RuleCount], before: Mapping[str, RuleCount], breaker: Breaker
) -> frozenset[str]:
    """Return the rules whose findings jumped by more than the breaker's share of the open opportunities.

    A rule is held against its last evaluation in which it did not trip, so that a jump stays one until the rule is
    mended or the limit raised. The first evaluation has nothing to jump from.
    """
    return frozenset(
        rule
        for rule, now in counts.items()
        if rule in before and now.fired - before[rule].fired > breaker.max_percent_of_open / 100 * now.open
    )


# --- How much -------------------------------------------------------------------------------------------------


@dataclass
class Allowance:
    """What is left of the budgets; `take` says None and counts, or why not.

    New tasks are counted by day, and a day on which no opportunity changed brings no new allowance: running twice
    over the same facts is one run. Tasks without an assignee are bounded by the run alone.
    """

    budget: Budget
    open: Counter[str]
    new: Counter[str | None]

    @classmethod
    def left(
        cls,
        budget: Budget,
        open_tasks: Iterable[str | None],
        journal: Sequence[JournalEntry],
        as_of: datetime,
        basis: str,
        zone: ZoneInfo,
    ) -> Allowance:
        today = local_date(as_of, zone)
        new = Counter(
            e.owner_id
            for e in journal
            if e.object == "task"
            and e.action == "create"
            and e.status in ("applied", "intended")
            and e.run_kind != "undo"
            and (e.basis == basis or local_date(e.as_of, zone) == today)
        )
        return cls(budget, Counter(o for o in open_tasks if o is not None), new)

    def take(self, owner: str | None) -> str | None:
        if self.new.total() >= self.budget.writes_per_run:
            return "over the run's budget"
        if owner is not None:
            if self.open[owner] >= self.budget.open_tasks_per_owner:
                return "over the owner's budget of open tasks"
            if self.new[owner] >= self.budget.new_tasks_per_owner_per_run:
                return "over the owner's budget of new tasks"
            self.open[owner] += 1
        self.new[owner] += 1
        return None
