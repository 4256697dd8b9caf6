"""What is committed at once: a page's rows, what is gone, what could not be read, and the cursor that follows them.

Tables have no primary keys: a page's keys are deleted and its rows inserted. `_rows` is the page as the table will hold
it, in a view over the columns that came, so that they are written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pipesync.model import TABLES
from pipesync.schema import kinds
from pipesync.store import owed

if TYPE_CHECKING:
    from pipesync.store.warehouse import Warehouse

CHILDREN = ("field_changes", "activities", "contact_roles", "line_items")


class After(NamedTuple):
    """Where a stream stands behind a page: as `adapters.base.Page` says, read at a moment by this machine's clock."""

    cursor: str | None
    until: datetime
    read_at: datetime
    as_before: bool = False
    last: bool = False


class Beside(NamedTuple):
    """What comes with a page's rows: ids that are gone, and (where, reason, raw) of what could not be read."""

    deleted: Sequence[str]
    rejects: Sequence[tuple[str, str, str]]


def store(
    warehouse: Warehouse,
    connection: str,
    stream: str,
    columns: Sequence[str],
    after: After,
    beside: Beside,
    *,
    replace: bool,
) -> int:
    """Store the registered `_page`, which has these columns, in an open transaction; see `Warehouse.merge`."""
    record, key = TABLES[stream]
    wanted = {name: duck for name, (duck, _) in kinds(record).items() if name != "connection"}
    names = [f'"{n}"' for n in wanted]
    values = [f'"{n}"' if n in columns else f'NULL::{duck} AS "{n}"' for n, duck in wanted.items()]
    name = connection.replace("'", "''")
    _view(warehouse, f"SELECT '{name}' AS connection, {', '.join(values)} FROM _page")
    if key and not replace:
        _keep_last(warehouse, key)
    is_first = not warehouse.rows(f'SELECT 1 FROM "{stream}" WHERE connection = ? LIMIT 1', [connection])
    changed, met = _compared(warehouse, connection, stream, () if is_first else key, names)
    if stream == "opportunities":
        _snapshot_changes(warehouse, connection, after.until)
        owed.note(warehouse, connection, CHILDREN, replace=replace, last=after.last)
    if replace or (not key and changed):  # an empty page of a stream without a key means: as it was
        if not is_first:
            warehouse.execute(f'DELETE FROM "{stream}" WHERE connection = ?', [connection])
        warehouse.execute("DELETE FROM rejects WHERE connection = ? AND stream = ?", [connection, stream])
    elif met:
        on = " AND ".join(f'old."{k}" = _rows."{k}"' for k in key)
        warehouse.execute(
            f'DELETE FROM "{stream}" AS old USING _rows WHERE old.connection = ? AND {on}', [connection]
        )
    warehouse.execute(f'INSERT INTO "{stream}" (connection, {", ".join(names)}) SELECT * FROM _rows')
    _delete(warehouse, connection, stream, beside.deleted)
    _reject(warehouse, connection, stream, beside.rejects, after.until)
    move(warehouse, connection, stream, after)
    return changed


def move(warehouse: Warehouse, connection: str, stream: str, after: After) -> None:
    """Move a stream's cursor, in an open transaction."""
    until, read_at = naive(after.until), naive(after.read_at)
    found = warehouse.rows(
        'UPDATE pulls SET "cursor" = ?, until = ?, watermark = CASE WHEN ? THEN ? ELSE watermark END, '
        "is_complete = ?, pulled_at = CASE WHEN ? THEN coalesce(pulled_at, ?) ELSE ? END "
        "WHERE connection = ? AND stream = ?",
        [after.cursor, until, after.last, until, after.last, after.as_before, read_at, read_at, connection, stream],
    )  # fmt: skip
    if found == [(0,)]:
        warehouse.execute(
            "INSERT INTO pulls VALUES (?, ?, ?, ?, ?, ?, ?)",
            [connection, stream, after.cursor, until, until if after.last else None, after.last, read_at],
        )


def naive(value: Any) -> Any:  # Any: a column's value
    """Return a moment as it is kept, naive UTC, and other values as they are."""
    return (
        value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value
    )


def _view(warehouse: Warehouse, rows: str) -> None:
    warehouse.execute("CREATE OR REPLACE TEMP VIEW _rows AS " + rows)


