"""Secrets that were read in this process, so that nothing that leaves it shows one.

Whoever reads a secret calls `hide`; whatever is logged, printed as an error or kept in the ledger passes `redacted`.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "[secret]"
_SHORTEST = 6
"""A shorter secret would be found in ordinary words."""
_ENDED = 200
"""Sessions that are remembered after their end: what tells of one is printed before that many others have ended."""
_secrets: set[str] = set()
_live: Counter[str] = Counter()
_ended: dict[str, frozenset[str]] = {}
"""Sessions that nobody uses any more, the last ones last, and how they may be written."""
_changing = threading.Lock()


def hide(secret: str) -> str:
    """Remember a secret, as it is and as it stands in addresses; return it."""
    with _changing:
        _secrets.update(_forms(secret))
    return secret


def hide_session(session: str) -> str:
    """Remember what a CRM hands out anew at every sign-in, until some time after `end_session`; return it."""
    with _changing:
        _live[session] += 1
    return session


def end_session(session: str) -> None:
    """Say that a session is not used any more; errors that tell of it may still be on their way."""
    with _changing:
        if _live[session] > 1:
            _live[session] -= 1
            return
        _ended.pop(session, None)  # the same one again: it ended last
        _ended[session] = _forms(session)
        del _live[session]
        while len(_ended) > _ENDED:
            del _ended[next(iter(_ended))]


def _forms(secret: str) -> frozenset[str]:
    forms = (secret, quote(secret, safe=""), secret.strip())
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def _known() -> list[str]:
    """Return every form of every secret, the longest first."""
    with _changing:
        return sorted(_secrets.union(*map(_forms, _live), *_ended.values()), key=len, reverse=True)


def redacted(value: Any) -> Any:  # Any: JSON
    """Return a text, or JSON with every text in it, without the secrets that this process knows."""
    if isinstance(value, str):
        # In one pass, so that a secret which is an ordinary word is not looked for in `HIDDEN`; of those that are there
        # only, because `re` keeps what it compiles, and sessions come and go.
        told = "|".join(re.escape(form) for form in _known() if form in value)
        return re.sub(told, HIDDEN, value) if told else value
    if isinstance(value, Mapping):
        return {redacted(k): redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(one) for one in value]
    return value
