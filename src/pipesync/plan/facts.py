"""What a plan needs to know from the warehouse, read once, as values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

from pipesync.features.columns import COLUMNS
from pipesync.model import ColumnState, OwnForecast, OwnTask, User
from pipesync.store.warehouse import Warehouse

_OWN = ("own_tasks", "own_forecasts")
RESTS_ON = (
    "name", "owner_id", "pipeline", "stage", "amount", "currency", "forecast_category", "close_date", "is_closed",
    "type", "source", "product", "next_step",
)  # fmt: skip
"""What people change; a change of ours waits for the next plan where one of these is not as it was."""
_FINGERPRINTED = (
    "id", "name", "account_id", "owner_id", "pipeline", "stage", "amount", "currency", "forecast_category",
    "close_date", "created_at", "closed_at", "is_closed", "is_won", "type", "source", "product", "next_step",
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """How an opportunity stands in the mirror."""

    is_closed: bool
    is_won: bool
    owner_id: str | None
    rests_on: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """What a change of it rests on; see `rests_on`."""


@dataclass(frozen=True)
class Facts:
    """One connection's side of a plan."""

    users: dict[str, User] = field(default_factory=dict)
    tasks: tuple[OwnTask, ...] = ()
    forecasts: tuple[OwnForecast, ...] = ()
    opportunities: dict[str, Standing] = field(default_factory=dict)
    """Those that the tasks here are about."""
    takes: frozenset[str] = frozenset({"task", "forecast"})
    """Objects whose present state in the CRM can be read, so that they can be written with care."""
    behind: tuple[str, ...] = ()
    """Streams that the rules read and that the last pull did not bring up to its moment."""
    pulled_at: datetime | None = None
    """When our own tasks were read; what was written since is not among them."""
    forecasts_pulled_at: datetime | None = None
    """Likewise of our own forecasts, which are not read in every pull."""
    basis: str = ""
    """Fingerprint of the opportunities."""


def read(
    warehouse: Warehouse, connection: str, fields: Iterable[str], opportunity_ids: Collection[str] = ()
) -> Facts:
    """Read what a plan needs; `fields` are the feature columns that the rules ask for.

    `opportunity_ids` are those of tasks that the ledger knows, beside the ones that the CRM still has.
    """
    tasks = cast("list[OwnTask]", list(warehouse.records("own_tasks", connection)))
    about = {t.opportunity_id for t in tasks if t.opportunity_id} | set(opportunity_ids)
    known = {(c.stream, c.column) for c in warehouse.columns(connection) if c.state == "known"}
    return Facts(
        users={u.id: u for u in cast("list[User]", list(warehouse.records("users", connection)))},
        tasks=tuple(tasks),
        forecasts=tuple(cast("list[OwnForecast]", list(warehouse.records("own_forecasts", connection)))),
        opportunities=_opportunities(warehouse, connection, about),
        takes=frozenset(
            o for o, s in (("task", "own_tasks"), ("forecast", "own_forecasts")) if (s, "key") in known
        ),
        behind=_behind(warehouse, connection, fields, known),
        pulled_at=warehouse.pulled_at(connection, "own_tasks"),
        forecasts_pulled_at=warehouse.pulled_at(connection, "own_forecasts"),
        basis=_basis(warehouse, connection),
    )


def _opportunities(warehouse: Warehouse, connection: str, ids: Collection[str]) -> dict[str, Standing]:
    known = [n for n in RESTS_ON if n in {c.column for c in warehouse.columns(connection) if _is_fact(c)}]
    names = ["id", "is_closed", "is_won", "owner_id", *known]
    found = warehouse.rows(
        f"SELECT {', '.join(names)} FROM opportunities SEMI JOIN (SELECT unnest(?) AS id) USING (id) "
        "WHERE connection = ?",
        [sorted(ids), connection],
    )
    return {
        i: Standing(is_closed, is_won, owner, rests_on(dict(zip(known, told, strict=True))))
        for i, is_closed, is_won, owner, *told in found
    }


def _is_fact(column: ColumnState) -> bool:
    return column.stream == "opportunities" and column.state == "known"


def rests_on(facts: Mapping[str, Any]) -> dict[str, Any]:  # Any: columns' values, to JSON
    """Return what a change of an opportunity rests on, of what is known of it, in a form that can be compared."""
    return {n: _json(facts[n]) for n in RESTS_ON if n in facts}


def _json(value: Any) -> Any:  # Any: as above
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return value.isoformat() if isinstance(value, date) else value or None


def _behind(
    warehouse: Warehouse, connection: str, fields: Iterable[str], known: Collection[tuple[str, str]]
) -> tuple[str, ...]:
    """Name the readable streams that are not at the moment of the last pull; opportunities must be, readable or not.

    Our own records are read once more after an apply; that leaves no other stream behind.
    """
    needed = {"opportunities", "users", *_OWN}
    for name in fields:
        needed |= (
            {n.split(".")[0] for need in COLUMNS[name].needs for n in need.split("|")}
            if name in COLUMNS
            else set()
        )
    pulls = {
        stream: (until, watermark)
        for stream, until, watermark in warehouse.rows(
            "SELECT stream, until, watermark FROM pulls WHERE connection = ?", [connection]
        )
    }
    last = max((until for s, (until, _) in pulls.items() if s not in _OWN), default=None)
    readable = {"opportunities", *(stream for stream, _ in known)}
    reached = {s for s, (_, watermark) in pulls.items() if watermark and not (last and watermark < last)}
    return tuple(sorted((needed & readable) - reached))


def _basis(warehouse: Warehouse, connection: str) -> str:
    """Hash every opportunity and combine the hashes in a way that no order matters to."""
    row = ", ".join(f"coalesce({name}::VARCHAR, '')" for name in _FINGERPRINTED)
    found = warehouse.rows(
        f"SELECT bit_xor(md5_number(concat_ws(chr(31), {row}))), count(*) FROM opportunities WHERE connection = ?",
        [connection],
    )
    combined, count = found[0]
    return f"{int(combined or 0) & (2**128 - 1):032x}"[:16] + f"-{count}"
