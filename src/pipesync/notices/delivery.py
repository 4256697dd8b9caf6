"""Who is to be told what and was not told yet; the ledger remembers, so that nobody hears the same twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipesync.config import Config, DigestConfig, FailureAlert, NotifyConfig
from pipesync.logs import log
from pipesync.model import User
from pipesync.notices.digest import WEEK, Digest, Facts, digest, recipients
from pipesync.notices.layout import lay_out
from pipesync.notices.sending import NotSent, addresses, send
from pipesync.notices.tongues import tongue
from pipesync.options import secret
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from pipesync.analysis.bottlenecks import Bottlenecks
    from pipesync.forecast import Forecast
    from pipesync.rules import Evaluation, RuleSet

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def gather(
    warehouse: Warehouse,
    ledger: Ledger | None,
    evaluation: Evaluation,
    forecast: Forecast,
    bottlenecks: Bottlenecks | None = None,
    ruleset: RuleSet | None = None,
) -> Facts:
    """Return what digests are made of, from a run's results and what the stores remember.

    `ruleset` has the findings' texts in other languages.
    """
    connection, as_of = evaluation.connection, evaluation.as_of
    users = {u.id: u for u in warehouse.records("users", connection) if isinstance(u, User)}
    found = warehouse.rows(
        "SELECT owner_id, count(*), coalesce(sum(amount), 0) FROM opportunities "
        "WHERE connection = ? AND NOT is_closed GROUP BY owner_id",
        [connection],
    )
    total = forecast.total
    issued = ledger.issued(connection) if ledger else []
    before = [
        f for at, f in issued
        if f.scope == "total" and f.period_start == total.period_start and at <= as_of - WEEK
    ]  # fmt: skip
    ranked = bottlenecks.ranked if bottlenecks else ()
    return Facts(
        connection=connection,
        as_of=as_of,
        users=users,
        findings=[f for f in evaluation.findings if f.opportunity_id],
        episodes=ledger.episodes(connection) if ledger else [],
        open={owner: (int(count), Decimal(amount)) for owner, count, amount in found},
        forecasts={"": total, **{f.scope_id: f for f in forecast.by_owner}},
        week_ago=before[-1] if before else None,
        score=evaluation.score,
        bottleneck=ranked[0] if ranked else None,
        currency=total.currency,
        ruleset=ruleset,
    )


def previews(facts: Facts, config: Config, only: str | None = None) -> list[Digest]:
    """Make every digest that would go out, or only the one of `leader:ID`, `manager:ID` or `rep:ID`."""
    asked = _asked(config.notify)
    if only:
        kind, _, person = only.partition(":")
        return [digest(facts, kind, person, config.notify.language)]  # type: ignore[arg-type]  # checked by its maker
    who = recipients(facts, asked.to, asked.leaders)
    return [digest(facts, kind, person, config.notify.language) for kind, person in who]


def _asked(notify: NotifyConfig) -> DigestConfig:
    return notify.digest or DigestConfig()


def addresses_of(config: Config, asked: DigestConfig | FailureAlert, name: str) -> list[str]:
    """Return the addresses of a kind of notice, as for somebody with an e-mail; InputError where there are none."""
    return addresses(_addresses(config, asked, name), "somebody@example.com")


def _addresses(config: Config, asked: DigestConfig | FailureAlert, name: str) -> str:
    told = {"to_env": asked.to_env, "to_file": asked.to_file and config.path(asked.to_file)}
    return secret(told, "to", connection=name).get_secret_value()


def is_due(asked: DigestConfig, local: datetime) -> bool:
    """Whether this week's moment has come; a digest that was missed is made up for until the week ends."""
    return (local.weekday(), local.hour) >= (_DAYS.index(asked.weekday), asked.hour)


def deliver(
    facts: Facts, config: Config, ledger: Ledger, now: datetime, *, at_once: bool = False
) -> dict[str, int]:
    """Send this week's digests that are due and were not sent yet; return counts. What was not taken stays due.

    Nothing is sent without `notify.digest`; `at_once` does not wait for the weekday.
    """
    asked = config.notify.digest
    done = {"sent": 0, "failed": 0, "without_address": 0}
    local = now.astimezone(config.zone)
    if asked is None or not (at_once or is_due(asked, local)):
        return done
    week = f"{local:%G-W%V}"
    told = ledger.noticed(facts.connection, "digest", week)
    whole = _addresses(config, asked, "notify.digest")
    for one in previews(facts, config):
        if one.person in told:
            continue
        to = addresses(whole, one.email)
        if not to:
            done["without_address"] += 1
            continue
        folder = config.notify.templates and config.path(config.notify.templates)
        text, html = lay_out(one, "txt", folder), lay_out(one, "html", folder)
        try:
            send(to, one.title, text, html)
        except NotSent as error:
            done["failed"] += 1
            log.warning("a digest was not taken", recipient=one.person, error=str(error))
            continue
        ledger.notice(facts.connection, "digest", one.person, week, now)
        done["sent"] += 1
    log.info("digests", **done)
    return done


def alert(config: Config, found: Mapping[str, Mapping[str, Any]], ledger: Ledger, now: datetime) -> list[str]:
    """Tell of connections whose runs fail, once per time of trouble; return those that were told of now.

    `found` is `health.status` of each connection. An alert that nobody takes is logged, and tried again.
    """
    asked = config.notify.failures
    if asked is None:
        return []
    told = []
    speak = tongue(None, config.notify.language)
    for name, known in found.items():
        good = known["last_good_run"]
        trouble = good["id"] if good else "never"
        if known["failed_since"] < asked.after or ledger.noticed(name, "failure", trouble):
            continue
        since = f"{good['started_at'].astimezone(config.zone):%Y-%m-%d %H:%M}" if good else speak.say("never")
        text = speak.say(
            "alert", count=known["failed_since"], connection=name, good=since, error=known["last_error"]
        )
        try:
            to = addresses(_addresses(config, asked, "notify.failures"))
            send(to, speak.say("alert_title", connection=name), text)
        except NotSent as error:
            log.error("an alert was not taken", connection=name, error=str(error))
            continue
        ledger.notice(name, "failure", "ops", trouble, now)
        told.append(name)
    return told
