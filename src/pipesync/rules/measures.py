"""Measures: figures over the opportunities of a portfolio rule's subject, in the grammar of conditions.

    measures:
      at_period_end: {calculate: share, field: amount, where: {close_is_period_end: true}, among: {is_open: true}}

`count` counts what `where` says; `sum`, `mean`, `median`, `min` and `max` are of `field`; `share` is what `where` says
of what `among` says, by `field` or, without one, by number. A measure is used like a column of the rule's level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipesync.features.columns import COLUMNS, Column, Kind
from pipesync.rules.conditions import NUMERIC, All, Condition, fields
from pipesync.rules.reader import Reader
from pipesync.yamlsource import nearest

Calculation = Literal["count", "sum", "mean", "median", "min", "max", "share"]


class MeasureText(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    calculate: Calculation
    field: str | None = None
    where: dict[str, Any] = Field(default_factory=dict)  # Any: a condition
    among: dict[str, Any] = Field(default_factory=dict)  # Any: a condition
    help: str = ""


@dataclass(frozen=True)
class Measure:
    name: str
    calculate: Calculation
    field: str | None
    where: Condition
    among: Condition
    help: str

    @property
    def fields(self) -> frozenset[str]:
        """Every feature that it reads."""
        return frozenset(fields(self.where) | fields(self.among) | ({self.field} if self.field else set()))

    @property
    def column(self) -> Column:
        """How the rule's conditions and texts see it."""
        kind: Kind = "number"
        if self.calculate == "count":
            kind = "integer"
        elif self.field and self.calculate != "share":
            kind = COLUMNS[self.field].kind
            kind = "number" if kind == "integer" and self.calculate in ("mean", "median") else kind
        unit = COLUMNS[self.field].unit if self.field and self.calculate != "share" else ""
        return Column(self.name, kind, self.help or self.name, "share" if self.calculate == "share" else unit)


def read_measures(
    texts: Mapping[str, MeasureText], reader: Reader, columns: Mapping[str, Column]
) -> dict[str, Measure]:
    """Type a rule's measures; what is wrong with them is complained of to `reader`, which reads opportunities."""
    found = {}
    for name, text in texts.items():
        at = ("measures", name)
        if name in columns:
            reader.complain(
                at, f"{name!r} is a column of this level already", "choose another name", key=True
            )
        if _has_good_field(text, reader, at):
            where = reader.read(text.where, (*at, "where")) if text.where else All(())
            among = reader.read(text.among, (*at, "among")) if text.among else All(())
            found[name] = Measure(name, text.calculate, text.field, where, among, text.help)
    return found


def _has_good_field(text: MeasureText, reader: Reader, at: tuple[str | int, ...]) -> bool:
    if text.calculate == "share" and not text.where:
        reader.complain(at, "a share needs `where`: the part, of what `among` says", "add `where:`")
        return False
    if text.calculate != "share" and text.among:
        reader.complain((*at, "among"), "only a share is `among` something", "say it in `where`", key=True)
        return False
    if text.field is None:
        if text.calculate in ("count", "share"):
            return True
        reader.complain(at, f"{text.calculate} of which field?", "add `field: amount`")
        return False
    if text.calculate == "count":
        reader.complain((*at, "field"), "count takes no field", "remove it", key=True)
        return False
    numeric = [n for n, c in COLUMNS.items() if c.kind in NUMERIC]
    if text.field not in numeric:
        reader.complain((*at, "field"), f"no number is called {text.field!r}", nearest(text.field, numeric))
        return False
    return True
