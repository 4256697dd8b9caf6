"""`pipesync forecast`: what will close, how good that would have been, and how good it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pipesync.cli.options import Source, configured, example, formatted, reading

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipesync.features import Features
    from pipesync.forecast import Forecast
    from pipesync.model import Scope
    from pipesync.store.warehouse import Warehouse

_SCOPES = ("owner", "manager", "team", "product", "source", "segment", "currency", "pipeline")
_period = click.option(
    "--period", metavar="P", help="2026-Q4, 2026-11 or 2026-11-01..2026-12-01 (default: the current one)."
)


@click.group(invoke_without_command=True, epilog=example("pipesync forecast --period 2026-Q4"))
@reading
@_period
@click.option(
    "--target", type=float, metavar="AMOUNT", help="What plans A and B aim at (default: the quota, else P50)."
)
@click.option("--by", type=click.Choice(_SCOPES), help="The side that the text tells it by.")
@formatted("json", "csv")
@click.pass_context
def forecast(
    ctx: click.Context, source: Source, period: str | None, target: float | None, by: Scope | None, form: str
) -> None:
    """Say what will be won in a period, with an honest interval.

    Beside it: simpler methods, quotas with the probability to reach them, the opportunities that carry the number
    (plan A) and those that could be pulled in (plan B), which model speaks and why.
    """
    if ctx.invoked_subcommand:
        if source != Source(None):
            raise click.UsageError(f"give the options after `{ctx.invoked_subcommand}`")
        return
    from pipesync import steps
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.forecast import rollup, targets
    from pipesync.report import documents, leaders, views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            made = steps.foretell(opened.warehouse, name, opened.config, as_of, period)
            quotas = targets.against_quota(
                opened.warehouse, name, made, targets.owners_of(opened.warehouse, name)
            )
            plans = targets.plans_for(made, quotas, target)
            people = opened.owners(name)
            view = [
                views.heading(name, _detail(made)),
                views.forecast(made, people if by is None else None, sides=by is None),
                leaders.baselines(made),
            ]
            view += ["", leaders.rollup(made, by, people)] if by else []
            view += ["", leaders.targets(quotas, people)] if quotas else []
            view += ["", leaders.plans(plans, opened.names(name, plans.ids)), "", leaders.model(made)]
            chains = rollup.above(rollup.people_of(opened.warehouse, name))
            beside = {"targets": [asdict(t) for t in quotas], "plans": asdict(plans), "reports_to": chains}
            return Result(documents.forecast(made, as_of) | beside, tuple(view))

        results = each(opened.connections, work)
        columns = ("id", "win_probability", "win_in_period", "expected_amount", "expected_close")
        finish(opened.connections, results, form, csv=("opportunities", ("connection", *columns)))


@forecast.command(epilog=example("pipesync forecast why --limit 3"))
@reading
@_period
@click.option("--opportunity", "only", multiple=True, metavar="ID", help="Only this one.")
@click.option("--limit", default=10, show_default=True, help="How many, those that bring most first.")
@formatted("json", "csv")
def why(source: Source, period: str | None, only: tuple[str, ...], limit: int, form: str) -> None:
    """Say what speaks for an opportunity and what against, in the model's own points of probability."""
    from pipesync import steps
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.errors import InputError, Problem
    from pipesync.forecast.reasons import reasons
    from pipesync.report import leaders, views
    from pipesync.yamlsource import nearest

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            made, model = steps.foretell_why(opened.warehouse, name, opened.config, as_of, period)
            said = {one.id: one for one in made.opportunities}
            for asked in only:
                if asked not in said:
                    raise InputError(Problem(f"{asked!r} is not open in {name}", fix=nearest(asked, said)))
            ranked = sorted(
                said, key=lambda i: (-said[i].win_in_period * float(said[i].expected_amount or 0), i)
            )
            told = reasons(opened.warehouse, model, made, only or ranked[:limit])
            told = {i: told[i] for i in (only or ranked[:limit])}
            entry = {
                "as_of": as_of,
                "period": {"start": made.period.start, "end": made.period.end},
                "opportunities": [
                    {
                        "id": i,
                        "win_in_period": said[i].win_in_period,
                        "win_probability": said[i].win_probability,
                        "up": [asdict(w) for w in up],
                        "down": [asdict(w) for w in down],
                    }
                    for i, (up, down) in told.items()
                ],
            }
            view = (views.heading(name, _detail(made)), leaders.reasons(made, told, opened.names(name, told)))
            return Result(entry, view)

        columns = ("connection", "id", "win_in_period", "win_probability", "up", "down")
        finish(opened.connections, each(opened.connections, work), form, csv=("opportunities", columns))


