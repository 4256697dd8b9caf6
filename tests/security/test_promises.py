"""One test for each promise of docs/security.md that no other place holds; the page names them all."""

from __future__ import annotations

import csv
import datetime as dt
import io
import ipaddress
import json
import logging
import re
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesync import logs, secrecy
from pipesync.adapters import open_adapter
from pipesync.cli import Failure
from pipesync.config import ConnectionConfig, from_text
from pipesync.errors import CrmError, InputError
from pipesync.mapping import load as load_mapping
from pipesync.model import Activity, ContactRole
from pipesync.options import secret
from pipesync.report.encode import to_csv
from pipesync.rules.ruleset import rule_files
from pipesync.store.ledger import Ledger

ROOT = Path(__file__).parents[2]
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=8, max_size=40)


# --- Secrets ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(value=SECRETS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_that_was_read_is_shown_nowhere(value: str, before: str, after: str) -> None:
    """Whatever it is and wherever it stands: not in an event, for people or programs, nor in an error, nor in JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", value)
        secret({"token_env": "TEST_SECRET"}, "token", connection="crm")
    said = f"{before} {value} {after}"
    out = io.StringIO()
    for people in (True, False):
        logs.configure(logging.INFO, out, people=people)
        logs.log.warning(said, nested={"list": [said], said: 1}, text=said)
    logs.silence()
    kept = json.dumps(secrecy.redacted({"error": said, "more": [said]}), ensure_ascii=False)

    for text in (out.getvalue(), Failure(said, 2).message, kept):
        assert value not in text.replace(secrecy.HIDDEN, "")


@settings(max_examples=15, deadline=None)
@given(value=SECRETS)
def test_a_secret_in_an_error_is_not_kept(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The ledger's runs and journal hold the error without it."""
    secrecy.hide(value)
    file = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger(f"sqlite:///{file}") as ledger:
        run = ledger.start_run("crm", "sync", dt.datetime.now(dt.UTC))
        ledger.finish_run(run.id, dt.datetime.now(dt.UTC), "failed", {"error": f"x{value}y"})
        kept = ledger.run(run.id).detail["error"]

    assert kept == secrecy.redacted(f"x{value}y")
    assert value not in kept.replace(secrecy.HIDDEN, "")
    assert value.encode() not in b"".join(p.read_bytes() for p in file.parent.iterdir())


