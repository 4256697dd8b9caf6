"""How much memory a warehouse takes, and where it puts what does not fit.

DuckDB would take four fifths of the machine's memory before it writes to disk. Within 600 MB the features of a million
opportunities take a quarter longer than without a bound, and everything a third of the memory. What is written holds
customers' data: it lies beside the warehouse, in a folder that nobody else can read, and goes when the warehouse is
closed; a killed process leaves it to the next that opens the file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import duckdb

_ABANDONED = 86400.0
"""Seconds after which no reader can still be at work in a folder."""


def bound(database: duckdb.DuckDBPyConnection, path: Path, memory: str) -> Path | None:
    """Bound the database's memory; return the folder for the rest, None where none can be made and nothing is bound."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError:
        return None
    database.execute(f"SET memory_limit = '{memory}'")
    database.execute("SET temp_directory = '{}'".format(str(folder).replace("'", "''")))
    return folder


def clear(path: Path, *, of_all: bool) -> None:
    """Remove what killed processes left: of `path`'s only writer all, of readers what is a day old."""
    for folder in path.parent.glob(f"{path.name}.*.tmp"):
        if of_all or time.time() - folder.stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
