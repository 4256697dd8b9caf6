"""The commands that look and change nothing: check, bottlenecks."""

from __future__ import annotations

import click

from pipesync.cli.options import Source, example, formatted, reading, strictly


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
    """Run the rules over the warehouse and list what they find.

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
        ruleset = usable_rules(opened.config, only, strict=strict)

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            seen = examine(
                opened.warehouse, name, opened.config, ruleset, as_of, standing=opened.standing(name)
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
@formatted("json", "csv")
def bottlenecks(source: Source, form: str) -> None:
    """Show where revenue waits, comes back or leaks, and why.

    The most valuable to mend comes first.
    """
    from pipesync import sync
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import documents, views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            found = sync.find_bottlenecks(opened.warehouse, name, opened.config, as_of)
            currency = opened.currency(name)
            view = (
                views.heading(name, f"as of {as_of:%Y-%m-%d %H:%M} UTC"),
                views.bottlenecks(found, currency),
            )
            return Result(documents.bottlenecks(found, as_of), view)

        results = each(opened.connections, work)
        finish(opened.connections, results, form, csv=("stages", ("connection", *documents.STAGE_KEYS)))
