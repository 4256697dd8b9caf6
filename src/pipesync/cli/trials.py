"""`pipesync rules backtest`, `diff` and `score`: what rules would have done, what an edit would do, where we stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source, example, formatted, reading

if TYPE_CHECKING:
    from pipesync.config import Config
    from pipesync.rules import RuleSet
    from pipesync.rules.scores import Scope


@click.command(epilog=example("pipesync rules backtest hygiene.close_date_past --since 6w --data exports"))
@click.argument("ids", nargs=-1, metavar="[RULE]..")
@reading
@click.option(
    "--since", default="26w", show_default=True, metavar="D", help="How far back: 26w, 180d; weeks are whole."
)
@formatted("json", "csv")
def backtest(source: Source, ids: tuple[str, ...], since: str, form: str) -> None:
    """Replay rules over past weeks, from history alone, and tell what became of what they flagged.

    A field whose past nobody kept makes a rule unknown, and is named. Intervals are of 95%.
    """
    from pipesync.cli.opening import reading_from, usable_rules
    from pipesync.cli.output import Result, each, finish
    from pipesync.cli.progress import progress
    from pipesync.config import parse_duration
    from pipesync.errors import InputError, Problem
    from pipesync.report import trials
    from pipesync.rules.backtest import backtest as replay

    weeks = parse_duration(since).days // 7
    if not 1 <= weeks <= 208:
        raise InputError(Problem(f"--since {since} is not from 1 to 208 weeks", fix="write 26w"))
    with reading_from(source) as opened, progress() as step:
        ruleset = usable_rules(opened.config, ids)

        def work(name: str) -> Result:
            found = replay(
                opened.warehouse, name, opened.config_of(name).calendar, list(ruleset),
                until=opened.as_of(name), weeks=weeks, progress=lambda done: step(f"{name}: weeks", done),
            )  # fmt: skip
            return Result(trials.replayed(found), trials.replay_view(found))

        results = each(opened.connections, work)
        finish(opened.connections, results, form, csv=("rules", ("connection", *trials.REPLAY_KEYS)))


@click.command(epilog=example("pipesync rules score --by owner --data exports"))
@reading
@click.option(
    "--by",
    type=click.Choice(("company", "team", "owner", "opportunity")),
    default="company",
    show_default=True,
    help="Whose score.",
)
@click.option("--limit", default=20, show_default=True, help="How many the text shows.")
@formatted("json", "csv")
def score(source: Source, by: Scope, limit: int, form: str) -> None:
    """Show hygiene from 0 to 100, its trend over 28 days, and which rules take most; the worst first."""
    from pipesync.cli.opening import reading_from, usable_rules
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import trials
    from pipesync.rules.examination import examine
    from pipesync.rules.scores import scores

    with reading_from(source) as opened:
        ruleset = usable_rules(opened.config)

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            seen = examine(
                opened.warehouse, name, opened.config_of(name), ruleset, as_of, standing=opened.standing(name)
            )
            episodes = opened.ledger.episodes(name) if opened.ledger else []
            found = scores(opened.warehouse, seen.evaluation.findings, episodes, as_of, by)
            return Result(trials.scored(found, as_of), trials.score_view(name, found, limit))

        results = each(opened.connections, work)
        finish(opened.connections, results, form, csv=("scores", ("connection", *trials.SCORE_KEYS)))


@click.command(epilog=example("pipesync rules diff pipesync.yaml pipesync.yaml --data exports"))
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@reading
@click.option("--limit", default=20, show_default=True, help="How many findings the text shows.")
@click.option("--format", "form", type=click.Choice(("text", "json", "markdown")), default="text", show_default=True,
              help="Of the output.")  # fmt: skip
def diff(source: Source, old: Path, new: Path, limit: int, form: str) -> None:
    """Show what would open, close and change if NEW took the place of OLD, on the pipeline as it is now.

    Each is a configuration, a folder of rules, or one rule file. `markdown` is for a comment on a pull request.
    """
    from pipesync.analysis import stages
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.features import compute
    from pipesync.report import trials
    from pipesync.rules.difference import compare

    with reading_from(source) as opened:
        before, after = (_rules_of(path, opened.config) for path in (old, new))

        def work(name: str) -> Result:
            as_of, calendar = opened.as_of(name), opened.config_of(name).calendar
            features = compute(opened.warehouse, name, as_of, calendar)
            found = compare(
                opened.warehouse, features, before, after,
                stages=stages.analyse(opened.warehouse, name, as_of, calendar),
                max_percent_of_open=opened.config.breaker.max_percent_of_open,
            )  # fmt: skip
            if form == "markdown":
                return Result({}, (trials.difference_markdown(found, limit),))
            return Result(trials.difference(found), trials.difference_view(found, limit))

        results = each(opened.connections, work)
        if form == "markdown":
            click.echo("\n".join(str(part) for r in results for part in r.view))
            return
        finish(opened.connections, results, form)


def _rules_of(path: Path, config: Config) -> RuleSet:
    """Return the rules of a configuration, of a folder of rules or of one rule file; InputError where one is wrong."""
    from pipesync.config import load as load_config
    from pipesync.rules import RuleSet, load
    from pipesync.rules.format import load_rule, read_rule
    from pipesync.rules.ruleset import rule_files
    from pipesync.yamlsource import read

    if path.is_dir():
        found = [load_rule(file, path) for file in rule_files(path).values()]
        return RuleSet({r.id: r for r in found})
    document = read(path)
    if isinstance(document.data, dict) and "rule" in document.data:
        rule = read_rule(document, path)
        return RuleSet({rule.id: rule})
    return load(load_config(path).model_copy(update={"connections": config.connections}), strict=True)
