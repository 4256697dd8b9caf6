"""What a portal does not let us read makes its columns unknown, with a warning; the rest arrives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters.hubspot.conftest import DEALS, TOKEN, Connect, Running

from pipesync.pull import pull
from pipesync.sandbox.hubspot.definitions import ALL_SCOPES
from pipesync.store.warehouse import Warehouse

OPTIONAL = {
    "accounts": ("companies", "crm.objects.companies.read"),
    "line_items": ("line_items", "crm.objects.line_items.read"),
    "products": ("products", "crm.objects.products.read"),
    "leads": ("leads", "crm.objects.leads.read"),
    "quotas": ("goal_targets", "crm.objects.goals.read"),
    "activities": ("calls", "crm.objects.contacts.read"),
}
"""Stream -> the object that it is read from, and its scope."""


def _without(hubspot: Running, scope: str) -> None:
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != scope]})


def _states(warehouse: Warehouse, stream: str) -> set[str]:
    return {c.state for c in warehouse.columns("hs") if c.stream == stream}


@pytest.mark.parametrize("stream", OPTIONAL)
def test_a_missing_scope_makes_columns_unknown(
    connect: Connect, warehouse: Warehouse, hubspot: Running, stream: str
) -> None:
    """The warning names the scope, the stream's columns are unreadable, and what else was asked for is there."""
    _, scope = OPTIONAL[stream]
    _without(hubspot, scope)

    found = pull(connect(write=False, activities=["calls"]), warehouse, streams=("users", stream))

    assert scope in found[stream].warnings[0]
    assert _states(warehouse, stream) == {"unreadable"}
    assert found["users"].pulled > 0


@pytest.mark.parametrize("stream", OPTIONAL)
def test_a_missing_tier_makes_columns_unknown(
    connect: Connect, warehouse: Warehouse, hubspot: Running, stream: str
) -> None:
    """An object that the portal does not have is refused in whatever way, and is unknown all the same."""
    kind, _ = OPTIONAL[stream]
    assert hubspot.portal
    hubspot.portal.turn("lacks", [kind])

    found = pull(connect(write=False, activities=["calls"]), warehouse, streams=("users", stream))

    assert "tier" in found[stream].warnings[0]
    assert _states(warehouse, stream) == {"unreadable"}
    assert found["users"].pulled > 0


def test_several_refusals_stop_nothing(connect: Connect, warehouse: Warehouse, hubspot: Running) -> None:
    """With the two required scopes alone a whole pull ends well, and the deals are all there with their history."""
    hubspot.records.set("tokens", {TOKEN: ["crm.objects.deals.read", "crm.objects.owners.read"]})

    found = pull(connect(mapping=None, write=False), warehouse)

    refused = {stream for stream, told in found.items() if told.warnings}
    assert refused == {"accounts", "products", "line_items", "leads", "quotas", "currency_rates"}
    assert found["opportunities"].pulled == 240
    assert warehouse.rows("SELECT count(*) > 240 FROM field_changes") == [(True,)]


def test_exchange_rates_may_be_out_of_reach(connect: Connect, warehouse: Warehouse, hubspot: Running) -> None:
    """Without the currencies' scope the rates are unknown."""
    _without(hubspot, "settings.currencies.read")

    found = pull(connect(mapping=None), warehouse, streams=("currency_rates", "users"))

    assert "settings.currencies.read" in found["currency_rates"].warnings[0]
    assert found["users"].pulled > 0


def test_deals_come_without_contacts_where_those_are_out_of_reach(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Whether associations want the contacts' scope is not documented; where they do, only they are unknown.

    So they stay while nothing changes and when something does, until the deals are listed anew.
    """
    assert hubspot.portal
    hubspot.portal.turn("link_scopes", "both")
    _without(hubspot, "crm.objects.contacts.read")
    streams = ("opportunities", "field_changes", "contact_roles")

    first = pull(connect(), warehouse, streams=streams)
    hubspot.advance(3600)
    second = pull(connect(), warehouse, streams=streams)
    ((deal,),) = warehouse.rows("SELECT id FROM opportunities WHERE NOT is_closed ORDER BY id LIMIT 1")
    hubspot.edit(int(deal), amount="12.00")
    third = pull(connect(), warehouse, streams=streams)

    assert first["opportunities"].pulled == 240
    assert third["opportunities"].changed == 1
    for found in (first, second, third):
        assert "crm.objects.contacts.read" in found["contact_roles"].warnings[0]
    assert _states(warehouse, "contact_roles") == {"unreadable"}


def test_contacts_arrive_once_the_scope_is_there(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """After the scope was added, a full pull brings them."""
    assert hubspot.portal
    hubspot.portal.turn("link_scopes", "both")
    _without(hubspot, "crm.objects.contacts.read")
    pull(connect(), warehouse, streams=DEALS)
    hubspot.records.set("tokens", {TOKEN: list(ALL_SCOPES)})

    pull(connect(), warehouse, streams=DEALS, full=True)

    assert _states(warehouse, "contact_roles") == {"known"}
    assert warehouse.rows("SELECT count(*) > 0 FROM contact_roles") == [(True,)]


def test_without_the_scope_of_deals_nothing_is_known_of_them(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Even then nothing breaks: the warning names the scope, and no blank is taken for a fact."""
    _without(hubspot, "crm.objects.deals.read")

    found = pull(connect(), warehouse, streams=("opportunities", "users"))

    assert "crm.objects.deals.read" in found["opportunities"].warnings[0]
    assert _states(warehouse, "opportunities") == {"unreadable"}


def test_a_property_that_is_not_there_is_unknown(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """A mapped property of deals that the token cannot see makes its column unreadable, not blank."""
    assert hubspot.portal
    left = [d for d in hubspot.portal.definitions("deals") if d["name"] != "hs_next_step"]
    hubspot.records.set("properties.deals", left)
    hubspot.portal.forget_definitions("deals")

    pull(connect(), warehouse)

    (state,) = [c for c in warehouse.columns("hs") if (c.stream, c.column) == ("opportunities", "next_step")]
    assert state.state == "unreadable"
    assert "hs_next_step" in state.detail


def test_a_sites_own_property_of_another_object_is_looked_at(
    connect: Connect, warehouse: Warehouse, tmp_path: Path
) -> None:
    """A misspelt property of companies makes its column unreadable; HubSpot itself would leave it out in silence."""
    path = tmp_path / "own.yaml"
    path.write_text(
        "extends: pipesync:hubspot\nstreams:\n  accounts:\n    fields:\n      industry: industy\n",
        encoding="utf-8",
    )

    pull(connect(mapping=path), warehouse, streams=("accounts",))

    states = {c.column: c.state for c in warehouse.columns("hs") if c.stream == "accounts"}
    assert (states["industry"], states["name"]) == ("unreadable", "known")
