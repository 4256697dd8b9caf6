"""Pipeline: the funnel, the process as it is walked, what waits, what came and went, and when it is won."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pandas as pd

from pipesync.analysis.linearity import Quarter
from pipesync.report.html.blocks import (
    BLANK,
    Bars,
    Block,
    Column,
    Figure,
    Figures,
    Funnel,
    FunnelStage,
    Item,
    Items,
    Note,
    Page,
    Row,
    Scale,
    Sentence,
    Sets,
    Step,
    Table,
    Waterfall,
    count,
    day,
    drill,
    money,
    month,
    number,
    share,
    short_day,
    span,
    text,
)
from pipesync.report.html.pages import processmap
from pipesync.report.html.pages.overview import ADDS, MOVES, stood
from pipesync.report.html.pages.shared import behind, facets
from pipesync.report.html.wording import capital, dated
from pipesync.report.material import Material

_AGES = ("up to the usual stay", "up to P85", "up to P95", "beyond P95")


def page(made: Material, sets: Sets) -> Page:
    blocks: list[Block] = [
        funnel(made, sets),
        bottlenecks(made),
        *processmap.blocks(made, sets),
        waterfall(made, sets),
        coverage(made),
        linearity(made),
        *speed(made),
        losses(made, sets),
    ]
    return Page(
        "pipeline",
        "Pipeline",
        ("What is open, where it waits, and how it flows.",),
        tuple(blocks),
    )


def funnel(made: Material, sets: Sets) -> Funnel:
    frame = made.bottlenecks.stages
    held = {(b.pipeline or "", b.subject) for b in made.bottlenecks.ranked if b.kind in ("time", "queue")}
    one = frame["pipeline"].nunique() < 2
    flows = {(f.pipeline, f.stage): f for f in made.flows}
    scale = Scale(frame["wip_amount"])
    stages = []
    for r in _stages(frame):
        flow = flows.get((r.pipeline, r.stage))
        whole = max(sum(flow.ages), 1) if flow else 1
        listed = drill(state="open", stage=r.stage, pipeline=r.pipeline or None)
        stages.append(
            FunnelStage(
                pipeline=r.pipeline,
                stage=r.stage,
                is_told_apart=not one,
                count=count(r.wip, key=f"wip.{r.pipeline}.{r.stage}", drill=listed),
                amount=money(
                    r.wip_amount, made.currency, key=f"wip_amount.{r.pipeline}.{r.stage}", drill=listed
                ),
                width=scale.at(r.wip_amount),
                advance=share(
                    r.advance,
                    sub=f"{r.advance_low:.0%} to {r.advance_high:.0%}",
                    key=f"advance.{r.pipeline}.{r.stage}",
                    drill=left_from(made, sets, r.pipeline, r.stage),
                )
                if r.ended
                else BLANK,
                is_bottleneck=(r.pipeline, r.stage) in held or (one and ("", r.stage) in held),
                ages=tuple(
                    (name, n, round(100 * n / whole, 2)) for name, n in zip(_AGES, flow.ages, strict=True)
                )
                if flow
                else (),
            )
        )
    return Funnel(
        "Where it stands",
        (
            "Open opportunities by stage, with the share that goes on from each; how old those are that wait, "
            "against how long others stayed.",
        ),
        tuple(stages),
        ages=any(s.ages for s in stages),
    )


def left_from(made: Material, sets: Sets, pipeline: str, stage: str) -> str:
    """Keep the list of what was in a stage and left it, wherever it went."""
    ways = [m for m in made.moved if (m.pipeline, m.stage) == (pipeline, stage)]
    ids = [i for m in ways for i in m.ids]
    return sets.add(
        f"left-{pipeline}-{stage}",
        f"Left {stage}",
        ids,
        total=max((m.opportunities for m in ways), default=0),
    )


def _stages(frame: pd.DataFrame) -> list[Any]:  # Any: named tuples whose fields are the frame's columns
    return list(frame.itertuples(index=False))


def bottlenecks(made: Material) -> Items:
    words = {"time": "Waiting", "rework": "Going back", "conversion": "Leaking", "queue": "Queueing"}
    found = [
        Item(
            b.subject.replace(" -> ", " → "),
            capital((b.why, ".")),
            money(
                b.amount,
                b.currency or made.currency,
                key=f"bottleneck.{b.kind}.{b.pipeline or ''}.{b.subject}",
            ),
            drill(state="open", stage=b.subject.split(" -> ")[0], pipeline=b.pipeline),
            action=words[b.kind],
            facets=facets(made, pipeline=b.pipeline),
        )
        for b in made.bottlenecks.ranked[:6]
    ]
    return Items(
        "Where revenue is held up",
        ("What mending each would be worth in won revenue; only what is unlikely to be chance is named.",)
        if found
        else (),
        tuple(found),
        empty="No bottleneck stands out from chance.",
    )


def waterfall(made: Material, sets: Sets) -> Waterfall:
    cur, found = made.currency, made.waterfall
    totals = found.totals()
    by_kind: dict[str, list[str]] = {}
    for step in found.steps:
        by_kind.setdefault(step.kind, []).append(step.opportunity_id)
    level = float(found.start)
    levels = [level]
    moves = [(k, title, float(totals[k]) * (1 if k in ADDS else -1)) for k, title, _ in MOVES if totals[k]]  # type: ignore[index]  # the kinds are its own
    for _, _, amount in moves:
        level += amount
        levels.append(level)
    scale = Scale(levels)
    steps = [
        Step(
            "At the start",
            money(
                found.start,
                cur,
                key="waterfall.start",
                drill=stood(made, found, sets, "period-start", "Open at the start of the period"),
            ),
            0.0,
            scale.at(levels[0]),
            "sum",
        )
    ]
    for i, (kind, title, amount) in enumerate(moves):
        low, high = sorted((levels[i], levels[i + 1]))
        listed = sets.add(f"period-{kind}", f"{title} since the start of the period", by_kind[kind])
        steps.append(
            Step(
                title,
                money(amount, cur, key=f"waterfall.{kind}", drill=listed),
                scale.at(low),
                round(scale.at(high) - scale.at(low), 2),
                "up" if amount > 0 else "down",
                count(len(by_kind[kind]), drill=listed),
            )
        )
    steps.append(
        Step(
            "Now",
            money(found.end, cur, key="waterfall.end", drill=drill(state="open")),
            0.0,
            scale.at(levels[-1]),
            "sum",
        )
    )
    return Waterfall(
        "What came and what went",
        (
            "From ",
            steps[0].cell,
            " at the start of the period to ",
            steps[-1].cell,
            " now: everything that is open, at full amount.",
        ),
        tuple(steps),
        tuple(dated(m) for m in found.missing),
    )


def coverage(made: Material) -> Block:
    found, cur = made.coverage, made.currency
    rows = [
        Row(
            (
                text(
                    made.name(c.scope_id) if c.scope_id else "Without an owner",
                    drill=drill(state="open", owner=c.scope_id or ""),
                ),
                money(
                    c.open_amount,
                    cur,
                    key=f"covered.{c.scope_id}",
                    drill=drill(state="open", close="period", owner=c.scope_id or ""),
                ),
                money(c.closed, cur, drill=drill(state="won", closed="period", owner=c.scope_id or "")),
                money(c.quota, cur, drill=behind("quota", "owner", c.scope_id or "")),
                money(c.gap, cur, drill=behind("quota", "owner", c.scope_id or "")),
                number(
                    c.coverage,
                    "×",
                    key=f"coverage.{c.scope_id}",
                    drill=behind("coverage", "owner", c.scope_id or ""),
                ),
            ),
            facets(made, c.scope_id),
        )
        for c in sorted(found.rows, key=lambda c: (c.coverage is None, c.coverage or 0.0))
    ]
    if not any(c.quota for c in found.rows):
        return Note("Coverage", ("There are no quotas for this period, so there is nothing to cover.",))
    said: Sentence = (
        "Open amount that is dated in the period, over what the quota still lacks; the thinnest first.",
    )
    if found.needed:
        said += (
            " At this point of earlier periods, ",
            number(found.needed, "×", key="coverage.needed.past", drill=behind("coverage")),
            " was needed.",
        )
    columns = (
        Column("Owner"),
        Column("Open", "right"),
        Column("Won", "right", wide_only=True),
        Column("Quota", "right", wide_only=True),
        Column("Gap", "right"),
        Column("Coverage", "right"),
    )
    return Table("Coverage", columns, tuple(rows), said, name="coverage")


def linearity(made: Material) -> Block:
    quarters = [q for q in made.quarters if q.won]
    if not quarters:
        return Note("When it is won", ("Nothing was won in the last quarters.",))
    rows = [
        Row(
            (
                month(q.period.start, sub="" if q.is_over else "running"),
                count(q.won, drill=_won(made, q.period.start, q.period.end)),
                money(
                    q.won_amount,
                    made.currency,
                    key=f"won.{q.period}",
                    drill=_won(made, q.period.start, q.period.end),
                ),
                *(
                    share(m, drill=_won(made, *span_))
                    for m, span_ in zip(q.by_month, _months(q), strict=True)
                ),
                share(
                    q.last_two_weeks,
                    key=f"late.{q.period}",
                    drill=_won(made, q.period.end - timedelta(days=14), q.period.end),
                ),
            )
        )
        for q in reversed(quarters)
    ]
    columns = (
        Column("Quarter from"),
        Column("Won", "right"),
        Column("Amount", "right"),
        Column("1st month", "right", wide_only=True),
        Column("2nd", "right", wide_only=True),
        Column("3rd", "right", wide_only=True),
        Column("Last two weeks", "right"),
    )
    over = [q for q in quarters if q.is_over]
    said: Sentence = ("How evenly a quarter's revenue comes in.",)
    if over:
        last = over[-1]
        listed = _won(made, last.period.end - timedelta(days=14), last.period.end)
        said += (
            " In the last whole quarter ",
            share(last.last_two_weeks, drill=listed),
            " came in its last two weeks.",
        )
    return Table("When it is won", columns, tuple(rows), said, name="linearity")


def _won(made: Material, start: date, end: date) -> str:
    """Return the list of what was won in these days; `ever` where some of it is older than what is listed."""
    older = start < made.as_of.date() - timedelta(days=365)
    return drill(state="won", closed=span(start, end), ever="1" if older else None)


def _months(quarter: Quarter) -> list[tuple[date, date]]:
    start = quarter.period.start
    begins = [(start.replace(day=1) + timedelta(days=31 * i)).replace(day=1) for i in (1, 2)]
    edges = [start, *begins, quarter.period.end]
    return list(pairwise(edges))


def speed(made: Material) -> Iterable[Block]:
    v, cur = made.velocity, made.currency
    if v and v.per_day:
        items = [
            Figure(
                "Velocity",
                money(v.per_day, cur, key="velocity.per_day", drill=drill(state="open")),
                ("of won revenue a day: open × win rate × average win ÷ days",),
            ),
            Figure(
                "Win rate",
                share(v.win_rate, key="velocity.win_rate", drill=drill(year="1")),
                (f"{v.low:.0%} to {v.high:.0%}, of {v.decided:,} decided",),
            ),
            Figure(
                "Average win",
                money(v.amount, cur, drill=drill(state="won", year="1")),
                ("in the last 365 days",),
            ),
            Figure(
                "From creation to win",
                number(v.cycle_days, "days", drill=drill(state="won", year="1")),
                ("on average",),
            ),
        ]
        yield Figures(tuple(items), "How fast it flows")
        yield Table(
            "What would move it most",
            (Column("Lever"), Column("Revenue more in a quarter", "right")),
            tuple(Row((text(lever.step), money(lever.gain, cur))) for lever in v.levers),
            ("Each lever moved by one step that people know, all else as it is.",),
            name="levers",
        )
    weeks = made.weeks[-13:]
    scale = Scale(x for w in weeks for x in (w.created_amount, w.won_amount, w.lost_amount))
    yield Bars(
        "Created against closed",
        (
            "What was created, won and lost in each of the last 13 weeks, by amount; the last week may not be over.",
        ),
        ("Created", "Won", "Lost"),
        tuple(
            (
                short_day(w.start),
                tuple(
                    (money(amount, cur, drill=listed), scale.at(amount))
                    for amount, listed in (
                        (w.created_amount, drill(created=_week(w.start))),
                        (w.won_amount, drill(state="won", closed=_week(w.start))),
                        (w.lost_amount, drill(state="lost", closed=_week(w.start))),
                    )
                ),
            )
            for w in weeks
        ),
    )


def _week(start: date) -> str:
    return span(start, start + timedelta(days=7))


def losses(made: Material, sets: Sets) -> Items:
    again = made.losses.again[:6]
    sets.add("again", "Worth another try", [x.opportunity_id for x in made.losses.again])
    return Items(
        "Worth another try",
        (
            "Lost a month ago or longer, nothing else is open with the account; ranked by amount and by how often that "
            "stage is won from.",
        )
        if again
        else (),
        tuple(
            Item(
                x.name,
                (f"Lost from {x.lost_from} on ", day(x.lost_on), f"{f': {x.reason}' if x.reason else ''}."),
                money(x.amount, made.currency),
                drill(opp=x.opportunity_id),
                facets=facets(made, x.owner_id),
            )
            for x in again
        ),
        empty="No loss of the last year is worth another try.",
    )