def _keep_last(warehouse: Warehouse, key: Sequence[str]) -> None:
    """A key that comes twice in a page keeps its later row, as the CRM's own order says."""
    by = ", ".join(f'"{k}"' for k in key)
    if warehouse.rows(f"SELECT count(*) = count(DISTINCT ({by})) FROM _rows") == [(True,)]:
        return
    warehouse.execute(
        "CREATE OR REPLACE TEMP TABLE _last AS FROM _rows; CREATE OR REPLACE TEMP TABLE _last AS FROM _last "
        f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY rowid DESC) = 1"
    )
    _view(warehouse, "FROM _last")


def _compared(
    warehouse: Warehouse, connection: str, stream: str, key: Sequence[str], names: Sequence[str]
) -> tuple[int, int]:
    """Return how many rows are new or differ from what is here, and how many are here; without a key all are new."""
    if not key:
        count = int(warehouse.rows("SELECT count(*) FROM _rows")[0][0])
        return count, 0
    on = " AND ".join(f'old."{k}" = new."{k}"' for k in key)
    differs = " OR ".join(f"old.{n} IS DISTINCT FROM new.{n}" for n in names)
    found = warehouse.rows(
        f"SELECT count(*) FILTER (WHERE old.connection IS NULL OR {differs}), count(old.connection) "
        f'FROM _rows AS new LEFT JOIN "{stream}" AS old ON old.connection = ? AND {on}',
        [connection],
    )
    return int(found[0][0]), int(found[0][1])


def store_nothing(warehouse: Warehouse, connection: str, stream: str, after: After) -> None:
    """Store a page that brings nothing, in an open transaction: what `store` does beside its rows."""
    if stream == "opportunities":
        _snapshot_columns(warehouse, connection, after.until)
        if after.last:
            owed.end_listing(warehouse, connection)
    move(warehouse, connection, stream, after)


def _snapshot_columns(warehouse: Warehouse, connection: str, until: datetime) -> list[str]:
    """Return the columns whose history is what pipesync sees, which it does from the first page on."""
    tracked = warehouse.rows(
        'SELECT "column", stream, state, since FROM column_states '
        "WHERE connection = ? AND history = 'since_install'",
        [connection],
    )
    if any(since is None for *_, since in tracked):
        warehouse.execute(
            "UPDATE column_states SET since = ? WHERE connection = ? AND history = 'since_install' AND since IS NULL",
            [naive(until), connection],
        )
    return [c for c, stream, state, _ in tracked if stream == "opportunities" and state == "known"]


def _snapshot_changes(warehouse: Warehouse, connection: str, until: datetime) -> None:
    for column in _snapshot_columns(warehouse, connection, until):
        warehouse.execute(
            "INSERT INTO field_changes (connection, id, opportunity_id, field, value, changed_at, seq) "
            "SELECT new.connection, 'snapshot:' || new.id || ':' || ? || ':' || epoch_ms(?::TIMESTAMP), new.id, ?, "
            f'new."{column}"::VARCHAR, ?, 0 FROM _rows AS new JOIN opportunities AS old USING (connection, id) '
            f'WHERE new."{column}" IS DISTINCT FROM old."{column}"',
            [column, naive(until), column, naive(until)],
        )


def _delete(warehouse: Warehouse, connection: str, stream: str, ids: Sequence[str]) -> None:
    if not ids:
        return
    # What has no id of its own goes by the opportunity that it belongs to.
    by = "id" if "id" in TABLES[stream].record.model_fields else "opportunity_id"
    warehouse.execute(
        f'DELETE FROM "{stream}" WHERE connection = ? AND {by} IN (SELECT unnest(?))',
        [connection, list(ids)],
    )
    if stream == "opportunities":
        for child in CHILDREN:
            warehouse.execute(
                f'DELETE FROM "{child}" WHERE connection = ? AND opportunity_id IN (SELECT unnest(?))',
                [connection, list(ids)],
            )


def _reject(
    warehouse: Warehouse,
    connection: str,
    stream: str,
    rejects: Sequence[tuple[str, str, str]],
    until: datetime,
) -> None:
    if rejects:
        columns = [list(column) for column in zip(*rejects, strict=True)]
        warehouse.execute(
            "INSERT INTO rejects SELECT ?, ?, unnest(?), unnest(?), unnest(?), ?",
            [connection, stream, *columns, naive(until)],
        )
