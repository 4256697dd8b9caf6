"""Reports made of the stores: for whom, of which connections, into which file.

This is the edge of `pipesync.report`: it opens nothing and pulls nothing, but it asks every step for its tables and
writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from pipesync import forecast
from pipesync.config import Config
from pipesync.errors import InputError, PipesyncError, Problem
from pipesync.forecast import history, leakage
from pipesync.forecast.expectation import foretold_wins
from pipesync.forecast.history import to_ms
from pipesync.model import User
from pipesync.report import html
from pipesync.report.audience import audience_of, parse
from pipesync.report.material import Material, gather
from pipesync.rules import RuleSet
from pipesync.rules.examination import examine
from pipesync.steps import config_of, last_issued, model_for, period_for
from pipesync.store.ledger import Ledger
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

_ABOUT_A_WEEK = timedelta(days=6)
"""A weekly run may be some hours early."""


def survey(
    warehouse: Warehouse,
    connection: str,
    config: Config,
    ruleset: RuleSet,
    as_of: datetime,
    ledger: Ledger | None,
    *,
    audience: str = "leader",
    period: str | None = None,
) -> Material:
    """Gather everything that a report tells of a connection, for `leader`, `manager:ID` or `rep:ID`."""
    config = config_of(config, warehouse, connection)
    users = {u.id: u for u in warehouse.records("users", connection) if isinstance(u, User)}
    meant = audience_of(audience, users)
    standing = ledger.standing_findings(connection) if ledger else []
    past, now = history.load(warehouse, connection, config.calendar), to_ms(as_of)
    banned = leakage.banned(warehouse, past, now)
    with ThreadPoolExecutor(1) as beside:
        # It asks the warehouse nothing, so it is fitted while the database is at work.
        expected = beside.submit(foretold_wins, past, now, banned)
        examined = examine(warehouse, connection, config, ruleset, as_of, standing)
        wanted = period_for(config, as_of, period)
        model = model_for(warehouse, examined.features, wanted, config)
        made = forecast.predict(warehouse, examined.features, wanted, model=model, past=past)
    before = last_issued(ledger, connection, wanted, as_of - _ABOUT_A_WEEK) if ledger else None
    return gather(
        warehouse, config, ruleset, examined, past, model, made, ledger, audience=meant, users=users,
        expected=expected.result(), before=before, link=_link(config, connection),
    )  # fmt: skip


def who_knows(warehouse: Warehouse, names: Sequence[str], audience: str) -> tuple[str, ...]:
    """Return the connections that a report for this person can speak of; InputError where none knows them."""
    kind, person = parse(audience)
    if kind == "leader" or len(names) < 2:
        return tuple(names)
    known = warehouse.rows("SELECT DISTINCT connection FROM users WHERE id = ?", [person])
    found = tuple(n for n in names if (n,) in known)
    if not found:
        raise InputError(Problem(f"no connection knows the user {person!r}", fix="an id of the CRM's users"))
    return found


def _link(config: Config, connection: str) -> str | None:
    """Return the address of an opportunity in the CRM, with `{id}` in it."""
    given = config.connections[connection]
    url = str(given.options.get("url", "")).rstrip("/")
    if given.link or given.adapter != "salesforce" or not url:
        return given.link
    return f"{url}/lightning/r/Opportunity/{{id}}/view"


def write_configured(
    config: Config, names: Sequence[str], ruleset: RuleSet
) -> tuple[list[Path], list[PipesyncError]]:
    """Write the reports that the configuration asks for, of what was published last.

    Returns the HTML files, and why others could not be written. Of several connections, one that cannot be told of is
    left out of a report.
    """
    written, failed = [], []
    with (
        Warehouse(published(config.warehouse), read_only=True, memory=config.store.memory) as warehouse,
        Ledger(config.ledger_url) as ledger,
    ):
        for wanted in config.report:
            made, missing = [], []
            try:
                known = who_knows(warehouse, names, wanted.audience)
            except PipesyncError as error:
                failed.append(error)
                continue
            for name in known:
                try:
                    with warehouse.session() as session:
                        as_of = session.pulled_to(name)
                        made.append(
                            survey(session, name, config, ruleset, as_of, ledger, audience=wanted.audience)
                        )
                except PipesyncError as error:
                    missing.append(error)
            if made:
                written.append(html.write(made, config.path(wanted.out))[0])
            else:
                failed += missing
    return written, failed
