"""From options to open stores: a configuration with its published warehouse, or a folder pulled on the fly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source
from pipesync.errors import InputError, Problem

if TYPE_CHECKING:
    from datetime import datetime

    from pipesync.config import Config
    from pipesync.model import StandingFinding
    from pipesync.rules import RuleSet
    from pipesync.rules.vocabulary import Vocabulary
    from pipesync.store.ledger import Ledger
    from pipesync.store.warehouse import Warehouse


@dataclass(frozen=True)
class Opened:
    """What a reading command works on. `ledger` is None where nothing was ever recorded."""

    config: Config
    warehouse: Warehouse
    connections: tuple[str, ...]
    ledger: Ledger | None
    as_of_text: str | None

    def as_of(self, connection: str) -> datetime:
        """Return the moment to speak of: the one asked for, else that of the last complete pull."""
        from pipesync.config import parse_moment

        if self.as_of_text:
            return parse_moment(self.as_of_text)
        return self.warehouse.pulled_to(connection)

    def standing(self, connection: str) -> Sequence[StandingFinding]:
        """Return what the ledger knows of earlier findings."""
        return self.ledger.standing_findings(connection) if self.ledger else ()

    def currency(self, connection: str) -> str | None:
        return next((c.currency for c in self.warehouse.connections() if c.connection == connection), None)

    def config_of(self, connection: str) -> Config:
        """Return the configuration with the calendar of the connection's CRM, where ours does not say."""
        from pipesync.steps import config_of

        return config_of(self.config, self.warehouse, connection)

    def words(self) -> Vocabulary:
        """Return the CRMs' own words, which rules are held against."""
        from pipesync.rules.vocabulary import vocabulary

        return vocabulary(self.warehouse, self.connections)

    def owners(self, connection: str) -> dict[str, str]:
        """Return the names of the CRM's users by id."""
        found = self.warehouse.rows(
            "SELECT id, name FROM users WHERE connection = ? AND name <> ''", [connection]
        )
        return dict(found)

    def names(self, connection: str, ids: Iterable[str]) -> dict[str, str]:
        """Return the names of opportunities by id, where they have one."""
        found = self.warehouse.rows(
            "SELECT id, name FROM opportunities WHERE connection = ? AND id IN (SELECT unnest(?)) AND name <> ''",
            [connection, list(ids)],
        )
        return dict(found)


def configuration(source: Source) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration and the connections asked for."""
    from pipesync import config as configs
    from pipesync.yamlsource import nearest

    if source.data is not None:
        return folder_configuration(source), (connection_name(source.data),)
    if source.mapping is not None:
        raise InputError(
            Problem("--mapping needs --data", fix="a connection's mapping is a key of pipesync.yaml")
        )
    config = configs.load(source.config or configs.DEFAULT_FILE)
    for name in source.connections:
        if name not in config.connections:
            raise InputError(Problem(f"no connection {name!r}", fix=nearest(name, config.connections)))
    return config, source.connections or tuple(config.connections)


def optional_configuration(source: Source) -> Config | None:
    """Return the configuration; None, for the recommended preset, where there is no file and none was asked for."""
    from pipesync.config import DEFAULT_FILE, load

    if source.config is None and not DEFAULT_FILE.exists():
        return None
    return load(source.config or DEFAULT_FILE)


def words(config: Config | None, source: Source) -> tuple[Vocabulary | None, list[str]]:
    """Return the words of the connections that were pulled, and their names."""
    from pipesync.rules.vocabulary import vocabulary
    from pipesync.store.opening import published
    from pipesync.store.warehouse import Warehouse

    if config is None or not published(config.warehouse).exists():
        return None, []
    with Warehouse(published(config.warehouse), read_only=True) as warehouse:
        there = {c.connection for c in warehouse.connections()}
        names = [n for n in source.connections or config.connections if n in there]
        return vocabulary(warehouse, names), names


def connection_name(folder: Path) -> str:
    """Name the connection of a dataset folder after the folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name) or "data"


def folder_configuration(source: Source) -> Config:
    """Make the configuration of `--data`: that of --config, where given, with the folder as its one connection."""
    from pipesync import config as configs

    assert source.data is not None  # noqa: S101  # the caller's business
    if not source.data.is_dir():
        raise InputError(Problem(f"no such folder: {source.data}", fix="--data wants a folder of exports"))
    connection = configs.ConnectionConfig(
        adapter="files",
        mapping=source.mapping.resolve() if source.mapping else None,
        options={"data": str(source.data.resolve())},
    )
    connections = {connection_name(source.data): connection}
    if source.config is None:
        return configs.Config(connections=connections, folder=source.data.resolve())
    return configs.load(source.config).model_copy(update={"connections": connections})


@contextmanager
def reading_from(source: Source) -> Iterator[Opened]:
    """Open what a reading command needs; nothing that it does is kept."""
    from pipesync.store.opening import published
    from pipesync.store.warehouse import Warehouse
    from pipesync.twins import counted_once

    config, names = configuration(source)
    with ExitStack() as stack:
        if source.data is not None:
            warehouse = stack.enter_context(Warehouse())
            pull_folder(config, names[0], warehouse)
            yield Opened(config, warehouse, names, None, source.as_of)
            return
        copy = published(config.warehouse)
        if not copy.exists():
            raise InputError(
                Problem(f"nothing is pulled yet ({copy} is missing)", fix="run `pipesync pull` first")
            )
        warehouse = stack.enter_context(Warehouse(copy, read_only=True, memory=config.store.memory))
        stack.enter_context(counted_once(warehouse, config, names))
        yield Opened(config, warehouse, names, open_ledger(config), source.as_of)


def usable_rules(
    config: Config, only: Sequence[str] = (), *, strict: bool = False, told: Vocabulary | None = None
) -> RuleSet:
    """Return the rules that can be read, and tell of those that cannot.

    With the CRM's words, a site's rule that names what the CRM does not have (a stage that was renamed, say) is one of
    those: it would be clear of everything, and close its tasks.
    """
    from pipesync.rules.examination import load_rules

    ruleset = load_rules(config, only, strict=strict, words=told)
    for problem in ruleset.problems:
        click.echo(f"Error: {problem}", err=True)
    if ruleset.problems:
        click.echo("The other rules run; what these found earlier stays as it is.\n", err=True)
    return ruleset


def open_ledger(config: Config) -> Ledger | None:
    """Open the ledger until the command ends, unless it would be a new file: a reading command creates none."""
    file = config.ledger_url.removeprefix("sqlite:///")
    if file != config.ledger_url and not Path(file).exists():
        return None
    from pipesync.store.ledger import Ledger

    ledger = Ledger(config.ledger_url)
    click.get_current_context().call_on_close(ledger.close)
    return ledger


def pull_folder(config: Config, name: str, warehouse: Warehouse) -> None:
    from pipesync.adapters import open_adapter
    from pipesync.people import lay_over
    from pipesync.pull import pull

    adapter = open_adapter(name, config.connections[name], config.folder)
    try:
        pull(adapter, warehouse)
        lay_over(warehouse, name, config)
    finally:
        adapter.close()
