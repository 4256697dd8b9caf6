"""The commands about what is kept: backup, restore, forget."""

from __future__ import annotations

from pathlib import Path

import click

from pipesync.cli.options import Source, configured, example, formatted

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(epilog=example("pipesync backup monday.zip"))
@click.argument("file", type=_FILE)
@configured
@click.option("--force", is_flag=True, help="Overwrite the file.")
@formatted("json")
def backup(file: Path, source: Source, force: bool, form: str) -> None:
    """Save both stores to one FILE, also while a sync runs.

    Secrets are not in it; what the CRM says of customers is. The file is readable by you alone.
    """
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import emit
    from pipesync.runlog import now
    from pipesync.store.backups import back_up

    config, _ = configuration(source)
    made = back_up(config.warehouse, config.ledger_url, file, at=now(), replace=force)
    if form == "json":
        emit(form, {"file": file, **made.as_entry()})
    else:
        click.echo(f"saved to {file}: {made.told()}")


@click.command(epilog=example("pipesync backup monday.zip", "pipesync restore monday.zip --force"))
@click.argument("file", type=_FILE)
@configured
@click.option("--force", is_flag=True, help="Replace the stores that are there.")
@formatted("json")
def restore(file: Path, source: Source, force: bool, form: str) -> None:
    """Put the stores of a backup FILE in place.

    A ledger goes from SQLite to PostgreSQL this way, too: back up, change `store.ledger`, restore.
    """
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import emit
    from pipesync.runlog import now
    from pipesync.store import backups

    config, _ = configuration(source)
    found = backups.restore(file, config.warehouse, config.ledger_url, now=now(), replace=force)
    if form == "json":
        emit(form, {"file": file, **found.as_entry()})
    else:
        click.echo(f"restored from {file} of {found.made_at:%Y-%m-%d %H:%M} UTC: {found.told()}")


@click.command(epilog=example("pipesync forget --owner USR-001 --yes"))
@configured
@click.option("--owner", required=True, metavar="ID", help="The person's id in the CRM.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@formatted("json")
def forget(source: Source, owner: str, yes: bool, form: str) -> None:
    """Take a person out of both stores, as the law may ask.

    A pseudonym takes the place of their id, so that sums stay right; name and address go, in every text. Delete or
    anonymise them in the CRM first: what it still tells, the next pull brings again. Backups are yours to delete.
    """
    from pipesync import sync
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, finish, gather
    from pipesync.report import views
    from pipesync.store.erasure import Forgotten

    config, names = configuration(source)
    if not yes:
        click.confirm(
            f"Forget owner {owner} in {', '.join(names)}? This cannot be taken back.", abort=True, err=True
        )

    done = sync.forget(config, names, owner)

    def render(name: str, one: Forgotten) -> Result:
        said = (
            ", ".join(f"{count:,} of {table}" for table, count in sorted(one.rows.items())) or "no other rows"
        )
        lines = [f"now {one.pseudonym}; rewritten: {said}"]
        if one.is_in_crm:
            lines.append("the last pull still had them: the next one brings back what the CRM still tells")
        entry = {"pseudonym": one.pseudonym, "rows": dict(one.rows), "is_in_crm": one.is_in_crm}
        return Result(entry, (views.heading(name), *lines))

    finish(tuple(done), gather(done, render), form)
