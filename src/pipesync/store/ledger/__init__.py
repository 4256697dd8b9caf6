"""The ledger: what pipesync found, intended, wrote and foretold. SQLite by default, PostgreSQL by URL.

Every method is one transaction. Values in and out are those of `model`; times are aware.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from pipesync.errors import StoreError
from pipesync.model import Change, Outcome, PeriodForecast, Run, StandingFinding
from pipesync.store.ledger import schema as t

__all__ = ["Entry", "Issued", "Ledger"]

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


@dataclass(frozen=True)
class Entry:
    """One line of the journal: a change that was intended, and what became of it."""

    seq: int
    run: str
    change: Change
    intended_at: datetime
    status: str | None
    """applied, failed, skipped; None while nothing is known."""
    settled_at: datetime | None
    target: str | None
    error: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class Issued:
    """A forecast as it was made then; never changed."""

    run: str
    as_of: datetime
    forecast: PeriodForecast


class Ledger:
    """An open ledger. Use as a context manager, or `close` it."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = sa.make_url(url)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                _private(Path(parsed.database))
            self._engine = sa.create_engine(parsed, hide_parameters=True)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _prepare_sqlite)
            self._migrate()
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(
                f"the ledger's URL cannot be used ({type(error).__name__}); write a file name or "
                "postgresql+psycopg://USER@HOST/DATABASE (and install pipesync[postgres])"
            ) from None
        except (DBAPIError, OSError) as error:
            raise StoreError(f"the ledger {_shown(url)} cannot be opened: {_cause(error)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    # --- Layout -----------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        """Bring the tables to HEAD; refuse a ledger that a newer pipesync has written."""
        with self._engine.connect() as connection:
            found = None
            if sa.inspect(connection).has_table("alembic_version"):
                found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if found == t.HEAD:
            return
        if found is not None and found > t.HEAD:
            raise StoreError(
                f"the ledger {_shown(self.url)} was written by a newer pipesync (layout {found}, this one knows "
                f"{t.HEAD}); upgrade pipesync, or restore a backup"
            )
        self.migrate(t.HEAD)

    def migrate(self, revision: str) -> None:
        """Move the tables to a revision, up or down (`base`: none)."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            current = None
            if sa.inspect(connection).has_table("alembic_version"):
                current = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            is_down = revision == "base" or (current is not None and revision < current)
            (command.downgrade if is_down else command.upgrade)(config, revision)

    # --- Runs -------------------------------------------------------------------------------------------------

    def save_run(self, run: Run) -> None:
        """Enter a run, or what became of it."""
        values = {**dict(run), "detail": run.model_dump(mode="json")["detail"]}
        with self._engine.begin() as connection:
            connection.execute(t.runs.delete().where(t.runs.c.id == run.id))
            connection.execute(t.runs.insert().values(**values))

    def runs(self, connection: str | None = None, limit: int = 20) -> list[Run]:
        """Return the latest runs, newest first."""
        query = t.runs.select().order_by(t.runs.c.started_at.desc(), t.runs.c.id.desc()).limit(limit)
        if connection is not None:
            query = query.where(t.runs.c.connection == connection)
        with self._engine.connect() as db:
            return [Run(**row._mapping) for row in db.execute(query)]

    def run(self, run_id: str) -> Run | None:
        with self._engine.connect() as db:
            row = db.execute(t.runs.select().where(t.runs.c.id == run_id)).first()
        return Run(**row._mapping) if row else None

    # --- Findings ---------------------------------------------------------------------------------------------

    def standing(self, connection: str) -> list[StandingFinding]:
        with self._engine.connect() as db:
            rows = db.execute(t.findings.select().where(t.findings.c.connection == connection))
            return [StandingFinding(**row._mapping) for row in rows]

    def save_standing(self, connection: str, standing: Iterable[StandingFinding]) -> None:
        """Replace what a connection's findings are, all at once."""
        rows = [{**dict(s), "connection": connection} for s in standing]
        with self._engine.begin() as db:
            db.execute(t.findings.delete().where(t.findings.c.connection == connection))
            if rows:
                db.execute(t.findings.insert(), rows)

    def save_rule_runs(
        self, connection: str, as_of: datetime, counts: Iterable[tuple[str, int, int, int]]
    ) -> None:
        """Remember how each rule (id, fired, clear, unknown) went; the same moment again replaces it."""
        rows = [
            {"connection": connection, "as_of": as_of, "rule": r, "fired": f, "clear": c, "unknown": u}
            for r, f, c, u in counts
        ]
        mine = (t.rule_runs.c.connection == connection) & (t.rule_runs.c.as_of == as_of)
        with self._engine.begin() as db:
            db.execute(t.rule_runs.delete().where(mine))
            if rows:
                db.execute(t.rule_runs.insert(), rows)

    def evaluated_rules(self, connection: str) -> set[str]:
        """Return the rules that ran on a connection before."""
        query = sa.select(t.rule_runs.c.rule).where(t.rule_runs.c.connection == connection).distinct()
        with self._engine.connect() as db:
            return set(db.execute(query).scalars())

    # --- Journal ----------------------------------------------------------------------------------------------

    def intend(self, run: str, connection: str, changes: Sequence[Change], at: datetime) -> None:
        """Write down what is about to be written, before it is."""
        rows = [
            {
                "run": run,
                "connection": connection,
                "key": c.key,
                "object": c.object,
                "change": c.model_dump(mode="json"),
                "intended_at": at,
            }
            for c in changes
        ]
        with self._engine.begin() as db:
            db.execute(t.journal.insert(), rows)

    def settle(self, run: str, outcomes: Sequence[Outcome], at: datetime) -> None:
        """Write down what became of intents of a run, by key."""
        if not outcomes:
            return
        mark = (
            t.journal.update()
            .where(
                t.journal.c.run == run,
                t.journal.c.key == sa.bindparam("of_key"),
                t.journal.c.status.is_(None),
            )
            .values(
                status=sa.bindparam("now_status"),
                settled_at=at,
                target=sa.bindparam("now_target"),
                error=sa.bindparam("now_error"),
                request_id=sa.bindparam("now_request"),
            )
        )
        rows = [
            {
                "of_key": o.key,
                "now_status": o.status,
                "now_target": o.target,
                "now_error": o.error,
                "now_request": o.request_id,
            }
            for o in outcomes
        ]
        with self._engine.begin() as db:
            db.execute(mark, rows)

    def unconfirmed(self, connection: str) -> list[Entry]:
        """Return intents of which nobody knows what became, oldest first."""
        return self._entries(t.journal.c.connection == connection, t.journal.c.status.is_(None))

    def entries(self, run: str) -> list[Entry]:
        return self._entries(t.journal.c.run == run)

    def applied(self, connection: str, since: datetime | None = None) -> list[Entry]:
        """Return what was written, oldest first; with `since` only what was settled after it."""
        conditions = [t.journal.c.connection == connection, t.journal.c.status == "applied"]
        if since is not None:
            conditions.append(t.journal.c.settled_at > since)
        return self._entries(*conditions)

    def _entries(self, *conditions: sa.ColumnElement[bool]) -> list[Entry]:
        query = t.journal.select().where(*conditions).order_by(t.journal.c.seq)
        with self._engine.connect() as db:
            return [_entry(row._mapping) for row in db.execute(query)]

    # --- Forecasts and tasks ----------------------------------------------------------------------------------

    def issue(self, run: str, connection: str, as_of: datetime, forecasts: Iterable[PeriodForecast]) -> None:
        """Keep forecasts as they are made now; they are never changed."""
        rows = [
            {"run": run, "connection": connection, "as_of": as_of, "forecast": f.model_dump(mode="json")}
            for f in forecasts
        ]
        if rows:
            with self._engine.begin() as db:
                db.execute(t.issued_forecasts.insert(), rows)

    def issued(self, connection: str) -> list[Issued]:
        table = t.issued_forecasts
        query = table.select().where(table.c.connection == connection).order_by(table.c.seq)
        with self._engine.connect() as db:
            return [Issued(r.run, r.as_of, PeriodForecast(**r.forecast)) for r in db.execute(query)]

    def save_fates(self, connection: str, fates: Iterable[tuple[str, str]], at: datetime) -> None:
        """Remember when it was first seen that people closed or deleted tasks of ours: (key, fate)."""
        known = self.fates(connection)
        rows = [
            {"connection": connection, "key": k, "fate": f, "seen_at": at} for k, f in fates if k not in known
        ]
        if rows:
            with self._engine.begin() as db:
                db.execute(t.fates.insert(), rows)

    def fates(self, connection: str) -> dict[str, tuple[str, datetime]]:
        with self._engine.connect() as db:
            rows = db.execute(t.fates.select().where(t.fates.c.connection == connection))
            return {r.key: (r.fate, r.seen_at) for r in rows}

    # --- One at a time ----------------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self, name: str, holder: str, now: datetime, length: timedelta = timedelta(minutes=30)
    ) -> Iterator[None]:
        """Hold `name` while the block runs; StoreError where another holder has it and it has not expired.

        A holder that was killed blocks others until its lease expires, no longer.
        """
        with self._engine.begin() as db:
            table = t.leases
            db.execute(table.delete().where(table.c.name == name, table.c.expires_at <= now))
            taken = db.execute(table.select().where(table.c.name == name)).first()
            if taken is not None and not _is_gone(taken.holder):
                raise StoreError(
                    f"another run ({taken.holder}) works on {name!r}; wait for it, or until {taken.expires_at:%H:%M}"
                )
            db.execute(table.delete().where(table.c.name == name))
            try:
                db.execute(table.insert().values(name=name, holder=holder, expires_at=now + length))
            except sa.exc.IntegrityError:
                raise StoreError(f"another run has just begun to work on {name!r}") from None
        try:
            yield
        finally:
            with self._engine.begin() as db:
                db.execute(t.leases.delete().where(t.leases.c.name == name, t.leases.c.holder == holder))


def holder(run: str) -> str:
    """Return a lease holder's name, which tells whether its process still lives on this machine."""
    return f"{run}@{os.uname().nodename}:{os.getpid()}"


def _is_gone(name: str) -> bool:
    """Whether the holder ran on this machine and its process has ended: a killed run frees its lease at once."""
    _, _, place = name.rpartition("@")
    node, _, pid = place.rpartition(":")
    if node != os.uname().nodename or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _entry(row: Any) -> Entry:  # Any: SQLAlchemy's row mapping
    return Entry(
        seq=row["seq"],
        run=row["run"],
        change=Change(**row["change"]),
        intended_at=row["intended_at"],
        status=row["status"],
        settled_at=row["settled_at"],
        target=row["target"],
        error=row["error"],
        request_id=row["request_id"],
    )


def _private(path: Path) -> None:
    """Create the file for its owner alone; it holds customers' data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _: object) -> None:  # Any: the driver's connection
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)


def _cause(error: Exception) -> str:
    origin = error.orig if isinstance(error, OperationalError) else error
    return str(origin).splitlines()[0] if str(origin) else type(error).__name__
