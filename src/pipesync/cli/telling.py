"""Where a run's events go: to a terminal only what needs looking at, as lines of JSON to everything else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pipesync.cli.options import verbosity

FORMAT = "PIPESYNC_LOG"
"""Environment variable: `json` or `text`, where what stderr is should not decide."""


@contextmanager
def telling() -> Iterator[None]:
    """Write events to stderr while inside. On a terminal, where results follow, -v shows all; -q only trouble."""
    from pipesync import logs

    loud = verbosity(click.get_current_context())
    people = {"json": False, "text": True}.get(os.environ.get(FORMAT, ""), sys.stderr.isatty())
    quiet = loud < 0 or (people and loud == 0)
    handler = logs.configure(logging.WARNING if quiet else logging.INFO, sys.stderr, people=people)
    try:
        yield
    finally:
        handler.flush()
        logs.silence()
