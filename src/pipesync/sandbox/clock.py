"""The sandbox's time: it stands still until someone moves it, so that a rehearsal repeats to the second."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime


class Clock:
    """Starts at the moment that the dataset speaks of."""

    def __init__(self, start: datetime) -> None:
        self.ms = round(start.timestamp() * 1000)

    def now_ms(self) -> int:
        return self.ms

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)

    def http_date(self) -> str:
        """Return the Date header, in whole seconds: rounded up, so that no change of before is after it."""
        return format_datetime(datetime.fromtimestamp(-(-self.ms // 1000), UTC), usegmt=True)
