"""Databases for the ledger's tests: a file, and a PostgreSQL server of the test's own where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from pipesync.store.ledger import Ledger

_NUMBERS = count()


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs: Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


def _unprivileged() -> str | None:
    """The user to run as: PostgreSQL refuses root. None: as we are."""
    if os.geteuid() != 0:
        return None
    known = {p.pw_name for p in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), "nobody")


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[str]:
    """The socket folder of a server that lives as long as the tests."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) is not installed")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pipesync-pg-"))
    as_user: dict[str, object] = {}
    if user:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_user,  # type: ignore[call-overload]  # the user to run as, where we are root
        )

    try:
        run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield str(folder)
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that nothing was written to yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    socket = request.getfixturevalue("postgres_socket")
    name = f"ledger_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(host=socket, user="tester", dbname="postgres", autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"postgresql://tester@/{name}?host={socket}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as opened:
        yield opened
