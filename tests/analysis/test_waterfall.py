"""The waterfall: every step for its reason, and always adding up."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipesync.adapters import open_adapter
from pipesync.analysis.waterfall import Waterfall, between, waterfall
from pipesync.config import Calendar, ConnectionConfig
from pipesync.errors import InputError
from pipesync.features import stand
from pipesync.forecast.periods import Period
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
BEFORE = NOW - timedelta(days=30)
QUARTER = Period(date(2026, 10, 1), date(2027, 1, 1))
Build = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
REAL = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
STAGES = [
    {"id": s, "name": s, "pipeline": "p", "order": i, "phase": s.lower()}
    for i, s in enumerate(["Early", "Won", "Lost"])
]


def adds_up(found: Waterfall) -> bool:
    t = found.totals()
    came = t["new"] + t["reopened"] + t["pulled_in"] + t["moved_in"] + t["increased"]
    went = t["decreased"] + t["pushed_out"] + t["moved_out"] + t["lost"] + t["won"]
    return found.start + came - went == found.end


def opportunity(name: str, created: float, **values: Any) -> Row:
    given = {
        "id": name, "pipeline": "p", "stage": "Early", "amount": Decimal(100), "owner_id": "u",
        "created_at": NOW - timedelta(days=created), "close_date": date(2026, 12, 1),
    }  # fmt: skip
    return {**given, **values}


def told(name: str, field: str, *values: tuple[str, float]) -> list[Row]:
    return [
        {
            "id": f"{name}{field}{days}", "opportunity_id": name, "field": field, "value": value,
            "changed_at": NOW - timedelta(days=days),
        }
        for value, days in values
    ]  # fmt: skip


def closed(is_won: bool, days: float) -> Row:
    at = NOW - timedelta(days=days)
    return {
        "is_closed": True, "is_won": is_won, "closed_at": at, "stage": "Won" if is_won else "Lost",
        "close_date": at.date(),
    }  # fmt: skip


def test_every_opportunity_moves_for_its_own_reason(build: Build) -> None:
    """One of each kind, in a quarter and an owner's scope."""
    rows = [
        opportunity("same", 60),
        opportunity("new", 5),
        opportunity("won", 60, **closed(True, 3)),
        opportunity("lost", 60, **closed(False, 3)),
        opportunity("more", 60, amount=Decimal(150)),
        opportunity("less", 60, amount=Decimal("99.99")),
        opportunity("pulled", 60),
        opportunity("pushed", 60, close_date=date(2027, 2, 1)),
        opportunity("quick", 9, **closed(True, 2)),
        opportunity("left", 60, owner_id="v"),
        opportunity("came", 60),
    ]
    changes = [
        *told("more", "amount", ("100.00", 60), ("150.00", 4)),
        *told("less", "amount", ("100.00", 60), ("99.99", 4)),
        *told("pulled", "close_date", ("2027-02-01", 60), ("2026-12-01", 4)),
        *told("pushed", "close_date", ("2026-12-01", 60), ("2027-02-01", 4)),
        *told("left", "owner_id", ("u", 60), ("v", 4)),
        *told("came", "owner_id", ("v", 60), ("u", 4)),
    ]
    warehouse = build(opportunities=rows, stages=STAGES, field_changes=changes)

    found = waterfall(warehouse, "crm", BEFORE, NOW, Calendar(), period=QUARTER, where={"owner_id": "u"})

    kinds = {(s.opportunity_id, s.kind, s.amount) for s in found.steps}
    assert kinds == {
        ("new", "new", Decimal(100)), ("won", "won", Decimal(100)), ("lost", "lost", Decimal(100)),
        ("more", "increased", Decimal(50)), ("less", "decreased", Decimal("0.01")),
        ("pulled", "pulled_in", Decimal(100)), ("pushed", "pushed_out", Decimal(100)),
        ("quick", "new", Decimal(100)), ("quick", "won", Decimal(100)),
        ("left", "moved_out", Decimal(100)), ("came", "moved_in", Decimal(100)),
    }  # fmt: skip
    assert (found.start, found.end) == (Decimal(700), Decimal("649.99"))
    assert adds_up(found)
    assert found.missing == ()


