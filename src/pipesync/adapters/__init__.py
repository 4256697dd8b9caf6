"""Adapters turn CRMs (and folders of exports) into the normalized model; each is imported only when it is opened."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipesync.adapters.base import Adapter
    from pipesync.config import ConnectionConfig


def open_adapter(name: str, config: ConnectionConfig, folder: Path) -> Adapter:
    """Open the connection `name`; relative paths in its options start at `folder`.

    InputError where its options, mapping or data cannot be used as they are.
    """
    module = import_module(f"pipesync.adapters.{config.adapter}")
    opened: Adapter = module.open_connection(name, config, folder)
    return opened
