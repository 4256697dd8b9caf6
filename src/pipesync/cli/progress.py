"""Progress on stderr, for people who wait longer than two seconds; silence for everyone else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import click

from pipesync.cli.options import verbosity

PATIENCE = 2.0
"""Seconds; work that is done by then shows nothing."""

Step = Callable[[str, int], None]
"""Called with what is being done and how many rows of it are done so far."""


@contextmanager
def progress(stream: IO[str] | None = None) -> Iterator[Step]:
    """Yield a function that shows rows and rate of what is being done, once it takes long. May be called by threads."""
    out = stream or sys.stderr
    if not out.isatty() or verbosity(click.get_current_context()) < 0:
        yield lambda what, done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f} rows"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    began = time.monotonic()
    shown: dict[str, TaskID] = {}
    bar = Progress(*columns, console=Console(file=out), transient=True)

    def step(what: str, done: int) -> None:
        elapsed = time.monotonic() - began
        if elapsed < PATIENCE:
            return
        bar.start()
        if what not in shown:
            shown[what] = bar.add_task(what, total=None, rate="")
        bar.update(shown[what], completed=done, rate=f"{done / elapsed:,.0f}/s")

    try:
        yield step
    finally:
        bar.stop()
