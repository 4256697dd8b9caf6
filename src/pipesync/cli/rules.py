"""`pipesync rules`: what sales ops does with rules before they go live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source, configured, example, formatted

if TYPE_CHECKING:
    from pipesync.config import Config


@click.group(epilog=example("pipesync rules list"))
def rules() -> None:
    """List, check and test the rules."""


@rules.command("list", epilog=example("pipesync rules list"))
@configured
@formatted("json", "csv")
def list_(source: Source, form: str) -> None:
    """List the rules that run, with their severity and where they come from."""
    from pipesync.cli.output import emit, show
    from pipesync.report.draw import grid
    from pipesync.rules import load
    from pipesync.rules.conditions import as_text

    ruleset = load(_configuration(source), strict=True)
    if form == "text":
        rows = [[rule.id, rule.severity, rule.level, rule.title] for rule in ruleset]
        show(grid(["rule", "severity", "level", "what"], rows))
        return
    keys = ("id", "title", "status", "severity", "level", "source", "params")
    listed = [
        {key: getattr(rule, key) for key in keys[:5]}
        | {
            "source": ruleset.sources[rule.id],
            "params": {name: as_text(value) for name, value in rule.params.items()},
        }
        for rule in ruleset
    ]
    emit(form, {"rules": listed}, listed, keys)


@rules.command(epilog=example("pipesync rules lint"))
@configured
@formatted("json")
def lint(source: Source, form: str) -> None:
    """Check every rule file: keys, fields, operators, parameters, texts."""
    from pipesync.cli.output import emit
    from pipesync.errors import InputError
    from pipesync.rules import load

    ruleset = load(_configuration(source))
    if form == "json":
        found = [
            {
                "file": p.place.file,
                "line": p.place.line,
                "column": p.place.column,
                "message": p.message,
                "fix": p.fix,
            }
            for p in ruleset.problems
            if p.place
        ]
        emit(form, {"rules": len(ruleset), "problems": found})
        click.get_current_context().exit(2 if ruleset.problems else 0)
    if ruleset.problems:
        raise InputError(*ruleset.problems)
    click.echo(f"{len(ruleset)} rules are fine")


@rules.command("test", epilog=example("pipesync rules test"))
@configured
@click.option("--rule", "only", multiple=True, metavar="ID", help="Only this rule.")
@formatted("json")
def test_(source: Source, only: tuple[str, ...], form: str) -> None:
    """Run the rules' own cases."""
    from pipesync import rules as library
    from pipesync.cli.output import emit

    ruleset = library.load(_configuration(source), strict=True)
    results = library.test(ruleset.only(only) if only else ruleset)
    failed = [r for r in results if not r.passed]
    if form == "json":
        keys = ("rule", "case", "expected", "got")
        told = [{k: getattr(r, k) for k in keys} | {"passed": r.passed} for r in results]
        emit(form, {"cases": told, "failed": len(failed)})
    else:
        for r in failed:
            click.echo(
                f"{r.place}: {r.rule}: {r.case}\n    expected {r.expected}\n    got      {r.got}", err=True
            )
        click.echo(f"{len(results) - len(failed)} of {len(results)} cases of {len(ruleset)} rules pass")
    click.get_current_context().exit(2 if failed else 0)


@rules.command(epilog=example("pipesync rules test", "pipesync rules test hygiene.stale_commit"))
@click.argument("ids", nargs=-1, metavar="[ID]..")
@configured
@formatted("json")
def test(source: Source, ids: tuple[str, ...], form: str) -> None:
    """Run the cases that the rules carry; 1 where one fails."""
    from rich.text import Text

    from pipesync.cli.output import emit, show
    from pipesync.report.draw import Row, grid
    from pipesync.rules import load
    from pipesync.rules.cases import run

    ruleset = load(_configuration(source), strict=True)
    results = run(ruleset.only(ids) if ids else ruleset)
    failed = [r for r in results if not r.passed]
    if form == "json":
        cases = [
            {"rule": r.rule, "case": r.case, "expected": r.expected, "got": r.got, "passed": r.passed}
            for r in results
        ]
        emit(form, {"cases": cases, "passed": len(results) - len(failed), "failed": len(failed)})
    else:
        if failed:
            rows: list[Row] = [[Text(str(r.place), "red"), r.case, r.expected, r.got] for r in failed]
            show(grid(["where", "case", "expected", "got"], rows), "")
        click.echo(f"{len(results) - len(failed)} cases passed, {len(failed)} failed")
    click.get_current_context().exit(1 if failed else 0)


@rules.command("show", epilog=example("pipesync rules show hygiene.stale_commit"))
@click.argument("rule_id", metavar="ID")
@configured
def show_rule(source: Source, rule_id: str) -> None:
    """Print a rule's file, and the parameters that hold here."""
    from pipesync.rules import load

    rule = load(_configuration(source), strict=True)[rule_id]
    click.echo(rule.document.text.rstrip())
    if rule.params:
        click.echo(
            "\n# in force here: " + ", ".join(f"{name} = {value}" for name, value in rule.params.items())
        )


def _configuration(source: Source) -> Config | None:
    """Return the configuration; None, for the recommended preset, where there is no file and none was asked for."""
    from pipesync.config import DEFAULT_FILE, load

    if source.config is None and not DEFAULT_FILE.exists():
        return None
    return load(source.config or DEFAULT_FILE)
