"""Findings and forecasts become changes; pure. The same situation gives the same plan, and a plan writes nothing.

`gather` reads the situation from both stores, `make` decides, `files` keeps a plan for later.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import orjson

from pipesync.config import Config, Write
from pipesync.model import Change, Plan
from pipesync.plan.effects import Effect, effects, read_effects
from pipesync.plan.fields import plan_fields
from pipesync.plan.files import load, reconcile, save
from pipesync.plan.findings import plan_findings
from pipesync.plan.forecasts import plan_forecasts
from pipesync.plan.guards import guarded
from pipesync.plan.policy import suppressed, tripped
from pipesync.plan.situation import Situation, counts, gather
from pipesync.plan.tasks import Planned, plan_tasks
from pipesync.rules import RuleSet

__all__ = [
    "Effect",
    "Situation",
    "counts",
    "effects",
    "gather",
    "guarded",
    "load",
    "make",
    "read_effects",
    "reconcile",
    "save",
    "suppressed",
    "tripped",
]


def make(situation: Situation, config: Config, rules: RuleSet) -> Plan:
    """Plan what is to be written: tasks to make (the worst first), to change and to end, forecasts, and our own fields.

    Where the last pull did not get through, nothing is planned: what was not read can neither be found wrong nor
    settled.
    """
    allowed = config.connections[situation.connection].write
    write, facts = _wished(allowed), situation.facts
    # Of our own records nothing is read before they may be written: what is shown then is a first run's plan.
    takes = facts.takes if allowed.enabled else {"task", "forecast"}
    held_back = Counter({f"{stream} is not pulled up to date": 1 for stream in facts.behind})
    tasks = Planned()
    changes: list[Change] = []
    if not facts.behind:
        if write.tasks and "task" in takes:
            tasks = plan_tasks(situation, config, rules)
            changes += [_resting(change, situation) for change in tasks.changes]
        if write.forecasts and "forecast" in takes:
            changes += plan_forecasts(situation, config)
        if write.opportunity_fields:
            changes += plan_fields(situation, config)
        if write.findings and config.connections[situation.connection].adapter == "salesforce":
            room = max(0, config.budget.writes_per_run - len(changes))
            records, late = plan_findings(situation, config, room)
            changes += records
            held_back.update(late)
        elif write.findings:
            held_back["findings have no object of their own in this CRM"] = 1
        for kind, wished in (("task", write.tasks), ("forecast", write.forecasts)):
            if wished and kind not in takes:
                held_back[f"the CRM's {kind} records of ours cannot be read"] = 1
    held_back.update(tasks.held_back)
    return Plan(
        connection=situation.connection,
        id=_identity(situation, changes),
        as_of=situation.as_of,
        changes=tuple(changes),
        held_back={why: n for why, n in sorted(held_back.items()) if n},
        findings=tuple(situation.findings),
        fates=tuple(tasks.fates),
        basis=facts.basis,
        journal=max((e.seq for e in situation.journal), default=0),
    )


def _resting(change: Change, situation: Situation) -> Change:
    standing = situation.facts.opportunities.get(change.opportunity_id or "")
    return change.model_copy(update={"rests_on": dict(standing.rests_on)}) if standing else change


def _wished(write: Write) -> Write:
    """Before writing is enabled a plan shows what it would be: tasks and forecasts."""
    return write if write.enabled else Write(tasks=True, forecasts=True)


def _identity(situation: Situation, changes: list[Change]) -> str:
    told = [situation.connection, situation.as_of, *([c.key, c.action, c.before, c.after] for c in changes)]
    return hashlib.sha256(orjson.dumps(told)).hexdigest()[:12]
