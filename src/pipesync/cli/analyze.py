"""`pipesync analyze TOPIC`: the pipeline from one side, each side one call into `pipesync.analysis`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from pipesync.cli.options import Source, example, formatted, reading, where

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from pipesync.cli.opening import Opened
    from pipesync.config import Config

Rows = list[dict[str, Any]]  # Any: JSON


@dataclass(frozen=True)
class Asked:
    """What a topic is asked of."""

    opened: Opened
    connection: str
    as_of: datetime
    by: str | None = None
    owner: str | None = None
    since: str | None = None
    parts: tuple[str, ...] = ()
    period: str | None = None
    change: str | None = None
    wins: float | None = None
    gap: float | None = None

    @property
    def config(self) -> Config:
        return self.opened.config_of(self.connection)


@dataclass(frozen=True)
class Told:
    """A topic's rows, what stands beside them, and what could not be known."""

    rows: Rows
    missing: Sequence[str] = ()
    beside: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    says: Sequence[str] = ()
    """What people read under the rows of what stands beside them."""


def _today(asked: Asked) -> Told:
    from pipesync.analysis.today import today

    computed, made = _forecast(asked)
    chances = {o.id: o.win_probability for o in made.opportunities}
    found = today(asked.opened.warehouse, computed, owner_id=asked.owner, win_probability=chances)
    return Told(_dicts(found.items), found.missing)


def _products(asked: Asked) -> Told:
    from pipesync.analysis.products import products

    computed, made = _forecast(asked)
    foreseen = {p.scope_id: float(p.mean) for p in made.by_product if p.scope_id}
    found = products(
        asked.opened.warehouse, computed, by=_choice(asked, "product", "family"), forecast=foreseen
    )
    says = [
        f"{p.one} with {p.other}: won together {p.together} times, {p.lift:.1f} times as often as by chance"
        for p in [pair for pair in found.pairs if pair.lift > 1][:3]
    ]
    return Told(_dicts(found.rows), found.missing, {"pairs": _dicts(found.pairs)}, says)


def _sources(asked: Asked) -> Told:
    from pipesync.analysis.sources import leads_needed, sources

    found = sources(
        asked.opened.warehouse, _computed(asked), by=_choice(asked, "source", "campaign", "month")
    )
    lags = {"convert_lag": found.convert_lag, "win_lag": found.win_lag}
    gap = asked.gap if asked.gap is not None else None if asked.wins is not None else _open_gap(asked)
    needed = leads_needed(found, gap, wins=asked.wins)
    beside = {
        "opportunities": _dicts(found.opportunities),
        **lags,
        "gap": gap,
        "needed": _dicts(needed),
    }
    return Told(_dicts(found.rows), found.missing, beside, _said_of_leads(needed, gap))


def _said_of_leads(needed: Sequence[Any], gap: float | None) -> list[str]:  # Any: sources.Need
    """Say what any one source would have to bring, the fastest first."""
    from pipesync.report.draw import money

    if not needed:
        return []
    told = "; ".join(
        f"{one.key or 'no source'} {one.leads:,}"
        + (f" (up to {one.worst:,})" if one.worst else "")
        + (f", {one.weeks:.0f} weeks of its leads" if one.weeks else "")
        for one in needed[:5]
    )
    goal = f"a gap of {money(gap)}" if gap is not None else f"{needed[0].wins:.0f} wins"
    return [f"leads that {goal} would take from one source alone: {told}"]


def _open_gap(asked: Asked) -> float | None:
    """Return what the quota of the present period still lacks; None without a quota."""
    from pipesync.analysis.coverage import coverage
    from pipesync.features import compute

    calendar = asked.config.calendar
    computed = compute(asked.opened.warehouse, asked.connection, asked.as_of, calendar)
    return coverage(asked.opened.warehouse, computed, _period(asked), calendar, periods=0).total.gap


def _owners(asked: Asked) -> Told:
    from datetime import timedelta

    from pipesync.analysis.owners import owners
    from pipesync.forecast.expectation import expected_wins
    from pipesync.rules import scores
    from pipesync.rules.examination import examine, load_rules

    opened, name = asked.opened, asked.connection
    seen = examine(opened.warehouse, name, asked.config, load_rules(asked.config), asked.as_of)
    expected = expected_wins(opened.warehouse, seen.features)
    hygiene = scores.by_owner(opened.warehouse, seen.evaluation.findings, asked.as_of)
    earlier = asked.as_of - timedelta(days=_TREND_DAYS)
    episodes = opened.ledger.episodes(name) if opened.ledger else []
    before = (
        scores.by_owner(opened.warehouse, scores.held_at(episodes, earlier), earlier)
        if any(one.first_seen <= earlier for one in episodes)
        else None
    )
    _narrow(asked, seen.features)
    found = owners(opened.warehouse, seen.features, expected=expected, hygiene=hygiene, hygiene_before=before)
    missing = [*found.missing, *(["wins to be expected: too little history"] if not expected else [])]
    missing += ["hygiene four weeks ago: no findings of then in the ledger"] if before is None else []
    return Told(_dicts(found.rows), missing)


