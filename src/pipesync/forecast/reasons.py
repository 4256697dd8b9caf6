"""Why an opportunity's probability is what it is, in words that a rep understands.

A reason is the model's own: the probability to win in the period, less what the same model says when that one
property is as usual. It is counted in points of the probability that people see, after calibration, and holds
for every forecaster; a property that does not move the model is never named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipesync.forecast import history, landmarks
from pipesync.forecast.boosting import FittedBoosting
from pipesync.forecast.fitting import Model
from pipesync.forecast.hazard import FittedHazard
from pipesync.forecast.history import DAY, Floats, History, to_moment, to_ms
from pipesync.forecast.landmarks import NUMBERS, Landmarks
from pipesync.forecast.rhythm import SILENT, rhythm_of
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.forecast import Forecast

TRAITS: dict[str, tuple[str, ...]] = {
    "stage": ("stage", "stage_order"),
    "stage_days": ("stage_days",),
    "age": ("age",),
    "idle": ("idle_days",),
    "activity": ("acts_7", "acts_30", "acts_all"),
    "path": ("moves", "back_moves", "skipped"),
    "amount": ("amount", "amount_changes"),
    "close_date": ("due_in", "past_due"),
    "pushes": ("pushes", "push_days"),
    "owner": ("owner_rate", "owner_load"),
    "account": ("account_wins",),
    "kind": ("source_rate", "product_rate", "segment_rate", "type_rate"),
}
"""What is put back to usual together, because a rep would see it as one thing."""
_LEAST_POINTS = 0.005


@dataclass(frozen=True)
class Why:
    trait: str
    points: float
    """Probability to win in the period, less the same with this trait as usual."""
    text: str


def explain(
    model: Model, rows: Landmarks, days: float, *, after: float = 0.0, most: int = 3
) -> list[tuple[tuple[Why, ...], tuple[Why, ...]]]:
    """Return per row the strongest reasons up and down, at most `most` each."""
    points = effects(model, rows, days, after)
    numbers = rows.frame[list(NUMBERS)].to_numpy(float)
    found = []
    for i, row in enumerate(numbers):
        here = dict(zip(NUMBERS, row.tolist(), strict=True))
        ranked = sorted(((float(p[i]), trait) for trait, p in points.items()), key=lambda pair: -abs(pair[0]))
        sides = (
            [(p, t) for p, t in ranked if p >= _LEAST_POINTS],
            [(p, t) for p, t in ranked if p <= -_LEAST_POINTS],
        )
        up, down = (
            tuple(Why(t, round(p, 4), _words(t, model, rows, i, here)) for p, t in side[:most])
            for side in sides
        )
        found.append((up, down))
    return found


def effects(model: Model, rows: Landmarks, days: float, after: float = 0.0) -> dict[str, Floats]:
    """Return per trait the points that it adds to each row's probability to be won within `days` and not before."""
    said = _probability(model, rows, days, after)
    found = {}
    for trait, columns in TRAITS.items():
        if any(c == "stage" or rows.frame[c].notna().any() for c in columns):
            found[trait] = said - _probability(model, as_usual(model, rows, columns), days, after)
    if not rhythm_of(model.fitted).is_silent:
        found["calendar"] = said - _probability(without_rhythm(model), rows, days, after)
    return found


def without_rhythm(model: Model) -> Model:
    """Return the model as if every week were like every other."""
    if isinstance(model.fitted, FittedHazard | FittedBoosting):
        return replace(model, fitted=replace(model.fitted, rhythm=SILENT))
    return model


def as_usual(model: Model, rows: Landmarks, columns: Sequence[str]) -> Landmarks:
    """Return the rows with these columns at their middle value among all landmarks."""
    usual = {c: model.typical.stage if c == "stage" else model.typical.usual.get(c, np.nan) for c in columns}
    return Landmarks(rows.frame.assign(**usual), rows.opportunity, rows.origin)


def _probability(model: Model, rows: Landmarks, days: float, after: float) -> Floats:
    told = model.learned.calibrate(model.fitted.win_by(rows, np.array([after, days])))
    found: Floats = told[:, 1] - (told[:, 0] if after > 0 else 0.0)
    return found


