"""What `doctor` says of a portal, and what `install-fields` makes of it."""

from __future__ import annotations

from datetime import datetime

import pytest
from tests.adapters.hubspot.conftest import TOKEN, Connect, Running

from pipesync.adapters.base import Check
from pipesync.adapters.hubspot.doctor import scopes
from pipesync.adapters.hubspot.install import kit
from pipesync.adapters.hubspot.own import FORECAST_FIELDS, KEY
from pipesync.adapters.hubspot.writing import own_property
from pipesync.config import Write
from pipesync.errors import PermissionMissing, RequestRefused
from pipesync.model import OWN_FIELDS
from pipesync.sandbox.hubspot.definitions import ALL_SCOPES


def _checks(connect: Connect) -> dict[str, Check]:
    return {c.name: c for c in connect(mapping=None).checks()}


def _without_kit(hubspot: Running) -> None:
    """Take out of the portal what the kit would put there."""
    assert hubspot.portal
    for kind in ("deals", "tasks"):
        left = [d for d in hubspot.portal.definitions(kind) if not d["name"].startswith("pipesync_")]
        hubspot.records.set(f"properties.{kind}", left)
        hubspot.records.set(f"groups.{kind}", [])
        hubspot.portal.forget_definitions(kind)
    hubspot.records.set("schemas", [])
    hubspot.records.db.commit()


def test_a_healthy_portal_has_nothing_failed(connect: Connect) -> None:
    """Sign-in, every scope, every mapped property and our own are in order."""
    found = _checks(connect)

    assert [c for c in found.values() if c.status == "failed"] == []
    assert found["sign-in"].detail.startswith("portal 4200042")
    assert found["properties"].status == "ok"


@pytest.mark.parametrize("scope", scopes().read_only)
def test_each_missing_scope_is_named_with_its_mend(connect: Connect, hubspot: Running, scope: str) -> None:
    """A required scope fails, another one warns; both say what to add."""
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != scope]})
    hubspot.records.db.commit()

    check = _checks(connect)[f"scope {scope}"]

    assert check.status == ("failed" if scope in scopes().required else "warning")
    assert f"add the scope {scope}" in check.fix


def test_a_refused_sign_in_ends_the_checks(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a sign-in nothing else can be said."""
    monkeypatch.setenv("HUBSPOT_TOKEN", "other")

    (check,) = _checks(connect).values()

    assert (check.name, check.status) == ("sign-in", "failed")
    assert "service key" in check.fix


def test_a_secret_that_is_not_set_is_a_failed_check(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable to set is named."""
    monkeypatch.delenv("HUBSPOT_TOKEN")

    (check,) = _checks(connect).values()

    assert "HUBSPOT_TOKEN" in check.fix


def test_a_missing_property_is_named_with_the_nearest(connect: Connect, hubspot: Running) -> None:
    """A mapped property that is not there warns, with what its column becomes."""
    assert hubspot.portal
    left = [d for d in hubspot.portal.definitions("deals") if d["name"] != "hs_next_step"]
    hubspot.records.set("properties.deals", left)
    hubspot.portal.forget_definitions("deals")
    hubspot.records.db.commit()

    check = _checks(connect)["property hs_next_step"]

    assert (check.status, "next_step of opportunities is unknown" in check.detail) == ("warning", True)
    assert "map next_step to another property" in check.fix


def test_missing_own_properties_name_the_command(connect: Connect, hubspot: Running) -> None:
    """Where writing is allowed and the kit is not installed, doctor says how to install it."""
    _without_kit(hubspot)

    check = _checks(connect)["our properties of tasks"]

    assert check.status == "failed"
    assert "install-fields" in check.fix


def test_a_dry_run_writes_nothing(connect: Connect, hubspot: Running) -> None:
    """It tells what would be created, and the portal stays as it is."""
    _without_kit(hubspot)

    told = connect().install_fields(dry_run=True)

    assert {t.status for t in told} == {"would create"}
    assert [m for m, p in hubspot.asked if m == "POST"] == []


def test_the_kit_is_installed_once(connect: Connect, hubspot: Running) -> None:
    """Group, properties and forecast object are created; the second time all of it exists and nothing is written."""
    _without_kit(hubspot)
    first = connect().install_fields()
    hubspot.asked.clear()

    second = connect().install_fields()

    assert {t.status for t in first} == {"created"}
    assert {t.status for t in second} == {"exists"}
    assert [m for m, _ in hubspot.asked if m != "GET"] == []
    assert hubspot.portal
    assert "pipesync_key" in hubspot.portal.unique_names("tasks")
    assert "pipesync_key" in hubspot.portal.unique_names("pipesync_forecast")


def _older_object(hubspot: Running) -> None:
    """Take a property out of the forecast object, as if a version had made it that had no use for one."""
    assert hubspot.portal
    older = [d for d in hubspot.portal.definitions("pipesync_forecast") if d["name"] != "basis"]
    hubspot.records.set("properties.pipesync_forecast", older)
    hubspot.portal.forget_definitions("pipesync_forecast")
    hubspot.records.db.commit()


def test_a_forecast_object_of_an_earlier_version_is_completed(connect: Connect, hubspot: Running) -> None:
    """A property that a newer version writes is missed by `doctor` and added by `install-fields`, alone."""
    assert hubspot.portal
    whole = {d["name"] for d in hubspot.portal.definitions("pipesync_forecast")}
    _older_object(hubspot)

    check = next(c for c in connect().checks() if c.name == "our properties of forecasts")
    tried = connect().install_fields(dry_run=True)
    told = {t.what: t.status for t in connect().install_fields()}

    assert (check.status, check.detail) == ("failed", "missing: basis")
    assert "install-fields" in check.fix
    assert [t.what for t in tried if t.status == "would create"] == ["pipesync_forecast.basis"]
    assert [what for what, status in told.items() if status != "exists"] == ["pipesync_forecast.basis"]
    assert {d["name"] for d in hubspot.portal.definitions("pipesync_forecast")} == whole
    assert all(c.status != "failed" for c in connect().checks() if c.name.startswith("our properties"))


def test_a_key_that_may_not_complete_the_forecast_object_installs_the_rest(
    connect: Connect, hubspot: Running
) -> None:
    """What was created before the refusal is told, and the scope that is missing."""
    _older_object(hubspot)
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != "crm.schemas.custom.write"]})

    told = {t.what: t for t in connect().install_fields()}

    (refused,) = [t for t in told.values() if t.status != "exists"]
    assert (refused.what, refused.status) == ("pipesync_forecast: its missing properties", "not possible")
    assert "crm.schemas.custom.write" in refused.detail


