"""`pipesync forecast`: what will close, how good that would have been, and how good it was."""

from __future__ import annotations

from dataclasses import asdict

import click

from pipesync.cli.options import Source, example, formatted, reading


@click.group(invoke_without_command=True, epilog=example("pipesync forecast --period 2026-Q4"))
@reading
@click.option(
    "--period", metavar="P", help="2026-Q4, 2026-11 or 2026-11-01..2026-12-01 (default: the current one)."
)
@formatted("json", "csv")
@click.pass_context
def forecast(ctx: click.Context, source: Source, period: str | None, form: str) -> None:
    """Say what will be won in a period, with an honest interval."""
    if ctx.invoked_subcommand:
        if source != Source(None):
            raise click.UsageError(f"give the options after `{ctx.invoked_subcommand}`")
        return
    from pipesync import sync
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import documents, views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            made = sync.foretell(opened.warehouse, name, opened.config, as_of, period)
            detail = f"{made.period.start} to {made.period.end} (not included), as of {as_of:%Y-%m-%d}"
            view = (views.heading(name, detail), views.forecast(made, opened.owners(name)))
            return Result(documents.forecast(made, as_of), view)

        results = each(opened.connections, work)
        columns = ("id", "win_probability", "win_in_period", "expected_amount", "expected_close")
        finish(opened.connections, results, form, csv=("opportunities", ("connection", *columns)))


@forecast.command(epilog=example("pipesync forecast backtest --origins 2026-09-01 --horizon 28d"))
@reading
@click.option(
    "--origins", metavar="D,D..", help="Days to forecast from (default: every week the history allows)."
)
@click.option("--horizon", default="28d", show_default=True, help="How far each of them looks.")
@formatted("json", "csv")
def backtest(source: Source, origins: str | None, horizon: str, form: str) -> None:
    """Say how good the forecast would have been.

    From every origin only what was known then is used; the methods that people use today are held beside it.
    """
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.config import parse_duration, parse_moment
    from pipesync.forecast.backtest import run
    from pipesync.report import views

    days = [parse_moment(text.strip()) for text in origins.split(",")] if origins else None
    ahead = parse_duration(horizon)
    with reading_from(source) as opened:

        def work(name: str) -> Result:
            done = run(opened.warehouse, name, opened.config.calendar, origins=days, horizon=ahead)
            entry = {
                "horizon_days": ahead.days,
                "origins": [asdict(one) for one in done.origins],
                "metrics": done.metrics,
                "intervals": done.intervals,
                "close_date": done.close_date,
                "evidence": done.evidence,
                "left_out": done.left_out,
            }
            return Result(entry, (views.heading(name, f"{ahead.days} days ahead"), *views.backtest(done)))

        columns = ("connection", "origin", "actual", "p10", "p50", "p90", "mean", "rung", "open")
        finish(opened.connections, each(opened.connections, work), form, csv=("origins", columns))


@forecast.command(epilog=example("pipesync forecast accuracy"))
@reading
@formatted("json", "csv")
def accuracy(source: Source, form: str) -> None:
    """Say how good the forecasts were that `sync` and `apply` have issued."""
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.forecast.accuracy import score, summarise
    from pipesync.report import views

    keys = ("scope", "scope_id", "week", "count", "wape", "bias", "coverage_80")
    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            issued = opened.ledger.issued(name) if opened.ledger else []
            zone = opened.config.calendar.timezone
            records = summarise(score(opened.warehouse, name, issued, known_at=as_of, timezone=zone))
            rows = [asdict(record) for record in records]
            said = (
                views.rows(rows, keys) if rows else "no period for which a forecast was issued has ended yet"
            )
            return Result(
                {"as_of": as_of, "issued": len(issued), "accuracy": rows}, (views.heading(name), said)
            )

        finish(
            opened.connections, each(opened.connections, work), form, csv=("accuracy", ("connection", *keys))
        )
