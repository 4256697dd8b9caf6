"""`pipesync schedule KIND`: a ready unit for whatever runs things here on time."""

from __future__ import annotations

import click

from pipesync.cli.options import Source, configured, example

_KINDS = ("cron", "systemd", "kubernetes", "github-actions", "windows")


@click.command(epilog=example("pipesync schedule systemd --every 2h"))
@click.argument("kind", type=click.Choice(_KINDS))
@configured
@click.option("--every", default="60m", show_default=True, help="How often, such as 15m, 2h or 24h.")
@click.option("--jitter", default="5m", show_default=True, help="How late at most, at random, a run begins.")
def schedule(kind: str, source: Source, every: str, jitter: str) -> None:
    """Print a complete schedule for this configuration.

    Runs never overlap, a missed one is made up for where the scheduler can, and SIGTERM stops a run gracefully.
    """
    import shutil
    import sys
    from pathlib import Path

    from pipesync.cli.opening import configuration
    from pipesync.config import DEFAULT_FILE, parse_duration
    from pipesync.schedules import Schedule, render

    config, _ = configuration(source)
    options = [value for connection in config.connections.values() for value in connection.options.items()]
    made = Schedule(
        config=(source.config or DEFAULT_FILE).resolve(),
        command=Path(shutil.which("pipesync") or Path(sys.executable).with_name("pipesync")),
        every_minutes=int(parse_duration(every).total_seconds() // 60),
        jitter_seconds=int(parse_duration(jitter).total_seconds()),
        secrets=tuple(sorted({str(value) for key, value in options if key.endswith("_env")})),
        timezone=config.calendar.timezone,
    )
    click.echo(render(kind, made), nl=False)