@pytest.mark.parametrize(("limit", "room"), [("property_limit", 3), ("overall_property_limit", 6)])
def test_a_full_portal_is_refused_before_the_first_write(
    connect: Connect, hubspot: Running, limit: str, room: int
) -> None:
    """The tier's limits are looked at first, per object and over all, so that no half of a kit is left behind."""
    _without_kit(hubspot)
    hubspot.records.set(limit, room)
    hubspot.records.db.commit()

    with pytest.raises(RequestRefused, match="room for"):
        connect().install_fields()

    assert [m for m, _ in hubspot.asked if m == "POST"] == []


def test_outside_enterprise_the_rest_is_installed(connect: Connect, hubspot: Running) -> None:
    """A portal without custom objects gets the properties and is told about the object."""
    _without_kit(hubspot)
    assert hubspot.portal
    hubspot.portal.turn("custom_objects", False)
    hubspot.records.db.commit()

    told = {t.what: t.status for t in connect().install_fields()}

    assert told.pop("pipesync_forecast") == "not possible"
    assert set(told.values()) == {"created"}


def test_a_portal_that_refuses_tasks_is_asked_for_none(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `tasks: false` the kit has no property of tasks, and the contacts' schema scope is not needed."""
    _without_kit(hubspot)
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != "crm.schemas.contacts.write"]})
    adapter = connect(allowed=Write(enabled=True, opportunity_fields=True))

    told = adapter.install_fields()

    assert {t.what for t in told} == {f"deals.{p.name}" for p in kit().deals}
    assert {t.status for t in told} == {"created"}


@pytest.mark.parametrize("scope", ["crm.schemas.deals.write", "crm.schemas.contacts.write"])
def test_a_key_that_may_not_install_is_told_which_scope_it_lacks(
    connect: Connect, hubspot: Running, scope: str
) -> None:
    """The set-up profile's scopes are named one by one."""
    _without_kit(hubspot)
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != scope]})

    with pytest.raises(PermissionMissing, match=f"add the scope {scope}"):
        connect().install_fields()


def test_the_kit_has_what_is_written() -> None:
    """A property of deals for each of our fields, and a key on everything that has to be found again."""
    assert {p.name for p in kit().deals} == {own_property(n) for n in OWN_FIELDS}
    assert {p.name for p in kit().tasks} == {KEY}
    assert {p.name for p in kit().forecast_object.properties} == {KEY, *FORECAST_FIELDS}


