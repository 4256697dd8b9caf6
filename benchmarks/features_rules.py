"""What pipesync adds to DuckDB: features and rules through the library, against the same SQL run bare.

    python -m benchmarks.features_rules --opportunities 1000000

The library's statements are recorded, and run again on a plain DuckDB connection to the same data, turn by turn, with
the same `--memory`. The bar: at most 1.3 times the bare run at 1 million opportunities (16 million rows in all) and
1.2 GB in all; features of 50,000 in at most 1 second, and all rules on them in at most 1 second more, the worst twelve
findings with their texts included. What all texts take is told beside it. The company is made, and the bare run takes
place, where the peak of the library is not touched: in another process, and after it was read.
Where rule-engine is installed (`pip install rule-engine`), it stands beside ours as a ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from benchmarks.bulk import AS_OF, NAME, fill

from pipesync import rules
from pipesync.analysis import stages
from pipesync.config import MEMORY, Calendar, Config, ConnectionConfig
from pipesync.features import compute
from pipesync.rules.evaluate import judge, unread_by
from pipesync.store.warehouse import Warehouse

Statement = tuple[str, str, Any]  # Any: bound values, or rows to register


class Recording(Warehouse):
    """A warehouse that notes what it is asked."""

    def __init__(self, path: Path, memory: str) -> None:
        self.statements: list[Statement] = []
        super().__init__(path, memory=memory)

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> None:
        self.statements.append(("execute", sql, parameters))
        super().execute(sql, parameters)

    def rows(
        self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> list[tuple[Any, ...]]:
        self.statements.append(("rows", sql, parameters))
        return super().rows(sql, parameters)

    def arrow(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        self.statements.append(("arrow", sql, parameters))
        return super().arrow(sql, parameters)

    def batches(self, sql: str, rows: int = 65536) -> Any:
        self.statements.append(("batches", sql, rows))
        return super().batches(sql, rows)

    def frame(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        self.statements.append(("frame", sql, parameters))
        return super().frame(sql, parameters)

    def register(self, name: str, rows: Any) -> None:
        self.statements.append(("register", name, rows))
        super().register(name, rows)


def rules_of(preset: str) -> rules.RuleSet:
    return rules.load(Config(extends=(preset,), connections={NAME: ConnectionConfig(adapter="files")}))


def rules_alone(path: Path, preset: str, memory: str) -> tuple[float, float, int]:
    """Seconds of judging every rule on opportunities, of the same statement bare, and how many rules there are.

    Both count what fires, by rule, over the same features; turn by turn, the best of three.
    """
    some = [rule for rule in rules_of(preset) if rule.level == "opportunity"]
    library, plain = [], []
    with Recording(path, memory) as warehouse:
        features = compute(warehouse, NAME, AS_OF, Calendar())
        warehouse.statements.clear()
        for _ in range(3):
            started = time.perf_counter()
            judge(warehouse, some, "features", unread_by(warehouse, features, some))
            counted = ", ".join(f"count_if(v{i})" for i in range(len(some)))
            warehouse.rows(f"SELECT {counted} FROM judged")
            library.append(time.perf_counter() - started)
            [(_, statement, _), (_, count, _)] = warehouse.statements[-2:]
            started = time.perf_counter()
            warehouse.execute(statement)
            warehouse.rows(count)
            plain.append(time.perf_counter() - started)
    return min(library), min(plain), len(some)


def beside_rule_engine(path: Path, judged: float, sample: int = 5000) -> float | None:
    """How many times longer rule-engine takes for one of our conditions, row by row; None where it is not installed.

    `judged` is what a rule takes us, as one among all of the statement. Rows are plain values, read before the clock
    starts.
    """
    try:
        import rule_engine  # type: ignore[import-not-found, unused-ignore]  # a peer, installed by hand
    except ImportError:
        return None
    asked = rule_engine.Rule("is_open and forecast_category == 'commit' and (idle == null or idle >= 10)")
    columns = "is_open, forecast_category, business_days_since_last_activity::DOUBLE AS idle"
    with Warehouse(path) as warehouse:
        compute(warehouse, NAME, AS_OF, Calendar())
        rows = warehouse.frame(f"SELECT {columns} FROM features LIMIT {sample}").astype(object)
        facts = rows.where(rows.notna(), None).to_dict("records")
        [(count,)] = warehouse.rows("SELECT count(*) FROM features")
    started = time.perf_counter()
    fired = sum(asked.matches(fact) for fact in facts)
    seconds = time.perf_counter() - started
    assert 0 < fired < sample
    return float(seconds / sample / (judged / count))


class Timed(NamedTuple):
    """Seconds, and the statements that they went to."""

    features: float
    rules: float
    """Stage table, judging, and the worst twelve findings with their texts."""
    texts: float
    """All findings made, one after the other, as `check --format csv` does."""
    findings: int
    cpu: float
    """Of features and rules, in all threads: what a busy machine changes less."""
    statements: list[Statement]

    @property
    def both(self) -> float:
        return self.features + self.rules


def through_the_library(path: Path, preset: str, memory: str) -> Timed:
    with Recording(path, memory) as warehouse:
        ruleset = rules_of(preset)
        warehouse.statements.clear()
        started, worked = time.perf_counter(), time.process_time()
        features = compute(warehouse, NAME, AS_OF, Calendar())
        computed = time.perf_counter()
        table = stages.analyse(warehouse, NAME, AS_OF, Calendar())
        found = rules.evaluate(warehouse, features, ruleset, stages=table).findings
        shown = list(found[:12])
        judged, cpu = time.perf_counter(), time.process_time() - worked
        made = sum(1 for _ in found)
        ended = time.perf_counter()
        assert made == len(found) >= len(shown)
        return Timed(computed - started, judged - computed, ended - judged, made, cpu, warehouse.statements)


def bare(path: Path, statements: Sequence[Statement], memory: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, of the same statements on a plain connection, results fetched the same way."""
    with duckdb.connect(str(path)) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"SET memory_limit = '{memory}'")
        started, worked = time.perf_counter(), time.process_time()
        for how, sql, given in statements:
            if how == "register":
                db.register("_incoming", given)
                db.execute(f'CREATE OR REPLACE TEMP TABLE "{sql}" AS SELECT * FROM _incoming')
            elif how == "execute":
                db.execute(sql, given)
            elif how == "rows":
                db.execute(sql, given).fetchall()
            elif how == "batches":
                for _ in db.sql(sql).to_arrow_reader(given):
                    pass
            elif how == "arrow":
                db.sql(sql, params=given).to_arrow_table()
            else:
                db.execute(sql, given).df()
        return time.perf_counter() - started, time.process_time() - worked


