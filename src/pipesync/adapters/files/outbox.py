"""The folder that stands for the CRM's writable half: tasks, forecasts and opportunity fields as CSV.

People open these files in spreadsheets, so a cell that a spreadsheet would run as a formula is written with an
apostrophe before it, and read back without. A file is replaced as a whole (temporary file, fsync, rename): a crash
leaves the old one or the new one. One writer at a time holds the lock, which the system frees when it dies.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipesync.adapters.base import Check
from pipesync.errors import InputError, Place, Problem, RetryLater
from pipesync.model import OWN_FIELDS, Change, Outcome, OwnForecast, OwnTask, Record

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

R = TypeVar("R", bound=Record)

_GUARDED = tuple("=+-@\t\r\n'＝＋－＠")
_PATIENCE = 30.0
"""Seconds to wait for another writer."""


class Outbox:
    """Own tasks and forecasts by their key, and opportunity fields by opportunity."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[dict[str, OwnTask], dict[str, OwnForecast]]:
        return (
            _records(self._folder / "tasks.csv", OwnTask),
            _records(self._folder / "forecasts.csv", OwnForecast),
        )

    def fields(self) -> dict[str, dict[str, Any]]:  # Any: JSON
        """Return our fields by opportunity, as JSON values."""
        held = _cells(self._folder / "opportunities.csv", "opportunity_id")
        return {i: {n: _json(n, row.get(n)) for n in OWN_FIELDS} for i, row in held.items()}

    def write(self, changes: Sequence[Change], now: datetime) -> list[Outcome]:
        """Apply the changes; each file is replaced once. A refused change leaves the others alone."""
        if not changes:
            return []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self._folder, error) from None
        with _locked(self._folder):
            tasks, forecasts = self.read()
            fields = _cells(self._folder / "opportunities.csv", "opportunity_id")
            outcomes = []
            touched = set()
            for change in changes:
                try:
                    target = _apply(change, tasks, forecasts, fields, now)
                except _Refused as refused:
                    outcomes.append(Outcome(key=change.key, status="failed", error=str(refused)))
                    continue
                touched.add(change.object)
                outcomes.append(Outcome(key=change.key, status="applied", target=target))
            if "task" in touched:
                _replace(self._folder / "tasks.csv", _columns(OwnTask), _dumped(tasks))
            if "forecast" in touched:
                _replace(self._folder / "forecasts.csv", _columns(OwnForecast), _dumped(forecasts))
            if "opportunity" in touched:
                names = sorted({n for row in fields.values() for n in row} - {"opportunity_id"})
                _replace(self._folder / "opportunities.csv", ["opportunity_id", *names], fields.values())
            return outcomes

    def check(self) -> Check:
        nearest = next(p for p in (self._folder, *self._folder.absolute().parents) if p.exists())
        if os.access(nearest, os.W_OK):
            return Check("outbox", "ok", str(self._folder))
        return Check(
            "outbox", "failed", f"{self._folder} cannot be written", "set `outbox:` to a folder of yours"
        )


class _Refused(Exception):
    """One change cannot be applied."""


# --- Changes ----------------------------------------------------------------------------------------------------


def _apply(
    change: Change,
    tasks: dict[str, OwnTask],
    forecasts: dict[str, OwnForecast],
    fields: dict[str, dict[str, str | None]],
    now: datetime,
) -> str | None:
    """Return the target's id. Repeating any change leaves things as they are."""
    if change.object == "opportunity":
        return _set_fields(change, fields)
    if change.object == "task":
        return _apply_record(change, tasks, OwnTask, {"modified_at": now})
    return _apply_record(change, forecasts, OwnForecast, {})


def _apply_record(change: Change, held: dict[str, R], record: type[R], stamp: dict[str, Any]) -> str | None:
    key, current = change.key, held.get(change.key)
    if change.action == "delete":
        held.pop(key, None)
        return change.target
    if change.action == "create":
        if current is not None:
            return key
        about = (
            {"opportunity_id": change.opportunity_id, "owner_id": change.owner_id}
            if record is OwnTask
            else {}
        )
        held[key] = _record(change, record, {**about, **change.after, **stamp})
        return key
    if current is None:
        raise _Refused(f"no {change.object} has this key any more")
    done = {"is_done": True} if change.action == "complete" else {}
    after = _record(change, record, {**current.model_dump(), **change.after, **done})
    if after != current:
        held[key] = after.model_copy(update=stamp)
    return key


