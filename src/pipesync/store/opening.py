"""Opening a warehouse's file, and where its readers' copy is."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from pipesync.errors import StoreError


def prepare_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as a warehouse: {type(error).__name__}") from None


def connect(path: Path | None, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    try:
        opened = duckdb.connect(str(path) if path else ":memory:", read_only=read_only)
    except duckdb.IOException as error:
        holder = re.search(r"\(PID (\d+)\)", str(error))
        if "lock" in str(error).lower():
            who = f"process {holder[1]}" if holder else "another process"
            raise StoreError(f"{path} is in use by {who}; wait for that run to end, or stop it") from None
        raise StoreError(f"{path} cannot be opened as a warehouse; move it away and pull anew") from None
    except (duckdb.Error, OSError) as error:
        raise StoreError(f"{path} cannot be opened as a warehouse: {type(error).__name__}") from None
    opened.execute("SET TimeZone = 'UTC'")
    opened.execute("SET enable_progress_bar = false")  # a library prints nothing
    return opened


def published(path: Path) -> Path:
    """Return where the readers' copy of a warehouse is."""
    return path.with_name(path.stem + ".published" + path.suffix)


def is_pattern(text: str) -> bool:
    """Whether DuckDB can match texts with this regular expression."""
    try:
        duckdb.execute("SELECT regexp_matches('', ?)", [text]).fetchall()
    except duckdb.Error:
        return False
    return True
