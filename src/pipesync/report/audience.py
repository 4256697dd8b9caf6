"""For whom a report is: the whole company, a manager with everybody below, or one rep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipesync.errors import InputError, Problem
from pipesync.model import User
from pipesync.yamlsource import nearest

Kind = Literal["leader", "manager", "rep"]


@dataclass(frozen=True)
class Audience:
    """`people` are the user ids whose opportunities may be seen; None: everybody's."""

    kind: Kind = "leader"
    person: str = ""
    people: frozenset[str] | None = None

    def sees(self, owner_id: str | None) -> bool:
        return self.people is None or owner_id in self.people


def parse(text: str) -> tuple[Kind, str]:
    """Read `leader`, `manager:ID` or `rep:ID`."""
    kind, _, person = text.partition(":")
    if text == "leader":
        return "leader", ""
    if kind == "manager" and person:
        return "manager", person
    if kind == "rep" and person:
        return "rep", person
    raise InputError(
        Problem(f"{text!r} is nobody to write a report for", fix="say leader, manager:ID or rep:ID")
    )


def audience_of(text: str, users: Mapping[str, User]) -> Audience:
    """Return who is meant, and whom they may see; InputError where the connection has no such person."""
    kind, person = parse(text)
    if kind == "leader":
        return Audience()
    if person not in users:
        known = [u for u in users if kind == "rep" or below(u, users)]
        raise InputError(Problem(f"no user {person!r} to write a report for", fix=nearest(person, known)))
    if kind == "rep":
        return Audience(kind, person, frozenset({person}))
    return Audience(kind, person, frozenset({person, *below(person, users)}))


def below(manager: str, users: Mapping[str, User]) -> set[str]:
    """Everybody who reports to a manager, through all levels; a circle ends where it closes."""
    found: set[str] = set()
    level = {manager}
    while level:
        level = {u.id for u in users.values() if u.manager_id in level} - found - {manager}
        found |= level
    return found
