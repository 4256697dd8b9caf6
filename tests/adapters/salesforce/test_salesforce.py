"""The Salesforce adapter against an org that behaves as orgs do: expired sessions, lost pages, locks, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.adapters.salesforce.conftest import Connect, custom_years, edit, order, tasks

from pipesync import fiscal
from pipesync.adapters.salesforce.refusals import action_of
from pipesync.config import Calendar, Config, ConnectionConfig, FiscalWeeks
from pipesync.errors import CrmError, InputError, SignInRefused
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.store.warehouse import Warehouse


def counted(warehouse: Warehouse) -> dict[str, int]:
    tables = ("opportunities", "field_changes", "activities", "accounts", "contact_roles", "users")
    return {t: warehouse.rows(f"SELECT count(*) FROM {t}")[0][0] for t in tables}


@pytest.fixture
def whole(connect: Connect) -> dict[str, int]:
    """Rows per stream, as an undisturbed pull brings them."""
    with Warehouse() as warehouse:
        pull(connect(), warehouse)
        return counted(warehouse)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "session", "moments": [3, 9]},
        {"kind": "status", "status": 503, "moments": [2, 5, 6]},
        {"kind": "limit", "moments": [4]},
        {"kind": "refused", "moments": [3, 8]},
        {"kind": "lost", "moments": [5]},
        {"kind": "slow", "seconds": 0.01, "rate": 0.3},
    ],
    ids=lambda f: str(f["kind"]),
)
def test_a_pull_survives_what_happens_on_the_way(
    connect: Connect, sandbox: Sandbox, whole: dict[str, int], fault: dict[str, Any]
) -> None:
    """It ends with what an undisturbed one brings."""
    order(sandbox, fault)

    with Warehouse() as warehouse:
        pull(connect(page_size=60), warehouse)

        assert counted(warehouse) == whole


def test_short_pages_lose_no_row(connect: Connect, sandbox: Sandbox, whole: dict[str, int]) -> None:
    """The org may return fewer rows than asked for; the locator is followed until it is done."""
    sandbox.ask("POST", "settings", {"salesforce": {"page_size": 17}})

    with Warehouse() as warehouse:
        pull(connect(), warehouse)

        assert counted(warehouse) == whole


def test_a_locator_that_dies_with_its_session_costs_one_page(
    connect: Connect, sandbox: Sandbox, whole: dict[str, int]
) -> None:
    """The next query begins after the last row that arrived."""
    sandbox.ask("POST", "settings", {"salesforce": {"page_size": 40}})
    order(sandbox, {"kind": "session", "path": "/query/01g", "moments": [1, 3]})

    with Warehouse() as warehouse:
        pull(connect(), warehouse)

        assert counted(warehouse) == whole


@pytest.mark.parametrize("days", [1, 20])
def test_what_left_the_recycle_bin_is_gone_here_too(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, days: int
) -> None:
    """No query shows it: within 15 days `getDeleted` tells, later everything is scanned anew."""
    tables = ("opportunities", "activities", "accounts")
    gone = {t: pulled.rows(f"SELECT min(id) FROM {t}")[0][0] for t in tables}

    for record in gone.values():
        sandbox.ask("POST", "edit", {"crm": "salesforce", "id": record, "fields": {"purged": True}})
    sandbox.ask("POST", "clock", {"advance": days * 86_400})
    pull(connect(), pulled)

    for table, record in gone.items():
        assert pulled.rows(f"SELECT count(*) FROM {table} WHERE id = ?", [record]) == [(0,)]
    assert pulled.rows("SELECT count(*) FROM opportunities") == [(149,)]


def test_a_log_of_deletions_that_was_purged_is_not_trusted(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """It says from when on it knows; what is older is scanned anew."""
    gone = pulled.rows("SELECT min(id) FROM opportunities")[0][0]
    sandbox.ask("POST", "edit", {"crm": "salesforce", "id": gone, "fields": {"purged": True}})
    sandbox.ask("POST", "clock", {"advance": 7200})
    sandbox.ask("POST", "settings", {"salesforce": {"deleted_known_from": "2026-11-16T09:30:00.000+0000"}})

    found = pull(connect(), pulled)

    assert found["opportunities"].pulled == 149
    assert pulled.rows("SELECT count(*) FROM opportunities WHERE id = ?", [gone]) == [(0,)]


def test_one_sign_in_for_an_expired_session_and_never_a_storm(connect: Connect, sandbox: Sandbox) -> None:
    """A session that is refused again after signing in ends the run."""
    order(sandbox, {"kind": "session", "path": "/services/data", "rate": 1.0})

    with Warehouse() as warehouse, pytest.raises(SignInRefused):
        pull(connect(), warehouse)

    paths = sandbox.ask("GET")["by_path"]
    assert paths["POST /services/oauth2/token"] == 2


def keys(folder: Path) -> tuple[Path, str]:
    """Make a key pair; return the private key's file and the public key."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return folder / "key.pem", public.decode()


