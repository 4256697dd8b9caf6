"""The forecast on data of yours, on little data, and on much of it.

    python -m benchmarks.forecast backtest DIR [--horizon 28] [--origins 2011-12-03,2011-12-10]
    python -m benchmarks.forecast small DIR [--closed 50]
    python -m benchmarks.forecast static DIR [--mapping FILE]
    python -m benchmarks.forecast size [--opportunities 50000]

`backtest` prints every method with its intervals; `small` trains on a few random closed opportunities (8 seeds)
and scores the last origins that the data allows; `static` says which fields leak, which are silent, how many open
opportunities are older than anything that ever closed, and how quarters would have been foretold week by week;
`size` measures a simulated company. DIR is a dataset folder.
"""

from __future__ import annotations

import argparse
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks import simulate

from pipesync.adapters import open_adapter
from pipesync.config import Calendar, ConnectionConfig
from pipesync.features import Features
from pipesync.forecast import backtest, fit_model, history, landmarks, leakage, metrics, predict
from pipesync.forecast.forecasters import fit, within
from pipesync.forecast.history import DAY, to_moment, to_ms
from pipesync.forecast.landmarks import Fate
from pipesync.forecast.periods import Period, period_of
from pipesync.forecast.training import training_at
from pipesync.pull import pull
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "data"


@contextmanager
def opened(folder: Path, mapping: Path | None = None) -> Iterator[Warehouse]:
    config = ConnectionConfig(adapter="files", mapping=mapping, options={"data": str(folder.resolve())})
    with Warehouse() as warehouse:
        adapter = open_adapter(NAME, config, folder)
        pull(adapter, warehouse)
        adapter.close()
        yield warehouse


def run_backtest(folder: Path, horizon: int, origins: list[date] | None) -> None:
    with opened(folder) as warehouse:
        begun = time.perf_counter()
        found = backtest.run(warehouse, NAME, Calendar(), origins=origins, horizon=timedelta(days=horizon))
    print(f"{len(found.origins)} origins, {time.perf_counter() - begun:.0f} s; {found.evidence}")
    for one in found.origins:
        print(f"  {one.origin:%Y-%m-%d} actual {one.actual:12,.0f}  p10 {one.p10:12,.0f}  p50 {one.p50:12,.0f}  "
              f"p90 {one.p90:12,.0f}  {one.rung}")  # fmt: skip
    for method, scores in found.metrics.items():
        told = [figure(n, v, found.intervals[method][n]) for n, v in scores.items() if v is not None]
        print(f"{method:16s} " + "  ".join(told))
    print(f"close date {found.close_date}; left out {found.left_out}")


def figure(name: str, value: float, interval: tuple[float, float] | None) -> str:
    return f"{name} {value:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def run_small(folder: Path, closed: int, horizon: float = 28.0) -> None:
    """Train on landmarks of a few closed opportunities only; score the last four weekly origins."""
    with opened(folder) as warehouse:
        past = history.load(warehouse, NAME)
        end = to_ms(_watermark(warehouse))
    test = [end - int(horizon * DAY) - week * 7 * DAY for week in range(4)]
    rows = landmarks.at(past, sorted(test))
    won = past.won[rows.opportunity] & (past.closed[rows.opportunity] <= rows.origin + horizon * DAY)
    whole = training_at(past, min(test))
    names = ("stage", "stage_age", "hazard")
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in range(8):
        ended = np.unique(whole.rows.opportunity[whole.fate.won | whole.fate.lost])
        chosen = np.random.default_rng(seed).choice(ended, closed, replace=False)
        kept = np.isin(whole.rows.opportunity, chosen)
        fate = Fate(whole.fate.days[kept], whole.fate.won[kept], whole.fate.lost[kept])
        training = replace(
            whole, rows=whole.rows.take(kept), fate=fate, weight=whole.weight[kept], closed=closed,
            won=int(past.won[chosen].sum()),
        )  # fmt: skip
        for name in names:
            p = within(fit(name, training), rows, horizon)
            scores[name].append((metrics.auc(won, p), metrics.brier(won, p)))
    print(
        f"{closed} closed opportunities, 8 seeds; {len(rows)} landmarks to score, {won.mean():.1%} won in time"
    )
    for name, found in scores.items():
        area, error = np.mean(found, axis=0)
        print(f"{name:16s} auc {area:.4f}  brier {error:.4f}  worst seed {max(b for _, b in found):.4f}")


