"""The shapes that terminal views are made of."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console

from pipesync.report.draw import bar, grid, interval, money, percent


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "–"),
        (Decimal(0), "0"),
        (Decimal("949.60"), "950"),
        (Decimal(9_900), "9,900"),
        (Decimal(47_900), "48k"),
        (Decimal(999_600), "1.00M"),
        (Decimal(1_250_000), "1.25M"),
        (Decimal(-1_250_000), "-1.25M"),
        (Decimal(2_500_000_000), "2.50B"),
    ],
)
def test_money_is_said_as_people_say_it(amount: Decimal | None, said: str) -> None:
    """Three figures are enough for a decision; the unit follows the size."""
    assert money(amount) == said


def test_a_bar_is_as_long_as_its_share() -> None:
    """The largest fills the width, a half half of it, and the smallest is still seen."""
    assert [bar(v, 8, 4) for v in (8, 4, 0.001, 0)] == ["████", "██", "▏", ""]


def test_an_interval_shows_what_is_won_the_band_and_the_median() -> None:
    """From zero to P90: won is solid, P10 to P90 shaded, the median a mark."""
    drawn = interval(closed=2, low=4, p50=6, high=10, width=11).plain

    assert drawn == "███·▒▒┃▒▒▒▒"


def test_a_median_below_what_is_won_is_still_drawn() -> None:
    """Where the period is nearly over all marks fall together, and nothing breaks."""
    assert interval(closed=10, low=10, p50=10, high=10, width=5).plain == "████┃"


def test_columns_line_up() -> None:
    """Numbers end in one column, whatever their length."""
    console = Console(width=40, record=True, file=io.StringIO())

    console.print(grid(["stage", ">days"], [["Qualify", "9.0"], ["Propose", "123.0"]]))

    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines == ["stage     days", "Qualify    9.0", "Propose  123.0"]


def test_a_share_that_nobody_knows_is_a_dash() -> None:
    """A missing share is not zero."""
    assert (percent(None), percent(float("nan")), percent(0.255)) == ("–", "–", "26%")
