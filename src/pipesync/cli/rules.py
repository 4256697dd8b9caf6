"""`pipesync rules`: what sales ops does with rules before they go live."""

from __future__ import annotations

import click

from pipesync.cli.options import example


@click.group(epilog=example("pipesync rules list"))
def rules() -> None:
    """List, check and test the rules."""
