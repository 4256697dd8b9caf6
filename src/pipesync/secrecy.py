"""Secrets that were read in this process, so that nothing that leaves it shows one.

Whoever reads a secret calls `hide`; whatever is logged, printed as an error or kept in the ledger passes `redacted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "[secret]"
_SHORTEST = 6
"""A shorter secret would be found in ordinary words."""
_secrets: set[str] = set()


def hide(secret: str) -> str:
    """Remember a secret, as it is and as it stands in addresses; return it."""
    for form in (secret, quote(secret, safe=""), secret.strip()):
        if len(form) >= _SHORTEST:
            _secrets.add(form)
    return secret


def redacted(value: Any) -> Any:  # Any: JSON
    """Return a text, or JSON with every text in it, without the secrets that this process knows."""
    if isinstance(value, str):
        for secret in sorted(_secrets, key=len, reverse=True):
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {redacted(k): redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(one) for one in value]
    return value
