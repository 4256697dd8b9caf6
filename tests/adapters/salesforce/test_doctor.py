"""`doctor` names each missing permission, field and limit with its mend: each is taken away in the sandbox in turn."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.adapters.salesforce.conftest import Connect, order, put

from pipesync.adapters.base import Check
from pipesync.checkup import of_connection
from pipesync.config import Write, from_text
from pipesync.errors import CrmError, InputError, SignInRefused
from pipesync.mapping import load
from pipesync.sandbox.process import Sandbox

AS_OF = datetime.datetime(2026, 11, 16, 8, tzinfo=datetime.UTC)
ALL = Write(enabled=True, tasks=True, forecasts=True, opportunity_fields=True, findings=True)
SOURCES = {"opportunities": "Opportunity", "users": "User", "accounts": "Account", "products": "Product2",
           "contact_roles": "OpportunityContactRole", "line_items": "OpportunityLineItem", "leads": "Lead"}  # fmt: skip


def examined(connect: Connect, **options: Any) -> dict[str, Check]:
    return {c.name: c for c in connect(ALL, **options).checks()}


def test_an_org_as_the_kit_makes_it_lacks_only_a_role(connect: Connect, sandbox: Sandbox) -> None:
    """The sandbox's integration user has none, as a new one; given one, nothing is left to mend of what is written."""
    before = examined(connect)["remove tasks"]
    put(sandbox, hidden=sandbox.ask("GET", "settings")["salesforce"]["hidden"])
    record = {"crm": "salesforce", "id": "005PS0000000000AAA", "fields": {"UserRoleId": "00EPS0000000001YAA"}}
    sandbox.ask("POST", "edit", record)

    found = examined(connect)

    assert (before.status, "role above the reps" in before.fix) == ("warning", True)
    assert found["remove tasks"].status == "ok"
    assert [c for c in found.values() if c.status == "failed"] == []


@pytest.mark.parametrize(
    ("settings", "name", "status", "said"),
    [
        ({"hidden": ["Opportunity"]}, "read Opportunity", "failed", "grants Read on Opportunity"),
        ({"hidden": ["Event"]}, "read Event", "warning", "Pipesync_Integration"),
        ({"hidden": ["Task.ActivityDate"]}, "read Task.ActivityDate", "warning", "grant Read on Task.ActivityDate"),
        ({"hidden": ["OpportunityHistory.Amount"]}, "read OpportunityHistory", "warning", "Pipesync_Integration"),
        ({"hidden": ["OpportunityFieldHistory"]}, "read OpportunityFieldHistory", "warning", "Set History Tracking"),
        ({"hidden": ["OpportunityStage"]}, "read OpportunityStage", "warning", "Pipesync_Integration"),
        ({"hidden": ["Pipesync_Finding__c"]}, "write Pipesync_Finding__c", "failed", "deploy adapters/salesforce"),
        ({"hidden": ["Opportunity.Pipesync_Reasons__c"]}, "write Opportunity.Pipesync_Reasons__c", "failed", "deploy"),
        ({"readonly": ["Task.Description"]}, "write Task.Description", "failed", "grant Edit on Task.Description"),
        ({"readonly": ["Task"]}, "write Task: Create", "failed", "Edit Tasks"),
        ({"readonly": ["Task:delete"]}, "write Task: Delete", "failed", "Edit Tasks"),
        ({"readonly": ["Opportunity"]}, "write Opportunity: Edit", "failed", "grants Edit on Opportunity"),
        ({"readonly": ["Pipesync_Forecast__c"]}, "write Pipesync_Forecast__c: Create", "failed", "grants Create"),
        ({"unshared_but": True}, "whose opportunities", "warning", "View All Records on Opportunity"),
        ({"daily_limit": 1000, "used": 930}, "limits: requests", "warning", "other heavy clients"),
        ({"used_jobs": 9_100}, "limits: Bulk query jobs", "warning", "read by REST until tomorrow"),
        ({"used_jobs": 8_900}, "limits: Bulk query jobs", "ok", ""),
        ({"api_disabled": True}, "api access", "failed", "API Enabled"),
        ({"sign_in_refused": ["invalid_grant", "user hasn't approved this consumer"]}, "sign-in", "failed",
         "a permission set that the integration user has"),
        ({"sign_in_refused": ["invalid_grant", "expired authorization code"]}, "sign-in", "failed", "clock"),
    ],
    ids=lambda v: next(iter(f"{k}={x}" for k, x in v.items())) if isinstance(v, dict) else None,
)  # fmt: skip
def test_each_is_named_with_its_mend(
    connect: Connect, sandbox: Sandbox, settings: dict[str, Any], name: str, status: str, said: str
) -> None:
    """Whatever is taken away."""
    if settings.pop("unshared_but", False):
        records = sandbox.ask("GET", "dump")["Opportunity"]
        settings = {"unshared": [r["Id"] for r in records if r["OwnerId"] != records[0]["OwnerId"]]}
    if "hidden" in settings:
        settings = {"hidden": [*sandbox.ask("GET", "settings")["salesforce"]["hidden"], *settings["hidden"]]}
    put(sandbox, **settings)

    found = examined(connect)

    assert (found[name].status, said in found[name].fix) == (status, True), found[name]


