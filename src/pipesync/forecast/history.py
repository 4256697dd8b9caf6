"""What a connection's opportunities went through, as sorted arrays that can be asked about any moment.

A backtest asks the same questions at many moments, so the mirror is read once, here, and every question is a
binary search in it. Times are whole milliseconds since 2000-01-01 UTC (`Ms`): an event's time is rounded up and
a moment down, so an event that a moment cannot know is never counted in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipesync.config import Calendar
from pipesync.store.warehouse import Warehouse

Ms = int
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAY: Ms = 86_400_000
NEVER: Ms = 2**42
"""Later than any time that is kept: what an open opportunity has for `closed`."""
_START = datetime(2000, 1, 1, tzinfo=UTC)
_START_DAY = date(2000, 1, 1)

TRACKED = ("stage", "amount", "close_date", "owner_id", "forecast_category", "probability", "next_step")
"""Fields whose past values are asked for."""
STATIC = ("pipeline", "type", "source", "product", "segment", "account_id", "currency")
"""Fields that are read as they are now, unless the leakage check bans them."""


def to_ms(moment: datetime) -> Ms:
    """Round down: nothing after the moment counts as known."""
    return int((moment - _START) / timedelta(milliseconds=1) // 1)


def to_moment(ms: Ms) -> datetime:
    return _START + timedelta(milliseconds=int(ms))


def day_ms(day: date) -> Ms:
    return (day - _START_DAY).days * DAY


@dataclass(frozen=True)
class Events:
    """Times (and values) of one kind of event, by opportunity and then time."""

    keys: Ints
    opportunity: Ints
    at: Ints
    value: npt.NDArray[np.object_]

    @classmethod
    def of(cls, opportunity: Ints, at: Ints, value: npt.NDArray[np.object_]) -> Events:
        order = np.argsort(_key(opportunity, at), kind="stable")
        opportunity, at = opportunity[order], at[order]
        return cls(_key(opportunity, at), opportunity, at, value[order])

    def count(self, opportunity: Ints, until: Ints) -> Ints:
        """Return how many events each opportunity had up to each moment."""
        return self.position(opportunity, until) - np.searchsorted(self.keys, _key(opportunity, 0 * until))

    def position(self, opportunity: Ints, until: Ints) -> Ints:
        """Return the index after the last event known at each moment."""
        return np.searchsorted(self.keys, _key(opportunity, until), side="right").astype(np.int64)

    def last(self, opportunity: Ints, until: Ints) -> Ints:
        """Return the index of the last event known at each moment, -1 where there is none."""
        if not len(self.keys):
            return np.full(len(opportunity), -1, dtype=np.int64)
        found = self.position(opportunity, until) - 1
        return np.where((found >= 0) & (self.opportunity[found] == opportunity), found, -1)


def _key(opportunity: Ints, at: Ints) -> Ints:
    return opportunity * NEVER + np.clip(at, 0, NEVER - 1)


@dataclass(frozen=True)
class StageFacts:
    order: int
    phase: str
    probability: float | None


@dataclass(frozen=True)
class History:
    """One connection. Arrays run along `ids`; money is in the home currency."""

    connection: str
    ids: npt.NDArray[np.object_]
    created: Ints
    """NEVER where the CRM does not say."""
    closed: Ints
    won: Bools
    amount: Floats
    """As it is now; NaN where blank."""
    now: dict[str, npt.NDArray[np.object_]]
    """Current values of the tracked and static fields, None where blank."""
    events: dict[str, Events]
    """Changes of tracked fields that have a history."""
    activities: Events
    stages: dict[tuple[str | None, str], StageFacts]
    unknown: frozenset[str]
    """Columns of opportunities that cannot be read."""
    tracked_since: Ms
    """Before this moment the stage history knows nothing."""
    currency: str | None = None
    calendar: Calendar = field(default_factory=Calendar)
    """The company's: where its fiscal periods end."""

    def __len__(self) -> int:
        return len(self.ids)

    def is_open(self, at: Ms) -> Bools:
        return (self.created <= at) & (self.closed > at)


