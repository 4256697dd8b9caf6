"""What leaves both stores: records older than `store.keep`, and a person who asked to be forgotten.

Deleting is not enough: both databases leave deleted bytes in their files. After a `forget` the warehouse is written
anew and SQLite's file is vacuumed, so that no file of ours holds the person's name, address or id any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipesync.errors import InputError, Problem
from pipesync.model import TABLES
from pipesync.schema import kinds
from pipesync.store.ledger import Ledger, Person
from pipesync.store.pages import CHILDREN
from pipesync.store.warehouse import Warehouse

_TELLING_ID = 6
"""An id at least this long is looked for inside of texts too; a shorter one would be found in dates and amounts."""
_TELLING_NAME = 3


def prune(warehouse: Warehouse, ledger: Ledger, connection: str, before: datetime) -> dict[str, int]:
    """Delete opportunities that were closed before a moment, with all that belongs to them, and what else is older.

    Return rows by table. What a later pull brings again is deleted again at its end.
    """
    old = (
        "SELECT id FROM opportunities WHERE connection = ? AND is_closed "
        "AND coalesce(closed_at, close_date::TIMESTAMP, modified_at) < ?"
    )
    moment = before.replace(tzinfo=None)
    done: dict[str, int] = {}

    def delete(table: str, where: str, parameters: list[object]) -> None:
        rest, given = f'FROM "{table}" WHERE connection = ? AND {where}', [connection, *parameters]
        if count := int(warehouse.rows(f"SELECT count(*) {rest}", given)[0][0]):
            warehouse.execute(f"DELETE {rest}", given)
            done[table] = count

    # A CRM tells of what belongs to an opportunity also by itself, so the ids of those that went are remembered.
    gone = (
        "SELECT id FROM pruned WHERE connection = ? AND id NOT IN "
        "(SELECT id FROM opportunities WHERE connection = ?)"
    )
    with warehouse.transaction():
        warehouse.execute(
            f"INSERT INTO pruned SELECT ?, id FROM ({old}) EXCEPT SELECT connection, id FROM pruned",
            [connection, connection, moment],
        )
        delete("opportunities", f"id IN ({old})", [connection, moment])
        for child in CHILDREN:
            delete(child, f"opportunity_id IN ({gone})", [connection, connection])
        delete("leads", "coalesce(converted_at, created_at) < ?", [moment])
        delete("quotas", "period_end < ?", [before.date()])
        delete("rejects", "seen_at < ?", [moment])
        # The row of an ended task stays, for its key is never given twice; what it says of the opportunity goes.
        warehouse.execute(
            "UPDATE own_tasks SET subject = NULL, body = NULL WHERE connection = $name AND is_done "
            "AND coalesce(subject, body) IS NOT NULL "
            "AND opportunity_id IN (SELECT id FROM pruned WHERE connection = $name) "
            "AND opportunity_id NOT IN (SELECT id FROM opportunities WHERE connection = $name)",
            {"name": connection},
        )
    for table, count in ledger.prune(connection, before).items():
        done[table] = done.get(table, 0) + count
    return done


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did. `pseudonym` stands where the person's id stood, so that sums stay right."""

    pseudonym: str
    rows: Mapping[str, int]
    is_in_crm: bool
    """The last pull still had the person: the CRM will tell of them again until it forgets them too."""


def forget_owner(warehouse: Warehouse, ledger: Ledger, connection: str, owner: str) -> Forgotten:
    """Replace an owner's id by a pseudonym in both stores, and their name and address by `FORGOTTEN`.

    InputError where neither store knows the id. Afterwards the caller writes both files anew.
    """
    known = warehouse.rows(
        "SELECT name, email FROM users WHERE connection = ? AND id = ?", [connection, owner]
    )
    named = {text for row in known for text in row if text and len(text) >= _TELLING_NAME}
    texts = sorted({*named, *([owner] if len(owner) >= _TELLING_ID else [])}, key=len, reverse=True)
    person = Person(owner, f"forgotten-{secrets.token_hex(4)}", texts)
    rows = _rewrite(warehouse, connection, person)
    for table, count in ledger.rewrite(connection, person).items():
        rows[table] = rows.get(table, 0) + count
    if not known and not rows:
        fix = "give the id that the CRM has for them"
        raise InputError(Problem(f"connection {connection!r} knows no owner {owner!r}", fix=fix))
    return Forgotten(person.pseudonym, rows, bool(known))


def _rewrite(warehouse: Warehouse, connection: str, person: Person) -> dict[str, int]:
    """Rewrite the mirror's texts, each distinct one once."""
    done: dict[str, int] = {}
    columns = [
        (table, column)
        for table, (record, _) in TABLES.items()
        for column, (kind, _) in kinds(record).items()
        if column != "connection" and (kind == "VARCHAR" or kind.startswith("MAP"))
    ] + [("rejects", column) for column in ("where", "reason", "raw")]
    with warehouse.transaction():
        warehouse.execute("DELETE FROM users WHERE connection = ? AND id = ?", [connection, person.id])
        for table, column in columns:
            holds = person.holds(column, set(kinds(TABLES[table].record)) if table in TABLES else set())
            given = {"connection": connection, "id": person.id, "texts": list(person.texts)}
            where = (
                f'connection = $connection AND (({holds} AND "{column}"::VARCHAR = $id) OR len(list_filter($texts, '
                f'lambda t: contains(lower("{column}"::VARCHAR), lower(t)))) > 0)'
            )
            found = warehouse.rows(f'SELECT DISTINCT "{column}" FROM "{table}" WHERE {where}', given)
            for (value,) in found:
                new = person.rewritten(value, is_owner=holds != "FALSE")
                if new != value:
                    same = f'{where} AND "{column}" = $old'
                    count = warehouse.rows(
                        f'SELECT count(*) FROM "{table}" WHERE {same}', given | {"old": value}
                    )
                    warehouse.execute(
                        f'UPDATE "{table}" SET "{column}" = $new WHERE {same}',
                        given | {"old": value, "new": new},
                    )
                    done[table] = done.get(table, 0) + int(count[0][0])
        warehouse.forget_kept(connection)  # models know owners; the next cycle learns anew
    return done
