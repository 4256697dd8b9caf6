"""Hygiene by owner, now and at an earlier moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.model import StandingFinding
from pipesync.rules import scores
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_an_owner_loses_by_what_findings_take(build: Callable[..., Warehouse]) -> None:
    """Weighted by amount; an owner without findings has all; what was resolved before counts no more."""
    warehouse = build(
        stages=[],
        users=[],
        opportunities=[
            {"id": "a", "owner_id": "u1", "amount": Decimal(300), "created_at": NOW - timedelta(days=60)},
            {"id": "b", "owner_id": "u1", "amount": Decimal(100), "created_at": NOW - timedelta(days=60)},
            {"id": "c", "owner_id": "u2", "amount": Decimal(100), "created_at": NOW - timedelta(days=5)},
        ],
    )
    compute(warehouse, "crm", NOW, Calendar())
    bad = StandingFinding(rule="r", subject_id="a", severity="critical", first_seen=NOW - timedelta(days=40),
                          last_seen=NOW, resolved_at=NOW - timedelta(days=3))  # fmt: skip
    earlier = NOW - timedelta(days=28)

    before = scores.by_owner(warehouse, scores.held_at([bad], earlier), earlier)
    now = scores.by_owner(warehouse, scores.held_at([bad], NOW), NOW)

    assert before == {"u1": 25.0}
    assert now == {"u1": 100.0, "u2": 100.0}