def _record(change: Change, record: type[R], given: Mapping[str, Any]) -> R:
    try:
        found = record.model_validate({**given, "id": change.key, "key": change.key})
        "".join(map(str, found.model_dump().values())).encode()
    except ValidationError as error:
        wrong = sorted(
            {".".join(map(str, e["loc"])) for e in error.errors(include_url=False, include_input=False)}
        )
        raise _Refused(f"not a {change.object}: {', '.join(wrong)}") from None
    except UnicodeEncodeError:
        raise _Refused("holds characters that are no text") from None
    return found


def _set_fields(change: Change, held: dict[str, dict[str, str | None]]) -> str:
    if change.opportunity_id is None and change.target is None:
        raise _Refused("no opportunity is named")
    key = str(change.target or change.opportunity_id)
    row = held.setdefault(key, {"opportunity_id": key})
    if change.action == "delete":
        held.pop(key)
    else:
        row |= {n: None if v is None else str(v) for n, v in change.after.items()}
    return key


def _json(name: str, text: str | None) -> Any:  # Any: JSON
    return float(text) if text and name in ("win_probability", "win_in_period") else text


# --- Files ------------------------------------------------------------------------------------------------------


def _columns(record: type[Record]) -> list[str]:
    return [n for n in record.model_fields if n != "connection"]


def _dumped(records: Mapping[str, Record]) -> Iterator[dict[str, str | None]]:
    for one in records.values():
        dumped = one.model_dump(mode="json", exclude={"connection"})
        yield {n: None if v is None else _plain(v) for n, v in dumped.items()}


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _records(path: Path, record: type[R]) -> dict[str, R]:
    problems, found = [], {}
    for key, row in _cells(path, "key").items():
        given = {n: v for n, v in row.items() if n in record.model_fields and v is not None}
        try:
            found[key] = record.model_validate({"id": key, **given})
        except ValidationError as error:
            wrong = sorted({".".join(map(str, e["loc"])) for e in error.errors(include_url=False)})
            fix = f"mend {', '.join(wrong)}, or remove the row"
            problems.append(Problem(f"the row with key {key!r} cannot be read", Place(str(path)), fix))
    if problems:
        raise InputError(*problems)
    return found


def _cells(path: Path, key: str) -> dict[str, dict[str, str | None]]:
    """Read an outbox file by its key column; nothing where there is none yet."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [{n: _shown(v) for n, v in row.items() if n} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return {}
    except (csv.Error, UnicodeDecodeError):
        raise InputError(
            Problem("is not UTF-8 CSV any more", Place(str(path)), "restore or remove it")
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None
    keys = [row.get(key) for row in rows]
    if rows and None in keys:
        raise InputError(
            Problem(f"a row has no {key}", Place(str(path)), "restore the column, or remove the row")
        )
    return {str(k): row for k, row in zip(keys, rows, strict=True)}


def _replace(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str | None]]) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            # Python 3.11 quotes a lone carriage return only where it is part of the line's end.
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(columns)
            writer.writerows([_guarded(row.get(n)) for n in columns] for row in rows)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        if sys.platform != "win32":
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
    except OSError as error:
        raise _unwritable(path, error) from None


def _guarded(value: str | None) -> str:
    """None is an empty cell; an empty text is a lone apostrophe."""
    if value is None:
        return ""
    return f"'{value}" if not value or value.startswith(_GUARDED) else value


def _shown(cell: str | None) -> str | None:
    return None if not cell else cell.removeprefix("'")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        Problem(
            f"cannot be used: {error.strerror or type(error).__name__}",
            Place(str(path)),
            "set `outbox:` to a folder that pipesync may write to",
        )
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise _unwritable(folder, error) from None
    with file:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise RetryLater(f"another run is writing to {folder}", fix="wait for it to end")
            time.sleep(0.05)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
