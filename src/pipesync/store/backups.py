"""One file that holds both stores, made while a sync runs, and put back.

The warehouse is taken first (the copy that the last finished run published) and the ledger after it, in one snapshot.
A ledger that knows more than its warehouse is what every plan copes with: it lays the journal's writes over what was
pulled. The other way round our own tasks would look like strangers' edits. A restore keeps the same order.

The file is a zip: `manifest.json`, `warehouse.duckdb` and one `ledger/TABLE.jsonl` per table. Lines of JSON carry a
ledger from SQLite to PostgreSQL and back.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pipesync import __version__
from pipesync.errors import InputError, Place, Problem
from pipesync.store import warehouse as warehouses
from pipesync.store.ledger import copying
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

FORMAT = 1
_MANIFEST, _WAREHOUSE = "manifest.json", "warehouse.duckdb"


class Manifest(BaseModel):
    """What a backup says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    pipesync: str
    made_at: datetime
    layout: int | None
    """The warehouse's; None where nothing had been published yet."""
    schema_: str
    """The ledger's."""
    rows: dict[str, int]
    """Of the ledger, by table."""

    def as_entry(self) -> dict[str, Any]:  # Any: JSON
        return {
            "made_at": self.made_at,
            "warehouse": self.layout is not None,
            "ledger": {"schema": self.schema_, "rows": self.rows},
        }

    def told(self) -> str:
        """Say in a few words what is in it."""
        mirror = "the warehouse" if self.layout is not None else "no warehouse (nothing was published yet)"
        return f"{mirror} and {sum(self.rows.values()):,} rows of the ledger"


def back_up(warehouse: Path, ledger_url: str, file: Path, *, at: datetime, replace: bool = False) -> Manifest:
    """Write both stores to `file`, readable by its owner alone. InputError where it is there and not to be replaced."""
    if file.exists() and not replace:
        raise InputError(Problem("is there already", Place(str(file)), "give another name, or --force"))
    rows: dict[str, int] = {}
    with _whole(file) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def take(table: str, lines: Iterable[bytes]) -> None:
            with archive.open(f"ledger/{table}.jsonl", "w", force_zip64=True) as member:
                rows[table] = 0
                for line in lines:
                    member.write(line + b"\n")
                    rows[table] += 1

        copy, has_copy = published(warehouse), False
        if copy.exists():  # an open file stays what it is, whatever a run puts in its place
            with copy.open("rb") as source, archive.open(_WAREHOUSE, "w", force_zip64=True) as member:
                shutil.copyfileobj(source, member, 1 << 20)
            has_copy = True
        schema = copying.dump(ledger_url, take)
        manifest = Manifest(
            format=FORMAT, pipesync=__version__, made_at=at, layout=warehouses.VERSION if has_copy else None,
            schema_=schema, rows=rows,
        )  # fmt: skip
        archive.writestr(_MANIFEST, manifest.model_dump_json(indent=2))
    return manifest


def restore(
    file: Path, warehouse: Path, ledger_url: str, *, now: datetime, replace: bool = False
) -> Manifest:
    """Put a backup's stores where a configuration keeps them; they hold just what it held.

    InputError where the file is no whole backup, or something is there and not to be replaced; StoreError where a run
    is working, or the backup is newer than this program.
    """
    with _opened(file) as archive, ExitStack() as stack:
        manifest = _manifest(archive, file)
        has_ledger = not ledger_url.startswith("sqlite:///") or Path(ledger_url[10:]).exists()
        is_taken = warehouse.exists() or (has_ledger and not copying.is_empty(ledger_url))
        if is_taken and not replace:
            raise InputError(
                Problem("there are stores here already", Place(str(warehouse.parent)),
                        "restore elsewhere (another --config), or replace them with --force")
            )  # fmt: skip
        if warehouse.exists():
            stack.enter_context(
                Warehouse(warehouse)
            )  # nobody else has it now, and nobody gets it while we are here
        lines = {
            name: stack.enter_context(archive.open(f"ledger/{name}.jsonl")) for name in manifest.rows
        }  # several members of one zip may be open at once
        for target in (warehouse, published(warehouse)):
            if manifest.layout is None:
                target.unlink(missing_ok=True)
                continue
            with _whole(target) as out, archive.open(_WAREHOUSE) as member:
                shutil.copyfileobj(member, out, 1 << 20)
        warehouse.with_name(warehouse.name + ".wal").unlink(missing_ok=True)
        copying.load(ledger_url, manifest.schema_, lines, now)
    return manifest


def _manifest(archive: zipfile.ZipFile, file: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate(orjson.loads(archive.read(_MANIFEST)))
        names = {_WAREHOUSE} if manifest.layout is not None else set()
        names |= {f"ledger/{table}.jsonl" for table in manifest.rows}
        if missing := names - set(archive.namelist()):
            raise InputError(Problem(f"lacks {min(missing)}", Place(str(file)), "take another backup"))
    except (KeyError, ValidationError, orjson.JSONDecodeError):
        raise InputError(Problem("is no backup of pipesync's", Place(str(file)))) from None
    if manifest.format > FORMAT or (manifest.layout or 0) > warehouses.VERSION:
        raise InputError(
            Problem(
                f"was made by pipesync {manifest.pipesync}, which is newer",
                Place(str(file)),
                "upgrade pipesync",
            )
        )
    return manifest


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a backup whose every byte is as it was written."""
    try:
        with zipfile.ZipFile(file) as archive:
            if broken := archive.testzip():
                raise InputError(Problem(f"is damaged, in {broken}", Place(str(file)), "take another backup"))
            yield archive
    except FileNotFoundError:
        raise InputError(Problem("no such file", Place(str(file)))) from None
    except zipfile.BadZipFile:
        raise InputError(
            Problem("is no whole backup", Place(str(file)), "was it copied to its end?")
        ) from None


@contextmanager
def _whole(file: Path) -> Iterator[IO[Any]]:  # Any: bytes, as zipfile wants them declared
    """Write a file beside its place and move it there when it is whole; its owner's alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".partial")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
