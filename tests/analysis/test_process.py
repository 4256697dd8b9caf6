"""The process map and what waits in it: moves, rounds, ages, drain times and Little's law."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipesync.adapters import open_adapter
from pipesync.analysis.flow import flows
from pipesync.analysis.processmap import process_map
from pipesync.config import Calendar, ConnectionConfig
from pipesync.features import compute
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
REAL = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
STAGES = [
    {"id": s, "name": s, "pipeline": "p", "order": i, "phase": phase}
    for i, (s, phase) in enumerate(
        [("A", "early"), ("B", "middle"), ("C", "late"), ("Won", "won"), ("Lost", "lost")]
    )
]


def walk(name: str, *way: str) -> tuple[Row, list[Row]]:
    """An opportunity that entered a stage every ten days, the last one ten days ago."""
    at = [NOW - timedelta(days=10 * (len(way) - i)) for i in range(len(way))]
    changes = [
        {"id": f"{name}{i}", "opportunity_id": name, "field": "stage", "value": stage, "changed_at": moment}
        for i, (stage, moment) in enumerate(zip(way, at, strict=True))
    ]
    is_closed = way[-1] in ("Won", "Lost")
    row = {
        "id": name, "pipeline": "p", "stage": way[-1], "created_at": at[0], "is_closed": is_closed,
        "is_won": way[-1] == "Won", "closed_at": at[-1] if is_closed else None,
    }  # fmt: skip
    return row, changes


def test_every_move_is_on_the_map(build: Make) -> None:
    """Forward, over a stage, back, reopened, out; with the days before each."""
    walks = [walk("x", "A", "B", "A", "C", "Won"), walk("y", "A", "Lost", "B")]
    warehouse = build(
        opportunities=[w[0] for w in walks], stages=STAGES, field_changes=[c for w in walks for c in w[1]]
    )

    found = process_map(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    moves = {(m.from_stage, m.to_stage, m.kind): (m.n, m.median_days) for m in found.moves}
    assert moves == {
        (None, "A", "created"): (2, None),
        (None, "B", "reopened"): (1, None),
        ("A", "B", "advance"): (1, 10),
        ("B", "A", "backward"): (1, 10),
        ("A", "C", "skip"): (1, 10),
        ("C", "won", "won"): (1, 10),
        ("A", "lost", "lost"): (1, 10),
    }
    [rounds] = found.rounds
    assert (rounds.moves, rounds.backward, rounds.skips, rounds.reopened, rounds.ping_pong) == (3, 1, 1, 1, 1)
    assert (rounds.rework_rate, rounds.win_rate_with, rounds.win_rate_without) == (1 / 3, 1.0, None)
    assert {v.stages for v in found.variants} == {("A", "B", "A", "C"), ("A", "B")}


def test_what_waits_is_told_by_age_and_drain_time(process: Make) -> None:
    """The bands hold everyone who waits; ways out are shares; draining takes waiting over exits."""
    warehouse = process(n=1000)
    features = compute(warehouse, "crm", NOW, Calendar())

    found = flows(warehouse, features)

    waiting = dict(
        warehouse.rows("SELECT stage, count(*) FROM stage_visits WHERE left_at IS NULL GROUP BY stage")
    )
    assert {f.stage: f.wip for f in found} == waiting
    for one in found:
        assert sum(one.ages) == one.wip
        assert sum(one.exits.values()) <= 1 + 1e-9
        gone = warehouse.rows(
            "SELECT count(*) FROM stage_visits WHERE stage = ? AND left_at > ?",
            [one.stage, (NOW - timedelta(days=56)).replace(tzinfo=None)],
        )[0][0]
        assert one.drain_weeks == pytest.approx(one.wip / (gone / 8))


def test_littles_law_holds_where_a_stage_is_steady(process: Make) -> None:
    """Within 15%, over weeks that are named."""
    warehouse = process(n=3000, dwell={"A": 6, "B": 12, "C": 9, "D": 3})

    found = flows(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    told = [f.little for f in found if f.little]
    assert len(told) >= 3
    for one in told:
        assert (one.end - one.start).days >= 42
        assert 0.85 <= one.ratio <= 1.15


def test_a_pipeline_without_a_past_is_an_answer(build: Make) -> None:
    """Nothing visited; one that has only just begun."""
    empty = build(opportunities=[], stages=STAGES)
    features = compute(empty, "crm", NOW, Calendar())
    assert flows(empty, features) == ()
    assert process_map(empty, features).moves == ()

    row, changes = walk("x", "A")
    young = build(opportunities=[row], stages=STAGES, field_changes=changes)
    [found] = flows(young, compute(young, "crm", NOW, Calendar()))
    assert (found.wip, found.drain_weeks, found.little) == (1, None, None)


@pytest.mark.skipif(not (REAL / "bpic2012").is_dir(), reason="the real data is not beside this checkout")
def test_littles_law_holds_on_real_data(tmp_path: Path) -> None:
    """In every stage that was steady for long enough to say."""
    options = {"data": str(REAL / "bpic2012"), "outbox": str(tmp_path)}
    adapter = open_adapter("crm", ConnectionConfig(adapter="files", options=options), tmp_path)
    with Warehouse() as warehouse:
        pull(adapter, warehouse)
        as_of = warehouse.watermark("crm")
        assert as_of is not None
        features = compute(warehouse, "crm", as_of, Calendar())
        ratios = {f.stage: f.little.ratio for f in flows(warehouse, features) if f.little}
        moves = {(m.from_stage, m.to_stage): m.n for m in process_map(warehouse, features).moves}
    adapter.close()

    assert "4-Offer sent" in ratios
    assert all(0.85 <= r <= 1.15 for r in ratios.values())
    assert moves["5-Offer returned", "4-Offer sent"] > 100
