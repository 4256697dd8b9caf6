"""Killing a sync at random moments, until it was hit often enough or nothing is left to hit."""

from __future__ import annotations

import random
from collections.abc import Callable
from multiprocessing.process import BaseProcess


def kill_repeatedly(start: Callable[[], BaseProcess], kills: int, span: float, seed: int) -> int:
    """Start a process and kill it with signal 9 within `span` seconds, again and again; return how often it was hit.

    One that was done before the signal came has nothing left to do for the next: they are hit earlier.
    """
    moments = random.Random(seed)  # noqa: S311  # seeded on purpose
    killed = 0
    while killed < kills and span > 0.01:
        process = start()
        process.join(moments.uniform(0, span))
        if process.is_alive():
            killed += 1
        else:
            span /= 2
        process.kill()
        process.join()
    return killed
