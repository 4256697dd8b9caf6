"""How long `pipesync check` takes over a warehouse that is already pulled, and how much memory.

    python -m benchmarks.check --opportunities 50000

The bar: 50,000 opportunities, 250,000 history rows and 500,000 activities in at most 3 seconds and 500 MB, the
whole command in a process of its own, Python's start included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bulk import NAME, fill

from pipesync.store.warehouse import Warehouse

_CONFIG = f"version: 1\nmode: observe\nconnections:\n  {NAME}: {{adapter: files, data: exports}}\n"


def prepare(folder: Path, opportunities: int, seed: int) -> None:
    """Leave a configuration and a published warehouse in a folder."""
    (folder / "pipesync.yaml").write_text(_CONFIG, encoding="utf-8")
    with Warehouse(folder / "warehouse.duckdb") as warehouse:
        fill(warehouse, opportunities, seed)
        warehouse.publish()


def measure(folder: Path) -> tuple[float, float, dict[str, int]]:
    """Run the command once: seconds, peak memory in MB, and what came out (to see that it did the work)."""
    command = [sys.executable, "-m", "pipesync.cli", "check", "--format", "json"]
    started = time.perf_counter()
    with (folder / "found.json").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"check ended with {process.returncode}")
    found = json.loads((folder / "found.json").read_bytes())["connections"][0]
    fired = {"rules": len(found["rules"]), "findings": len(found["findings"])}
    return seconds, usage.ru_maxrss * 1024 / 1e6, fired


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of `pipesync check`")
    parser.add_argument("--opportunities", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made), options.opportunities, options.seed)
        runs = [measure(Path(made)) for _ in range(options.runs)]
    best, memory = min(r[0] for r in runs), max(r[1] for r in runs)
    print(f"{options.opportunities:,} opportunities: {best:.2f} s, {memory:.0f} MB, {runs[0][2]}")
    print("bar: 3 s and 500 MB for 50,000")


if __name__ == "__main__":
    main()
