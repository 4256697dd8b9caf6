"""A made-up company as a dataset folder: what the demo shows, the sandbox serves and the benchmarks scale.

Every run with the same arguments writes the same bytes. The base is deliberately clean, so that what the rules find
is what was planted; `Planted` says where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipesync.sandbox.company import plants, tables
from pipesync.sandbox.company.shape import SLOW_STAGE
from pipesync.sandbox.company.simulate import simulate

AS_OF = datetime(2026, 11, 16, 8, tzinfo=UTC)
"""The moment that the demo's company speaks of."""


@dataclass(frozen=True)
class Planted:
    """What is wrong with the company, on purpose."""

    as_of: datetime
    rules: Mapping[str, tuple[str, ...]]
    """Rule id -> opportunities on which it must fire. Each opportunity is in one of them only; a stale commit has
    also had no activity, and both opportunities of a duplicate pair are listed."""
    slow_stage: tuple[str, str]
    """(pipeline, stage) where revenue waits longest, and whose queue has grown over the last weeks."""
    rework: tuple[str, str, str]
    """(pipeline, from stage, to stage) of the loop."""
    opportunities: int
    open: int


def generate(
    folder: Path,
    *,
    opportunities: int = 2000,
    seed: int = 7,
    as_of: datetime = AS_OF,
    activities_per_opportunity: float = 10,
) -> Planted:
    """Write the company into `folder`; two years of history up to `as_of`, which must have a zone."""
    rng = np.random.default_rng(seed)
    company = simulate(rng, opportunities, as_of)
    planted = plants.choose(rng, company)
    tables.write(folder, rng, company, planted, activities_per_opportunity)
    return Planted(
        as_of=as_of,
        rules={rule: tuple(tables.opportunity_ids(rows).to_pylist()) for rule, rows in planted.items()},
        slow_stage=("New business", SLOW_STAGE),
        rework=("New business", "Propose", "Discover"),
        opportunities=opportunities,
        open=int(company.is_open.sum()),
    )
