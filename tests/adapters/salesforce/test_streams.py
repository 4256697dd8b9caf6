"""What an org has beside opportunities, and what happens to it over a year: fields, permissions, merges, stages."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from tests.adapters.salesforce.conftest import Connect, edit, facts, put

from pipesync.plan.facts import read
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.sandbox.salesforce.objects import OBJECTS
from pipesync.store.warehouse import Warehouse


def hidden(sandbox: Sandbox, *names: str) -> None:
    """Hide these beside what the company does not tell anyway."""
    already = sandbox.ask("GET", "settings")["salesforce"].get("hidden", [])
    put(sandbox, hidden=[*already, *names])


def states(warehouse: Warehouse) -> dict[str, str]:
    return {f"{c.stream}.{c.column}": c.state for c in warehouse.columns("crm")}


def test_quotas_are_of_owners_and_end_with_the_day_after(pulled: Warehouse, sandbox: Sandbox) -> None:
    """Every quota that the company gives an owner arrives with its period."""
    rows = pulled.rows(
        "SELECT count(DISTINCT owner_id), min(period_start), max(period_end), min(amount) FROM quotas"
    )

    owners, first, last, least = rows[0]
    assert owners == len({q["QuotaOwnerId"] for q in sandbox.ask("GET", "dump")["ForecastingQuota"]})
    assert (first, last) == (date(2024, 10, 1), date(2027, 4, 1))
    assert least > 0


def test_rates_are_turned_round_and_dated(connect: Connect, sandbox: Sandbox) -> None:
    """Salesforce says how many units one corporate unit buys; the first dated rate begins with time itself."""
    sandbox.ask("POST", "insert", {"crm": "salesforce", "object": "CurrencyType", "records": [
        {"Id": "01L1", "IsoCode": "EUR", "ConversionRate": 1.0, "IsCorporate": 1, "IsActive": 1},
        {"Id": "01L2", "IsoCode": "USD", "ConversionRate": 1.25, "IsCorporate": 0, "IsActive": 1},
    ]})  # fmt: skip
    sandbox.ask("POST", "insert", {"crm": "salesforce", "object": "DatedConversionRate", "records": [
        {"Id": "04w1", "IsoCode": "USD", "ConversionRate": 2.0, "StartDate": "0000-12-30"},
        {"Id": "04w2", "IsoCode": "USD", "ConversionRate": 1.25, "StartDate": "2026-07-01"},
    ]})  # fmt: skip
    put(sandbox, hidden=[])

    with Warehouse() as warehouse:
        pull(connect(), warehouse, streams=["currency_rates"])

        rows = warehouse.rows("SELECT currency, rate, valid_from FROM currency_rates ORDER BY ALL")
        assert rows == [
            ("EUR", 1.0, date(1970, 1, 1)), ("USD", 0.5, date(1970, 1, 1)), ("USD", 0.8, date(2026, 7, 1)),
        ]  # fmt: skip
        assert warehouse.connections()[0].currency == "EUR"


@pytest.mark.parametrize("gone", ["ForecastingQuota", "CurrencyType"])
def test_what_most_orgs_lack_is_missed_by_nobody(connect: Connect, sandbox: Sandbox, gone: str) -> None:
    """No warning, no column to mend."""
    hidden(sandbox, gone)

    with Warehouse() as warehouse:
        found = pull(connect(), warehouse)

        assert [w for p in found.values() for w in p.warnings] == []
        assert not {"quotas", "currency_rates"} & set(found) - (
            {"quotas"} if gone == "CurrencyType" else set()
        )


def test_a_field_that_disappears_is_told_and_what_was_pulled_stays(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Its column is unknown from then on."""
    before = pulled.rows("SELECT count(*) FROM opportunities WHERE next_step IS NOT NULL")
    hidden(sandbox, "Opportunity.NextStep")

    found = pull(connect(), pulled)

    (warning,) = found["opportunities"].warnings
    assert warning.startswith("opportunities.next_step is not known any more")
    assert states(pulled)["opportunities.next_step"] == "unreadable"
    assert pulled.rows("SELECT count(*) FROM opportunities WHERE next_step IS NOT NULL") == before
    assert pull(connect(), pulled)["opportunities"].warnings == ()


def test_a_field_that_appears_is_read_of_every_record(connect: Connect, sandbox: Sandbox) -> None:
    """Also of those that have not changed since: blank is not unknown."""
    shown = sandbox.ask("GET", "settings")["salesforce"].get("hidden", [])
    hidden(sandbox, "Opportunity.NextStep", "Event.Type", "Account.Industry")
    with Warehouse() as warehouse, Warehouse() as fresh:
        pull(connect(), warehouse)
        put(sandbox, hidden=shown)
        sandbox.ask("POST", "clock", {"advance": 3600})

        pull(connect(), warehouse)
        pull(connect(), fresh)

        assert facts(warehouse) == facts(fresh)


