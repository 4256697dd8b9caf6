"""The command line: parse, one library call, render.

Command modules import click and nothing heavy; what a command needs is imported when it runs, so that
`pipesync --help` answers at once. Errors become one message and an exit code here and nowhere else.
"""

from __future__ import annotations

import os
from typing import Any

import click

from pipesync import __version__
from pipesync.cli.analyze import analyze
from pipesync.cli.cycle import apply, plan, pull, status, sync, undo
from pipesync.cli.demo import demo
from pipesync.cli.forecast import forecast
from pipesync.cli.generated import docs
from pipesync.cli.keeping import backup, forget, restore
from pipesync.cli.look import bottlenecks, check
from pipesync.cli.notices import digest
from pipesync.cli.options import verbosity
from pipesync.cli.records import audit, suppressions
from pipesync.cli.report import report
from pipesync.cli.rules import rules
from pipesync.cli.sandbox import sandbox
from pipesync.cli.schedule import schedule
from pipesync.cli.setup import doctor, init, install_fields
from pipesync.errors import PipesyncError


class Failure(click.ClickException):
    """A domain error on its way to the terminal."""

    def __init__(self, message: str, exit_code: int) -> None:
        from pipesync.secrecy import redacted

        super().__init__(redacted(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


class Commands(click.Group):
    """The root group, which also is the one place where errors become messages."""

    def invoke(self, ctx: click.Context) -> Any:  # Any: as click declares it
        mask = os.umask(0o077)  # whatever a command writes is of customers, and its owner's alone
        ctx.call_on_close(lambda: os.umask(mask))
        try:
            return super().invoke(ctx)
        except PipesyncError as error:
            if verbosity(ctx) > 0:
                raise
            raise Failure(str(error), error.exit_code) from error
        except (
            click.ClickException,
            click.exceptions.Exit,
            click.Abort,
            OSError,
            KeyboardInterrupt,
        ) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise Failure(f"{error.filename}: {error.strerror}", PipesyncError.exit_code) from error
            raise
        except Exception as error:
            if verbosity(ctx) > 0:
                raise
            if type(error).__name__ == "OutOfMemoryException":  # DuckDB's, which not every command loads
                raise Failure(
                    "the warehouse's memory is too small for this: raise `memory` under `store:` in the "
                    "configuration, say to 2GB",
                    PipesyncError.exit_code,
                ) from error
            raise Failure(
                f"pipesync failed in a way it should not ({type(error).__name__}).\n"
                "    Run the same command with -v and report what it prints, without customers' data.",
                PipesyncError.exit_code,
            ) from error


@click.group(
    cls=Commands,
    commands=[
        demo, sandbox, init, doctor, install_fields, pull, check, bottlenecks, analyze, forecast, report, plan, apply,
        undo, sync, status, rules, suppressions, audit, schedule, digest, backup, restore, forget, docs,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(__version__, message="pipesync %(version)s")
def main() -> None:
    """Keeps a CRM's sales pipeline honest.

    \b
    Try it:    pipesync demo
    Start:     pipesync init . --adapter files
    """
