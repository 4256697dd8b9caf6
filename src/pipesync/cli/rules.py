"""`pipesync rules`: what sales ops does with rules before they go live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipesync.cli.authoring import docs_, eject, new, schema_
from pipesync.cli.effects import EFFECTS, effect_cells, effect_entry, effects_of
from pipesync.cli.options import Source, configured, example, formatted, reading
from pipesync.cli.trials import backtest, diff, score

if TYPE_CHECKING:
    from pipesync.rules import RuleSet
    from pipesync.rules.mutation import Campaign


@click.group(epilog=example("pipesync rules list"))
def rules() -> None:
    """Write, check, test, explain and rehearse the rules."""


rules.add_command(new)
rules.add_command(eject)
rules.add_command(schema_)
rules.add_command(docs_)
rules.add_command(backtest)
rules.add_command(diff)
rules.add_command(score)


@rules.command("list", epilog=example("pipesync rules list"))
@configured
@formatted("json", "csv")
def list_(source: Source, form: str) -> None:
    """List the rules that run, with what each came to so far.

    How often it fired, how many of its tasks people acted on, and how many of the opportunities that it fired on were
    lost, of those decided since; the base rate is that of all decided ones. What does not matter can be switched off.
    """
    from pipesync.cli.opening import optional_configuration
    from pipesync.cli.output import emit, show
    from pipesync.report.draw import grid
    from pipesync.rules import load
    from pipesync.rules.conditions import as_text

    config = optional_configuration(source)
    ruleset = load(config, strict=True)
    known, base = effects_of(config, source)
    if form == "text":
        rows = [[rule.id, rule.severity, rule.title, *effect_cells(known.get(rule.id))] for rule in ruleset]
        headers = ["rule", "severity", "what", ">fired", ">open", ">tasks", ">acted on", ">then lost"]
        show(grid(headers, rows))
        if base is not None:
            show(f"of everything that is decided {base:.0%} were lost")
        return
    keys = ("id", "title", "status", "severity", "level", "source", "params", *EFFECTS)
    listed = [
        {key: getattr(rule, key) for key in keys[:5]}
        | {
            "source": ruleset.sources[rule.id],
            "params": {name: as_text(value) for name, value in rule.params.items()},
        }
        | effect_entry(known.get(rule.id))
        for rule in ruleset
    ]
    emit(form, {"rules": listed, "base_rate_lost": base}, listed, keys)


@rules.command(epilog=example("pipesync rules lint"))
@configured
@click.option("--strict", is_flag=True, help="Take warnings as errors.")
@formatted("json")
def lint(source: Source, strict: bool, form: str) -> None:
    """Check every rule file, and all of each: keys, fields, operators, parameters, texts, cases.

    After a pull the stages, pipelines, owners, teams and custom fields that rules name are held against the CRM's own.
    """
    from pipesync.cli.opening import optional_configuration, words
    from pipesync.cli.output import emit
    from pipesync.report import documents
    from pipesync.rules.linting import lint as look

    config = optional_configuration(source)
    told_words, checked = words(config, source)
    found = look(config, told_words)
    errors = (*found.problems, *(found.warnings if strict else ()))
    warnings = () if strict else found.warnings
    if form == "json":
        told = [documents.problem(p) for p in errors] + [documents.problem(p, "warning") for p in warnings]
        told += [documents.problem(p, "note") for p in found.notes]
        emit(form, {"rules": len(found.rules), "problems": told, "checked_against": checked})
    else:
        for problem in errors:
            click.echo(f"{problem}\n", err=True)
        for problem in warnings:
            click.echo(f"Warning: {problem}\n", err=True)
        for problem in found.notes:
            click.echo(f"Note: {problem}\n", err=True)
        against = (
            f"; names held against {', '.join(checked)}" if checked else "; no pull yet to hold names against"
        )
        said = _count(len(errors), "mistake") if errors else f"{len(found.rules)} rules are fine"
        click.echo(f"{said}{', ' + _count(len(warnings), 'warning') if warnings else ''}{against}")
    click.get_current_context().exit(2 if errors else 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@rules.command(epilog=example("pipesync rules test", "pipesync rules test hygiene.stale_commit"))
@click.argument("ids", nargs=-1, metavar="[ID]..")
@configured
@click.option(
    "--mutants", is_flag=True, help="Also change one operator or threshold at a time: does a case notice?"
)
@formatted("json")
def test(source: Source, ids: tuple[str, ...], mutants: bool, form: str) -> None:
    """Run the cases that the rules carry; 1 where one fails.

    With --mutants, 1 also where the cases notice less than 95% of the changes; those that they miss are listed.
    """
    from rich.text import Text

    from pipesync.cli.opening import optional_configuration
    from pipesync.cli.output import emit, show
    from pipesync.report.draw import Row, grid
    from pipesync.rules import load
    from pipesync.rules.cases import run
    from pipesync.rules.playbooks import run_cases

    ruleset = load(optional_configuration(source), strict=True)
    chosen = ruleset.only(ids) if ids else ruleset
    results = run(chosen)
    if not ids:
        results += run_cases(ruleset.playbooks.values())
    failed = [r for r in results if not r.passed]
    tried = _mutants(chosen) if mutants and not failed else None
    code = 1 if failed or (tried and tried.killed < 0.95) else 0
    if form == "json":
        cases = [
            {"rule": r.rule, "case": r.case, "expected": r.expected, "got": r.got, "passed": r.passed}
            for r in results
        ]
        told: dict[str, Any] = {"cases": cases, "passed": len(results) - len(failed), "failed": len(failed)}
        if tried:
            told["mutants"] = {"total": tried.total, "killed": tried.killed, "survivors": tried.survivors}
        emit(form, told)
    else:
        if failed:
            rows: list[Row] = [[Text(str(r.place), "red"), r.case, r.expected, r.got] for r in failed]
            show(grid(["where", "case", "expected", "got"], rows), "")
        click.echo(f"{len(results) - len(failed)} cases passed, {len(failed)} failed")
        if tried:
            click.echo(f"{tried.killed:.1%} of {tried.total:,} changes noticed")
            for survivor in tried.survivors:
                click.echo(f"    not noticed: {survivor}")
    click.get_current_context().exit(code)


def _mutants(ruleset: RuleSet) -> Campaign:
    from pipesync.cli.progress import progress
    from pipesync.rules.mutation import campaign

    with progress() as step:
        return campaign(ruleset, progress=lambda done: step("mutants", done))


@rules.command(
    "show",
    epilog=example(
        "pipesync rules show hygiene.stale_commit", "pipesync rules show hygiene.stale_commit --resolved"
    ),
)
@click.argument("rule_id", metavar="ID")
@configured
@click.option("--resolved", is_flag=True, help="What is in force here, and where each value comes from.")
@formatted("json")
def show_rule(source: Source, rule_id: str, resolved: bool, form: str) -> None:
    """Print a rule's file, or what is in force of it."""
    from pipesync.cli.opening import optional_configuration
    from pipesync.cli.output import emit, show
    from pipesync.report.draw import grid
    from pipesync.rules import load
    from pipesync.rules.resolved import resolve

    ruleset = load(optional_configuration(source))
    rule = ruleset[rule_id]
    values = list(resolve(rule))
    if form == "json":
        told = [dict(v._asdict()) for v in values]
        emit(
            form,
            {"rule": rule.id, "source": ruleset.sources[rule.id], "file": str(rule.file), "values": told},
        )
    elif resolved:
        click.echo(f"{rule.id}: {rule.title}\nfrom {ruleset.sources[rule.id]}\n")
        show(grid(["what", "in force", "from", ""], [list(v) for v in values]))
    else:
        click.echo(rule.document.text.rstrip())
        changed = [
            f"{v.key.removeprefix('params.')} = {v.value}" for v in values if v.key.startswith("params.")
        ]
        if changed:
            click.echo(f"\n# in force here: {', '.join(changed)}")


