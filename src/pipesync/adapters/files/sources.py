"""Files as columns of text: CSV and Parquet read alike, with the line of each row for whoever must mend it.

Everything is text here, so that one set of parsers types both formats. The fast reader knows no line numbers and
stops at the first malformed row; files that need either are read again, slower, by Python's own.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipesync.adapters.base import Reject
from pipesync.errors import InputError, Place, Problem

SUFFIXES = (".csv", ".parquet")
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Text:
    """One file's rows as text; a blank cell is null."""

    path: Path
    rows: pa.Table
    broken: tuple[Reject, ...] = ()
    """Rows that are not even rows."""
    known_lines: tuple[int, ...] | None = None

    @cached_property
    def _lines(self) -> tuple[int, ...]:
        if self.known_lines is not None:
            return self.known_lines
        if self.path.suffix == ".parquet":
            return tuple(range(1, len(self.rows) + 1))
        return tuple(line for line, row in _python_rows(self.path) if row)[1:]

    def where(self, row: int) -> str:
        """Return where a row stands, as people find it."""
        if self.path.suffix == ".parquet":
            return f"{self.path.name}: row {row + 1}"
        return f"{self.path.name}:{self._lines[row]}"

    def raw(self, row: int) -> str:
        return ",".join(
            str(v) if v is not None else "" for v in self.rows.slice(row, 1).to_pylist()[0].values()
        )


def find(folder: Path, source: str, place: Place | None = None) -> Path | None:
    """Return the file that a mapping's `source` means: `leads`, `leads.csv` or `leads.parquet`; None where absent.

    InputError where it would lie outside the dataset's folder, or where both formats are there.
    """
    stem, suffix = (source, "") if Path(source).suffix not in SUFFIXES else source.rsplit(".", 1)
    tried = [folder / source] if suffix else []
    tried += [folder / f"{stem}{s}" for s in SUFFIXES]
    if any(not _is_inside(path, folder) for path in tried):
        raise InputError(
            Problem(f"source {source!r} lies outside the dataset's folder", place, "name a file inside it")
        )
    found = [path for path in dict.fromkeys(tried) if path.is_file()][: 1 if suffix else None]
    if len(found) > 1:
        names = " and ".join(p.name for p in found)
        raise InputError(Problem(f"{names} are both there", Place(str(folder)), "keep one of them"))
    return found[0] if found else None


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no such name can be, or links that go round
        return False


def digest(path: Path) -> str:
    """Return a fingerprint of a file's content."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise _unreadable(path, error) from None


def columns_of(path: Path) -> tuple[str, ...]:
    """Return a file's column names without reading its rows."""
    if path.suffix == ".parquet":
        names = _parquet(path, lambda: pa.parquet.read_schema(path)).names
    else:
        names = next((row for _, row in _python_rows(path) if row), [])
    return _checked(path, names)


def read(path: Path) -> Text:
    """Read a whole file; InputError where it is not a table at all."""
    columns_of(path)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    _check_quotes(path)
    try:
        return Text(path, _read_fast(path))
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return _read_slowly(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _checked(path: Path, names: list[str]) -> tuple[str, ...]:
    stripped = [n.strip() for n in names]
    if not any(stripped):
        raise InputError(Problem("has no header line", Place(str(path)), "export it with column names"))
    twice = sorted({n for n in stripped if n and stripped.count(n) > 1})
    if twice:
        raise InputError(
            Problem(f"column {twice[0]!r} is there twice", Place(str(path), 1), "keep one of them")
        )
    return tuple(stripped)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(Problem(f"cannot be read: {error.strerror or type(error).__name__}", Place(str(path))))


# --- CSV --------------------------------------------------------------------------------------------------------


def _delimiter(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(65536).split(b"\n", 1)[0].decode("utf-8", "replace")
    except OSError as error:
        raise _unreadable(path, error) from None
    return max(_DELIMITERS, key=start.count)


def _read_fast(path: Path) -> pa.Table:
    names = list(columns_of(path))
    return pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(column_names=names, skip_rows_after_names=1, block_size=1 << 24),
        parse_options=pa.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types={n: pa.string() for n in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _check_quotes(path: Path) -> None:
    """Refuse a quote that is never closed: every reader takes the rest of the file for its cell, and says nothing."""
    with path.open("rb") as file:
        if not sum(block.count(b'"') for block in iter(lambda: file.read(1 << 20), b"")) % 2:
            return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=_delimiter(path), strict=True)
        line = 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error) or "limit" in str(error):
                fix = "close it, or double it where a quote is meant"
                raise InputError(
                    Problem("a quote opens here and never closes", Place(str(path), line), fix)
                ) from None


def _python_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the row starts, its cells); bytes that are not UTF-8 become lone surrogates."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter=_delimiter(path))
            for row in reader:
                yield line, row
                line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(Problem(f"not CSV: {error}", Place(str(path), line), "export it again")) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_slowly(path: Path) -> Text:
    rows, lines, broken = [], [], []
    found = ((line, row) for line, row in _python_rows(path) if row)
    _, header = next(found)
    names = [n.strip() for n in header]
    for line, row in found:
        raw = ",".join(row).encode("utf-8", "replace").decode()
        if len(row) != len(names):
            reason = f"has {len(row)} cells where the header has {len(names)}"
            broken.append(Reject(f"{path.name}:{line}", reason, raw))
        elif any(_not_text(cell) for cell in row):
            broken.append(Reject(f"{path.name}:{line}", "is not UTF-8 text; export it as CSV UTF-8", raw))
        else:
            rows.append(row)
            lines.append(line)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    table = pa.table({
        name: pa.array([cell or None for cell in column], type=pa.string())
        for name, column in zip(names, columns, strict=True)
    })  # fmt: skip
    return Text(path, table, tuple(broken), tuple(lines))


def _not_text(cell: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in cell) if not cell.isascii() else False


# --- Parquet ----------------------------------------------------------------------------------------------------


def _parquet(path: Path, attempt: Callable[[], Any]) -> Any:  # Any: pyarrow has no types
    try:
        return attempt()
    except (pa.ArrowException, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a Parquet file"
        raise InputError(Problem(why, Place(str(path)), "export it again")) from None


def _read_parquet(path: Path) -> Text:
    table = _parquet(path, lambda: pa.parquet.read_table(path))
    names = [n.strip() for n in table.schema.names]
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_nested(kind):
            raise InputError(Problem(f"column {name!r} holds {kind}, not plain values", Place(str(path))))
        columns.append(_as_text(column.cast(kind), path, name))
    return Text(path, pa.table(columns, names=names))


def _as_text(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    try:
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(
            Problem(f"column {name!r} holds {column.type}, not text", Place(str(path)))
        ) from None
    return pa.compute.if_else(pa.compute.equal(text, ""), None, text)
