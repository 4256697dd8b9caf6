"""What the browser needs beside the pages: opportunities as columns, figures by group, details."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson

from pipesync.forecast.targets import Target
from pipesync.forecast.totals import NOBODY
from pipesync.model import Finding, PeriodForecast
from pipesync.report.audience import below
from pipesync.report.encode import plain
from pipesync.report.html.blocks import Sets
from pipesync.report.html.pages.shared import finding_words
from pipesync.report.html.wording import capital, dated, to_parts
from pipesync.report.material import Event, Material, Row
from pipesync.rules.findings import marks, where

EMBEDDED = 12_000
"""Opportunities in the file; the rest is in the CSV beside it."""
_SET = 1_500
_EVENTS = 40
_EPOCH = date(1970, 1, 1)
_YEAR = 365.0
_CATEGORIES = (
    "owner_id",
    "team",
    "pipeline",
    "stage",
    "product",
    "source",
    "segment",
    "currency",
    "forecast_category",
    "account_name",
)

Json = dict[str, Any]  # Any: JSON


def document(made: Material, sets: Sets, files: str) -> str:
    """Return the JSON that the page's script reads, safe to stand in a script element."""
    rows = made.rows[:EMBEDDED]
    at = {r["id"]: i for i, r in enumerate(rows)}
    by_rule = sorted({f.rule for f in marks(made.findings)})
    found = {
        "connection": made.connection,
        "currency": made.currency,
        "asOf": made.as_of,
        "period": {"start": made.forecast.period.start, "end": made.forecast.period.end},
        "link": made.link,
        "files": files,
        "total": len(made.rows),
        "people": {i: made.name(i) for i in {r["owner_id"] for r in rows if r["owner_id"]} | set(made.users)},
        "rules": [[r, made.rule_texts[r].title if r in made.rule_texts else r] for r in by_rule],
        "rows": _columns(made, rows, by_rule),
        "sets": {
            name: [title, [at[i] for i in ids[:_SET] if i in at], total]
            for name, (title, ids, total) in sets.lists.items()
        },
        "sold": {product: [at[i] for i in ids if i in at] for product, ids in made.sold.items()},
        "below": _below(made),
        "teams": {u.id: u.team for u in made.users.values() if u.team},
        "scopes": _scopes(made),
        "details": _details(made, at),
    }
    return script_safe(
        orjson.dumps(
            found, default=plain, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
        ).decode()
    )