def _losses(asked: Asked) -> Told:
    from pipesync.analysis.losses import losses

    found = losses(asked.opened.warehouse, _computed(asked))
    near = {loss.opportunity_id for loss in found.near}
    again = {loss.opportunity_id for loss in found.again}
    both = {loss.opportunity_id: loss for loss in (*found.near, *found.again)}
    rows = [
        asdict(loss) | {"worth": loss.worth, "near": name in near, "again": name in again}
        for name, loss in both.items()
    ]
    rows.sort(key=lambda row: (-row["worth"], row["opportunity_id"]))
    return Told(rows, found.missing)


def _effect(asked: Asked) -> Told:
    from pipesync.analysis.effects import effect
    from pipesync.config import parse_moment
    from pipesync.errors import InputError, Problem

    if asked.change is None:
        raise InputError(Problem("when did the process change?", fix="give --change 2026-09-01"))
    found = effect(asked.opened.warehouse, _computed(asked), parse_moment(asked.change))
    missing = () if found else ("enough stays: every stage needs 20 on either side of the change",)
    return Told(_dicts(found), missing, {"change": asked.change})


def _waterfall(asked: Asked) -> Told:
    from pipesync.analysis.scope import parse_where
    from pipesync.analysis.waterfall import waterfall
    from pipesync.config import parse_moment

    config = asked.config
    start = parse_moment(asked.since) if asked.since else _period(asked, None).starts_at
    found = waterfall(
        asked.opened.warehouse, asked.connection, start, asked.as_of, config.calendar,
        period=_period(asked) if asked.period else None, where=parse_where(asked.parts),
    )  # fmt: skip
    counted = {kind: sum(s.kind == kind for s in found.steps) for kind in found.totals()}
    rows: Rows = [{"step": "start", "amount": found.start, "opportunities": None}]
    rows += [{"step": k, "amount": v, "opportunities": counted[k]} for k, v in found.totals().items()]
    rows.append({"step": "end", "amount": found.end, "opportunities": None})
    return Told(rows, found.missing, {"since": start, "changes": _dicts(found.steps)})


def _coverage(asked: Asked) -> Told:
    from pipesync.analysis.coverage import coverage
    from pipesync.errors import InputError, Problem

    config, period = asked.config, _period(asked)
    if asked.parts:
        raise InputError(Problem("quotas are of people, so coverage has no --where", fix="use --by team"))
    by = _choice(asked, "owner_id", "team")
    found = coverage(asked.opened.warehouse, _computed(asked), period, config.calendar, by=by)
    beside = {
        "period": {"start": period.start, "end": period.end},
        "needed": found.needed,
        "past": _dicts(found.past),
    }
    needed = f"needed at this point of the {len(found.past)} periods before: {found.needed or 0:.1f}"
    return Told(_dicts((found.total, *found.rows)), found.missing, beside, (needed,) if found.needed else ())


def _linearity(asked: Asked) -> Told:
    from pipesync.analysis.linearity import clusters, linearity

    computed = _computed(asked)
    quarters = linearity(asked.opened.warehouse, computed, asked.config.calendar)
    rows = [{"period": str(q.period), **asdict(q)} | {"period": str(q.period)} for q in quarters]
    return Told(rows, (), {"clusters": _dicts(clusters(asked.opened.warehouse, computed))})


def _velocity(asked: Asked) -> Told:
    from pipesync.analysis.velocity import GROUPS, creation_against_closing, velocity

    computed = _computed(asked)
    by = _choice(asked, None, *GROUPS)
    weeks = creation_against_closing(asked.opened.warehouse, computed)
    return Told(_dicts(velocity(asked.opened.warehouse, computed, by)), (), {"weeks": _dicts(weeks)})


