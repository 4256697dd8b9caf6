"""The cycle: the one module that knows the order of the steps and hands tables from one to the next.

Each step is a function of its own, so that a command that needs three of them runs three. `foretell` and `prepare`
only read; `cycle` enters what it found into the ledger and writes what the connection allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import orjson

from pipesync import features, forecast, health, notices, plan, rules
from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter, Pulled
from pipesync.analysis import bottlenecks
from pipesync.apply import Applied, apply, recover, undo
from pipesync.config import Config
from pipesync.errors import InputError, PipesyncError, Problem, Stopped
from pipesync.forecast import Forecast, periods
from pipesync.forecast import reasons as why
from pipesync.forecast.calls import calls
from pipesync.forecast.fitting import from_document, to_document
from pipesync.forecast.history import to_moment
from pipesync.forecast.waterfall import Issued
from pipesync.logs import log, working_on
from pipesync.model import Call, Plan, StandingFinding
from pipesync.people import lay_over
from pipesync.pull import Announce, pull
from pipesync.rules.examination import Examined, examine, load_rules
from pipesync.runlog import RunLog
from pipesync.store.erasure import Forgotten, forget_owner, prune
from pipesync.store.ledger import LeaseTaken, Ledger
from pipesync.store.warehouse import Warehouse
from pipesync.twins import counted_once

_RENEWAL = timedelta(minutes=1)
"""How often a run renews its lease, where it passes a checkpoint."""
T = TypeVar("T")
Clock = Callable[[], datetime]
Step = Callable[[str, int], None]
Checkpoint = Callable[[], None]


def now() -> datetime:
    """The wall clock, for when runs began and ended; nothing is calculated from it."""
    return datetime.now(UTC)


def _silent(what: str, done: int) -> None:
    """Progress that nobody looks at."""


def _goes_on() -> None:
    """A checkpoint at which nobody asked to stop."""


# --- Steps that read ------------------------------------------------------------------------------------------


def _own(config: Config, warehouse: Warehouse, connection: str) -> Config:
    """Return the configuration with the calendar of one connection's CRM."""
    facts = next((c for c in warehouse.connections() if c.connection == connection), None)
    return config.of(facts) if facts else config


def find_bottlenecks(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime
) -> bottlenecks.Bottlenecks:
    config = _own(config, warehouse, connection)
    features.compute(warehouse, connection, as_of, config.calendar)
    return bottlenecks.find(warehouse, connection, as_of, config.calendar)


def foretell(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime, period: str | None = None
) -> Forecast:
    """Forecast the period that people wrote, or the configured kind of period that holds `as_of`."""
    return foretell_why(warehouse, connection, config, as_of, period)[0]


def foretell_why(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime, period: str | None = None
) -> tuple[Forecast, forecast.Model]:
    """Do the same and return the model beside it, which gives the reasons."""
    config = _own(config, warehouse, connection)
    computed = features.compute(warehouse, connection, as_of, config.calendar)
    wanted = period_for(config, as_of, period)
    model = model_for(warehouse, computed, wanted, config)
    return forecast.predict(warehouse, computed, wanted, model=model), model


def last_issued(ledger: Ledger, connection: str, period: periods.Period, before: datetime) -> Issued | None:
    """Return what was issued for a period last before a moment, with its opportunities; None where nothing was."""
    kept = ledger.issued_opportunities(connection, period.start, period.end, before)
    if kept is None:
        return None
    as_of, said = kept
    totals = (
        float(one.mean)
        for at, one in ledger.issued(connection)
        if (at, one.scope, one.period_start, one.period_end) == (as_of, "total", period.start, period.end)
    )
    mean = next(totals, None)
    return None if mean is None else Issued(as_of, period, mean, said)


def _predict(
    warehouse: Warehouse, computed: features.Features, period: periods.Period, config: Config
) -> Forecast:
    return forecast.predict(warehouse, computed, period, model=model_for(warehouse, computed, period, config))


def model_for(
    warehouse: Warehouse, computed: features.Features, period: periods.Period, config: Config
) -> forecast.Model:
    kept = _kept_model(warehouse, computed.connection, computed.as_of, period, config)
    return kept or _fit(warehouse, computed, period)


def _fit(warehouse: Warehouse, computed: features.Features, period: periods.Period) -> forecast.Model:
    """Fit what somebody waits for, so without the challenger."""
    return forecast.fit_model(warehouse, computed, period, challenger=False)


