"""`pipesync rules`: what sales ops does with rules before they go live."""

from __future__ import annotations

from pathlib import Path

import click

from pipesync.cli.options import Source, configured, formatted


@click.group()
def rules() -> None:
    """List, check and test the rules.

    \b
    Example:
        pipesync rules list
    """
