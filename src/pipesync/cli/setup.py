"""The commands that come first: init makes a working folder, doctor says what is missing, install-fields adds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source, configured, example, formatted, loud

if TYPE_CHECKING:
    from pipesync.adapters.base import Check

_HEAD = """\
# pipesync.yaml: which CRMs, what may be written, which rules. Every key but `connections` has a default;
# docs/configuration.md lists them all. Secrets never stand here: name the variable or the file that holds one.
version: 1
extends: ["pipesync:recommended"]   # twelve rules on opportunities and two on stages; `pipesync rules list`

# observe: reports only.  propose: `pipesync plan`, and people run `pipesync apply`.  enforce: `pipesync sync` applies.
mode: observe

connections:
"""
_CONNECTIONS = {
    "files": """\
  exports:
    adapter: files
    data: exports                   # a folder with opportunities.csv, stage_history.csv, ... (CSV or Parquet)
    outbox: outbox                  # where tasks.csv and forecasts.csv are written
    write: {enabled: false, tasks: true, forecasts: true}
""",
    "salesforce": """\
  salesforce:
    adapter: salesforce
    url: https://YOURDOMAIN.my.salesforce.com
    client_id: THE-CONSUMER-KEY-OF-YOUR-APP
    client_secret_env: SALESFORCE_CLIENT_SECRET
    write: {enabled: false, tasks: true, forecasts: true}
""",
    "hubspot": """\
  hubspot:
    adapter: hubspot
    token_env: HUBSPOT_TOKEN        # of a private app with the scopes of adapters/hubspot/scopes.yaml
    write: {enabled: false, tasks: true, forecasts: true}
""",
}
_TAIL = """
calendar:
  timezone: UTC                     # business days and due dates are counted in it
  holidays: []
  fiscal_year_starts: 1             # the month

budget:
  open_tasks_per_owner: 8           # the worst and most valuable come first
  new_tasks_per_owner_per_run: 3

# rules:
#   hygiene.no_next_step: off
#   hygiene.no_activity: {severity: low, params: {idle_days: 21}}
# suppressions:
#   - {rule: hygiene.amount_missing, opportunity: "006...", until: 2027-01-31, reason: "priced by the partner"}
"""
_NEXT = {
    "files": "put your exports into {folder}/exports (adapters/files/README.md lists the columns)",
    "salesforce": "fill in the connection in {folder}/pipesync.yaml and set SALESFORCE_CLIENT_SECRET",
    "hubspot": "fill in the connection in {folder}/pipesync.yaml and set HUBSPOT_TOKEN",
}


@click.command(epilog=example("pipesync init work --adapter files"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--adapter", type=click.Choice(list(_CONNECTIONS)), required=True, help="What the pipeline is kept in."
)
@click.option("--force", is_flag=True, help="Overwrite a pipesync.yaml that is there.")
@loud
def init(folder: Path, adapter: str, force: bool) -> None:
    """Make a working folder with a commented pipesync.yaml.

    It extends the shipped preset and mapping, and lets nothing be written yet.
    """
    from pipesync.errors import InputError, Place, Problem

    file = folder / "pipesync.yaml"
    if file.exists() and not force:
        raise InputError(
            Problem("is there already", Place(str(file)), "edit it, or overwrite it with --force")
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(_HEAD + _CONNECTIONS[adapter] + _TAIL, encoding="utf-8")
    if adapter == "files":
        (folder / "exports").mkdir(exist_ok=True)
    click.echo(f"wrote {file}\n\nNext:")
    for number, step in enumerate(
        (_NEXT[adapter].format(folder=folder), f"cd {folder} && pipesync doctor", "pipesync pull && pipesync plan"), 1
    ):  # fmt: skip
        click.echo(f"  {number}. {step}")


@click.command(epilog=example("pipesync doctor"))
@configured
@formatted("json")
def doctor(source: Source, form: str) -> None:
    """Check sign-in, fields, permissions and limits; rules, stores, schedule and notices. Each failure has its mend."""
    from pipesync import checkup
    from pipesync.adapters import open_adapter
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, each, finish, show
    from pipesync.report import views
    from pipesync.sync import now

    config, names = configuration(source)

    def entry(found: Sequence[Check]) -> list[dict[str, str]]:
        return [{"name": c.name, "status": c.status, "detail": c.detail, "fix": c.fix} for c in found]

    def work(name: str) -> Result:
        adapter = open_adapter(name, config.connections[name], config.folder)
        try:
            found = list(adapter.checks())
            if not any(check.status == "failed" and check.name == "sign-in" for check in found):
                found += checkup.beside(config, adapter.connection().timezone, adapter.clock(), now(), found)
        finally:
            adapter.close()
        code = 3 if any(c.status == "failed" for c in found) else 0
        return Result({"checks": entry(found)}, (views.heading(name), outcomes.checks_view(found)), code)

    results = each(names, work)
    whole = list(checkup.checks(config, now()))
    if form == "text":
        show(views.heading("installation"), outcomes.checks_view(whole), "")
    finish(
        names, results, form, more={"installation": entry(whole)},
        code=2 if any(c.status == "failed" for c in whole) else 0,
    )  # fmt: skip


@click.command(epilog=example("pipesync install-fields --dry-run"))
@click.option("--dry-run", is_flag=True, help="Say what would be created, and create nothing.")
@configured
@formatted("json")
def install_fields(source: Source, form: str, dry_run: bool) -> None:
    """Create pipesync's own fields in the CRM.

    In HubSpot it looks at the portal's limit first, creates what is missing and leaves the rest as it is. It needs more
    rights than any other command: use a key for it alone, and delete that key afterwards. For Salesforce it prints the
    deploy command.
    """
    from pipesync.adapters import open_adapter
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import views

    config, names = configuration(source)

    def work(name: str) -> Result:
        adapter = open_adapter(name, config.connections[name], config.folder)
        try:
            found = adapter.install_fields(dry_run=dry_run)
        finally:
            adapter.close()
        entry = {"installed": [{"what": i.what, "status": i.status, "detail": i.detail} for i in found]}
        return Result(entry, (views.heading(name), outcomes.installed_view(found)))

    finish(names, each(names, work), form)
