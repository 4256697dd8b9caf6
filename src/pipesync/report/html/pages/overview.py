"""Overview: where the period ends, what changed since last week, and the five things to decide."""

from __future__ import annotations

from collections.abc import Iterator

from pipesync.analysis.waterfall import Waterfall
from pipesync.report.html.blocks import (
    BLANK,
    Column,
    Figure,
    Figures,
    Forecast,
    Item,
    Items,
    Note,
    Page,
    Range,
    Row,
    Scale,
    Sentence,
    Sets,
    Table,
    count,
    drill,
    money,
    number,
    opportunity,
    share,
    text,
)
from pipesync.report.html.pages.shared import behind, facets, last_day, own_target
from pipesync.report.material import Material

DECISIONS = 5
MOVES = (
    ("new", "New", "created"),
    ("reopened", "Reopened", "open again"),
    ("moved_in", "Moved in", "came from others"),
    ("increased", "Increased", "amount raised"),
    ("decreased", "Decreased", "amount lowered"),
    ("moved_out", "Moved out", "went to others"),
    ("lost", "Lost", "closed as lost"),
    ("won", "Won", "closed as won"),
)
"""Kinds of steps of everything that is open, with their title and what happened."""
ADDS = {"new", "reopened", "moved_in", "pulled_in", "increased"}
CAME_IN = {"new", "reopened", "moved_in", "pulled_in"}
WENT_OUT = {"lost", "won", "moved_out", "pushed_out"}


def page(made: Material, sets: Sets) -> Page:
    blocks = (hero(made), figures(made), decisions(made, sets), changes(made, sets))
    return Page(
        "overview",
        "Overview",
        ("Where this period ends, what changed, and what to decide.",),
        blocks,
    )


def hero(made: Material) -> Forecast | Note:
    total, target, cur = made.total, own_target(made), made.currency
    if total is None:
        return Note(
            "Forecast",
            ("Nothing of these people was open or won in this period, so there is nothing to foretell.",),
        )
    quota = target.quota if target else None
    scale = Scale([total.p90, total.closed, quota])
    spread = behind("spread")
    said: Sentence = (
        "With 80% confidence, between ",
        money(total.p10, cur, drill=spread),
        " and ",
        money(total.p90, cur, drill=spread),
        " will have been won by ",
        last_day(made),
        ".",
    )
    if target:
        said += (
            " The quota of ",
            money(target.quota, cur, drill=behind("quota")),
            " is reached with a probability of ",
            share(target.reach, drill=behind("reach")),
            ".",
        )
    return Forecast(
        "Forecast",
        said,
        middle=money(total.p50, cur, key="forecast.total.p50", drill=behind("likely")),
        low=money(total.p10, cur, key="forecast.total.p10", drill=spread),
        high=money(total.p90, cur, key="forecast.total.p90", drill=spread),
        parts=(
            (
                "Won so far",
                money(
                    total.closed, cur, key="forecast.total.closed", drill=drill(state="won", closed="period")
                ),
            ),
            (
                "From open",
                money(total.open, cur, key="forecast.total.open", drill=drill(state="open")),
            ),
            (
                "Still to be created",
                money(total.new, cur, key="forecast.total.new", drill=behind("new")),
            ),
        ),
        mark=Range(
            low=scale.at(total.p10),
            middle=scale.at(total.p50),
            high=scale.at(total.p90),
            done=scale.at(total.closed),
            target=scale.at(quota) if quota else None,
            label="",
        ),
        quota=money(quota, cur, key="quota.total", drill=behind("quota")) if quota else None,
    )


