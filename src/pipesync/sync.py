"""The cycle: the one module that knows the order of the steps and hands tables from one to the next.

Each step is a function of its own, so that a command that needs three of them runs three. `examine`, `foretell`
and `make_plan` only read; `cycle` enters what it found into the ledger and writes what the connection allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pandas import DataFrame

from pipesync import features, forecast, rules
from pipesync.adapters import open_adapter
from pipesync.adapters.base import Pulled
from pipesync.analysis import bottlenecks, stages
from pipesync.config import Config
from pipesync.errors import PipesyncError
from pipesync.forecast import Forecast, periods
from pipesync.model import StandingFinding
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse

T = TypeVar("T")


# --- Steps that read ------------------------------------------------------------------------------------------


def load_rules(config: Config, only: Sequence[str] = ()) -> rules.RuleSet:
    """Load the configured rules, or some of them; a wrong rule file is an InputError, not a rule that is missing."""
    ruleset = rules.load(config, strict=True)
    return ruleset.only(only) if only else ruleset


@dataclass(frozen=True)
class Examined:
    """What the rules say of a connection, and the tables that they said it from."""

    features: features.Features
    stages: DataFrame
    evaluation: rules.Evaluation


def examine(
    warehouse: Warehouse,
    connection: str,
    config: Config,
    ruleset: rules.RuleSet,
    as_of: datetime,
    standing: Sequence[StandingFinding] = (),
) -> Examined:
    """Compute features, stages and findings. The feature tables stay in this session of the warehouse."""
    computed = features.compute(warehouse, connection, as_of, config.calendar)
    table = stages.analyse(warehouse, connection, as_of, config.calendar)
    found = rules.evaluate(warehouse, computed, ruleset, stages=table, standing=standing)
    return Examined(computed, table, found)


def find_bottlenecks(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime
) -> bottlenecks.Bottlenecks:
    features.compute(warehouse, connection, as_of, config.calendar)
    return bottlenecks.find(warehouse, connection, as_of, config.calendar)


def foretell(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime, period: str | None = None
) -> Forecast:
    """Forecast the period that people wrote, or the configured kind of period that holds `as_of`."""
    computed = features.compute(warehouse, connection, as_of, config.calendar)
    return forecast.predict(warehouse, computed, _period(config, as_of, period))


def _period(config: Config, as_of: datetime, text: str | None) -> periods.Period:
    if text:
        return periods.parse_period(text, config.calendar)
    return periods.period_of(as_of, config.forecast.period, config.calendar)


# --- Steps that write -----------------------------------------------------------------------------------------


def side_by_side(names: Sequence[str], work: Callable[[str], T]) -> dict[str, T | PipesyncError]:
    """Do the work of every connection, several at a time; a failure stays with its connection."""

    def guarded(name: str) -> T | PipesyncError:
        try:
            return work(name)
        except PipesyncError as error:
            return error

    if len(names) == 1:
        return {names[0]: guarded(names[0])}
    with ThreadPoolExecutor(max_workers=min(4, len(names))) as pool:
        return dict(zip(names, pool.map(guarded, names), strict=True))


def pull_all(config: Config, names: Sequence[str], *, full: bool = False) -> dict[str, Any]:
    """Pull connections into the configured warehouse and publish it; return `Pulled` per stream, or the error."""
    with Warehouse(config.warehouse) as warehouse:

        def work(name: str) -> dict[str, Pulled]:
            with warehouse.session() as session:
                adapter = open_adapter(name, config.connections[name], config.folder)
                try:
                    return pull(adapter, session, full=full)
                finally:
                    adapter.close()

        outcomes = side_by_side(names, work)
        warehouse.publish()
    return outcomes