def test_jwt_signs_in_with_the_registered_key_and_with_no_other(
    connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The org holds the certificate; the assertion is checked against it."""
    file, public = keys(tmp_path)
    sandbox.ask("POST", "settings", {"salesforce": {"certificate": public}})
    options = {"username": "pipesync@acme.example", "private_key_file": file.name, "client_secret_file": None}

    assert connect(**options).clock().year == 2026
    keys(tmp_path)
    with pytest.raises(SignInRefused, match="invalid_grant"):
        connect(**options).clock()


def test_a_key_that_is_not_rsa_is_named(connect: Connect, tmp_path: Path) -> None:
    """Salesforce takes RSA of 2048 bits or more only."""
    form = serialization.PrivateFormat.PKCS8
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "ec.pem").write_bytes(pem)

    with pytest.raises(SignInRefused, match="RSA"):
        connect(username="u@acme.example", private_key_file="ec.pem", client_secret_file=None).clock()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "https://login.salesforce.com"}, "My Domain"),
        ({"url": "http://acme.my.salesforce.com"}, "My Domain"),
        ({"url": None}, "key 'url' is missing"),
        ({"urll": "x"}, "did you mean 'url'"),
        ({"api_version": "62"}, "api_version"),
    ],
)
def test_options_that_cannot_be_used_are_said_so(
    connect: Connect, options: dict[str, Any], said: str
) -> None:
    """Before anything is asked of the org."""
    with pytest.raises(InputError, match=said):
        connect(**options)


def test_a_run_stops_at_its_share_of_the_daily_requests(connect: Connect) -> None:
    """Cleanly, as a warning of the stream it had come to; the next run goes on from there."""
    with Warehouse() as warehouse:
        found = pull(connect(daily_share=0.00003, page_size=20), warehouse)

        warned = [s for s, p in found.items() if p.warnings]
        assert len(warned) == 1
        assert "daily requests" in found[warned[0]].warnings[0]
        assert warehouse.rows("SELECT count(*) FROM opportunities")[0][0] < 150 or warned != ["opportunities"]


def test_locked_rows_and_partial_failures_are_tried_again(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """Until each record has its outcome; none is written twice."""
    order(sandbox, {"kind": "lock", "count": 2}, {"kind": "partial", "moments": [1, 3]})
    changes = tasks(pulled, 30)

    outcomes = list(connect().write(changes))

    assert {o.status for o in outcomes} == {"applied"}
    assert sorted(o.key for o in outcomes) == sorted(c.key for c in changes)
    assert len(sandbox.ask("GET", "dump")["Task"]) - 30 == sum(
        not t.get("Pipesync_Key__c") for t in sandbox.ask("GET", "dump")["Task"]
    )


def test_as_few_requests_as_collections_allow(connect: Connect, sandbox: Sandbox, pulled: Warehouse) -> None:
    """450 creates are three collections of at most 200."""
    adapter = connect()
    adapter.clock()
    sandbox.ask("DELETE", "counters")

    list(adapter.write(tasks(pulled, 450)))

    paths = sandbox.ask("GET")["by_path"]
    assert sum(n for path, n in paths.items() if "composite" in path) == 3


def test_a_record_that_is_refused_leaves_the_others_alone(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """A validation rule, an inactive owner and a text that is too long are told with the CRM's own words."""
    rule = {"object": "Task", "field": "Subject", "forbidden": "Call 1", "message": "Never on Mondays"}
    sandbox.ask("POST", "settings", {"salesforce": {"rules": [rule]}})
    one, two, three, four = tasks(pulled, 4)
    left = pulled.rows("SELECT id FROM users WHERE NOT is_active LIMIT 1")[0][0]
    three = three.model_copy(update={"after": {**three.after, "owner_id": left}})
    four = four.model_copy(update={"after": {**four.after, "subject": "x" * 256}})

    found = {o.key: o for o in connect().write([one, two, three, four])}

    assert [found[c.key].status for c in (one, two, three, four)] == ["applied", "failed", "failed", "failed"]
    assert "Never on Mondays" in found[two.key].error
    assert "INACTIVE_OWNER" in found[three.key].error
    assert "STRING_TOO_LONG" in found[four.key].error


def test_a_task_that_a_person_deleted_is_not_made_again(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse
) -> None:
    """An update goes by id, and fails."""
    adapter = connect()
    change = tasks(pulled, 1)[0]
    (made,) = adapter.write([change])
    sandbox.ask("POST", "edit", {"crm": "salesforce", "id": made.target, "fields": {"deleted": True}})

    update = {"action": "update", "target": made.target, "after": {"subject": "Again"}}
    (found,) = adapter.write([change.model_copy(update=update)])

    assert found.status == "failed"
    assert adapter.own({change.key}, set())[0] == []


@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        ({"hidden": ["Opportunity"]}, "read Opportunity", "permission set"),
        (
            {"hidden": ["Opportunity.NextStep"]},
            "read Opportunity.NextStep",
            "grant Read on Opportunity.NextStep",
        ),
        ({"hidden": ["Account"]}, "read Account", "permission set"),
        ({"hidden": ["OpportunityHistory.Amount"]}, "read OpportunityHistory", "permission set"),
        ({"hidden": ["Pipesync_Forecast__c"]}, "write Pipesync_Forecast__c", "deploy adapters/salesforce"),
        ({"hidden": ["Task.Pipesync_Key__c"]}, "write Task.Pipesync_Key__c", "deploy adapters/salesforce"),
        ({"readonly": ["Task.Description"]}, "write Task.Description", "grant Edit on Task.Description"),
    ],
)
def test_doctor_names_what_is_missing_and_the_mend(
    connect: Connect, sandbox: Sandbox, settings: dict[str, Any], name: str, said: str
) -> None:
    """Each permission is taken away in turn."""
    sandbox.ask("POST", "settings", {"salesforce": settings})

    found = {c.name: c for c in connect().checks()}

    assert found[name].status in ("failed", "warning")
    assert said in found[name].fix


