"""From the warehouse's mirror to one row per opportunity as of a moment, without looking past it.

`compute` fills two temporary tables of the warehouse's session: `features` (columns in `columns.COLUMNS`) and
`stage_visits` (one row per stay in an open stage). The work is in the SQL files beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from pipesync import fiscal
from pipesync.config import Calendar
from pipesync.errors import InputError, Problem
from pipesync.features.columns import COLUMNS, Column
from pipesync.model import ColumnState
from pipesync.store.warehouse import Warehouse

__all__ = ["COLUMNS", "Column", "Features", "compute", "set_moment", "stand"]


@dataclass(frozen=True)
class Features:
    """What `compute` made: tables `features` and `stage_visits` in the session, and what they cannot know."""

    connection: str
    as_of: datetime
    unknown: frozenset[str]
    """Columns whose facts cannot be read, or not for this moment; what they hold means nothing."""
    calendar: Calendar = field(default_factory=Calendar)
    """The company's, whose fiscal periods the moment lies in."""


def compute(warehouse: Warehouse, connection: str, as_of: datetime, calendar: Calendar) -> Features:
    """Make the feature tables of a connection as of a moment (aware)."""
    features = _begin(
        warehouse,
        connection,
        as_of,
        calendar,
        now=("visits", "standing_now"),
        then=("visits", "standing_then"),
    )
    warehouse.execute("SET VARIABLE unread = ?::VARCHAR[]", [sorted(features.unknown)])
    for name in ("stage_visits", "references", "events"):
        _run(warehouse, name)
    _join(warehouse)
    return features


_PART = 150_000
"""Opportunities whose events are joined at once; more would not fit into the memory of a small machine."""
_JOINED = ("standing", "told", "walked", "acted", "peopled", "led", "itemised", "alike", "round_numbers")


def _join(warehouse: Warehouse) -> None:
    """Make `features` of what is known of each opportunity, part by part; from then on it speaks for them."""
    [(count,)] = warehouse.rows("SELECT count(*) FROM standing")
    parts = max(1, -(-count // _PART))
    [query] = _statements("features")
    warehouse.execute(f"SET VARIABLE parts = {parts}")
    for part in range(parts):
        warehouse.execute(f"SET VARIABLE part = {part}")
        into = "INSERT INTO features" if part else "CREATE OR REPLACE TEMP TABLE features AS"
        warehouse.execute(f"{into} {query}")
    for name in _JOINED:
        warehouse.execute(f"DROP TABLE {name}")


def stand(warehouse: Warehouse, connection: str, as_of: datetime, calendar: Calendar, table: str) -> Features:
    """Keep where every opportunity stood at a moment as a temporary table: the columns of `stood.sql`.

    Much cheaper than `compute`, whose tables in the session stay as they are and keep their own moment.
    """
    variables = ", ".join(f"getvariable('{name}')" for name in _VARIABLES)
    [present] = warehouse.rows(f"SELECT {variables}")
    features = _begin(
        warehouse, connection, as_of, calendar, now=("standing_now",), then=("standing_compared",)
    )
    [query] = _statements("stood")
    warehouse.execute(f'CREATE OR REPLACE TEMP TABLE "{table}" AS {query}')
    _set_variables(warehouse, present)
    return features


def _begin(
    warehouse: Warehouse,
    connection: str,
    as_of: datetime,
    calendar: Calendar,
    *,
    now: Sequence[str],
    then: Sequence[str],
) -> Features:
    """Set the session's moment, and lay out how opportunities stood then, by the files for a moment now or past."""
    watermark = warehouse.watermark(connection)
    states = {(s.stream, s.column): s for s in warehouse.columns(connection)}
    if not states:
        raise InputError(Problem(f"nothing was pulled from {connection!r} yet", fix="run `pipesync pull`"))
    is_current = watermark is None or as_of >= watermark
    set_moment(warehouse, connection, as_of, calendar, is_current=is_current)
    for name in (*(now if is_current else then), "rates"):
        _run(warehouse, name)
    unknown = (name for name, column in COLUMNS.items() if not _is_known(column, states, as_of, is_current))
    return Features(connection, as_of, frozenset(unknown), calendar)


def _run(warehouse: Warehouse, name: str) -> None:
    for statement in _statements(name):
        warehouse.execute(statement)


@cache
def _statements(name: str) -> tuple[str, ...]:
    text = resources.files("pipesync.features").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return tuple(s for s in code.split(";\n") if s.strip())


_VARIABLES = {
    "connection": "VARCHAR",
    "as_of": "TIMESTAMP",
    "today": "DATE",
    "zone_offset": "INTERVAL",
    "is_current": "BOOLEAN",
    "holidays": "DATE[]",
    "fiscal_month": "INTEGER",
    "quarter_starts": "DATE[]",
    "quarter_numbers": "INTEGER[]",
}


def set_moment(
    warehouse: Warehouse, connection: str, as_of: datetime, calendar: Calendar, *, is_current: bool
) -> None:
    """Give the session the moment that it speaks of, and the arithmetic of days (`macros.sql`)."""
    local = as_of.astimezone(ZoneInfo(calendar.timezone))
    holidays = [h for h in calendar.holidays if h.isoweekday() < 6]
    moment = as_of.astimezone(UTC).replace(tzinfo=None)
    month, quarters = calendar.fiscal_year_starts, fiscal.quarters_of_weeks(calendar)
    _set_variables(
        warehouse,
        (connection, moment, local.date(), local.utcoffset(), is_current, holidays, month, *quarters),
    )
    _run(warehouse, "macros")
    if calendar.weeks:
        _run(warehouse, "macros_of_weeks")


def _set_variables(warehouse: Warehouse, values: Sequence[object]) -> None:
    for (name, kind), value in zip(_VARIABLES.items(), values, strict=True):
        warehouse.execute(f"SET VARIABLE {name} = ?::{kind}", [value])


def _is_known(
    column: Column, states: dict[tuple[str, str], ColumnState], as_of: datetime, is_current: bool
) -> bool:
    if column.history == "now" and not is_current:
        return False
    past = column.history == "tracked" and not is_current
    return all(
        any(_reaches(one, states, as_of, past=past) for one in need.split("|")) for need in column.needs
    )


def _reaches(need: str, states: dict[tuple[str, str], ColumnState], as_of: datetime, *, past: bool) -> bool:
    """Whether a warehouse column can be read, and, where its past is asked for, as of then."""
    name, _, history = need.partition("@")
    stream, _, column = name.partition(".")
    state = states.get((stream, column))
    if state is None or state.state != "known":
        return False
    if not history and not (past and stream == "opportunities"):
        return True
    if state.history == "since_install":
        return state.since is not None and state.since <= as_of
    return state.history == "full"
