"""The ten pages: each a pure function from what was gathered to a view model."""

from __future__ import annotations

from pipesync.report.html.blocks import Page, Sets
from pipesync.report.html.pages import (
    forecast,
    hygiene,
    market,
    opportunities,
    overview,
    pipeline,
    runs,
    team,
    today,
)
from pipesync.report.material import Material


def pages(made: Material, sets: Sets) -> tuple[Page, ...]:
    """Return the pages in the order of the menu; `sets` collects the lists that they point at."""
    return (
        overview.page(made, sets),
        forecast.page(made, sets),
        pipeline.page(made, sets),
        team.page(made, sets),
        today.page(made, sets),
        market.products(made),
        market.sources(made),
        hygiene.page(made, sets),
        opportunities.page(made),
        runs.page(made, sets),
    )
