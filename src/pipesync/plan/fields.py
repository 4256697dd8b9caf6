"""Our own fields on open opportunities, where a connection asks for them: coarse, and rewritten only when they moved.

Updating an opportunity runs the customer's flows and validation rules, so a value is rounded until it means something
to a reader, and left alone until it moved by more than a tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from pipesync.config import Config, ForecastConfig
from pipesync.model import OWN_FIELDS, Change, JournalEntry, OpportunityForecast, Reason
from pipesync.plan import keys
from pipesync.plan.situation import Situation

MAX_REASONS = 255
"""Salesforce's limit for a text field; HubSpot allows more."""


def plan_fields(situation: Situation, config: Config) -> list[Change]:
    """Plan win probability, the same within the period, expected close and reasons, those with most at stake first."""
    held = written(situation.journal)
    standing = situation.facts.opportunities
    changes = []
    for forecast in sorted(situation.opportunities, key=lambda o: (-(o.expected_amount or 0), o.id)):
        at = standing.get(forecast.id)
        if at is None or at.is_closed:
            continue
        before = held.get(forecast.id, dict.fromkeys(OWN_FIELDS))
        after = _values(forecast, situation.reasons.get(forecast.id, ""), config.forecast)
        if not moved(before, after, config.forecast):
            continue
        differing = [n for n in OWN_FIELDS if before[n] != after[n]]
        changes.append(
            Change(
                connection=situation.connection,
                key=keys.fields(situation.connection, forecast.id),
                action="update",
                object="opportunity",
                target=forecast.id,
                opportunity_id=forecast.id,
                owner_id=at.owner_id,
                before={n: before[n] for n in differing},
                after={n: after[n] for n in differing},
                reason=Reason(kind="forecast", text=_told(before, after)),
                rests_on={"is_closed": None},
            )
        )
    return changes


def written(journal: Any) -> dict[str, dict[str, Any]]:  # Any: entries, to JSON
    """Return by opportunity what our fields hold, as the journal knows it."""
    found: dict[str, dict[str, Any]] = {}
    entry: JournalEntry
    for entry in journal:
        if entry.object == "opportunity" and entry.status == "applied" and entry.opportunity_id:
            held = found.setdefault(entry.opportunity_id, dict.fromkeys(OWN_FIELDS))
            held |= {n: v for n, v in entry.after.items() if n in OWN_FIELDS}
    return found


def _values(forecast: OpportunityForecast, reasons: str, settings: ForecastConfig) -> dict[str, Any]:
    likely = forecast.expected_close[1] if forecast.expected_close else None
    return {
        "win_probability": _coarse(forecast.win_probability, settings.field_step),
        "win_in_period": _coarse(forecast.win_in_period, settings.field_step),
        "expected_close": _friday(likely).isoformat() if likely else None,
        "reasons": (reasons if len(reasons) <= MAX_REASONS else reasons[: MAX_REASONS - 1].rstrip() + "…")
        or None,
    }


def _coarse(share: float, step: float) -> float:
    return round(round(share / step) * step, 4)


def _friday(day: date) -> date:
    """Return the Friday of a day's week: nobody foresees a weekday."""
    return day + timedelta(days=4 - day.weekday())


def moved(before: Mapping[str, Any], after: Mapping[str, Any], settings: ForecastConfig) -> bool:
    """Whether a probability or the date moved by as much as the tolerance; other reasons alone move nothing."""
    for name in ("win_probability", "win_in_period"):
        old, new = before[name], after[name]
        if old is None or abs(new - old) >= settings.field_tolerance - 1e-9:
            return True
    old, new = before["expected_close"], after["expected_close"]
    if old is None or new is None:
        return bool(old != new)
    days = abs((date.fromisoformat(new) - date.fromisoformat(old)).days)
    return days >= settings.field_days


def _told(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    text = f"{after['win_probability']:.0%} to win, {after['win_in_period']:.0%} in this period"
    if before["win_probability"] is not None:
        text += f"; it was {before['win_probability']:.0%} and {before['win_in_period']:.0%}"
    return text
