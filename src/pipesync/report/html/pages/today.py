"""Today: what each rep works on first, why, and the one next action."""

from __future__ import annotations

from collections import Counter

from pipesync.analysis.today import Item as Task
from pipesync.report.html.blocks import (
    Block,
    Item,
    Items,
    Page,
    Sets,
    count,
    drill,
    money,
    opportunity,
    share,
)
from pipesync.report.html.pages.shared import facets
from pipesync.report.html.wording import capital, dated
from pipesync.report.material import Material

EACH = 8
"""A day has so much room; the rest is in the CSV."""
_TITLES = {
    "work": ("Work on now", "Nothing is open that needs work."),
    "nurture": ("Nurture", "Nothing is early enough to only keep in touch."),
    "let_go": ("Let go", "Nothing is beyond hope."),
}
_SAID = {
    "work": "Ranked by probability to win, amount and urgency. Choose a person in the filter to see one day.",
    "nurture": "Early, planned, and not due for a quarter: keep in touch.",
    "let_go": "Older than what is ever won, and quiet: close them, or say what has changed.",
}
_SAID_ALONE = "Ranked by probability to win, amount and urgency."


def page(made: Material, sets: Sets) -> Page:
    alone = made.audience.kind == "rep"
    blocks: list[Block] = []
    for place, (title, empty) in _TITLES.items():
        mine = [i for i in made.today.items if i.place == place]
        shown: list[Task] = []
        seen = Counter[str]()
        for i in mine:
            seen[i.owner_id or ""] += 1
            if seen[i.owner_id or ""] <= EACH and len(shown) < 240:
                shown.append(i)
        sets.add(f"today-{place}", title, [i.opportunity_id for i in mine[:500]])
        said = _SAID_ALONE if alone and place == "work" else _SAID[place]
        blocks.append(
            Items(
                title,
                (said,) if mine else (),
                tuple(_item(made, i, alone) for i in shown),
                empty,
                total=len(mine),
                more="today.csv",
            )
        )
    who = f"{made.name(made.audience.person)}'s day" if alone else "Everybody's day"
    return Page(
        "today",
        "Today",
        (
            f"{who}: ",
            count(len(made.today.items), drill=drill(state="open")),
            " open opportunities, the first to take first.",
        ),
        tuple(blocks),
    )


def _item(made: Material, i: Task, alone: bool) -> Item:
    because = capital(dated("; ".join(i.because)))
    owner = "" if alone else f"{made.name(i.owner_id)} · "
    row = {"owner": i.owner_id}
    return Item(
        i.name,
        (*because, ".") if i.because else ("No sign that it waits.",),
        money(i.amount, made.currency),
        opportunity(i.opportunity_id),
        action=i.action,
        facets=facets(made, row["owner"]),
        detail=(
            f"{owner}{i.stage or 'no stage'} · ",
            share(i.win_probability, drill=opportunity(i.opportunity_id)),
            " to be won",
        ),
    )
