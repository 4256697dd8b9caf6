"""The view models that pages are made of: numbers with their kind, and a dozen blocks. They know nothing of files.

A number stays a number until the browser writes it in the reader's locale; `text` is what stands there until then, and
where no script runs. `drill` names the list behind a number, as the part of an address that `drill` makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pipesync.report.draw import money as short_money

Kind = Literal[
    "money", "amount", "count", "number", "share", "points", "date", "day", "month", "moment", "text", "code"
]
Tone = Literal["", "good", "bad", "quiet", "strong"]


@dataclass(frozen=True)
class Cell:
    """A value as people read it. `key` is what tests and the filters find it by. An `amount` is money to the unit."""

    mark: ClassVar[str] = "cell"
    kind: Kind
    value: Any  # Any: by kind: a float, an ISO date or time, or text
    text: str
    drill: str = ""
    tone: Tone = ""
    sub: str | tuple[str | Cell, ...] = ""
    key: str = ""
    unit: str = ""
    """ISO 4217 for money; else what is counted, such as `days`."""
    parts: tuple[str | Cell, ...] = ()
    """Of a text that holds values: what it is made of."""


Said = str | Cell
Sentence = tuple[Said, ...]
BLANK = Cell("text", "", "–", tone="quiet")


def _number(value: Any) -> float | None:  # Any: Decimal, float, int, None
    if value is None:
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def money(
    value: Decimal | float | None, currency: str | None, **more: Any
) -> Cell:  # Any: other fields of Cell
    found = _number(value)
    if found is None:
        return BLANK
    return Cell("money", round(found, 2), short_money(found, currency), unit=currency or "", **more)


def count(value: float | None, unit: str = "", **more: Any) -> Cell:  # Any: other fields of Cell
    found = _number(value)
    if found is None:
        return BLANK
    return Cell("count", round(found), f"{found:,.0f}{f' {unit}' if unit else ''}", unit=unit, **more)


def number(value: float | None, unit: str = "", **more: Any) -> Cell:  # Any: other fields of Cell
    """Write with one digit after the point."""
    found = _number(value)
    if found is None:
        return BLANK
    return Cell("number", round(found, 4), f"{found:,.1f}{f' {unit}' if unit else ''}", unit=unit, **more)


def share(value: float | None, **more: Any) -> Cell:  # Any: other fields of Cell
    found = _number(value)
    return BLANK if found is None else Cell("share", round(found, 6), f"{found:.0%}", **more)


def points(value: float | None, **more: Any) -> Cell:  # Any: other fields of Cell
    """Write a difference of shares: `+12 points`."""
    found = _number(value)
    if found is None:
        return BLANK
    return Cell("points", round(found, 6), f"{found * 100:+.0f} points", **more)


def day(value: date | None, **more: Any) -> Cell:  # Any: other fields of Cell
    return BLANK if value is None else Cell("date", value.isoformat(), f"{value:%-d %b %Y}", **more)


def short_day(value: date) -> Cell:
    """Write a day without its year, as the axis of a chart has room for."""
    return Cell("day", value.isoformat(), f"{value:%-d %b}")


def month(value: date, **more: Any) -> Cell:  # Any: other fields of Cell
    return Cell("month", value.isoformat(), f"{value:%b %Y}", **more)


def moment(value: datetime | None, **more: Any) -> Cell:  # Any: other fields of Cell
    if value is None:
        return BLANK
    return Cell("moment", value.isoformat(timespec="seconds"), f"{value:%-d %b %Y %H:%M} UTC", **more)


def text(value: str | None, **more: Any) -> Cell:  # Any: other fields of Cell
    return Cell("text", value, value, **more) if value else BLANK


def sentence(parts: Sentence, **more: Any) -> Cell:  # Any: other fields of Cell
    """Write a sentence that is one thing, such as one link."""
    said = "".join(p if isinstance(p, str) else p.text for p in parts)
    return Cell("text", said, said, parts=parts, **more)


def code(value: str) -> Cell:
    return Cell("code", value, value)


def drill(**conditions: str | None) -> str:
    """Return the address of a list: `state=open&stage=Propose`."""
    return "&".join(
        f"{name}={quote(value, safe='')}" for name, value in conditions.items() if value is not None
    )


def span(start: date, end: date) -> str:
    """Return days as a condition of a list takes them; `end` is the day after the last."""
    return f"{start.isoformat()}..{end.isoformat()}"


def opportunity(identity: str) -> str:
    """Return the address of one opportunity."""
    return f"opp={quote(identity, safe='')}"


class Scale:
    """From a value to per cent of a drawing's width, between `low` and the largest of the values."""

    def __init__(self, values: Iterable[Any], low: float = 0.0) -> None:  # Any: numbers or None
        found = [v for v in (_number(v) for v in values) if v is not None]
        self.low = min([low, *found])
        self.high = max([low, *found])

    def at(self, value: Any) -> float:  # Any: a number or None
        span = self.high - self.low
        found = _number(value)
        return 0.0 if found is None or span <= 0 else round(100 * (found - self.low) / span, 2)


