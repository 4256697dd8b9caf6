"""How good the forecasts of periods that have ended were, beside people's calls and simpler methods."""

from __future__ import annotations

from dataclasses import replace

from pipesync.forecast.accuracy import Called, Record
from pipesync.report.html.blocks import (
    BLANK,
    Block,
    Cell,
    Column,
    Note,
    Range,
    Row,
    Scale,
    Table,
    code,
    count,
    day,
    drill,
    money,
    points,
    share,
    span,
    text,
)
from pipesync.report.html.pages.shared import DIMENSIONS, facets_of, label_of
from pipesync.report.material import Material

SHOWN = 40
_METHODS = {
    "stage": "Each stage's share of wins",
    "stage_age": "The same, by age in the stage",
    "run_rate": "The pace of the last 90 days",
    "crm_probability": "The CRM's own probabilities",
    "crm_category": "Each forecast category's share of wins",
}


def method_name(method: str) -> str:
    """Say what a simpler method does."""
    return _METHODS.get(method, method.replace("_", " "))


def blocks(made: Material) -> list[Block]:
    """How good the issued forecasts were: beside people's calls and simpler methods, one by one, and by group."""
    whole = [r for r in made.accuracy if r.week is None and (r.scope, r.scope_id or "") == _own(made)]
    if not made.accuracy:
        return [
            Note(
                "How good it was",
                (
                    "No period for which a forecast was issued has ended yet. Forecasts are kept as they were issued, "
                    "and are held here against what came, beside people's own calls and simpler methods. Until then, ",
                    code("pipesync forecast backtest"),
                    " says how good they would have been.",
                ),
            )
        ]
    return [*(_beside(made, one) for one in whole[:1]), *_one_by_one(made), *_by_group(made)]


def _own(made: Material) -> tuple[str, str]:
    scopes = {"leader": "total", "manager": "manager", "rep": "owner"}
    return scopes[made.audience.kind], made.audience.person


def _came(made: Material, **group: str) -> str:
    """Return the list of what was won in the periods that the record is of."""
    periods = [s.forecast for s in made.scored]
    if not periods:
        return ""
    days = span(min(p.period_start for p in periods), max(p.period_end for p in periods))
    return drill(state="won", closed=days, **group, ever="1")


def _opening(listed: str, *cells: Cell) -> tuple[Cell, ...]:
    return tuple(c if c is BLANK else replace(c, drill=listed) for c in cells)


def _beside(made: Material, one: Record) -> Table:
    """The forecast and everything else that was said of the same totals; each compared where both were said."""
    key, came = "accuracy.total", _came(made)
    ours = Called("", one.count, one.wape, one.bias, one.wape)
    said = [("This forecast", key, ours)]
    if one.call_wape is not None and one.call_bias is not None:
        own = one.wape if one.calls == one.count else float("nan")
        said.append(
            ("People's commit", f"{key}.commit", Called("", one.calls, one.call_wape, one.call_bias, own))
        )
    said += [(f"Call of {c.kind.replace('_', ' ')}", f"{key}.call.{c.kind}", c) for c in one.others]
    said += [(method_name(c.kind), f"{key}.method.{c.kind}", c) for c in one.methods]
    rows = tuple(
        Row(
            (
                text(label, tone="strong" if c is ours else ""),
                *_opening(
                    came,
                    count(c.count, key=f"{name}.count"),
                    share(c.wape, key=f"{name}.wape"),
                    BLANK if c is ours else share(c.own_wape),
                    points(c.bias, key=f"{name}.bias"),
                    share(one.coverage_80, key=f"{name}.coverage_80") if c is ours else BLANK,
                ),
            )
        )
        for label, name, c in said
    )
    better = [c for c in one.methods if c.wape < c.own_wape]
    verdict = (
        f"It was closer than all {len(one.methods)} simpler methods. "
        if one.methods and not better
        else f"{', '.join(method_name(c.kind) for c in better)} came closer. "
        if better
        else ""
    )
    return Table(
        "How good it was",
        (
            Column("Who said it"),
            Column("Compared", "right", "Forecasts whose period has ended."),
            Column("Error", "right", "Absolute error over what came (WAPE)."),
            Column("Ours then", "right", "This forecast's error in the same cases.", wide_only=True),
            Column("Bias", "right", "Above or below what came, on average."),
            Column("Inside", "right", "How often what came lay in the 80% interval.", wide_only=True),
        ),
        rows,
        (verdict + "Periods that have ended, as everything was said at the time.",),
        name="accuracy",
    )


