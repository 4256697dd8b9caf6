"""What a run tells while it works: events with their run and connection, for people or as lines of JSON.

The library is silent until a program calls `configure`, as the command line does. No event shows a secret.
structlog, which writes them, is imported with the first event that somebody listens to: its import is a tenth of
what a pull takes to begin, and a pull by itself tells of no events.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from pipesync.secrecy import redacted

if TYPE_CHECKING:
    import structlog
    from structlog.typing import EventDict, WrappedLogger

_logger = logging.getLogger("pipesync")
_logger.addHandler(logging.NullHandler())


def _redact(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    found: MutableMapping[str, Any] = redacted(dict(event))  # Any: whatever an event tells
    return found


@functools.cache
def _structured() -> structlog.stdlib.BoundLogger:
    import structlog

    wrapped: structlog.stdlib.BoundLogger = structlog.wrap_logger(
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
    return wrapped


class _Log:
    """Tells of an event by its name and what is known of it, if anybody listens at that level."""

    def info(self, event: str, **known: Any) -> None:  # Any: here and below whatever an event tells
        self._tell(logging.INFO, event, known)

    def warning(self, event: str, **known: Any) -> None:
        self._tell(logging.WARNING, event, known)

    def error(self, event: str, **known: Any) -> None:
        self._tell(logging.ERROR, event, known)

    def _tell(self, level: int, event: str, known: dict[str, Any]) -> None:
        if _logger.isEnabledFor(level):
            _structured().log(level, event, **known)


log = _Log()


def _to_json(event: Any, **_: Any) -> str:  # Any: as structlog calls a serializer
    return orjson.dumps(event, default=str).decode()


class _Formatter(logging.Formatter):
    """structlog's, for people or as JSON."""

    def __init__(self, people: bool) -> None:
        super().__init__()
        self._people = people

    def format(self, record: logging.LogRecord) -> str:
        return self._writer.format(record)

    @functools.cached_property
    def _writer(self) -> logging.Formatter:
        import structlog

        renderer: Any = (  # Any: two kinds of processors
            structlog.dev.ConsoleRenderer(colors=True, sort_keys=False)
            if self._people
            else structlog.processors.JSONRenderer(serializer=_to_json)
        )
        return structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )


def configure(level: int, stream: TextIO | None = None, *, people: bool | None = None) -> logging.Handler:
    """Write events from `level` on to `stream` (stderr): readable where people look on, else as JSON. Replaces."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(out.isatty() if people is None else people))
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
    import structlog

    with structlog.contextvars.bound_contextvars(**known):
        yield
