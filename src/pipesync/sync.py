"""The cycle: the one module that knows the order of the steps and hands tables from one to the next.

The steps that calculate are in `steps.py`; here is what pulls, enters into the ledger and writes what the connection
allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pipesync import health, notices, plan, rules
from pipesync.adapters.base import Adapter, Pulled
from pipesync.analysis import bottlenecks
from pipesync.apply import Applied, apply, recover, undo
from pipesync.config import Config
from pipesync.connections import Step, opened, side_by_side, silent
from pipesync.errors import InputError, PipesyncError, Problem, Stopped
from pipesync.logs import log, working_on
from pipesync.model import Plan
from pipesync.people import lay_over
from pipesync.pull import pull, written_since
from pipesync.rules.examination import load_rules
from pipesync.runlog import RunLog, now
from pipesync.steps import Prepared, config_of, learn, prepare
from pipesync.store.erasure import Forgotten, forget_owner, prune
from pipesync.store.ledger import LeaseTaken, Ledger
from pipesync.store.warehouse import Warehouse
from pipesync.twins import counted_once, in_order

_RENEWAL = timedelta(minutes=1)
"""How often a run renews its lease, where it passes a checkpoint."""
Clock = Callable[[], datetime]
Checkpoint = Callable[[], None]


def _goes_on() -> None:
    """A checkpoint at which nobody asked to stop."""


@dataclass(frozen=True)
class Cycle:
    """What one connection's sync did. `applied` is None where the mode or the connection allows no writing."""

    run: str
    as_of: datetime
    pulled: Mapping[str, Pulled]
    bottlenecks: bottlenecks.Bottlenecks
    prepared: Prepared
    applied: Applied | None


@contextmanager
def _opened(config: Config, name: str, ledger: Ledger, clock: Clock) -> Iterator[Adapter]:
    """Open an adapter for a run; where that fails, the ledger has a failed run, or nobody would ever hear of it."""
    with ExitStack() as stack:
        try:
            adapter = stack.enter_context(opened(config, name))
        except PipesyncError as error:
            run = ledger.start_run(name, "sync", clock())
            with working_on(connection=name, run=run.id):
                log.error("sync failed", error=str(error))
            ledger.finish_run(run.id, clock(), "failed", {"error": str(error)})
            raise
        yield adapter


def sync_all(
    config: Config,
    names: Sequence[str],
    ruleset: rules.RuleSet | None = None,
    *,
    clock: Clock = now,
    progress: Step = silent,
    checkpoint: Checkpoint = _goes_on,
) -> dict[str, Cycle | PipesyncError]:
    """Run the cycle of every connection, publish the warehouse; return a `Cycle` per connection, or the error.

    Without a ruleset the configured rules run, those that can be read.
    """
    chosen = load_rules(config) if ruleset is None else ruleset
    with (
        Warehouse(config.warehouse, memory=config.store.memory, clock=clock) as warehouse,
        Ledger(config.ledger_url) as ledger,
    ):

        def work(name: str) -> Cycle:
            with warehouse.session() as session, _opened(config, name, ledger, clock) as adapter:
                return cycle(
                    config,
                    name,
                    adapter,
                    session,
                    ledger,
                    chosen,
                    clock=clock,
                    progress=progress,
                    checkpoint=checkpoint,
                )

        outcomes: dict[str, Cycle | PipesyncError] = {}
        for group in in_order(names, config):
            outcomes |= side_by_side(group, work)
        outcomes = {name: outcomes[name] for name in names}
        warehouse.publish()
        _, found = health.status(config, tuple(config.connections), ledger, clock())
        if config.metrics is not None:
            health.write_measures(config.metrics, health.measures(found, ledger))
        _notify(config, warehouse, ledger, chosen, outcomes, {name: found[name] for name in names}, clock())
    return outcomes


