"""A bench for plans: findings and the CRM's state as values, and what an apply would make of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipesync import plan, rules
from pipesync.config import Config, from_text
from pipesync.model import Change, Finding, JournalEntry, OwnForecast, OwnTask, Plan, User
from pipesync.plan.facts import Facts
from pipesync.plan.situation import Situation

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
PAST = "hygiene.close_date_past"

_BASE = """
mode: enforce
connections:
  crm: {adapter: files, write: {WRITE}}
"""
_WRITE = "enabled: true, tasks: true, forecasts: true"


@dataclass
class Bench:
    """One connection. `carry_out` does to it what apply does to a CRM and to the journal."""

    rules: rules.RuleSet
    config: Config
    situation: Situation
    tasks: dict[str, OwnTask] = field(default_factory=dict)
    """What the CRM holds; what of it was pulled stands in the situation."""
    forecasts: dict[str, OwnForecast] = field(default_factory=dict)
    carried: int = 0

    def configure(self, text: str, write: str = _WRITE) -> None:
        self.config = from_text(_BASE.replace("WRITE", write) + text, Path())

    def finding(self, opportunity: str = "006A", rule: str = PAST, **more: Any) -> Finding:  # Any: fields
        given = {
            "severity": "medium", "owner_id": "rep", "message": f"{opportunity}: {rule}", "headline": f"Mend {rule}",
            "amount": Decimal(1000), "first_seen": MONDAY,
        }  # fmt: skip
        return Finding.model_validate(
            {"connection": "crm", "rule": rule, "subject_id": opportunity, **given, **more}
        )

    def user(self, name: str, **more: Any) -> None:  # Any: fields
        users = {**self.situation.facts.users, name: User(connection="crm", id=name, **more)}
        self.know(users=users)

    def know(self, **facts: Any) -> None:  # Any: fields of Facts
        self.situation = replace(self.situation, facts=replace(self.situation.facts, **facts))

    def plan(self, *findings: Finding, **more: Any) -> Plan:  # Any: fields of Situation
        """Plan with these findings in force; what else is given changes the situation for good."""
        self.situation = replace(self.situation, findings=findings, **more)
        return plan.make(self.situation, self.config, self.rules)

    def carry_out(self, made: Plan, *, run_kind: str = "apply", pulled: bool = True) -> None:
        """Apply a plan; with `pulled` the CRM is read again afterwards."""
        entries = list(self.situation.journal)
        for change in made.changes:
            self.carried += 1
            entries.append(_entry(change, self.carried, made, run_kind))
            if change.object != "opportunity":
                _write(change, self.tasks if change.object == "task" else self.forecasts)
        self.situation = replace(self.situation, journal=entries, fates=[*self.situation.fates, *made.fates])
        if pulled:
            self.pull()

    def pull(self) -> None:
        self.know(
            tasks=tuple(self.tasks.values()),
            forecasts=tuple(self.forecasts.values()),
            pulled_at=MONDAY + timedelta(seconds=self.carried),
            forecasts_pulled_at=MONDAY + timedelta(seconds=self.carried),
        )

    def edit(self, key: str, **values: Any) -> None:  # Any: fields
        """Change a task as a person would."""
        self.tasks[key] = self.tasks[key].model_copy(update=values)
        self.pull()

    def remove(self, key: str) -> None:
        del self.tasks[key]
        self.pull()


def _entry(change: Change, seq: int, made: Plan, run_kind: str) -> JournalEntry:
    return JournalEntry.model_validate(
        {n: v for n, v in change if n in JournalEntry.model_fields}
        | {
            "seq": seq, "run": "run", "run_kind": run_kind, "target": change.key, "as_of": made.as_of,
            "basis": made.basis, "status": "applied", "intended_at": MONDAY,
            "settled_at": MONDAY + timedelta(seconds=seq),
        }
    )  # fmt: skip


def _write(change: Change, held: dict[str, Any]) -> None:  # Any: own records
    kind = OwnTask if change.object == "task" else OwnForecast
    if change.action == "delete":
        held.pop(change.key, None)
        return
    known = dict(held[change.key]) if change.key in held else {"id": change.key, "key": change.key}
    if change.object == "task" and change.action == "create":
        known |= {"opportunity_id": change.opportunity_id, "owner_id": change.owner_id}
    done = {"is_done": True} if change.action == "complete" else {}
    held[change.key] = kind.model_validate({**known, **change.after, **done})


@pytest.fixture
def bench() -> Bench:
    users = {
        "rep": User(connection="crm", id="rep", manager_id="boss"),
        "boss": User(connection="crm", id="boss"),
    }
    facts = Facts(users=users, pulled_at=MONDAY, forecasts_pulled_at=MONDAY, basis="b1")
    return Bench(
        rules.load(), from_text(_BASE.replace("WRITE", _WRITE), Path()), Situation("crm", MONDAY, (), facts)
    )