def test_a_secret_that_is_an_ordinary_word_is_not_looked_for_in_what_hides_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A site may well have chosen it."""
    monkeypatch.setattr(secrecy, "_secrets", set())  # what other tests say is to stay readable
    secrecy.hide("secret")
    secrecy.hide("hunter2-and-more")

    assert secrecy.redacted("a secret: hunter2-and-more") == f"a {secrecy.HIDDEN}: {secrecy.HIDDEN}"


def test_a_session_is_hidden_for_as_long_as_it_may_be_told_of() -> None:
    """While anybody uses it, and then until many others have ended; what is older is not kept for ever."""
    shared, ended = "00Dxx!session+shared", "00Dxx!session+ended"
    quoted = "00Dxx%21session%2Bshared"
    for session in (shared, shared, ended):
        secrecy.hide_session(session)
    for session in (shared, ended):
        secrecy.end_session(session)
    assert secrecy.redacted([shared, quoted, ended]) == [secrecy.HIDDEN] * 3

    for i in range(500):
        secrecy.end_session(secrecy.hide_session(f"00Dxx!session+{i}"))

    assert secrecy.redacted(f"{shared} 00Dxx!session+499 {quoted}") == " ".join([secrecy.HIDDEN] * 3)
    assert secrecy.redacted(ended) == ended
    secrecy.end_session(shared)
    assert secrecy.redacted(shared) == secrecy.HIDDEN


def test_a_configuration_refuses_a_secret() -> None:
    """There is no key to write one into."""
    text = "connections:\n  crm: {adapter: hubspot, token: pat-na1-0000}\n"

    with pytest.raises(InputError, match="unknown key 'token'") as caught:
        open_adapter("crm", from_text(text, Path()).connections["crm"], Path())

    assert "pat-na1" not in str(caught.value)


# --- Files and the network --------------------------------------------------------------------------------------


def test_files_are_their_owners_alone(work: Path, pipesync: Callable[..., Any]) -> None:
    """Stores, copies, plans, outbox, backups, previews: 0600, whatever the shell's mask; measures name nobody."""
    for words in (
        ("sync", "-q"), ("plan", "--out", "plan.json"), ("backup", "saved.zip"), ("digest", "--html", "previews"),
        ("audit", "--out", "audit.csv"),
    ):  # fmt: skip
        assert pipesync(*words).code in (0, 4)
    given_by_the_test = {"pipesync.yaml", *(p.name for p in (work / "exports").iterdir())}

    modes = {
        str(p.relative_to(work)): oct(p.stat().st_mode & 0o777)
        for p in work.rglob("*")
        if p.is_file() and p.name not in given_by_the_test
    }
    assert len(modes) > 8
    assert {name for name, mode in modes.items() if mode != "0o600"} == {"metrics.prom"}
    measures = (work / "metrics.prom").read_text()
    with (work / "exports" / "owners.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert [name for name in names if name in measures] == []


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[tuple[int, list[str]]]:
    """A server on this machine with a certificate that nobody signed, and the requests that reached it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "impostor")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.DNSName("acme.my.salesforce.com"),
             x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]  # fmt: skip
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = tmp_path / "impostor.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up in the handshake is what is wanted."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
def test_a_certificate_that_nobody_signed_is_refused(
    crm: str, impostor: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request, and so no secret, reaches a server that cannot prove who it is."""
    port, asked = impostor
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    monkeypatch.setenv("TEST_SECRET", "pat-na1-4711-4711")
    options = {
        "salesforce": {"url": f"https://acme.my.salesforce.com:{port}", "session_env": "TEST_SECRET"},
        "hubspot": {"url": f"https://localhost:{port}", "token_env": "TEST_SECRET"},
    }[crm]
    config = ConnectionConfig.model_validate({"adapter": crm, "options": options})
    adapter = open_adapter("crm", config, Path())

    with pytest.raises(
        CrmError, match=r"no certificate that can be trusted|certificate of .* cannot be trusted"
    ):
        adapter.connection()
    adapter.close()

    assert asked == []


@pytest.mark.parametrize(
    ("crm", "url"), [("salesforce", "http://acme.my.salesforce.com"), ("hubspot", "http://x.io")]
)
def test_plain_http_is_for_this_machine_only(crm: str, url: str) -> None:
    """Another host is spoken to over TLS or not at all."""
    config = ConnectionConfig.model_validate({"adapter": crm, "options": {"url": url}})

    with pytest.raises(InputError, match="https"):
        open_adapter("crm", config, Path())


def test_nothing_in_the_code_turns_verification_off() -> None:
    """Neither a `verify=False` nor an unverified context stands anywhere."""
    pattern = re.compile(
        r"verify\s*=\s*False|verify_ssl\s*=\s*False|CERT_NONE|_create_unverified|disable_warnings"
    )

    assert [
        str(p) for p in (ROOT / "src").rglob("*.py") if pattern.search(p.read_text(encoding="utf-8"))
    ] == []


# --- What is kept of people -------------------------------------------------------------------------------------


def test_no_texts_of_messages_and_no_names_of_contacts() -> None:
    """The model has no place for them: of activities kind and time, of contacts ids and roles."""
    assert set(Activity.model_fields) == {
        "connection", "id", "opportunity_id", "kind", "at", "is_done", "direction", "owner_id",
    }  # fmt: skip
    assert set(ContactRole.model_fields) == {
        "connection",
        "opportunity_id",
        "contact_id",
        "role",
        "is_primary",
    }


# --- What others wrote ------------------------------------------------------------------------------------------


@given(text=st.text(max_size=30))
def test_a_spreadsheet_runs_no_cell_as_a_formula(text: str) -> None:
    """No cell begins with what Excel, LibreOffice or Sheets takes for a formula."""
    (_, row) = csv.reader(io.StringIO(to_csv([{"cell": text, "more": "x"}], ["cell", "more"]), newline=""))

    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize(
    "code",
    [
        "!!python/object/apply:os.system ['touch evil']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/new:os.system ['touch evil']",
    ],
)
def test_yaml_runs_no_code(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that would make Python objects is an input error, in a configuration and in a mapping."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mapping.yaml").write_text(f"version: 1\ncurrency: {code}\n")

    with pytest.raises(InputError):
        from_text(f"connections: {code}\n", tmp_path)
    with pytest.raises(InputError):
        load_mapping(tmp_path / "mapping.yaml")

    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        + "".join(
            f"{chr(c)}: &{chr(c)} [{', '.join([f'*{chr(c - 1)}'] * 10)}]\n" for c in range(ord("c"), ord("j"))
        ),
        "[" * 5000 + "]" * 5000,
    ],
    ids=["an alias of itself", "a billion laughs", "nested 5,000 times"],
)
def test_yaml_takes_no_memory_of_others(text: str) -> None:
    """What would grow without end is told as a mistake."""
    with pytest.raises(InputError, match=r"nested too deeply|more than 200,000 values|not valid YAML"):
        from_text(text, Path())


