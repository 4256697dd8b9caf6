"""What the ledger keeps for people: every write (`audit`), and what ops silenced (`suppressions`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipesync.cli.options import Source, configured, example, formatted

if TYPE_CHECKING:
    from pipesync.config import Suppression
    from pipesync.store.ledger import Ledger


@click.command(epilog=example("pipesync audit --out writes.csv"))
@configured
@click.option("--run", "run", metavar="RUN", help="Only the writes of this run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, for its owner's eyes alone.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("csv", "json")),
    default="csv",
    show_default=True,
    help="Of the output.",
)
def audit(source: Source, run: str | None, out: Path | None, form: str) -> None:
    """Export every write that was ever intended, for auditors.

    What, why, when, by which run, and what the CRM said.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    import os

    from pipesync.apply import export
    from pipesync.cli.opening import configuration, open_ledger
    from pipesync.report.encode import to_json

    config, names = configuration(source)
    entries = []
    if ledger := open_ledger(config):
        if run is not None:
            ledger.run(run)  # says so where there is none
        entries = [e for name in names for e in ledger.journal(name) if run in (None, e.run)]
    text = export(entries) if form == "csv" else to_json({"writes": [dict(e) for e in entries]}) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    with os.fdopen(os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    click.echo(f"{len(entries):,} writes in {out}", err=True)


@click.group(epilog=example("pipesync suppressions list"))
def suppressions() -> None:
    """Silence findings until a day; see what is silenced.

    Each with its reason, and who gave it.
    """


@suppressions.command(
    "add",
    epilog=example(
        'pipesync suppressions add hygiene.amount_missing --until 2030-01-31 --reason "priced by the partner"'
    ),
)
@click.argument("rule")
@configured
@click.option(
    "--until", required=True, metavar="DAY", help="The last day on which it holds, such as 2027-01-31."
)
@click.option("--reason", required=True, help="Why; it stands in the task that goes away, and in the audit.")
@click.option("--opportunity", metavar="ID", help="Only this opportunity.")
@click.option("--owner", metavar="ID", help="Only this owner's opportunities.")
@click.option("--by", default="", metavar="NAME", help="Who decided it.  [default: the signed-in user]")
def add(
    source: Source, rule: str, until: str, reason: str, opportunity: str | None, owner: str | None, by: str
) -> None:
    """Silence RULE, or every rule (`*`): its tasks go away with the next run, and come back after the last day."""
    from pipesync.cli.opening import configuration
    from pipesync.errors import InputError, Problem
    from pipesync.rules.examination import load_rules
    from pipesync.runlog import now
    from pipesync.yamlsource import nearest

    config, names = configuration(source)
    known = load_rules(config).rules
    if rule != "*" and rule not in known:
        raise InputError(Problem(f"no rule {rule!r} is on", fix=nearest(rule, known)))
    entered = _suppression(
        rule=rule, until=until, reason=reason, opportunity=opportunity, owner=owner, by=by or _user()
    )
    with _ledger(config) as ledger:
        for name in names:
            number = ledger.suppress(name, entered, now())
            click.echo(f"{name}: suppression {number}, until {entered.until}")


@suppressions.command("list", epilog=example("pipesync suppressions list --format json"))
@configured
@click.option("--expired", is_flag=True, help="Also those whose day is past.")
@formatted("json", "csv")
def list_(source: Source, expired: bool, form: str) -> None:
    """List what is silenced: by ops in the ledger and in pipesync.yaml, and by reps who put a task off."""
    from pipesync.cli.opening import configuration, open_ledger
    from pipesync.cli.output import Result, finish
    from pipesync.plan.calendars import local_date
    from pipesync.report import views
    from pipesync.report.draw import grid
    from pipesync.runlog import now

    config, names = configuration(source)
    today = local_date(now(), config.zone)
    ledger = open_ledger(config)
    keys = ("number", "source", "rule", "opportunity", "owner", "until", "reason", "by")
    results = []
    for name in names:
        found = [_row(s, None, "pipesync.yaml") for s in config.suppressions]
        if ledger:
            found += [_row(s, n, "ledger") for n, s in ledger.numbered_suppressions(name).items()]
            found += [
                {
                    "number": None, "source": "snooze", "rule": " ".join(f.rules), "opportunity": f.opportunity_id,
                    "owner": f.owner_id, "until": f.rests_until, "reason": f.note, "by": f.owner_id or "",
                }
                for f in ledger.fates(name)
                if f.rests_until
            ]  # fmt: skip
        kept = [row for row in found if expired or row["until"] >= today]
        rows = [["" if row[k] is None else str(row[k]) for k in keys] for row in kept]
        view = grid(list(keys), rows) if rows else "nothing is silenced"
        results.append(Result({"suppressions": kept}, (views.heading(name), view)))
    finish(names, results, form, csv=("suppressions", ("connection", *keys)))


@suppressions.command(
    "end",
    epilog=example(
        'pipesync suppressions add "*" --owner 005000000000001 --until 2030-01-31 --reason "on parental leave"',
        "pipesync suppressions end 1",
    ),
)
@click.argument("number", type=int)
@configured
def end(source: Source, number: int) -> None:
    """End a suppression of the ledger before its day."""
    from pipesync.cli.opening import configuration
    from pipesync.errors import InputError, Problem
    from pipesync.runlog import now

    config, names = configuration(source)
    with _ledger(config) as ledger:
        holding = [name for name in names if number in ledger.numbered_suppressions(name)]
        if not holding:
            raise InputError(
                Problem(
                    f"no suppression {number}",
                    fix="`pipesync suppressions list` shows those that can be ended",
                )
            )
        ledger.end_suppression(holding[0], number, now())
    click.echo(f"{holding[0]}: suppression {number} is ended")


def _row(one: Suppression, number: int | None, where: str) -> dict[str, Any]:  # Any: JSON
    return {"number": number, "source": where, **one.model_dump()}


def _suppression(**given: Any) -> Suppression:  # Any: texts, checked here
    from pydantic import ValidationError

    from pipesync.config import Suppression
    from pipesync.errors import InputError, Problem

    try:
        return Suppression.model_validate(given)
    except ValidationError as error:
        problems = [
            Problem(
                f"--{e['loc'][0]}: {e['msg']}",
                fix="give a day such as 2027-01-31, and a reason of some words",
            )
            for e in error.errors(include_url=False)
        ]
        raise InputError(*problems) from None


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user of that number
        return ""


def _ledger(config: Any) -> Ledger:  # Any: Config, imported where it is used
    from pipesync.store.ledger import Ledger

    return Ledger(config.ledger_url)
