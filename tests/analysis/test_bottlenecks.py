"""Stages, and what holds revenue up in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import qth_survival_time

from pipesync.adapters import open_adapter
from pipesync.analysis import bottlenecks, stages
from pipesync.analysis.comparison import with_period_before
from pipesync.config import Calendar, ConnectionConfig
from pipesync.features import compute
from pipesync.pull import pull
from pipesync.sandbox.company import generate
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Build = Callable[..., Warehouse]
REAL = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def simulated(
    build: Build, dwell: dict[str, float], *, n: int = 400, seed: int = 1, back: float = 0.0
) -> Warehouse:
    """A pipeline whose opportunities arrive over a year and take exponential times in each stage."""
    rng = np.random.default_rng(seed)
    names = list(dwell)
    order = [*names, "Won", "Lost"]
    phases = (
        ["early", "middle", "late", "won", "lost"]
        if len(names) == 3
        else ["early"] * len(names) + ["won", "lost"]
    )
    opportunities: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for i in range(n):
        at = NOW - timedelta(days=float(rng.uniform(0, 365)))
        created, step, closed = at, 0, at
        path: list[tuple[str, datetime]] = []
        while True:
            path.append((names[step], at))
            at += timedelta(days=float(rng.exponential(dwell[names[step]])))
            if rng.random() < 0.15 or (step == len(names) - 1 and rng.random() >= back):
                closed = at
                break
            step = step - 1 if step == len(names) - 1 else step + 1
        is_won = step == len(names) - 1 and bool(rng.random() < 0.8)
        is_closed = closed <= NOW
        seen = [(s, t) for s, t in path if t <= NOW]
        changes += [
            {
                "id": f"{i}-{k}",
                "opportunity_id": str(i),
                "field": "stage",
                "value": s,
                "changed_at": t,
                "seq": k,
            }
            for k, (s, t) in enumerate(seen)
        ]
        opportunities.append(
            {
                "id": str(i), "pipeline": "p", "amount": Decimal(1000), "created_at": created,
                "stage": ("Won" if is_won else "Lost") if is_closed else seen[-1][0],
                "is_closed": is_closed, "is_won": is_won and is_closed, "closed_at": closed if is_closed else None,
            }
        )  # fmt: skip
    table = [
        {"id": s, "name": s, "pipeline": "p", "order": k, "phase": phases[k]} for k, s in enumerate(order)
    ]
    warehouse = build(opportunities=opportunities, stages=table, field_changes=changes)
    compute(warehouse, "crm", NOW, Calendar())
    return warehouse


def test_every_stage_is_told_as_lifelines_tells_it(build: Build) -> None:
    """Medians and percentiles with open visits censored, to 1e-6."""
    warehouse = simulated(build, {"A": 5, "B": 30, "C": 10})

    table = stages.analyse(warehouse, "crm", NOW, Calendar())
    ours = {r.stage: r for r in table.itertuples()}

    raw = warehouse.frame(
        "SELECT stage, date_diff('microsecond', entered_at, coalesce(left_at, getvariable('as_of'))) / 86400e6 AS d, "
        "left_at IS NOT NULL AS e FROM stage_visits"
    )
    for name, part in raw.groupby("stage"):
        curve = KaplanMeierFitter().fit(part["d"], part["e"]).survival_function_["KM_estimate"]
        assert ours[name].median_days == pytest.approx(qth_survival_time(0.5, curve), abs=1e-6)
        assert ours[name].p90_days == pytest.approx(qth_survival_time(0.1, curve), abs=1e-6)
        assert ours[name].wip == int((~part["e"]).sum())


def test_counts_and_shares_add_up(build: Build) -> None:
    """Visits are those that wait and those that ended; shares are of the ended ones, inside their interval."""
    table = stages.analyse(simulated(build, {"A": 5, "B": 30, "C": 10}, back=0.3), "crm", NOW, Calendar())

    assert (table["visits"] == table["wip"] + table["ended"]).all()
    assert (table["ended"] == table["advanced"] + table["went_back"] + table["lost"]).all()
    assert ((table["advance_low"] <= table["advance"]) & (table["advance"] <= table["advance_high"])).all()
    assert list(table["stage"]) == ["A", "B", "C"]


def test_the_slow_stage_is_named_for_time_and_the_loop_for_rework(build: Build) -> None:
    """With figures that a reader can follow."""
    warehouse = simulated(build, {"A": 5, "B": 40, "C": 6}, back=0.3)

    found = bottlenecks.find(warehouse, "crm", NOW, Calendar())

    first = {kind: [b for b in found.ranked if b.kind == kind] for kind in ("time", "rework")}
    assert first["time"][0].subject == "B"
    assert "in the pipeline's other stages" in first["time"][0].why
    assert [b.subject for b in first["rework"]] == ["C -> B"]
    assert all(b.amount > 0 and b.currency == "EUR" for b in found.ranked)
    assert [b.amount for b in found.ranked] == sorted((b.amount for b in found.ranked), reverse=True)


def named(process: Build, runs: range, **given: Any) -> list[set[tuple[str, ...]]]:
    """What is ranked in each of so many companies of 50 reps and 2,000 opportunities."""
    found: list[set[tuple[str, ...]]] = []
    for seed in runs:
        warehouse = process(n=2000, owners=50, seed=seed, **given)
        compute(warehouse, "crm", NOW, Calendar())
        ranked = bottlenecks.find(warehouse, "crm", NOW, Calendar()).ranked
        found.append({(b.kind, b.subject) for b in ranked})
        warehouse.close()
    return found


def test_a_stage_that_takes_twice_as_long_is_found(process: Build) -> None:
    """In every one of a few companies."""
    assert all(("time", "B") in found for found in named(process, range(4), dwell={"B": 20}))


def test_where_nothing_is_wrong_nothing_is_named(process: Build) -> None:
    """In most of a few companies, of any kind."""
    assert sum(map(bool, named(process, range(10, 14)))) <= 1


def test_the_start_of_history_is_no_drop_in_conversion(build: Build) -> None:
    """Where quick stays go on and slow ones are lost, the first to end went on, and nothing has changed since."""
    rows, changes = [], []
    for i in range(480):
        created = NOW - timedelta(days=120 - i / 4)
        is_quick = i % 2 == 0
        left = created + timedelta(days=2 if is_quick else 25)
        is_over = left <= NOW
        stage = "A" if not is_over else "B" if is_quick else "Lost"
        row = {"id": str(i), "pipeline": "p", "stage": stage, "created_at": created, "amount": Decimal(10)}
        moves = [("A", created), *([(stage, left)] if is_over else [])]
        changes += [
            {"id": f"{i}{s}", "opportunity_id": str(i), "field": "stage", "value": s, "changed_at": at}
            for s, at in moves
        ]
        rows.append(row | ({"is_closed": True, "closed_at": left} if stage == "Lost" else {}))
    table = [
        {"id": s, "name": s, "pipeline": "p", "order": k, "phase": phase}
        for k, (s, phase) in enumerate([("A", "early"), ("B", "late"), ("Lost", "lost")])
    ]
    warehouse = build(opportunities=rows, stages=table, field_changes=changes)
    compute(warehouse, "crm", NOW, Calendar())

    found = bottlenecks.find(warehouse, "crm", NOW, Calendar())

    assert not [b for b in found.ranked if b.kind == "conversion"]
    differences = with_period_before(warehouse, compute(warehouse, "crm", NOW, Calendar()))
    assert not [d for d in differences if d.measure == "advance"]


@pytest.mark.campaign
def test_bottlenecks_are_found_and_chance_is_not_over_many_companies(process: Build) -> None:
    """At least nine in ten of 200 companies, and at most one in ten where there is nothing."""
    planted = named(process, range(200), dwell={"B": 20})
    assert sum(("time", "B") in found for found in planted) >= 180
    assert sum(map(bool, named(process, range(1000, 1200)))) <= 20


def test_a_growing_queue_is_named(build: Build) -> None:
    """Four weeks in a row with more arrivals than exits."""
    rows, changes = [], []
    for i in range(60):
        created = NOW - timedelta(days=0.6 * i + 0.5)
        rows.append(
            {"id": str(i), "pipeline": "p", "stage": "A", "created_at": created, "amount": Decimal(10)}
        )
        changes.append(
            {"id": f"c{i}", "opportunity_id": str(i), "field": "stage", "value": "A", "changed_at": created}
        )
    for i in range(60, 90):
        closed = NOW - timedelta(days=60 + i)
        rows.append(
            {"id": str(i), "pipeline": "p", "stage": "W", "created_at": closed - timedelta(days=9), "is_closed": True,
             "is_won": True, "closed_at": closed, "amount": Decimal(10)}
        )  # fmt: skip
        changes.append(
            {"id": f"c{i}", "opportunity_id": str(i), "field": "stage", "value": "A",
             "changed_at": closed - timedelta(days=9)}
        )  # fmt: skip
    table = [
        {"id": "A", "name": "A", "pipeline": "p", "order": 1, "phase": "early"},
        {"id": "W", "name": "W", "pipeline": "p", "order": 2, "phase": "won"},
    ]
    warehouse = build(opportunities=rows, stages=table, field_changes=changes)
    compute(warehouse, "crm", NOW, Calendar())

    found = bottlenecks.find(warehouse, "crm", NOW, Calendar())

    assert [(b.kind, b.subject) for b in found.ranked] == [("queue", "A")]


def test_an_empty_pipeline_has_no_bottleneck(build: Build) -> None:
    """An empty table with its columns, and nothing ranked."""
    warehouse = build(opportunities=[], stages=[], field_changes=[])
    compute(warehouse, "crm", NOW, Calendar())

    found = bottlenecks.find(warehouse, "crm", NOW, Calendar())

    assert found.ranked == ()
    assert len(found.stages) == 0
    assert {"median_days", "advance", "held_amount"} <= set(found.stages.columns)


@pytest.fixture
def company(tmp_path: Path) -> Iterator[tuple[Warehouse, Any]]:
    planted = generate(tmp_path / "exports", opportunities=2000)
    options = {"data": str(tmp_path / "exports"), "outbox": str(tmp_path / "outbox")}
    adapter = open_adapter("crm", ConnectionConfig(adapter="files", options=options), tmp_path)
    with Warehouse() as warehouse:
        pull(adapter, warehouse)
        compute(warehouse, "crm", planted.as_of, Calendar())
        yield warehouse, planted
    adapter.close()


def test_what_was_planted_in_the_company_is_found(company: tuple[Warehouse, Any]) -> None:
    """Its slow stage is first in its pipeline, and its loop is the rework."""
    warehouse, planted = company
    pipeline, stage = planted.slow_stage

    found = bottlenecks.find(warehouse, "crm", planted.as_of, Calendar())

    time = [b for b in found.ranked if b.kind == "time" and b.pipeline == pipeline]
    assert time[0].subject == stage
    rework = [b for b in found.ranked if b.kind == "rework"]
    assert rework[0].subject == f"{planted.rework[1]} -> {planted.rework[2]}"


@pytest.mark.skipif(not (REAL / "bpic2012").is_dir(), reason="the real data is not beside this checkout")
def test_a_real_process_is_diagnosed_as_it_is_known(tmp_path: Path) -> None:
    """Offers wait at the customer, and incomplete ones come back."""
    options = {"data": str(REAL / "bpic2012"), "outbox": str(tmp_path)}
    adapter = open_adapter("crm", ConnectionConfig(adapter="files", options=options), tmp_path)
    with Warehouse() as warehouse:
        pull(adapter, warehouse)
        as_of = warehouse.watermark("crm")
        assert as_of is not None
        compute(warehouse, "crm", as_of, Calendar())
        found = bottlenecks.find(warehouse, "crm", as_of, Calendar())
    adapter.close()

    assert next(b for b in found.ranked if b.kind == "time").subject == "4-Offer sent"
    assert next(b for b in found.ranked if b.kind == "rework").subject == "5-Offer returned -> 4-Offer sent"
    assert isinstance(found.stages, pd.DataFrame)
