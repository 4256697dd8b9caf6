"""The sandbox's Salesforce, asked as other clients ask it: SOQL, collections, composite, both Bulk APIs, sign-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from tests.adapters.salesforce.conftest import edit, put

from pipesync.sandbox.process import Sandbox
from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET

Ask = Callable[..., requests.Response]
DATA = "/services/data/v62.0"


@pytest.fixture
def ask(sandbox: Sandbox) -> Ask:
    """Ask below the version's address, signed in."""
    token = signed_in(sandbox).json()["access_token"]

    def asked(method: str, path: str, **how: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", **how.pop("headers", {})}
        url = sandbox.url + (path if path.startswith("/services") else DATA + path)
        return requests.request(method, url, headers=headers, timeout=30, **how)

    return asked


def signed_in(sandbox: Sandbox, **given: str) -> requests.Response:
    form = {"grant_type": "client_credentials", "client_id": CONSUMER_KEY, "client_secret": CONSUMER_SECRET}
    return requests.post(f"{sandbox.url}/services/oauth2/token", data={**form, **given}, timeout=30)


def rows(ask: Ask, soql: str, path: str = "/query") -> list[dict[str, Any]]:
    answer = ask("GET", path, params={"q": soql})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["records"]
    return found


def without_attributes(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "attributes"} for row in found]


# --- SOQL -------------------------------------------------------------------------------------------------------


def test_a_semi_join_finds_what_another_query_names(ask: Ask) -> None:
    """`IN (SELECT ...)` and `NOT IN` part the records between them."""
    inner = "(SELECT AccountId FROM Opportunity WHERE IsWon = true AND AccountId != null)"

    inside, outside = (
        {r["Id"] for r in rows(ask, f"SELECT Id FROM Account WHERE Id {word} {inner}")}
        for word in ("IN", "NOT IN")
    )

    won = {r["AccountId"] for r in rows(ask, "SELECT AccountId FROM Opportunity WHERE IsWon = true")}
    assert inside == won - {None}
    assert inside | outside == {r["Id"] for r in rows(ask, "SELECT Id FROM Account")}
    assert inside & outside == set()


def test_all_fields_are_asked_for_at_once(ask: Ask, sandbox: Sandbox) -> None:
    """As many as this user sees; without a number of rows only the standard ones."""
    put(sandbox, hidden=["Opportunity.Amount"])
    first = {
        path: f"SELECT FIELDS({path}) FROM Opportunity LIMIT 1" for path in ("ALL", "STANDARD", "CUSTOM")
    }

    found = {path: set(without_attributes(rows(ask, soql))[0]) for path, soql in first.items()}
    unlimited = ask("GET", "/query", params={"q": "SELECT FIELDS(ALL) FROM Opportunity"})
    twice = ask("GET", "/query", params={"q": "SELECT Id, FIELDS(STANDARD) FROM Opportunity"})

    assert {"Id", "StageName"} <= found["STANDARD"]
    assert "Amount" not in found["ALL"]
    assert found["CUSTOM"] == {f for f in found["ALL"] if f.endswith("__c")}
    assert found["ALL"] == found["STANDARD"] | found["CUSTOM"]
    assert unlimited.json()[0]["errorCode"] == "MALFORMED_QUERY"
    assert twice.json()[0]["message"] == "duplicate field selected: Id"


def test_a_childs_query_comes_with_its_parent(ask: Ask) -> None:
    """As a query result of its own, null where there is none."""
    found = rows(
        ask, "SELECT Id, (SELECT Id, Role FROM OpportunityContactRoles ORDER BY Id) FROM Opportunity"
    )

    roles = rows(ask, "SELECT Id, OpportunityId FROM OpportunityContactRole ORDER BY Id")
    nested = [
        c["Id"]
        for r in found
        if r["OpportunityContactRoles"]
        for c in r["OpportunityContactRoles"]["records"]
    ]
    assert sorted(nested) == [r["Id"] for r in roles]
    assert {r["Id"] for r in found if r["OpportunityContactRoles"]} == {r["OpportunityId"] for r in roles}


def test_groups_are_counted_named_and_narrowed(ask: Ask) -> None:
    """Functions without an alias are `expr0` and so on; HAVING narrows groups."""
    found = without_attributes(
        rows(
            ask,
            "SELECT StageName, COUNT(Id) n, MAX(Amount) FROM Opportunity GROUP BY StageName HAVING COUNT(Id) > 20",
        )
    )

    each = rows(ask, "SELECT StageName, Amount FROM Opportunity")
    names = {r["StageName"] for r in each}
    counted = {n: [r["Amount"] or 0 for r in each if r["StageName"] == n] for n in names}
    wanted = [{"StageName": n, "n": len(v), "expr0": max(v)} for n, v in counted.items() if len(v) > 9]
    assert sorted(found, key=lambda r: r["StageName"]) == sorted(wanted, key=lambda r: r["StageName"])


