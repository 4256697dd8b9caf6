"""New business: how many come, and what a cohort wins by age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.forecast.worlds import AS_OF, NAME, small_warehouse

from pipesync.forecast import arrivals, history
from pipesync.forecast.history import History, to_ms

NOW = to_ms(AS_OF)


def cohort(closings: Sequence[tuple[int, ...]]) -> History:
    """Return opportunities by (days ago, days until closed, won), or (days ago,) while open."""
    rows: list[dict[str, Any]] = []
    for i, one in enumerate(closings):
        created = AS_OF - timedelta(days=one[0])
        row: dict[str, Any] = {"id": f"o{i:03d}", "created_at": created, "amount": 10 * (i + 1)}
        if len(one) == 3:
            row |= {"closed_at": created + timedelta(days=one[1]), "is_closed": True, "is_won": bool(one[2])}
        rows.append(row)
    with small_warehouse(rows) as opened:
        return history.load(opened, NAME)


def test_open_opportunities_are_at_risk_and_not_lost() -> None:
    """Of eight that reach day five, four are won: half, whatever becomes of the six that are younger."""
    found = arrivals.cohort_incidence(cohort([(60, 5, True)] * 4 + [(60, 50, False)] * 4 + [(4,)] * 6), NOW)

    assert found(np.array([4.0, 5.0]))[0] == 0
    assert found(np.array([5.0]))[0] == pytest.approx(0.5, abs=0.02)


def test_who_came_before_history_began_is_at_risk_from_then_on() -> None:
    """A hundred old ones that nobody watched when they were young do not make winning young look rare."""
    watched = [(50, 10, True)] * 10 + [(50, 10, False)] * 10
    old = [(400,)] * 100

    with_old, alone = (
        float(arrivals.cohort_incidence(cohort(rows), NOW)(np.array([10.0]))[0])
        for rows in (watched + old, watched)
    )

    assert with_old == pytest.approx(alone, abs=0.01)
    assert alone == pytest.approx(0.5, abs=0.01)


def test_a_steady_flow_is_expected_to_go_on() -> None:
    """Two a day, half of them won after ten days: a month brings the wins of its first twenty days."""
    flow = [(d, 10, i % 2 == 0) if d >= 10 else (d,) for d in range(1, 120) for i in range(2)]

    found = arrivals.expect(cohort(flow), NOW, 30.0)

    assert found.created_per_week == pytest.approx(14, rel=0.05)
    assert found.rate == pytest.approx(20, rel=0.1)


def test_nothing_created_is_nothing_expected() -> None:
    """No rate, no pool."""
    found = arrivals.expect(cohort([]), NOW, 30.0)

    assert (found.rate, len(found.pool)) == (0.0, 0)