def test_a_reopened_opportunity_comes_back(build: Build) -> None:
    """It was closed at the start and is open at the end."""
    changes = told("o", "stage", ("Early", 90), ("Lost", 50), ("Early", 10))
    warehouse = build(opportunities=[opportunity("o", 90)], stages=STAGES, field_changes=changes)
    warehouse.execute(
        "CREATE TEMP TABLE a AS SELECT 'o' AS id, TRUE AS is_closed, FALSE AS is_won, 100.00 AS amount"
    )
    stand(warehouse, "crm", NOW, Calendar(), "b")

    found = between(warehouse, "a", "b")

    assert [(s.kind, s.amount) for s in found.steps] == [("reopened", Decimal(100))]
    assert adds_up(found)


def test_what_history_cannot_tell_is_said(build: Build) -> None:
    """Present values stand in for past ones that were never kept."""
    warehouse = build(opportunities=[opportunity("o", 60)], stages=STAGES, history="none")

    found = waterfall(warehouse, "crm", BEFORE, NOW, Calendar(), period=QUARTER)

    assert len(found.missing) == 2
    assert "amount is not known of 2026-10-24" in found.missing[0]
    assert adds_up(found)


def test_nothing_is_an_answer(build: Build) -> None:
    """No opportunities, or a segment without any: all zeros."""
    warehouse = build(opportunities=[], stages=STAGES)

    found = waterfall(warehouse, "crm", BEFORE, NOW, Calendar(), where={"segment": "none such"})

    assert (found.start, found.end, found.steps) == (Decimal(0), Decimal(0), ())


def test_wrong_questions_are_refused(build: Build) -> None:
    """The moments the wrong way round; a scope that there is none of."""
    warehouse = build(opportunities=[], stages=STAGES)

    with pytest.raises(InputError, match="ends before"):
        waterfall(warehouse, "crm", NOW, BEFORE, Calendar())
    with pytest.raises(InputError, match="no scope 'moon'"):
        waterfall(warehouse, "crm", BEFORE, NOW, Calendar(), where={"moon": "full"})


def reconciles(warehouse: Warehouse, *, moments: int, pairs: int, seed: int) -> None:
    """Random pairs of random moments, with and without periods and segments."""
    rng = np.random.default_rng(seed)
    first, last = warehouse.rows(
        "SELECT min(created_at), max(coalesce(closed_at, created_at)) FROM opportunities"
    )[0]
    span = (last - first).total_seconds()
    at = sorted(
        first.replace(tzinfo=UTC) + timedelta(seconds=span * float(u))
        for u in rng.uniform(-0.02, 1.02, moments)
    )
    for i, moment in enumerate(at):
        stand(warehouse, "crm", moment, Calendar(), f"at{i}")
    scopes: list[dict[str, str]] = [{}]
    for name in ("segment", "owner_id", "pipeline", "source"):
        scopes += [
            {name: value}
            for (value,) in warehouse.rows(
                f"SELECT DISTINCT {name} FROM opportunities WHERE {name} IS NOT NULL ORDER BY 1 LIMIT 5"
            )
        ]
    moved = 0
    for _ in range(pairs):
        a, b = sorted(rng.integers(0, moments, 2))
        begin = at[int(rng.integers(0, moments))].date()
        period = Period(begin, begin + timedelta(days=91)) if rng.random() < 0.5 else None
        found = between(
            warehouse, f"at{a}", f"at{b}", period=period, where=scopes[int(rng.integers(0, len(scopes)))]
        )
        assert adds_up(found), (at[a], at[b], period)
        moved += len(found.steps)
    assert moved > pairs


@pytest.mark.parametrize(("moments", "pairs"), [(8, 100), pytest.param(40, 1000, marks=pytest.mark.campaign)])
def test_random_pairs_add_up_to_the_cent(pulled_company: Warehouse, moments: int, pairs: int) -> None:
    """On the made-up company, in any scope and period."""
    session = pulled_company.session()

    reconciles(session, moments=moments, pairs=pairs, seed=1)
    session.close()


@pytest.mark.skipif(not (REAL / "bpic2012").is_dir(), reason="the real data is not beside this checkout")
@pytest.mark.parametrize(("moments", "pairs"), [(3, 20), pytest.param(20, 1000, marks=pytest.mark.campaign)])
def test_random_pairs_add_up_on_real_data(tmp_path: Path, moments: int, pairs: int) -> None:
    """As on made-up data."""
    options = {"data": str(REAL / "bpic2012"), "outbox": str(tmp_path)}
    adapter = open_adapter("crm", ConnectionConfig(adapter="files", options=options), tmp_path)
    with Warehouse() as warehouse:
        pull(adapter, warehouse)

        reconciles(warehouse, moments=moments, pairs=pairs, seed=2)
    adapter.close()