TOPICS: dict[str, tuple[Callable[[Asked], Told], tuple[str, ...]]] = {
    "today": (_today, ("place", "owner_id", "name", "stage", "amount", "win_probability", "action", "because")),
    "products": (_products, ("product", "open", "open_amount", "won", "won_amount", "win_rate", "cycle_days",
                             "forecast", "trend", "price", "discount_pct")),
    "sources": (_sources, ("key", "leads", "converted", "won", "won_amount", "average", "touch_hours")),
    "owners": (_owners, ("name", "team", "open", "open_amount", "won", "won_amount", "win_rate", "cycle_days",
                         "points")),
    "losses": (_losses, ("opportunity_id", "owner_id", "lost_from", "lost_on", "reason", "amount", "worth", "near",
                         "again")),
    "effect": (_effect, ("stage", "n_before", "n_after", "advance_before", "advance_after", "low", "high",
                         "median_before", "median_after", "is_real", "unfair")),
    "waterfall": (_waterfall, ("step", "opportunities", "amount")),
    "coverage": (_coverage, ("scope", "scope_id", "open_amount", "closed", "quota", "gap", "coverage")),
    "linearity": (_linearity, ("period", "won", "won_amount", "last_two_weeks", "gini", "by_month")),
    "velocity": (_velocity, ("key", "open", "open_amount", "won", "win_rate", "amount", "cycle_days", "per_day",
                             "levers")),
}  # fmt: skip
"""Topic -> how it is told, and the columns that people see."""


def _computed(asked: Asked) -> Any:  # Any: features.Features, imported when it is needed
    from pipesync import features

    computed = features.compute(asked.opened.warehouse, asked.connection, asked.as_of, asked.config.calendar)
    _narrow(asked, computed)
    return computed


def _narrow(asked: Asked, computed: Any) -> None:  # Any: likewise
    from pipesync.analysis import scope

    scope.narrow(asked.opened.warehouse, computed, scope.parse_where(asked.parts))


def _period(asked: Asked, default: str | None = "asked") -> Any:  # Any: a Period, likewise
    """Return the period that was asked for, or the present one."""
    from pipesync.forecast.periods import parse_period, period_of

    config = asked.config
    if asked.period and default:
        return parse_period(asked.period, config.calendar)
    return period_of(asked.as_of, config.forecast.period, config.calendar)


def _forecast(asked: Asked) -> tuple[Any, Any]:  # Any: Features and Forecast, likewise
    from pipesync import steps

    made = steps.foretell(asked.opened.warehouse, asked.connection, asked.config, asked.as_of)
    return _computed(asked), made


_TREND_DAYS = 28


def _choice(asked: Asked, *allowed: str | None) -> Any:  # Any: one of the topic's literals
    from pipesync.errors import InputError, Problem
    from pipesync.yamlsource import nearest

    if asked.by is None:
        return allowed[0]
    if asked.by not in allowed:
        raise InputError(
            Problem(f"cannot be told by {asked.by!r}", fix=nearest(asked.by, [a for a in allowed if a]))
        )
    return asked.by


def _dicts(values: Sequence[Any]) -> Rows:  # Any: dataclasses
    return [asdict(value) for value in values]


@click.command(epilog=example("pipesync analyze owners --data exports"))
@click.argument("topic", type=click.Choice(list(TOPICS)))
@reading
@click.option("--by", metavar="FIELD", help="What to tell apart, such as team, family, campaign, segment.")
@click.option("--owner", metavar="ID", help="With today: only this person's day.")
@where
@click.option("--since", metavar="TIME", help="With waterfall: from when (default: the start of the period).")
@click.option(
    "--period", metavar="P", help="With coverage: of which period; with waterfall: only what closes in it."
)
@click.option("--change", metavar="TIME", help="With effect: when the process changed.")
@click.option("--wins", type=float, metavar="N", help="With sources: leads that so many wins need.")
@click.option(
    "--gap",
    type=float,
    metavar="AMOUNT",
    help="With sources: leads that it needs (default: the quota's gap).",
)
@click.option("--limit", default=20, show_default=True, help="How many rows the text shows.")
@formatted("json", "csv")
def analyze(
    topic: str,
    source: Source,
    limit: int,
    form: str,
    **asked: Any,  # Any: the options above, named as in `Asked`
) -> None:
    """Look at the pipeline from one side.

    today: what to do first. products, sources, owners: what goes well where. waterfall: how the pipeline got here.
    coverage: enough for the quota? linearity: when in a quarter it is won. velocity: how fast it turns into revenue.
    losses: which were near, which are worth another try. effect: what a dated change of the process did.
    """
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.report import views

    tell, columns = TOPICS[topic]
    with reading_from(source) as opened:

        def work(name: str) -> Result:
            as_of = opened.as_of(name)
            told = tell(Asked(opened, name, as_of, **asked))
            entry = {"as_of": as_of, topic: told.rows, "missing": list(told.missing)} | told.beside
            shown: tuple[RenderableType, ...] = (
                views.heading(name, f"{topic}, as of {as_of:%Y-%m-%d %H:%M} UTC"),
                views.rows(told.rows[:limit], columns, more=len(told.rows) - limit, missing=told.missing),
                *told.says,
            )
            return Result(entry, shown)

        finish(
            opened.connections, each(opened.connections, work), form, csv=(topic, ("connection", *columns))
        )
