"""Forecast: the way to the end of the period, by whom and what, how good it was, and why it changed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from pipesync.report.html.blocks import (
    Block,
    Column,
    Fan,
    Figure,
    Figures,
    Note,
    Page,
    Row,
    Scale,
    Sets,
    Step,
    Table,
    Tabs,
    Waterfall,
    code,
    count,
    day,
    money,
    number,
    points,
    share,
    text,
)
from pipesync.report.html.pages.overview import hero
from pipesync.report.html.pages.shared import (
    DIMENSIONS,
    FORECAST_COLUMNS,
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
        accuracy(made),
        *model(made),
    ]
    return Page(
        "forecast",
        "Forecast",
        ("What will have been won by ", last_day(made), ", and how sure that is."),
        tuple(found),
    )


def fan(made: Material) -> list[Fan]:
    """The way so far, week by week, and the interval that it runs into."""
    total, period = made.total, made.forecast.period
    quarter = next(
        (q for q in made.quarters if q.period.start == period.start and q.period.end == period.end), None
    )
    if total is None:
        return []
    cur, target = made.currency, own_target(made)
    now = min(max(made.as_of.date(), period.start), period.end)
    won, so_far = [(0.0, 0.0)], 0.0
    days = (period.end - period.start).days
    rows = []
    for i, part in enumerate(quarter.by_week if quarter else ()):
        begin = period.start + timedelta(days=7 * i)
        if begin > now:
            break
        so_far += part * (quarter.won_amount if quarter else 0.0)
        end = min(begin + timedelta(days=7), now, period.end)
        won.append((100 * (end - period.start).days / days, so_far))
        rows.append((day(end), money(so_far, cur)))
    if len(won) == 1:
        won.append((100 * (now - period.start).days / days, float(total.closed)))
    scale = Scale([total.p90, so_far, target.quota if target else None])

    def placed(points_: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        return tuple((round(x, 2), round(100 - scale.at(y), 2)) for x, y in points_)

    start = won[-1]
    ends = {
        name: [start, (100.0, float(value))]
        for name, value in (("low", total.p10), ("middle", total.p50), ("high", total.p90))
    }
    weeks = [
        (round(100 * 7 * i / days, 2), f"{period.start + timedelta(days=7 * i):%-d %b}")
        for i in range(0, -(-days // 7), 2)
    ]
    return [
        Fan(
            "The way to the end of the period",
            (
                "Won so far: ",
                money(total.closed, cur),
                ". It ends between ",
                money(total.p10, cur),
                " and ",
                money(total.p90, cur),
                " in four of five cases, most likely at ",
                money(total.p50, cur),
                ". From today to the end the band is drawn straight.",
            ),
            line=placed(won),
            low=placed(ends["low"]),
            middle=placed(ends["middle"]),
            high=placed(ends["high"]),
            now=round(start[0], 2),
            quota=round(100 - scale.at(target.quota), 2) if target else None,
            ticks=tuple((round(100 - 25 * i, 2), money(scale.high * i / 4, cur)) for i in range(5)),
            weeks=tuple(weeks),
            rows=(
                *((w, m, text(""), text(""), text("")) for w, m in rows),
                (
                    last_day(made),
                    text(""),
                    money(total.p10, cur),
                    money(total.p50, cur),
                    money(total.p90, cur),
                ),
            ),
        )
    ]


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


_METHODS = {
    "stage": "Each stage's share of wins",
    "stage_age": "The same, by age in the stage",
    "run_rate": "The pace of the last 90 days",
    "crm_probability": "The CRM's own probabilities",
    "crm_category": "What is in commit",
}


def simpler(made: Material) -> list[Block]:
    """What simpler methods say of the same total."""
    if made.audience.people is not None or not made.forecast.baselines:
        return []
    own = float(made.forecast.total.p50)
    rows = tuple(
        Row(
            (
                text(_METHODS.get(name, name.replace("_", " "))),
                money(value, made.currency, key=f"baseline.{name}"),
                money(value - own, made.currency),
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
    for (_, old), (as_of, one) in pairwise(last):
        rows.append(
            Row(
                (
                    day(as_of.date()),
                    money(one.p50, cur),
                    money(one.p50 - old.p50, cur, tone="strong"),
                    money(one.closed - old.closed, cur),
                    money(one.open - old.open, cur),
                    money(one.new - old.new, cur),
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


def accuracy(made: Material) -> Block:
    """How good the issued forecasts were, beside people's own calls."""
    if not made.accuracy:
        return Note(
            "How good it was",
            (
                "No period for which a forecast was issued has ended yet. Forecasts are kept as they were issued, "
                "and are held here against what came, beside people's own calls. Until then, ",
                code("pipesync forecast backtest"),
                " says how good they would have been.",
            ),
        )
    rows = [
        Row(
            (
                text(
                    record.scope if record.scope_id is None else record.scope_id,
                    sub=f"week {record.week}" if record.week else "",
                ),
                count(record.count),
                share(record.wape),
                points(record.bias),
                share(record.coverage_80),
                share(record.call_wape),
                points(record.call_bias),
            )
        )
        for record in made.accuracy
        if record.scope == "total" or record.week is None
    ]
    columns = (
        Column("Scope"),
        Column("Forecasts", "right"),
        Column("Error", "right", "Absolute error over what came (WAPE)."),
        Column("Bias", "right", wide_only=True),
        Column("Inside", "right", "How often what came lay in the 80% interval."),
        Column("People's error", "right"),
        Column("People's bias", "right", wide_only=True),
    )
    return Table(
        "How good it was",
        columns,
        tuple(rows[:SHOWN]),
        ("Periods that have ended, as issued at the time; people's calls beside.",),
        name="accuracy",
    )


def model(made: Material) -> list[Block]:
    card = made.forecast.model
    alarms = [str(a.get("text") or a.get("kind") or a) for a in card.get("alarms", ())]
    items = [
        Figure("Method", text(str(card["forecaster"])), (str(card["why"]),)),
        Figure("Learnt from", count(card["closed"], "closed"), (count(card["won"], "won"),)),
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
