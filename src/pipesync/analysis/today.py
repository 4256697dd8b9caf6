"""A rep's day: which opportunities to work on now, each with its one next action; which to nurture; which to let go.

Ranked by what is at stake (probability to win times amount) times urgency. Urgency is 1 and grows by half for every
sign that waiting costs: the close date is near or past, nothing is planned, the customer waits for an answer, or it
stays longer than usual. An opportunity is let go when it is older than any win of the last four quarters, or one and a
half times as old as nine tenths of the wins ever were, and nothing happened for 30 days. It is nurtured when it is
early, its date is more than a quarter away, and something is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

Place = Literal["work", "nurture", "let_go"]
_COLUMNS = (
    "id", "name", "owner_id", "stage", "phase", "amount", "close_date", "days_to_close", "age_days", "days_in_stage",
    "stage_entered_at", "stage_dwell_p90", "last_activity_at", "days_since_last_activity", "next_activity_at",
    "last_inbound_at", "last_outbound_at", "next_step", "contact_count", "oldest_won_days", "cycle_p90", "won_n",
)  # fmt: skip
_STAGE_RATES = """
SELECT v.stage, v.pipeline, count(DISTINCT v.opportunity_id) FILTER (f.is_won) AS won,
       count(DISTINCT v.opportunity_id) AS decided
FROM stage_visits AS v JOIN features AS f ON f.id = v.opportunity_id WHERE f.is_closed GROUP BY ALL
"""
_PRIOR_WEIGHT = 20.0
"""Decided opportunities of the company that a stage's own rate is mixed with."""


@dataclass(frozen=True)
class Item:
    """`stake` in the home currency; `because` holds facts with dates, not ages, the reason for its place first."""

    opportunity_id: str
    name: str
    owner_id: str | None
    place: Place
    stage: str | None
    amount: float | None
    win_probability: float
    stake: float
    urgency: float
    action: str
    because: tuple[str, ...]

    @property
    def worth(self) -> float:
        return self.stake * self.urgency


@dataclass(frozen=True)
class Today:
    items: tuple[Item, ...]
    """Work first, then nurture, then let go; in each the worthiest first."""
    missing: tuple[str, ...]


def today(
    warehouse: Warehouse,
    features: Features,
    *,
    owner_id: str | None = None,
    win_probability: Mapping[str, float] | None = None,
) -> Today:
    """Sort an owner's open opportunities (or everybody's) into a day's work.

    `win_probability` is the forecast's; without it each stage's share of wins so far stands in, and that is said.
    """
    rates = dict(win_probability or {})
    missing = [] if rates else ["a forecast; each stage's share of wins stands in"]
    watched = ("amount", "close_date", "next_activity_at", "last_activity_at", "stage")
    missing += [name.replace("_", " ") for name in watched if name in features.unknown]
    given = [c for c in _COLUMNS if c not in features.unknown]
    probability = "NULL::DOUBLE"
    if not rates:
        warehouse.execute(f"CREATE OR REPLACE TEMP TABLE stage_rates AS {_STAGE_RATES}")
        prior = "(SELECT (count(*) FILTER (is_won) + 1) / (count(*) FILTER (is_closed) + 2) FROM features)"
        probability = (
            f"(coalesce(s.won, 0) + {_PRIOR_WEIGHT} * {prior}) / (coalesce(s.decided, 0) + {_PRIOR_WEIGHT})"
        )
    joined = "" if rates else (
        "LEFT JOIN stage_rates AS s ON s.stage = f.stage AND s.pipeline IS NOT DISTINCT FROM f.pipeline "
    )  # fmt: skip
    table = warehouse.arrow(
        f"SELECT {', '.join(f'f.{c}' for c in given)}, {probability} AS rate FROM features AS f {joined}"
        "WHERE f.is_open AND (? IS NULL OR f.owner_id = ?) ORDER BY f.id",
        [owner_id, owner_id],
    )
    items = [
        _item({**dict.fromkeys(_COLUMNS), **row}, rates.get(row["id"], row["rate"] or 0.0), features)
        for row in table.to_pylist()
    ]
    order = {"work": 0, "nurture": 1, "let_go": 2}
    items.sort(key=lambda i: (order[i.place], -i.worth, i.opportunity_id))
    return Today(tuple(items), tuple(missing))


