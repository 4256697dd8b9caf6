"""Landmarks as the numbers that a linear model sees, fitted once and then applied without looking at anything else.

Durations and counts enter as logarithms with two hinges, so that "long" can mean something other than "twice as
short"; what is blank becomes the average and says so in a column of its own. Everything is centred and scaled
by the training rows, so that one penalty suits all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipesync.forecast.history import Floats
from pipesync.forecast.landmarks import NUMBERS, Landmarks

_HINGED = ("age", "stage_days", "idle_days", "acts_30", "due_in")
_AS_THEY_ARE = ("past_due", "stage_order", *(n for n in NUMBERS if n.endswith("_rate")))
_RARE = 5
"""Rows with fewer of a stage than this teach nothing about it."""
_FLAT = 1e-9
_DETAIL = 0.5
"""Hinges, blanks and effects within a stage enter at half scale: held four times as strongly as main effects."""


@dataclass(frozen=True)
class Column:
    """One column of the design: `part` is `value`, `hinge`, `blank`, `stage`, or `stage_age` / `stage_days`."""

    name: str
    part: str
    at: float = 0.0
    """The hinge, on the logarithmic scale."""
    fill: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    """What training rows reached; beyond it nothing was learnt, so values are held there."""


@dataclass(frozen=True)
class Design:
    columns: tuple[Column, ...]

    def matrix(self, rows: Landmarks) -> Floats:
        """Return rows x columns."""
        raw = [_raw(rows, column) for column in self.columns]
        held = [
            (np.clip(values, c.low, c.high) - c.centre) / c.scale
            for values, c in zip(raw, self.columns, strict=True)
        ]
        return np.column_stack(held) if held else np.zeros((len(rows), 0))


def design(rows: Landmarks, weight: Floats) -> Design:
    """Choose and scale the columns that vary in these rows."""
    columns: list[Column] = []
    for name in NUMBERS:
        values = _transformed(rows, name)
        known = np.isfinite(values)
        if not known.any() or np.ptp(values[known]) < _FLAT:
            continue
        fill = float(np.average(values[known], weights=weight[known]))
        filled = np.where(known, values, fill)
        columns.append(Column(name, "value", fill=fill))
        if name in _HINGED:
            knots = np.unique(np.quantile(filled, (0.25, 0.5, 0.75)))
            inner = [k for k in knots if filled.min() + _FLAT < k < filled.max() - _FLAT]
            columns += [Column(name, "hinge", at=float(k), fill=fill) for k in inner]
        if 0.01 < np.mean(~known) < 0.99:
            columns.append(Column(name, "blank"))
    stages = rows.frame["stage"].value_counts()
    named = [str(stage) for stage, count in stages.items() if count >= _RARE]
    if len(named) > 1:
        for stage in sorted(named):
            columns += [Column(stage, part) for part in ("stage", "stage_days", "stage_age")]
    return Design(tuple(_scaled(column, _raw(rows, column), weight) for column in columns))


def _scaled(column: Column, values: Floats, weight: Floats) -> Column:
    centre = float(np.average(values, weights=weight))
    scale = float(np.sqrt(np.average((values - centre) ** 2, weights=weight)))
    detail = 1.0 if column.part in ("value", "stage") else _DETAIL
    return replace(
        column,
        centre=centre,
        scale=max(scale, 0.05) / detail,
        low=float(values.min()),
        high=float(values.max()),
    )


def _raw(rows: Landmarks, column: Column) -> Floats:
    if column.part in ("stage", "stage_days", "stage_age"):
        here: Floats = (rows.frame["stage"] == column.name).to_numpy().astype(np.float64)
        if column.part == "stage":
            return here
        return here * _transformed(rows, "age" if column.part == "stage_age" else "stage_days")
    values = _transformed(rows, column.name)
    if column.part == "blank":
        return np.isnan(values).astype(float)
    values = np.where(np.isfinite(values), values, column.fill)
    return _floor(values - column.at) if column.part == "hinge" else values


def _transformed(rows: Landmarks, name: str) -> Floats:
    values: Floats = rows.frame[name].to_numpy(float)
    if name in _AS_THEY_ARE:
        return values
    found: Floats = np.sign(values) * np.log1p(np.abs(values))
    return found


def _floor(values: Floats) -> Floats:
    found: Floats = np.maximum(values, 0.0)
    return found
