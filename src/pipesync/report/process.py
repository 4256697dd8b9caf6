"""How stages are walked, what waits in them, and what differs, as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pipesync.report.draw import Row, grid, number, percent

if TYPE_CHECKING:
    from pipesync.analysis.comparison import Difference
    from pipesync.analysis.flow import Flow
    from pipesync.analysis.processmap import ProcessMap

_AGAINST = {"period_before": "the quarter before", "segments": "other segments"}


def walked(found: ProcessMap, waiting: Sequence[Flow]) -> RenderableType:
    """Show what waits and how old it is, Little's law where a stage was steady, and how straight the way is."""
    one = len({f.pipeline for f in waiting}) < 2
    rows: list[Row] = [
        [
            f.stage if one else f"{f.pipeline} / {f.stage}",
            number(f.wip),
            " / ".join(str(n) for n in f.ages),
            number(f.drain_weeks, 1),
            percent(f.exits["lost"]),
            "–"
            if f.little is None
            else f"{f.little.waiting:.0f} = {f.little.expected:.0f} x {f.little.ratio:.2f}",
            "–" if f.little is None else f"{f.little.start} to {f.little.end}",
        ]
        for f in waiting
    ]
    columns = [
        "stage",
        ">now in it",
        ">to P50/85/95/more",
        ">weeks to drain",
        ">lost here",
        ">Little",
        "steady weeks",
    ]
    shown: list[RenderableType] = [grid(columns, rows)]
    for r in found.rounds:
        said = (
            f"{r.moves:,} moves: {percent(r.rework_rate)} back, {percent(r.skip_rate)} skip a stage; "
            f"{r.ping_pong:,} there and back again, {r.reopened:,} reopened; "
            f"won {percent(r.win_rate_with)} after going back, {percent(r.win_rate_without)} otherwise"
        )
        shown.append(Text(said if one else f"{r.pipeline}: {said}", "dim"))
    shown += [Text(f"not known: {what}", "yellow") for what in found.missing]
    return Group(*shown)


def differences(found: Mapping[str, Sequence[Difference]]) -> RenderableType:
    """Show what is otherwise than it was, or than elsewhere, by more than chance."""
    lines = [
        Text(f"{_AGAINST.get(against, against)}: {_said(one)}", "yellow" if one.measure == "time" else "")
        for against, differing in found.items()
        for one in differing
    ]
    return (
        Group(*lines)
        if lines
        else Text("nothing differs from before or between segments beyond chance", "dim")
    )


def _said(one: Difference) -> str:
    if one.measure == "time":
        told = f"{one.value_one:.1f} days on average ({one.one}) against {one.value_other:.1f} ({one.other})"
    else:
        told = f"{one.value_one:.0%} go on ({one.one}) against {one.value_other:.0%} ({one.other})"
    return f"{one.stage}: {told}, of {one.n_one:,} and {one.n_other:,}"