Row = Mapping[str, Any]  # Any: columns' values


def _item(row: Row, probability: float, features: Features) -> Item:
    amount = None if row["amount"] is None else float(row["amount"])
    evidence = _zombie(row)
    reasons = _signs(row, features)
    place: Place = "let_go" if evidence else "nurture" if _can_wait(row) else "work"
    action = "Close it as lost, or say what has changed" if evidence else "Keep in touch"
    if place == "work":
        action = reasons[0][0] if reasons else f"Agree what moves it on from {row['stage'] or 'its stage'}"
    because = (*evidence, *(text for _, text in reasons)) or _standing(row)
    stake = probability * (amount or 0.0)
    return Item(
        row["id"], row["name"] or row["id"], row["owner_id"], place, row["stage"], amount, probability, stake,
        1 + 0.5 * len(reasons), action, because,
    )  # fmt: skip


def _zombie(row: Row) -> tuple[str, ...]:
    """Why it should be let go; nothing where it should not, or where too few wins are known to say."""
    age, quiet = row["age_days"], row["days_since_last_activity"]
    if age is None or (row["won_n"] or 0) < 20 or (quiet is not None and quiet <= 30):
        return ()
    oldest, usual = row["oldest_won_days"], row["cycle_p90"]
    last = (
        f"last activity {_day(row['last_activity_at'])}" if row["last_activity_at"] else "no activity known"
    )
    if oldest and age > oldest:
        return (f"older than any win of the last four quarters ({oldest:.0f} days); {last}",)
    if usual and age > 1.5 * usual:
        return (f"nine of ten wins took at most {usual:.0f} days, this one is far beyond; {last}",)
    return ()


def _standing(row: Row) -> tuple[str, ...]:
    """Say where it stands, when nothing presses."""
    found = [f"in {row['stage']} since {_day(row['stage_entered_at'])}"] if row["stage_entered_at"] else []
    return (*found, *([f"is to close on {row['close_date']}"] if row["close_date"] else []))


def _can_wait(row: Row) -> bool:
    return (
        row["phase"] == "early" and (row["days_to_close"] or 0) > 91 and row["next_activity_at"] is not None
    )


def _signs(row: Row, features: Features) -> list[tuple[str, str]]:
    """Return (action, fact) for every sign that it cannot wait, the most pressing first."""
    found = []
    inbound, outbound = row["last_inbound_at"], row["last_outbound_at"]
    if inbound and (outbound is None or inbound > outbound):
        found.append(("Answer the customer", f"the customer's last word is of {_day(inbound)}, not answered"))
    days = row["days_to_close"]
    if days is not None and days < 0:
        found.append(("Agree a new close date, or close it", f"was to close on {row['close_date']}"))
    elif days is not None and days <= 14:
        found.append(("Confirm what is left to sign", f"is to close on {row['close_date']}"))
    if "next_activity_at" not in features.unknown and row["next_activity_at"] is None:
        found.append(("Book the next meeting", "nothing is planned"))
    dwell, usual = row["days_in_stage"], row["stage_dwell_p90"]
    if dwell is not None and usual is not None and dwell > usual:
        text = f"longer in {row['stage']} than nine of ten that went on ({usual:.0f} days)"
        found.append((f"Find out what blocks {row['stage']}", text))
    if "next_step" not in features.unknown and not row["next_step"] and row["phase"] != "early":
        found.append(("Write down the next step", "no next step"))
    return found


def _day(moment: Any) -> date:  # Any: a naive UTC time of the warehouse
    day: date = moment.date()
    return day
