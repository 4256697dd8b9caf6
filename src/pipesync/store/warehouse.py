"""The warehouse: the CRM's mirror in one DuckDB file, to which nothing outside of this package speaks.

Times are kept as naive UTC (zoned ones cost DuckDB its ICU arithmetic, and Python pytz, on every read) and
become aware again in records. Tables carry no primary keys: loading was seven times slower with them (see `pages`).

One process writes. Readers open the copy that the last finished run published, so neither waits for the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pipesync.config import MEMORY
from pipesync.errors import InputError, Problem, StoreError
from pipesync.model import TABLES, ColumnState, Connection, Record
from pipesync.schema import ddl, kinds
from pipesync.store import pages, spill
from pipesync.store.opening import connect, prepare_folder, published

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 2
"""Of the warehouse's layout. A file of another version is pulled anew: it is only a mirror."""

_BOOKS = """
CREATE TABLE IF NOT EXISTS meta (version INTEGER);
CREATE TABLE IF NOT EXISTS pulls (
    connection VARCHAR, stream VARCHAR, "cursor" VARCHAR, until TIMESTAMP, watermark TIMESTAMP, is_complete BOOLEAN,
    pulled_at TIMESTAMP
);
CREATE TABLE IF NOT EXISTS kept (connection VARCHAR, name VARCHAR, document VARCHAR);
CREATE TABLE IF NOT EXISTS pruned (connection VARCHAR, id VARCHAR);
CREATE TABLE IF NOT EXISTS owed (connection VARCHAR, stream VARCHAR, id VARCHAR);
CREATE TABLE IF NOT EXISTS before_listing (connection VARCHAR, id VARCHAR);
CREATE TABLE IF NOT EXISTS rejects (
    connection VARCHAR, stream VARCHAR, "where" VARCHAR, reason VARCHAR, raw VARCHAR, seen_at TIMESTAMP
);
"""
Parameters = Mapping[str, Any] | Sequence[Any]


def _now() -> datetime:
    return datetime.now(UTC)


class Checkpoint(NamedTuple):
    """How far a stream was pulled. `watermark`: everything up to then is here; None before the first full pull."""

    cursor: str | None
    watermark: datetime | None
    is_complete: bool