@pytest.mark.parametrize(
    ("literal", "first", "after"),
    [
        ("LAST_MONTH", "2026-10-01", "2026-11-01"),
        ("THIS_QUARTER", "2026-10-01", "2027-01-01"),
        ("NEXT_QUARTER", "2027-01-01", "2027-04-01"),
        ("LAST_YEAR", "2025-01-01", "2026-01-01"),
        ("THIS_WEEK", "2026-11-15", "2026-11-22"),
        ("LAST_N_DAYS:30", "2026-10-17", "2026-11-17"),
    ],
)
def test_date_literals_are_spans_of_days(ask: Ask, literal: str, first: str, after: str) -> None:
    """Seen from the sandbox's Monday, 2026-11-16."""
    said = rows(ask, f"SELECT Id FROM Opportunity WHERE CloseDate = {literal}")

    meant = rows(ask, f"SELECT Id FROM Opportunity WHERE CloseDate >= {first} AND CloseDate < {after}")
    assert {r["Id"] for r in said} == {r["Id"] for r in meant}


@pytest.mark.parametrize(
    ("soql", "code"),
    [
        ("SELECT Id", "MALFORMED_QUERY"),
        ("SELECT Id FROM Opportunity WHERE", "MALFORMED_QUERY"),
        ("SELECT Id, COUNT(Id) FROM Opportunity", "MALFORMED_QUERY"),
        ("SELECT Nothing FROM Opportunity", "INVALID_FIELD"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT Id, (SELECT Id FROM Nothings) FROM Opportunity", "INVALID_TYPE"),
        ("SELECT Nobody.Name FROM Opportunity", "INVALID_FIELD"),
    ],
)
def test_what_is_wrong_is_said_in_salesforces_words(ask: Ask, soql: str, code: str) -> None:
    """An array with message and errorCode, under 400."""
    answer = ask("GET", "/query", params={"q": soql})

    assert answer.status_code == 400
    assert [e["errorCode"] for e in answer.json()] == [code]


# --- Records ----------------------------------------------------------------------------------------------------


def task(i: int, **fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": "Task"}, "Subject": f"Call {i}", "Pipesync_Key__c": f"k{i}", **fields}


def test_all_or_none_leaves_nothing_behind(ask: Ask) -> None:
    """The good ones say that they were rolled back, the bad one why."""
    body = {"allOrNone": True, "records": [task(1), task(2, Subject="x" * 256)]}

    found = ask("PATCH", "/composite/sobjects/Task/Pipesync_Key__c", json=body).json()

    assert [e["statusCode"] for r in found for e in r["errors"]] == [
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "STRING_TOO_LONG",
    ]
    assert rows(ask, "SELECT Id FROM Task WHERE Pipesync_Key__c != null") == []


def test_one_record_lives_its_life(ask: Ask) -> None:
    """Made 201, read, changed 204, upserted 200, deleted 204, and then not found."""
    made = ask("POST", "/sobjects/Task", json={"Subject": "Call", "Pipesync_Key__c": "k"})
    path = f"/sobjects/Task/{made.json()['id']}"
    changed = ask("PATCH", path, json={"Subject": "Meet"})
    again = ask("PATCH", "/sobjects/Task/Pipesync_Key__c/k", json={"Priority": "High"})
    read = ask("GET", path, params={"fields": "Subject,Priority"})
    gone = ask("DELETE", path)

    statuses = [a.status_code for a in (made, changed, again, read, gone, ask("GET", path))]
    assert statuses == [201, 204, 200, 200, 204, 404]
    assert without_attributes([read.json()]) == [{"Subject": "Meet", "Priority": "High"}]
    assert again.json() == {"id": made.json()["id"], "success": True, "errors": [], "created": False}


def test_a_composite_request_uses_what_it_made(ask: Ask) -> None:
    """And with allOrNone takes it back when a later part fails."""
    parts = [
        {"method": "POST", "url": f"{DATA}/sobjects/Task", "referenceId": "one", "body": {"Subject": "Call"}},
        {
            "method": "PATCH",
            "url": f"{DATA}/sobjects/Task/@{{one.id}}",
            "referenceId": "two",
            "body": {"Subject": "A"},
        },
        {"method": "GET", "url": f"{DATA}/sobjects/Task/unknown", "referenceId": "three"},
    ]

    kept = ask("POST", "/composite", json={"compositeRequest": parts}).json()["compositeResponse"]
    undone = ask("POST", "/composite", json={"allOrNone": True, "compositeRequest": parts}).json()[
        "compositeResponse"
    ]

    assert [a["httpStatusCode"] for a in kept] == [201, 204, 404]
    assert kept[2]["body"] == [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    assert [a["body"][0]["errorCode"] for a in undone] == [
        "PROCESSING_HALTED",
        "PROCESSING_HALTED",
        "NOT_FOUND",
    ]
    assert len(rows(ask, "SELECT Id FROM Task WHERE Subject IN ('A', 'Call') AND WhatId = null")) == 1


def test_changed_ids_are_told_for_thirty_days(ask: Ask, sandbox: Sandbox) -> None:
    """`/updated/` says which; further back it refuses."""
    record = rows(ask, "SELECT Id FROM Opportunity ORDER BY Id LIMIT 1")[0]["Id"]
    sandbox.ask("POST", "clock", {"advance": 3600})
    edit(sandbox, record, NextStep="Meet")
    span = {"start": "2026-11-16T08:30:00+00:00", "end": "2026-11-16T10:00:00+00:00"}

    told = ask("GET", "/sobjects/Opportunity/updated/", params=span)
    refused = ask(
        "GET", "/sobjects/Opportunity/updated/", params={**span, "start": "2026-10-01T00:00:00+00:00"}
    )

    assert told.json()["ids"] == [record]
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "INVALID_REPLICATION_DATE")


# --- Everything else that clients meet --------------------------------------------------------------------------


def test_bulk_one_answers_with_the_same_rows(ask: Ask, sandbox: Sandbox) -> None:
    """A job, one batch, a list of results, and the CSV; the session stands in another header there."""
    token = signed_in(sandbox).json()["access_token"]
    headers, base = {"X-SFDC-Session": token, "Authorization": ""}, "/services/async/61.0/job"
    job = ask("POST", base, json={"operation": "queryAll", "object": "Account"}, headers=headers).json()["id"]
    batch = ask(
        "POST", f"{base}/{job}/batch", data="SELECT Id FROM Account ORDER BY Id", headers=headers
    ).text
    number = batch.partition("<id>")[2].partition("</id>")[0]
    listed = ask("GET", f"{base}/{job}/batch/{number}/result", headers=headers).text
    result = listed.partition("<result>")[2].partition("</result>")[0]

    lines = ask("GET", f"{base}/{job}/batch/{number}/result/{result}", headers=headers).text.splitlines()

    assert lines == ['"Id"', *(f'"{r["Id"]}"' for r in rows(ask, "SELECT Id FROM Account ORDER BY Id"))]


@pytest.mark.parametrize(
    ("settings", "given", "said"),
    [
        ({}, {"client_secret": "wrong"}, "invalid_client"),
        ({}, {"grant_type": "refresh_token", "refresh_token": "old"}, "invalid_grant"),
        ({}, {"grant_type": "password"}, "unsupported_grant_type"),
        ({"sign_in_refused": ["invalid_app_access", "user is not admin approved"]}, {}, "invalid_app_access"),
    ],
)
def test_who_may_not_sign_in_is_told_why(
    sandbox: Sandbox, settings: dict[str, Any], given: dict[str, str], said: str
) -> None:
    """An OAuth error under 400, never a session."""
    put(sandbox, **settings)

    answer = signed_in(sandbox, **given)

    assert (answer.status_code, answer.json()["error"]) == (400, said)


def test_a_used_up_day_and_a_disabled_api_are_refused(ask: Ask, sandbox: Sandbox) -> None:
    """403 with the codes of the platform; what is free stays free."""
    put(sandbox, daily_limit=100, used=100)
    spent = ask("GET", "/limits")
    put(sandbox, daily_limit=1000, used=0, api_disabled=True)
    disabled = ask("GET", "/limits")

    assert (spent.status_code, spent.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert spent.headers["Sforce-Limit-Info"] == "api-usage=100/100; api-bursts=1/750"
    assert (disabled.status_code, disabled.json()[0]["errorCode"]) == (403, "API_DISABLED_FOR_ORG")
    assert requests.get(f"{sandbox.url}/services/data/", timeout=10).status_code == 200
