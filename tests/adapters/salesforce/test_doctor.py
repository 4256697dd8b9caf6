"""`doctor` names each missing permission, field and limit with its mend: each is taken away in the sandbox in turn."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.adapters.salesforce.conftest import Connect, custom_years, order, put

from pipesync import fiscal
from pipesync.adapters.base import Check
from pipesync.checkup import of_connection
from pipesync.config import Calendar, FiscalWeeks, Write, from_text
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
    ("every", "status", "said"),
    [(28, "warning", "no pattern"), (None, "ok", "5-4-4 monday last, from month 7 on")],
)
def test_custom_fiscal_years_are_understood_or_told(
    connect: Connect, sandbox: Sandbox, every: int | None, status: str, said: str
) -> None:
    """Thirteen months of four weeks are no quarters of three months; an org with standard years has nothing to tell."""
    assert "fiscal year" not in examined(connect)
    start, weeks = datetime.date(2026, 1, 5), FiscalWeeks(pattern="5-4-4", begins="monday", year="last")
    calendar = Calendar(fiscal_year_starts=7, weeks=weeks)
    listed = [day for year in (2026, 2027, 2028) for day in fiscal.months(year, calendar)[:-1]]
    custom_years(
        sandbox, [start + datetime.timedelta(days=every * n) for n in range(13)] if every else listed
    )

    found = examined(connect)["fiscal year"]

    assert (found.status, said in found.detail, bool(found.fix)) == (status, True, status == "warning")


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


def pair(folder: Path, ends: datetime.datetime, host: str = "pipesync") -> str:
    """Write `key.pem` and `cert.pem`; return the certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pipesync")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends - datetime.timedelta(days=365)).not_valid_after(ends)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
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
    ("url", "said"),
    [
        ("https://acme.lightning.force.com", "My Domain"),
        ("https://example.com", "My Domain"),
        ("acme.my.salesforce.com", "My Domain"),
        ("https://login.salesforce.com", "My Domain"),
        ("https://127.0.0.1:8443", "by http"),
    ],
)
def test_an_address_that_is_no_my_domain_is_named(connect: Connect, url: str, said: str) -> None:
    """Before anything is sent there."""
    with pytest.raises(InputError, match=said):
        connect(url=url)


def test_a_my_domain_that_does_not_exist_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries: names may fail to resolve for a moment."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(CrmError, match=r"no-such-domain.*cannot be found(.|\n)*My Domain"):
        connect(url="https://no-such-domain-of-pipesync.my.salesforce.com").connection()


@contextmanager
def serving(answer: tuple[int, str, bytes], pem: Path | None = None) -> Iterator[int]:
    """Answer every request with this status, `Location` and body, by TLS where there is a certificate; the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answer[0])
            self.send_header("Location", answer[1])
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up in the handshake is what is wanted."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((302, "https://new-name.my.salesforce.com", b""), "sends elsewhere"),
        ((404, "", b"<html>URL No Longer Exists</html>"), r"is no Salesforce org \(404\)"),
        ((200, "", b"<html>Welcome</html>"), r"is no Salesforce org \(200\)"),
    ],
    ids=["renamed", "gone", "a page"],
)
def test_what_is_no_org_any_more_is_named(
    connect: Connect, answer: tuple[int, str, bytes], said: str
) -> None:
    """A My Domain that was renamed or never was one; no secret follows it elsewhere."""
    with serving(answer) as port, pytest.raises(CrmError, match=rf"{said}(.|\n)*My Domain"):
        connect(url=f"http://127.0.0.1:{port}").connection()


@pytest.mark.parametrize(
    ("host", "ends", "said"),
    [("acme.my.salesforce.com", 2020, "has expired"), ("other.my.salesforce.com", 2100, "is another host's")],
    ids=["expired", "another's"],
)
def test_a_server_that_cannot_prove_who_it_is_is_named(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, ends: int, said: str
) -> None:
    """With the reason: one that has expired may be this machine's clock."""
    pair(tmp_path, datetime.datetime(ends, 1, 31, tzinfo=datetime.UTC), host)
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    monkeypatch.setenv("TEST_SESSION", "00D")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))

    with (
        serving((200, "", b""), both) as port,
        pytest.raises(CrmError, match=rf"certificate of acme.* {said}"),
    ):
        connect(
            url=f"https://acme.my.salesforce.com:{port}", client_secret_file=None, session_env="TEST_SESSION"
        ).connection()


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
