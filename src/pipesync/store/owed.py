"""Opportunities that appeared in the mirror with a past, and whose children are still to be read by their ids.

One comes back when people change it after it was deleted for its age, out of the recycle bin, or once this user may see
it. What belongs to it was changed before that, so no increment of its stream brings it. Which are missing is noted with
the opportunity itself, in one transaction, so that a pull may be stopped anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipesync.store.warehouse import Warehouse


def note(warehouse: Warehouse, connection: str, streams: Sequence[str], *, replace: bool, last: bool) -> None:
    """Note of the page in `_rows` what is new here and older than what each of these streams was read up to.

    To be called before the page is stored. What was here before a listing began to replace it is not new, in whichever
    page of the listing it comes: `replace` says that this is the first one, `last` that no more follow.
    """
    if replace:
        warehouse.execute(
            "INSERT INTO before_listing SELECT connection, id FROM opportunities WHERE connection = ? "
            "EXCEPT SELECT connection, id FROM before_listing",
            [connection],
        )
    behind = 'connection = ? AND stream IN (SELECT unnest(?)) AND "cursor" IS NOT NULL'
    given = [connection, list(streams)]
    if warehouse.rows(f"SELECT 1 FROM pulls WHERE {behind} LIMIT 1", given):
        warehouse.execute(
            "INSERT INTO owed SELECT new.connection, stream, new.id FROM (FROM _rows "
            "ANTI JOIN opportunities USING (connection, id) ANTI JOIN before_listing USING (connection, id)) AS new, "
            f"(FROM pulls WHERE {behind}) AS read "
            "WHERE coalesce(new.created_at < read.until, TRUE) EXCEPT FROM owed",
            given,
        )
    if last:
        end_listing(warehouse, connection)


def end_listing(warehouse: Warehouse, connection: str) -> None:
    """Forget what was here before a listing began."""
    warehouse.execute("DELETE FROM before_listing WHERE connection = ?", [connection])


def missing(warehouse: Warehouse, connection: str, stream: str) -> list[str]:
    """Return the opportunities of which this stream's rows are still to be read."""
    found = warehouse.rows(
        "SELECT id FROM owed SEMI JOIN opportunities USING (connection, id) "
        "WHERE connection = ? AND stream = ? ORDER BY id",
        [connection, stream],
    )
    return [i for (i,) in found]


def settle(warehouse: Warehouse, connection: str, stream: str, ids: Sequence[str] | None = None) -> None:
    """Say that this stream's rows of these opportunities (default: of all) are here."""
    some = "" if ids is None else " AND id IN (SELECT unnest(?))"
    given = [connection, stream] if ids is None else [connection, stream, list(ids)]
    warehouse.execute(f"DELETE FROM owed WHERE connection = ? AND stream = ?{some}", given)