def run_static(folder: Path, mapping: Path | None) -> None:
    with opened(folder, mapping) as warehouse:
        as_of = _watermark(warehouse)
        past = history.load(warehouse, NAME)
        guard = leakage.check(warehouse, past, to_ms(as_of))
        for leak in guard.leaks:
            print(f"leak       {leak.field:16s} {leak.kind:16s} {leak.why}")
        for one in guard.signals:
            print(
                f"{one.says:10s} {one.field:16s} auc {one.auc:.3f} [{one.interval[0]:.3f}, {one.interval[1]:.3f}]"
            )
        made = predict(warehouse, Features(NAME, as_of, frozenset()), period_of(as_of, "quarter", Calendar()))
        print(f"older than anything that ever closed: {len(made.zombies)} of {len(made.opportunities)} open")
        _quarters(warehouse, past, as_of)


def _quarters(warehouse: Warehouse, past: history.History, as_of: datetime) -> None:
    """Print each quarter's error from its fourth week on, beside that of run-rate for the rest of it."""
    from pipesync.forecast.baselines import run_rate
    from pipesync.forecast.training import start_of_history

    model, rate, when = [], [], []
    closed = np.sort(past.closed[past.closed < history.NEVER])
    end = period_of(to_moment(int(closed[-1])), "quarter", Calendar())
    period = period_of(to_moment(int(closed[len(closed) // 10])), "quarter", Calendar())
    while period.end <= end.end:
        start, stop = to_ms(period.starts_at), to_ms(period.ends_at)
        actual = float(np.nansum(past.amount[past.won & (past.closed >= start) & (past.closed < stop)]))
        for week in (4, 6, 8, 10, 12):
            moment = start + week * 7 * DAY
            if moment > to_ms(as_of) or start_of_history(past, moment) > moment - 28 * DAY:
                continue
            features = Features(NAME, to_moment(moment), frozenset())
            said = predict(warehouse, features, period).total
            left = run_rate(past, moment, (stop - moment) / DAY, start_of_history(past, moment)).amount
            model.append((float(said.p50) - actual) / actual)
            rate.append((float(said.closed) + left - actual) / actual)
            when.append(period.start)
            print(f"  {period} week {week:2d} model {model[-1]:+.1%} run-rate {rate[-1]:+.1%}")
        period = period_of(period.ends_at + timedelta(days=1), "quarter", Calendar())
    gap = np.abs(model) - np.abs(rate)
    quarters = np.array([gap[np.array(when) == one].mean() for one in sorted(set(when))])
    errors = [g.std(ddof=1) / len(g) ** 0.5 for g in (gap, quarters)]
    print(f"from week 4: mean |error| model {np.abs(model).mean():.2%}, run-rate {np.abs(rate).mean():.2%}; difference "
          f"{gap.mean():+.2%}, standard error over moments {errors[0]:.2%}, over quarters {errors[1]:.2%}")  # fmt: skip


def run_size(opportunities: int) -> None:
    reps = max(opportunities // 208, 1)
    company = simulate.company(1, reps=reps, weeks=104, per_rep_week=2.0)
    as_of = simulate.EPOCH + timedelta(weeks=103)
    period = Period(as_of.date(), (as_of + timedelta(days=90)).date())
    features = Features(simulate.NAME, as_of, frozenset())
    with company.warehouse(as_of) as warehouse:
        begun, cpu = time.perf_counter(), time.process_time()
        model = fit_model(warehouse, features, period)
        fitted, spent = time.perf_counter() - begun, time.process_time() - cpu
        begun, cpu = time.perf_counter(), time.process_time()
        made = predict(warehouse, features, period, model=model)
        predicted, spent_then = time.perf_counter() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        f"{len(company.opportunities)} opportunities, {len(company.changes)} changes, {len(made.opportunities)} open"
    )
    print(f"fit {fitted:.1f} s (cpu {spent:.1f} s), predict alone {predicted:.1f} s (cpu {spent_then:.1f} s)")
    print(f"peak {peak:.2f} GB, the simulator included")


def _watermark(warehouse: Warehouse) -> datetime:
    found = warehouse.watermark(NAME)
    assert found is not None
    return found.astimezone(UTC)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = asked.add_subparsers(dest="command", required=True)
    for name in ("backtest", "small", "static"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name == "backtest":
            command.add_argument("--horizon", type=int, default=28)
            command.add_argument("--origins", default="")
        if name == "static":
            command.add_argument("--mapping", type=Path)
        if name == "small":
            command.add_argument("--closed", type=int, default=50)
    commands.add_parser("size").add_argument("--opportunities", type=int, default=50_000)
    given: Any = asked.parse_args()  # Any: argparse has no types
    if given.command == "backtest":
        days = [date.fromisoformat(day) for day in given.origins.split(",") if day]
        run_backtest(given.folder, given.horizon, days or None)
    elif given.command == "small":
        run_small(given.folder, given.closed)
    elif given.command == "static":
        run_static(given.folder, given.mapping)
    else:
        run_size(given.opportunities)


if __name__ == "__main__":
    main()
