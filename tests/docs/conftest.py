"""The commands' working folder serves here too."""

from __future__ import annotations

from tests.cli.conftest import _pulled, company, fresh, pipesync, work

__all__ = ["_pulled", "company", "fresh", "pipesync", "work"]