def test_doctor_is_content_with_an_org_as_the_kit_makes_it(connect: Connect) -> None:
    """Nothing fails."""
    assert [c for c in connect().checks() if c.status == "failed"] == []


def test_doctor_says_why_it_cannot_sign_in(connect: Connect, tmp_path: Path) -> None:
    """And asks nothing more."""
    (tmp_path / "wrong").write_text("planted-secret")

    (check,) = connect(client_secret_file="wrong").checks()

    assert (check.name, check.status) == ("sign-in", "failed")
    assert "planted-secret" not in f"{check.detail}{check.fix}"


@pytest.mark.parametrize(
    ("status", "code", "message", "action"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", "budget"),
        (403, "REQUEST_LIMIT_EXCEEDED", "DailyBulkV2QueryJobs Limit exceeded.", "stop"),
        (
            403,
            "REQUEST_LIMIT_EXCEEDED",
            "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
            "retry",
        ),
        (401, "INVALID_SESSION_ID", "", "sign_in"),
        (400, "QUERY_TIMEOUT", "", "shrink"),
        (431, "", "<html>", "shrink"),
        (502, "", "", "retry"),
        (420, "", "", "retry"),
        (403, "", "", "permission"),
        (400, "SOMETHING_NEW", "", "stop"),
    ],
)
def test_every_refusal_has_its_answer(status: int, code: str, message: str, action: str) -> None:
    """Also those with HTML or no body at all."""
    assert action_of(status, code, message) == action


def test_an_org_that_stays_down_ends_the_run_with_its_status(connect: Connect, sandbox: Sandbox) -> None:
    """After the retries, not for ever."""
    order(sandbox, {"kind": "status", "status": 503, "path": "/query", "rate": 1.0})

    with Warehouse() as warehouse, pytest.raises(CrmError, match="503"):
        pull(connect(), warehouse)


def test_the_orgs_fiscal_year_comes_with_it(connect: Connect, sandbox: Sandbox) -> None:
    """Companies whose year begins in February have their quarters from their CRM."""
    edit(sandbox, "00DPS0000000000AAA", FiscalYearStartMonth=2)

    with Warehouse() as warehouse:
        pull(connect(), warehouse)
        [facts] = warehouse.connections()

    assert facts.fiscal_year_starts == 2


def test_custom_fiscal_years_come_as_their_weeks(connect: Connect, sandbox: Sandbox) -> None:
    """The org lists the months of each year; what is listed makes a pattern that holds for years it does not list."""
    retail = Calendar(fiscal_year_starts=2, weeks=FiscalWeeks(pattern="4-5-4"))
    custom_years(sandbox, [day for year in (2025, 2026) for day in fiscal.months(year, retail)[:-1]])

    with Warehouse() as warehouse:
        pull(connect(), warehouse)
        [facts] = warehouse.connections()

    assert (facts.fiscal_year_starts, facts.fiscal_weeks) == (2, "4-5-4 sunday nearest")
    plain = Config(connections={"crm": ConnectionConfig(adapter="salesforce")})
    assert plain.of(facts).calendar == retail
    weeks = FiscalWeeks(begins="monday")
    own = plain.model_copy(update={"calendar": Calendar(weeks=weeks)})
    assert own.of(facts).calendar == Calendar(fiscal_year_starts=2, weeks=weeks)
    civil = plain.model_copy(update={"calendar": Calendar(fiscal_year_starts=1)})
    assert civil.of(facts) == civil