# --- Marks inside tables ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A length from zero, in per cent; `label` says it to those who do not see it."""

    mark: ClassVar[str] = "bar"
    width: float
    label: str = ""
    drill: str = ""


@dataclass(frozen=True)
class Range:
    """An interval on a scale, in per cent: the band, the middle, and what is sure or aimed at."""

    mark: ClassVar[str] = "range"
    low: float
    middle: float | None
    high: float
    label: str
    done: float | None = None
    target: float | None = None
    drill: str = ""


Mark = Cell | Bar | Range


# --- Blocks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    label: str
    cell: Cell
    note: Sentence = ()


@dataclass(frozen=True)
class Figures:
    kind: ClassVar[str] = "figures"
    items: tuple[Figure, ...]
    title: str = ""


@dataclass(frozen=True)
class Column:
    label: str
    align: Literal["left", "right", "mark"] = "left"
    hint: str = ""
    wide_only: bool = False
    """Left out on narrow screens, where the row's other cells say what matters."""


@dataclass(frozen=True)
class Row:
    cells: tuple[Mark, ...]
    facets: Mapping[str, str] = field(default_factory=dict)
    """What a filter keeps the row by: owner, team, product, pipeline, currency."""
    drill: str = ""


@dataclass(frozen=True)
class Table:
    """`total` counts all rows where only the top is shown; `more` names the CSV that has them all."""

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    said: Sentence = ()
    total: int = 0
    more: str = ""
    empty: str = "Nothing to show."
    name: str = ""


@dataclass(frozen=True)
class Tabs:
    """Tables of which one is looked at: the same figures by different dimensions."""

    kind: ClassVar[str] = "tabs"
    title: str
    said: Sentence
    tables: tuple[Table, ...]
    empty: str


@dataclass(frozen=True)
class Forecast:
    """Closed, open and new on one scale with the interval and the quota; the hero of a page."""

    kind: ClassVar[str] = "forecast"
    title: str
    said: Sentence
    middle: Cell
    low: Cell
    high: Cell
    parts: tuple[tuple[str, Cell], ...]
    """Name and amount: closed, open, new."""
    mark: Range
    quota: Cell | None = None


@dataclass(frozen=True)
class Fan:
    """Won so far by week, then the interval by week; x and y in per cent, y from the top."""

    kind: ClassVar[str] = "fan"
    title: str
    said: Sentence
    line: tuple[tuple[float, float], ...]
    low: tuple[tuple[float, float], ...]
    middle: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]
    now: float
    quota: float | None
    ticks: tuple[tuple[float, Cell], ...]
    """Of the y axis: position from the top, value."""
    weeks: tuple[tuple[float, Cell], ...]
    """Of the x axis."""
    points: tuple[tuple[float, float, Sentence, str], ...]
    """What can be opened: x, y, what it says, and the list behind it."""
    rows: tuple[tuple[Cell, ...], ...]
    """The same as numbers: week, won so far, P10, P50, P90."""


@dataclass(frozen=True)
class Step:
    """A bar of a waterfall, in per cent."""

    label: str
    cell: Cell
    start: float
    width: float
    tone: Literal["sum", "up", "down"]
    count: Cell | None = None


