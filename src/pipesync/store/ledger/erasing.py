"""What leaves the ledger: what is older than it is to be kept, and what tells of a person who is to be forgotten."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipesync.store.ledger.tables import (
    episodes,
    findings,
    issued_calls,
    issued_forecasts,
    issued_opportunities,
    journal,
    metadata,
    notices,
    rule_evaluations,
    runs,
    suppressions,
    task_fates,
)


def prune(transaction: sa.Connection, connection: str, before: datetime) -> dict[str, int]:
    """Delete what ended before a moment; return rows by table.

    A task's or forecast's journal goes as a whole, when its last write is that old and the task is known to have
    ended: until then its lines say which of its words are ours.
    """
    ended = sa.select(task_fates.c.key).where(task_fates.c.connection == connection)
    young = sa.select(journal.c.key).where(
        journal.c.connection == connection,
        sa.or_(journal.c.status == "intended", journal.c.settled_at >= before),
    )
    forgotten = sa.and_(
        journal.c.connection == connection,
        journal.c.key.not_in(young),
        sa.or_(journal.c.object != "task", journal.c.key.in_(ended)),
    )
    old = {
        journal: forgotten,
        findings: findings.c.resolved_at < before,
        episodes: episodes.c.resolved_at < before,
        rule_evaluations: rule_evaluations.c.as_of < before,
        issued_forecasts: issued_forecasts.c.as_of < before,
        issued_calls: issued_calls.c.as_of < before,
        issued_opportunities: issued_opportunities.c.as_of < before,
        suppressions: suppressions.c.until < before.date(),
        notices: notices.c.sent_at < before,
        task_fates: sa.and_(
            task_fates.c.seen_at < before, task_fates.c.key.not_in(_journal_keys(connection))
        ),
        runs: sa.and_(runs.c.started_at < before, runs.c.id.not_in(_journal_runs(connection))),
    }
    return {
        table.name: count
        for table, is_old in old.items()
        if (
            count := transaction.execute(
                table.delete().where(table.c.connection == connection, is_old)
            ).rowcount
        )
    }


def _journal_keys(connection: str) -> sa.Select[Any]:  # Any: one column
    return sa.select(journal.c.key).where(journal.c.connection == connection)


def _journal_runs(connection: str) -> sa.Select[Any]:  # Any: one column
    return sa.select(journal.c.run).where(journal.c.connection == connection)


FORGOTTEN = "[forgotten]"
_OWNERS = ("owner_id", "manager_id", "changed_by")
_BY_KIND = {
    "scope_id": ("scope", ("owner", "manager")),
    "recipient": ("kind", ("digest",)),
    "subject_id": ("level", ("owner",)),
    "value": ("field", ("owner_id",)),
}
"""Columns that hold an owner's id where the other column says so."""


class Person:
    """Who is to be forgotten: an id, what stands in its place, and the texts that tell of them."""

    def __init__(self, id: str, pseudonym: str, texts: Sequence[str]) -> None:
        self.id, self.pseudonym, self.texts = id, pseudonym, tuple(texts)
        words = "|".join(map(re.escape, texts))
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)" if words else r"(?!)", re.IGNORECASE)

    def holds(self, column: str, columns: Collection[str]) -> str:
        """Return SQL for whether a column of a table holds an owner's id."""
        if column in _OWNERS:
            return "TRUE"
        kind, values = _BY_KIND.get(column, ("", ()))
        said = ", ".join(f"'{value}'" for value in values)
        return f'"{kind}" IN ({said})' if kind in columns else "FALSE"

    def rewritten(self, value: Any, *, is_owner: bool) -> Any:  # Any: a text, or JSON
        """Return a text, or JSON with every text in it, as it is to stand; short ids only where an owner stands."""
        if isinstance(value, str):
            if is_owner and value == self.id:
                return self.pseudonym
            return self._pattern.sub(lambda f: self.pseudonym if f[0] == self.id else FORGOTTEN, value)
        if isinstance(value, dict):
            return {k: self.rewritten(v, is_owner=self._is_owner(k, value)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.rewritten(one, is_owner=is_owner) for one in value]
        return value

    def _is_owner(self, column: str, row: Mapping[str, Any]) -> bool:  # Any: a row's values
        kind, values = _BY_KIND.get(column, ("", ()))
        return column in _OWNERS or row.get(kind) in values


def rewrite(transaction: sa.Connection, connection: str, person: Person) -> dict[str, int]:
    """Rewrite every text of a connection's rows, those inside JSON too; return rows changed by table."""
    done: dict[str, int] = {}
    for table in metadata.sorted_tables:
        texts = [c.name for c in table.c if isinstance(c.type, sa.String | sa.JSON) and c.name not in _KEPT]
        for row in list(transaction.execute(sa.select(table).where(table.c.connection == connection))):
            values = {c.name: v for c, v in zip(table.c, row, strict=True)}
            new = person.rewritten({n: _lists(values[n]) for n in texts}, is_owner=False)
            changed = {n: v for n, v in new.items() if v != _lists(values[n])}
            if changed:
                same = sa.and_(*(key == values[key.name] for key in table.primary_key))
                transaction.execute(table.update().where(same).values(changed))
                done[table.name] = done.get(table.name, 0) + 1
    return done


_KEPT = ("connection", "run", "key", "id")


def _lists(value: Any) -> Any:  # Any: a column's value
    return list(value) if isinstance(value, tuple) else value
