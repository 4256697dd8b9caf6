"""How the commands tell what was done: pulled, applied, a cycle, checks, runs; for programs and for people.

What was calculated is told by `pipesync.report`, which knows nothing of adapters and writing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from pipesync.report import documents
from pipesync.report.documents import Entry
from pipesync.report.draw import grid, money, number

if TYPE_CHECKING:
    from pipesync.adapters.base import Check, Installed, Pulled
    from pipesync.apply import Applied
    from pipesync.sync import Cycle


def pulled_entry(streams: Mapping[str, Any]) -> Entry:  # Any: Pulled
    return {
        "objects": {
            name: {
                "pulled": one.pulled,
                "changed": one.changed,
                "deleted": one.deleted,
                "requests": one.requests,
                "rejected": one.rejected,
                "warnings": list(one.warnings),
            }
            for name, one in streams.items()
        }
    }


def applied_entry(done: Applied) -> Entry:
    def brief(outcomes: Iterable[Any]) -> list[Entry]:  # Any: Outcome
        return [{"key": o.key, "error": o.error, "request_id": o.request_id} for o in outcomes]

    return {
        "run": done.run,
        "applied": done.applied,
        "failed": brief(done.failed),
        "skipped": brief(done.skipped),
        "waiting": done.waiting,
    }


def applied_code(done: Applied) -> int:
    """4 where records failed, or where the guard let nothing through; somebody is to look at it."""
    return 4 if done.failed or (done.waiting and not done.applied) else 0


def cycle_entry(done: Cycle) -> Entry:
    return pulled_entry(done.pulled) | {
        "run": done.run,
        "as_of": done.as_of,
        "findings": len(done.prepared.examined.evaluation.findings),
        "score": done.prepared.examined.evaluation.score,
        "forecast": documents.forecast(done.prepared.forecast, done.as_of)["total"],
        "plan": {
            "id": done.prepared.plan.id,
            "changes": len(done.prepared.plan.changes),
            "counts": documents.counts(done.prepared.plan),
        },
        "applied": applied_entry(done.applied) if done.applied else None,
    }


def pulled_view(streams: Mapping[str, Pulled]) -> RenderableType:
    rows = [
        [name, number(p.pulled), number(p.changed), number(p.deleted), number(p.requests), number(p.rejected)]
        for name, p in streams.items()
    ]
    table = grid(["object", ">read", ">changed", ">deleted", ">requests", ">rejected"], rows)
    warnings = [Text(f"! {w}", "yellow") for p in streams.values() for w in p.warnings]
    return Group(table, *warnings)


def applied_view(done: Applied) -> RenderableType:
    line = Text.assemble(
        (f"{done.applied:,} applied", "green"),
        (f", {len(done.failed):,} failed", "red" if done.failed else "dim"),
        (f", {len(done.skipped):,} skipped", "dim"),
        (f"   run {done.run} (take it back: pipesync undo {done.run})", "dim"),
    )
    failed = [Text(f"  {o.key}: {o.error}", "red") for o in done.failed[:20]]
    reasons = Counter(o.error for o in done.skipped)
    left = [Text(f"  left {n:,}: {why}", "yellow") for why, n in reasons.most_common(10)]
    return Group(line, *failed, *left)


def cycle_view(done: Cycle) -> RenderableType:
    """Show a run in few lines, as a log of scheduled runs wants it."""
    changed = sum(p.changed + p.deleted for p in done.pulled.values())
    total, evaluation = done.prepared.forecast.total, done.prepared.examined.evaluation
    lines = [
        f"pulled     {changed:,} changed records, up to {done.as_of:%Y-%m-%d %H:%M} UTC",
        f"findings   {len(evaluation.findings):,}, score {evaluation.score:.0f} of 100",
        *(f"bottleneck {b.subject} ({b.kind}): {b.why}" for b in done.bottlenecks.ranked[:1]),
        f"forecast   {money(total.p10)} .. {money(total.p50)} .. {money(total.p90, total.currency)}"
        f" until {done.prepared.forecast.period.end}",
        f"plan       {len(done.prepared.plan.changes):,} changes",
    ]
    if done.applied is None:
        lines.append("apply      not asked for (mode, or the connection's `write:`)")
        return Group(*map(Text, lines))
    return Group(*map(Text, lines), applied_view(done.applied))


def checks_view(found: Sequence[Check]) -> RenderableType:
    styles = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    rows: list[list[str | Text]] = []
    for check in found:
        rows.append([Text(check.status, styles[check.status]), check.name, check.detail])
        if check.fix and check.status != "ok":
            rows.append(["", "", Text(check.fix, "dim")])
    return grid(["", "check", ""], rows)


def installed_view(found: Sequence[Installed]) -> RenderableType:
    if not found:
        return Text("nothing to install: what is written needs no fields here")
    styles = {"created": "green", "would create": "green", "by hand": "yellow", "not possible": "yellow"}
    rows: list[list[str | Text]] = []
    for one in found:
        rows.append([Text(one.status, styles.get(one.status, "dim")), one.what])
        if one.detail:
            rows.append(["", one.detail])
    return grid(["", ""], rows)


_HEALTH = {"ok": "green", "warning": "yellow", "failing": "bold red"}


def status_view(known: Entry) -> RenderableType:
    """Show how one connection is doing; `known` is its entry of `connections[]`."""
    lines = [
        Text.assemble(
            "health        ", (known["health"], _HEALTH[known["health"]]), f"  {known['why']}".rstrip()
        )
    ]

    def say(name: str, text: str) -> None:
        lines.append(Text(f"{name:<13} {text}"))

    if good := known["last_good_run"]:
        say(
            "last good run",
            f"{good['started_at']:%Y-%m-%d %H:%M} UTC, {known['hours_since_good']:,.1f} hours ago",
        )
    say("pulled up to", f"{known['watermark']:%Y-%m-%d %H:%M} UTC" if known["watermark"] else "never")
    if behind := [f"{one['stream']} ({one['watermark'] or 'never'})" for one in known["behind"]]:
        say("behind", ", ".join(behind))
    if budget := known["budget"]:
        say("CRM requests", f"{budget['used']:,} of {budget['allowed']:,} are used today, by everybody")
    say("unconfirmed", f"{known['unconfirmed']} writes" + (
        f", the oldest of {known['unconfirmed_since']:%Y-%m-%d %H:%M} UTC" if known["unconfirmed"] else ""
    ))  # fmt: skip
    say("waiting", f"{known['waiting']} planned changes")
    for one in known["refused"]:
        about = f" on {one['opportunity_id']}" if one["opportunity_id"] else ""
        say("refused", f"{one['action']} {one['object']}{about}: {one['error']}")
    if known["rejected"]:
        say("rejected", f"{known['rejected']:,} rows could not be read")
    if known["unreadable"]:
        say("not known", ", ".join(known["unreadable"]))
    for one in known["not_evaluated"]:
        why = f": {', '.join(one['why'])}" if one["why"] else ""
        say("not evaluated", f"{one['rule']} on {one['unknown']:,} of {one['of']:,}{why}")
    for change in known["drift"]:
        say("set-up", change)
    return Group(*lines)


def runs_view(found: Sequence[Entry]) -> RenderableType:
    rows = [
        [r["id"], r["kind"], r["connection"], f"{r['started_at']:%Y-%m-%d %H:%M:%S}", r["status"]]
        for r in found
    ]
    return (
        grid(["run", "kind", "connection", "started", "status"], rows) if rows else Text("no runs yet", "dim")
    )
