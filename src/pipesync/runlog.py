"""What a run tells of itself as it goes: events for the log, and the `detail` that its entry in the ledger keeps.

Here is its clock as well, apart from `pipesync.sync`: a command that only tells the time of a run loads no models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pipesync.logs import log
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.adapters.base import Pulled
    from pipesync.apply import Applied
    from pipesync.model import Plan
    from pipesync.rules import Evaluation


def now() -> datetime:
    """The wall clock, for when runs began and ended; nothing is calculated from it."""
    return datetime.now(UTC)


class SetUp(NamedTuple):
    """What the CRM's admins can change under us: which columns are readable, and the stages with their phases."""

    columns: Mapping[str, str]
    stages: Mapping[str, str]


class RunLog:
    """Of one run. `detail` holds counts and names of columns and stages, nothing of customers."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.detail: dict[str, Any] = {}  # Any: JSON
        self._clock, self._since = clock, clock()

    def ends(self, step: str) -> None:
        """Enter how long a step took, from the end of the one before."""
        at = self._clock()
        self.detail.setdefault("seconds", {})[step] = round((at - self._since).total_seconds(), 3)
        self._since = at

    @staticmethod
    def set_up(warehouse: Warehouse, connection: str) -> SetUp:
        stages = warehouse.rows(
            "SELECT pipeline, name, phase FROM stages WHERE connection = ? AND is_active", [connection]
        )
        columns = {f"{c.stream}.{c.column}": c.state for c in warehouse.columns(connection)}
        return SetUp(columns, {f"{pipeline} / {name}": phase for pipeline, name, phase in stages})

    def pulled(
        self, streams: Mapping[str, Pulled], budget: tuple[int, int] | None, before: SetUp, after: SetUp
    ) -> None:
        self.ends("pull")
        self.detail["objects"] = {
            name: {
                "pulled": p.pulled, "changed": p.changed, "deleted": p.deleted, "requests": p.requests,
                "rejected": p.rejected,
            }
            for name, p in streams.items()
        }  # fmt: skip
        for name, one in self.detail["objects"].items():
            log.info("pulled", stream=name, **one)
        for name, stream in streams.items():
            for warning in stream.warnings:
                log.warning("pull is not whole", stream=name, why=warning)
        self._budget(budget)
        self.detail["drift"] = drift(before, after)
        for change in self.detail["drift"]:
            log.warning("the CRM's set-up changed", what=change)

    def planned(self, evaluation: Evaluation, plan: Plan) -> None:
        self.ends("plan")
        unknown = [
            {"rule": r.id, "unknown": r.unknown, "of": r.fired + r.clear + r.unknown, "why": list(r.blame)}
            for r in evaluation.rules
            if r.unknown
        ]
        self.detail |= {
            "findings": len(evaluation.findings),
            "score": round(evaluation.score, 2),
            "changes": len(plan.changes),
            "not_evaluated": unknown,
            "held_back": dict(plan.held_back),
        }
        log.info("checked", findings=len(evaluation.findings), score=self.detail["score"])
        for one in unknown:
            log.warning("a rule could not judge", **one)
        log.info("planned", changes=len(plan.changes), held_back=dict(plan.held_back))

    def applied(self, done: Applied, budget: tuple[int, int] | None) -> None:
        self.ends("apply")
        counts = {"applied": done.applied, "failed": len(done.failed), "skipped": len(done.skipped)}
        self.detail |= counts
        (log.warning if done.failed else log.info)("applied", **counts)
        self._budget(budget)

    def _budget(self, budget: tuple[int, int] | None) -> None:
        if budget:
            self.detail["budget"] = {"used": budget[0], "allowed": budget[1]}
            log.info("requests of the day", **self.detail["budget"])


def drift(before: SetUp, after: SetUp) -> list[str]:
    """Return what changed in the CRM's set-up between two pulls; nothing where there was none before."""
    found = []
    for what, old, new in (("column", before.columns, after.columns), ("stage", before.stages, after.stages)):
        if not old:
            continue
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name), new.get(name)
            if was != now and not (what == "column" and "pending" in (was, now)):
                found.append(f"{what} {name}: {was or 'not there'} -> {now or 'gone'}")
    return found
