"""HubSpot's rate limits: a rolling ten seconds per app, five searches a second, a day; as headers and 429s."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pipesync.sandbox.hubspot.answers import Answer

BURST = {"free": 100, "professional": 190, "enterprise": 190}
DAILY = {"free": 250_000, "professional": 625_000, "enterprise": 1_000_000}
_SEARCHES, _WINDOW = 5, 10.0


class Limits:
    """Counts requests in real time: clients wait in real time, whatever the sandbox's own clock says."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent: deque[float] = deque()
        self._searched: deque[float] = deque()
        self.today = 0
        self.refused = 0

    def admit(self, tier: str, *, search: bool) -> Answer | dict[str, str]:
        """Count a request; return the headers of its answer, or the 429 that it gets. Refused ones count too."""
        now = self._clock()
        _forget(self._sent, now - _WINDOW)
        _forget(self._searched, now - 1.0)
        self._sent.append(now)
        self.today += 1
        if search:
            self._searched.append(now)
        if self.today > DAILY[tier]:
            return self._refuse("DAILY", "daily")
        if search and len(self._searched) > _SEARCHES:
            return self._refuse("SECONDLY", "secondly")
        if len(self._sent) > BURST[tier]:
            return self._refuse("TEN_SECONDLY_ROLLING", "ten_secondly_rolling")
        if search:  # their answers carry none
            return {}
        return {
            "X-HubSpot-RateLimit-Daily": str(DAILY[tier]),
            "X-HubSpot-RateLimit-Daily-Remaining": str(DAILY[tier] - self.today),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(_WINDOW * 1000)),
            "X-HubSpot-RateLimit-Max": str(BURST[tier]),
            "X-HubSpot-RateLimit-Remaining": str(max(0, BURST[tier] - len(self._sent))),
        }

    def _refuse(self, policy: str, word: str) -> Answer:
        self.refused += 1
        body = {
            "status": "error",
            "message": f"You have reached your {word} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": "00000000-0000-0000-0000-000000000429",
            "policyName": policy,
            "groupName": "sandbox",
        }
        return Answer(429, body)


def _forget(moments: deque[float], before: float) -> None:
    while moments and moments[0] <= before:
        moments.popleft()
