"""`pipesync report`: the pipeline as one HTML file, for people who look."""

from __future__ import annotations

from pathlib import Path

import click

from pipesync.cli.options import Source, example, formatted, reading


@click.command(epilog=example("pipesync report --data exports --out pipeline.html"))
@reading
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("pipeline.html"), show_default=True,
    help="The file; its lists as CSV come beside it.",
)  # fmt: skip
@click.option(
    "--for", "audience", metavar="WHOM", default="leader", show_default=True,
    help="leader, manager:ID or rep:ID; the report holds only what that person may see.",
)  # fmt: skip
@click.option(
    "--period", metavar="P", help="2026-Q4, 2026-11 or 2026-11-01..2026-12-01 (default: the current one)."
)
@formatted("json")
def report(source: Source, out: Path, audience: str, period: str | None, form: str) -> None:
    """Write the report that people open on Monday.

    One HTML file that needs no network and no server. It shows what the other commands say and calculates nothing
    itself.
    """
    from pipesync import reporting
    from pipesync.cli.opening import reading_from, usable_rules
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import views
    from pipesync.report.html import write
    from pipesync.report.material import Material

    with reading_from(source) as opened:
        ruleset = usable_rules(opened.config)
        names = reporting.who_knows(opened.warehouse, opened.connections, audience)
        made: list[Material] = []

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            one = reporting.survey(
                opened.warehouse, name, opened.config, ruleset, as_of, opened.ledger, audience=audience, period=period
            )  # fmt: skip
            made.append(one)
            entry = {"as_of": as_of, "opportunities": len(one.rows), "findings": len(one.findings)}
            counted = f"{len(one.rows):,} opportunities, {len(one.findings):,} findings"
            detail = f"as of {as_of:%Y-%m-%d %H:%M} UTC: {counted}"
            return Result(entry, (views.heading(name, detail),))

        results = each(names, work)
        files = write(made, out) if made else []
        if files:
            last = results[-1]
            results[-1] = Result(last.entry, (*last.view, f"written to {files[0]}"), last.code)
        finish(
            names,
            results,
            form,
            more={"report": str(out) if files else None, "files": [str(f) for f in files]},
        )
