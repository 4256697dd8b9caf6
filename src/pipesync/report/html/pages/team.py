"""Team: where to coach, the gap, and the opportunities that carry the number."""

from __future__ import annotations

from collections.abc import Sequence

from pipesync.analysis.owners import Owner
from pipesync.forecast.targets import Carrier
from pipesync.report.html.blocks import (
    BLANK,
    Block,
    Card,
    Cards,
    Column,
    Figure,
    Note,
    Page,
    Range,
    Row,
    Scale,
    Sentence,
    Sets,
    Table,
    Tone,
    count,
    drill,
    money,
    number,
    opportunity,
    share,
    text,
)
from pipesync.report.html.pages.shared import behind, facets, own_target, sentence, target_of
from pipesync.report.material import Material


def page(made: Material, sets: Sets) -> Page:
    return Page(
        "team",
        "Team",
        ("Where coaching would help, what the quota lacks, and what carries it.",),
        (coaching(made, sets), comparison(made), *plans(made, sets)),
    )


def coaching(made: Material, sets: Sets) -> Block:
    if not made.owners:
        return Note(
            "Where to coach", ("It is not known whose the opportunities are, so nobody can be compared.",)
        )
    cards = [_card(made, o, sets) for o in made.owners if o.points]
    cards.sort(key=lambda c: (all(tone == "good" for _, tone, _ in c.points), c.title))
    quiet = sum(not o.points for o in made.owners)
    return Cards(
        "Where to coach",
        (
            "At most three points a person, each too large to be chance, against peers with similar opportunities. ",
            count(quiet),
            " of ",
            count(len(made.owners)),
            " have nothing that stands out.",
        )
        if cards
        else (),
        tuple(cards),
        empty="Nobody stands out from peers with similar opportunities, neither up nor down.",
    )


def _card(made: Material, o: Owner, sets: Sets) -> Card:
    target = target_of(made, "owner", o.owner_id)
    figures = [
        Figure("Open", money(o.open_amount, made.currency, drill=drill(state="open", owner=o.owner_id))),
        Figure("Win rate", share(o.win_rate, drill=drill(year="1", owner=o.owner_id))),
    ]
    if o.hygiene is not None:
        trend = () if o.hygiene_before is None else ("four weeks ago ", number(o.hygiene_before))
        figures.append(
            Figure(
                "Hygiene",
                number(
                    o.hygiene,
                    key=f"owner.{o.owner_id}.hygiene",
                    drill=drill(findings="any", owner=o.owner_id),
                ),
                trend,
            )
        )
    if target:
        figures.append(
            Figure("Gap", money(target.gap, made.currency, drill=behind("quota", "owner", o.owner_id)))
        )
    points: tuple[tuple[str, Tone, str], ...] = tuple(
        (
            f"{p.text[:1].upper()}{p.text[1:]}.",
            "good" if p.is_good else "bad",
            sets.add(
                f"point-{o.owner_id}-{p.measure}", f"{made.name(o.owner_id)}: {p.text}", p.opportunities
            ),
        )
        for p in o.points
    )
    return Card(
        made.name(o.owner_id),
        o.team or "",
        tuple(figures),
        points,
        facets(made, o.owner_id),
        drill(state="open", owner=o.owner_id),
    )