def _words(trait: str, model: Model, rows: Landmarks, i: int, here: Mapping[str, float]) -> str:
    """Say what is so, with dates, and what is so for winners; never a number of the model."""
    stage = str(rows.frame["stage"].iloc[i])
    usual = {**model.typical.usual, **model.typical.winners.get(stage, {})}
    name = stage.rpartition("/")[2]
    match trait:
        case "stage":
            return f"in stage {name}"
        case "stage_days":
            return (
                f"in {name} since {_day(rows, i, here['stage_days'])}, winners are {_days(usual, trait)} in"
            )
        case "age":
            return (
                f"created {_day(rows, i, here['age'])}, winners at this stage are {_days(usual, 'age')} old"
            )
        case "idle":
            return (
                f"last activity {_day(rows, i, here['idle_days'])}, winners wait {_days(usual, 'idle_days')}"
            )
        case "activity":
            winners = usual.get("acts_30", 0.0)
            return f"{here['acts_30']:.0f} activities in 30 days, winners have {winners:.0f}"
        case "path":
            times = {0: "never", 1: "once"}.get(round(here["back_moves"]), f"{here['back_moves']:.0f} times")
            back = f"{times} back a stage"
            return f"{here['moves']:.0f} stage changes, {back}"
        case "amount":
            return f"amount {here['amount']:,.0f}, usual is {model.typical.usual.get('amount', 0.0):,.0f}"
        case "close_date":
            due = to_moment(int(rows.origin[i] + np.nan_to_num(here["due_in"]) * DAY)).date()
            return f"close date {_date(due)}{' has passed' if here['past_due'] else ''}"
        case "pushes":
            return f"close date pushed {here['pushes']:.0f} times, {here['push_days']:.0f} days in all"
        case "owner":
            better = "above" if here["owner_rate"] > 0 else "below"
            return f"the owner wins {better} average, {here['owner_load']:.0f} open"
        case "account":
            return f"the account has bought {here['account_wins']:.0f} times"
        case "calendar":
            return _calendar(rhythm_of(model.fitted).quarter_end(int(rows.origin[i])), int(rows.origin[i]))
    return "the win rate of its source, product, segment and type"


def _calendar(end: int | None, now: int) -> str:
    if end is None:
        return "the time of the fiscal quarter"
    weeks = round((end - now) / DAY / 7)
    left = "this week" if weeks < 1 else "in 1 week" if weeks == 1 else f"in {weeks} weeks"
    return f"the fiscal quarter ends {left}"


def _days(usual: dict[str, float], name: str) -> str:
    days = usual.get(name, float("nan"))
    return "1 day" if round(days) == 1 else f"{days:.0f} days" if np.isfinite(days) else "as long"


def _day(rows: Landmarks, i: int, ago: float) -> str:
    return _date(to_moment(int(rows.origin[i] - np.nan_to_num(ago) * DAY)).date())


def _date(day: object) -> str:
    return f"{day:%-d %b %Y}"


def reasons(
    warehouse: Warehouse, model: Model, forecast: Forecast, ids: Sequence[str]
) -> dict[str, tuple[tuple[Why, ...], tuple[Why, ...]]]:
    """Return by opportunity what speaks for it and what against, of a forecast that this model made."""
    past = history.load(warehouse, forecast.total.connection)
    as_of = to_ms(forecast.as_of)
    begins, ends = (to_ms(at) for at in (forecast.period.starts_at, forecast.period.ends_at))
    wait, left = max((begins - as_of) / DAY, 0.0), max((ends - as_of) / DAY, 0.0)
    return of(model, past, ids, as_of, left, after=wait)


def of(
    model: Model, past: History, ids: Sequence[str], as_of: int, days: float, *, after: float = 0.0
) -> dict[str, tuple[tuple[Why, ...], tuple[Why, ...]]]:
    """Explain the named opportunities that are open as of a moment."""
    rows = landmarks.at(past, [as_of], banned=model.banned)
    wanted = np.isin(past.ids[rows.opportunity], list(ids))
    kept = rows.take(wanted)
    told = explain(model, kept, days, after=after)
    return {str(past.ids[o]): why for o, why in zip(kept.opportunity, told, strict=True)}
