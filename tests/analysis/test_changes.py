"""Before and after, now and then, this segment and the others: differences that are real, and warnings where unfair."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pipesync.analysis.comparison import between_segments, with_period_before
from pipesync.analysis.effects import effect, is_another_mix, stability
from pipesync.analysis.losses import losses
from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
CHANGE = NOW - timedelta(days=100)
Make = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
STAGES = [
    {"id": s, "name": s, "pipeline": "p", "order": i, "phase": phase}
    for i, (s, phase) in enumerate([("A", "early"), ("B", "late"), ("Won", "won"), ("Lost", "lost")])
]


def two_stages(
    build: Make, share: Callable[[float, int], float], stay: Callable[[float, int], float], n: int = 1200
) -> Warehouse:
    """Opportunities that begin in A over 200 days; share and stay of A depend on the day and the number."""
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    changes: list[Row] = []
    for i in range(n):
        day = 200 * (i + float(rng.random())) / n
        created = NOW - timedelta(days=200 - day)
        left = created + timedelta(days=float(rng.exponential(stay(day, i))))
        goes_on = bool(rng.random() < share(day, i))
        changes.append(_change(i, "A", created))
        row = {
            "id": f"o{i}", "pipeline": "p", "stage": "A", "created_at": created, "segment": f"s{i % 2}",
            "amount": Decimal(100 + i % 7), "owner_id": f"u{i % 5}",
        }  # fmt: skip
        if left <= NOW and goes_on:
            changes.append(_change(i, "B", left))
            row["stage"] = "B"
        elif left <= NOW:
            row |= {"stage": "Lost", "is_closed": True, "closed_at": left}
        rows.append(row)
    return build(opportunities=rows, stages=STAGES, field_changes=changes, users=[])


def _change(i: int, stage: str, at: datetime) -> Row:
    return {
        "id": f"{i}{stage}",
        "opportunity_id": f"o{i}",
        "field": "stage",
        "value": stage,
        "changed_at": at,
    }


def test_a_change_that_helped_is_seen_with_its_interval(build: Make) -> None:
    """From half to three quarters, and nothing unfair about it."""
    warehouse = two_stages(build, lambda day, i: 0.75 if day >= 100 else 0.5, lambda day, i: 5)

    [found] = (
        e for e in effect(warehouse, compute(warehouse, "crm", NOW, Calendar()), CHANGE) if e.stage == "A"
    )

    assert found.is_real
    assert 0 < found.low < 0.25 < found.high
    assert found.advance_after - found.advance_before == pytest.approx(found.change)
    assert found.unfair == ()


def test_a_change_that_did_nothing_is_not_called_real(build: Make) -> None:
    """The interval holds 0, though stays before it were cut off by the change."""
    warehouse = two_stages(build, lambda day, i: 0.6, lambda day, i: 15)

    [found] = (
        e for e in effect(warehouse, compute(warehouse, "crm", NOW, Calendar()), CHANGE) if e.stage == "A"
    )

    assert not found.is_real
    assert found.low < 0 < found.high


def test_an_unfair_comparison_is_told(build: Make) -> None:
    """Other segments than before; a share that was rising already."""
    warehouse = two_stages(build, lambda day, i: min(0.2 + day / 125, 1), lambda day, i: 4)
    warehouse.execute(
        "UPDATE opportunities SET segment = CASE WHEN created_at > ? THEN 'large' ELSE 'small' END",
        [CHANGE.replace(tzinfo=None)],
    )

    [found] = (
        e for e in effect(warehouse, compute(warehouse, "crm", NOW, Calendar()), CHANGE) if e.stage == "A"
    )

    assert found.unfair == ("other segments than before", "it was changing before already")


def test_a_change_that_is_too_young_or_to_come_is_said(build: Make) -> None:
    """Too few to say anything: nothing; a date in the future: an error."""
    warehouse = two_stages(build, lambda day, i: 0.6, lambda day, i: 5)
    features = compute(warehouse, "crm", NOW, Calendar())

    assert effect(warehouse, features, NOW - timedelta(days=1)) == ()
    with pytest.raises(InputError, match="lies after"):
        effect(warehouse, features, NOW + timedelta(days=1))


def test_mixes_are_stable_or_not() -> None:
    """The index is near nothing for the same mix, and large for another one."""
    same = np.array(["a", "b"] * 50)

    assert stability(same, same) == pytest.approx(0)
    assert stability(same, np.array(["a"] * 100)) > 0.25


def test_a_few_cases_of_many_owners_are_no_other_mix() -> None:
    """The index of small samples is large by chance; only what is beyond that is told."""
    random = np.random.default_rng(3)
    pairs = [(random.integers(0, 24, 80), random.integers(0, 24, 105)) for _ in range(200)]

    assert np.mean([stability(a, b) > 0.25 for a, b in pairs]) > 0.9
    assert np.mean([is_another_mix(a, b) for a, b in pairs]) < 0.1
    assert is_another_mix(random.integers(0, 24, 80), random.integers(0, 6, 105))


def test_a_stage_that_slowed_down_since_the_last_period_is_named(build: Make) -> None:
    """Only that one, only its time."""
    warehouse = two_stages(build, lambda day, i: 0.6, lambda day, i: 15 if day > 109 else 5)

    found = with_period_before(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert [(d.stage, d.measure, d.one, d.other) for d in found] == [("A", "time", "now", "before")]
    assert found[0].value_one > 1.5 * found[0].value_other


def test_a_segment_that_is_weaker_is_named_and_alike_ones_are_not(build: Make) -> None:
    """By advancing; both sides of two segments tell the same."""
    weaker = two_stages(build, lambda day, i: 0.4 if i % 2 else 0.7, lambda day, i: 5)
    found = between_segments(weaker, compute(weaker, "crm", NOW, Calendar()))
    assert {(d.stage, d.measure, d.one) for d in found} == {("A", "advance", "s0"), ("A", "advance", "s1")}

    alike = two_stages(build, lambda day, i: 0.6, lambda day, i: 5)
    features = compute(alike, "crm", NOW, Calendar())
    assert between_segments(alike, features) == ()
    assert with_period_before(alike, features) == ()


def test_near_losses_and_second_chances_are_ranked_by_worth(build: Make) -> None:
    """Late ones are near; young ones, and those whose account is back, are not tried again."""
    specs: list[tuple[str, str, float, int, str]] = [
        ("late", "B", 60, 500, "acme"), ("early", "A", 60, 900, "bolt"), ("young", "B", 5, 700, "core"),
        ("back", "A", 60, 999, "dune"),
    ]  # fmt: skip
    rows: list[Row] = []
    changes: list[Row] = []
    for name, stage, days, amount, account in specs:
        closed = NOW - timedelta(days=days)
        rows.append(
            {"id": name, "pipeline": "p", "stage": "Lost", "is_closed": True, "closed_at": closed,
             "account_id": account, "created_at": closed - timedelta(days=30), "amount": Decimal(amount),
             "lost_reason": "Budget"}
        )  # fmt: skip
        changes.append(
            {"id": name, "opportunity_id": name, "field": "stage", "value": stage,
             "changed_at": closed - timedelta(days=30)}
        )  # fmt: skip
    rows.append(
        {
            "id": "new",
            "pipeline": "p",
            "stage": "A",
            "account_id": "dune",
            "created_at": NOW - timedelta(days=3),
        }
    )
    warehouse = build(opportunities=rows, stages=STAGES, field_changes=changes)

    found = losses(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert [loss.opportunity_id for loss in found.near] == ["young", "late"]
    assert [loss.opportunity_id for loss in found.again] == ["early", "late"]
    assert (found.near[0].reason, found.near[0].win_rate) == ("Budget", 0.25)
    assert found.missing == ()


def test_nothing_lost_and_nothing_to_compare_are_answers(build: Make) -> None:
    """An empty pipeline; stages that cannot be read."""
    empty = build(opportunities=[], stages=[])
    features = compute(empty, "crm", NOW, Calendar())
    assert losses(empty, features).near == ()
    assert effect(empty, features, CHANGE) == ()
    assert with_period_before(empty, features) == between_segments(empty, features) == ()

    blind = build(opportunities=[], unmapped=("opportunities.stage",))
    assert "stage" in losses(blind, compute(blind, "crm", NOW, Calendar())).missing
