"""Hygiene: what the rules found, by rule, by owner and by value, and what became of it."""

from __future__ import annotations

from collections import Counter, defaultdict

from pipesync.model import SEVERITIES
from pipesync.report.html.blocks import (
    Bar,
    Block,
    Column,
    Figure,
    Figures,
    Note,
    Page,
    Row,
    Scale,
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
    by_severity = Counter(f.severity for f in made.findings)
    items = [
        Figure(
            "Score",
            number(made.score, "of 100", key="score"),
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
    fired: dict[str, list[float]] = defaultdict(list)
    for f in made.findings:
        fired[f.rule].append(float(f.amount or 0))
    ends = Counter((s.rule, s.status) for s in made.standing)
    scale = Scale(sum(v) for v in fired.values())
    severity = {r.id: r.severity for r in made.rules}
    rows = []
    for rule, amounts in sorted(fired.items(), key=lambda p: (-sum(p[1]), p[0])):
        known = made.rule_texts.get(rule)
        resolved, opened = ends[rule, "resolved"], ends[rule, "open"]
        rows.append(
            Row(
                (
                    text(known.title if known else rule, sub=rule, drill=drill(rule=rule), tone="strong"),
                    text(SEVERITY_WORDS[severity[rule]]) if rule in severity else text(""),
                    count(len(amounts), key=f"rule.{rule}.findings", drill=drill(rule=rule)),
                    money(sum(amounts), made.currency, drill=drill(rule=rule)),
                    Bar(scale.at(sum(amounts)), "share of the largest"),
                    count(resolved, key=f"rule.{rule}.resolved"),
                    share(resolved / (resolved + opened)) if resolved + opened else text(""),
                )
            )
        )
    columns = (
        Column("Rule"),
        Column("Severity", wide_only=True),
        Column("Findings", "right"),
        Column("At stake", "right"),
        Column("", "mark", wide_only=True),
        Column("Mended", "right", "Findings that were resolved so far."),
        Column("of all", "right", "Mended, of all that were ever open.", wide_only=True),
    )
    quiet = sum(not r.fired for r in made.rules)
    return Table(
        "By rule",
        columns,
        tuple(rows),
        (
            "What each rule found, what is at stake, and how much of what it ever found was mended. ",
            count(quiet),
            " rules found nothing.",
        ),
        empty="No rule found anything.",
        name="rules",
    )


def by_owner(made: Material) -> Table:
    found: dict[str, list[float]] = defaultdict(list)
    for f in made.findings:
        if f.owner_id:
            found[f.owner_id].append(float(f.amount or 0))
    scale = Scale(len(v) for v in found.values())
    rows = tuple(
        Row(
            (
                text(made.name(owner), tone="strong", drill=drill(findings="any", owner=owner)),
                count(len(amounts), key=f"findings.owner.{owner}", drill=drill(findings="any", owner=owner)),
                Bar(scale.at(len(amounts)), "share of the largest"),
                money(sum(amounts), made.currency),
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