@rules.command(epilog=example("pipesync rules explain hygiene.close_date_past OPP-000017 --data exports"))
@click.argument("rule_id", metavar="RULE")
@click.argument("subject", metavar="OPPORTUNITY")
@reading
@formatted("json")
def explain(source: Source, rule_id: str, subject: str, form: str) -> None:
    """Show why a rule fires on an opportunity, or why not: every condition with its value, computed anew.

    OPPORTUNITY is its id or its name; for portfolio rules an owner's id, a team's name, PIPELINE/STAGE and so on.
    """
    from pipesync.analysis import stages
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.features import compute
    from pipesync.report import documents, views
    from pipesync.rules import explanation
    from pipesync.rules.examination import load_rules

    with reading_from(source) as opened:
        ruleset = load_rules(opened.config)

        def work(name: str) -> Result:
            as_of, calendar = opened.as_of(name), opened.config_of(name).calendar
            features = compute(opened.warehouse, name, as_of, calendar)
            table = None
            if ruleset[rule_id].level == "stage":
                table = stages.analyse(opened.warehouse, name, as_of, calendar)
            told = explanation.explain(
                opened.warehouse, features, ruleset, rule_id, subject, stages=table,
                currency=opened.currency(name),
            )  # fmt: skip
            return Result(documents.explained(told), views.explained(told))

        finish(opened.connections, each(opened.connections, work), form)