def comparison(made: Material) -> Block:
    if not made.owners:
        return Note("Everybody", (f"{sentence(made.owners_missing) or 'No owner is known.'}",))
    rows = []
    scale = Scale(o.high for o in made.owners if o.win_rate is not None)
    by_owner = {p.scope_id: p for p in made.rollups.get("owner", ())}
    for o in sorted(made.owners, key=lambda o: (-o.open_amount, o.owner_id)):
        target, one = target_of(made, "owner", o.owner_id), by_owner.get(o.owner_id)
        decided = drill(year="1", owner=o.owner_id)
        won = drill(state="won", year="1", owner=o.owner_id)
        interval = (
            Range(
                scale.at(o.low),
                scale.at(o.win_rate),
                scale.at(o.high),
                f"{o.win_rate:.0%}, between {o.low:.0%} and {o.high:.0%}",
                drill=decided,
            )
            if o.win_rate is not None
            else BLANK
        )
        rows.append(
            Row(
                (
                    text(
                        made.name(o.owner_id),
                        sub=o.team or "",
                        tone="strong",
                        drill=drill(state="open", owner=o.owner_id),
                    ),
                    count(
                        o.open, key=f"owner.{o.owner_id}.open", drill=drill(state="open", owner=o.owner_id)
                    ),
                    money(
                        o.open_amount,
                        made.currency,
                        key=f"owner.{o.owner_id}.open_amount",
                        drill=drill(state="open", owner=o.owner_id),
                    ),
                    count(o.won, key=f"owner.{o.owner_id}.won", drill=won),
                    share(o.win_rate, key=f"owner.{o.owner_id}.win_rate", drill=decided),
                    interval,
                    number(o.cycle_days, "days", drill=won),
                    money(one.p50, made.currency, drill=behind("likely", "owner", o.owner_id))
                    if one
                    else BLANK,
                    money(target.gap, made.currency, drill=behind("quota", "owner", o.owner_id))
                    if target
                    else BLANK,
                ),
                facets(made, o.owner_id),
            )
        )
    columns = (
        Column("Owner"),
        Column("Open", "right", wide_only=True),
        Column("Amount", "right"),
        Column("Won, 365 days", "right", wide_only=True),
        Column("Win rate", "right"),
        Column("95% interval", "mark", wide_only=True),
        Column("Cycle", "right", wide_only=True),
        Column("Likely", "right", "Of the period's forecast."),
        Column("Gap", "right", wide_only=True),
    )
    return Table(
        "Everybody", columns, tuple(rows), ("Who has what open, and how often it is won.",), name="owners"
    )


def plans(made: Material, sets: Sets) -> list[Block]:
    target, cur = own_target(made), made.currency
    if made.plans is None or target is None:
        return [Note("Plan A and plan B", ("There is no quota for this period, so no plan to reach it.",))]
    a, b = made.plans.a, made.plans.b
    sets.add("plan-a", "Plan A: what carries the number", [c.id for c in a])
    sets.add("plan-b", "Plan B: what could be pulled in", [c.id for c in b])
    columns = (
        Column("Opportunity"),
        Column("Owner", wide_only=True),
        Column("Amount", "right"),
        Column("In the period", "right"),
        Column("Ever", "right", wide_only=True),
        Column("Running total", "right", wide_only=True),
    )
    said: Sentence
    if made.plans.short > 0:
        said = (
            "With what is won and new business, all open ones together are expected to make ",
            money(target.quota - made.plans.short, cur, drill=drill(set="plan-a")),
            "; ",
            money(made.plans.short, cur, key="plan.short", drill=behind("reach")),
            " of the quota is not covered.",
        )
    else:
        said = (
            "With what is won and new business, these are expected to reach the quota of ",
            money(target.quota, cur, drill=behind("quota")),
            ".",
        )
    return [
        Table(
            "Plan A: what carries the number",
            columns,
            _carriers(made, a[:15], "plan-a"),
            said,
            total=len(a),
            more="opportunities.csv",
            name="plan-a",
        ),
        Table(
            "Plan B: what could be pulled in",
            columns[:-1],
            _carriers(made, b[:15], "plan-b"),
            (
                "These would add most if they came in time"
                + ("." if made.plans.short > 0 else "; plan A does not need them."),
            )
            if b
            else (),
            total=len(b),
            more="opportunities.csv",
            empty="Plan A needs everything that is open; only new business could add to it.",
            name="plan-b",
        ),
    ]


def _carriers(made: Material, carriers: Sequence[Carrier], name: str) -> tuple[Row, ...]:
    rows = {r["id"]: r for r in made.rows}
    found = []
    for c in carriers:
        row = rows.get(c.id, {})
        found.append(
            Row(
                (
                    text(row.get("name") or c.id, drill=opportunity(c.id), sub=row.get("stage") or ""),
                    text(made.name(row.get("owner_id"))),
                    money(c.amount, made.currency, drill=opportunity(c.id)),
                    share(c.win_in_period, key=f"{name}.{c.id}.win_in_period", drill=opportunity(c.id)),
                    share(c.win_probability, key=f"{name}.{c.id}.win_probability", drill=opportunity(c.id)),
                    *(
                        [money(c.running, made.currency, key=f"{name}.{c.id}.running", drill=drill(set=name))]
                        if name == "plan-a"
                        else []
                    ),
                ),
                facets(
                    made,
                    row.get("owner_id"),
                    product=row.get("product"),
                    pipeline=row.get("pipeline"),
                    currency=row.get("currency"),
                ),
            )
        )
    return tuple(found)
