"""One run at a time writes to a connection: a lease in the ledger, which outlives its process and expires.

A run that was killed leaves its lease behind. Where the holder can be seen to be dead (same machine, no such
process) the next run takes over at once; elsewhere it waits for the lease to expire.
"""

from __future__ import annotations

import os
import platform
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from pipesync.errors import StoreError
from pipesync.store.ledger.tables import leases, runs

UNSAID = {"why": "it ended without a word"}
"""What is told of a run that was killed."""


class LeaseTaken(StoreError):
    """Another run is writing to this connection."""


def take(transaction: sa.Connection, connection: str, run: str, now: datetime, ttl: timedelta) -> bool:
    """Enter this process as the connection's only writer until `now + ttl`; LeaseTaken where another one is.

    Return whether it was entered now: a step of a run that holds the lease already takes, and releases, nothing.
    """
    found = transaction.execute(sa.select(leases).where(leases.c.connection == connection)).one_or_none()
    if found and found.expires_at > now:
        if (found.run, found.holder) == (run, _holder()):
            return False
        if not _is_dead(found.holder):
            raise LeaseTaken(
                f"run {found.run} is writing to {connection!r} (since {found.taken_at:%Y-%m-%d %H:%M} UTC); "
                f"wait for it to end. Its lease expires at {found.expires_at:%H:%M} UTC"
            )
    # Only what was seen is taken away: a lease that another process entered or renewed since then stays (PostgreSQL),
    # and the primary key lets one of two through.
    if found:
        same = (leases.c.run == found.run, leases.c.expires_at == found.expires_at)
        transaction.execute(leases.delete().where(leases.c.connection == connection, *same))
        was_killed = (runs.c.id == found.run, runs.c.id != run, runs.c.status == "running")
        transaction.execute(runs.update().where(*was_killed).values(status="failed", detail=UNSAID))
    try:
        transaction.execute(
            leases.insert().values(
                connection=connection, run=run, holder=_holder(), taken_at=now, expires_at=now + ttl
            )
        )
    except sa.exc.IntegrityError:
        raise LeaseTaken(
            f"another run has just begun to write to {connection!r}; wait for it to end"
        ) from None
    return True


def refuse_live(transaction: sa.Connection, now: datetime) -> None:
    """LeaseTaken where any connection is being written to."""
    for found in transaction.execute(sa.select(leases)):
        if found.expires_at > now and not _is_dead(found.holder):
            raise LeaseTaken(f"run {found.run} is writing to {found.connection!r}; wait for it to end")


def renew(transaction: sa.Connection, connection: str, run: str, now: datetime, ttl: timedelta) -> None:
    """Move the expiry on; LeaseTaken where the lease was lost, because this run slept past it."""
    done = transaction.execute(
        leases.update()
        .where(leases.c.connection == connection, leases.c.run == run)
        .values(expires_at=now + ttl)
    )
    if not done.rowcount:
        raise LeaseTaken(
            f"run {run} lost its lease on {connection!r} to another run; what is left is not written"
        )


def release(transaction: sa.Connection, connection: str, run: str) -> None:
    transaction.execute(leases.delete().where(leases.c.connection == connection, leases.c.run == run))


def _holder() -> str:
    return f"{_machine()} {os.getpid()}"


def _is_dead(holder: str) -> bool:
    """Whether the holder ran on this very machine, where process ids can be asked about, and is gone."""
    machine, _, process = holder.rpartition(" ")
    if machine != _machine() or not process.isdigit() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Name what shares our process ids: a container has its own, and so has every boot."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{platform.node()}/{boot.read_text(encoding='ascii').strip()}/{namespace.readlink()}"
    except OSError:  # not Linux
        return platform.node()
