"""Pipelines with a known truth for the analyses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Build = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values


@pytest.fixture
def process(build: Build) -> Callable[..., Warehouse]:
    """Make a pipeline of stages A, B, ...: arrivals over a year, exponential stays, a share that goes on from each.

    `advance` is a share, or one per owner; `dwell` days per stage. Amounts differ, and nothing else does.
    """

    def make(
        *,
        n: int = 400,
        stages: int = 4,
        owners: int = 5,
        advance: float = 0.75,
        weaker: Mapping[str, float] | None = None,
        dwell: Mapping[str, float] | None = None,
        seed: int = 1,
        days: int = 365,
        **streams: Sequence[Row],
    ) -> Warehouse:
        rng = np.random.default_rng(seed)
        names = [chr(ord("A") + k) for k in range(stages)]
        rows: list[Row] = []
        changes: list[Row] = []
        for i in range(n):
            owner = f"u{i % owners}"
            created = at = NOW - timedelta(days=float(rng.uniform(0, days)))
            share = (weaker or {}).get(owner, advance)
            stage, is_won = "", False
            for k, stage in enumerate(names):
                changes.append(_change(i, k, stage, at))
                at += timedelta(days=float(rng.exponential((dwell or {}).get(stage, 10))))
                if at > NOW or rng.random() >= share:
                    break
                is_won = k == stages - 1
            is_closed = at <= NOW
            rows.append(
                {
                    "id": f"o{i}", "name": f"Opportunity {i}", "pipeline": "p", "owner_id": owner,
                    "amount": Decimal(int(rng.integers(5, 50))) * 100, "created_at": created,
                    "stage": ("Won" if is_won else "Lost") if is_closed else stage,
                    "is_closed": is_closed, "is_won": is_won and is_closed,
                    "closed_at": at if is_closed else None, "segment": f"s{i % 2}", "product": f"P{i % 3}",
                    "source": ["web", "event"][i % 2],
                    "close_date": (at if is_closed else NOW + timedelta(days=float(rng.uniform(0, 60)))).date(),
                }
            )  # fmt: skip
        phases = ["early"] * (stages - 1) + ["late", "won", "lost"]
        table = [
            {"id": s, "name": s, "pipeline": "p", "order": k, "phase": phases[k]}
            for k, s in enumerate([*names, "Won", "Lost"])
        ]
        users = [
            {"id": f"u{i}", "name": f"Rep {i}", "is_active": True, "team": f"T{i % 2}"} for i in range(owners)
        ]
        given = {"opportunities": rows, "stages": table, "field_changes": changes, "users": users, **streams}
        return build(**given)

    return make


def _change(i: int, k: int, stage: str, at: datetime) -> Row:
    return {
        "id": f"{i}-{k}", "opportunity_id": f"o{i}", "field": "stage", "value": stage, "changed_at": at, "seq": k,
    }  # fmt: skip
