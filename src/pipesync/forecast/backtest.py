"""How good the forecast would have been: rolling origins, each with only what could be known at it.

The model is refitted at every origin, and what it learns from its own errors comes from origins whose period had
ended by then. Every baseline speaks at the same origins about the same opportunities; those that have no term
for new business are given the model's plain one, so that they lose by their conversion only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from pipesync.config import Calendar
from pipesync.errors import InputError, Problem
from pipesync.forecast import baselines, ladder, leakage, learning, metrics, replay
from pipesync.forecast import history as histories
from pipesync.forecast.history import DAY, Floats, History, Ints, Ms, to_moment, to_ms
from pipesync.forecast.learning import Learned
from pipesync.forecast.metrics import Interval
from pipesync.forecast.replay import WEEK, Issue, Settled
from pipesync.forecast.training import start_of_history
from pipesync.store.warehouse import Warehouse

METHODS = ("model", "stage", "stage_age", "run_rate", "crm_probability", "crm_category")
METRICS = ("auc", "brier", "brier_skill", "ece", "wape", "bias", "pinball", "coverage_80")
ENOUGH_PERIODS = 4
"""Completed periods that do not overlap; fewer cannot tell a total's error from luck (notes 3.6)."""
_RUN_RATE_SD = 0.3


@dataclass(frozen=True)
class OriginResult:
    origin: datetime
    actual: float
    """Amount won within the horizon, home currency."""
    p10: float
    p50: float
    p90: float
    mean: float
    rung: str
    open: int
    """Opportunities open at the origin."""
    low: float
    high: float
    """Of the 80% interval."""


@dataclass(frozen=True)
class Difference:
    """How the model did against one baseline on one metric, with its 95% interval."""

    value: float
    interval: Interval
    says: str
    """`better` or `worse` where the interval excludes none, else `not enough evidence`."""


@dataclass(frozen=True)
class Backtest:
    horizon: timedelta
    origins: list[OriginResult]
    metrics: dict[str, dict[str, float | None]]
    """By method and metric; None: the method does not say it, or the data cannot."""
    intervals: dict[str, dict[str, Interval | None]]
    """95%, drawing opportunities for metrics of opportunities and runs of origins for those of totals."""
    close_date: dict[str, float | None]
    """Of the model, among those won by now: median absolute error in days, and coverage of P10 to P90."""
    evidence: dict[str, str]
    """By kind of metric: `enough`, or why not."""
    against: dict[str, dict[str, Difference]] = field(default_factory=dict)
    """By baseline and metric: the model less the baseline, both drawn together."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Methods that this connection has no data for, and why."""


def run(
    warehouse: Warehouse,
    connection: str,
    calendar: Calendar,
    *,
    origins: Sequence[date | datetime] | None = None,
    horizon: timedelta = timedelta(days=28),
    seed: int = 0,
) -> Backtest:
    """Backtest up to the connection's watermark. Default origins: weekly, as far as the history allows.

    The first default origin has two horizons of history: one to learn from, one to be corrected by.
    """
    past = histories.load(warehouse, connection, calendar)
    now = _now(warehouse, connection, past)
    days = horizon / timedelta(days=1)
    asked = _origins(past, now, days, calendar, origins)
    banned = leakage.banned(warehouse, past, now)
    made = Replays(past, days, now, banned, seed)
    spoken = [_speak(made, origin, seed) for origin in asked]
    return _score(past, now, horizon, spoken, seed)


def _now(warehouse: Warehouse, connection: str, past: History) -> Ms:
    watermark = warehouse.watermark(connection)
    if watermark is not None:
        return to_ms(watermark)
    known = past.closed[past.closed < histories.NEVER]
    return int(known.max()) if len(known) else 0


