"""The configured connections: opened, worked on side by side, and pulled into the one warehouse.

Here is no more than a pull needs, so that one loads neither rules nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter, Pulled
from pipesync.config import Config
from pipesync.errors import PipesyncError
from pipesync.people import lay_over
from pipesync.pull import Announce, pull, written_since
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.store.ledger import Ledger

T = TypeVar("T")
Step = Callable[[str, int], None]


def silent(what: str, done: int) -> None:
    """Progress that nobody looks at."""


def side_by_side(names: Sequence[str], work: Callable[[str], T]) -> dict[str, T | PipesyncError]:
    """Do the work of every connection, several at a time; a failure stays with its connection."""

    def guarded(name: str) -> T | PipesyncError:
        try:
            return work(name)
        except PipesyncError as error:
            return error

    if len(names) == 1:
        return {names[0]: guarded(names[0])}
    with ThreadPoolExecutor(max_workers=min(4, len(names))) as pool:
        return dict(zip(names, pool.map(guarded, names), strict=True))


@contextmanager
def opened(config: Config, name: str) -> Iterator[Adapter]:
    adapter = open_adapter(name, config.connections[name], config.folder)
    try:
        yield adapter
    finally:
        adapter.close()


def pull_all(
    config: Config,
    names: Sequence[str],
    *,
    full: bool = False,
    progress: Step = silent,
    announce: Announce | None = None,
    ledger: Ledger | None = None,
) -> dict[str, dict[str, Pulled] | PipesyncError]:
    """Pull connections into the configured warehouse and publish it; return `Pulled` per stream, or the error.

    What the `ledger` says that we wrote is not read again for it.
    """
    # A page at a time is stored while the CRM is waited for: one thread does that as soon, with less CPU and memory.
    with Warehouse(config.warehouse, memory=config.store.memory, threads=1) as warehouse:

        def work(name: str) -> dict[str, Pulled]:
            with warehouse.session() as session, opened(config, name) as adapter:
                if full:
                    session.forget_kept(name)
                found = pull(
                    adapter,
                    session,
                    full=full,
                    progress=lambda s, n: progress(f"{name}: {s}", n),
                    announce=(lambda s, e: announce(f"{name}: {s}", e)) if announce else None,
                    written=written_since(session, ledger, name, datetime.now(UTC)) if ledger else None,
                )
                lay_over(session, name, config)
                return found

        outcomes = side_by_side(names, work)
        warehouse.publish()
    return outcomes