def figures(made: Material) -> Figures:
    cur, target = made.currency, own_target(made)
    found = []
    if target:
        found += [
            Figure(
                "Gap to quota",
                money(target.gap, cur, key="gap.total", drill=behind("quota")),
                ("quota less what is won",),
            ),
            Figure(
                "Chance to reach it",
                share(target.reach, key="reach.total", drill=behind("reach")),
                ("of 2,000 simulated endings",),
            ),
            Figure(
                "Coverage",
                number(target.coverage, "×", key="coverage.total", drill=behind("coverage"))
                if target.coverage
                else BLANK,
                (
                    number(target.coverage_needed, "×", key="coverage.needed", drill=behind("coverage")),
                    " is needed at this point",
                )
                if target.coverage_needed
                else ("what is dated in the period, over the gap",),
            ),
        ]
    opened = [r for r in made.rows if r["is_open"]]
    worst = len({f.subject_id for f in made.findings if f.level == "opportunity"})
    found += [
        Figure(
            "Hygiene",
            number(made.score, key="score", unit="of 100", drill=drill(findings="any")),
            (
                count(worst, drill=drill(findings="any")),
                " of ",
                count(len(opened), drill=drill(state="open")),
                " open ones have findings",
            ),
        ),
        Figure(
            "Open pipeline",
            money(sum(r["amount"] or 0 for r in opened), cur, key="open.amount", drill=drill(state="open")),
            (count(len(opened), key="open.count", drill=drill(state="open")), " opportunities"),
        ),
    ]
    return Figures(tuple(found))


def changes(made: Material, sets: Sets) -> Table:
    """What came and went in the last seven days."""
    cur, totals = made.currency, made.week.totals()
    by_kind: dict[str, list[str]] = {}
    for step in made.week.steps:
        by_kind.setdefault(step.kind, []).append(step.opportunity_id)
    rows = []
    for kind, title, _ in MOVES:
        ids = by_kind.get(kind, [])
        if ids:
            listed = sets.add(f"week-{kind}", f"{title} in the last seven days", ids)
            amount = totals[kind] if kind in ADDS else -totals[kind]  # type: ignore[index]  # the kinds are its own
            rows.append(
                Row(
                    (
                        text(title),
                        count(len(ids), drill=listed),
                        money(amount, cur, drill=listed, key=f"week.{kind}"),
                    ),
                    drill=listed,
                )
            )
    before = _a_week_before(made)
    said: Sentence = (
        "The open pipeline went from ",
        money(made.week.start, cur, drill=stood(made, made.week, sets, "week-start", "Open a week ago")),
        " to ",
        money(made.week.end, cur, drill=drill(state="open")),
        " in seven days.",
    )
    if made.total and before:
        said += (
            " The likely end of the period moved from ",
            money(before, cur),
            " to ",
            money(made.total.p50, cur, drill=behind("likely")),
            ".",
        )
    return Table(
        "Since last week",
        (Column("What happened"), Column("Opportunities", "right"), Column("Into it, or out", "right")),
        tuple(rows),
        said,
        empty="Nothing was created, changed or closed in the last seven days.",
        name="week",
    )


def stood(made: Material, way: Waterfall, sets: Sets, name: str, title: str) -> str:
    """Keep the list of what was open when a waterfall began: what is open now, less what came, and what went."""
    came = {s.opportunity_id for s in way.steps if s.kind in CAME_IN}
    went = {s.opportunity_id for s in way.steps if s.kind in WENT_OUT}
    ids = [r["id"] for r in made.rows if r["id"] not in came and (r["is_open"] or r["id"] in went)]
    return sets.add(name, title, ids)


def _a_week_before(made: Material) -> float | None:
    """The likely total of the last forecast that was issued at least six days ago."""
    old = [one for as_of, one in made.issued if (made.as_of - as_of).days >= 6]
    return float(old[-1].p50) if old else None


def decisions(made: Material, sets: Sets) -> Items:
    found = []
    for item in _candidates(made, sets):
        found.append(item)
        if len(found) == DECISIONS:
            break
    return Items(
        f"{_words(len(found))} to decide" if found else "To decide",
        ("What the figures ask of this week's meeting, the most pressing first.",) if found else (),
        tuple(found),
        empty="Nothing stands out: no gap, no bottleneck, no carrier at risk. A short meeting.",
        numbered=True,
    )


def _words(n: int) -> str:
    return {1: "One thing", 2: "Two things", 3: "Three things", 4: "Four things", 5: "Five things"}[n]