def learn(warehouse: Warehouse, connection: str, config: Config, as_of: datetime) -> None:
    """Fit the forecast model where the one that is kept is too old or of another period, and keep it.

    The challenger is tried here: a week's one fit has the time, and what is kept is read in milliseconds.
    """
    config = _own(config, warehouse, connection)
    wanted = period_for(config, as_of, None)
    if _kept_model(warehouse, connection, as_of, wanted, config) is None:
        computed = features.compute(warehouse, connection, as_of, config.calendar)
        document = to_document(forecast.fit_model(warehouse, computed, wanted))
        warehouse.keep(connection, _name(wanted), orjson.dumps(document).decode())


def _name(period: periods.Period) -> str:
    return f"forecast model {period}"


def _kept_model(
    warehouse: Warehouse, connection: str, as_of: datetime, period: periods.Period, config: Config
) -> forecast.Model | None:
    """Return the period's kept model, unless it knows the future, is too old or was kept by another version."""
    text = warehouse.kept(connection, _name(period))
    if text is None:
        return None
    try:
        model = from_document(orjson.loads(text))
    except InputError:
        return None
    age = as_of - to_moment(model.as_of)
    return model if timedelta(0) <= age < config.forecast.refit else None


def period_for(config: Config, as_of: datetime, text: str | None) -> periods.Period:
    if text:
        return periods.parse_period(text, config.calendar)
    return periods.period_of(as_of, config.forecast.period, config.calendar)


# --- The plan -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A plan with everything it was made of."""

    examined: Examined
    forecast: Forecast
    situation: plan.Situation
    plan: Plan
    standing: tuple[StandingFinding, ...]
    """The findings' lives after this evaluation; the ledger's next state."""
    calls: tuple[Call, ...] = ()
    """What people say will be won."""


def prepare(
    warehouse: Warehouse,
    connection: str,
    config: Config,
    ruleset: rules.RuleSet,
    as_of: datetime,
    ledger: Ledger | None,
) -> Prepared:
    """Plan what the warehouse and the ledger say is to be written; neither is changed."""
    config = _own(config, warehouse, connection)
    before = ledger.standing_findings(connection) if ledger else []
    examined = examine(warehouse, connection, config, ruleset, as_of, before)
    suppressions = (*config.suppressions, *(ledger.suppressions(connection) if ledger else ()))
    today = as_of.astimezone(config.zone).date()
    standing = rules.advance(
        before,
        examined.evaluation,
        ruleset,
        suppressed=lambda finding: plan.suppressed(finding, suppressions, today) is not None,
        retired={s.rule for s in before} - set(ruleset.rules) - ruleset.unreadable,
    )
    period = period_for(config, as_of, None)
    model = model_for(warehouse, examined.features, period, config)
    made = forecast.predict(warehouse, examined.features, period, model=model)
    situation = plan.gather(
        warehouse,
        ledger,
        examined.evaluation,
        standing,
        ruleset,
        forecasts=(made.total, *made.by_owner, *made.rollups.get("team", ()), *made.by_product),
        opportunities=made.opportunities,
        features=examined.features if config.tasks.playbooks else None,
        reasons=_reasons(warehouse, model, made)
        if config.connections[connection].write.opportunity_fields
        else None,
    )
    said = calls(warehouse, examined.features, made.period, config.forecast.calls)
    return Prepared(examined, made, situation, plan.make(situation, config, ruleset), standing, tuple(said))


def _reasons(warehouse: Warehouse, model: forecast.Model, made: Forecast) -> dict[str, str]:
    """Return the strongest reasons of each open opportunity's forecast, three up and down together."""
    told = why.reasons(warehouse, model, made, [o.id for o in made.opportunities])
    found = {}
    for name, (up, down) in told.items():
        ranked = sorted((*up, *down), key=lambda one: -abs(one.points))[:3]
        found[name] = "; ".join(f"{'+' if one.points > 0 else '−'} {one.text}" for one in ranked)
    return found


# --- Steps that write -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cycle:
    """What one connection's sync did. `applied` is None where the mode or the connection allows no writing."""

    run: str
    as_of: datetime
    pulled: Mapping[str, Pulled]
    bottlenecks: bottlenecks.Bottlenecks
    prepared: Prepared
    applied: Applied | None


def side_by_side(names: Sequence[str], work: Callable[[str], T]) -> dict[str, T | PipesyncError]:
    """Do the work of every connection, several at a time; a failure stays with its connection."""

    def guarded(name: str) -> T | PipesyncError:
        try:
            return work(name)
        except PipesyncError as error:
            return error

    if len(names) == 1:
        return {names[0]: guarded(names[0])}
    with ThreadPoolExecutor(max_workers=min(4, len(names))) as pool:
        return dict(zip(names, pool.map(guarded, names), strict=True))


