"""What commands say to people: pure functions from values to rich renderables; printing is the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from pipesync.model import SEVERITIES
from pipesync.report.documents import counts
from pipesync.report.draw import Row, bar, grid, interval, money, number, percent

if TYPE_CHECKING:
    import pandas as pd

    from pipesync.analysis.bottlenecks import Bottlenecks
    from pipesync.forecast import Forecast
    from pipesync.forecast.backtest import Backtest, Difference
    from pipesync.model import Change, Finding, Plan
    from pipesync.rules import Evaluation
    from pipesync.rules.explanation import Explanation, Node

_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim"}


def heading(text: str, detail: str = "") -> Text:
    return Text.assemble((text, "bold"), (f"  {detail}" if detail else "", "dim"))


def findings(found: Sequence[Finding], limit: int = 12) -> RenderableType:
    """Show the worst first: by severity, then by what is at stake."""
    if not found:
        return Text("no findings", "green")
    worst = sorted(
        found, key=lambda f: (-SEVERITIES.index(f.severity), -(f.amount or Decimal(0)), f.subject_id)
    )
    rows: list[Row] = [
        [Text(f.severity, _STYLES[f.severity]), f.rule, money(f.amount, f.currency), f.message]
        for f in worst[:limit]
    ]
    rest = len(found) - limit
    table = grid(["severity", "rule", ">at stake", "what"], rows)
    return Group(table, Text(f"... and {rest:,} more", "dim")) if rest > 0 else table


_MARKS = {True: ("+", "green"), False: ("-", "red"), None: ("?", "yellow")}
_RESULTS = {"fires": "bold red", "clear": "green", "unknown": "yellow", "out_of_scope": "dim"}


def explained(told: Explanation) -> tuple[RenderableType, ...]:
    """Show a verdict and the tree of conditions that it comes from: `+` holds, `-` does not, `?` cannot be known."""
    result = told.result.replace("_", " ")
    severity = f" ({told.severity})" if told.severity else ""
    head = Text.assemble(
        (told.rule, "bold"), " on ", (told.name, "bold"), f" [{told.subject}]: ",
        (result + severity, _RESULTS[told.result]), (f"  as of {told.as_of:%Y-%m-%d %H:%M} UTC", "dim"),
    )  # fmt: skip
    lines: list[RenderableType] = [head]
    lines += [Text(told.message)] if told.message else []
    lines += (
        [Text(f"but {', '.join(told.superseded_by)} says it already", "dim")] if told.superseded_by else []
    )
    lines += ["", Text("applies to", "dim"), *_tree(told.scope, 1), Text("when", "dim"), *_tree(told.when, 1)]
    if told.params:
        override = f" (override {told.override})" if told.override else ""
        lines += [Text(f"with{override} {', '.join(f'{n} = {v}' for n, v in told.params.items())}", "dim")]
    return tuple(lines)


def _tree(node: Node, depth: int) -> list[RenderableType]:
    mark, style = _MARKS[node.verdict]
    value = f": {node.value if node.value is not None else 'blank'}" if node.field else ""
    line = Text.assemble("  " * depth, (mark, style), f" {node.words}", (value, "bold"))
    return [line, *(part for p in node.parts for part in _tree(p, depth + 1))]


def rules(evaluation: Evaluation) -> RenderableType:
    largest = max((r.fired for r in evaluation.rules), default=0)
    rows: list[Row] = []
    for rule in sorted(evaluation.rules, key=lambda r: (-r.fired, r.id)):
        blame = f"unknown: {', '.join(rule.blame)}" if rule.unknown else ""
        rows.append(
            [
                Text(rule.severity, _STYLES[rule.severity]),
                rule.id,
                number(rule.fired),
                Text(bar(rule.fired, largest, 16), _STYLES[rule.severity]),
                number(rule.clear),
                number(rule.unknown),
                Text(blame, "dim"),
            ]
        )
    return grid(["severity", "rule", ">fired", "", ">clear", ">unknown", ""], rows)


def bottlenecks(found: Bottlenecks, currency: str | None, limit: int = 6) -> RenderableType:
    frame = found.stages
    longest = float(frame["median_days"].max())
    one_pipeline = frame["pipeline"].nunique() < 2
    rows: list[Row] = [
        [
            stage.stage if one_pipeline else f"{stage.pipeline} / {stage.stage}",
            number(stage.visits),
            number(stage.wip),
            number(stage.median_days, 1),
            Text(bar(float(stage.median_days), longest, 20), "cyan"),
            number(stage.p90_days, 1),
            percent(stage.advance),
            percent(stage.backward),
        ]
        for stage in _rows(frame)
    ]
    table = grid(
        ["stage", ">visits", ">now in it", ">median days", "", ">p90 days", ">goes on", ">goes back"], rows
    )
    ranked = [
        [b.kind, b.subject, money(b.amount, b.currency or currency), b.why] for b in found.ranked[:limit]
    ]
    worst = (
        grid(["kind", "where", ">worth", "why"], ranked)
        if ranked
        else Text("no bottleneck stands out", "green")
    )
    return Group(table, Text(), worst)


def _rows(frame: pd.DataFrame) -> list[Any]:  # Any: named tuples whose fields are the frame's columns
    return list(frame.itertuples(index=False))


def forecast(
    made: Forecast, owners: Mapping[str, str] | None = None, *, sides: bool = True
) -> RenderableType:
    """Draw the total on its scale, and the largest owners (by name where `owners` has one) and products."""
    total, unit = made.total, made.total.currency
    low, high = total.interval
    drawn = interval(float(total.closed), float(low), float(total.p50), float(high), 56)
    words = Text.assemble(
        (money(total.p50, unit), "bold"),
        f" likely; with 80% confidence {money(low)} to {money(high, unit)}",
    )
    sources = (("won so far", total.closed), ("from open", total.open), ("still to be created", total.new))
    parts = Text(" · ".join(f"{name} {money(amount)}" for name, amount in sources), "dim")
    shown: list[RenderableType] = [words, drawn, parts]
    for title, one_side in (("owner", made.by_owner), ("product", made.by_product)) if sides else ():
        largest = max((float(p.p90) for p in one_side), default=0.0)
        rows: list[Row] = [
            [
                (owners or {}).get(p.scope_id, p.scope_id) or "–",
                money(p.closed),
                money(p.p10),
                money(p.p50),
                money(p.p90),
                Text(bar(float(p.p50), largest, 24), "cyan"),
            ]
            for p in sorted(one_side, key=lambda p: -p.p50)[:8]
        ]
        if len(one_side) > 1:
            shown += [Text(), grid([title, ">won", ">p10", ">likely", ">p90", ""], rows)]
    return Group(*shown)


def backtest(done: Backtest) -> list[RenderableType]:
    """Show every origin's interval against what came, the methods with their intervals, and what the model beats."""
    origins: list[Row] = [
        [
            f"{one.origin:%Y-%m-%d}",
            money(one.actual),
            money(one.p10),
            money(one.p50),
            money(one.p90),
            Text("inside", "green") if one.low <= one.actual <= one.high else Text("outside", "yellow"),
        ]
        for one in done.origins[-12:]
    ]
    names = ("auc", "brier", "ece", "wape", "bias", "pinball", "coverage_80")
    methods: list[Row] = []
    for method, figures in done.metrics.items():
        methods.append([method, *(number(figures.get(name), 3) for name in names)])
        methods.append([Text("  95%", "dim"), *(_range(done.intervals[method].get(name)) for name in names)])
    compared = [name for name in names if any(name in against for against in done.against.values())]
    beaten: list[Row] = []
    for method, against in done.against.items():
        beaten.append([method, *(_difference(against.get(name)) for name in compared)])
        beaten.append(
            [Text("  95%", "dim"), *(_range(d.interval if (d := against.get(n)) else None) for n in compared)]
        )
    shown: list[RenderableType] = [
        grid(["from", ">came", ">p10", ">likely", ">p90", ""], origins),
        Text(),
        grid(["method", *(f">{name.replace('_', ' ')}" for name in names)], methods),
        Text(),
        grid(["model less ...", *(f">{name}" for name in compared)], beaten),
        Text(
            "green: better, red: worse, beyond what chance explains; opportunities and origins are redrawn",
            "dim",
        ),
        Text(),
    ]
    days, held = done.close_date["median_error_days"], done.close_date["coverage_80"]
    if days is not None:
        shown.append(Text(f"close dates: off by {days:.1f} days (median); P10 to P90 held {percent(held)}"))
    for kind, said in done.evidence.items():
        shown.append(Text(f"{kind}: {said}", "green" if said == "enough" else "yellow"))
    shown += [Text(f"{method} is left out: {why}", "dim") for method, why in done.left_out.items()]
    return shown


