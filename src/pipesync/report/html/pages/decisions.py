"""The five things to decide: what the figures ask of a week's meeting, one of each kind, and only what is worth it."""

from __future__ import annotations

from collections.abc import Iterator

from pipesync.forecast.targets import Target
from pipesync.model import Finding, Scope
from pipesync.report.html.blocks import (
    BLANK,
    Item,
    Items,
    Sentence,
    Sets,
    count,
    drill,
    money,
    number,
    opportunity,
    points,
    share,
)
from pipesync.report.html.pages.shared import (
    behind,
    facets,
    facets_of,
    finding_words,
    label_of,
    own_target,
)
from pipesync.report.html.wording import capital, dated
from pipesync.report.material import Material
from pipesync.rules.findings import marks, where

DECISIONS = 5
_CARRIERS = 15
"""Of plan A, those that the team's page shows."""
_LEAST = 0.01
"""Share of the open amount (or of the quota) below which nothing is worth a meeting's time."""
_BEHIND = 0.25
"""Chance to reach the quota below which somebody needs help."""


def decisions(made: Material, sets: Sets) -> Items:
    """The first five in the order of a meeting: the number, who, which ones, the process, the people, the data."""
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
    """One of each kind, so that no kind crowds out the others."""
    yield from _gap(made)
    yield from _help(made)
    yield from _carriers_at_risk(made, sets)
    yield from _bottleneck(made, 0)
    yield from _falling(made)
    yield from _coaching(made, sets)
    yield from _letting_go(made, sets)
    yield from _rules(made)
    yield from _bottleneck(made, 1)


def _matters(made: Material, amount: float) -> bool:
    target = own_target(made)
    whole = sum(r["amount"] or 0 for r in made.rows if r["is_open"])
    return amount >= _LEAST * max(whole, target.quota if target else 0.0)


def _gap(made: Material) -> Iterator[Item]:
    target, cur = own_target(made), made.currency
    if target is None or target.reach >= 0.5 or not _matters(made, _short(target)):
        return
    why: Sentence = (
        "So much is the likely end below the quota, which is reached in ",
        share(target.reach, drill=behind("reach")),
        " of the endings",
    )
    if target.coverage:
        why += ("; coverage is ", number(target.coverage, "×", drill=behind("coverage")))
        if target.coverage_needed:
            why += (" where ", number(target.coverage_needed, "×", drill=behind("coverage")), " is needed")
    why += (". ",)
    if made.plans and made.plans.b:
        why += (
            "Plan B has ",
            count(len(made.plans.b), drill=drill(set="plan-b")),
            " that could be pulled in.",
        )
    else:
        why += ("Everything that is open is needed; only new business could add to it.",)
    yield Item(
        "Close the gap, or change the number",
        why,
        money(_short(target), cur),
        behind("reach"),
    )


def _help(made: Material) -> Iterator[Item]:
    """Whoever lacks most of a quota that is out of reach: a manager's team in a company, else a person."""
    scope: Scope = "manager" if made.audience.kind == "leader" else "owner"
    tops = {u.id for u in made.users.values() if not u.manager_id}
    behind_ = [t for t in made.targets if t.scope == scope and t.reach < _BEHIND and t.scope_id not in tops]
    if made.audience.kind == "rep" or len([t for t in made.targets if t.scope == scope]) < 2:
        return
    worst = max(behind_, key=lambda t: (_short(t), t.scope_id), default=None)
    if worst and _matters(made, _short(worst)):
        name = label_of(made, scope, worst.scope_id)
        yield Item(
            f"Help {name}'s team" if scope == "manager" else f"Help {name}",
            (
                "Likely ends ",
                money(_short(worst), made.currency, drill=behind("likely", scope, worst.scope_id)),
                " below a quota of ",
                money(worst.quota, made.currency, drill=behind("quota", scope, worst.scope_id)),
                ", more than ",
                "any other: move opportunities or people there, or lower what is counted on.",
            ),
            money(_short(worst), made.currency),
            behind("reach", scope, worst.scope_id),
            facets=facets_of(made, scope, worst.scope_id),
        )


def _short(target: Target) -> float:
    return max(target.quota - target.p50, 0.0)


