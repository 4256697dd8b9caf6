"""Where to coach: each rep against peers with similar opportunities, with at most three points that are real.

Reads `features` and `stage_visits` of the session. A rep is compared with what peers did at the same pipeline, stage,
segment and size of opportunity, so that hard opportunities are not held against anybody: observed against expected,
peers' rate without the rep's own visits. Where the forecast's win probabilities are handed in, wins are compared with
them as well. Points are named on at least 20 cases, a difference of 5 points, and a false discovery rate of 10% over
all reps and all measures together: 6 of it for outcomes behind peers', which coaching must not miss, 1 for outcomes
ahead of them, 3 for habits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipesync.analysis.significance import (
    FALSE_DISCOVERY,
    MIN_CASES,
    MIN_EFFECT,
    fewer_or_more,
    kept,
    two_shares,
    wilson,
)
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

Measure = Literal["advance", "win", "push", "slip", "overdue", "quiet", "stale", "no_next_step"]
MAX_POINTS = 3
_PORTION = {"behind": 6.0, "ahead": 1.0, "habit": 3.0}
"""Of the false discoveries, by what a test asks (weighted BH: Genovese, Roeder & Wasserman, Biometrika 93, 2006)."""
_MEDIAN_OF_CHI_SQUARE = 0.4549
"""With one degree of freedom."""
_ENOUGH_OWNERS = 8
_PEER_WEIGHT = 10.0
"""Visits of the stage at large that a stratum's own rate is mixed with."""

_OWNERS = """
SELECT f.owner_id, any_value(f.owner_name) AS name, any_value(f.team) AS team,
       count(*) FILTER (is_open) AS open,
       coalesce(sum(amount) FILTER (is_open), 0)::DOUBLE AS open_amount,
       count(*) FILTER (is_closed AND days_since_closed <= 365) AS decided,
       count(*) FILTER (is_won AND days_since_closed <= 365) AS won,
       coalesce(sum(amount) FILTER (is_won AND days_since_closed <= 365), 0)::DOUBLE AS won_amount,
       median(cycle_days) FILTER (is_won AND days_since_closed <= 365) AS cycle_days,
       sum(activities_30d) AS activities_30d,
       sum(activity_count) FILTER (is_closed AND days_since_closed <= 365) AS activities_decided
FROM features AS f WHERE f.owner_id IS NOT NULL GROUP BY f.owner_id ORDER BY f.owner_id
"""
_VISITS = """
WITH sized AS (
    SELECT id, owner_id, segment, ntile(3) OVER (PARTITION BY pipeline ORDER BY amount NULLS FIRST, id) AS size
    FROM features
)
SELECT f.owner_id, coalesce(v.pipeline, '') AS pipeline, v.stage, f.segment, f.size, count(*) AS n,
       count(*) FILTER (exit IN ('advance', 'won')) AS advanced
FROM stage_visits AS v JOIN sized AS f ON f.id = v.opportunity_id
WHERE left_at > getvariable('as_of') - INTERVAL 365 DAY
GROUP BY ALL ORDER BY ALL
"""
_LOST = """
SELECT v.opportunity_id FROM stage_visits AS v JOIN features AS f ON f.id = v.opportunity_id
WHERE f.owner_id = ? AND coalesce(v.pipeline, '') = ? AND v.stage = ? AND v.exit IN ('lost', 'backward')
  AND left_at > getvariable('as_of') - INTERVAL 365 DAY
ORDER BY f.amount DESC NULLS LAST, v.opportunity_id LIMIT 5
"""


@dataclass(frozen=True)
class _Habit:
    measure: Measure
    among: str
    is_so: str
    says: str
    needs: tuple[str, ...]


