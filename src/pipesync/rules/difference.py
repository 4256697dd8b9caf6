"""What an edit of the rules would do if it were merged: what would open, close and change, on today's pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import pandas as pd

from pipesync.features import Features
from pipesync.model import Finding, Severity
from pipesync.rules.evaluate import evaluate
from pipesync.rules.findings import Subject
from pipesync.rules.resolved import resolve
from pipesync.rules.ruleset import RuleSet
from pipesync.store.warehouse import Warehouse

Fate = Literal["opens", "closes", "changes"]


@dataclass(frozen=True)
class Changed:
    """A finding that only one side has, or that the two sides tell differently."""

    fate: Fate
    finding: Finding
    """As the new rules have it; of one that closes, as the old ones."""
    was: Severity | None = None
    """The old severity, where that changes."""


@dataclass(frozen=True)
class RuleChange:
    """A rule that is not the same on both sides, or does not find the same."""

    rule: str
    edit: Literal["added", "removed", "edited", "same"]
    values: tuple[str, ...]
    """What is set differently: `params.idle_days: 10 -> 14`."""
    before: int
    after: int
    opens: int
    closes: int
    changes: int
    amount: Decimal
    """Of what opens, less what closes."""


@dataclass(frozen=True)
class Difference:
    connection: str
    rules: tuple[RuleChange, ...]
    findings: tuple[Changed, ...]
    score_before: float
    score_after: float
    breaker: tuple[str, ...]
    """Rules whose new findings are more than the breaker lets through at once."""


def compare(
    warehouse: Warehouse,
    features: Features,
    old: RuleSet,
    new: RuleSet,
    *,
    stages: pd.DataFrame | None = None,
    max_percent_of_open: float = 15,
) -> Difference:
    """Evaluate both sides over the session's features, and tell them apart."""
    before = evaluate(warehouse, features, old, stages=stages)
    after = evaluate(warehouse, features, new, stages=stages)
    then = {(f.rule, f.level, f.subject_id): f for f in before.findings}
    now = {(f.rule, f.level, f.subject_id): f for f in after.findings}
    found = [c for key in sorted(then.keys() | now.keys()) if (c := _fate(then.get(key), now.get(key)))]
    rules = [
        change
        for rule in sorted({*old.rules, *new.rules})
        if (change := _rule(rule, old, new, found, then, now))
    ]
    limit = max_percent_of_open / 100 * after.open
    return Difference(
        features.connection,
        tuple(rules),
        tuple(found),
        before.score,
        after.score,
        tuple(r.rule for r in rules if r.edit != "added" and r.after - r.before > limit),
    )


def _fate(old: Finding | None, new: Finding | None) -> Changed | None:
    if old is None and new is not None:
        return Changed("opens", new)
    if new is None and old is not None:
        return Changed("closes", old)
    assert old is not None  # noqa: S101  # one side has it
    assert new is not None  # noqa: S101
    if (old.severity, old.message, old.headline) == (new.severity, new.message, new.headline):
        return None
    return Changed("changes", new, old.severity if old.severity != new.severity else None)


def _rule(
    rule: str,
    old: RuleSet,
    new: RuleSet,
    found: list[Changed],
    then: Mapping[Subject, Finding],
    now: Mapping[Subject, Finding],
) -> RuleChange | None:
    edit: Literal["added", "removed", "edited", "same"] = "same"
    values: tuple[str, ...] = ()
    if rule not in old.rules:
        edit = "added"
    elif rule not in new.rules:
        edit = "removed"
    else:
        values = _values(old, new, rule)
        is_same = old.rules[rule].document.text == new.rules[rule].document.text and not values
        edit = "same" if is_same else "edited"
    mine = [c for c in found if c.finding.rule == rule]
    if edit == "same" and not mine:
        return None
    opens, closes = ([c for c in mine if c.fate == fate] for fate in ("opens", "closes"))
    amount = sum((c.finding.amount or Decimal(0) for c in opens), Decimal(0))
    return RuleChange(
        rule=rule,
        edit=edit,
        values=values,
        before=sum(key[0] == rule for key in then),
        after=sum(key[0] == rule for key in now),
        opens=len(opens),
        closes=len(closes),
        changes=len(mine) - len(opens) - len(closes),
        amount=amount - sum((c.finding.amount or Decimal(0) for c in closes), Decimal(0)),
    )


def _values(old: RuleSet, new: RuleSet, rule: str) -> tuple[str, ...]:
    before, after = ({v.key: v.value for v in resolve(side.rules[rule])} for side in (old, new))
    return tuple(
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    )