@forecast.command(epilog=example("pipesync sync", "pipesync forecast changes"))
@configured
@_period
@click.option(
    "--since",
    metavar="TIME",
    help="From the last one issued up to then (default: before this).",
)
@click.option("--limit", default=15, show_default=True, help="How many opportunities the text shows.")
@formatted("json", "csv")
def changes(source: Source, period: str | None, since: str | None, limit: int, form: str) -> None:
    """Say what changed since an issued forecast of the period, opportunity by opportunity.

    The steps add up to the difference. Single opportunities are kept for five weeks.
    """
    from datetime import timedelta

    from pipesync import steps
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.config import parse_moment
    from pipesync.forecast import waterfall
    from pipesync.report import leaders, views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            made = steps.foretell(opened.warehouse, name, opened.config, as_of, period)
            until = min(parse_moment(since) + timedelta(microseconds=1), as_of) if since else as_of
            before = steps.last_issued(opened.ledger, name, made.period, until) if opened.ledger else None
            heading = views.heading(name, _detail(made))
            entry = {"as_of": as_of, "period": {"start": made.period.start, "end": made.period.end}}
            if before is None:
                said = f"no forecast of this period was issued before {until:%Y-%m-%d %H:%M}"
                return Result(
                    entry | {"since": None, "start": None, "end": None, "changes": []}, (heading, said)
                )
            found = waterfall.since(opened.warehouse, before, made)
            names = opened.names(name, [s.opportunity_id for s in found.steps if s.opportunity_id])
            told = {
                "since": before.as_of,
                "start": found.start,
                "end": found.end,
                "by_kind": found.by_kind(),
                "changes": [asdict(step) for step in found.steps],
            }
            since_text = f"since the forecast as of {before.as_of:%Y-%m-%d %H:%M} UTC"
            return Result(entry | told, (heading, since_text, leaders.waterfall(found, names, limit)))

        columns = ("connection", "kind", "opportunity_id", "amount")
        finish(opened.connections, each(opened.connections, work), form, csv=("changes", columns))


@forecast.command(epilog=example("pipesync forecast patterns"))
@reading
@formatted("json", "csv")
def patterns(source: Source, form: str) -> None:
    """Say what opportunities that won had done by a stage that others had not."""
    from pipesync.forecast.patterns import patterns as find
    from pipesync.report import leaders

    keys = ("stage", "habit", "with_it", "without", "difference", "count")
    _look(
        source, form, "patterns", keys,
        lambda warehouse, computed: find(warehouse, computed),
        lambda found: {"patterns": [asdict(one) for one in found]},
        leaders.patterns,
    )  # fmt: skip


@forecast.command(epilog=example("pipesync forecast fields"))
@reading
@formatted("json", "csv")
def fields(source: Source, form: str) -> None:
    """Say which fields give the outcome away and are not used, and which say anything about it."""
    from pipesync.forecast.leakage import guard
    from pipesync.report import leaders

    keys = ("field", "auc", "interval", "says")
    _look(
        source, form, "signals", keys,
        lambda warehouse, computed: guard(warehouse, computed),
        lambda found: {
            "leaks": [asdict(one) for one in found.leaks],
            "signals": [asdict(one) for one in found.signals],
            "notes": found.notes,
        },
        leaders.fields,
    )  # fmt: skip


def _look(
    source: Source,
    form: str,
    key: str,
    columns: tuple[str, ...],
    find: Callable[[Warehouse, Features], Any],
    entry: Callable[[Any], dict[str, Any]],
    view: Callable[[Any], RenderableType],
) -> None:  # Any: what `find` returns, and JSON
    """Show what one library call finds as of the moment."""
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.features import Features
    from pipesync.report import views

    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            found = find(opened.warehouse, Features(name, as_of, frozenset()))
            heading = views.heading(name, f"as of {as_of:%Y-%m-%d}")
            return Result({"as_of": as_of} | entry(found), (heading, view(found)))

        finish(opened.connections, each(opened.connections, work), form, csv=(key, ("connection", *columns)))


def _detail(made: Forecast) -> str:
    return f"{made.period.start} to {made.period.end} (not included), as of {made.as_of:%Y-%m-%d}"


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
            done = run(opened.warehouse, name, opened.config_of(name).calendar, origins=days, horizon=ahead)
            entry = {
                "horizon_days": ahead.days,
                "origins": [asdict(one) for one in done.origins],
                "metrics": done.metrics,
                "intervals": done.intervals,
                "close_date": done.close_date,
                "evidence": done.evidence,
                "against": {m: {n: asdict(d) for n, d in one.items()} for m, one in done.against.items()},
                "left_out": done.left_out,
            }
            return Result(entry, (views.heading(name, f"{ahead.days} days ahead"), *views.backtest(done)))

        columns = (
            "connection",
            "origin",
            "actual",
            "p10",
            "p50",
            "p90",
            "mean",
            "rung",
            "open",
            "low",
            "high",
        )
        finish(opened.connections, each(opened.connections, work), form, csv=("origins", columns))


@forecast.command(epilog=example("pipesync forecast accuracy"))
@reading
@formatted("json", "csv")
def accuracy(source: Source, form: str) -> None:
    """Say how good the forecasts were that `sync` and `apply` have issued, and people's own calls beside them."""
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.forecast.accuracy import score, summarise
    from pipesync.report import views

    keys = ("scope", "scope_id", "week", "count", "wape", "bias", "coverage_80", "call_wape", "call_bias")
    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            issued = opened.ledger.issued(name) if opened.ledger else []
            zone = opened.config.calendar.timezone
            kept = opened.ledger.issued_calls(name) if opened.ledger else []
            records = summarise(
                score(opened.warehouse, name, issued, known_at=as_of, timezone=zone, kept=kept)
            )
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
