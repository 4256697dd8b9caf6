"""The closed words and kinds of values that records are made of."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Money = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
Moment = Annotated[datetime, Field(description="zone-aware, UTC")]
Currency = Annotated[str, Field(description="ISO 4217")]

Phase = Literal["early", "middle", "late", "won", "lost"]
Category = Literal["omitted", "pipeline", "best_case", "most_likely", "commit", "closed"]
Severity = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
Priority = Literal["low", "normal", "high"]
HistoryKind = Literal["full", "since_install", "none"]
Level = Literal["opportunity", "owner", "team", "stage", "product", "source", "pipeline"]


class Record(BaseModel):
    """Base of every value here: frozen, and strict about names."""

    # A command uses a few of all records: each is built when it is first used (the lock came with pydantic 2.14).
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    connection: str = ""
