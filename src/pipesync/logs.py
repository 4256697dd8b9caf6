"""What a run tells while it works: events with their run and connection, for people or as lines of JSON.

The library is silent until a program calls `configure`, as the command line does. No event shows a secret.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from pipesync.secrecy import redacted

_logger = logging.getLogger("pipesync")
_logger.addHandler(logging.NullHandler())


def _redact(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    found: MutableMapping[str, Any] = redacted(dict(event))  # Any: whatever an event tells
    return found


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _logger,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def _to_json(event: Any, **_: Any) -> str:  # Any: as structlog calls a serializer
    return orjson.dumps(event, default=str).decode()


def configure(level: int, stream: TextIO | None = None, *, people: bool | None = None) -> logging.Handler:
    """Write events from `level` on to `stream` (stderr): readable where people look on, else as JSON. Replaces."""
    out = stream or sys.stderr
    if people is None:
        people = out.isatty()
    renderer: Any = (  # Any: two kinds of processors
        structlog.dev.ConsoleRenderer(colors=True, sort_keys=False)
        if people
        else structlog.processors.JSONRenderer(serializer=_to_json)
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    for old in list(_logger.handlers):
        _logger.removeHandler(old)
    _logger.addHandler(handler)
    _logger.setLevel(level)
    _logger.propagate = False
    return handler


def silence() -> None:
    """Be as silent as before `configure`."""
    for old in list(_logger.handlers):
        _logger.removeHandler(old)
    _logger.addHandler(logging.NullHandler())
    _logger.setLevel(logging.NOTSET)
    _logger.propagate = True


@contextmanager
def working_on(**known: str) -> Iterator[None]:
    """Bind what every event inside is about, such as the run and its connection; threads bind for themselves."""
    with structlog.contextvars.bound_contextvars(**known):
        yield
