"""Opportunities: every one of them, to search, sort and open."""

from __future__ import annotations

from pipesync.report.html.blocks import Explorer, Page, count, drill
from pipesync.report.material import Material


def page(made: Material) -> Page:
    opened = sum(bool(r["is_open"]) for r in made.rows)
    return Page(
        "opportunities",
        "Opportunities",
        (
            count(opened, key="all.open", drill=drill(state="open")),
            " are open, ",
            count(len(made.rows) - opened, key="all.closed", drill=drill(closed="..")),
            " were closed within a year.",
        ),
        (
            Explorer(
                "All opportunities",
                ("Search by name, account or owner; a row opens its history, findings and forecast.",),
                len(made.rows),
                "opportunities.csv",
            ),
        ),
    )