@dataclass(frozen=True)
class Waterfall:
    kind: ClassVar[str] = "waterfall"
    title: str
    said: Sentence
    steps: tuple[Step, ...]
    missing: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class FunnelStage:
    pipeline: str
    stage: str
    is_told_apart: bool
    """Whether there are other pipelines, so that this one is to be named."""
    count: Cell
    amount: Cell
    width: float
    advance: Cell
    """Share that goes on, with its interval in `sub`."""
    is_bottleneck: bool
    ages: tuple[tuple[str, int, float], ...] = ()
    """Of those that wait: name, number, width in per cent."""


@dataclass(frozen=True)
class Funnel:
    kind: ClassVar[str] = "funnel"
    title: str
    said: Sentence
    stages: tuple[FunnelStage, ...]
    ages: bool = False
    empty: str = "No opportunity is open."


@dataclass(frozen=True)
class Node:
    label: str
    x: float
    y: float
    lines: tuple[str, ...]
    drill: str
    is_bottleneck: bool = False


@dataclass(frozen=True)
class Edge:
    path: str
    width: float
    tone: Literal["on", "back", "out"]
    label: str
    x: float
    y: float
    drill: str = ""


@dataclass(frozen=True)
class ProcessMap:
    """One pipeline as a drawing of `width` x `height` units."""

    kind: ClassVar[str] = "process"
    title: str
    said: Sentence
    width: float
    height: float
    node_width: float
    node_height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Bars:
    """Columns side by side over time: per tick one value of each series, heights in per cent."""

    kind: ClassVar[str] = "bars"
    title: str
    said: Sentence
    series: tuple[str, ...]
    ticks: tuple[tuple[Cell, tuple[tuple[Cell, float], ...]], ...]
    empty: str = "Nothing happened in these weeks."


@dataclass(frozen=True)
class Card:
    title: str
    detail: str
    figures: tuple[Figure, ...]
    points: tuple[tuple[str, Tone, str], ...]
    """Text, tone, drill."""
    facets: Mapping[str, str] = field(default_factory=dict)
    drill: str = ""


@dataclass(frozen=True)
class Cards:
    kind: ClassVar[str] = "cards"
    title: str
    said: Sentence
    cards: tuple[Card, ...]
    empty: str = "Nobody to show."


@dataclass(frozen=True)
class Item:
    """Something to decide or to do, with its reason and what it is worth."""

    title: str
    why: Sentence
    worth: Cell
    drill: str
    action: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)
    detail: Sentence = ()


@dataclass(frozen=True)
class Items:
    kind: ClassVar[str] = "items"
    title: str
    said: Sentence
    items: tuple[Item, ...]
    empty: str
    numbered: bool = False
    total: int = 0
    more: str = ""


@dataclass(frozen=True)
class Note:
    """What is not there yet or cannot be known, and what would change that."""

    kind: ClassVar[str] = "note"
    title: str
    said: Sentence


@dataclass(frozen=True)
class Explorer:
    """The browser's own list of opportunities, with its search and its order."""

    kind: ClassVar[str] = "explorer"
    title: str
    said: Sentence
    total: int
    more: str


Block = (
    Figures
    | Table
    | Tabs
    | Forecast
    | Fan
    | Waterfall
    | Funnel
    | ProcessMap
    | Bars
    | Cards
    | Items
    | Note
    | Explorer
)


@dataclass(frozen=True)
class Page:
    name: str
    """As in the address."""
    title: str
    said: Sentence
    blocks: tuple[Block, ...]


@dataclass
class Sets:
    """Named lists of opportunities that no condition describes: what a bar or a point stands for."""

    lists: dict[str, tuple[str, list[str], int]] = field(default_factory=dict)

    def add(self, name: str, title: str, ids: Sequence[str], total: int = 0) -> str:
        """Keep a list and return its address; empty where there is nothing in it. `total`: of which these are some."""
        if not ids:
            return ""
        kept = list(dict.fromkeys(ids))
        self.lists[name] = (title, kept, max(total, len(kept)))
        return drill(set=name)