def script_safe(text: str) -> str:
    """Keep a JSON text from ending the script element that it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _days(value: date | datetime | None) -> int | None:
    if value is None:
        return None
    day = value.date() if isinstance(value, datetime) else value
    return (day - _EPOCH).days


def _columns(made: Material, rows: Sequence[Row], rules: Sequence[str]) -> Json:
    number = {rule: i for i, rule in enumerate(rules)}
    found: dict[str, list[int]] = {}
    severities: dict[str, list[str]] = {}
    for f in marks(made.findings):
        if f.opportunity_id:
            found.setdefault(f.subject_id, []).append(number[f.rule])
            if f.severity not in severities.setdefault(f.subject_id, []):
                severities[f.subject_id].append(f.severity)
    columns: Json = {name: _coded(r[name] for r in rows) for name in _CATEGORIES}
    chances = [made.chances.get(r["id"]) for r in rows]
    return columns | {
        "id": [r["id"] for r in rows],
        "name": [r["name"] for r in rows],
        "amount": [None if r["amount"] is None else round(r["amount"], 2) for r in rows],
        "state": [0 if r["is_open"] else 1 if r["is_won"] else 2 for r in rows],
        "close": [_days(r["close_date"]) for r in rows],
        "created": [_days(r["created_on"]) for r in rows],
        # A year and a few hours ago.
        "late": [i for i, r in enumerate(rows) if (r["days_since_closed"] or 0) > _YEAR],
        "closed": [_days(r["closed_on"]) for r in rows],
        "win": [None if c is None else round(c.win_probability, 3) for c in chances],
        "soon": [None if c is None else round(c.win_in_period, 3) for c in chances],
        "worth": [None if c is None else round(c.expected_amount or 0) for c in chances],
        "likely": [_days(c.expected_close[1]) if c and c.expected_close else None for c in chances],
        "found": {i: found[r["id"]] for i, r in enumerate(rows) if r["id"] in found},
        "severity": {i: severities[r["id"]] for i, r in enumerate(rows) if r["id"] in severities},
    }


def _coded(values: Iterable[str | None]) -> list[Any]:  # Any: the distinct values, and numbers into them
    """Return [distinct values, index per row]; -1 is blank."""
    index: dict[str, int] = {}
    codes = [-1 if v is None else index.setdefault(v, len(index)) for v in values]
    return [list(index), codes]


def _scopes(made: Material) -> Json:
    """The forecast of the whole and of every group, with its quota: what a filter shows, and what lists explain."""
    quotas = {(t.scope, t.scope_id): t for t in made.targets}

    def figures(one: PeriodForecast) -> Json:
        target = quotas.get((one.scope, one.scope_id))
        said: Json = {
            k: getattr(one, k) for k in ("p10", "p50", "p90", "mean", "closed", "open", "new", "low", "high")
        }
        return said | (reached(target) if target else {})

    def reached(target: Target) -> Json:
        return {
            "quota": target.quota,
            "gap": target.gap,
            "reach": target.reach,
            "coverage": target.coverage,
            "needed": target.coverage_needed,
        }

    found: Json = {"total": {"": figures(made.total)} if made.total else {}}
    for scope, groups in made.rollups.items():
        found[scope] = {one.scope_id: figures(one) for one in groups}
    for t in made.targets:
        found.setdefault(t.scope, {}).setdefault(t.scope_id, reached(t))
    return found


def _below(made: Material) -> dict[str, list[str]]:
    """Manager -> everybody whose figures are in the manager's; who has none is under `NOBODY`."""
    managers = [one.scope_id for one in made.rollups.get("manager", ()) if one.scope_id != NOBODY]
    found = {m: sorted({m, *below(m, made.users)}) for m in managers}
    managed = {one for members in found.values() for one in members}
    rest = sorted({one.scope_id for one in made.rollups.get("owner", ())} - managed)
    return found | ({NOBODY: rest} if rest else {})


def _details(made: Material, at: Mapping[str, int]) -> Json:
    findings: dict[str, list[Finding]] = {}
    for f in where(made.findings, lambda one: one.opportunity_id in at):
        findings.setdefault(f.subject_id, []).append(f)
    tasks: dict[str, list[Json]] = {}
    for t in made.tasks:
        if t.opportunity_id:
            tasks.setdefault(t.opportunity_id, []).append(
                {"subject": t.subject, "due": t.due, "done": t.is_done}
            )
    days = {i.opportunity_id: i for i in made.today.items}
    rows = {r["id"]: r for r in made.rows}
    told = {*made.events, *made.reasons, *findings} & set(at)
    details = {}
    for name in sorted(told, key=lambda n: at[n]):
        row, chance, day = rows[name], made.chances.get(name), days.get(name)
        up, down = made.reasons.get(name, ((), ()))
        details[str(at[name])] = {
            k: v
            for k, v in {
                "findings": [
                    {
                        "rule": f.rule,
                        "severity": f.severity,
                        "text": to_parts(finding_words(made, f)),
                        "since": f.first_seen.date(),
                    }
                    for f in findings.get(name, ())
                ],
                "events": [_event(made, e) for e in list(made.events.get(name, ()))[-_EVENTS:]],
                "up": [{"text": to_parts(dated(w.text)), "points": round(w.points, 3)} for w in up],
                "down": [{"text": to_parts(dated(w.text)), "points": round(w.points, 3)} for w in down],
                "expected": chance.expected_close if chance else None,
                "tasks": tasks.get(name),
                "next": row["next_step"],
                "last": row["last_activity_at"],
                "planned": row["next_activity_at"],
                "since": row["stage_entered_at"],
                "reason": row["lost_reason"],
                "pushes": row["push_count"],
                "day": {
                    "place": day.place,
                    "action": day.action,
                    "because": to_parts(capital(dated("; ".join(day.because)))),
                }
                if day
                else None,
            }.items()
            if v
        }
    return details


def _event(made: Material, e: Event) -> list[str | None]:
    value = e.value
    if e.field == "owner_id":
        value = made.name(value) if made.audience.sees(value) else None
    return [e.at.date().isoformat(), e.field, value]
