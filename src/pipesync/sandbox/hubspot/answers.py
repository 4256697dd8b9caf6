"""Requests and answers as values, and HubSpot's error bodies. What is optional and not known is absent, never null."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipesync.sandbox.hubspot.records import Json


@dataclass(frozen=True)
class Call:
    """One request, its path taken apart."""

    method: str
    path: str
    version: str
    at: Mapping[str, str]
    """Names in the path: kind, id, ..."""
    query: Mapping[str, Sequence[str]]
    body: Any
    """JSON, or form fields; {} where there was none."""
    token: str
    base_url: str
    faults: frozenset[str] = frozenset()
    """Kinds of the fault harness that HubSpot itself is to play."""

    def one(self, name: str, default: str = "") -> str:
        values = self.query.get(name) or ()
        return values[-1] if values else default

    def many(self, name: str) -> list[str]:
        """Return a list parameter, repeated or separated by commas."""
        found = [part.strip() for value in self.query.get(name) or () for part in value.split(",")]
        return list(dict.fromkeys(part for part in found if part))

    def flag(self, name: str) -> bool:
        return self.one(name).casefold() == "true"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any = None
    """JSON with orjson's fragments in it; None for no content."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request ends with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(str(answer.status))


def error(
    status: int,
    message: str,
    category: str | None = None,
    *,
    code: str = "",
    properties: Sequence[str] = (),
    context: Mapping[str, Sequence[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Refused:
    body: Json = {"status": "error", "message": message, "correlationId": str(uuid.uuid4())}
    if category:
        body["category"] = category
    if code or properties:
        one: Json = {"message": message}
        if code:
            one["code"] = code
        if properties:
            one["context"] = {"propertyName": list(properties)}
        body["errors"] = [one]
    if context:
        body["context"] = {name: list(values) for name, values in context.items()}
    return Refused(Answer(status, body | dict(extra or {}), dict(headers or {})))


def not_found(what: str) -> Refused:
    return error(404, f"{what} was not found", "OBJECT_NOT_FOUND")


def invalid(message: str, *, code: str = "", properties: Sequence[str] = ()) -> Refused:
    return error(400, message, "VALIDATION_ERROR", code=code, properties=properties)


def number(call: Call, name: str, default: int, most: int) -> int:
    """Return an integer parameter; 400 where it is none, or beyond what HubSpot allows."""
    given = call.one(name) or str(default)
    if not given.isdigit() or not 1 <= int(given) <= most:
        raise invalid(f"{name} must be between 1 and {most}")
    return int(given)
