"""The commands of the cycle: pull, plan, apply, undo, sync, and status, which tells how it went."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import Source, configured, example, formatted, reading, strictly, verbosity
from pipesync.cli.progress import progress
from pipesync.cli.stopping import stopping
from pipesync.cli.telling import telling
from pipesync.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipesync.adapters.base import Estimate, Pulled
    from pipesync.config import Config
    from pipesync.rules import RuleSet


@click.command(epilog=example("pipesync pull"))
@configured
@click.option("--full", is_flag=True, help="Forget the cursors and read everything again.")
@formatted("json")
def pull(source: Source, full: bool, form: str) -> None:
    """Bring what changed in the CRM into the warehouse."""
    from pipesync import connections
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration, open_ledger
    from pipesync.cli.output import Result, finish, gather
    from pipesync.report import views

    config, names = configuration(source)
    may_write = any(config.connections[name].write.enabled for name in names)
    ledger = None

    def render(name: str, done: dict[str, Pulled]) -> Result:
        return Result(outcomes.pulled_entry(done), (views.heading(name), outcomes.pulled_view(done)))

    is_quiet = verbosity(click.get_current_context()) < 0  # asked here: connections are pulled in threads

    def announce(what: str, expected: Estimate) -> None:
        seconds = max(1, round(expected.seconds))
        said = f"{what}: about {expected.records:,} records, {expected.requests:,} requests, {seconds:,} s"
        if not is_quiet:
            click.echo(said, err=True)

    _keep_memory()
    with telling(), progress() as step:
        with suppress(StoreError):  # what it cannot tell of is read again
            ledger = open_ledger(config) if may_write else None
        found = connections.pull_all(
            config, names, full=full, progress=step, announce=announce, ledger=ledger
        )
    finish(names, gather(found, render), form)


def _keep_memory() -> None:
    """Let Arrow keep what it frees while the CRM is waited for.

    Its usual allocator gives it back after 10 ms and fetches it anew for each answer: a tenth of a pull's CPU.
    """
    import pyarrow as pa

    with suppress(NotImplementedError):  # not every build has it
        pa.set_memory_pool(pa.jemalloc_memory_pool())


@click.command(epilog=example("pipesync plan"))
@reading
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Keep the plan, for `pipesync apply FILE`."
)
@strictly
@formatted("json")
def plan(source: Source, out: Path | None, strict: bool, form: str) -> None:
    """Show what apply would write, and why. Writes nothing."""
    from pipesync import steps
    from pipesync.cli.opening import reading_from, usable_rules
    from pipesync.cli.output import Result, each, finish, note
    from pipesync.model import Plan
    from pipesync.plan import save
    from pipesync.report import documents, views

    made: list[Plan] = []
    with reading_from(source) as opened:
        ruleset = usable_rules(opened.config, strict=strict, told=opened.words())

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            one = steps.prepare(opened.warehouse, name, opened.config, ruleset, as_of, opened.ledger).plan
            made.append(one)
            view = (
                views.heading(name, f"plan {one.id}, as of {one.as_of:%Y-%m-%d %H:%M} UTC"),
                views.plan(one, owners=opened.owners(name)),
            )
            return Result(documents.plan(one), view, 4 if ruleset.problems else 0)

        results = each(opened.connections, work)
        if out:
            save(out, made)
            note(f"kept in {out}; write it with `pipesync apply {out}`")
        finish(opened.connections, results, form)


@click.command(epilog=example("pipesync apply --limit 5 --yes"))
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@configured
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Write no more than N changes, the worst first."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@formatted("json")
def apply(file: Path | None, source: Source, limit: int | None, yes: bool, form: str) -> None:
    """Write a plan into the CRM: a kept FILE, or one made now."""
    from pipesync import sync
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, each, finish, show
    from pipesync.model import Plan
    from pipesync.plan import load
    from pipesync.report import views

    config, names = configuration(source)
    plans = {p.connection: p for p in load(file)} if file else {}
    if file and not source.connections:
        names = tuple(n for n in names if n in plans)

    def agree(one: Plan, why: str) -> bool:
        if yes or not one.changes:
            return True
        if form == "text":
            show(views.heading(one.connection, f"plan {one.id}"), views.plan(one))
        if why:
            click.echo(f"Note: {why.partition(':')[0]}.", err=True)
        return click.confirm(f"Write {min(len(one.changes), limit or len(one.changes))} changes?", err=True)

    def work(name: str) -> Result:
        done = sync.apply_now(config, name, given=plans.get(name), agree=agree, limit=limit)
        return Result(
            outcomes.applied_entry(done),
            (views.heading(name), outcomes.applied_view(done)),
            outcomes.applied_code(done),
        )

    finish(names, each(names, work), form)


@click.command(epilog=example("pipesync undo RUN"))
@click.argument("run")
@configured
@formatted("json")
def undo(run: str, source: Source, form: str) -> None:
    """Take one run back.

    Its tasks go, and our fields get their earlier values where nobody changed them since.
    """
    from pipesync import sync
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration
    from pipesync.cli.output import Result, finish
    from pipesync.report import views

    config, _ = configuration(source)
    name, done = sync.undo_run(config, run)
    result = Result(
        outcomes.applied_entry(done),
        (views.heading(name), outcomes.applied_view(done)),
        outcomes.applied_code(done),
    )
    finish((name,), [result], form)


@click.command("sync", epilog=example("pipesync sync -q"))
@configured
@click.option("--jitter", metavar="D", help="Begin up to this much later, at random, such as 5m.")
@strictly
@formatted("json")
def sync(source: Source, jitter: str | None, strict: bool, form: str) -> None:
    """The scheduled cycle: pull, check, forecast, plan, apply.

    Apply needs mode enforce and a connection whose `write:` is enabled; otherwise people read the plan.
    """
    import random
    import time

    from pipesync import sync as cycle
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration, usable_rules, words
    from pipesync.cli.output import Result, finish, gather
    from pipesync.config import parse_duration
    from pipesync.report import views

    config, names = configuration(source)
    told, _ = words(config, source)
    ruleset = usable_rules(config, strict=strict, told=told)

    def render(name: str, done: cycle.Cycle) -> Result:
        code = max(outcomes.applied_code(done.applied) if done.applied else 0, 4 if ruleset.problems else 0)
        return Result(outcomes.cycle_entry(done), (views.heading(name), outcomes.cycle_view(done)), code)

    if jitter:
        time.sleep(random.uniform(0, parse_duration(jitter).total_seconds()))  # noqa: S311  # to spread load
    _keep_memory()
    with telling(), progress() as step, stopping() as checkpoint:
        found = cycle.sync_all(config, names, ruleset, progress=step, checkpoint=checkpoint)
    results = gather(found, render)
    if config.report:
        results[-1] = replace(results[-1], code=max(results[-1].code, _report(config, names, ruleset)))
    finish(names, results, form)


def _report(config: Config, names: Sequence[str], ruleset: RuleSet) -> int:
    """Write the configured reports; what keeps one from being written takes nothing back of the run."""
    from pipesync.cli.output import note
    from pipesync.errors import PipesyncError
    from pipesync.reporting import write_configured

    failed: list[PipesyncError | OSError] = []
    try:
        written, refused = write_configured(config, names, ruleset)
        failed += refused
        for file in written:
            note(f"report written to {file}")
    except (PipesyncError, OSError) as error:
        failed.append(error)
    for reason in failed:
        click.echo(f"Error: a report could not be written: {reason}", err=True)
    return 4 if failed else 0


@click.command(epilog=example("pipesync status", "pipesync status --max-age 26h --format json"))
@configured
@click.option(
    "--max-age", metavar="D", help="End with 1 where a connection's last good run is older, or is failing."
)
@formatted("json")
def status(source: Source, max_age: str | None, form: str) -> None:
    """Tell what somebody on call asks.

    The last good run, what is behind or unconfirmed, the CRM's request budget, rules that could not judge and why,
    and what changed in the CRM's set-up.
    """
    from pipesync import health
    from pipesync.cli import outcomes
    from pipesync.cli.opening import configuration, open_ledger
    from pipesync.cli.output import Result, finish, show
    from pipesync.config import parse_duration
    from pipesync.report import views
    from pipesync.runlog import now

    config, names = configuration(source)
    longest = parse_duration(max_age) if max_age else None
    runs, found = health.status(config, names, open_ledger(config), now(), longest)
    if form == "text":
        show(outcomes.runs_view(runs), "")
    results = [
        Result(
            found[name],
            (views.heading(name), outcomes.status_view(found[name])),
            1 if longest and found[name]["health"] == "failing" else 0,
        )
        for name in names
    ]
    finish(names, results, form, more={"runs": runs})