def _origins(
    past: History, now: Ms, days: float, calendar: Calendar, asked: Sequence[date | datetime] | None
) -> list[Ms]:
    last = now - int(days * DAY)
    if asked is not None:
        found = sorted(to_ms(_moment(origin, calendar)) for origin in asked)
        late = [to_moment(o).date().isoformat() for o in found if o > last]
        if late:
            raise InputError(
                Problem(
                    f"what was won {days:g} days after {', '.join(late)} is not known yet",
                    fix=f"choose origins up to {to_moment(last).date().isoformat()}, or a shorter horizon",
                )
            )
        return found
    # Whole days of the company's calendar, so that the same days come again when the history has grown;
    # a history that is a day short of it counts as whole.
    day = to_moment(last).astimezone(ZoneInfo(calendar.timezone)).date()
    last = to_ms(_moment(day, calendar))
    first = start_of_history(past, now) + 2 * int(days * DAY) - 2 * DAY
    found = [last - week * WEEK for week in range(max((last - first) // WEEK + 1, 0))][::-1]
    if not found:
        raise InputError(
            Problem(
                f"a backtest over {days:g} days needs three times as much history",
                fix="choose a shorter --horizon, or origins of your own",
            )
        )
    return found


def _moment(origin: date | datetime, calendar: Calendar) -> datetime:
    if isinstance(origin, datetime):
        return origin
    return datetime.combine(origin, time(), ZoneInfo(calendar.timezone)).astimezone(UTC)


class Replays:
    """Issues of one history and horizon, made once each."""

    def __init__(self, past: History, days: float, now: Ms, banned: frozenset[str], seed: int) -> None:
        self.past, self.days, self.now, self.banned, self.seed = past, days, now, banned, seed
        self._made: dict[Ms, Settled] = {}

    def at(self, origin: Ms) -> Settled:
        if origin not in self._made:
            names = ["hazard", *baselines.of(self.past)]
            closed = self.past.closed <= origin
            if ladder.is_challenged(int(closed.sum()), int((closed & self.past.won).sum())):
                names.append("boosting")
            made = replay.issue(self.past, origin, self.days, names, banned=self.banned, seed=self.seed)
            self._made[origin] = replay.settle(self.past, made, self.now)
        return self._made[origin]

    def before(self, origin: Ms) -> list[Settled]:
        return [self.at(o) for o in replay.earlier_origins(self.past, origin, self.days)]


@dataclass(frozen=True)
class _Spoken:
    settled: Settled
    rung: str
    learned: Learned
    win: dict[str, Floats]
    """By method: probability of each row."""
    said: dict[str, tuple[float, float, float]]
    mean: float
    interval: dict[str, tuple[float, float]]


def _speak(made: Replays, origin: Ms, seed: int) -> _Spoken:
    settled = made.at(origin)
    issue = settled.issue
    before = made.before(origin)
    rung = ladder.choose(issue.closed, issue.won, before)
    learned = learning.learn(before, rung.forecaster, origin, issue.closed, seed=seed)
    model = learning.quantiles_of(issue, rung.forecaster, learned, seed=seed, draws=4000)
    said = {"model": model.model, "run_rate": _run_rate(issue)}
    interval = {"model": model.interval, "run_rate": (said["run_rate"][0], said["run_rate"][2])}
    win = {"model": learned.calibrate(issue.said(rung.forecaster))}
    for name in ("stage", "stage_age", "crm_probability", "crm_category"):
        if name in issue.win:
            win[name] = issue.win[name]
            alone = learning.quantiles_of(issue, name, Learned(), seed=seed)
            said[name], interval[name] = alone.hazard, alone.interval
    return _Spoken(settled, rung.forecaster, learned, win, said, model.mean, interval)


def _run_rate(issue: Issue) -> tuple[float, float, float]:
    half = 1.2816 * _RUN_RATE_SD
    middle = issue.run_rate.amount
    return middle * float(np.exp(-half)), middle, middle * float(np.exp(half))


# --- Scoring ----------------------------------------------------------------------------------------------------


def _score(past: History, now: Ms, horizon: timedelta, spoken: list[_Spoken], seed: int) -> Backtest:
    days = horizon / timedelta(days=1)
    present = [m for m in METHODS if all(m in s.said for s in spoken)]
    won = np.concatenate([s.settled.won for s in spoken])
    opportunity = np.concatenate([s.settled.issue.rows.opportunity for s in spoken])
    actual = np.array([s.settled.actual for s in spoken])
    span = (spoken[-1].settled.issue.origin - spoken[0].settled.issue.origin) / DAY
    periods = span / days + 1
    block = max(int(np.ceil(days / max(span / max(len(spoken) - 1, 1), 1.0))), 1)
    said, intervals = [s.said for s in spoken], [s.interval for s in spoken]
    found: dict[str, dict[str, float | None]] = {}
    ranges: dict[str, dict[str, Interval | None]] = {}
    drawn: dict[str, dict[str, Floats]] = {}
    base = np.concatenate([s.win["stage"] for s in spoken])
    everything, all_origins = np.arange(len(won)), np.arange(len(spoken))
    for method in present:
        found[method], ranges[method], drawn[method] = dict.fromkeys(METRICS), dict.fromkeys(METRICS), {}
        if method != "run_rate" and len(won):
            p = np.concatenate([s.win[method] for s in spoken])
            for name, score in _opportunity_scores(won, p, base).items():
                draws = metrics.scores_by_cluster(score, opportunity, seed=seed)
                found[method][name], drawn[method][name] = _number(score(everything)), draws
                ranges[method][name] = metrics.middle_of(draws)
        quantiles, inside = (np.array([one[method] for one in of]) for of in (said, intervals))
        for name, score in _total_scores(quantiles, inside, actual).items():
            draws = metrics.scores_by_block(score, len(spoken), block, seed=seed)
            value = score(all_origins)
            found[method][name], drawn[method][name] = _number(value), draws
            low, high = metrics.widened(value, draws, periods)
            bounds = _BOUNDS.get(name, (-np.inf, np.inf))
            ranges[method][name] = (max(low, bounds[0]), min(high, bounds[1]))
    return Backtest(
        horizon=horizon,
        origins=[
            OriginResult(
                to_moment(s.settled.issue.origin),
                s.settled.actual,
                *s.said["model"],
                s.mean,
                s.rung,
                len(s.settled.won),
                *s.interval["model"],
            )
            for s in spoken
        ],
        metrics=found,
        intervals=ranges,
        close_date=_close_dates(past, now, spoken),
        evidence=_evidence(won, periods),
        against={m: _against(found, drawn, m, periods) for m in present if m != "model"},
        left_out={m: _WHY_LEFT_OUT[m] for m in METHODS if m not in present},
    )


_COMPARED = {"auc": 1, "brier": -1, "ece": -1, "wape": -1, "pinball": -1}
"""Metrics that tell methods apart, and whether more (1) or less (-1) of them is better."""


def _against(
    found: dict[str, dict[str, float | None]],
    drawn: dict[str, dict[str, Floats]],
    method: str,
    periods: float,
) -> dict[str, Difference]:
    made = {}
    for name, better in _COMPARED.items():
        mine, other = found["model"][name], found[method][name]
        if mine is None or other is None:
            continue
        draws = drawn["model"][name] - drawn[method][name]
        is_total = name in ("wape", "pinball")
        low, high = metrics.widened(mine - other, draws, periods) if is_total else metrics.middle_of(draws)
        sure = "better" if (low > 0) == (better > 0) else "worse"
        made[name] = Difference(
            mine - other, (low, high), "not enough evidence" if low <= 0 <= high else sure
        )
    return made


_BOUNDS = {"wape": (0.0, np.inf), "pinball": (0.0, np.inf), "coverage_80": (0.0, 1.0)}
_WHY_LEFT_OUT = {"crm_category": "this connection has no forecast category with a history"}


def _evidence(won: Floats, periods: float) -> dict[str, str]:
    wins, losses = int(won.sum()), int(len(won) - won.sum())
    return {
        "opportunities": "enough"
        if min(wins, losses) >= 40
        else f"not enough evidence: {wins} won and {losses} not won; 40 of each are needed",
        "totals": "enough"
        if periods >= ENOUGH_PERIODS
        else f"not enough evidence: {periods:.1f} periods that do not overlap; {ENOUGH_PERIODS} are needed",
    }


def _opportunity_scores(won: Any, p: Floats, base: Floats) -> dict[str, Callable[[Ints], float]]:
    return {
        "auc": lambda rows: metrics.auc(won[rows], p[rows]),
        "brier": lambda rows: metrics.brier(won[rows], p[rows]),
        "brier_skill": lambda rows: (
            1 - metrics.brier(won[rows], p[rows]) / metrics.brier(won[rows], base[rows])
        ),
        "ece": lambda rows: metrics.ece(won[rows], p[rows]),
    }


def _total_scores(said: Floats, interval: Floats, actual: Floats) -> dict[str, Callable[[Ints], float]]:
    return {
        "wape": lambda rows: metrics.wape(said[rows, 1], actual[rows]),
        "bias": lambda rows: metrics.bias(said[rows, 1], actual[rows]),
        "pinball": lambda rows: float(
            np.mean([learning.pinball(said[r], actual[r]) for r in rows])
            / max(float(np.mean(actual[rows])), 1e-9)
        ),
        "coverage_80": lambda rows: metrics.coverage(interval[rows, 0], interval[rows, 1], actual[rows]),
    }


def _close_dates(past: History, now: Ms, spoken: list[_Spoken]) -> dict[str, float | None]:
    """Score expected close dates on the latest origins' opportunities that have been won since."""
    from pipesync.forecast.timing import quantile_days

    errors: list[float] = []
    inside: list[bool] = []
    for one in spoken:
        issue = one.settled.issue
        closed = past.closed[issue.rows.opportunity]
        won = past.won[issue.rows.opportunity] & (closed <= now)
        if not won.any():
            continue
        rows = issue.rows.take(won)
        low, middle, high = quantile_days(issue.fitted[one.rung], rows, one.learned).T
        took = (closed[won] - issue.origin) / DAY
        errors += list(np.abs(took - middle))
        inside += list((low <= took) & (took <= high))
    if not errors:
        return {"median_error_days": None, "coverage_80": None}
    return {"median_error_days": float(np.median(errors)), "coverage_80": float(np.mean(inside))}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
