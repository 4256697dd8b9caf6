"""Simulated companies whose truth is known, and how often the forecast's intervals hold it.

    python -m benchmarks.simulate --companies 200

A company has reps of different skill, stages with their dwell times, seasons, months that go well or badly for
everybody, close dates that slip, a change of regime, and two reps who sandbag. The forecast sees the warehouse as
of a moment; what happens afterwards is only used to score it. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipesync.features import Features
from pipesync.forecast import Period, predict
from pipesync.model import ColumnState, Connection
from pipesync.schema import schema, table
from pipesync.store.warehouse import Warehouse

NAME = "simulated"
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
STAGES = (("Discovery", "early", 0.1), ("Proposal", "middle", 0.4), ("Negotiation", "late", 0.7))
_DWELL = np.array([14.0, 18.0, 12.0])
"""Mean days in each stage."""
_LOGIT = np.array([0.3, 0.2, 0.5])
"""Log-odds to leave each stage forward rather than lost, for an average opportunity."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Company:
    """Times are days since EPOCH; `closed` is infinite for what is still open at the end of time."""

    opportunities: pd.DataFrame
    changes: pd.DataFrame
    reps: int

    def actual(self, start: datetime, end: datetime) -> pd.Series[float]:
        """Return the amount won by owner in (start, end]."""
        closed = self.opportunities["closed"]
        inside = (closed > _days(start)) & (closed <= _days(end)) & self.opportunities["won"]
        return self.opportunities[inside].groupby("owner_id")["amount"].sum()

    def warehouse(self, as_of: datetime) -> Warehouse:
        """Return what a CRM would have shown at that moment."""
        now = _days(as_of)
        seen = self.opportunities[self.opportunities["created"] <= now].copy()
        closed = seen["closed"] <= now
        changes = self.changes[(self.changes["at"] <= now) & self.changes["opportunity_id"].isin(seen["id"])]
        latest = (
            changes.sort_values(["at", "seq"]).groupby(["opportunity_id", "field"])["value"].last().unstack()
        )
        own = latest.reindex(seen["id"])
        frame = pd.DataFrame(
            {
                "id": seen["id"],
                "owner_id": seen["owner_id"],
                "pipeline": "default",
                "stage": own["stage"].to_numpy(),
                "amount": own["amount"].astype(float).round(2).to_numpy(),
                "currency": "EUR",
                "close_date": pd.to_datetime(own["close_date"]).dt.date.to_numpy(),
                "source": seen["source"],
                "product": seen["product"],
                "created_at": _times(seen["created"]),
                "closed_at": _times(seen["closed"].where(closed)),
                "is_closed": closed,
                "is_won": closed & seen["won"],
            }
        )
        events = pd.DataFrame(
            {
                "id": [f"c{i}" for i in changes.index],
                "opportunity_id": changes["opportunity_id"],
                "field": changes["field"],
                "value": changes["value"],
                "changed_at": _times(changes["at"]),
                "seq": changes["seq"],
            }
        )
        warehouse = Warehouse(None)
        tracked = {"stage": "full", "amount": "full", "close_date": "full"}
        known = [
            ColumnState.model_validate(
                {
                    "stream": "opportunities",
                    "column": c,
                    "state": "known",
                    "history": tracked.get(str(c), "none"),
                }
            )
            for c in frame.columns
        ]
        warehouse.set_connection(Connection(connection=NAME, adapter="files", currency="EUR"), known)
        stages = [
            {"id": n, "name": n, "pipeline": "default", "order": i, "phase": phase, "probability": p}
            for i, (n, phase, p) in enumerate([*STAGES, ("Won", "won", 1.0), ("Lost", "lost", 0.0)])
        ]
        users = [
            {"id": f"r{i}", "team": f"team {i % 3}", "manager_id": f"m{i % 3}", "is_active": True}
            for i in range(self.reps)
        ] + [{"id": f"m{i}", "manager_id": "head", "is_active": True} for i in range(3)]
        pages = {
            "stages": table("stages", stages),
            "users": table("users", users),
            "opportunities": _page("opportunities", frame),
            "field_changes": _page("field_changes", events),
        }
        for stream, rows in pages.items():
            warehouse.merge(NAME, stream, rows, cursor=None, until=as_of, replace=True, last=True)
        return warehouse


