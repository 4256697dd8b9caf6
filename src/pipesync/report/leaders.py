"""What leaders read beside the total: who brings it, against quota, plan A and plan B, why, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pipesync.report.draw import Row, bar, grid, money, number, percent

if TYPE_CHECKING:
    from pipesync.forecast import Forecast
    from pipesync.forecast.leakage import Guard
    from pipesync.forecast.patterns import Pattern
    from pipesync.forecast.reasons import Why
    from pipesync.forecast.targets import Carrier, Plans, Target
    from pipesync.forecast.waterfall import Waterfall
    from pipesync.model import Scope

Names = Mapping[str, str]


def rollup(made: Forecast, scope: Scope, names: Names, limit: int = 12) -> RenderableType:
    """Show one side of the forecast, the largest first."""
    parts = sorted(made.rollups[scope], key=lambda p: (-p.p50, p.scope_id))
    largest = max((float(p.p90) for p in parts), default=0.0)
    rows: list[Row] = [
        [
            names.get(p.scope_id, p.scope_id) or "–",
            money(p.closed),
            money(p.open),
            money(p.new),
            money(p.p10),
            money(p.p50),
            money(p.p90),
            Text(bar(float(p.p50), largest, 20), "cyan"),
        ]
        for p in parts[:limit]
    ]
    table = grid([scope, ">won", ">open", ">new", ">p10", ">likely", ">p90", ""], rows)
    return _with_rest(table, len(parts) - limit)


def _with_rest(table: RenderableType, rest: int) -> RenderableType:
    return Group(table, Text(f"... and {rest:,} more", "dim")) if rest > 0 else table


def baselines(made: Forecast) -> RenderableType:
    """Show what simpler methods say, in a line."""
    said = " · ".join(f"{name.replace('_', ' ')} {money(amount)}" for name, amount in made.baselines.items())
    return Text(f"beside it: {said}", "dim")


def targets(found: Sequence[Target], names: Names, limit: int = 12) -> RenderableType:
    """Show quotas with their gap and the probability to reach them."""
    rows: list[Row] = [
        [
            t.scope,
            names.get(t.scope_id, t.scope_id),
            money(t.quota),
            money(t.closed),
            money(t.gap),
            money(t.p50),
            Text(percent(t.reach), "green" if t.reach >= 0.5 else "yellow"),
            number(t.coverage, 1),
            number(t.coverage_needed, 1),
        ]
        for t in found[:limit]
    ]
    columns = ["quota of", "", ">quota", ">won", ">gap", ">likely", ">to reach it", ">coverage", ">needed"]
    return _with_rest(grid(columns, rows), len(found) - limit)


def plans(found: Plans, names: Names, limit: int = 8) -> RenderableType:
    """Show the opportunities that carry the number, and the best of the others."""

    def rows(carriers: Sequence[Carrier]) -> list[Row]:
        return [
            [names.get(c.id, c.id), money(c.amount), percent(c.win_in_period), percent(c.win_probability)]
            for c in carriers[:limit]
        ]

    columns = [">amount", ">in time", ">ever"]
    short = f"; {money(found.short)} short" if found.short > 0 else ""
    return Group(
        Text(f"plan A: {len(found.a):,} opportunities carry {money(found.target)}{short}", "bold"),
        _with_rest(grid(["", *columns], rows(found.a)), len(found.a) - limit),
        Text(),
        Text("plan B: what would bring most if it were pulled in", "bold"),
        grid(["", *columns], rows(found.b)),
    )


def model(made: Forecast) -> RenderableType:
    """Say which model speaks, why, what it rests on, and what to doubt."""
    card = made.model
    learned = card["learned"]
    lines = [
        Text(f"model: {card['forecaster']}; {card['why']}", "dim"),
        Text(
            f"learned from {card['closed']:,} closed ({card['won']:,} won) since {card['trained_from']}; its interval "
            f"and calibration from {learned['periods']:.1f} periods; run-rate weighs {learned['run_rate_weight']:.0%}",
            "dim",
        ),
    ]
    if card["banned_fields"]:
        lines.append(
            Text(f"not used, because closing fills it in: {', '.join(card['banned_fields'])}", "yellow")
        )
    if made.zombies:
        lines.append(
            Text(
                f"{len(made.zombies):,} open opportunities are older than any that was ever closed", "yellow"
            )
        )
    lines += [Text(f"alarm: {alarm['why']}", "bold yellow") for alarm in card["alarms"]]
    return Group(*lines)


def reasons(
    made: Forecast, why: Mapping[str, tuple[Sequence[Why], Sequence[Why]]], names: Names
) -> RenderableType:
    """Show per opportunity what speaks for it and what against."""
    said = {one.id: one for one in made.opportunities}
    shown: list[RenderableType] = []
    for name, (up, down) in why.items():
        one = said[name]
        shown.append(
            Text.assemble(
                (names.get(name, name), "bold"),
                f"  {percent(one.win_in_period)} in the period, {percent(one.win_probability)} ever",
                f"  {money(one.expected_amount)}",
            )
        )
        shown += [Text(f"  {w.points:+.0%} {w.text}", "green") for w in up]
        shown += [Text(f"  {w.points:+.0%} {w.text}", "red") for w in down]
    return Group(*shown) if shown else Text("nothing is open", "dim")


def waterfall(found: Waterfall, names: Names, limit: int = 15) -> RenderableType:
    """Show the way from one forecast to the next, by kind and by opportunity."""
    totals: list[Row] = [["forecast before", money(found.start)]]
    totals += [[kind.replace("_", " "), _signed(amount)] for kind, amount in found.by_kind().items()]
    totals.append(["forecast now", money(found.end)])
    steps = [s for s in found.steps if s.opportunity_id]
    rows: list[Row] = [
        [
            s.kind.replace("_", " "),
            names.get(s.opportunity_id or "", s.opportunity_id or ""),
            _signed(s.amount),
        ]
        for s in steps[:limit]
    ]
    table = grid(["what", "opportunity", ">moves it by"], rows)
    return Group(grid(["", ">"], totals), Text(), _with_rest(table, len(steps) - limit))


def _signed(amount: float) -> str:
    return f"+{money(amount)}" if amount > 0 else money(amount)


def patterns(found: Sequence[Pattern]) -> RenderableType:
    """Show what winners did, with how sure that is."""
    if not found:
        return Text("nothing that winners did stands out from chance", "dim")
    rows: list[Row] = [
        [
            p.stage.rpartition("/")[2],
            p.habit,
            percent(p.with_it),
            percent(p.without),
            f"{p.difference[0]:+.0%} ({p.difference[1]:+.0%} to {p.difference[2]:+.0%})",
            f"{p.count[0]:,} / {p.count[1]:,}",
        ]
        for p in found
    ]
    columns = ["at stage", "with", ">won with it", ">without", ">difference (95%)", ">with / without"]
    return Group(grid(columns, rows), Text("an association: it may have another cause", "dim"))


def fields(found: Guard) -> RenderableType:
    """Show which fields give the outcome away, and which say anything about it."""
    shown: list[RenderableType] = []
    if found.leaks:
        leaks: list[Row] = [
            [Text(leak.field, "red"), leak.kind.replace("_", " "), leak.why] for leak in found.leaks
        ]
        shown += [grid(["banned", "because of", "what was seen"], leaks), Text()]
    else:
        shown.append(Text("no field gives the outcome away", "green"))
    signals: list[Row] = [
        [s.field, number(s.auc, 3), f"{s.interval[0]:.3f} … {s.interval[1]:.3f}", s.says]
        for s in found.signals
    ]
    if signals:
        shown.append(grid(["field", ">AUC", ">95%", "tells winners from losers?"], signals))
    shown += [Text(line, "dim") for line in found.notes]
    return Group(*shown)
