"""The steps that calculate: what waits, what will close, what would be written.

Each is a function of the warehouse (and, for a plan, the ledger) as of a moment, so that a command that needs one of
them runs one. They only read, but for `learn`, which keeps the model that it fits. `sync` walks them all and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from pipesync import features, forecast, plan, rules
from pipesync.analysis import bottlenecks
from pipesync.config import Config
from pipesync.errors import InputError
from pipesync.forecast import Forecast, periods
from pipesync.forecast import reasons as why
from pipesync.forecast.calls import calls, of_methods
from pipesync.forecast.fitting import from_document, to_document
from pipesync.forecast.history import to_moment
from pipesync.forecast.waterfall import Issued
from pipesync.model import Call, Plan, StandingFinding
from pipesync.rules.examination import Examined, examine
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse


def config_of(config: Config, warehouse: Warehouse, connection: str) -> Config:
    """Return the configuration with the calendar of one connection's CRM, where ours does not say."""
    facts = next((c for c in warehouse.connections() if c.connection == connection), None)
    return config.of(facts) if facts else config


def find_bottlenecks(
    warehouse: Warehouse, connection: str, config: Config, as_of: datetime
) -> bottlenecks.Bottlenecks:
    config = config_of(config, warehouse, connection)
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
    config = config_of(config, warehouse, connection)
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


def model_for(
    warehouse: Warehouse, computed: features.Features, period: periods.Period, config: Config
) -> forecast.Model:
    """Return the period's kept model; without one, fit what somebody waits for, so without the challenger."""
    kept = _kept_model(warehouse, computed.connection, computed.as_of, period, config)
    return kept or forecast.fit_model(warehouse, computed, period, challenger=False)


def learn(warehouse: Warehouse, connection: str, config: Config, as_of: datetime) -> None:
    """Fit the forecast model where the one that is kept is too old or of another period, and keep it.

    The challenger is tried here: a week's one fit has the time, and what is kept is read in milliseconds.
    """
    config = config_of(config, warehouse, connection)
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
    """What people, and simpler methods, say will be won."""


def prepare(
    warehouse: Warehouse,
    connection: str,
    config: Config,
    ruleset: rules.RuleSet,
    as_of: datetime,
    ledger: Ledger | None,
) -> Prepared:
    """Plan what the warehouse and the ledger say is to be written; neither is changed."""
    config = config_of(config, warehouse, connection)
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
    said += of_methods(made.total, made.baselines)
    return Prepared(examined, made, situation, plan.make(situation, config, ruleset), standing, tuple(said))


def _reasons(warehouse: Warehouse, model: forecast.Model, made: Forecast) -> dict[str, str]:
    """Return the strongest reasons of each open opportunity's forecast, three up and down together."""
    told = why.reasons(warehouse, model, made, [o.id for o in made.opportunities])
    found = {}
    for name, (up, down) in told.items():
        ranked = sorted((*up, *down), key=lambda one: -abs(one.points))[:3]
        found[name] = "; ".join(f"{'+' if one.points > 0 else '−'} {one.text}" for one in ranked)
    return found
