"""What pipesync adds to DuckDB: features and rules through the library, against the same SQL run bare.

    python -m benchmarks.features_rules --opportunities 1000000

The library's statements are recorded, and run again on a plain DuckDB connection to the same data, turn by turn.
The bar: at most 1.3 times the bare run at 1 million opportunities (16 million rows in all) and 1.2 GB; features of
50,000 in at most 1 second, and all rules on them in at most 1 second more. Where rule-engine is installed
(`pip install rule-engine`), it stands beside ours as a ratio.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
from benchmarks.bulk import AS_OF, NAME, fill

from pipesync import rules
from pipesync.analysis import stages
from pipesync.config import Calendar, Config, ConnectionConfig
from pipesync.features import compute
from pipesync.rules.evaluate import judge, unread_by
from pipesync.store.warehouse import Warehouse

Statement = tuple[str, str, Any]  # Any: bound values, or rows to register


class Recording(Warehouse):
    """A warehouse that notes what it is asked."""

    def __init__(self, path: Path) -> None:
        self.statements: list[Statement] = []
        super().__init__(path)

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

    def frame(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        self.statements.append(("frame", sql, parameters))
        return super().frame(sql, parameters)

    def register(self, name: str, rows: Any) -> None:
        self.statements.append(("register", name, rows))
        super().register(name, rows)


def rules_of(preset: str) -> rules.RuleSet:
    return rules.load(Config(extends=(preset,), connections={NAME: ConnectionConfig(adapter="files")}))


def rules_alone(path: Path, preset: str) -> tuple[float, float, int]:
    """Seconds of judging every rule on opportunities, of the same statement bare, and how many rules there are.

    Both count what fires, by rule, over the same features; turn by turn, the best of three.
    """
    some = [rule for rule in rules_of(preset) if rule.level == "opportunity"]
    library, plain = [], []
    with Recording(path) as warehouse:
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


def beside_rule_engine(path: Path, preset: str, sample: int = 5000) -> float | None:
    """How many times longer rule-engine takes for one of our conditions, row by row; None where it is not installed.

    Ours is the time of a rule among all rules of the statement. Rows are plain values, read before the clock starts.
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
    judged, _, number = rules_alone(path, preset)
    return float(seconds / sample / (judged / number / count))


def through_the_library(path: Path, preset: str) -> tuple[float, float, float, list[Statement]]:
    """Seconds of features, of rules (stage table and findings included), of both; and the statements."""
    with Recording(path) as warehouse:
        ruleset = rules_of(preset)
        warehouse.statements.clear()
        started = time.perf_counter()
        features = compute(warehouse, NAME, AS_OF, Calendar())
        computed = time.perf_counter()
        table = stages.analyse(warehouse, NAME, AS_OF, Calendar())
        rules.evaluate(warehouse, features, ruleset, stages=table)
        ended = time.perf_counter()
        return computed - started, ended - computed, ended - started, warehouse.statements


def bare(path: Path, statements: Sequence[Statement]) -> float:
    """Seconds of the same statements on a plain connection, results fetched the same way."""
    with duckdb.connect(str(path)) as db:
        db.execute("SET TimeZone = 'UTC'")
        started = time.perf_counter()
        for how, sql, given in statements:
            if how == "register":
                db.register("_incoming", given)
                db.execute(f'CREATE OR REPLACE TEMP TABLE "{sql}" AS SELECT * FROM _incoming')
            elif how == "execute":
                db.execute(sql, given)
            elif how == "rows":
                db.execute(sql, given).fetchall()
            elif how == "arrow":
                db.sql(sql, params=given).to_arrow_table()
            else:
                db.execute(sql, given).df()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="features and rules against bare DuckDB")
    parser.add_argument("--opportunities", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--preset", default="pipesync:all", help="pipesync:recommended for what most sites run"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warehouse.duckdb"
        with Warehouse(path) as warehouse:
            fill(warehouse, options.opportunities, options.seed)
        library, plain = [], []
        for _ in range(options.runs):
            *seconds, statements = through_the_library(path, options.preset)
            library.append(seconds)
            plain.append(bare(path, statements))
        alone, bare_alone, number = rules_alone(path, options.preset)
        times = beside_rule_engine(path, options.preset)
    features, judged, both = min(library, key=lambda s: s[2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.opportunities:,} opportunities: features {features:.2f} s, rules {judged:.2f} s")
    print(
        f"{number} rules on opportunities alone {alone:.2f} s, bare {bare_alone:.2f} s, ratio {alone / bare_alone:.2f}"
    )
    if times:
        print(f"rule-engine takes {times:,.0f} times as long a rule and row")
    print(f"both {both:.2f} s, bare {min(plain):.2f} s, ratio {both / min(plain):.2f}; peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
