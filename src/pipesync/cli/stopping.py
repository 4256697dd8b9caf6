"""A graceful stop: SIGTERM is remembered, and obeyed where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipesync.errors import Stopped


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield a checkpoint: a function that raises `Stopped` once SIGTERM has come. Threads may call it."""
    asked = threading.Event()

    def remember(signum: int, frame: FrameType | None) -> None:
        asked.set()

    def checkpoint() -> None:
        if asked.is_set():
            raise Stopped("stopped on request; the next run goes on from here")

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield checkpoint
    finally:
        signal.signal(signal.SIGTERM, before)
