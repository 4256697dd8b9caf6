"""Products and sources: what sells, and where it comes from."""

from __future__ import annotations

from dataclasses import replace

from pipesync.analysis.products import Pair
from pipesync.analysis.sources import Share
from pipesync.report.html.blocks import (
    BLANK,
    Bar,
    Block,
    Column,
    Mark,
    Note,
    Page,
    Range,
    Row,
    Scale,
    Table,
    count,
    drill,
    money,
    number,
    points,
    share,
    text,
)
from pipesync.report.html.pages.shared import behind, own_target, sentence
from pipesync.report.material import Material

SHOWN = 40


def _missing(missing: tuple[str, ...]) -> list[Block]:
    return [Note("Not known", (sentence(missing),))] if missing else []


def _rate(rate: float | None, low: float, high: float, scale: Scale, listed: str = "") -> Mark:
    if rate is None:
        return BLANK
    return Range(
        scale.at(low),
        scale.at(rate),
        scale.at(high),
        f"{rate:.0%}, between {low:.0%} and {high:.0%}",
        drill=listed,
    )


def products(made: Material) -> Page:
    found, cur = made.products, made.currency
    by_name = {p.scope_id: p for p in made.rollups.get("product", ())}
    scale = Scale(p.high for p in found.rows if p.win_rate is not None)
    rows = []
    for p in found.rows[:SHOWN]:
        one = by_name.get(p.product)
        key = f"product.{p.product}"
        opened, decided = drill(state="open", sold=p.product), drill(year="1", sold=p.product)
        won = drill(state="won", year="1", sold=p.product)
        rows.append(
            Row(
                (
                    text(p.product, tone="strong", drill=opened),
                    count(p.open, key=f"{key}.open", drill=opened),
                    money(p.open_amount, cur, key=f"{key}.open_amount", drill=opened),
                    money(p.won_amount, cur, key=f"{key}.won_amount", drill=won),
                    share(p.win_rate, key=f"{key}.win_rate", drill=decided),
                    _rate(p.win_rate, p.low, p.high, scale, decided),
                    money(p.average, cur, drill=won),
                    number(p.cycle_days, "days", drill=won),
                    money(one.p50, cur, drill=behind("likely", "product", p.product)) if one else BLANK,
                    points(
                        p.trend,
                        drill=decided,
                        tone=("good" if (p.trend or 0) > 0 else "bad") if p.trend_is_real else "quiet",
                    ),
                ),
                {"product": p.product},
            )
        )
    columns = (
        Column("Product"),
        Column("Open", "right", wide_only=True),
        Column("Open amount", "right"),
        Column("Won, 365 days", "right", wide_only=True),
        Column("Win rate", "right"),
        Column("95% interval", "mark", wide_only=True),
        Column("Average win", "right", wide_only=True),
        Column("Cycle", "right", wide_only=True),
        Column("Likely", "right", "Of the period's forecast."),
        Column(
            "Trend",
            "right",
            "Win rate of the last half year against the year before; grey where it may be chance.",
            wide_only=True,
        ),
    )
    pairs = tuple(
        Row(
            (
                text(f"{p.one} + {p.other}", tone="strong"),
                count(p.together, drill=_pair(p)),
                number(p.lift, "×", drill=_pair(p)),
            )
        )
        for p in found.pairs[:8]
    )
    best = max((p for p in found.rows if p.won), key=lambda p: p.won_amount, default=None)
    said = (
        (
            f"{best.product} brought most in the last 365 days: ",
            money(best.won_amount, cur, drill=drill(state="won", year="1", sold=best.product)),
            ".",
        )
        if best
        else ()
    )
    blocks: list[Block] = [
        Table(
            "What sells",
            columns,
            tuple(rows),
            said,
            total=len(found.rows),
            more="products.csv",
            empty="No product is known of any opportunity.",
            name="products",
        ),
        Table(
            "Sold together",
            (Column("Products"), Column("Together", "right"), Column("Against chance", "right")),
            pairs,
            ("Pairs in won opportunities, and how much more often than by chance.",) if pairs else (),
            empty="No two products were won together often enough to say anything.",
            name="pairs",
        ),
        *_missing(found.missing),
    ]
    return Page("products", "Products", ("What sells, how fast, and what goes with what.",), tuple(blocks))


def _pair(one: Pair) -> str:
    """Return the list of what was won with both."""
    return f"{drill(state='won', sold=one.one, ever='1')}&{drill(sold=one.other)}"


def _of(part: Share, scale: Scale, listed: str) -> tuple[Mark, ...]:
    return share(part.rate, sub=f"{part.k:,} of {part.n:,}", drill=listed), Range(
        scale.at(part.low),
        scale.at(part.rate),
        scale.at(part.high),
        f"{part.low:.0%} to {part.high:.0%}",
        drill=listed,
    ) if part.rate is not None else BLANK


