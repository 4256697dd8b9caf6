"""Hygiene: what the rules found, by rule, by owner and by value, and what became of it."""

from __future__ import annotations

from collections import Counter, defaultdict

from pipesync.model import SEVERITIES
from pipesync.report.html.blocks import (
    BLANK,
    Bar,
    Block,
    Column,
    Figure,
    Figures,
    Mark,
    Note,
    Page,
    Row,
    Scale,
    Sentence,
    Sets,
    Table,
    count,
    drill,
    money,
    number,
    share,
    text,
)
from pipesync.report.html.pages.shared import FINDING_COLUMNS, SEVERITY_WORDS, facets, finding_row
from pipesync.report.material import Material
from pipesync.rules.findings import marks

SHOWN = 60


def page(made: Material, sets: Sets) -> Page:
    blocks: list[Block] = [score(made), by_rule(made), by_owner(made), worst(made)]
    unknown = [r for r in made.rules if r.unknown]
    if unknown:
        blame = sorted({f for r in unknown for f in r.blame})
        blocks.append(
            Note(
                "Not judged",
                (
                    count(len(unknown)),
                    " rules could not judge some opportunities, because these fields cannot be read: ",
                    ", ".join(b.replace("_", " ") for b in blame) or "unknown",
                    ".",
                ),
            )
        )
    return Page("hygiene", "Hygiene", ("What the rules found in the open pipeline.",), tuple(blocks))


def score(made: Material) -> Figures:
    by_severity = Counter(f.severity for f in marks(made.findings))
    items = [
        Figure(
            "Score",
            number(made.score, "of 100", key="score", drill=drill(findings="any")),
            ("ten points an opportunity, weighted by amount",),
        )
    ]
    items += [
        Figure(
            SEVERITY_WORDS[s],
            count(by_severity[s], key=f"severity.{s}", drill=drill(severity=s)),
            ("findings",),
        )
        for s in reversed(SEVERITIES)
        if by_severity[s]
    ]
    return Figures(tuple(items))


def by_rule(made: Material) -> Table:
    """What each rule finds now; where runs are on record, what it came to so far."""
    fired: dict[str, list[float]] = defaultdict(list)
    for f in marks(made.findings):
        fired[f.rule].append(float(f.amount or 0))
    scale = Scale(sum(v) for v in fired.values())
    severity = {r.id: r.severity for r in made.rules}
    names = sorted({*fired, *made.effects}, key=lambda r: (-sum(fired.get(r, ())), r))
    rows = []
    for rule in names:
        known, amounts = made.rule_texts.get(rule), fired.get(rule, [])
        listed = drill(rule=rule) if amounts else ""
        cells: list[Mark] = [
            text(known.title if known else rule, sub=rule, drill=listed, tone="strong"),
            text(SEVERITY_WORDS[severity[rule]]) if rule in severity else text(""),
            count(len(amounts), key=f"rule.{rule}.findings", drill=listed),
            money(sum(amounts), made.currency, drill=listed),
            Bar(scale.at(sum(amounts)), f"{known.title if known else rule}: at stake", listed),
        ]
        rows.append(Row((*cells, *_effect(made, rule)) if made.effects else tuple(cells)))
    columns = [
        Column("Rule"),
        Column("Severity", wide_only=True),
        Column("Now", "right", "Findings that hold."),
        Column("At stake", "right"),
        Column("", "mark", wide_only=True),
    ]
    quiet = len(made.rules) - len(fired)
    said: Sentence = (count(quiet), " rules find nothing now.") if quiet > 0 else ()
    if made.effects:
        columns += [
            Column("Ever", "right", "Times that it opened.", wide_only=True),
            Column("To mend", "right", "Median days from first seen to resolved.", wide_only=True),
            Column(
                "Acted on",
                "right",
                "Of the tasks that people had their chance with, those that were mended.",
                wide_only=True,
            ),
            Column("Then lost", "right", "Of what it fired on and what is decided by now.", wide_only=True),
        ]
        if made.base_rate is not None:
            said += (
                " Of all that is decided, ",
                share(made.base_rate, drill=drill(state="lost", ever="1")),
                " were lost: what a rule has to beat.",
            )
    return Table("By rule", tuple(columns), tuple(rows), said, empty="No rule found anything.", name="rules")


def _effect(made: Material, rule: str) -> tuple[Mark, ...]:
    effect, listed = made.effects.get(rule), drill(rule=rule)
    if effect is None:
        return (BLANK,) * 4
    return (
        count(effect.episodes, key=f"rule.{rule}.episodes", drill=listed),
        number(effect.days_to_mend, "days", drill=listed),
        share(effect.acted_on, key=f"rule.{rule}.acted_on", drill=listed),
        share(effect.foretold, sub=f"of {effect.decided:,}", key=f"rule.{rule}.foretold", drill=listed),
    )


def by_owner(made: Material) -> Table:
    found: dict[str, list[float]] = defaultdict(list)
    for f in marks(made.findings):
        if f.owner_id:
            found[f.owner_id].append(float(f.amount or 0))
    scale = Scale(len(v) for v in found.values())
    rows = tuple(
        Row(
            (
                text(made.name(owner), tone="strong", drill=drill(findings="any", owner=owner)),
                count(len(amounts), key=f"findings.owner.{owner}", drill=drill(findings="any", owner=owner)),
                Bar(
                    scale.at(len(amounts)),
                    f"{made.name(owner)}: findings",
                    drill(findings="any", owner=owner),
                ),
                money(sum(amounts), made.currency, drill=drill(findings="any", owner=owner)),
            ),
            facets(made, owner),
        )
        for owner, amounts in sorted(found.items(), key=lambda p: (-len(p[1]), p[0]))
    )
    columns = (Column("Owner"), Column("Findings", "right"), Column("", "mark"), Column("At stake", "right"))
    return Table(
        "By owner",
        columns,
        rows,
        ("Who has most to mend.",) if rows else (),
        empty="Nobody has anything to mend.",
        name="owners-findings",
    )


def worst(made: Material) -> Table:
    return Table(
        "The worst findings",
        FINDING_COLUMNS,
        tuple(finding_row(made, f) for f in made.findings[:SHOWN]),
        ("The most severe first, then by what is at stake.",) if made.findings else (),
        total=len(made.findings),
        more="findings.csv",
        empty="Nothing was found. The pipeline is in order.",
        name="findings",
    )