def _carriers_at_risk(made: Material, sets: Sets) -> Iterator[Item]:
    """What carries the number and has a severe finding; together, because a meeting decides on them together."""
    carriers = {c.id for c in (made.plans.a if made.plans else ())[:_CARRIERS]}
    severe: dict[str, Finding] = {}
    for f in where(
        made.findings, lambda one: one.severity in ("critical", "high") and one.opportunity_id in carriers
    ):
        severe.setdefault(f.subject_id, f)
    rows = {r["id"]: r for r in made.rows}
    at_risk = [c for c in (made.plans.a if made.plans else ())[:_CARRIERS] if c.id in severe]
    worth = sum(c.amount * c.win_in_period for c in at_risk)
    if not at_risk or not _matters(made, worth):
        return
    first, *rest = at_risk
    row = rows.get(first.id, {})
    listed = sets.add("at-risk", "They carry the number and have severe findings", [c.id for c in at_risk])
    yield Item(
        f"Secure {row.get('name') or first.id}" + (f" and {len(rest)} more" if rest else ""),
        (
            "They carry " if rest else "It carries ",
            "plan A and ",
            "have severe findings. " if rest else "has a severe finding. ",
            *finding_words(made, severe[first.id]),
        ),
        money(worth, made.currency),
        listed if rest else opportunity(first.id),
        facets=facets(made, row.get("owner_id")) if not rest else {},
    )


def _bottleneck(made: Material, rank: int) -> Iterator[Item]:
    for one in made.bottlenecks.ranked[rank : rank + 1]:
        stage = one.subject.split(" -> ")[0]
        yield Item(
            f"Unblock {one.subject.replace(' -> ', ' → ')}",
            capital((one.why, ".")),
            money(one.amount, one.currency or made.currency),
            drill(state="open", stage=stage, pipeline=one.pipeline),
        )


def _falling(made: Material) -> Iterator[Item]:
    falling = [p for p in made.products.rows if p.trend_is_real and (p.trend or 0) < 0]
    for product in falling[:1]:
        listed = drill(year="1", sold=product.product)
        yield Item(
            f"Ask what happened to {product.product}",
            ("Its win rate moved by ", points(product.trend, drill=listed), " within half a year."),
            money(product.open_amount, made.currency),
            drill(state="open", sold=product.product),
        )


def _coaching(made: Material, sets: Sets) -> Iterator[Item]:
    worst = min(
        ((p.p_value, o.owner_id, p) for o in made.owners for p in o.points if not p.is_good),
        key=lambda t: t[:2],
        default=None,
    )
    if worst:
        _, owner, point = worst
        yield Item(
            f"Coach {made.name(owner)}",
            capital((point.text, ".")),
            BLANK,
            sets.add(
                f"point-{owner}-{point.measure}", f"{made.name(owner)}: {point.text}", point.opportunities
            ),
            facets=facets(made, owner),
        )


def _letting_go(made: Material, sets: Sets) -> Iterator[Item]:
    hopeless = [i for i in made.today.items if i.place == "let_go"]
    amount = sum(i.amount or 0.0 for i in hopeless)
    if hopeless and _matters(made, amount):
        first = hopeless[0]
        yield Item(
            f"Let go of {len(hopeless):,}, or say why not",
            (f"{first.name}: ", *dated(first.because[0]), ".")
            if len(hopeless) == 1
            else ("Older than what is ever won, and quiet for a month; they make the pipeline look larger.",),
            money(amount, made.currency),
            sets.add("let-go", "To let go", [i.opportunity_id for i in hopeless]),
        )


def _rules(made: Material) -> Iterator[Item]:
    by_rule: dict[str, list[float]] = {}
    for f in marks(made.findings):
        if f.opportunity_id:
            by_rule.setdefault(f.rule, []).append(float(f.amount or 0))
    for rule in sorted(by_rule, key=lambda r: (-sum(by_rule[r]), r))[:2]:
        known, amounts = made.rule_texts.get(rule), by_rule[rule]
        yield Item(
            f"Mend: {known.title if known else rule}",
            (count(len(amounts), drill=drill(rule=rule)), f" open. {known.why if known else ''}"),
            money(sum(amounts), made.currency),
            drill(rule=rule),
        )
