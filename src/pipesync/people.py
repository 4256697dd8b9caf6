"""`people.yaml`: managers, teams, zones and locales, where the CRM has none.

    people:
      - {email: ann@example.com, manager: bob@example.com, team: North, timezone: Europe/Warsaw, locale: pl_PL}
      - {id: "100042", manager: "100009"}

A person is named by the CRM's id or by email, and so is a manager. What the CRM says itself always wins. The file is
laid over the mirrored users after every pull; what it said before and says no more is taken back first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import Field, model_validator

from pipesync.config import Config, Section, Zone
from pipesync.errors import InputError, Place, Problem
from pipesync.model import User
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import read, validate

_COLUMNS = ("manager_id", "team", "timezone", "locale")
_KEPT = "people"


class Person(Section):
    """What the file says of one person."""

    id: str | None = None
    email: str | None = None
    connection: str | None = None
    """Only there; without it, wherever the person is."""
    manager: str | None = None
    """By id or email."""
    team: str | None = None
    timezone: Zone | None = None
    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}([_-][A-Za-z]{2})?$")] | None = None

    @model_validator(mode="after")
    def _is_somebody(self) -> Person:
        if not (self.id or self.email):
            raise ValueError("say who it is, by `id` or `email`")
        return self


class People(Section):
    people: tuple[Person, ...] = ()


def load(path: Path) -> People:
    """Read the file; InputError with every problem and its place."""
    return validate(People, read(path))


def lay_over(warehouse: Warehouse, connection: str, config: Config) -> None:
    """Fill what the CRM leaves blank of a connection's users; nothing where the site has no such file.

    InputError for a manager whom nobody in the CRM answers to, where the person is one of this connection's.
    """
    path = config.path(config.people) if config.people else None
    before = warehouse.kept(connection, _KEPT)
    if path is None and before is None:
        return
    told = load(path) if path else People()
    with warehouse.transaction():
        for user, column, value in orjson.loads(before or "[]"):
            warehouse.execute(
                f'UPDATE users SET "{column}" = NULL WHERE connection = ? AND id = ? AND "{column}" = ?',
                [connection, user, value],
            )
        users = [u for u in warehouse.records("users", connection) if isinstance(u, User)]
        filled = list(_filled(told, users, connection, str(path)))
        for user, column, value in filled:
            warehouse.execute(
                f'UPDATE users SET "{column}" = ? WHERE connection = ? AND id = ?', [value, connection, user]
            )
    warehouse.keep(connection, _KEPT, orjson.dumps(filled).decode())
    _make_known(warehouse, connection, {column for _, column, _ in filled}, str(path))


def _filled(told: People, users: list[User], connection: str, file: str) -> Iterator[tuple[str, str, str]]:
    """Yield user, column and value, of all that the CRM does not say itself."""
    by_name = {u.id: u for u in users} | {u.email.casefold(): u for u in users if u.email}
    for person in told.people:
        user = by_name.get(person.id or "") or by_name.get((person.email or "").casefold())
        if user is None or person.connection not in (None, connection):
            continue
        manager = person.manager and (by_name.get(person.manager) or by_name.get(person.manager.casefold()))
        if person.manager and not manager:
            said = f"{person.manager!r}, the manager of {person.email or person.id!r}, is nobody in {connection!r}"
            raise InputError(Problem(said, Place(file), "give the CRM's id, or an email that the CRM knows"))
        values = {
            "manager_id": manager.id if isinstance(manager, User) else None,
            "team": person.team, "timezone": person.timezone, "locale": person.locale,
        }  # fmt: skip
        for column in _COLUMNS:
            value = values[column]
            if value is not None and not getattr(user, column):
                yield user.id, column, value


def _make_known(warehouse: Warehouse, connection: str, columns: set[str], file: str) -> None:
    """What the file fills is known from now on: rules may ask for it."""
    states = warehouse.columns(connection)
    changed = [
        s.model_copy(update={"state": "known", "detail": Path(file).name})
        if s.stream == "users" and s.column in columns and s.state != "known"
        else s
        for s in states
    ]
    account = next((c for c in warehouse.connections() if c.connection == connection), None)
    if account is not None and changed != list(states):
        warehouse.set_connection(account, changed)