def _notify(
    config: Config,
    warehouse: Warehouse,
    ledger: Ledger,
    ruleset: rules.RuleSet,
    outcomes: Mapping[str, Cycle | PipesyncError],
    found: Mapping[str, Any],  # Any: JSON
    at: datetime,
) -> None:
    """Tell people what is due; whatever goes wrong here spoils no sync."""
    try:
        notices.alert(config, found, ledger, at)
        for name, done in outcomes.items():
            if config.notify.digest is not None and isinstance(done, Cycle):
                evaluation, made = done.prepared.examined.evaluation, done.prepared.forecast
                with working_on(connection=name, run=done.run), counted_once(warehouse, config, [name]):
                    facts = notices.gather(warehouse, ledger, evaluation, made, done.bottlenecks, ruleset)
                    notices.deliver(facts, config, ledger, at)
    except PipesyncError as error:
        log.error("notices could not be made", error=str(error))


def cycle(
    config: Config,
    name: str,
    adapter: Adapter,
    warehouse: Warehouse,
    ledger: Ledger,
    ruleset: rules.RuleSet,
    *,
    clock: Clock = now,
    progress: Step = silent,
    checkpoint: Checkpoint = _goes_on,
) -> Cycle:
    """Pull, examine, foretell, plan and, in mode enforce, apply.

    `checkpoint` is called wherever nothing is half done; what it raises ends the run there.
    Intents of an earlier run whose outcome is unknown are looked up before the pull, so that it sees what they left.
    """
    run = ledger.start_run(name, "sync", clock())
    told = RunLog(clock)
    renewed = run.started_at

    def go_on() -> None:
        nonlocal renewed
        checkpoint()
        if (at := clock()) - renewed > _RENEWAL:
            ledger.renew_lease(name, run.id, at)
            renewed = at

    def page(stream: str, done: int) -> None:
        progress(f"{name}: {stream}", done)
        go_on()

    with working_on(connection=name, run=run.id):
        log.info("sync begins")
        try:
            recover(adapter, ledger, name, clock=clock)
            with ledger.lease(name, run.id, clock()):
                before = told.set_up(warehouse, name)
                pulled = pull(
                    adapter, warehouse, progress=page, written=written_since(warehouse, ledger, name, clock())
                )
                lay_over(warehouse, name, config)
                told.pulled(pulled, adapter.budget, before, told.set_up(warehouse, name))
                as_of = warehouse.pulled_to(name)
                with counted_once(warehouse, config, [name]) as elsewhere:
                    told.detail["counted_elsewhere"] = elsewhere.get(name, 0)
                    learn(warehouse, name, config, as_of)
                    told.ends("learn")
                    go_on()
                    prepared = prepare(warehouse, name, config, ruleset, as_of, ledger)
                    calendar = config_of(config, warehouse, name).calendar
                    found = bottlenecks.find(warehouse, name, as_of, calendar)
                told.planned(prepared.examined.evaluation, prepared.plan)
                go_on()
                applied = None
                if config.mode == "enforce" and config.connections[name].write.enabled:
                    how = {"guard": config.guard, "run": run, "clock": clock}
                    applied = _write(config, name, adapter, warehouse, ledger, prepared.plan, **how)
                    told.applied(applied, adapter.budget)
                remember(ledger, name, run.id, prepared, config)
                if config.store.keep is not None:
                    gone = prune(warehouse, ledger, name, as_of - config.store.keep)
                    log.info("retention", deleted=gone)
        except BaseException as error:
            why = str(error) or type(error).__name__
            (log.warning if isinstance(error, Stopped) else log.error)("sync failed", error=why)
            overlap = {"overlap": True} if isinstance(error, LeaseTaken) else {}
            ledger.finish_run(run.id, clock(), "failed", {**told.detail, "error": why, **overlap})
            raise
        status: Literal["done", "partly"] = "partly" if applied and applied.failed else "done"
        ledger.finish_run(run.id, clock(), status, told.detail)
        log.info("sync ended", status=status, seconds=(clock() - run.started_at).total_seconds())
    return Cycle(run.id, as_of, pulled, found, prepared, applied)


def remember(ledger: Ledger, name: str, run: str, prepared: Prepared, config: Config) -> None:
    """Enter into the ledger what was found and foretold."""
    situation, made = prepared.situation, prepared.forecast
    tripped = plan.tripped(situation.counts, situation.last_counts, config.breaker)
    ledger.save_findings(name, prepared.standing)
    ledger.save_counts(
        name, run, [c.model_copy(update={"tripped": c.rule in tripped}) for c in situation.counts.values()]
    )
    ledger.save_fates(name, prepared.plan.fates)
    ledger.issue(
        run,
        situation.as_of,
        [one for parts in made.rollups.values() for one in parts],
        calls=prepared.calls,
        opportunities=made.opportunities,
    )