def _one_by_one(made: Material) -> list[Block]:
    """The last forecast of each week of periods that have ended, with what came."""
    weekly = {(s.forecast.period_start, s.week): s for s in made.scored}
    shown = sorted(weekly.values(), key=lambda s: s.as_of, reverse=True)
    if not shown:
        return []
    scale = Scale(x for s in shown for x in (s.forecast.p90, s.actual))
    rows = []
    for s in shown[:SHOWN]:
        one, came = s.forecast, span(s.forecast.period_start, s.forecast.period_end)
        low, high = one.interval
        listed = drill(state="won", closed=came, ever="1")
        rows.append(
            Row(
                (
                    day(s.as_of.date()),
                    text(f"week {s.week}", sub="of the period"),
                    money(one.p50, one.currency, drill=listed),
                    Range(
                        scale.at(low),
                        scale.at(one.p50),
                        scale.at(high),
                        f"from {money(low, one.currency).text} to {money(high, one.currency).text}, "
                        f"likely {money(one.p50, one.currency).text}; {money(s.actual, one.currency).text} came",
                        target=scale.at(s.actual),
                        drill=listed,
                    ),
                    money(s.actual, one.currency, drill=listed, tone="strong"),
                    money(s.call, one.currency, drill=listed),
                )
            )
        )
    inside = sum(low <= s.actual <= high for s in shown for low, high in (s.forecast.interval,))
    return [
        Table(
            "Forecast by forecast",
            (
                Column("As of"),
                Column("When", wide_only=True),
                Column("Likely", "right"),
                Column("Interval", "mark", "Band: 80% interval. Line: likely. Diamond: what came."),
                Column("Came", "right"),
                Column("Commit", "right", wide_only=True),
            ),
            tuple(rows),
            (
                "The last one of each week. What came lay inside the band in ",
                count(inside, drill=_came(made)),
                " of ",
                count(len(shown), drill=_came(made)),
                "; four of five are meant to.",
            ),
            total=len(shown),
            name="scored",
        )
    ]


def _by_group(made: Material) -> list[Block]:
    rows = tuple(
        Row(
            (
                text(label_of(made, r.scope, r.scope_id or ""), sub=DIMENSIONS.get(r.scope, "").lower()),
                *_opening(
                    _came(made, **{r.scope: r.scope_id or ""}),
                    count(r.count),
                    share(r.wape),
                    points(r.bias),
                    share(r.coverage_80),
                    share(r.call_wape),
                    points(r.call_bias),
                ),
            ),
            facets_of(made, r.scope, r.scope_id or ""),
        )
        for r in made.accuracy
        if r.scope in ("owner", "team", "manager") and r.scope_id and r.week is None
    )
    columns = (
        Column("Of whom"),
        Column("Forecasts", "right", wide_only=True),
        Column("Error", "right", "Absolute error over what came (WAPE)."),
        Column("Bias", "right", wide_only=True),
        Column("Inside", "right", "How often what came lay in the 80% interval."),
        Column("Commit's error", "right"),
        Column("Commit's bias", "right", wide_only=True),
    )
    return (
        [
            Table(
                "How good it was, by whom",
                columns,
                rows[:SHOWN],
                ("The forecast of each beside what was committed.",),
                total=len(rows),
                name="accuracy-groups",
            )
        ]
        if rows
        else []
    )
