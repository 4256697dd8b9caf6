"""Requests spread so that HubSpot's rolling limits are used up, and not run into.

A 429 costs more than waiting: HubSpot counts refused requests too, and an app with many of them can be held
back for longer. The burst limit differs by tier and is learnt from the headers of the first answer; until then, and
where an answer tells of none, nothing is held back. The search limit belongs to the whole account and has no header.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping


class Pace:
    """Rolling windows of one process. `sleep` and `clock` are the machine's unless a test hands in its own."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        searches: int,
    ) -> None:
        self._clock, self._sleep, self._searches = clock, sleep, searches
        self._burst, self._window = 0, 10.0
        self._sent: deque[float] = deque()
        self._search_times: deque[float] = deque()

    @property
    def burst(self) -> tuple[int, float]:
        return self._burst, self._window

    def wait(self, *, search: bool) -> None:
        """Sleep until one more request fits."""
        while (pause := self._pause(search=search)) > 0:
            self._sleep(pause)

    def count(self, *, search: bool) -> None:
        """Count a request once its answer is there: only then HubSpot has surely counted it, too."""
        now = self._clock()
        self._sent.append(now)
        if search:
            self._search_times.append(now)

    def _pause(self, *, search: bool) -> float:
        now = self._clock()
        pause = _until_free(self._sent, now, self._window, self._burst)
        if search:
            pause = max(pause, _until_free(self._search_times, now, 1.0, self._searches))
        return pause

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take the limits that an answer tells of."""
        told = headers.get("X-HubSpot-RateLimit-Max", "")
        if told.isdigit() and int(told) > 0:
            self._burst = int(told)
        interval = headers.get("X-HubSpot-RateLimit-Interval-Milliseconds", "")
        if interval.isdigit() and int(interval) > 0:
            self._window = int(interval) / 1000


def _until_free(sent: deque[float], now: float, window: float, limit: int) -> float:
    while sent and sent[0] <= now - window:
        sent.popleft()
    return sent[len(sent) - limit] + window - now if 0 < limit <= len(sent) else 0.0