def _write(
    config: Config, name: str, adapter: Adapter, warehouse: Warehouse, ledger: Ledger, made: Plan, **how: Any
) -> Applied:
    """Apply a plan and mirror our own records again, so that readers see them."""
    connection, limit = config.connections[name], config.guard.max_percent_failing
    accounts = _accounts(warehouse, name, made)
    done = apply(made, adapter, ledger, write=connection.write, max_failing=limit, accounts=accounts, **how)
    if done.applied:
        pull(adapter, warehouse, streams=("own_tasks", "own_forecasts"))
    return done


def _accounts(warehouse: Warehouse, name: str, made: Plan) -> dict[str, str]:
    """Return the account of each opportunity that a plan writes about, where it has one."""
    ids = sorted({c.opportunity_id for c in made.changes if c.opportunity_id})
    return dict(
        warehouse.rows(
            "SELECT id, account_id FROM opportunities SEMI JOIN (SELECT unnest(?) AS id) USING (id) "
            "WHERE connection = ? AND account_id IS NOT NULL",
            [ids, name],
        )
    )


def apply_now(
    config: Config,
    name: str,
    *,
    given: Plan | None = None,
    agree: Callable[[Plan, str], bool] = lambda made, why: True,
    limit: int | None = None,
) -> Applied:
    """Apply a plan that was kept, or one made now from what was pulled last, if `agree` says so.

    `agree` is also told why the guard would have held something back; what people agree to is written whole.
    """
    _may_write(config, name)
    ruleset = load_rules(config)
    with (
        Warehouse(config.warehouse, memory=config.store.memory) as warehouse,
        Ledger(config.ledger_url) as ledger,
        opened(config, name) as adapter,
    ):
        recover(adapter, ledger, name)
        with counted_once(warehouse, config, [name]):
            prepared = prepare(warehouse, name, config, ruleset, warehouse.pulled_to(name), ledger)
        made, refused = plan.reconcile(given, prepared.plan) if given else (prepared.plan, ())
        _, waiting = plan.guarded(made, ledger.journal(name), config.guard)
        if not agree(made, waiting[0].error if waiting else ""):
            raise InputError("nothing was written")
        done = _write(config, name, adapter, warehouse, ledger, made, limit=limit, refused=refused)
        remember(ledger, name, done.run, prepared, config)
        warehouse.publish()
    return done


def undo_run(config: Config, run: str) -> tuple[str, Applied]:
    """Take a run back; return its connection and what was written for that."""
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:
        name = ledger.run(run).connection
        _may_write(config, name)
        with opened(config, name) as adapter:
            done = undo(run, adapter, ledger)
            pull(adapter, warehouse, streams=("own_tasks", "own_forecasts"))
        warehouse.publish()
    return name, done


def forget(config: Config, names: Sequence[str], owner: str) -> dict[str, Forgotten]:
    """Take a person out of both stores and out of the readers' copy; return what became of each connection's rows.

    InputError where no connection knows them.
    """
    found: dict[str, Forgotten] = {}
    unknown: list[Problem] = []
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:
        for name in names:
            try:
                found[name] = forget_owner(warehouse, ledger, name, owner)
            except InputError as error:
                unknown += error.problems
        if not found:
            raise InputError(*unknown)
        warehouse.rewrite_file()
        ledger.vacuum()
        warehouse.publish()
    return found


def _may_write(config: Config, name: str) -> None:
    connection = config.connections.get(name)
    if connection is None:
        raise InputError(
            Problem(f"connection {name!r} is not configured any more", fix="put it back to write to it")
        )
    if not connection.write.enabled:
        raise InputError(
            Problem(
                f"connection {name!r} may not be written to",
                fix="say `write: {enabled: true, tasks: true, forecasts: true}` in pipesync.yaml",
            )
        )