def sources(made: Material) -> Page:
    """From leads to wins; where leads are not known, by the opportunities' own source."""
    blocks = [
        *_from_leads(made),
        *_from_opportunities(made),
        *_for_the_gap(made),
        *_missing(made.sources.missing),
    ]
    if not blocks:
        blocks.append(Note("Nothing is known", ("Neither leads nor a source of opportunities is mapped.",)))
    return Page(
        "sources",
        "Sources",
        ("Where opportunities come from, and what each source is worth.",),
        tuple(blocks),
    )


def _of_source(source: str | None, **more: str) -> str:
    """Return the list of what came from a source, as far back as it is listed."""
    return drill(source=source or "", **more, ever="1")


def _from_leads(made: Material) -> list[Block]:
    found, cur = made.sources, made.currency
    if not found.rows:
        return []
    converted = Scale(x for s in found.rows for x in (s.converted.high,))
    won = Scale(x for s in found.rows for x in (s.won.high,))
    rows = tuple(
        Row(
            (
                text(s.key or "Not said", tone="strong", drill=_of_source(s.key)),
                count(s.leads, key=f"source.{s.key}.leads", drill=_of_source(s.key)),
                *_of(s.converted, converted, _of_source(s.key)),
                *_of(s.won, won, _of_source(s.key, state="won")),
                count(s.wins, key=f"source.{s.key}.wins", drill=_of_source(s.key, state="won")),
                money(
                    s.won_amount, cur, key=f"source.{s.key}.won_amount", drill=_of_source(s.key, state="won")
                ),
                number(s.touch_hours, "h", drill=_of_source(s.key)),
            )
        )
        for s in found.rows[:SHOWN]
    )
    columns = (
        Column("Source"),
        Column("Leads", "right"),
        Column("Became opportunities", "right"),
        Column("95% interval", "mark", wide_only=True),
        Column("Became wins", "right"),
        Column("95% interval", "mark", wide_only=True),
        Column("Wins", "right", wide_only=True),
        Column("Won amount", "right"),
        Column("First touch", "right", "Median hours from creation.", wide_only=True),
    )
    said = (
        (
            "Leads old enough to be judged: nine of ten that convert do so within ",
            number(found.convert_lag, "days"),
            ". Younger ones are counted apart.",
        )
        if found.convert_lag
        else ("Leads to opportunities to wins.",)
    )
    return [
        Table(
            "From lead to win",
            columns,
            rows,
            said,
            total=len(found.rows),
            more="sources.csv",
            name="sources",
        )
    ]


def _from_opportunities(made: Material) -> list[Block]:
    found, cur = made.sources, made.currency
    if not found.opportunities:
        return []
    scale = Scale(o.won_amount for o in found.opportunities)
    rates = Scale(o.won.high for o in found.opportunities if o.won.rate is not None)
    rows = tuple(
        Row(
            (
                text(o.source or "Not said", tone="strong", drill=_of_source(o.source)),
                count(o.opportunities, drill=_of_source(o.source)),
                share(o.won.rate, sub=f"{o.won.k:,} of {o.won.n:,}", drill=_of_source(o.source)),
                _rate(o.won.rate, o.won.low, o.won.high, rates, _of_source(o.source)),
                money(
                    o.won_amount,
                    cur,
                    key=f"from.{o.source}.won_amount",
                    drill=_of_source(o.source, state="won"),
                ),
                Bar(
                    scale.at(o.won_amount),
                    f"{o.source or 'Not said'}: won amount",
                    _of_source(o.source, state="won"),
                ),
            )
        )
        for o in found.opportunities[:SHOWN]
    )
    columns = (
        Column("Source"),
        Column("Opportunities", "right"),
        Column("Win rate", "right"),
        Column("95% interval", "mark", wide_only=True),
        Column("Won amount", "right"),
        Column("", "mark", wide_only=True),
    )
    return [
        Table(
            "Opportunities by source",
            columns,
            rows,
            ("Where opportunities came from, and what became of them, ever since.",),
            name="from-source",
        )
    ]


def _for_the_gap(made: Material) -> list[Block]:
    target, cur = own_target(made), made.currency
    if not made.needs or target is None:
        return []
    rows = tuple(
        Row(
            (
                text(n.key or "Not said", tone="strong", drill=_of_source(n.key)),
                *(
                    replace(c, drill=_of_source(n.key, state="won"))
                    for c in (number(n.wins), count(n.leads), count(n.worst), number(n.weeks, "weeks"))
                ),
            )
        )
        for n in made.needs[:8]
    )
    columns = (
        Column("Source"),
        Column("Wins", "right", wide_only=True),
        Column("Leads needed", "right"),
        Column("At worst", "right"),
        Column("At its pace", "right"),
    )
    return [
        Table(
            "What the gap would take",
            columns,
            rows,
            (
                "If one source alone were to close the gap of ",
                money(target.gap, cur, drill=behind("quota")),
                ".",
            ),
            name="needs",
        )
    ]
