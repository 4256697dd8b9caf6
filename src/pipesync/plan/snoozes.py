"""A rep puts a task off from within the CRM: a line `snooze 14d: why` in the task's text.

`snooze` is followed by a day (`2027-01-31`) or a span (`14d`, `2w`), and by the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

_LINE = re.compile(
    r"^[ \t>*☐-]*snooze\b[ \t:]*(?:until[ \t]+)?(?:(?P<day>\d{4}-\d{2}-\d{2})|(?P<count>\d{1,3})[ \t]*(?P<unit>[dw]))\b"
    r"[ \t:,.;–-]*(?P<why>.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_MAX_REASON = 500


@dataclass(frozen=True)
class Snooze:
    """Until when (that day included) a task's points rest, and why; no reason is an empty one."""

    until: date
    reason: str


def snooze(text: str | None, written: date, longest: timedelta) -> Snooze | None:
    """Return what the last such line of a task's text asks for; None where there is none, or no real day.

    Spans count from the day on which it was `written`, and none is longer than `longest`.
    """
    for found in reversed(list(_LINE.finditer(text or ""))):
        if found["day"]:
            try:
                until = date.fromisoformat(found["day"])
            except ValueError:
                continue
        else:
            until = written + timedelta(days=int(found["count"]) * (7 if found["unit"] in "wW" else 1))
        return Snooze(min(until, written + longest), found["why"].strip()[:_MAX_REASON])
    return None
