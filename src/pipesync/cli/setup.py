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
""",
    "salesforce": """\
  salesforce:
    adapter: salesforce
    url: {url}
    client_id: {client_id}
    client_secret_env: {secret_env}   # or username and private_key_file, for JWT: adapters/salesforce/README.md
""",
    "hubspot": """\
  hubspot:
    adapter: hubspot
    token_env: {secret_env}         # a service key with the scopes of adapters/hubspot/scopes.yaml
""",
}
_ELSEWHERE = "    url: {url}                      # a stand-in; HubSpot's own address needs no line\n"
_MAPPED = "    mapping: {file}           # proposed from what the CRM says of itself; yours to correct\n"
_WRITE = "    write: {enabled: false, tasks: true, forecasts: true}   # nothing is written until enabled\n"
_SECRETS = {"files": "", "salesforce": "SALESFORCE_CLIENT_SECRET", "hubspot": "HUBSPOT_TOKEN"}
_TAIL = """
calendar:
  timezone: {timezone}              # business days and due dates are counted in it
  holidays: []
  # country: PL                     # whose public holidays are no business days: PL, DE-BY, ...
{fiscal}
store:
  keep: 3 years                     # what was closed longer ago leaves both stores with each sync

budget:
  open_tasks_per_owner: 8           # the worst and most valuable come first
  new_tasks_per_owner_per_run: 3

# notify:                           # docs/how-to/operate.md
#   digest: {{to_env: PIPESYNC_DIGEST, weekday: monday, hour: 7}}
#   failures: {{to_env: PIPESYNC_ALERTS}}
# rules:
#   hygiene.no_next_step: off
#   hygiene.no_activity: {{severity: low, params: {{idle_days: 21}}}}
# suppressions:
#   - {{rule: hygiene.amount_missing, opportunity: "006...", until: 2027-01-31, reason: "priced by the partner"}}
"""
_FIRST = {
    "files": "put your exports into {folder}/exports (adapters/files/README.md lists the columns)",
    "salesforce": "set {secret_env} in the environment, and look over the connection in {folder}/pipesync.yaml",
    "hubspot": "set {secret_env} in the environment, and look over the connection in {folder}/pipesync.yaml",
}


@click.command(
    epilog=example("pipesync init work --adapter files", "pipesync init . --adapter files --map --force")
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--adapter", type=click.Choice(list(_CONNECTIONS)), help="What the pipeline is kept in.")
@click.option("--url", help="Salesforce: the org's My Domain. HubSpot: a stand-in's address.")
@click.option("--client-id", help="Salesforce: the app's consumer key.")
@click.option("--secret-env", help="The variable that holds the client secret, or HubSpot's token.")
@click.option("--timezone", help="In which business days are counted, such as Europe/Warsaw.")
@click.option("--fiscal-year-starts", type=click.IntRange(1, 12), help="The month.")
@click.option(
    "--map", "mapping", is_flag=True, help="Ask the CRM for its fields and stages, and propose a mapping."
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@loud
def init(
    folder: Path,
    adapter: str | None,
    url: str | None,
    client_id: str | None,
    secret_env: str | None,
    timezone: str | None,
    fiscal_year_starts: int | None,
    mapping: bool,
    force: bool,
) -> None:
    """Make a working folder with a commented pipesync.yaml.

    It extends the shipped preset and mapping, and lets nothing be written yet. On a terminal it asks for what is not
    given. With --map it signs in and writes mapping.yaml: your own fields, stages with their phases, and segments.
    """
    import sys

    asks = sys.stdin.isatty()
    file = folder / "pipesync.yaml"
    _may_write(file, asks=asks, force=force)
    if adapter is None:
        if not asks:
            raise click.UsageError("give --adapter files, salesforce or hubspot")
        adapter = click.prompt("What is the pipeline kept in?", type=click.Choice(list(_CONNECTIONS)))
    assert adapter is not None  # noqa: S101  # given or asked for
    ask = click.prompt if asks else lambda text, default: default
    if adapter == "salesforce":
        url = url or ask("The org's My Domain", default="https://YOURDOMAIN.my.salesforce.com")
        client_id = client_id or ask("The app's consumer key", default="THE-CONSUMER-KEY-OF-YOUR-APP")
    if adapter != "files":
        secret_env = secret_env or ask("The variable that holds the secret", default=_SECRETS[adapter])
    timezone = timezone or ask("The time zone of business days", default="UTC")
    values = {"url": url, "client_id": client_id, "secret_env": secret_env}
    month = f"  fiscal_year_starts: {fiscal_year_starts or 1}             # the month\n"
    tail = _TAIL.format(timezone=timezone, fiscal=month)
    connection = _CONNECTIONS[adapter].format_map(values)
    if adapter == "hubspot" and url:
        connection += _ELSEWHERE.format_map(values)
    folder.mkdir(parents=True, exist_ok=True)
    if adapter == "files":
        (folder / "exports").mkdir(exist_ok=True)
    if mapping:
        proposed = folder / "mapping.yaml"
        _may_write(proposed, asks=asks, force=force)
        proposed.write_text(_proposal(folder, adapter, _HEAD + connection + tail), encoding="utf-8")
        connection += _MAPPED.format(file=proposed.name)
        click.echo(f"wrote {proposed}")
    text = _HEAD + connection + _WRITE + tail
    _checked(text, folder)
    file.write_text(text, encoding="utf-8")
    click.echo(f"wrote {file}\n\nNext:")
    first = _FIRST[adapter].format(folder=folder, secret_env=secret_env)
    for number, step in enumerate(
        (first, f"cd {folder} && pipesync doctor", "pipesync pull && pipesync plan"), 1
    ):
        click.echo(f"  {number}. {step}")


def _may_write(file: Path, *, asks: bool, force: bool) -> None:
    """Let a file that is there be overwritten only where somebody says so."""
    from pipesync.errors import InputError, Place, Problem

    if not file.exists() or force:
        return
    if not asks or not click.confirm(f"{file} is there already. Overwrite it?", default=False, err=True):
        fix = "edit it, or overwrite it with --force"
        raise InputError(Problem("is there already", Place(str(file)), fix))


def _checked(text: str, folder: Path) -> None:
    """Refuse a value that was given and cannot be, before anything is written."""
    from pipesync.config import from_text

    from_text(text, folder)


def _proposal(folder: Path, adapter: str, text: str) -> str:
    """Sign in, and ask what there is."""
    from pipesync.adapters import open_adapter
    from pipesync.config import from_text
    from pipesync.proposals import propose

    config = from_text(text, folder)
    (name,) = config.connections
    opened = open_adapter(name, config.connections[name], folder)
    try:
        stages = [
            row for page in opened.pull("stages", None, opened.clock()) for row in page.rows.to_pylist()
        ]
        return propose(adapter, stages, opened.site_fields())
    finally:
        opened.close()


@click.command(epilog=example("pipesync doctor"))
@configured
@formatted("json")
def doctor(source: Source, form: str) -> None:
    """Check all that a sync needs; each failure has its mend.

    Sign-in, fields, permissions and limits; rules, stores, schedule and notices.
    """
    from pipesync import checkup
    from pipesync.adapters import open_adapter
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, each, finish, show
    from pipesync.report import views
    from pipesync.runlog import now

    config, names = configuration(source)

    def entry(found: Sequence[Check]) -> list[dict[str, str]]:
        return [{"name": c.name, "status": c.status, "detail": c.detail, "fix": c.fix} for c in found]

    def work(name: str) -> Result:
        adapter = open_adapter(name, config.connections[name], config.folder)
        try:
            found = list(checkup.of_connection(config, adapter, now()))
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