def test_what_else_is_wrong_is_told_beside_it(connect: Connect, sandbox: Sandbox, tmp_path: Path) -> None:
    """An org that refuses everything ends the checks, not the command."""
    put(sandbox, api_disabled=True)
    config = from_text("version: 1\nconnections: {crm: {adapter: files, path: .}}\n", tmp_path)

    found = list(of_connection(config, connect(), AS_OF))

    assert [(c.name, c.status) for c in found] == [
        ("sign-in", "ok"), ("API version", "ok"), ("api access", "failed"),
    ]  # fmt: skip
    assert "API Enabled" in found[-1].fix


def test_who_may_not_see_the_limits_hears_of_requests_all_the_same(
    connect: Connect, sandbox: Sandbox
) -> None:
    """Salesforce tells them to users who may view Setup; an integration user of the kit may not."""
    put(sandbox, limits_refused=True, daily_limit=1000, used=930)

    found = examined(connect)

    assert (found["limits: requests"].status, "of 1,000 requests" in found["limits: requests"].detail) == (
        "warning",
        True,
    )
    assert found["limits: Bulk query jobs"].status == "ok"
    assert "View Setup and Configuration" in found["limits: Bulk query jobs"].detail
    assert "read Opportunity" in found


def test_every_other_object_is_named_when_it_is_hidden(connect: Connect, sandbox: Sandbox) -> None:
    """As a warning: the rest goes on without it."""
    others = [source for source in SOURCES.values() if source != "Opportunity"]
    put(sandbox, hidden=others)

    found = examined(connect)

    for source in others:
        check = found[f"read {source}"]
        assert (check.status, f"grants Read on {source}" in check.fix) == ("warning", True)


def test_every_mapped_field_is_named_when_it_is_hidden(connect: Connect, sandbox: Sandbox) -> None:
    """All at once: each with the grant that mends it."""
    mapping = load(Path("adapters/salesforce/mapping.yaml")).streams
    fields = [
        f"{SOURCES[s]}.{f.field}"
        for s in SOURCES
        for f in mapping[s].fields.values()
        if f.field not in ("Id",)
    ]
    plain = [f for f in fields if f.count(".") == 1]
    put(sandbox, hidden=plain)

    found = examined(connect)

    assert {f"read {f}" for f in plain} <= set(found)
    assert all(found[f"read {f}"].fix.startswith(f"grant Read on {f}") for f in plain)


def test_the_first_pull_is_estimated(connect: Connect) -> None:
    """Records, requests and seconds, with the objects that take longest."""
    check = examined(connect)["first pull"]

    assert check.status == "ok"
    assert "records, about" in check.detail
    assert "field_changes" in check.detail


def test_a_version_that_the_org_does_not_speak_is_named(connect: Connect) -> None:
    """With one that it does; a pull says so too."""
    for version in ("30.0", "69.0"):
        check = examined(connect, api_version=version)["API version"]

        assert (check.status, 'api_version: "68.0"' in check.fix) == ("failed", True)
        with pytest.raises(CrmError, match="`api_version`"):
            connect(api_version=version).connection()


# --- Bad input ----------------------------------------------------------------------------------------------------


def pair(folder: Path, ends: datetime.datetime) -> str:
    """Write `key.pem` and `cert.pem`; return the certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pipesync")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends - datetime.timedelta(days=365)).not_valid_after(ends)
    certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    (folder / "cert.pem").write_bytes(certificate)
    return certificate.decode()


JWT = {"username": "pipesync@acme.example", "private_key_file": "key.pem", "certificate_file": "cert.pem",
       "client_secret_file": None}  # fmt: skip


def test_a_certificate_that_ended_is_told_with_its_date(
    connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    """By `doctor` before anything is asked, and by the org's refusal."""
    put(sandbox, certificate=pair(tmp_path, datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)))

    checks = list(connect(ALL, **JWT).checks())

    assert [(c.name, c.status) for c in checks] == [("certificate", "failed"), ("sign-in", "failed")]
    assert "2026-01-31" in checks[0].detail
    assert "make a new pair" in checks[1].fix