_HABITS = (
    _Habit("push", "is_open OR days_since_closed <= 365", "push_count > 0", "had their close date pushed",
           ("push_count",)),
    _Habit("slip", "is_won AND days_since_closed <= 365 AND first_close_date IS NOT NULL",
           "local_date(closed_at) > first_close_date", "were won after the close date that they had first",
           ("first_close_date", "closed_at")),
    _Habit("overdue", "is_open AND close_date IS NOT NULL", "days_past_due > 0", "are past their close date",
           ("close_date",)),
    _Habit("quiet", "is_open AND age_days > 14", "coalesce(days_since_last_activity > 14, TRUE)",
           "had no activity for 14 days", ("last_activity_at",)),
    _Habit("stale", "is_open AND age_days > 30",
           "greatest(stage_changed_at, close_date_changed_at, amount_changed_at) "
           "< getvariable('as_of') - INTERVAL 30 DAY",
           "had neither stage, close date nor amount updated for 30 days",
           ("stage_changed_at", "close_date_changed_at", "amount_changed_at")),
    _Habit("no_next_step", "is_open", "next_step IS NULL", "have no next step", ("next_step",)),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One thing to talk about; `effect` is the rep's share less the peers', and `is_good` says which way it counts."""

    measure: Measure
    text: str
    effect: float
    p_value: float
    is_good: bool
    opportunities: tuple[str, ...]
    """Up to five, the largest first."""


@dataclass(frozen=True)
class OwnStage:
    """Visits of a stage that ended in the last 365 days, and what peers would have advanced of them."""

    pipeline: str
    stage: str
    visits: int
    advanced: int
    expected: float


@dataclass(frozen=True)
class Habit:
    """How often something is so with an owner's opportunities, and with everybody else's."""

    measure: Measure
    n: int
    share: float
    peers: float


@dataclass(frozen=True)
class Owner:
    """Counts of the last 365 days; money in the home currency; `low` and `high` are Wilson's, 95%."""

    owner_id: str
    name: str | None
    team: str | None
    open: int
    open_amount: float
    decided: int
    won: int
    won_amount: float
    win_rate: float | None
    low: float
    high: float
    cycle_days: float | None
    activities_30d: int
    advanced: int
    advanced_expected: float
    """What peers would have advanced of the same visits."""
    won_expected: float | None
    """By the probabilities handed in; None without them."""
    hygiene: float | None
    """Score handed in, 0 to 100; None without one."""
    points: tuple[Point, ...]
    hygiene_before: float | None = None
    """The same at an earlier moment, handed in; the difference is the trend."""
    activities_per_win: float | None = None
    """Of what was decided; None without wins or without activities."""
    stages: tuple[OwnStage, ...] = ()
    habits: tuple[Habit, ...] = ()


@dataclass(frozen=True)
class Owners:
    rows: tuple[Owner, ...]
    missing: tuple[str, ...]


def owners(
    warehouse: Warehouse,
    features: Features,
    *,
    expected: Mapping[str, float] | None = None,
    hygiene: Mapping[str, float] | None = None,
    hygiene_before: Mapping[str, float] | None = None,
) -> Owners:
    """Return a card per owner, by id.

    `expected`: opportunity -> probability to have been won by now, as foretold earlier (`forecast.expectation`);
    `hygiene`: owner -> score.
    """
    if "owner_id" in features.unknown:
        return Owners((), ("owners cannot be read",))
    people = warehouse.frame(_OWNERS)
    visits = _against_peers(warehouse.frame(_VISITS))
    wins = _against_forecast(warehouse, expected or {})
    tests, habits = [*_advances(visits), *_wins(wins)], []
    missing = [] if "push_count" not in features.unknown else ["the past of close dates"]
    for habit in _HABITS:
        if not features.unknown.intersection(habit.needs):
            habits += _habit(warehouse, habit)
        elif habit.measure != "push":
            missing.append(habit.needs[0].replace("_", " "))
    if "stage" in features.unknown or visits.empty:
        missing.append("how opportunities moved through stages")
    points = _points(warehouse, [*tests, *habits])
    by_stage = _by_stage(visits)
    sums = visits.groupby("owner_id")[["advanced", "expected"]].sum()
    by_owner = {
        str(o): (int(a), float(e))
        for o, a, e in zip(sums.index, sums["advanced"], sums["expected"], strict=True)
    }
    rows = []
    for r in people.to_dict("records"):
        owner = str(r["owner_id"])
        low, high = wilson(r["won"], r["decided"])
        advanced, usual = by_owner.get(owner, (0, 0.0))
        rows.append(
            Owner(
                owner, _blank(r["name"]), _blank(r["team"]), int(r["open"]), float(r["open_amount"]),
                int(r["decided"]), int(r["won"]), float(r["won_amount"]),
                r["won"] / r["decided"] if r["decided"] else None, low, high,
                None if pd.isna(r["cycle_days"]) else float(r["cycle_days"]), int(r["activities_30d"]),
                advanced, usual,
                sum(wins[owner].expected) if owner in wins else None,
                (hygiene or {}).get(owner), tuple(points.get(owner, ())), (hygiene_before or {}).get(owner),
                float(r["activities_decided"]) / r["won"] if r["won"] and r["activities_decided"] > 0 else None,
                by_stage.get(owner, ()),
                tuple(Habit(t.measure, t.n, t.share, t.peers) for t in habits if t.owner == owner),
            )
        )  # fmt: skip
    return Owners(tuple(rows), tuple(missing))


def _by_stage(visits: pd.DataFrame) -> dict[str, tuple[OwnStage, ...]]:
    sums = (
        visits.groupby(["owner_id", "pipeline", "stage"])[["n", "advanced", "expected"]].sum().reset_index()
    )
    found: dict[str, list[OwnStage]] = {}
    for owner, pipeline, stage, n, advanced, expected in sums.itertuples(index=False):
        one = OwnStage(str(pipeline), str(stage), int(n), int(advanced), float(expected))
        found.setdefault(str(owner), []).append(one)
    return {owner: tuple(stages) for owner, stages in found.items()}


def advances(warehouse: Warehouse) -> pd.DataFrame:
    """Return per owner how stays in stages went on in the last year, against peers with similar opportunities.

    owner_id, stage_visits_365d, advance_gap (share that went on less the share expected), advance_gap_is_real (at the
    false discovery rate, on enough cases).
    """
    visits = _against_peers(warehouse.frame(_VISITS))
    sums = visits.groupby("owner_id")[["n", "advanced", "expected"]].sum()
    chance = _by_chance(visits)
    p = [
        min(1.0, 2 * min(chance[str(owner)])) if n >= MIN_CASES else 1.0
        for owner, n in zip(sums.index, sums["n"], strict=True)
    ]
    return pd.DataFrame(
        {
            "owner_id": sums.index.astype(str),
            "stage_visits_365d": sums["n"].to_numpy(dtype="int64"),
            "advance_gap": ((sums["advanced"] - sums["expected"]) / sums["n"]).to_numpy(dtype="float64"),
            "advance_gap_is_real": kept(p, FALSE_DISCOVERY),
        }
    )


def _blank(value: Any) -> str | None:  # Any: a cell of a frame
    return None if value is None or value != value else str(value)


def _against_peers(visits: pd.DataFrame) -> pd.DataFrame:
    """Add what peers would have advanced of the same visits, and how many visits of theirs are behind that rate."""
    by = ["pipeline", "stage", "segment", "size"]
    n, advanced = visits["n"].astype(float), visits["advanced"].astype(float)
    groups = visits.groupby(by, dropna=False)
    whole = visits.groupby(["pipeline", "stage"], dropna=False)
    own = visits.groupby(["owner_id", "pipeline", "stage"], dropna=False)
    others = whole["n"].transform("sum") - own["n"].transform("sum")
    at_large = (whole["advanced"].transform("sum") - own["advanced"].transform("sum")) / others.clip(lower=1)
    peers = groups["n"].transform("sum") - n
    rate = (groups["advanced"].transform("sum") - advanced + _PEER_WEIGHT * at_large) / (peers + _PEER_WEIGHT)
    # Nobody else was ever in this stage: there is nothing to compare with.
    alone = others <= 0
    return visits.assign(
        expected=np.where(alone, advanced, n * rate), behind=np.where(alone, 0.0, peers + _PEER_WEIGHT),
        advanced=advanced,
    )  # fmt: skip


def _by_chance(visits: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return by owner how likely so few and so many are by chance: beta-binomial in every stratum."""
    found = {}
    for owner, part in visits.groupby("owner_id"):
        known = part[part["behind"] > 0]
        n, expected, behind = (known[name].to_numpy(float) for name in ("n", "expected", "behind"))
        found[str(owner)] = fewer_or_more(float(known["advanced"].sum()), n, expected / n, behind)
    return found


@dataclass(frozen=True)
class _Foretold:
    """Of one owner's opportunities: wins and what was to be expected, in groups of a like chance."""

    won: int
    n: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def spread(self) -> float:
        return sum(e * (1 - e / n) for n, e in zip(self.n, self.expected, strict=True))


def _against_forecast(warehouse: Warehouse, expected: Mapping[str, float]) -> dict[str, _Foretold]:
    """Return by owner what was foretold and what was won."""
    if not expected:
        return {}
    warehouse.register("foretold", pd.DataFrame({"id": list(expected), "p": list(expected.values())}))
    found: dict[str, _Foretold] = {}
    for owner, n, won, wins in warehouse.rows(
        "SELECT owner_id, count(*), count(*) FILTER (is_won), sum(p) FROM features JOIN foretold USING (id) "
        "WHERE owner_id IS NOT NULL GROUP BY owner_id, floor(20 * p) ORDER BY owner_id, floor(20 * p)"
    ):
        so_far = found.get(owner, _Foretold(0, (), ()))
        found[owner] = _Foretold(so_far.won + won, (*so_far.n, n), (*so_far.expected, wins))
    return found


@dataclass(frozen=True)
class _Test:
    owner: str
    measure: Measure
    n: int
    share: float
    peers: float
    p_value: float
    asks: Literal["behind", "ahead", "habit"]
    detail: tuple[str, ...] = ()
    """What finds the opportunities behind it: pipeline and stage, or a condition."""
    says: str = ""


def _advances(visits: pd.DataFrame) -> list[_Test]:
    """Two tests per owner over all stages; the stage where most of the difference is, is told with them."""
    found = []
    counted = ["n", "advanced", "expected"]
    chance = _by_chance(visits)
    per_stage = visits.groupby(["owner_id", "pipeline", "stage"])[counted].sum().reset_index()
    for owner, part in per_stage.groupby("owner_id"):
        n, advanced, expected = (float(part[name].sum()) for name in counted)
        gap = (part["advanced"] - part["expected"]).to_numpy(float)
        there = int(gap.argmin() if advanced < expected else gap.argmax())
        pipeline, stage = str(part["pipeline"].iloc[there]), str(part["stage"].iloc[there])
        at_it, usual_there = float(part["advanced"].iloc[there]), float(part["expected"].iloc[there])
        says = (
            f"{advanced:.0f} of {n:.0f} visits went on, peers with similar opportunities: {expected:.0f}; "
            f"most of the difference in {stage} ({at_it:.0f} against {usual_there:.0f})"
        )
        fewer, more = chance[str(owner)]
        share, where = advanced / n, (pipeline, stage)
        one = _Test(str(owner), "advance", int(n), share, expected / n, fewer, "behind", where, says)
        found += [one, replace(one, p_value=more, asks="ahead")]
    return found


def _wins(wins: Mapping[str, _Foretold]) -> list[_Test]:
    """Two tests per owner. What all reps scatter more than coins would is the expectation's fault and nobody's own.

    So the variance is raised to what the middle of them shows (an empirical null: Efron, JASA 99, 2004): each group's
    rate is taken to be known from as many cases as make its beta-binomial law so wide.
    """
    squares = [(one.won - sum(one.expected)) ** 2 / one.spread for one in wins.values() if one.spread > 0]
    wider = max(median(squares) / _MEDIAN_OF_CHI_SQUARE, 1.0) if len(squares) >= _ENOUGH_OWNERS else 1.0
    found = []
    for owner, one in wins.items():
        n, expected = np.array(one.n), np.array(one.expected)
        shared = float((expected * (1 - expected / n) * (n - 1)).sum())
        behind = max(shared / ((wider - 1) * one.spread) - 1, 1.0) if wider > 1 and one.spread > 0 else np.inf
        fewer, more = fewer_or_more(one.won, n, expected / n, np.full(len(n), behind))
        count, usual = int(n.sum()), float(expected.sum())
        says = f"won {one.won} of {count}, where {usual:.1f} were to be expected"
        test = _Test(owner, "win", count, one.won / count, usual / count, fewer, "behind", says=says)
        found += [test, replace(test, p_value=more, asks="ahead")]
    return found


def _habit(warehouse: Warehouse, habit: _Habit) -> list[_Test]:
    counts = warehouse.rows(
        f"SELECT owner_id, count(*), count(*) FILTER ({habit.is_so}) FROM features "
        f"WHERE owner_id IS NOT NULL AND ({habit.among}) GROUP BY owner_id ORDER BY owner_id"
    )
    all_n, all_k = sum(n for _, n, _ in counts), sum(k for *_, k in counts)
    found = []
    for owner, n, k in counts:
        if all_n > n:
            peers = (all_k - k) / (all_n - n)
            says = f"{k} of {n} {habit.says}; of peers' {peers:.0%}"
            p = two_shares(k, n, all_k - k, all_n - n)
            which = (f"({habit.among}) AND {habit.is_so}",)
            found.append(_Test(owner, habit.measure, n, k / n, peers, p, "habit", which, says))
    return found


def _points(warehouse: Warehouse, tests: list[_Test]) -> dict[str, list[Point]]:
    """Those that are real, per owner, the surest first."""
    tests = [t for t in tests if t.n >= MIN_CASES]
    real = kept([t.p_value / w for t, w in zip(tests, _weights(tests), strict=True)], FALSE_DISCOVERY)
    named = [
        t for t, is_real in zip(tests, real, strict=True) if is_real and abs(t.share - t.peers) >= MIN_EFFECT
    ]
    found: dict[str, list[Point]] = {}
    for t in sorted(named, key=lambda t: (t.p_value, t.measure)):
        mine = found.setdefault(t.owner, [])
        if len(mine) < MAX_POINTS:
            is_good = t.share < t.peers if t.asks == "habit" else t.asks == "ahead"
            mine.append(
                Point(t.measure, t.says, t.share - t.peers, t.p_value, is_good, _behind(warehouse, t))
            )
    return found


def _weights(tests: list[_Test]) -> list[float]:
    """Share the false discoveries out by `_PORTION`, evenly within a kind; weights are 1 on average."""
    counts = Counter(t.asks for t in tests)
    whole = sum(_PORTION[asks] for asks in counts)
    return [len(tests) * _PORTION[t.asks] / whole / counts[t.asks] for t in tests]


def _behind(warehouse: Warehouse, test: _Test) -> tuple[str, ...]:
    if test.measure == "advance":
        rows = warehouse.rows(_LOST, [test.owner, *test.detail])
    else:
        condition = test.detail[0] if test.detail else "is_closed AND NOT is_won AND days_since_closed <= 365"
        rows = warehouse.rows(
            f"SELECT id FROM features WHERE owner_id = ? AND {condition} ORDER BY amount DESC NULLS LAST, id LIMIT 5",
            [test.owner],
        )
    return tuple(i for (i,) in rows)
