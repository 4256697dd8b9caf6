"""The small shapes that terminal views are made of: money, bars, an interval on its scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def money(amount: Decimal | float | None, currency: str | None = None) -> str:
    """Write an amount as people say it: `1.25M EUR`, `48k EUR`, `950 EUR`."""
    if amount is None:
        return "–"
    value = float(amount)
    size = abs(value)
    if size >= 999_500_000:
        said = f"{value / 1e9:,.2f}B"
    elif size >= 999_500:
        said = f"{value / 1e6:,.2f}M"
    elif size >= 9_950:
        said = f"{value / 1e3:,.0f}k"
    else:
        said = f"{value:,.0f}"
    return f"{said} {currency}" if currency else said


def number(value: Any, digits: int = 0) -> str:  # Any: whatever a frame holds, NaN and None among it
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{float(value):,.{digits}f}"


def percent(value: Any) -> str:  # Any: as above
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{float(value):.0%}"


def bar(value: float, largest: float, width: int) -> str:
    """Draw `value` on a scale that ends at `largest`, to an eighth of a character."""
    if not (largest > 0 and value > 0):
        return ""
    eighths = max(1, round(min(1.0, value / largest) * width * 8))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def interval(closed: float, low: float, p50: float, high: float, width: int) -> Text:
    """Draw what is closed, the band from low to high and the median on one scale from zero."""
    largest = max(closed, high, 1.0)

    def at(value: float) -> int:
        return min(width - 1, max(0, round(value / largest * (width - 1))))

    cells = [("·", "dim")] * width
    for i in range(at(low), at(high) + 1):
        cells[i] = ("▒", "cyan")
    if closed > 0:
        for i in range(at(closed) + 1):
            cells[i] = ("█", "green")
    cells[at(p50)] = ("┃", "bold yellow")
    drawn = Text()
    for character, style in cells:
        drawn.append(character, style)
    return drawn


Row = Sequence[str | Text]


def grid(columns: Sequence[str], rows: Sequence[Row], *, title: str = "") -> Table:
    """Lay rows out under headers; a header that starts with `>` is aligned to the right."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )  # fmt: skip
    for name in columns:
        right = name.startswith(">")
        table.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="ellipsis",
            header_style="dim",
        )
    for row in rows:
        table.add_row(*row)
    return table
