"""Forecast: the way to the end of the period, by whom and what, how good it was, and why it changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from pipesync.forecast.path import WeekEnd
from pipesync.report.html.blocks import (
    BLANK,
    Block,
    Column,
    Fan,
    Figure,
    Figures,
    Note,
    Page,
    Row,
    Scale,
    Sentence,
    Sets,
    Step,
    Table,
    Tabs,
    Waterfall,
    count,
    day,
    drill,
    money,
    number,
    short_day,
    span,
    text,
)
from pipesync.report.html.pages import record
from pipesync.report.html.pages.overview import hero
from pipesync.report.html.pages.record import method_name
from pipesync.report.html.pages.shared import (
    DIMENSIONS,
    FORECAST_COLUMNS,
    behind,
    forecast_row,
    last_day,
    own_target,
)
from pipesync.report.material import Material

SHOWN = 40


def page(made: Material, sets: Sets) -> Page:
    found: list[Block] = [
        hero(made),
        *fan(made),
        rollups(made),
        *simpler(made),
        *why_it_changed(made, sets),
        *record.blocks(made),
        *model(made),
    ]
    return Page(
        "forecast",
        "Forecast",
        ("What will have been won by ", last_day(made), ", and how sure that is."),
        tuple(found),
    )


def fan(made: Material) -> list[Fan]:
    """The way so far, week by week, and the interval of every week to come."""
    total, period, target = made.total, made.forecast.period, own_target(made)
    if total is None:
        return []
    cur, days = made.currency, (period.end - period.start).days
    path = way(made)
    now = min(max(made.as_of.date(), period.start), period.end)
    past = [w for w in path if w.is_past]
    here = (now, float(total.closed)) if now < period.end else (period.end, float(path[-1].p50))
    won = [(period.start, 0.0), *((w.end, float(w.p50)) for w in past if w.end < now), here]
    coming = [w for w in path if not w.is_past]
    scale = Scale([total.p90, total.closed, *(w.p90 for w in path), target.quota if target else None])

    def placed(points_: Sequence[tuple[date, float]]) -> tuple[tuple[float, float], ...]:
        return tuple(
            (round(100 * (d - period.start).days / days, 2), round(100 - scale.at(y), 2)) for d, y in points_
        )

    def until(end: date) -> str:
        return drill(state="won", closed=span(period.start, end))

    def open_until(end: date) -> str:
        return drill(state="open", likely=span(date.min, end))

    ends = {
        name: placed([here, *((w.end, float(getattr(w, name))) for w in coming)])
        for name in ("p10", "p50", "p90")
    }
    points_ = [
        (*at, ("Won until ", short_day(w.end - _DAY), ": ", money(w.p50, cur)), until(w.end))
        for w, at in zip(past, placed([(w.end, float(w.p50)) for w in past]), strict=True)
        if w.end <= now
    ] + [
        (
            *at,
            (
                *("Until ", short_day(w.end - _DAY), ": likely ", money(w.p50, cur)),
                *(", from ", money(w.p10, cur), " to ", money(w.p90, cur)),
            ),
            open_until(w.end) if w.end < period.end else behind("spread"),
        )
        for w, at in zip(coming, ends["p50"][1:], strict=True)
        # A short last week would cover the end.
        if w.end == period.end or (period.end - w.end).days > 3
    ]
    said: Sentence = (
        "Won so far: ",
        money(total.closed, cur, drill=drill(state="won", closed="period")),
        ". It ends between ",
        money(total.interval[0], cur, drill=behind("spread")),
        " and ",
        money(total.interval[1], cur, drill=behind("spread")),
        " in four of five cases, most likely at ",
        money(total.p50, cur, drill=behind("likely")),
        ".",
    )
    if made.audience.people is not None and coming:
        said += (" From today to the end the band is drawn straight.",)
    elif coming:
        step, after = _steepest(here[1], coming)
        said += (
            " Most is likely to come in the week until ",
            day(after - _DAY),
            ": ",
            money(step, cur, drill=drill(state="open", likely=span(after - timedelta(days=7), after))),
            ".",
        )
    return [
        Fan(
            "The way to the end of the period",
            said,
            line=placed(won),
            low=ends["p10"],
            middle=ends["p50"],
            high=ends["p90"],
            now=placed([here])[0][0],
            quota=round(100 - scale.at(target.quota), 2) if target else None,
            ticks=tuple((round(100 - 25 * i, 2), money(scale.high * i / 4, cur)) for i in range(5)),
            weeks=tuple(
                (round(100 * 7 * i / days, 2), short_day(period.start + timedelta(days=7 * i)))
                for i in range(0, -(-days // 7), 2)
            ),
            points=tuple(points_),
            rows=tuple(
                (day(w.end - _DAY), money(w.p50, cur, drill=until(w.end)), BLANK, BLANK, BLANK)
                if w.is_past
                else (
                    day(w.end - _DAY),
                    BLANK,
                    *(
                        money(x, cur, key=f"path.{w.end}.{name}", drill=open_until(w.end))
                        for name, x in (("p10", w.p10), ("p50", w.p50), ("p90", w.p90))
                    ),
                )
                for w in path
            ),
        )
    ]


_DAY = timedelta(days=1)


def way(made: Material) -> tuple[WeekEnd, ...]:
    """The total at the end of every week; of a part of the company only what is won so far, and the end, are known."""
    total, period = made.total, made.forecast.period
    if made.audience.people is None or total is None:
        return made.forecast.path
    quarter = next((q for q in made.quarters if q.period == period), None)
    now, so_far, found = made.as_of.date(), 0.0, []
    for i, part in enumerate(quarter.by_week if quarter else ()):
        end = min(period.start + timedelta(days=7 * (i + 1)), period.end)
        if end > now:
            break
        so_far += part * (quarter.won_amount if quarter else 0.0)
        found.append(WeekEnd(end, *(Decimal(f"{so_far:.2f}"),) * 3, is_past=True))
    return (*found, WeekEnd(period.end, total.p10, total.p50, total.p90, is_past=now >= period.end))


def _steepest(start: float, coming: Sequence[WeekEnd]) -> tuple[float, date]:
    """Return what the week to come that brings most is likely to bring, and its end."""
    levels = [start, *(float(w.p50) for w in coming)]
    return max(
        ((b - a, w.end) for (a, b), w in zip(pairwise(levels), coming, strict=True)),
        key=lambda p: (p[0], p[1]),
    )


def rollups(made: Material) -> Tabs:
    """One table per dimension; the groups of each add up, except managers, whose groups hold those below."""
    found: list[Table] = []
    for scope, title in DIMENSIONS.items():
        groups = made.rollups.get(scope, ())
        if not groups or (len(groups) < 2 and scope != "owner"):
            continue
        ranked = sorted(groups, key=lambda p: (-p.p50, p.scope_id))
        quotas = [t.quota for t in made.targets if t.scope == scope]
        scale = Scale([*(p.p90 for p in ranked), *quotas])
        said = f"{title}s from the same simulation, so what one group gains the whole gains."
        if scope == "manager":
            said = "Each manager with everybody below; a manager's manager holds both."
        found.append(
            Table(
                title,
                (Column(title), *FORECAST_COLUMNS),
                tuple(forecast_row(made, p, scale) for p in ranked[:SHOWN]),
                (said,),
                total=len(ranked),
                more="forecast.csv",
                name=f"by-{scope}",
            )
        )
    return Tabs(
        "By whom and what",
        ("Dark: won. Band: four of five endings. Line: most likely. Diamond: quota.",),
        tuple(found),
        "There is nothing to tell apart: one owner, or none.",
    )


def simpler(made: Material) -> list[Block]:
    """What simpler methods say of the same total."""
    if made.audience.people is not None or not made.forecast.baselines:
        return []
    own = float(made.forecast.total.p50)
    rows = tuple(
        Row(
            (
                text(method_name(name)),
                money(value, made.currency, key=f"baseline.{name}", drill=_listed(made, name)),
                money(value - own, made.currency, drill=behind("likely")),
            )
        )
        for name, value in made.forecast.baselines.items()
    )
    return [
        Table(
            "What simpler methods say",
            (Column("Method"), Column("Total", "right"), Column("Against this forecast", "right")),
            rows,
            ("The same period by methods that people use today; none of them says how sure it is.",),
            name="baselines",
        )
    ]


def _listed(made: Material, method: str) -> str:
    """Return the opportunities that a method counts."""
    if method == "run_rate":
        day_ = made.as_of.date()
        return drill(state="won", closed=span(day_ - timedelta(days=90), day_ + _DAY))
    return drill(state="open")


_KINDS = {
    "won": "Won",
    "lost": "Lost",
    "created": "Created since",
    "likelier": "Likelier now",
    "less_likely": "Less likely now",
    "increased": "Amount raised",
    "decreased": "Amount lowered",
    "closed_before": "Gone from view",
    "rest": "New business, and what only the total knows",
}


def why_it_changed(made: Material, sets: Sets) -> list[Block]:
    """Kind by kind and opportunity by opportunity since about a week ago; then forecast by forecast."""
    found: list[Block] = []
    if made.changed:
        way, cur = made.changed.waterfall, made.currency
        ids: dict[str, list[str]] = {}
        for step in way.steps:
            ids.setdefault(step.kind, []).extend([step.opportunity_id] if step.opportunity_id else [])
        level, levels, moves = way.start, [way.start], []
        for kind, amount in sorted(way.by_kind().items(), key=lambda p: (p[0] == "rest", -p[1])):
            if abs(amount) >= 0.5:
                moves.append((kind, amount, level))
                level += amount
                levels.append(level)
        scale = Scale(levels, low=min(levels) - 0.5 * (max(levels) - min(levels)))
        steps = [
            Step("Expected then", money(way.start, cur, key="changes.start"), 0.0, scale.at(way.start), "sum")
        ]
        for kind, amount, before in moves:
            low, high = sorted((before, before + amount))
            listed = sets.add(f"changed-{kind}", f"{_KINDS[kind]}: moved the forecast", ids.get(kind, []))
            steps.append(
                Step(
                    _KINDS[kind],
                    money(amount, cur, key=f"changes.{kind}", drill=listed),
                    scale.at(low),
                    round(scale.at(high) - scale.at(low), 2),
                    "up" if amount > 0 else "down",
                    count(len(ids[kind]), drill=listed) if ids.get(kind) else None,
                )
            )
        steps.append(
            Step("Expected now", money(way.end, cur, key="changes.end"), 0.0, scale.at(way.end), "sum")
        )
        found.append(
            Waterfall(
                "Why it changed",
                (
                    "The expected total since the forecast as of ",
                    day(made.changed.since.date()),
                    ", by what moved it. The scale does not begin at zero.",
                ),
                tuple(steps),
            )
        )
    return [*found, issued(made, "How it moved" if found else "Why it changed")]


def issued(made: Material, title: str) -> Block:
    """The issued forecasts of this period, each against the one before."""
    cur = made.currency
    if len(made.issued) < 2:
        return Note(
            title,
            (
                "This is the first forecast of the period on record. From the next sync on, each forecast stands here "
                "beside the one before it.",
            ),
        )
    rows = []
    last = made.issued[-9:]
    for (then, old), (as_of, one) in pairwise(last):
        since = span(then.date(), as_of.date() + _DAY)
        rows.append(
            Row(
                (
                    day(as_of.date()),
                    money(one.p50, cur, drill=behind("likely")),
                    money(one.p50 - old.p50, cur, tone="strong", drill=behind("likely")),
                    money(one.closed - old.closed, cur, drill=drill(state="won", closed=since)),
                    money(one.open - old.open, cur, drill=drill(state="open")),
                    money(one.new - old.new, cur, drill=drill(created=since)),
                )
            )
        )
    columns = (
        Column("As of"),
        Column("Likely", "right"),
        Column("Change", "right"),
        Column("from won", "right", wide_only=True),
        Column("from open", "right"),
        Column("from new", "right", wide_only=True),
    )
    return Table(
        title,
        columns,
        tuple(reversed(rows)),
        (
            "What was won, what is expected of open opportunities and of those still to be created, each time "
            "against the forecast before.",
        ),
        name="changed",
    )


def model(made: Material) -> list[Block]:
    card = made.forecast.model
    alarms = [str(a.get("text") or a.get("kind") or a) for a in card.get("alarms", ())]
    items = [
        Figure("Method", text(str(card["forecaster"])), (str(card["why"]),)),
        Figure(
            "Learnt from",
            count(card["closed"], "closed", drill=drill(closed="..", ever="1")),
            ("of them ", count(card["won"], "won", drill=drill(state="won", ever="1"))),
        ),
    ]
    shock = card.get("learned", {}).get("shock")
    if shock is not None:
        items.append(
            Figure(
                "Shared ups and downs",
                number(shock),
                ("how far a whole period strays together, in log-odds",),
            )
        )
    found: list[Block] = [Figures(tuple(items), "What it rests on")]
    if alarms:
        found.append(Note("To doubt", (" ".join(alarms),)))
    return found
