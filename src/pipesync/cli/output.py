"""Printing: text for people on the terminal, one JSON document or CSV for programs, news on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipesync.cli.options import verbosity
from pipesync.errors import PipesyncError

if TYPE_CHECKING:
    from rich.console import RenderableType

Entry = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Result:
    """What one connection's part of a command came to: for programs, and for people."""

    entry: Entry
    view: tuple[RenderableType, ...] = ()
    code: int = 0
    """The exit code that it alone asks for."""


def each(names: Sequence[str], work: Callable[[str], Result]) -> list[Result]:
    """Do the work per connection. One connection's failure becomes its entry's `error`; the others go on.

    The failure of an only connection is raised: there is nothing to go on with.
    """
    results = []
    for name in names:
        try:
            results.append(work(name))
        except PipesyncError as error:
            if len(names) == 1:
                raise
            results.append(Result({"error": str(error)}, code=error.exit_code))
    return results


def gather(
    outcomes: Mapping[str, Any], work: Callable[[str, Any], Result]
) -> list[Result]:  # Any: an outcome
    """Do the same for outcomes that are there already, some of which may be errors."""

    def one(name: str) -> Result:
        if isinstance(outcomes[name], PipesyncError):
            raise outcomes[name]
        return work(name, outcomes[name])

    return each(list(outcomes), one)


def finish(
    names: Sequence[str],
    results: Sequence[Result],
    form: str,
    *,
    csv: tuple[str, Sequence[str]] | None = None,
    more: Mapping[str, Any] | None = None,  # Any: JSON
    code: int = 0,
) -> NoReturn:
    """Print the results and end the command, with `code` where no connection asks for another.

    `csv` names the entries' list that becomes rows, and its columns.
    """
    entries: list[Entry] = [
        {"connection": name, **result.entry} for name, result in zip(names, results, strict=True)
    ]
    if form != "text":
        key, columns = csv or ("", ())
        rows = [{"connection": e["connection"]} | row for e in entries for row in e.get(key, ())]
        emit(form, {"connections": entries} | dict(more or {}), rows, columns)
    else:
        for i, (entry, result) in enumerate(zip(entries, results, strict=True)):
            show(*([""] if i else []), *result.view) if "error" not in entry else None
    for entry in entries:
        if "error" in entry:
            click.echo(f"Error: {entry['connection']}: {entry['error']}", err=True)
    click.get_current_context().exit(exit_code(results) or code)


def emit(
    form: str,
    document: Mapping[str, Any],
    rows: Sequence[Entry] = (),
    columns: Sequence[str] = (),  # Any: JSON
) -> None:
    """Print the document as JSON, or its rows as CSV."""
    from pipesync.report.encode import to_csv, to_json

    if form == "csv":
        click.echo(to_csv(rows, columns), nl=False)
    else:
        click.echo(to_json(document))


def exit_code(results: Sequence[Result]) -> int:
    """Return 0 or the worst; 4 where a connection failed and another one did not."""
    broken = [r.code for r in results if "error" in r.entry]
    if broken and len(broken) < len(results):
        return 4
    return max((r.code for r in results), default=0)


def show(*parts: RenderableType) -> None:
    """Print for people: colours on a terminal only, and a steady width where nobody sees the window."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    # What stands in the CRM is shown as it stands there, be it `[/b]` or `:x:`.
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    for part in parts:
        console.print(part)


def note(message: str) -> None:
    """Tell people something beside the results, unless they asked for quiet."""
    if verbosity(click.get_current_context()) >= 0:
        click.echo(message, err=True)
