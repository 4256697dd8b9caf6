"""Which forecast records are to be written: new periods, and those that moved by more than a tolerance.

A forecast drifts a little with every day and every new model. On an unchanged pipeline it is left alone until it
is a week old, so that a CRM's history shows what moved and not that time passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pipesync.config import Config, ForecastConfig
from pipesync.model import Change, JournalEntry, OwnForecast, PeriodForecast, Reason
from pipesync.plan import keys
from pipesync.plan.calendars import local_date
from pipesync.plan.situation import Situation

_QUANTILES = ("p10", "p50", "p90")
_MONEY = (*_QUANTILES, "mean", "closed", "open", "new")
FIELDS = (*_MONEY, "as_of", "basis")
"""What a rewrite sets; the rest of a record is what its key is about."""


def plan_forecasts(situation: Situation, config: Config) -> list[Change]:
    held = _held(situation)
    changes = []
    for forecast in situation.forecasts:
        if (
            not forecast.scope_id and forecast.scope != "total"
        ):  # what has no owner or product is in the total
            continue
        key = keys.forecast(situation.connection, forecast.scope, forecast.scope_id, forecast.period_start)
        after = _values(forecast, situation, config)
        before = held.get(key)
        if before is None:
            changes.append(_change(key, "create", None, {}, after, forecast, situation))
        elif _moved(before, forecast, situation, config.forecast):
            old = before.model_dump(mode="json", include=set(FIELDS)) | _cents(before)
            changed = {n: after[n] for n in FIELDS if after[n] != old[n]}
            changes.append(
                _change(key, "update", before.id, {n: old[n] for n in changed}, changed, forecast, situation)
            )
    return changes


def _values(forecast: PeriodForecast, situation: Situation, config: Config) -> dict[str, Any]:  # Any: JSON
    moment = {
        "as_of": local_date(situation.as_of, config.zone).isoformat(),
        "basis": situation.facts.basis,
    }
    told = forecast.model_dump(mode="json", exclude={"connection", "model", "low", "high"})
    return told | _cents(forecast) | moment


def _cents(record: PeriodForecast | OwnForecast) -> dict[str, str]:
    """Return the money as every CRM gives it back, so that an undo restores what was there to the letter."""
    return {n: f"{getattr(record, n):.2f}" for n in _MONEY}


def _moved(before: OwnForecast, now: PeriodForecast, situation: Situation, settings: ForecastConfig) -> bool:
    pairs = [(Decimal(getattr(before, n)), Decimal(getattr(now, n))) for n in _QUANTILES]
    if all(
        abs(new - old) <= Decimal(str(settings.tolerance)) * max(abs(old), abs(new)) for old, new in pairs
    ):
        return False
    age = situation.as_of.date() - before.as_of
    return before.basis != situation.facts.basis or age >= max(settings.refresh, timedelta(days=1))


def _held(situation: Situation) -> dict[str, OwnForecast]:
    """Return the CRM's records by key, with what was written since they were read."""
    held = {f.key: f for f in situation.facts.forecasts}
    pulled_at = situation.facts.forecasts_pulled_at
    for entry in situation.journal:
        if entry.object != "forecast" or entry.status != "applied":
            continue
        if pulled_at and entry.settled_at and entry.settled_at <= pulled_at:
            continue
        if entry.action == "delete":
            held.pop(entry.key, None)
        elif entry.key in held:
            held[entry.key] = OwnForecast.model_validate(held[entry.key].model_dump() | entry.after)
        elif entry.action == "create":
            held[entry.key] = _created(entry)
    return held


def holds(row: OwnForecast, values: Mapping[str, Any]) -> bool:  # Any: JSON
    """Whether a record has these values already."""
    return OwnForecast.model_validate(row.model_dump() | dict(values)) == row


def _created(entry: JournalEntry) -> OwnForecast:
    return OwnForecast.model_validate({**entry.after, "id": entry.target or entry.key, "key": entry.key})


def _change(
    key: str,
    action: Any,  # Any: the literal that Change takes
    target: str | None,
    before: dict[str, Any],
    after: dict[str, Any],
    forecast: PeriodForecast,
    situation: Situation,
) -> Change:
    unit = f" {forecast.currency}" if forecast.currency else ""
    text = f"{forecast.p10:,.0f} to {forecast.p90:,.0f}{unit}, likely {forecast.p50:,.0f}"
    if before:
        text += f"; it was {Decimal(before.get('p50', forecast.p50)):,.0f}"
    return Change(
        connection=situation.connection,
        key=key,
        action=action,
        object="forecast",
        target=target,
        owner_id=forecast.scope_id if forecast.scope == "owner" else None,
        before=before,
        after=after,
        reason=Reason(kind="forecast", text=text),
    )
