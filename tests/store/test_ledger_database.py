"""Opening a ledger: its schema, its file, and what is said of a database that cannot be one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pipesync.errors import InputError, StoreError
from pipesync.store import ledger as package
from pipesync.store.ledger import Ledger
from pipesync.store.ledger.database import HEAD, open_database
from pipesync.store.ledger.tables import metadata

MIGRATIONS = Path(package.__file__).parents[1] / "migrations"


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def test_migrations_make_exactly_the_tables_that_the_code_uses(url: str) -> None:
    """What a migration forgets, or adds, is found here and not by a user."""
    Ledger(url).close()
    engine = engine_of(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert differences == []


def test_the_head_is_the_last_migration() -> None:
    """Opening compares one constant with the database, which must be the newest migration's name."""
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_ledger_of_a_newer_program_is_refused(url: str) -> None:
    """An old program does not write into a schema that it does not know."""
    Ledger(url).close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(StoreError, match="newer pipesync"):
        Ledger(url)


def test_processes_that_open_a_new_ledger_at_once_share_it(url: str) -> None:
    """Two schedules that start in the same second on an empty database both get a ledger."""
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                Ledger(url).runs()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)

    ends = [os.waitpid(child, 0)[1] for child in children]

    assert ends == [0, 0, 0]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Others on the machine cannot read what was written about customers, in no file of the database."""
    with Ledger(f"sqlite:///{tmp_path / 'new' / 'ledger.db'}") as ledger:
        ledger.runs()
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()}

    assert set(modes.values()) == {0o600}
    assert "ledger.db" in modes


def test_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    """Intents are on disk before the request: write-ahead log, synced with every commit."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger, ledger._engine.connect() as connection:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()

    assert (journal, synchronous) == ("wal", 2)


def test_an_interrupted_opening_leaves_nothing_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a ledger is brought to its schema: the next opening finds one file, and goes on."""

    def interrupt(engine: sa.Engine, revision: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE half_done (n INTEGER)"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipesync.store.ledger.database._migrate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    assert os.listdir(tmp_path) == ["ledger.db"]
    Ledger(f"sqlite:///{tmp_path / 'ledger.db'}").close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Somebody's text file is not overwritten."""
    file = tmp_path / "ledger.db"
    file.write_text("these are my notes, not a database" * 50, encoding="utf-8")

    with pytest.raises(StoreError, match=r"ledger\.db cannot be opened as a ledger"):
        Ledger(f"sqlite:///{file}")

    assert file.read_text(encoding="utf-8").startswith("these are my notes")


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    """A path that cannot be a file is said so."""
    with pytest.raises(StoreError, match="cannot be opened as a ledger"):
        Ledger(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "nonsense", "sqlite+nodriver:///x"])
def test_a_url_that_cannot_be_used_is_an_input_error(url: str) -> None:
    """The message says what to give, and repeats no password."""
    with pytest.raises(InputError, match="postgresql://HOST/DATABASE") as caught:
        Ledger(url)

    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_a_store_error(tmp_path: Path) -> None:
    """The message names the server and hides the password."""
    with pytest.raises(StoreError, match="cannot be opened as a ledger") as caught:
        Ledger(f"postgresql://me:secret@/db?host={tmp_path}")

    assert "secret" not in str(caught.value)


def tables_of(url: str) -> set[str]:
    engine = engine_of(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_every_migration_goes_down_again(url: str) -> None:
    """From the newest schema step by step to none, which leaves no table of ours, and up to what the code uses."""
    order = [r.revision for r in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    ours = {table.name for table in metadata.tables.values()}
    open_database(url).dispose()

    for revision in [*order[1:], "base"]:
        open_database(url, revision).dispose()

    assert tables_of(url) & ours == set()
    open_database(url).dispose()
    assert tables_of(url) >= ours
    engine = engine_of(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