def _candidates(made: Material, sets: Sets) -> Iterator[Item]:
    """One of each kind, so that no kind crowds out the others; the order is that of a meeting."""
    cur, target = made.currency, own_target(made)
    if target and target.gap > 0 and target.reach < 0.5:
        needed = f" where {target.coverage_needed:.1f}× is needed" if target.coverage_needed else ""
        cover = f"; coverage is {target.coverage:.1f}×{needed}" if target.coverage else ""
        yield Item(
            "Close the gap, or change the number",
            f"The quota is reached in {target.reach:.0%} of the endings{cover}. {_where_to(made)}",
            money(target.gap, cur),
            _gap_list(made),
        )
    rows = {r["id"]: r for r in made.rows}
    severe = {
        f.subject_id: f
        for f in reversed(made.findings)
        if f.severity in ("critical", "high") and f.opportunity_id
    }
    carriers = made.plans.a if made.plans else ()
    for at_risk in [c for c in carriers if c.id in severe][:1]:
        row = rows.get(at_risk.id, {})
        yield Item(
            f"Secure {row.get('name') or at_risk.id}",
            f"It carries plan A. {severe[at_risk.id].message}",
            money(row.get("amount"), cur),
            opportunity(at_risk.id),
            facets=facets(made, row.get("owner_id")),
        )
    yield from _bottleneck(made, 0)
    zombies = [i for i in made.today.items if i.place == "let_go"]
    if zombies:
        yield Item(
            f"Let go of {len(zombies):,}, or say why not",
            f"{zombies[0].name}: {zombies[0].because[0]}."
            if len(zombies) == 1
            else "Older than what is ever won, and quiet for a month.",
            money(sum(i.amount or 0 for i in zombies), cur),
            sets.add("let-go", "To let go", [i.opportunity_id for i in zombies]),
        )
    worst = sorted(
        ((p.p_value, o.owner_id, p) for o in made.owners for p in o.points if not p.is_good),
        key=lambda t: t[:2],
    )
    if worst:
        _, owner, point = worst[0]
        yield Item(
            f"Coach {made.name(owner)}",
            f"{point.text[:1].upper()}{point.text[1:]}.",
            BLANK,
            sets.add(
                f"point-{owner}-{point.measure}", f"{made.name(owner)}: {point.text}", point.opportunities
            ),
            facets=facets(made, owner),
        )
    falling = [p for p in made.products.rows if p.trend_is_real and (p.trend or 0) < 0]
    for product in falling[:1]:
        yield Item(
            f"Ask what happened to {product.product}",
            f"Its win rate fell by {-(product.trend or 0) * 100:.0f} points within half a year.",
            money(product.open_amount, cur),
            drill(state="open", product=product.product),
        )
    yield from _worst_rules(made)
    yield from _bottleneck(made, 1)


def _where_to(made: Material) -> str:
    if made.plans and made.plans.b:
        return "Plan B has what could be pulled in."
    return "Everything that is open is needed; only new business could add to it."


def _gap_list(made: Material) -> str:
    return drill(set="plan-b" if made.plans and made.plans.b else "plan-a")


def _worst_rules(made: Material) -> Iterator[Item]:
    by_rule: dict[str, float] = {}
    for f in made.findings:
        if f.opportunity_id:
            by_rule[f.rule] = by_rule.get(f.rule, 0.0) + float(f.amount or 0)
    for rule in sorted(by_rule, key=lambda r: (-by_rule[r], r))[:2]:
        known = made.rule_texts.get(rule)
        yield Item(
            f"Mend: {known.title if known else rule}",
            known.why if known else "",
            money(by_rule[rule], made.currency),
            drill(rule=rule),
        )


def _bottleneck(made: Material, rank: int) -> Iterator[Item]:
    for one in made.bottlenecks.ranked[rank : rank + 1]:
        stage = one.subject.split(" -> ")[0]
        yield Item(
            f"Unblock {one.subject.replace(' -> ', ' → ')}",
            f"{one.why[:1].upper()}{one.why[1:]}.",
            money(one.amount, one.currency or made.currency),
            drill(state="open", stage=stage, pipeline=one.pipeline),
        )
