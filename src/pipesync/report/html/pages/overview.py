"""Overview: where the period ends, what changed since last week, and the five things to decide."""

from __future__ import annotations

from pipesync.analysis.waterfall import Waterfall
from pipesync.report.html.blocks import (
    BLANK,
    Column,
    Figure,
    Figures,
    Forecast,
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
    share,
    text,
)
from pipesync.report.html.pages.decisions import decisions
from pipesync.report.html.pages.shared import behind, last_day, own_target
from pipesync.report.material import Material
from pipesync.rules.findings import marks

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
    low, high = total.interval
    said: Sentence = (
        "With 80% confidence, between ",
        money(low, cur, drill=spread),
        " and ",
        money(high, cur, drill=spread),
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
        low=money(low, cur, key="forecast.total.low", drill=spread),
        high=money(high, cur, key="forecast.total.high", drill=spread),
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
            low=scale.at(low),
            middle=scale.at(total.p50),
            high=scale.at(high),
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
    worst = len({f.subject_id for f in marks(made.findings) if f.level == "opportunity"})
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
