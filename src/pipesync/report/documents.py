"""What commands say to programs: plain documents with stable keys, described in docs/json.md.

Every function returns one entry of `connections[]`, without its `connection` key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from pipesync.analysis.bottlenecks import Bottlenecks
    from pipesync.analysis.comparison import Difference
    from pipesync.analysis.flow import Flow
    from pipesync.analysis.processmap import ProcessMap
    from pipesync.errors import Problem
    from pipesync.forecast import Forecast
    from pipesync.model import Finding, Plan, Scope
    from pipesync.rules import Evaluation
    from pipesync.rules.explanation import Explanation, Node

Entry = dict[str, Any]  # Any: JSON
ROLLUPS: dict[Scope, str] = {
    "owner": "owner_id", "product": "product", "manager": "manager_id", "team": "team", "source": "source",
    "segment": "segment", "currency": "currency", "pipeline": "pipeline",
}  # fmt: skip
"""What a forecast is told by, and the key that names a group."""
STAGE_KEYS = (
    "pipeline", "stage", "visits", "wip", "arrivals_per_week", "exits_per_week", "median_days", "p75_days", "p90_days",
    "advance", "advance_low", "advance_high", "backward", "win_rate", "win_low", "win_high", "mean_days",
    "benchmark_days", "excess_days", "p_value", "held_amount", "wip_amount", "queue_ratio", "growing_weeks",
)  # fmt: skip
FINDING_KEYS = (
    "connection", "rule", "severity", "level", "subject_id", "opportunity_id", "owner_id", "message", "amount",
    "currency", "first_seen",
)  # fmt: skip


def finding(found: Finding) -> Entry:
    return {key: getattr(found, key) for key in FINDING_KEYS} | {
        "evidence": [{"field": e.field, "value": e.value, "test": e.test} for e in found.evidence]
    }


def problem(found: Problem, kind: str = "error") -> Entry:
    """One thing that is wrong with a file, and where."""
    place = found.place
    return {
        "kind": kind,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "message": found.message,
        "fix": found.fix,
    }


def checked(evaluation: Evaluation, as_of: datetime) -> Entry:
    return {
        "as_of": as_of,
        "score": evaluation.score,
        "rules": [
            {
                "id": r.id,
                "title": r.title,
                "status": r.status,
                "severity": r.severity,
                "level": r.level,
                "fired": r.fired,
                "clear": r.clear,
                "unknown": r.unknown,
                "blame": r.blame,
            }
            for r in evaluation.rules
        ],
        "findings": [finding(f) for f in evaluation.findings],
    }


def explained(told: Explanation) -> Entry:
    def node(one: Node) -> Entry:
        found: Entry = {"holds": one.verdict, "test": one.words}
        if one.field:
            found |= {"field": one.field, "value": one.value}
        return found | ({"parts": [node(p) for p in one.parts]} if one.parts else {})

    keys = (
        "rule",
        "subject",
        "name",
        "as_of",
        "result",
        "severity",
        "params",
        "override",
        "superseded_by",
        "message",
    )
    return {key: getattr(told, key) for key in keys} | {"scope": node(told.scope), "when": node(told.when)}


def stages(frame: pd.DataFrame) -> list[Entry]:
    present = [key for key in STAGE_KEYS if key in frame.columns]
    return [dict(zip(present, row, strict=True)) for row in frame[present].itertuples(index=False)]


def bottlenecks(found: Bottlenecks, as_of: datetime) -> Entry:
    ranked = [{k: v for k, v in b if k != "connection"} for b in found.ranked]
    return {"as_of": as_of, "stages": stages(found.stages), "ranked": ranked}


def process(
    found: ProcessMap, flows: Sequence[Flow], differences: Mapping[str, Sequence[Difference]]
) -> Entry:
    """Say how the stages are walked, what waits in each, and what differs from before or between segments."""
    little = [
        None
        if f.little is None
        else asdict(f.little) | {"expected": f.little.expected, "ratio": f.little.ratio}
        for f in flows
    ]
    return {
        "flow": [asdict(f) | {"little": law} for f, law in zip(flows, little, strict=True)],
        "process": {
            "moves": [asdict(m) for m in found.moves],
            "rounds": [
                asdict(r) | {"rework_rate": r.rework_rate, "skip_rate": r.skip_rate} for r in found.rounds
            ],
            "variants": [asdict(v) for v in found.variants],
        },
        "differences": {against: [asdict(d) for d in found] for against, found in differences.items()},
        "missing": list(found.missing),
    }


def forecast(made: Forecast, as_of: datetime) -> Entry:
    def part(one: Any, **named: Any) -> Entry:  # Any: PeriodForecast and JSON
        keys = ("p10", "p50", "p90", "mean", "closed", "open", "new", "low", "high")
        return named | {key: getattr(one, key) for key in keys}

    return {
        "as_of": as_of,
        "period": {"start": made.period.start, "end": made.period.end},
        "currency": made.total.currency,
        "total": part(made.total),
        **{
            f"by_{scope}": [part(one, **{key: one.scope_id}) for one in made.rollups[scope]]
            for scope, key in ROLLUPS.items()
        },
        "path": [asdict(week) for week in made.path],
        "baselines": {name: round(amount, 2) for name, amount in made.baselines.items()},
        "opportunities": [
            {
                "id": one.id,
                "win_probability": one.win_probability,
                "win_in_period": one.win_in_period,
                "expected_amount": one.expected_amount,
                "expected_close": None
                if one.expected_close is None
                else dict(zip(("p10", "p50", "p90"), one.expected_close, strict=True)),
            }
            for one in made.opportunities
        ],
        "zombies": made.zombies,
        "model": made.model,
    }


def plan(made: Plan) -> Entry:
    return {
        "id": made.id,
        "as_of": made.as_of,
        "changes": [{k: v for k, v in change if k != "connection"} for change in made.changes],
        "counts": counts(made),
        "held_back": made.held_back,
    }


def counts(made: Plan) -> dict[str, int]:
    """Return how many changes of each kind, as `task.create`, and `total`."""
    found = Counter(f"{change.object}.{change.action}" for change in made.changes)
    return {"total": len(made.changes), **dict(sorted(found.items()))}
