"""Hygiene of opportunities, owners, teams and the company, now and at an earlier moment, and what it comes from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipesync.model import Finding, StandingFinding
from pipesync.rules.evaluate import WEIGHTS
from pipesync.rules.findings import marks
from pipesync.store.warehouse import Warehouse

_OPEN_THEN = """
SELECT id, owner_id, amount::DOUBLE FROM features
WHERE owner_id IS NOT NULL AND coalesce(created_at, ?) <= ? AND (is_open OR closed_at > ?)
"""


def by_owner(
    warehouse: Warehouse, findings: Iterable[Finding | StandingFinding], at: datetime
) -> dict[str, float]:
    """Return 0 to 100 by owner: 100 less the share of ten points each that findings take, weighted by amount.

    Amounts and owners are those of the session's `features`; findings are those that held at the moment.
    """
    moment = at.astimezone(UTC).replace(tzinfo=None)
    rows = warehouse.rows(_OPEN_THEN, [moment, moment, moment])
    known = [amount for *_, amount in rows if amount is not None and amount > 0]
    mean = sum(known) / len(known) if known else 1.0
    taken: Counter[str] = Counter()
    for finding in marks(findings):
        if finding.level == "opportunity":
            taken[finding.subject_id] += WEIGHTS[finding.severity]
    total: defaultdict[str, float] = defaultdict(float)
    lost: defaultdict[str, float] = defaultdict(float)
    for subject, owner, amount in rows:
        weight = amount if amount is not None and amount > 0 else mean
        total[owner] += 10 * weight
        lost[owner] += min(10, taken[subject]) * weight
    return {owner: round(100 * (1 - lost[owner] / total[owner]), 1) for owner in sorted(total)}


def held_at(episodes: Iterable[StandingFinding], at: datetime) -> list[StandingFinding]:
    """Return the ledger's episodes that were open at a moment."""
    return [
        one for one in episodes if one.first_seen <= at and (one.resolved_at is None or one.resolved_at > at)
    ]


# --- The score explained ----------------------------------------------------------------------------------------

Scope = Literal["company", "team", "owner", "opportunity"]
TREND = timedelta(days=28)


@dataclass(frozen=True)
class Score:
    """Hygiene of what one opportunity, rep, team or the company has open, from 0 to 100."""

    scope: Scope
    id: str
    name: str
    score: float
    before: float | None
    """At the beginning of the trend; None where nothing was recorded yet, or nothing was open."""
    open: int
    amount: float
    costs: tuple[tuple[str, float], ...]
    """Rule -> what its findings take off the hundred, the most first."""

    @property
    def says(self) -> str:
        """The score in one line."""
        trend = ""
        if self.before is not None:
            by = round(self.score - self.before)
            trend = (
                f", {'up' if by > 0 else 'down'} {abs(by)} in {TREND.days} days" if by else ", as 28 days ago"
            )
        if not self.costs:
            return f"{self.score:.0f} of 100{trend}: no findings"
        told = ", ".join(f"{rule} takes {points:.1f}" for rule, points in self.costs[:3])
        rest = sum(points for _, points in self.costs[3:])
        return f"{self.score:.0f} of 100{trend}: {told}{f', others {rest:.1f}' if rest else ''}"


_KEYS: dict[Scope, tuple[str, str]] = {
    "company": ("''", "'company'"),
    "team": ("team", "team"),
    "owner": ("owner_id", "coalesce(owner_name, owner_id)"),
    "opportunity": ("id", "name"),
}
_WHO = """
SELECT id, {key}, {name}, coalesce(amount, 0)::DOUBLE, is_open, coalesce(created_at, $then) <= $then
       AND (is_open OR closed_at > $then)
FROM features WHERE {key} IS NOT NULL
ORDER BY id
"""


def scores(
    warehouse: Warehouse,
    findings: Iterable[Finding],
    episodes: Sequence[StandingFinding],
    as_of: datetime,
    by: Scope,
) -> list[Score]:
    """Return the scores, the worst first, over the session's `features`.

    The earlier score is of what was open then, with the findings that the ledger's `episodes` say were open.
    """
    then = as_of - TREND
    key, name = _KEYS[by]
    moment = then.astimezone(UTC).replace(tzinfo=None)
    rows = warehouse.rows(_WHO.format(key=key, name=name), {"then": moment})
    known = [amount for *_, amount, is_open, _ in rows if is_open and amount > 0]
    mean = sum(known) / len(known) if known else 1.0
    now_taken = _taken(findings)
    is_recorded = any(e.first_seen <= then for e in episodes)
    then_taken = _taken(held_at(episodes, then)) if is_recorded else {}
    groups: dict[str, _Group] = {}
    for subject, group, called, amount, is_open, was_open in rows:
        one = groups.setdefault(group, _Group(called))
        weight = amount if amount > 0 else mean
        if is_open:
            one.add(weight, amount, now_taken.get(subject, {}))
        if was_open and is_recorded:
            one.total_then += 10 * weight
            one.lost_then += min(10, sum(then_taken.get(subject, {}).values())) * weight
    found = [one.score(by, group) for group, one in groups.items() if one.open]
    return sorted(found, key=lambda s: (s.score, -s.amount, s.id))


@dataclass
class _Group:
    name: str
    open: int = 0
    amount: float = 0.0
    total: float = 0.0
    lost: float = 0.0
    total_then: float = 0.0
    lost_then: float = 0.0
    by_rule: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, weight: float, amount: float, taken: Mapping[str, int]) -> None:
        points = sum(taken.values())
        lost = min(10, points)
        self.open += 1
        self.amount += amount
        self.total += 10 * weight
        self.lost += lost * weight
        for rule, own in taken.items():
            if points:
                self.by_rule[rule] += own * lost / points * weight

    def score(self, scope: Scope, group: str) -> Score:
        before = round(100 * (1 - self.lost_then / self.total_then), 1) if self.total_then else None
        by_cost = sorted(self.by_rule.items(), key=lambda item: (-item[1], item[0]))
        costs = [(rule, round(100 * points / self.total, 2)) for rule, points in by_cost]
        return Score(
            scope=scope,
            id=group,
            name=self.name,
            score=round(100 * (1 - self.lost / self.total), 1),
            before=before,
            open=self.open,
            amount=self.amount,
            costs=tuple((rule, points) for rule, points in costs if points > 0),
        )


def _taken(findings: Iterable[Finding | StandingFinding]) -> dict[str, dict[str, int]]:
    """Return opportunity -> rule -> points."""
    taken: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for finding in marks(findings):
        if finding.level == "opportunity" and WEIGHTS[finding.severity]:
            taken[finding.subject_id][finding.rule] = WEIGHTS[finding.severity]
    return taken
