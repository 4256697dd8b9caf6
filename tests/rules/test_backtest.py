"""The past replayed: nothing later is looked at, outcomes are counted by opportunity, and chance is told apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import rules_backtest

from pipesync.config import Calendar
from pipesync.rules.backtest import Backtest, backtest
from pipesync.rules.format import Rule, read_rule
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

Build = Callable[..., Warehouse]
UNTIL = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def rule(when: str, more: str = "", name: str = "example") -> Rule:
    text = f"rule: site.{name}\ntitle: T\nwhy: W\nseverity: low\nwhen: {when}\nmessage: M\n{more}\ntests: [{{}}]\n"
    return read_rule(parse(text, "r.yaml"), Path("r.yaml"))


def opportunity(number: int, close_date: date, **more: Any) -> dict[str, Any]:  # Any: columns
    return {
        "id": f"o{number}", "name": f"N{number}", "owner_id": "u1", "amount": 100, "created_at": UNTIL - 200 * DAY,
        "close_date": close_date, "is_closed": False, "is_won": False, **more,
    }  # fmt: skip


def moved(number: int, *steps: tuple[datetime, date]) -> list[dict[str, Any]]:
    return [
        {
            "opportunity_id": f"o{number}",
            "field": "close_date",
            "value": day.isoformat(),
            "changed_at": at,
            "seq": i,
        }
        for i, (at, day) in enumerate(steps)
    ]


def replay(warehouse: Warehouse, *some: Rule, weeks: int) -> Backtest:
    return backtest(warehouse, "crm", Calendar(), some, until=UNTIL, weeks=weeks)


@pytest.fixture
def pushed(build: Build) -> Warehouse:
    """Due in September: 12 were pushed once in August and then slipped, 12 were never pushed and were won in time.

    The slip itself is a second push, on 25 September.
    """
    august, september = datetime(2026, 8, 5, tzinfo=UTC), datetime(2026, 9, 25, tzinfo=UTC)
    rows, changes = [], []
    for n in range(12):
        rows.append(opportunity(n, date(2026, 12, 20)))
        changes += moved(
            n,
            (UNTIL - 200 * DAY, date(2026, 8, 20)),
            (august, date(2026, 9, 20)),
            (september, date(2026, 12, 20)),
        )
    for n in range(12, 24):
        won = datetime(2026, 9, 20, tzinfo=UTC)
        rows.append(opportunity(n, won.date(), is_closed=True, is_won=True, closed_at=won))
        changes += moved(n, (UNTIL - 200 * DAY, date(2026, 9, 20)))
    return build(opportunities=rows, field_changes=changes, users=[{"id": "u1", "name": "Ann"}])


def test_what_was_flagged_slipped_and_the_rest_did_not(pushed: Warehouse) -> None:
    """All of one and none of the other; weeks are no cases of their own, and nothing later is looked at.

    The first origin is 10 August, after the first push; the second push is not counted before it happens.
    """
    once, twice = rule("{push_count: {gte: 1}}"), rule("{push_count: {gte: 2}}", name="twice")

    told = replay(pushed, once, twice, weeks=15)

    [first, second] = told.replays
    assert first.slip is not None
    assert (first.slip.flagged.value, first.slip.others.value) == (1.0, 0.0)
    assert (first.slip.flagged.opportunities, first.slip.others.opportunities) == (12, 12)
    assert first.slip.flagged.weeks > 60
    assert first.slip.flagged.low == pytest.approx(
        0.757, abs=0.01
    )  # Wilson's bound of 12 of 12, not of all weeks
    assert first.slip.is_told
    assert first.lead_days == pytest.approx((datetime(2026, 9, 25, tzinfo=UTC) - told.origins[0]) / DAY)
    assert first.value_share == pytest.approx(first.fired / first.judged)
    assert second.fired == 12 * sum(o >= datetime(2026, 9, 25, tzinfo=UTC) for o in told.origins)
    assert second.opened == 12


def test_too_few_say_nothing(build: Build) -> None:
    """A difference is told from ten opportunities on either side."""
    rows = [opportunity(n, date(2026, 9, 20)) for n in range(9)]
    changes = [c for n in range(9) for c in moved(n, (UNTIL - 200 * DAY, date(2026, 9, 20)))]
    warehouse = build(opportunities=rows, field_changes=changes, users=[{"id": "u1", "name": "Ann"}])

    [found] = replay(warehouse, rule("{close_date: {lt: today}}"), weeks=9).replays

    assert found.slip is not None
    assert np.isnan(found.slip.difference)
    assert not found.slip.is_told


def test_a_field_without_a_past_is_to_blame(build: Build) -> None:
    """The rule is unknown of every week, and no number is made up."""
    rows = [opportunity(n, date(2026, 9, 20)) for n in range(3)]
    warehouse = build(
        opportunities=rows, field_changes=[], users=[{"id": "u1", "name": "Ann"}], history="none"
    )

    [found] = replay(warehouse, rule("{close_date: {lt: today}}"), weeks=4).replays

    assert (found.judged, found.fired, found.unknown, found.blame) == (0, 0, 12, ("close_date",))
    assert found.slip is None


def test_portfolio_rules_are_replayed_as_well(pushed: Warehouse) -> None:
    """By subject and week; they have no slips of their own."""
    one = rule("{overdue_count: {gte: 1}}", "level: owner")

    [found] = replay(pushed, one, weeks=3).replays

    assert found.judged == 3
    assert found.slip is None


def test_the_published_table_is_of_the_rules_that_ship(pulled_company: Warehouse) -> None:
    """Where a rule decides otherwise, or a feature or the demo company is another, the page is to be written again."""
    text = rules_backtest.PAGE.read_text(encoding="utf-8")

    fingerprint = rules_backtest.made_from(pulled_company, "crm")
    assert f"`{fingerprint}`" in text, "python -m benchmarks.rules_backtest --write"


@pytest.mark.campaign
def test_the_published_table_is_what_its_command_writes() -> None:
    """Whole, figure by figure."""
    assert rules_backtest.PAGE.read_text(encoding="utf-8") == rules_backtest.page(2000, 52)