def _range(interval: tuple[float, float] | None) -> Text:
    return Text("" if interval is None else f"{interval[0]:.3f} … {interval[1]:.3f}", "dim")


def _difference(found: Difference | None) -> Text:
    if found is None:
        return Text("–")
    return Text(f"{found.value:+.3f}", {"better": "green", "worse": "red"}.get(found.says, ""))


def plan(made: Plan, limit: int = 40, owners: Mapping[str, str] | None = None) -> RenderableType:
    """Show a plan as a diff, owner by owner (by name where `owners` has one), those with the most to do first."""
    if not made.changes:
        shown: list[RenderableType] = [Text("0 changes", "green")]
    else:
        said = ", ".join(f"{n:,} {name}" for name, n in counts(made).items() if name != "total")
        shown = [Text(f"{len(made.changes):,} changes: {said}", "bold")]
        by_owner: dict[str | None, list[Change]] = {}
        for change in made.changes:
            by_owner.setdefault(change.owner_id, []).append(change)
        left = limit
        for owner, some in sorted(by_owner.items(), key=lambda o: (o[0] is None, -len(o[1]), o[0] or "")):
            if left <= 0:
                break
            name = (owners or {}).get(owner or "", owner) or "of no one owner"
            rows = [line for change in some[:left] for line in _diff(change)]
            shown += [
                Text(),
                heading(name, f"{len(some):,}"),
                grid(["", "opportunity", "what", "because"], rows),
            ]
            left -= len(some)
        if len(made.changes) > limit:
            shown.append(Text(f"... and {len(made.changes) - limit:,} more", "dim"))
    shown += [Text(f"held back: {n:,} {why}", "dim") for why, n in sorted(made.held_back.items())]
    return Group(*shown)