def load(warehouse: Warehouse, connection: str, calendar: Calendar | None = None) -> History:
    """Read a connection's mirror once; memory is about 1 kB per opportunity and 60 bytes per event."""
    frame = warehouse.frame(
        "SELECT * EXCLUDE (connection, name, next_step, custom) FROM opportunities WHERE connection = ? ORDER BY id",
        [connection],
    )
    home = warehouse.rows("SELECT currency FROM connections WHERE connection = ?", [connection])
    currency = home[0][0] if home else None
    states = {(c.stream, c.column): c for c in warehouse.columns(connection)}
    unknown = frozenset(
        c.column for c in states.values() if c.stream == "opportunities" and c.state != "known"
    )
    created, closed = column_ms(frame["created_at"]), column_ms(frame["closed_at"])
    # A closing that the CRM does not date is taken as of the close date, which holds the actual day by then; one
    # without that either teaches nothing, and stands as closed from the beginning.
    close_day = column_ms(pd.to_datetime(frame["close_date"]))
    is_closed = frame["is_closed"].fillna(False).to_numpy(bool)
    closed = np.where(closed == NEVER, close_day, closed)
    closed = np.where(is_closed, np.where(closed == NEVER, created, closed), NEVER)
    rate = rates_of(warehouse, connection)
    factor = (
        frame["currency"].map(lambda code: rate.get(code, 1.0)).to_numpy(float)
        if rate
        else np.ones(len(frame))
    )
    amount = pd.to_numeric(frame["amount"]).to_numpy(float) * factor
    now = {name: _objects(frame[name]) for name in (*STATIC, *TRACKED) if name in frame}
    now["amount"] = _objects(pd.Series(amount))
    position = pd.Series(np.arange(len(frame), dtype=np.int64), index=frame["id"])
    events, since = {}, -NEVER
    changes = warehouse.frame(
        "SELECT opportunity_id, field, value, changed_at FROM field_changes "
        "WHERE connection = ? AND field IN (SELECT unnest(?)) ORDER BY changed_at, seq",
        [connection, list(TRACKED)],
    )
    stages = {
        (p, n): StageFacts(o, phase, chance)
        for p, n, o, phase, chance in warehouse.rows(
            'SELECT pipeline, name, "order", phase, probability FROM stages WHERE connection = ?',
            [connection],
        )
    }
    # That an opportunity was won is told by its closing; a stage event a second before it would give it away.
    endings = {name for (_, name), facts in stages.items() if facts.phase in ("won", "lost")}
    changes = changes[~((changes["field"] == "stage") & changes["value"].isin(endings))]
    for name, part in changes.groupby("field", sort=True):
        if name == "amount":
            own = factor[position.reindex(part["opportunity_id"]).fillna(0).to_numpy(int)]
            part = part.assign(value=pd.to_numeric(part["value"], errors="coerce") * own)
        events[str(name)] = _events(part, position, "changed_at", "value")
    state = states.get(("opportunities", "stage"))
    if state is not None and state.since is not None:
        since = to_ms(state.since)
    done = warehouse.frame(
        'SELECT opportunity_id, "at", kind FROM activities WHERE connection = ? AND is_done IS NOT FALSE ORDER BY "at"',
        [connection],
    )
    return History(
        connection=connection,
        ids=frame["id"].to_numpy(object),
        created=created,
        closed=closed,
        won=frame["is_won"].fillna(False).to_numpy(bool) & (closed < NEVER),
        amount=amount,
        now=now,
        events=events,
        activities=_events(done, position, "at", "kind"),
        stages=stages,
        unknown=unknown,
        tracked_since=since,
        currency=currency,
        calendar=calendar or Calendar(),
    )


def column_ms(times: pd.Series[Any]) -> Ints:
    """Round up to the millisecond: see the module's text."""
    raw = times.to_numpy("datetime64[us]")
    micro = (raw - np.datetime64("2000-01-01", "us")).astype(np.int64)
    return np.where(np.isnat(raw), NEVER, -(-micro // 1000))


def _objects(values: pd.Series[Any]) -> npt.NDArray[np.object_]:
    found = values.astype(object)
    return found.where(found.notna(), None).to_numpy(object)


def _events(part: pd.DataFrame, position: pd.Series[int], at: str, value: str) -> Events:
    index = position.reindex(part["opportunity_id"]).to_numpy(float)
    kept = ~np.isnan(index)
    return Events.of(index[kept].astype(np.int64), column_ms(part[at])[kept], _objects(part[value])[kept])


def rates_of(warehouse: Warehouse, connection: str) -> dict[str, float]:
    """Return the newest rate of each currency. One rate for all times keeps a total from moving with the market."""
    found = warehouse.rows(
        "SELECT currency, arg_max(rate, valid_from) FROM currency_rates AS r WHERE connection = ? AND currency "
        "NOT IN (SELECT currency FROM connections WHERE connection = r.connection AND currency IS NOT NULL) GROUP BY 1",
        [connection],
    )
    return {str(code): float(rate) for code, rate in found}
