"""Before a plan is written: is it the first, or so large that people should look at it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from pipesync.config import Guard
from pipesync.model import JournalEntry, Outcome, Plan

_LOOK = "look at the plan (`pipesync plan`), then write it with `pipesync apply --yes`"
_REMEMBERED = 20
"""Runs that tell what is usual."""


def guarded(plan: Plan, journal: Sequence[JournalEntry], guard: Guard) -> tuple[Plan, tuple[Outcome, ...]]:
    """Return the part of a plan that may be written unasked, and what waits for `--yes`, with the reason."""
    written = [e for e in journal if e.status == "applied" and e.run_kind != "undo"]
    if len(written) < max(guard.first_apply, 1):
        left = guard.first_apply - len(written)  # a first run that died early does not count as a usual one
        return _cut(
            plan, left, f"the first apply to a connection stops after {guard.first_apply} changes: {_LOOK}"
        )
    usual = _usual(written)
    if len(plan.changes) > max(guard.at_least, guard.times_usual * usual):
        size = len(plan.changes)
        why = f"{size:,} changes are far more than the usual {usual:,.0f}: {_LOOK}"
        return _cut(plan, 0, why)
    return plan, ()


def _usual(written: Sequence[JournalEntry]) -> float:
    """Return the median size of the last runs that wrote something."""
    sizes = Counter(e.run for e in written)  # in the order of the journal, so the newest are last
    return median(list(sizes.values())[-_REMEMBERED:])


def _cut(plan: Plan, keep: int, why: str) -> tuple[Plan, tuple[Outcome, ...]]:
    waiting = plan.changes[keep:]
    return plan.model_copy(update={"changes": plan.changes[:keep]}), tuple(
        Outcome(key=c.key, status="skipped", target=c.target, error=why) for c in waiting
    )
