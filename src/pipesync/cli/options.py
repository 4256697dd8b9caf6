"""Options that commands share, and the value they are parsed into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

Command = Callable[..., Any]  # Any: a command takes what its options declare
F = TypeVar("F", bound=Command)
_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Source:
    """Where a command's facts come from: a configuration, or a dataset folder read on the fly."""

    config: Path | None
    connections: tuple[str, ...] = ()
    data: Path | None = None
    mapping: Path | None = None
    as_of: str | None = None


def verbosity(ctx: click.Context) -> int:
    """Return what -q (-1) and -v (1) of the running command add up to."""
    return int(ctx.find_root().meta.get("pipesync.verbosity", 0))


def _set_verbosity(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
    if value:
        ctx.find_root().meta["pipesync.verbosity"] = -1 if parameter.name == "quiet" else value


def loud(command: F) -> F:
    """Add -q and -v."""
    for option in (
        click.option(
            "-v", "--verbose", count=True, expose_value=False, callback=_set_verbosity, help="Show tracebacks."
        ),
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_verbosity, help="Only results and errors."
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def configured(
    command: Callable[..., Any],
) -> Callable[..., Any]:  # Any: click commands take what they declare
    """Add --config and --connection; the command gets them as `source`."""

    @functools.wraps(command)
    def wrapped(*args: Any, config: Path | None, connection: tuple[str, ...], **rest: Any) -> Any:
        return command(*args, source=Source(config, connection), **rest)

    return _configured(loud(wrapped))


def reading(command: Command) -> Command:
    """Add what every reading command takes: a configuration or a folder, connections and a moment."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        config: Path | None,
        connection: tuple[str, ...],
        data: Path | None,
        mapping: Path | None,
        as_of: str | None,
        **rest: Any,
    ) -> Any:
        return command(*args, source=Source(config, connection, data, mapping, as_of), **rest)

    result: Command = loud(wrapped)
    for option in (
        click.option("--as-of", metavar="TIME", help="The moment to speak of (default: the last complete pull)."),
        click.option("--mapping", type=_FILE, help="With --data: how its columns are to be read."),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            help="Read this dataset folder instead; needs no configuration.",
        ),
    ):  # fmt: skip
        result = option(result)
    return _configured(result)


def _configured(command: Command) -> Command:
    for option in (
        click.option(
            "--connection", multiple=True, metavar="NAME", help="Only this connection (default: all)."
        ),
        click.option("--config", type=_FILE, help="The configuration (default: pipesync.yaml)."),
    ):
        command = option(command)
    return command


def where(command: Command) -> Command:
    """Add --where; the command gets its texts as `parts`."""
    return click.option(
        "--where",
        "parts",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only this part, such as segment=enterprise.",
    )(command)


def formatted(*formats: str) -> Callable[[F], F]:
    """Add --format with these choices, `text` first."""
    choices = click.Choice(("text", *formats))
    return click.option(
        "--format", "form", type=choices, default="text", show_default=True, help="Of the output."
    )


def strictly(command: F) -> F:
    """Add --strict, for commands that run rules."""
    return click.option(
        "--strict", is_flag=True, help="Stop where a rule file is wrong, instead of running the others."
    )(command)


def example(*lines: str) -> str:
    """Return the end of a command's help; tests run these lines."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