@contextmanager
def _adapter(config: Config, name: str) -> Iterator[Adapter]:
    adapter = open_adapter(name, config.connections[name], config.folder)
    try:
        yield adapter
    finally:
        adapter.close()


@contextmanager
def _opened(config: Config, name: str, ledger: Ledger) -> Iterator[Adapter]:
    """Open an adapter for a run; where that fails, the ledger has a failed run, or nobody would ever hear of it."""
    with ExitStack() as stack:
        try:
            adapter = stack.enter_context(_adapter(config, name))
        except PipesyncError as error:
            run = ledger.start_run(name, "sync", now())
            with working_on(connection=name, run=run.id):
                log.error("sync failed", error=str(error))
            ledger.finish_run(run.id, now(), "failed", {"error": str(error)})
            raise
        yield adapter


def pull_all(
    config: Config,
    names: Sequence[str],
    *,
    full: bool = False,
    progress: Step = _silent,
    announce: Announce | None = None,
) -> dict[str, dict[str, Pulled] | PipesyncError]:
    """Pull connections into the configured warehouse and publish it; return `Pulled` per stream, or the error."""
    with Warehouse(config.warehouse) as warehouse:

        def work(name: str) -> dict[str, Pulled]:
            with warehouse.session() as session, _adapter(config, name) as adapter:
                if full:
                    session.forget_kept(name)
                found = pull(
                    adapter,
                    session,
                    full=full,
                    progress=lambda s, n: progress(f"{name}: {s}", n),
                    announce=(lambda s, e: announce(f"{name}: {s}", e)) if announce else None,
                )
                lay_over(session, name, config)
                return found

        outcomes = side_by_side(names, work)
        warehouse.publish()
    return outcomes


def sync_all(
    config: Config,
    names: Sequence[str],
    ruleset: rules.RuleSet | None = None,
    *,
    progress: Step = _silent,
    checkpoint: Checkpoint = _goes_on,
) -> dict[str, Cycle | PipesyncError]:
    """Run the cycle of every connection, publish the warehouse; return a `Cycle` per connection, or the error.

    Without a ruleset the configured rules run, those that can be read.
    """
    chosen = load_rules(config) if ruleset is None else ruleset
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:

        def work(name: str) -> Cycle:
            with warehouse.session() as session, _opened(config, name, ledger) as adapter:
                return cycle(
                    config, name, adapter, session, ledger, chosen, progress=progress, checkpoint=checkpoint
                )

        outcomes = side_by_side(names, work)
        warehouse.publish()
        _, found = health.status(config, tuple(config.connections), ledger, now())
        if config.metrics is not None:
            health.write_measures(config.metrics, health.measures(found, ledger))
        _notify(config, warehouse, ledger, outcomes, {name: found[name] for name in names})
    return outcomes


def _notify(
    config: Config,
    warehouse: Warehouse,
    ledger: Ledger,
    outcomes: Mapping[str, Cycle | PipesyncError],
    found: Mapping[str, Any],  # Any: JSON
) -> None:
    """Tell people what is due; whatever goes wrong here spoils no sync."""
    try:
        notices.alert(config, found, ledger, now())
        for name, done in outcomes.items():
            if config.notify.digest is not None and isinstance(done, Cycle):
                evaluation, made = done.prepared.examined.evaluation, done.prepared.forecast
                with working_on(connection=name, run=done.run), counted_once(warehouse, config):
                    facts = notices.gather(warehouse, ledger, evaluation, made, done.bottlenecks)
                    notices.deliver(facts, config, ledger, now())
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
    progress: Step = _silent,
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
                pulled = pull(adapter, warehouse, progress=page)
                lay_over(warehouse, name, config)
                told.pulled(pulled, adapter.budget, before, told.set_up(warehouse, name))
                as_of = warehouse.pulled_to(name)
                with counted_once(warehouse, config) as elsewhere:
                    told.detail["counted_elsewhere"] = elsewhere.get(name, 0)
                    learn(warehouse, name, config, as_of)
                    told.ends("learn")
                    go_on()
                    prepared = prepare(warehouse, name, config, ruleset, as_of, ledger)
                    found = bottlenecks.find(warehouse, name, as_of, config.calendar)
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
    done = apply(made, adapter, ledger, write=connection.write, max_failing=limit, **how)
    if done.applied:
        pull(adapter, warehouse, streams=("own_tasks", "own_forecasts"))
    return done


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
        Warehouse(config.warehouse) as warehouse,
        Ledger(config.ledger_url) as ledger,
        _adapter(config, name) as adapter,
    ):
        recover(adapter, ledger, name)
        with counted_once(warehouse, config):
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
        with _adapter(config, name) as adapter:
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
