"""The process that is a command: `pipesync`, and `python -m pipesync.cli` where the script is not on the path.

What here is set for the whole process, or ends it, is no business of a library's: `pipesync.cli.main` does none of it,
but for the memory that `pull` and `sync` have Arrow keep, which can be said only once Arrow is loaded.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

from pipesync.cli import main


def run() -> None:
    """Run the command that the arguments tell, and end the process with its exit code."""
    # Matrices are small here; without this numpy starts a thread a core and gives each memory, as it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A command makes records by the ten thousand and few circles: at Python's default it would look for circles
    # among all of them again and again (an eighth of `check`'s time).
    gc.set_threshold(50_000)
    try:
        main(prog_name="pipesync")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            atexit.register(_leave, ended.code or 0)
        raise


def _leave(code: int) -> None:
    """End the process at once: to take every module apart first costs a tenth of a second, and nobody sees it.

    It is the last exit function to be registered and so the first to be called; the others run here. Threads have
    been waited for by then. Where output cannot be written the interpreter goes on and tells of it, as it would have.
    """
    atexit.unregister(_leave)
    try:
        _flush()
    except (OSError, ValueError):
        return
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


if __name__ == "__main__":
    run()