_ACTIONS = {
    "create": ("+", "green"), "update": ("~", "yellow"), "complete": ("✓", "cyan"), "delete": ("-", "red"),
}  # fmt: skip


def _diff(change: Change) -> list[Row]:
    """Return a change as lines: what it is, and of an update every field before and after."""
    sign, style = _ACTIONS[change.action]
    text = str((change.after or change.before).get("subject") or change.target or change.key)
    if change.object == "forecast":
        about = {**change.before, **change.after}
        text = f"forecast {about.get('scope', '')} {about.get('scope_id', '')}".rstrip()
    elif change.action != "create":
        text = str(
            change.before.get("subject") or change.after.get("subject") or f"{change.object} {change.target}"
        )
    lines: list[Row] = [[Text(sign, style), change.opportunity_id or "", text, change.reason.text]]
    if change.action == "update":
        lines += [
            ["", "", Text(f"{name}: {_short(change.before.get(name))} → {_short(after)}", "dim"), ""]
            for name, after in change.after.items()
        ]
    return lines


def _short(value: Any, width: int = 40) -> str:  # Any: a JSON value
    text = "–" if value is None else " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def rows(
    found: Sequence[Mapping[str, Any]], columns: Sequence[str], *, more: int = 0, missing: Sequence[str] = ()
) -> RenderableType:
    """Lay rows out by column; a column's name says how its numbers are written."""
    numeric = {c for c in columns if any(isinstance(r[c], int | float | Decimal) for r in found)}
    headers = [f"{'>' if c in numeric else ''}{c.replace('_', ' ')}" for c in columns]
    shown: list[RenderableType] = [grid(headers, [[_told(c, r[c]) for c in columns] for r in found])]
    if more > 0:
        shown.append(Text(f"... and {more:,} more", "dim"))
    if missing:
        shown.append(Text(f"not known: {'; '.join(missing)}", "yellow"))
    return Group(*shown)


_SHARES = {"win_rate", "win_probability", "last_two_weeks", "trend", "rate", "advance_before", "advance_after", "low",
           "high"}  # fmt: skip
_MONEY = {
    "worth",
    "open_amount",
    "won_amount",
    "amount",
    "average",
    "price",
    "closed",
    "quota",
    "gap",
    "forecast",
    "per_day",
}


def _told(column: str, value: Any) -> str:  # Any: a JSON value
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return percent(value["rate"]) if "rate" in value else str(value.get("text") or value.get("step", ""))
    if isinstance(value, list | tuple):
        return "; ".join(_told(column, one) if isinstance(one, Mapping) else _part(one) for one in value)
    if column in _SHARES:
        return percent(value)
    if column in _MONEY:
        return money(value)
    return (
        number(value, 2 if column in ("gini", "coverage") else 0)
        if isinstance(value, int | float)
        else str(value)
    )


def _part(value: Any) -> str:  # Any: a JSON value
    return percent(value) if isinstance(value, float) else str(value)
