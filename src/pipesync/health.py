"""How a scheduled sync is doing: what somebody on call asks, from the ledger and the readers' copy of the warehouse.

A run tells of itself in its `detail`; the rest is counted here. `status` shows it, `measures` writes it as OpenMetrics
text for a collector, and both speak of all connections, also of those that the last run did not touch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipesync.config import Config
from pipesync.logs import log
from pipesync.model import Run
from pipesync.store.ledger import Ledger
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

Entry = dict[str, Any]  # Any: JSON
_GOOD = ("done", "partly")
_LOOK_BACK = 200
"""Runs to look through for the last good one."""
_MOST_REFUSED = 20


def status(
    config: Config,
    names: Sequence[str],
    ledger: Ledger | None,
    now: datetime,
    longest: timedelta | None = None,
) -> tuple[list[Entry], dict[str, Entry]]:
    """Return the last runs, the newest first, and how each connection is doing.

    `longest` is how old the last good run may be; without it an age is told and not judged.
    """
    copy = published(config.warehouse)
    found = {name: _nothing_pulled() for name in names}
    if copy.exists():
        with Warehouse(copy, read_only=True) as warehouse:
            found = {name: _freshness(warehouse, name) for name in names}
    for name in names:
        found[name] |= _history(ledger, name, now)
        found[name]["health"], found[name]["why"] = _judged(found[name], longest)
    runs = [run for run in ledger.runs() if run.connection in names] if ledger else []
    return [dict(run) for run in runs], found


def _nothing_pulled() -> Entry:
    return {"watermark": None, "behind": [], "rejected": 0, "unreadable": []}


def _freshness(warehouse: Warehouse, name: str) -> Entry:
    streams = warehouse.rows(
        "SELECT stream, watermark, is_complete FROM pulls WHERE connection = ? ORDER BY stream", [name]
    )
    # Our own records are read once more after an apply: what they are ahead of is not behind.
    latest = max((w for s, w, _ in streams if w and not s.startswith("own_")), default=None)
    rejected = warehouse.rows("SELECT count(*) FROM rejects WHERE connection = ?", [name])
    unreadable = [f"{c.stream}.{c.column}" for c in warehouse.columns(name) if c.state == "unreadable"]
    return {
        "watermark": warehouse.watermark(name),
        "behind": [
            {"stream": s, "watermark": w}
            for s, w, done in streams
            if not done or w is None or (latest and w < latest)
        ],
        "rejected": rejected[0][0],
        "unreadable": unreadable,
    }


def _history(ledger: Ledger | None, name: str, now: datetime) -> Entry:
    runs = [run for run in ledger.runs(name, limit=_LOOK_BACK) if run.kind == "sync"] if ledger else []
    ended = [run for run in runs if run.status != "running"]
    good = next((run for run in runs if run.status in _GOOD), None)
    newer = [run for run in ended if good is None or run.started_at > good.started_at]
    failing = [
        run for run in newer if not run.detail.get("overlap")
    ]  # one that stood back for another did no harm
    unconfirmed = ledger.unconfirmed(name) if ledger else []
    told: Mapping[str, Any] = good.detail if good else {}  # Any: JSON
    latest: Mapping[str, Any] = next((r.detail for r in ended if "budget" in r.detail), {})  # Any: JSON
    return {
        "last_run": _brief(runs[0]) if runs else None,
        "last_good_run": _brief(good) if good else None,
        "hours_since_good": round((now - good.started_at).total_seconds() / 3600, 2) if good else None,
        "failed_since": len(failing),
        "last_error": str(failing[0].detail.get("error") or failing[0].detail.get("why") or "")
        if failing
        else "",
        "unconfirmed": len(unconfirmed),
        "unconfirmed_since": min((e.intended_at for e in unconfirmed), default=None),
        "refused": _refused(ledger, name) if ledger else [],
        "budget": latest.get("budget"),
        "not_evaluated": told.get("not_evaluated", []),
        "drift": told.get("drift", []),
        "waiting": told.get("changes", 0) if "applied" not in told else told.get("skipped", 0),
    }


def _refused(ledger: Ledger, name: str) -> list[Entry]:
    """Return the writes that the CRM refused and that have not gone through since, in its own words, newest first."""
    last = {entry.key: entry for entry in ledger.journal(name)}
    refused = sorted((e for e in last.values() if e.status == "failed"), key=lambda e: -e.seq)
    return [
        {
            "key": e.key,
            "object": e.object,
            "action": e.action,
            "opportunity_id": e.opportunity_id,
            "at": e.settled_at,
            "error": e.error,
        }
        for e in refused[:_MOST_REFUSED]
    ]


def _brief(run: Run) -> Entry:
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    return {
        "id": run.id,
        "status": run.status,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": seconds,
    }


def _judged(known: Entry, longest: timedelta | None) -> tuple[str, str]:
    """Return `ok`, `warning` or `failing`, and the first thing to look at."""
    age = known["hours_since_good"]
    if known["last_run"] is None:
        return "failing", "never ran"
    if known["failed_since"]:
        return (
            "failing",
            f"{known['failed_since']} runs failed since the last good one: {known['last_error']}",
        )
    if longest is not None and (age is None or age > longest.total_seconds() / 3600):
        return (
            "failing",
            f"the last good run is {age:.1f} hours old" if age is not None else "no run was ever good",
        )
    for key, said in (
        ("unconfirmed", "writes are unconfirmed"),
        ("behind", "streams are behind"),
        ("drift", "things changed in the CRM's set-up"),
        ("unreadable", "columns cannot be read"),
    ):
        if known[key]:
            return "warning", f"{known[key] if isinstance(known[key], int) else len(known[key])} {said}"
    return "ok", ""


def measures(found: Mapping[str, Entry], ledger: Ledger) -> str:
    """Return OpenMetrics text of every connection's health and of what its last runs did."""
    from prometheus_client import CollectorRegistry, Gauge
    from prometheus_client.openmetrics.exposition import generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, help: str, *labels: str) -> Gauge:
        return Gauge(f"pipesync_{name}", help, ("connection", *labels), registry=registry)

    good = gauge("last_good_run_timestamp_seconds", "When the last good sync began.")
    ran = gauge("last_run_timestamp_seconds", "When the last sync began.")
    took = gauge(
        "last_run_duration_seconds", "How long the last sync took, by step; step total is all of it.", "step"
    )
    is_good = gauge("last_run_good", "1 where the last sync was good, 0 where it failed.")
    watermark = gauge("watermark_timestamp_seconds", "Up to when everything is pulled.")
    simple = {
        "failed_since": gauge("failed_runs_since_good", "Syncs that failed since the last good one."),
        "unconfirmed": gauge("unconfirmed_writes", "Writes whose outcome is not known."),
        "rejected": gauge("rejected_rows", "Rows of the CRM that could not be read."),
        "waiting": gauge("waiting_changes", "Planned changes that nobody applied."),
    }
    counted = {
        "behind": gauge("streams_behind", "Streams that did not reach the watermark."),
        "unreadable": gauge("unreadable_columns", "Columns that this user may not read."),
        "not_evaluated": gauge("rules_not_evaluated", "Rules that could not judge some opportunities."),
        "drift": gauge("schema_drift", "Changes of the CRM's set-up that the last good sync saw."),
    }
    used = gauge("crm_requests_used", "Requests of the CRM's daily limit that are used, by everybody.")
    allowed = gauge("crm_requests_allowed", "The CRM's daily limit of requests.")
    rows = gauge("pulled_rows", "Rows that the last sync pulled.", "stream")
    asked = gauge("pull_requests", "Requests that the last sync needed.", "stream")
    told = {
        "findings": gauge("findings", "Findings of the last sync."),
        "changes": gauge("planned_changes", "Changes that the last sync planned."),
        "applied": gauge("applied_changes", "Changes that the last sync wrote."),
        "failed": gauge("failed_changes", "Changes that the CRM refused in the last sync."),
        "score": gauge("hygiene_score", "Hygiene of the open pipeline, 0 to 100."),
    }
    for name, known in found.items():
        for key, one in simple.items():
            one.labels(name).set(known[key])
        for key, one in counted.items():
            one.labels(name).set(len(known[key]))
        if known["watermark"]:
            watermark.labels(name).set(known["watermark"].timestamp())
        if known["budget"]:
            used.labels(name).set(known["budget"]["used"])
            allowed.labels(name).set(known["budget"]["allowed"])
        if known["last_good_run"]:
            good.labels(name).set(known["last_good_run"]["started_at"].timestamp())
        if (last := known["last_run"]) is None:
            continue
        ran.labels(name).set(last["started_at"].timestamp())
        is_good.labels(name).set(last["status"] in _GOOD)
        detail = ledger.run(last["id"]).detail
        took.labels(name, "total").set(last["seconds"] or 0)
        for step, seconds in detail.get("seconds", {}).items():
            took.labels(name, step).set(seconds)
        for stream, one_stream in detail.get("objects", {}).items():
            rows.labels(name, stream).set(one_stream["pulled"])
            asked.labels(name, stream).set(one_stream["requests"])
        for key, one in told.items():
            if key in detail:
                one.labels(name).set(detail[key])
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # it publishes no type for this one
    return text.decode()


def write_measures(file: Path, text: str) -> None:
    """Replace the file as a whole, as a collector may read it at any moment; it may: no customer is named in it.

    Where it cannot be written a warning is told: measures are no reason to call a good run failed.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(file)
    except OSError as error:
        log.warning("measures could not be written", file=str(file), why=error.strerror)
