"""How long every analysis takes, and how much memory: each in a process of its own, on a warehouse made before.

    python -m benchmarks.analysis --opportunities 50000
    python -m benchmarks.analysis --opportunities 1000000

The bar: each in at most 3 seconds at 50,000 opportunities with 250,000 history rows; at most 20 seconds and 2 GB at
1 million with 5 million. The features that an analysis reads are computed before it and told apart; the peak is that of
the process, theirs included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

from benchmarks.bulk import AS_OF, NAME, fill

from pipesync.analysis.bottlenecks import find
from pipesync.analysis.comparison import between_segments, with_period_before
from pipesync.analysis.coverage import coverage
from pipesync.analysis.effects import effect
from pipesync.analysis.flow import flows
from pipesync.analysis.linearity import clusters, linearity
from pipesync.analysis.losses import losses
from pipesync.analysis.owners import owners
from pipesync.analysis.processmap import process_map
from pipesync.analysis.products import products
from pipesync.analysis.sources import sources
from pipesync.analysis.today import today
from pipesync.analysis.velocity import creation_against_closing, velocity
from pipesync.analysis.waterfall import waterfall
from pipesync.config import MEMORY, Calendar
from pipesync.features import compute
from pipesync.forecast.periods import Period
from pipesync.store.warehouse import Warehouse

NAMES = (
    "bottlenecks", "flow", "process map", "period before", "segments", "effect", "owners", "products", "sources",
    "velocity", "linearity", "losses", "today, one rep", "coverage", "waterfall",
)  # fmt: skip


def analyses(warehouse: Warehouse) -> dict[str, Callable[[], object]]:
    """Name every analysis as a call on the session's features."""
    calendar, features = Calendar(), compute(warehouse, NAME, AS_OF, Calendar())
    quarter = Period(date(2026, 10, 1), date(2027, 1, 1))
    before = AS_OF - timedelta(days=91)
    return {
        "bottlenecks": lambda: find(warehouse, NAME, AS_OF, calendar),
        "flow": lambda: flows(warehouse, features),
        "process map": lambda: process_map(warehouse, features),
        "period before": lambda: with_period_before(warehouse, features),
        "segments": lambda: between_segments(warehouse, features),
        "effect": lambda: effect(warehouse, features, before),
        "owners": lambda: owners(warehouse, features),
        "products": lambda: products(warehouse, features),
        "sources": lambda: sources(warehouse, features),
        "velocity": lambda: (velocity(warehouse, features), creation_against_closing(warehouse, features)),
        "linearity": lambda: (linearity(warehouse, features, calendar), clusters(warehouse, features)),
        "losses": lambda: losses(warehouse, features),
        "today, one rep": lambda: today(warehouse, features, owner_id="u1"),
        "coverage": lambda: coverage(warehouse, features, quarter, calendar),
        "waterfall": lambda: waterfall(warehouse, NAME, before, AS_OF, calendar, period=quarter),
    }


def measure(path: str, name: str, memory: str) -> None:
    """Print, in a process of its own, seconds of the features, seconds of an analysis and the peak in MB."""
    with Warehouse(Path(path), read_only=True, memory=memory) as warehouse:
        started = time.perf_counter()
        run = analyses(warehouse)[name]
        computed, spent = time.perf_counter(), time.process_time()
        run()
        ended, cpu = time.perf_counter(), time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(
        f"{name:16}{computed - started:9.2f} s{ended - computed:9.2f} s{cpu:9.2f} s{peak:9.0f} MB", flush=True
    )


def make(path: str, opportunities: int, seed: int) -> None:
    with Warehouse(Path(path)) as warehouse:
        fill(warehouse, opportunities, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of every analysis")
    parser.add_argument("--opportunities", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", default=MEMORY, help="what DuckDB may hold (default: %(default)s)")
    parser.add_argument("--only", choices=NAMES, help="one analysis")
    options = parser.parse_args()
    fresh = get_context("spawn")
    print(f"{'':16}{'features':>11}{'analysis':>11}{'of cpu':>11}{'peak':>12}")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "warehouse.duckdb")
        jobs: list[tuple[Callable[..., None], tuple[object, ...]]] = [
            (make, (path, options.opportunities, options.seed))
        ]
        jobs += [(measure, (path, name, options.memory)) for name in NAMES if options.only in (None, name)]
        for work, given in jobs:
            process = fresh.Process(target=work, args=given)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