def test_an_org_that_takes_an_ended_certificate_lets_us_in(
    connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Sources differ on what Salesforce does; either way `doctor` tells."""
    certificate = pair(tmp_path, datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC))
    put(sandbox, certificate=certificate, takes_expired=True)

    found = {c.name: c.status for c in connect(ALL, **JWT).checks()}

    assert (found["certificate"], found["sign-in"]) == ("failed", "ok")


def test_a_certificate_that_ends_soon_is_told_in_time(
    connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Weeks before the sync stops."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=20)
    put(sandbox, certificate=pair(tmp_path, soon))

    assert next(iter(connect(ALL, **JWT).checks())).status == "warning"


@pytest.mark.parametrize(
    ("settings", "options", "kind", "said"),
    [
        ({"certificate": "another"}, JWT, SignInRefused, "does not belong to this private key"),
        ({"username": "other@acme.example"}, JWT, SignInRefused, "pre-authorize the app"),
        ({"api_disabled": True}, {}, CrmError, "API Enabled"),
        ({"daily_limit": 5, "used": 5}, {}, CrmError, "daily requests are used up"),
    ],
    ids=["wrong key", "no permission set", "no API", "no requests"],
)
def test_what_the_org_refuses_is_one_clear_error(
    connect: Connect,
    sandbox: Sandbox,
    tmp_path: Path,
    settings: dict[str, Any],
    options: dict[str, Any],
    kind: type[CrmError],
    said: str,
) -> None:
    """With the mend, and without any secret."""
    future = datetime.datetime(2027, 1, 31, tzinfo=datetime.UTC)
    if settings.get("certificate") == "another":
        settings = {"certificate": pair(tmp_path, future)}
    pair(tmp_path, future)
    put(sandbox, **settings)

    with pytest.raises(kind, match=said):
        connect(**options).connection()


@pytest.mark.parametrize(
    "url", ["https://acme.lightning.force.com", "https://example.com", "acme.my.salesforce.com"]
)
def test_an_address_that_is_no_my_domain_is_named(connect: Connect, url: str) -> None:
    """Before anything is sent there."""
    with pytest.raises(InputError, match="My Domain"):
        connect(url=url)


def test_a_my_domain_that_does_not_exist_is_named(connect: Connect) -> None:
    """After a few tries: names may fail to resolve for a moment."""
    with pytest.raises(CrmError, match=r"no-such-domain.*cannot be found(.|\n)*My Domain"):
        connect(url="https://no-such-domain-of-pipesync.my.salesforce.com").connection()


def test_an_object_that_is_not_visible_stops_nothing_else(connect: Connect, sandbox: Sandbox) -> None:
    """The error says which, and which permission set shows it."""
    put(sandbox, hidden=["Account"])

    with pytest.raises(CrmError, match=r"Account cannot be read(.|\n)*Pipesync_Integration"):
        list(connect().pull("accounts", None, connect().clock()))


def test_an_org_in_maintenance_is_waited_for_and_then_named(connect: Connect, sandbox: Sandbox) -> None:
    """HTML in place of JSON is survived."""
    order(sandbox, {"kind": "status", "status": 503, "rate": 1.0})

    with pytest.raises(CrmError, match="503"):
        connect().connection()


@pytest.mark.parametrize("where", ["key ring", "empty"])
def test_a_secret_may_stand_in_the_key_ring(connect: Connect, where: str) -> None:
    """Named as SERVICE/USER; an entry that is missing is said so, with the command that puts it there."""
    import keyring
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            given = ("pipesync", "crm") if where == "key ring" else ()
            return "sandbox-consumer-secret" if (service, username) == given else None

        def set_password(self, service: str, username: str, password: str) -> None:
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())  # type: ignore[no-untyped-call]  # of keyring's
    try:
        adapter = connect(client_secret_file=None, client_secret_keyring="pipesync/crm")
        if where == "key ring":
            assert adapter.clock().year == 2026
        else:
            with pytest.raises(InputError, match="keyring set pipesync crm"):
                adapter.clock()
    finally:
        keyring.set_keyring(before)
