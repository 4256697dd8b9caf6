"""Where the shipped YAML lives: in the wheel under `_data/`, in a checkout at the top level."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipesync.errors import InputError

_PACKAGE = Path(__file__).parent


def shipped(kind: Literal["rules", "adapters"]) -> Path:
    """Return the folder of shipped rules or adapters."""
    tried = (_PACKAGE / "_data" / kind, _PACKAGE.parents[1] / kind)
    for folder in tried:
        if folder.is_dir():
            return folder
    raise InputError(
        f"the shipped {kind} are missing; looked in {tried[0]} and {tried[1]}; reinstall pipesync"
    )