@pytest.mark.parametrize("message", ["{name.__class__}", "{name!r}", "{name:%s}", "{0}", "{self}", "{{7*7}}"])
def test_a_rules_message_runs_no_code(message: str, tmp_path: Path, pipesync: Callable[..., Any]) -> None:
    """A message names columns and nothing else."""
    rule = (ROOT / "rules" / "hygiene" / "amount_missing.yaml").read_text()
    folder = tmp_path / "own" / "site"
    folder.mkdir(parents=True)
    new = re.sub(
        r"(?m)^message:.*$", f"message: {json.dumps(message)}", rule.replace("hygiene.amount", "site.amount")
    )
    (folder / "amount_missing.yaml").write_text(new)
    (tmp_path / "pipesync.yaml").write_text(
        "rule_folders: [own]\nconnections:\n  crm: {adapter: files, data: exports}\n"
    )

    linted = pipesync("rules", "lint", "--config", str(tmp_path / "pipesync.yaml"))

    assert linted.code == 2
    assert "amount_missing.yaml" in linted.err + linted.out


@pytest.mark.parametrize("source", ["../outside", "/etc/passwd", "a/../../outside.csv", "outside"])
def test_a_dataset_reads_no_file_outside_of_its_folder(source: str, tmp_path: Path, company: Path) -> None:
    """Neither by a path in its mapping nor by a link."""
    folder = tmp_path / "exports"
    shutil.copytree(company, folder)
    (tmp_path / "outside.csv").write_text("owner_id,name\n1,x\n")
    (folder / "outside.csv").symlink_to(tmp_path / "outside.csv")
    (folder / "mapping.yaml").write_text(
        f"version: 1\nextends: pipesync:files\nstreams:\n  users: {{source: {source}}}\n"
    )

    with pytest.raises(InputError, match="outside the dataset's folder"):
        open_adapter(
            "x", ConnectionConfig.model_validate({"adapter": "files", "data": str(folder)}), tmp_path
        )


def test_a_pack_of_rules_reads_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    """A link in a pack that somebody else made leads nowhere."""
    (tmp_path / "secret.yaml").write_text("token: x\n")
    (tmp_path / "pack" / "site").mkdir(parents=True)
    (tmp_path / "pack" / "site" / "rule.yaml").symlink_to(tmp_path / "secret.yaml")

    with pytest.raises(InputError, match="leads out of the folder"):
        rule_files(tmp_path / "pack")


# --- The page ---------------------------------------------------------------------------------------------------


def test_every_promise_names_a_test_that_is_there() -> None:
    """docs/security.md's table: each row has at least one test, and each named test exists in the named file."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`tests/" in line]
    named = [re.findall(r"`(tests/[\w/.]+)::(\w+)`", row) for row in rows]

    assert len(rows) >= 14
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    missing = [
        (file, test)
        for tests in named
        for file, test in tests
        if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []
