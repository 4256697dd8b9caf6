"""Owners: who does otherwise than peers with similar opportunities, and nobody by chance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from pipesync.analysis.owners import owners
from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]
REPS = {"n": 2000, "stages": 5, "owners": 50, "advance": 0.8}


def points(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Return owner and measure of all that is named."""
    features = compute(warehouse, "crm", NOW, Calendar())
    return [(o.owner_id, p.measure) for o in owners(warehouse, features).rows for p in o.points]


def found_weak(process: Make, runs: range) -> float:
    weak = ("u7", "advance")
    return sum(weak in points(process(seed=s, weaker={"u7": 0.6}, **REPS)) for s in runs) / len(runs)


def named_by_chance(process: Make, runs: range) -> float:
    return sum(bool(points(process(seed=s, **REPS))) for s in runs) / len(runs)


def test_a_rep_whose_advance_rate_is_cut_is_found(process: Make) -> None:
    """20 points below 49 peers, on 40 opportunities."""
    assert found_weak(process, range(6)) >= 0.8


def test_reps_alike_are_not_named(process: Make) -> None:
    """Nothing planted, nothing found, in most runs."""
    assert named_by_chance(process, range(100, 106)) <= 0.35


@pytest.mark.campaign
def test_weak_reps_are_found_and_chance_is_not_over_many_companies(process: Make) -> None:
    """At least nine in ten of 200 companies, and at most one in ten where there is nothing."""
    assert found_weak(process, range(200)) >= 0.9
    assert named_by_chance(process, range(1000, 1200)) <= 0.1


def test_a_card_tells_counts_and_what_peers_would_have_done(process: Make) -> None:
    """With the opportunities behind each point, and the figures handed in."""
    warehouse = process(n=1500, owners=5, weaker={"u1": 0.5})
    features = compute(warehouse, "crm", NOW, Calendar())
    closed = warehouse.rows("SELECT id FROM features WHERE is_closed")

    found = owners(warehouse, features, expected={i: 0.4 for (i,) in closed}, hygiene={"u1": 71.0})

    weak = next(o for o in found.rows if o.owner_id == "u1")
    assert weak.advanced < weak.advanced_expected
    assert (weak.name, weak.team, weak.hygiene) == ("Rep 1", "T1", 71.0)
    assert weak.won_expected == pytest.approx(0.4 * weak.decided)
    assert weak.low <= (weak.win_rate or 0) <= weak.high
    assert {p.measure for p in weak.points} == {"advance", "win"}
    assert not any(p.is_good for p in weak.points)
    assert all(1 <= len(p.opportunities) <= 5 for p in weak.points)
    total = warehouse.rows("SELECT count(*) FILTER (is_won) FROM features WHERE days_since_closed <= 365")[0][
        0
    ]
    assert sum(o.won for o in found.rows) == total


def test_a_habit_that_differs_from_peers_is_a_point(build: Callable[..., Warehouse]) -> None:
    """Overdue close dates and blank next steps, told with their numbers."""
    rows = [
        {
            "id": f"o{i}", "owner_id": f"u{i % 4}", "pipeline": "p", "stage": "A", "amount": Decimal(i),
            "created_at": NOW - timedelta(days=30), "close_date": date(2026, 11, 1 if i % 4 == 0 else 30),
            "next_step": "Call",
        }
        for i in range(120)
    ]  # fmt: skip
    warehouse = build(opportunities=rows, stages=[], users=[])

    found = owners(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    first = found.rows[0]
    assert [p.measure for p in first.points] == ["overdue"]
    assert "30 of 30 are past their close date; of peers' 0%" in first.points[0].text
    assert first.points[0].opportunities == ("o116", "o112", "o108", "o104", "o100")


def test_a_card_holds_stages_habits_and_its_trend(process: Make) -> None:
    """Per stage beside what peers would have done; shares beside everybody else's; hygiene then and now."""
    warehouse = process(n=800, owners=4, weaker={"u1": 0.5})
    features = compute(warehouse, "crm", NOW, Calendar())

    found = owners(warehouse, features, hygiene={"u1": 71.0}, hygiene_before={"u1": 64.0})

    weak = next(o for o in found.rows if o.owner_id == "u1")
    assert (weak.hygiene, weak.hygiene_before) == (71.0, 64.0)
    assert {s.stage for s in weak.stages} == {"A", "B", "C", "D"}
    assert sum(s.advanced for s in weak.stages) == weak.advanced
    assert sum(s.expected for s in weak.stages) == pytest.approx(weak.advanced_expected)
    habits = {h.measure: h for h in weak.habits}
    assert {"push", "slip", "overdue", "stale", "no_next_step"} <= habits.keys()
    assert all(0 <= h.share <= 1 and 0 <= h.peers <= 1 and h.n > 0 for h in habits.values())


def test_an_expectation_that_fits_nobody_blames_nobody(process: Make) -> None:
    """Where all reps miss it by more than coins would, the expectation is wrong and not everybody."""
    warehouse = process(n=1500, owners=10)
    features = compute(warehouse, "crm", NOW, Calendar())
    off = {f"u{i}": 0.15 if i % 2 else 0.55 for i in range(10)}
    closed = warehouse.rows("SELECT id, owner_id FROM features WHERE is_closed")

    found = owners(warehouse, features, expected={i: off[o] for i, o in closed})

    assert [p.measure for o in found.rows for p in o.points] == []


def test_one_rep_and_no_rep_are_answers(process: Make, build: Callable[..., Warehouse]) -> None:
    """Nobody to compare with; nobody at all; owners that cannot be read."""
    alone = process(n=60, owners=1)
    features = compute(alone, "crm", NOW, Calendar())
    assert [o.points for o in owners(alone, features).rows] == [()]

    empty = build(opportunities=[], stages=[])
    assert owners(empty, compute(empty, "crm", NOW, Calendar())).rows == ()

    blind = build(opportunities=[], unmapped=("opportunities.owner_id",))
    assert owners(blind, compute(blind, "crm", NOW, Calendar())).missing == ("owners cannot be read",)
