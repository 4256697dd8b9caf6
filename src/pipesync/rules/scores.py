"""Hygiene by owner, now and at an earlier moment: the score of `evaluate`, of each owner's open opportunities."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from pipesync.model import Finding, StandingFinding
from pipesync.rules.evaluate import WEIGHTS
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
    for finding in findings:
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