def make(path: Path, opportunities: int, seed: int) -> None:
    with Warehouse(path) as warehouse:
        fill(warehouse, opportunities, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="features and rules against bare DuckDB")
    parser.add_argument("--opportunities", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--memory", default=MEMORY, help="what DuckDB may hold, on both sides (default: %(default)s)"
    )
    parser.add_argument(
        "--preset", default="pipesync:all", help="pipesync:recommended for what most sites run"
    )
    options = parser.parse_args()
    preset, memory = options.preset, options.memory
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warehouse.duckdb"
        maker = multiprocessing.get_context("spawn").Process(
            target=make, args=(path, options.opportunities, options.seed)
        )
        maker.start()
        maker.join()
        library, plain, peak = [], [], 0.0
        for _ in range(options.runs):
            library.append(through_the_library(path, preset, memory))
            peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            plain.append(bare(path, library[-1].statements, memory))
        alone, bare_alone, number = rules_alone(path, preset, memory)
        times = beside_rule_engine(path, alone / number)
    best = min(library, key=lambda one: one.both)
    print(
        f"{options.opportunities:,} opportunities: features {best.features:.2f} s, rules {best.rules:.2f} s"
    )
    print(f"{best.findings:,} findings; the texts of all {best.texts:.2f} s")
    print(
        f"{number} rules on opportunities alone {alone:.2f} s, bare {bare_alone:.2f} s, ratio {alone / bare_alone:.2f}"
    )
    if times:
        print(f"rule-engine takes {times:,.0f} times as long a rule and row")
    seconds, cpu = (min(times) for times in zip(*plain, strict=True))
    print(
        f"both {best.both:.2f} s, bare {seconds:.2f} s, ratio {best.both / seconds:.2f}; peak {peak:.0f} MB"
    )
    print(f"CPU seconds: both {best.cpu:.2f}, bare {cpu:.2f}, ratio {best.cpu / cpu:.2f}")


if __name__ == "__main__":
    main()