@pytest.mark.parametrize(
    ("scope", "mend"),
    [
        ("crm.objects.contacts.write", "`opportunity_fields: true`"),
        ("crm.objects.deals.write", "add the scope crm.objects.deals.write to the key"),
        ("crm.objects.custom.write", "add the scope crm.objects.custom.write to the key"),
    ],
)
def test_each_missing_scope_of_writing_is_named_with_its_mend(
    connect: Connect, hubspot: Running, scope: str, mend: str
) -> None:
    """What the connection may write and the key may not, fails; it is found out without writing anything."""
    before = hubspot.records.db.total_changes
    hubspot.records.set("tokens", {TOKEN: [s for s in ALL_SCOPES if s != scope]})
    hubspot.records.db.commit()

    check = _checks(connect)[f"scope {scope}"]

    assert check.status == "failed"
    assert mend in check.fix
    assert hubspot.records.db.total_changes == before + 1  # the token


def test_writing_is_not_asked_about_where_nothing_may_be_written(connect: Connect, hubspot: Running) -> None:
    """A read-only key passes, and no request but reading ones is sent."""
    hubspot.records.set("tokens", {TOKEN: list(scopes().read_only)})

    found = [c for c in connect(mapping=None, write=False).checks() if c.status != "ok"]

    assert [c.name for c in found] == ["clock"]  # the portal's stands still
    assert [p for m, p in hubspot.asked if m != "GET" and not p.endswith("/search")] == []


def test_a_missing_property_of_another_object_is_named(connect: Connect, hubspot: Running) -> None:
    """Not only deals are looked at."""
    assert hubspot.portal
    left = [d for d in hubspot.portal.definitions("companies") if d["name"] != "industry"]
    hubspot.records.set("properties.companies", left)
    hubspot.portal.forget_definitions("companies")

    check = _checks(connect)["property industry"]

    assert "companies have no such property, so industry of accounts is unknown" in check.detail
    assert "map industry to another property" in check.fix


def test_the_price_of_activities_is_told_before_they_are_chosen(connect: Connect, hubspot: Running) -> None:
    """Counted by kind, a hundred a request; once they are chosen, what a first pull takes."""
    calls = len(hubspot.records.page("calls", after=0, limit=10_000, archived=False))
    requests = -(-calls // 100)

    before = _checks(connect)["activities"]
    (after,) = [c for c in connect(activities=["calls"]).checks() if c.name == "activities"]

    assert f"calls {calls:,} ({requests} requests)" in before.detail
    assert "activities: [...]" in before.detail
    assert after.detail == f"read one by one: calls; a first pull takes {requests} requests"


def test_an_object_beyond_the_tier_is_a_warning(connect: Connect, hubspot: Running) -> None:
    """Where HubSpot refuses an object for another reason than a scope, no scope is blamed."""
    assert hubspot.portal
    hubspot.portal.turn("lacks", ["leads"])

    check = _checks(connect)["scope crm.objects.leads.read"]

    assert (check.status, "tier" in check.fix) == ("warning", True)


def test_a_portal_without_the_forecast_object_is_told_what_that_means(
    connect: Connect, hubspot: Running
) -> None:
    """Outside Enterprise nothing fails: forecasts stay in the ledger and the report."""
    hubspot.records.set("schemas", [])

    check = _checks(connect)["our forecast object"]

    assert (check.status, "forecasts: false" in check.fix) == ("warning", True)


@pytest.mark.parametrize(
    ("version", "today", "status"),
    [("2026-09", "2026-11-16", "ok"), ("2026-09", "2027-12-01", "warning"), ("v3", "2027-01-01", "warning")],
)
def test_a_version_that_ends_soon_is_told(
    connect: Connect, hubspot: Running, version: str, today: str, status: str
) -> None:
    """HubSpot supports a version for 18 months; some months before the end doctor warns, by HubSpot's own clock."""
    hubspot.now_ms = round(datetime.fromisoformat(f"{today}T09:00:00+00:00").timestamp() * 1000)

    (check,) = [c for c in connect(api_version=version).checks() if c.name == "api version"]

    assert (check.status, "supported until" in check.detail) == (status, True)


def test_limits_are_told(connect: Connect, hubspot: Running) -> None:
    """The burst by which pulls are paced, and what is left of the day, as the headers have them."""
    assert hubspot.portal
    hubspot.portal.turn("tier", "professional")

    (check,) = [c for c in connect().checks() if c.name == "limits"]

    assert check.detail.startswith("190 requests in 10 s; ")
    assert "of 625,000 are used today" in check.detail


def test_every_scope_has_a_reason() -> None:
    """The three profiles name known scopes, and what each is for."""
    profiles = [scopes().read_only, scopes().read_write, scopes().set_up]

    assert all(len(reason) > 3 for profile in profiles for reason in profile.values())
    assert set(scopes().required) <= set(scopes().read_only)
    assert {s for profile in profiles for s in profile} <= set(ALL_SCOPES)