def test_an_object_that_disappears_keeps_what_was_pulled(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """A warning names it, not each of its columns; they are unknown."""
    before = pulled.rows("SELECT count(*) FROM accounts")
    hidden(sandbox, "Account")

    found = pull(connect(), pulled)

    lost, refused = found["accounts"].warnings
    assert lost == "nothing of accounts can be read any more; what was pulled stays as it was"
    assert refused.startswith("Account cannot be read")
    assert states(pulled)["accounts.name"] == "unreadable"
    assert pulled.rows("SELECT count(*) FROM accounts") == before


def test_a_user_without_the_permission_set_is_told_of_each_object(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """With the permission set that mends it; and nothing is planned on opportunities that nobody can look at."""
    hidden(sandbox, *OBJECTS)

    found = pull(connect(), pulled)

    told = {stream for stream, brought in found.items() if "permission set" in " ".join(brought.warnings)}
    assert told == set(found) - {"pipelines"}  # of record types, which few orgs have
    assert {"opportunities", "stages", "activities", "field_changes", "own_tasks"} <= told
    assert "opportunities" in read(pulled, "crm", ()).behind


def test_an_object_can_be_switched_off(sandbox: Sandbox, connect: Connect, tmp_path: Path) -> None:
    """By a null in the mapping; it is not asked for once."""
    own = yaml.safe_load(sandbox.told["salesforce"]["mapping"])
    own["streams"] |= {"leads": None, "activities": None}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))

    with Warehouse() as warehouse:
        found = pull(connect(mapping="own.yaml"), warehouse)

    assert not {"leads", "activities"} & set(found)
    assert not [p for p in sandbox.ask("GET")["by_path"] if "Lead" in p or "/Event/" in p]


def test_a_merge_takes_the_loser_away_and_moves_what_it_had(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Opportunities of the account that lost are the winner's."""
    (loser, count), (winner, _) = pulled.rows(
        "SELECT account_id, count(*) AS n FROM opportunities GROUP BY 1 ORDER BY n DESC, 1 LIMIT 2"
    )
    sandbox.ask("POST", "clock", {"advance": 3600})

    edit(sandbox, loser, merged_into=winner)
    pull(connect(), pulled)

    assert count > 0
    assert pulled.rows("SELECT count(*) FROM accounts WHERE id = ?", [loser]) == [(0,)]
    assert pulled.rows("SELECT count(*) FROM opportunities WHERE account_id = ?", [loser]) == [(0,)]


def test_what_may_not_be_seen_any_more_is_found_by_its_id(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """A record that is shared no longer is in no log; the weekly list of all ids does not have it."""
    lost = {
        t: pulled.rows(f"SELECT min(id) FROM {t}")[0][0] for t in ("opportunities", "accounts", "activities")
    }
    put(sandbox, unshared=list(lost.values()))
    sandbox.ask("POST", "clock", {"advance": 86_400})

    pull(connect(), pulled)
    kept = [pulled.rows(f"SELECT count(*) FROM {t} WHERE id = ?", [i]) for t, i in lost.items()]
    sandbox.ask("POST", "clock", {"advance": 7 * 86_400})
    found = pull(connect(), pulled)
    left = [pulled.rows(f"SELECT count(*) FROM {t} WHERE id = ?", [i]) for t, i in lost.items()]

    assert (kept, left) == ([[(1,)]] * 3, [[(0,)]] * 3)
    assert found["opportunities"].deleted == 1


def test_a_stage_that_was_deleted_still_counts_by_the_rows_own_flags(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """The opportunity keeps its stage's name, and is closed and won as the row says."""
    (record,) = pulled.rows("SELECT id FROM opportunities WHERE is_won ORDER BY id LIMIT 1")[0]
    sandbox.ask("POST", "clock", {"advance": 3600})

    edit(sandbox, record, StageName="Signed (2019)")
    pull(connect(), pulled)

    rows = pulled.rows("SELECT stage, is_closed, is_won FROM opportunities WHERE id = ?", [record])
    assert rows == [("Signed (2019)", True, True)]


def test_a_change_that_becomes_visible_late_is_not_missed(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Its stamp lies before the last pull's end: the look-back reaches it (airbyte #27146)."""
    (record,) = pulled.rows("SELECT min(id) FROM opportunities")[0]

    sandbox.ask("POST", "clock", {"advance": 60})
    pull(connect(), pulled)
    edit(sandbox, record, NextStep="Late", late=300)
    pull(connect(), pulled)

    assert pulled.rows("SELECT next_step FROM opportunities WHERE id = ?", [record]) == [("Late",)]


def test_equal_stamps_lose_nothing_at_a_page_border(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """A hundred records of the very same moment, read in pages of seven (supaglue #532)."""
    sandbox.ask("POST", "clock", {"advance": 3600})
    for (record,) in pulled.rows("SELECT id FROM opportunities ORDER BY id LIMIT 100"):
        edit(sandbox, record, Amount=4711, SystemModstamp="2026-11-16T09:00:00.000+0000")

    pull(connect(page_size=7), pulled)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE amount = 4711") == [(100,)]
    assert pulled.rows("SELECT amount FROM opportunities WHERE amount = 4711 LIMIT 1") == [
        (Decimal("4711.00"),)
    ]


def test_a_first_pull_is_announced_and_a_second_is_not(connect: Connect) -> None:
    """Records and requests of each object, before it is pulled."""
    said: dict[str, tuple[int, int]] = {}
    with Warehouse() as warehouse:
        found = pull(connect(), warehouse, announce=lambda s, e: said.update({s: (e.records, e.requests)}))
        first = dict(said)
        said.clear()
        pull(connect(), warehouse, announce=lambda s, e: said.update({s: (e.records, e.requests)}))

    assert (first["opportunities"], said) == ((150, 3), {})
    assert {"accounts", "activities", "field_changes", "leads"} <= set(first)
    assert found["accounts"].pulled == first["accounts"][0]