def company(
    seed: int,
    *,
    reps: int = 12,
    weeks: int = 104,
    per_rep_week: float = 1.0,
    shock: float = 0.25,
    regime: bool = True,
) -> Company:
    """Make a company; `per_rep_week`: new opportunities; `shock`: the sd of a month's luck, in log-odds."""
    random = np.random.default_rng(seed)
    n = int(random.poisson(reps * per_rep_week * weeks))
    month = np.arange(weeks // 4 + 30)
    luck = random.normal(0, shock, len(month))
    season = 0.15 * np.sin(2 * np.pi * np.arange(weeks + 60) / 52 + random.uniform(0, 6))
    odds = np.exp(season[:weeks])
    created = 7 * random.choice(weeks, n, p=odds / odds.sum()) + random.uniform(0, 7, n)
    owner = random.integers(0, reps, n)
    skill = random.normal(0, 0.3, reps)[owner]
    quality = random.normal(0, 0.7, n)
    slow = random.normal(0, 0.25, reps)[owner]
    change = 7 * weeks * random.uniform(0.3, 0.6) if regime else np.inf
    at, alive, won = created.copy(), np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    closed = np.full(n, np.inf)
    ids = np.array([f"o{i:06d}" for i in range(n)])
    changes: list[pd.DataFrame] = []
    for i, (stage, _, _) in enumerate(STAGES):
        changes.append(_events(ids[alive], "stage", np.repeat(stage, alive.sum()), at[alive], i))
        dwell = random.gamma(1.5, _DWELL[i] / 1.5, n) * np.exp(slow - 0.2 * quality + 0.15 * (at > change))
        at = at + dwell
        month_now = np.clip((at / 28).astype(int), 0, len(month) - 1)
        score = (
            _LOGIT[i]
            + quality
            + skill
            + luck[month_now]
            + season[np.clip((at / 7).astype(int), 0, len(season) - 1)]
        )
        onward = random.random(n) < 1 / (1 + np.exp(-(score - 0.3 * (at > change))))
        lost = alive & ~onward
        closed[lost] = at[lost]
        alive = alive & onward
    won[alive] = True
    closed[alive] = at[alive]
    first = np.exp(random.normal(9.2, 0.8, n)).round(2)
    final = np.where(won, first * np.exp(random.normal(-0.05, 0.15, n)), first).round(2)
    moved = created + (closed - created) * random.uniform(0.3, 0.9, n)
    changes.append(_events(ids, "amount", first.astype(str), created, 10))
    changes.append(_events(ids, "amount", final.astype(str), moved, 11))
    sandbags = owner < min(2, reps)
    due = created + 40 + random.normal(0, 10, n) + 45 * sandbags
    when, number = created.copy(), 20
    open_then = np.ones(n, dtype=bool)
    while open_then.any() and number < 40:  # a close date that has passed slips by a month, until it closes
        changes.append(_events(ids[open_then], "close_date", _dates(due[open_then]), when[open_then], number))
        when, due, number = np.where(open_then, due + 1, when), due + 30, number + 1
        open_then = open_then & (when < closed)
    ended = np.where(won, "Won", "Lost")
    changes.append(_events(ids, "stage", ended, closed, 50))
    opportunities = pd.DataFrame(
        {
            "id": ids,
            "owner_id": [f"r{o}" for o in owner],
            "source": random.choice(["web", "partner", "event"], n),
            "product": random.choice(["Basic", "Pro"], n),
            "amount": final,
            "created": created,
            "closed": closed,
            "won": won,
        }
    )
    return Company(opportunities, pd.concat(changes, ignore_index=True), reps)


def _events(ids: Any, name: str, values: Any, at: Floats, seq: int) -> pd.DataFrame:  # Any: arrays of texts
    return pd.DataFrame({"opportunity_id": ids, "field": name, "value": values, "at": at, "seq": seq})


def _dates(days: Floats) -> npt.NDArray[np.object_]:
    start = np.datetime64(EPOCH.date(), "D")
    return (start + np.floor(days).astype("timedelta64[D]")).astype(str).astype(object)


def _times(days: pd.Series[float]) -> pd.Series[pd.Timestamp]:
    # Not by `pd.to_timedelta`: where a day is blank it rounds memory that nobody has set, which now and then overflows.
    known = days.notna().to_numpy()
    spans = (np.where(known, days, 0.0) * (timedelta(days=1) / timedelta(microseconds=1))).astype(np.int64)
    found = np.datetime64(EPOCH.replace(tzinfo=None), "us") + spans.astype("timedelta64[us]")
    found[~known] = np.datetime64("NaT")
    return pd.Series(pd.DatetimeIndex(found), index=days.index)


def _days(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(days=1)


def _page(stream: str, frame: pd.DataFrame) -> pa.Table:
    fields = [f for f in schema(stream) if f.name in frame.columns]
    plain = pa.Table.from_pandas(frame[[f.name for f in fields]], preserve_index=False)
    return plain.cast(pa.schema(fields))


@dataclass(frozen=True)
class Scored:
    total: bool
    """Whether the 80% interval held the truth."""
    owners: float
    """The share of owners whose interval did, counted plainly."""
    owners_quantiles: float
    """The same of P10 to P90, which holds more by its nature where an owner has few wins: at 0 no tail is left."""
    owners_exact: float
    """The same with ties divided by chance, as is right for lumps."""
    error: float
    width: float


def score(seed: int, *, weeks: int = 104) -> Scored:
    """Forecast four weeks of one company, from a size and a moment that the seed chooses."""
    random = np.random.default_rng(seed + 10_000)
    reps = int(random.choice([5, 8, 12, 20, 40, 100, 500], p=[0.2, 0.2, 0.2, 0.18, 0.15, 0.05, 0.02]))
    made = company(seed, reps=reps, weeks=weeks, per_rep_week=2.0)
    as_of = EPOCH + timedelta(weeks=int(random.integers(weeks - 20, weeks - 5)))
    end = as_of + timedelta(days=28)
    features = Features(NAME, as_of, frozenset())
    with made.warehouse(as_of) as warehouse:
        found = predict(warehouse, features, Period(as_of.date(), end.date()), seed=seed)
    actual = made.actual(as_of, end)
    truth = float(actual.sum())
    low, middle, high = (
        float(q) for q in (found.total.interval[0], found.total.p50, found.total.interval[1])
    )
    owners, quantiles = [], []
    for one in found.by_owner:
        won = float(actual.get(one.scope_id, 0.0))
        if one.p90 > 0:
            owners.append(float(one.interval[0]) <= won <= float(one.interval[1]))
            quantiles.append(float(one.p10) <= won <= float(one.p90))
    ranks = []
    for owner, drawn in found.draws["owner"].items():
        won = float(actual.get(owner, 0.0))
        below, same = float(np.mean(drawn < won - 0.01)), float(np.mean(np.abs(drawn - won) <= 0.01))
        ranks.append(below + random.random() * same)
    return Scored(
        low <= truth <= high,
        float(np.mean(owners)),
        float(np.mean(quantiles)),
        float(np.mean([0.1 <= rank <= 0.9 for rank in ranks])),
        (middle - truth) / truth,
        (high - low) / truth,
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--companies", type=int, default=200)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    begun = time.perf_counter()
    found = [score(given.seed + i) for i in range(given.companies)]
    totals = np.array([f.total for f in found])
    error, width = np.array([f.error for f in found]), np.array([f.width for f in found])
    print(f"companies {len(found)}, {time.perf_counter() - begun:.0f} s")
    print(
        f"80% interval of the total held the truth: {totals.mean():.1%} (se {totals.std() / len(found) ** 0.5:.1%})"
    )
    owners = np.array([f.owners for f in found])
    print(f"80% interval of an owner: {owners.mean():.1%} (se over companies {owners.std() / len(found) ** 0.5:.1%}); "
          f"P10 to P90 {np.mean([f.owners_quantiles for f in found]):.1%}, "
          f"with ties divided by chance {np.mean([f.owners_exact for f in found]):.1%}")  # fmt: skip
    print(f"error of P50: median {np.median(error):+.1%}, mean size {np.abs(error).mean():.1%}")
    print(f"width of the interval: {width.mean():.2f} of the actual amount")


if __name__ == "__main__":
    main()