class Warehouse:
    """An open warehouse. Use as a context manager; `path` None keeps it in memory.

    `clock` says when a page was committed; the ledger's clock, for both are compared. `memory`, such as "600MB", is
    what the database of a file may hold before it writes to disk; `threads` is how many work for it, by default one a
    core.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        read_only: bool = False,
        memory: str = MEMORY,
        threads: int | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.path, self._memory, self._clock = path, memory, clock
        if path and not read_only:
            prepare_folder(path)
        self._db = connect(path, read_only=read_only)
        if path and not read_only:
            spill.clear(path, of_all=True)
        if threads:
            self._db.execute(f"SET threads = {threads}")
        self._spilled = spill.bound(self._db, path, memory) if path else None
        if not read_only:
            if path:
                path.chmod(0o600)
            try:
                self._create()
            except BaseException:
                self.close()
                raise

    def _create(self) -> None:
        with self.transaction():
            self._create_tables()

    def _create_tables(self) -> None:
        self._db.execute(_BOOKS)
        found = self.rows("SELECT version FROM meta")
        if found and found[0][0] != VERSION:
            raise StoreError(
                f"{self.path} has warehouse layout {found[0][0]}, this pipesync has {VERSION}; "
                "move the file away and run `pipesync pull --full`"
            )
        if not found:
            self._db.execute("INSERT INTO meta VALUES (?)", [VERSION])
        tables = {name: table.record for name, table in TABLES.items()}
        tables |= {"column_states": ColumnState, "connections": Connection}
        self._db.execute("; ".join(ddl(name, record) for name, record in tables.items()))
        self._db.execute("ALTER TABLE connections ADD COLUMN IF NOT EXISTS fiscal_year_starts BIGINT")
        self._db.execute("ALTER TABLE connections ADD COLUMN IF NOT EXISTS fiscal_weeks VARCHAR")

    def session(self) -> Warehouse:
        """Return another session on the open file, for a thread of its own; temporary tables are not shared."""
        session = object.__new__(Warehouse)
        session.path, session._clock, session._db = self.path, self._clock, self._db.cursor()
        session._spilled = None
        session._db.execute("SET TimeZone = 'UTC'")
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        if self._spilled:
            shutil.rmtree(self._spilled, ignore_errors=True)

    # --- Reading ----------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Parameters | None = None) -> None:
        self._db.execute(sql, parameters)

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._db.execute(sql, parameters).fetchall()
        return found

    def arrow(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        return self._db.sql(sql, params=parameters).to_arrow_table()

    def batches(self, sql: str, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield a result by and by, never all of it at once."""
        yield from self._db.sql(sql).to_arrow_reader(rows)

    def frame(self, sql: str, parameters: Parameters | None = None) -> pd.DataFrame:
        """Return a DataFrame; times in it are naive UTC, money is float (for models and people, never summed back)."""
        return self._db.execute(sql, parameters).df()

    def register(self, name: str, rows: pa.Table | pd.DataFrame) -> None:
        """Make rows a temporary table of this session, in place of one of that name."""
        self._db.register("_incoming", rows)
        self._db.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" AS SELECT * FROM _incoming')
        self._db.unregister("_incoming")

    def shadow(self, table: str, where: str) -> None:
        """Let this session see only some rows of a table, until `unshadow`; nobody else sees less."""
        home = self.rows("SELECT current_database()")[0][0]
        self._db.execute(
            f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT * FROM "{home}".main."{table}" WHERE {where}'
        )

    def unshadow(self, table: str) -> None:
        self._db.execute(f'DROP VIEW IF EXISTS temp."{table}"')

    def records(self, stream: str, connection: str) -> Iterator[Record]:
        """Yield the stream's records of a connection, with aware times."""
        record = TABLES[stream].record
        found = self._db.execute(f'SELECT * FROM "{stream}" WHERE connection = ?', [connection])
        names = [d[0] for d in found.description or ()]
        for row in found.fetchall():
            yield record.model_construct(**{n: _aware(v) for n, v in zip(names, row, strict=True)})

    def ids_beside(self, connection: str, stream: str, present: pa.Array) -> tuple[str, ...]:
        """Return the stream's ids that are not among these."""
        import pyarrow as pa

        self._db.register("_present", pa.table({"id": present}))
        try:
            found = self.rows(
                f'SELECT id FROM "{stream}" AS here ANTI JOIN _present USING (id) WHERE connection = ? ORDER BY id',
                [connection],
            )
        finally:
            self._db.unregister("_present")
        return tuple(i for (i,) in found)

    def connections(self) -> list[Connection]:
        # By name: a published copy may be older than a column.
        found = self.arrow("SELECT * FROM connections ORDER BY connection").to_pylist()
        return [Connection.model_validate(row) for row in found]

    def columns(self, connection: str) -> list[ColumnState]:
        names = ", ".join(f'"{n}"' for n in ColumnState.model_fields)
        found = self.rows(f"SELECT {names} FROM column_states WHERE connection = ?", [connection])
        return [
            ColumnState(**dict(zip(ColumnState.model_fields, map(_aware, row), strict=True))) for row in found
        ]

    def checkpoint(self, connection: str, stream: str) -> Checkpoint:
        found = self.rows(
            'SELECT "cursor", watermark, is_complete FROM pulls WHERE connection = ? AND stream = ?',
            [connection, stream],
        )
        return (
            Checkpoint(found[0][0], _aware(found[0][1]), found[0][2])
            if found
            else Checkpoint(None, None, False)
        )

    def watermark(self, connection: str) -> datetime | None:
        """Return the moment up to which every pulled stream is complete; None before the first whole pull."""
        found = self.rows(
            "SELECT min(watermark), bool_and(watermark IS NOT NULL) FROM pulls WHERE connection = ?",
            [connection],
        )
        moment: datetime | None = _aware(found[0][0])
        return moment if found[0][1] else None

    def pulled_to(self, connection: str) -> datetime:
        """Return the connection's watermark, for whoever cannot do without; InputError before the first whole pull."""
        moment = self.watermark(connection)
        if moment is None:
            raise InputError(
                Problem(f"connection {connection!r} is not pulled yet", fix="run `pipesync pull` first")
            )
        return moment

    def pulled_at(self, connection: str, stream: str) -> datetime | None:
        """Return when, by this machine's clock, the stream was last read from the CRM: later writes are newer."""
        found = self.rows(
            "SELECT pulled_at FROM pulls WHERE connection = ? AND stream = ?", [connection, stream]
        )
        moment: datetime | None = _aware(found[0][0]) if found else None
        return moment

    # --- Writing ----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def set_connection(self, connection: Connection, columns: Iterable[ColumnState]) -> None:
        """Remember the account's facts and what of it can be read; `since` of a column is kept once it is set."""
        name = connection.connection
        since = {(c.stream, c.column): c.since for c in self.columns(name) if c.since}
        with self.transaction():
            self.execute("DELETE FROM connections WHERE connection = ?", [name])
            self._insert("connections", [connection])
            self.execute("DELETE FROM column_states WHERE connection = ?", [name])
            kept = [c.model_copy(update={"since": since.get((c.stream, c.column), c.since)}) for c in columns]
            self._insert("column_states", [c.model_copy(update={"connection": name}) for c in kept])

    def _insert(self, table: str, records: Sequence[Record]) -> None:
        if records:
            # By name: a file that is older than a column has it behind those that came after it.
            columns = {name: duck for name, (duck, _) in kinds(type(records[0])).items()}
            values = [[pages.naive(getattr(r, name)) for r in records] for name in columns]
            given = ", ".join(f'unnest(?::{duck}[]) AS "{name}"' for name, duck in columns.items())
            self._db.execute(f'INSERT INTO "{table}" BY NAME SELECT {given}', values)

    def merge(
        self,
        connection: str,
        stream: str,
        rows: pa.Table,
        *,
        cursor: str | None,
        until: datetime,
        replace: bool = False,
        deleted: Sequence[str] = (),
        rejects: Sequence[tuple[str, str, str]] = (),
        as_before: bool = False,
        last: bool = False,
    ) -> int:
        """Commit a page with the cursor that follows it; return how many rows differ from what was here.

        Columns that the page does not bring are blank in new rows. Fields whose history is only known since
        pipesync was installed leave a dated change behind when they are overwritten.
        """
        after = pages.After(cursor, until, self._clock(), as_before=as_before, last=last)
        if not (len(rows) or replace or deleted or rejects):
            with self.transaction():
                pages.store_nothing(self, connection, stream, after)
            return 0
        beside = pages.Beside(deleted, rejects)
        self._db.register("_page", rows)
        try:
            with self.transaction():
                return pages.store(
                    self, connection, stream, rows.schema.names, after, beside, replace=replace
                )
        finally:
            self._db.unregister("_page")

    def expect(
        self,
        connection: str,
        streams: Sequence[str],
        until: datetime,
        cursors: Mapping[str, str] | None = None,
    ) -> None:
        """Enter streams that a pull is to bring, so that the watermark waits for those that it does not reach.

        Those that were not known begin with their one of `cursors`, where there is one.
        """
        given = [(cursors or {}).get(s) for s in streams]
        self.execute(
            'INSERT INTO pulls (connection, stream, "cursor", until, is_complete) '
            "SELECT ?, wanted, given, ?, FALSE FROM (SELECT unnest(?) AS wanted, unnest(?::VARCHAR[]) AS given) "
            "WHERE wanted NOT IN (SELECT stream FROM pulls WHERE connection = ?)",
            [connection, pages.naive(until), list(streams), given, connection],
        )

    def forget_checkpoints(self, connection: str, streams: Sequence[str] | None = None) -> None:
        """Make the next pull (of these streams) a full one; rows stay until it replaces them."""
        self.execute(
            "DELETE FROM pulls WHERE connection = ? AND stream IN (SELECT unnest(?))",
            [connection, self.pulled_streams(connection) if streams is None else list(streams)],
        )

    def pulled_streams(self, connection: str) -> list[str]:
        """Return the streams that the watermark stands for."""
        found = self.rows("SELECT stream FROM pulls WHERE connection = ? ORDER BY stream", [connection])
        return [stream for (stream,) in found]

    def keep(self, connection: str, name: str, document: str) -> None:
        """Keep something that was calculated from the mirror and is dear to calculate again, as text."""
        with self.transaction():
            self.execute("DELETE FROM kept WHERE connection = ? AND name = ?", [connection, name])
            self.execute("INSERT INTO kept VALUES (?, ?, ?)", [connection, name, document])

    def kept(self, connection: str, name: str) -> str | None:
        found = self.rows("SELECT document FROM kept WHERE connection = ? AND name = ?", [connection, name])
        return str(found[0][0]) if found else None

    def forget_kept(self, connection: str) -> None:
        self.execute("DELETE FROM kept WHERE connection = ?", [connection])

    # --- Publishing -------------------------------------------------------------------------------------------

    def publish(self) -> Path:
        """Copy the file for readers, in one rename; return the copy's path."""
        assert self.path is not None, "a warehouse in memory has no readers"  # noqa: S101
        self.execute("CHECKPOINT")
        target, fresh = published(self.path), self.path.with_suffix(".publishing")
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
        shutil.copyfile(self.path, fresh)
        with fresh.open("rb") as copied:
            os.fsync(copied.fileno())
        fresh.replace(target)
        spill.clear(target, of_all=False)
        return target

    def rewrite_file(self) -> None:
        """Write the file anew, without the bytes of deleted rows, and go on with it; sessions must be closed."""
        if self.path is None:
            return
        fresh = self.path.with_suffix(".rewriting")
        fresh.unlink(missing_ok=True)
        name = self.rows("SELECT current_database()")[0][0]
        self.execute("CHECKPOINT")
        self.execute(f"ATTACH '{str(fresh).replace(chr(39), chr(39) * 2)}' AS rewritten")
        self.execute(f'COPY FROM DATABASE "{name}" TO rewritten')
        self.execute("DETACH rewritten")
        fresh.chmod(0o600)
        self.close()
        fresh.replace(self.path)
        self._db = connect(self.path)
        self._spilled = spill.bound(self._db, self.path, self._memory)


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
