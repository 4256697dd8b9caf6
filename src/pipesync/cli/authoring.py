"""`pipesync rules new`, `eject`, `schema` and `docs`: files that ops write, and what helps them to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source, configured, example

if TYPE_CHECKING:
    from pipesync.rules.editor import Json

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(
    epilog=example(
        'pipesync rules new site.large_and_quiet --title "Large and quiet" --why "It is worth a call." '
        "--severity medium --field days_since_last_activity --operator gte --value 10"
    )
)
@click.argument("rule_id", metavar="[ID]", required=False)
@configured
@click.option("--title", help="What is wrong, in a few words.")
@click.option("--why", help="Why it matters, for those who get the task.")
@click.option(
    "--severity",
    type=click.Choice(["info", "low", "medium", "high", "critical"]),
    help="How bad it is.",
)
@click.option("--field", metavar="FIELD", help="A column of docs/features.md.")
@click.option("--operator", metavar="OP", help="eq, gte, missing, older_than, ...")
@click.option("--value", metavar="VALUE", help="What the field is compared with.")
@click.option("--task", default="", help="What is to be done about it; without, the rule makes no task.")
@click.option("--folder", type=_FOLDER, default=Path("rules"), show_default=True, help="Of the site's rules.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def new(
    rule_id: str | None,
    source: Source,
    title: str | None,
    why: str | None,
    severity: str | None,
    field: str | None,
    operator: str | None,
    value: str | None,
    task: str,
    folder: Path,
    force: bool,
) -> None:
    """Write a new rule with its cases, asking for what the options do not say."""
    from datetime import date

    from pipesync.config import DEFAULT_FILE
    from pipesync.rules import authoring

    rule_id = rule_id or click.prompt("Id, such as site.large_and_quiet", err=True)
    base = (source.config or DEFAULT_FILE).parent
    path = authoring.place_of(rule_id, base / folder)
    _refuse_to_overwrite(path, force)
    title = title or click.prompt("What is wrong, in a few words", err=True)
    why = why or click.prompt("Why it matters", err=True)
    severity = severity or click.prompt(
        "Severity",
        type=click.Choice(["info", "low", "medium", "high", "critical"]),
        default="medium",
        err=True,
    )
    field = field or click.prompt("Field (docs/features.md lists them)", err=True)
    column = authoring.check_field(field)
    operator = operator or click.prompt(
        "Operator",
        type=click.Choice(authoring.offered(column)),
        default=authoring.offered(column)[0],
        err=True,
    )
    value = value or click.prompt("Value", default="true" if operator == "missing" else None, err=True)
    answers = authoring.Answers(rule_id, title, why, severity, field, operator, value, task)  # type: ignore[arg-type]  # click's choice
    text = authoring.write_rule(answers, date.today())  # noqa: DTZ011  # a day to think of, as people say it
    _write(path, text)
    _settle(source, base, folder)
    click.echo(f"Next: pipesync rules lint, then pipesync rules test {rule_id}", err=True)


@click.command(epilog=example("pipesync rules eject hygiene.stale_commit"))
@click.argument("rule_id", metavar="ID")
@configured
@click.option("--folder", type=_FOLDER, default=Path("rules"), show_default=True, help="Of the site's rules.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def eject(rule_id: str, source: Source, folder: Path, force: bool) -> None:
    """Make an editable copy of a shipped rule, which takes its place.

    Parameters, severity and segments are tuned in pipesync.yaml without a copy; a copy gets no updates.
    """
    from pipesync._paths import shipped
    from pipesync.config import DEFAULT_FILE
    from pipesync.errors import InputError, Problem
    from pipesync.rules import authoring
    from pipesync.rules.format import load_rule
    from pipesync.rules.ruleset import rule_files
    from pipesync.yamlsource import nearest

    files = rule_files(shipped("rules"))
    if rule_id not in files:
        raise InputError(Problem(f"no rule {rule_id!r} ships", fix=nearest(rule_id, files)))
    base = (source.config or DEFAULT_FILE).parent
    path, text = authoring.ejected(load_rule(files[rule_id], shipped("rules")), base / folder)
    _refuse_to_overwrite(path, force)
    _write(path, text)
    _settle(source, base, folder)


@click.command("schema", epilog=example("pipesync rules schema --out rules/schema.json"))
@configured
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
def schema_(source: Source, out: Path | None) -> None:
    """Print the JSON Schema of rule files, with the names of the connected CRM after a pull.

    Editors complete fields, operators, stages and custom fields from it.
    """
    text = json.dumps(_schema(source), indent=1, ensure_ascii=False)
    if out is None:
        click.echo(text)
    else:
        _write(out, text + "\n")


@click.command("docs", epilog=example("pipesync rules docs --out rule-pages"))
@configured
@click.option("--out", type=_FOLDER, required=True, help="The folder to write the pages to.")
def docs_(source: Source, out: Path) -> None:
    """Write a page for every rule that runs here, as it is in force, and a README that lists them."""
    from pipesync.cli.opening import optional_configuration
    from pipesync.rules import load, pages

    ruleset = load(optional_configuration(source), strict=True)
    for name, text in pages.pages(ruleset).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    click.echo(f"{len(ruleset)} rules in {out}", err=True)


def _schema(source: Source) -> Json:
    from pipesync.cli.opening import optional_configuration, words
    from pipesync.rules.editor import schema

    told, _ = words(optional_configuration(source), source)
    return schema(told.narrow) if told else schema()


def _refuse_to_overwrite(path: Path, force: bool) -> None:
    from pipesync.errors import InputError, Place, Problem

    if path.exists() and not force:
        raise InputError(
            Problem("is there already", Place(str(path)), "edit it, or write over it with --force")
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path}", err=True)


def _settle(source: Source, base: Path, folder: Path) -> None:
    """Make the configuration read the folder, and put the editor's schema there where it has none."""
    from pipesync.config import DEFAULT_FILE
    from pipesync.rules import authoring

    file = source.config or DEFAULT_FILE
    if file.exists():
        text = authoring.with_folder(file, folder)
        if text is not None:
            file.write_text(text, encoding="utf-8")
            click.echo(f"added `rule_folders: [{folder.as_posix()}]` to {file}", err=True)
    if not (base / folder / "schema.json").exists():
        _write(
            base / folder / "schema.json", json.dumps(_schema(source), indent=1, ensure_ascii=False) + "\n"
        )
