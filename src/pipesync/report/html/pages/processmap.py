"""The process as it is walked, drawn: stages in their order, moves on above, moves back below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipesync.analysis.processmap import Move
from pipesync.report.html.blocks import Block, Edge, Node, ProcessMap, Sentence, Sets, drill, share
from pipesync.report.material import Material, Moved

_NODE_WIDTH, _NODE_HEIGHT, _GAP = 140.0, 62.0, 66.0
_EXIT_NAMES = {"won": "won", "lost": "lost"}


def blocks(made: Material, sets: Sets) -> list[Block]:
    """One drawing per pipeline: stages in their order, moves on above, moves back below."""
    found: list[Block] = []
    frame = made.bottlenecks.stages
    held = {b.subject for b in made.bottlenecks.ranked if b.kind in ("time", "queue")}
    for pipeline in dict.fromkeys(frame["pipeline"]):
        part = frame[frame["pipeline"] == pipeline]
        stages = list(part["stage"])
        moves = [m for m in made.process.moves if m.pipeline == pipeline]
        rounds = next((r for r in made.process.rounds if r.pipeline == pipeline), None)
        if not moves or len(stages) < 2:
            continue
        lines = {
            r.stage: (
                f"{r.visits:,} visits",
                f"half within {r.median_days:.0f} days"
                if r.median_days == r.median_days
                else "half never left",
            )
            for r in _rows(part)
        }
        said: Sentence = ("Every move between stages; the thicker, the more often.",)
        order = {stage: i for i, stage in enumerate(stages)}
        steps = {
            m: order[m.to] - order[m.stage]
            for m in made.moved
            if m.pipeline == pipeline and {m.stage, m.to} <= set(order)
        }

        if rounds and rounds.rework_rate is not None:
            said += (
                " ",
                share(
                    rounds.rework_rate,
                    drill=sets.add(
                        f"back-{pipeline}", "Went back a stage", _walkers(steps, lambda step: step < 0)
                    ),
                ),
                " of moves go back, ",
                share(
                    rounds.skip_rate,
                    drill=sets.add(
                        f"skipped-{pipeline}", "Skipped a stage", _walkers(steps, lambda step: step > 1)
                    ),
                ),
                " skip a stage.",
            )
        title = f"How {pipeline} is walked" if frame["pipeline"].nunique() > 1 else "How it is walked"
        lists = {
            (m.stage, m.to): sets.add(
                f"moved-{pipeline}-{m.stage}-{m.to}",
                f"From {m.stage} to {m.to}",
                m.ids,
                total=m.opportunities,
            )
            for m in made.moved
            if m.pipeline == pipeline
        }
        found.append(_drawing(title, pipeline, stages, moves, lines, held, said, lists))
    return found


def _walkers(steps: Mapping[Moved, int], is_so: Callable[[int], bool]) -> list[str]:
    return [i for m, step in steps.items() if is_so(step) for i in m.ids]


def _drawing(
    title: str,
    pipeline: str,
    stages: Sequence[str],
    moves: Sequence[Move],
    lines: dict[str, tuple[str, str]],
    held: set[str],
    said: Sentence,
    lists: Mapping[tuple[str, str], str],
) -> ProcessMap:
    step = _NODE_WIDTH + _GAP
    at = {stage: i for i, stage in enumerate(stages)}
    largest = max((m.n for m in moves if m.from_stage in at), default=1)
    inner = [m for m in moves if m.from_stage in at and m.to_stage in at and m.from_stage != m.to_stage]
    shown = [m for m in inner if m.n >= 0.02 * largest]
    rise = max((abs(at[m.to_stage] - at[m.from_stage or ""]) for m in shown), default=1)
    top = 26.0 + 22 * min(rise, 5)
    edges = [
        replace(_edge(m, at, step, top, largest), drill=lists.get((m.from_stage or "", m.to_stage), ""))
        for m in shown
    ]
    for stage in stages:
        x = at[stage] * step + _NODE_WIDTH / 2
        outs = [(m.to_stage, m.n) for m in moves if m.from_stage == stage and m.to_stage in _EXIT_NAMES]
        for j, (name, n) in enumerate(sorted(outs, reverse=True)):
            y = top + _NODE_HEIGHT + 18 + 15 * j + 22 * min(rise, 5)
            edges.append(Edge("", 0, "out", f"{n:,} {name}", x, y, lists.get((stage, name), "")))
    return ProcessMap(
        title,
        said,
        width=len(stages) * step - _GAP,
        height=top + _NODE_HEIGHT + 22 * min(rise, 5) + 44,
        node_width=_NODE_WIDTH,
        node_height=_NODE_HEIGHT,
        nodes=tuple(
            Node(
                s,
                at[s] * step,
                top,
                lines[s],
                drill(state="open", stage=s, pipeline=pipeline or None),
                s in held,
            )
            for s in stages
        ),
        edges=tuple(edges),
    )


def _edge(move: Move, at: dict[str, int], step: float, top: float, largest: int) -> Edge:
    """A move on runs straight to the next stage or over the ones it skips; a move back runs below."""
    a, b = at[move.from_stage or ""], at[move.to_stage]
    width = round(1.2 + 6 * move.n / largest, 2)
    days = f", {move.median_days:.0f} d" if move.median_days is not None else ""
    label = f"{move.n:,}{days}"
    if b == a + 1:
        y = top + _NODE_HEIGHT / 2
        x0, x1 = a * step + _NODE_WIDTH, b * step
        return Edge(f"M{x0:.0f} {y:.0f}L{x1:.0f} {y:.0f}", width, "on", label, (x0 + x1) / 2, y - 8)
    span = min(abs(b - a), 5)
    x0, x1 = (
        a * step + _NODE_WIDTH * (0.62 if b > a else 0.38),
        b * step + _NODE_WIDTH * (0.38 if b > a else 0.62),
    )
    if b > a:
        y, peak = top, top - 26 * span
        return Edge(
            f"M{x0:.0f} {y:.0f}C{x0:.0f} {peak:.0f} {x1:.0f} {peak:.0f} {x1:.0f} {y:.0f}",
            width,
            "on",
            label,
            (x0 + x1) / 2,
            top - 19.5 * span - 4,
        )
    y, deep = top + _NODE_HEIGHT, top + _NODE_HEIGHT + 26 * span
    return Edge(
        f"M{x0:.0f} {y:.0f}C{x0:.0f} {deep:.0f} {x1:.0f} {deep:.0f} {x1:.0f} {y:.0f}",
        width,
        "back",
        label,
        (x0 + x1) / 2,
        y + 19.5 * span + 12,
    )


def _rows(frame: pd.DataFrame) -> list[Any]:  # Any: named tuples whose fields are the frame's columns
    return list(frame.itertuples(index=False))
