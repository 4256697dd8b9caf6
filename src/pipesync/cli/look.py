"""The commands that look and change nothing: check, bottlenecks."""

from __future__ import annotations

import click

from pipesync.cli.options import Source, example, formatted, reading, strictly, where


@click.command(epilog=example("pipesync check --data exports"))
@reading
@click.option("--rule", "only", multiple=True, metavar="ID", help="Only this rule.")
@click.option(
    "--fail-on",
    type=click.Choice(["info", "low", "medium", "high", "critical"]),
    help="Exit with 1 where a finding is at least this severe.",
)
@click.option("--limit", default=12, show_default=True, help="How many findings the text shows.")
@strictly
@formatted("json", "csv")
def check(
    source: Source, only: tuple[str, ...], fail_on: str | None, limit: int, strict: bool, form: str
) -> None:
    """Run the rules and list what they find.

    A rule file that is wrong is told of and stops no other; the exit code is then 4.
    """
    from pipesync.cli.opening import reading_from, usable_rules
    from pipesync.cli.output import Result, each, finish
    from pipesync.model import SEVERITIES
    from pipesync.report import documents, views
    from pipesync.rules.examination import examine

    least = [s for s in SEVERITIES if s == fail_on]
    severe = SEVERITIES[SEVERITIES.index(least[0]) :] if least else ()
    with reading_from(source) as opened:
        ruleset = usable_rules(opened.config, only, strict=strict, told=opened.words())

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            seen = examine(
                opened.warehouse, name, opened.config_of(name), ruleset, as_of, standing=opened.standing(name)
            )
            found = seen.evaluation.findings
            view = (
                views.heading(
                    name, f"as of {as_of:%Y-%m-%d %H:%M} UTC · score {seen.evaluation.score:.0f} of 100"
                ),
                views.rules(seen.evaluation),
                "",
                views.findings(found, limit),
            )
            code = 1 if any(f.severity in severe for f in found) else 4 if ruleset.problems else 0
            return Result(documents.checked(seen.evaluation, as_of), view, code)

        finish(
            opened.connections,
            each(opened.connections, work),
            form,
            csv=("findings", documents.FINDING_KEYS),
            more={"problems": [documents.problem(p) for p in ruleset.problems]},
        )


@click.command(epilog=example("pipesync bottlenecks --data exports"))
@reading
@where
@click.option(
    "--period", metavar="P", help="Only stays that began in 2026-Q3, 2026-09 or 2026-09-01..2026-10-01."
)
@formatted("json", "csv")
def bottlenecks(source: Source, parts: tuple[str, ...], period: str | None, form: str) -> None:
    """Show where revenue waits, comes back or leaks, and why.

    The most valuable to mend comes first, each with what its amount is made of; then how the stages are walked, and
    what differs from the quarter before or between segments by more than chance.
    """
    from pipesync.analysis import scope
    from pipesync.analysis.bottlenecks import find
    from pipesync.analysis.comparison import between_segments, with_period_before
    from pipesync.analysis.flow import flows
    from pipesync.analysis.processmap import process_map
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.features import compute
    from pipesync.forecast.periods import parse_period
    from pipesync.report import documents, process, views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            calendar = opened.config_of(name).calendar
            asked = parse_period(period, calendar) if period else None
            warehouse, as_of = opened.warehouse, opened.as_of(name)
            as_of = min(as_of, asked.ends_at) if asked else as_of
            computed = compute(warehouse, name, as_of, calendar)
            scope.narrow(warehouse, computed, scope.parse_where(parts), asked.starts_at if asked else None)
            found = find(warehouse, name, as_of, calendar)
            differences = {
                "period_before": () if asked else with_period_before(warehouse, computed),
                "segments": between_segments(warehouse, computed),
            }
            walked, waiting = process_map(warehouse, computed), flows(warehouse, computed)
            told = [
                f"as of {as_of:%Y-%m-%d %H:%M} UTC",
                *parts,
                *([f"stays begun in {asked}"] if asked else []),
            ]
            view = (
                views.heading(name, ", ".join(told)),
                views.bottlenecks(found, opened.currency(name)),
                "",
                process.walked(walked, waiting),
                process.differences(differences),
            )
            entry = documents.bottlenecks(found, as_of) | documents.process(walked, waiting, differences)
            return Result(entry, view)

        results = each(opened.connections, work)
        finish(opened.connections, results, form, csv=("stages", ("connection", *documents.STAGE_KEYS)))
