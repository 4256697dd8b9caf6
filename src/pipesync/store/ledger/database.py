"""Opening the ledger's database: SQLite in WAL mode, or PostgreSQL by URL, brought to this program's schema.

SQLite's file is readable by its owner alone: it holds names of opportunities and what was written about them.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from pipesync.errors import InputError, Problem, StoreError
from pipesync.secrecy import hide

HEAD = "0005"
"""The schema of this program; a test holds it against `store/migrations/versions`."""

_POSTGRES = "postgresql+psycopg"
_PATIENCE_MS = 30_000
"""How long SQLite waits for another writer's transaction."""


def open_database(url: str, revision: str = HEAD) -> Engine:
    """Connect and migrate to `revision`, up or down.

    InputError for an unusable URL, StoreError for a database that cannot be used, or is newer than this program.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        _create_private(Path(str(parsed.database)))
    engine = create_engine(parsed, json_serializer=_to_json, json_deserializer=orjson.loads)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        _migrate(engine, revision)
    except BaseException as error:
        engine.dispose()  # after an interrupt too: SQLite's files beside the ledger go with its last connection
        if not isinstance(error, DBAPIError):
            raise
        raise StoreError(f"{_shown(parsed)} cannot be opened as a ledger: {_first_line(error)}") from None
    return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("unreadable")
    if parsed.password:
        hide(str(parsed.password))
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername=_POSTGRES)
    if parsed.drivername not in ("sqlite", _POSTGRES):
        raise InputError(
            Problem("store.ledger is not a database URL", fix="give a file, or postgresql://HOST/DATABASE")
        )
    if parsed.drivername == _POSTGRES and find_spec("psycopg") is None:
        raise InputError(Problem("PostgreSQL needs its driver", fix="pip install 'pipesync[postgres]'"))
    return parsed


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as a ledger: {error.strerror}") from None


def _prepare_sqlite(connection: Any, _: object) -> None:  # Any: the driver's connection
    connection.isolation_level = None  # the driver's own BEGIN would come too late, see `_begin_sqlite`
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # an intent must survive the power cut that follows it
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers queue for the lock at their start: one that got it halfway could fail without waiting."""
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def version_of(connection: Connection) -> str | None:
    """Return the schema that a database has; None where it has none of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrate(engine: Engine, revision: str) -> None:
    with engine.connect().execution_options(reading=True) as connection:
        if version_of(connection) == revision:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('pipesync.ledger'))"))
        found = version_of(connection)
        if found == revision:  # another process was faster
            return
        # Imported here: it costs as much as all the rest of opening, and is needed once in a database's life.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
        config.attributes["connection"] = connection
        order = [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]
        order = [*order, "base"]  # the newest first
        for asked in (found or "base", revision):
            if asked not in order:
                raise StoreError(
                    f"{_shown(engine.url)} was written by a newer pipesync (schema {asked}, this one knows {HEAD}); "
                    "upgrade pipesync, or restore a backup"
                )
        is_newer = order.index(found or "base") < order.index(revision)
        (command.downgrade if is_newer else command.upgrade)(config, revision)


def _shown(url: URL) -> str:
    """A ledger as messages name it: never with a password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string()


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
