"""One request to HubSpot: signed in, paced, retried, refused; and never a secret to be seen."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.hubspot.conftest import TOKEN, Connect, Running

from pipesync.adapters.hubspot.api import Api, missing_scopes, reasons
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.pacing import Pace
from pipesync.errors import BudgetSpent, CrmError, InputError, PermissionMissing, RetryLater, SignInRefused

RATE = {"status": "error", "message": "You have reached your limit.", "errorType": "RATE_LIMIT"}


@pytest.mark.parametrize("status", [408, 423, 429, 500, 502, 503, 504, 521, 524])
@pytest.mark.parametrize("path", ["account-info", "associations"])
def test_what_may_pass_later_is_sent_again(
    connect: Connect, hubspot: Running, status: int, path: str
) -> None:
    """Every verb is repeated, POSTs that read included."""
    hubspot.fail((status, {}, ""), times=2, where=path)
    adapter = connect()

    adapter.connection()
    adapter.own(["ps1-x"], ["1000000001"])

    assert hubspot.count(path) == 3


def test_a_connection_that_breaks_is_tried_again(connect: Connect, hubspot: Running) -> None:
    """An answer that never comes is like one that says: later."""
    hubspot.fail("lost", times=2)

    assert connect().connection().currency == "EUR"


def test_patience_ends(connect: Connect, hubspot: Running) -> None:
    """A HubSpot that stays down is an error after a few attempts."""
    hubspot.fail((503, {}, ""), times=100)

    with pytest.raises(RetryLater):
        connect().connection()

    assert len(hubspot.asked) == 6


@pytest.mark.parametrize(("told", "expected"), [("7", 7.0), ("0.5", 2.0), (None, 2.0)])
def test_a_locked_record_is_given_two_seconds(hubspot: Running, told: str | None, expected: float) -> None:
    """423 is waited out at least for the two seconds that HubSpot asks for."""
    hubspot.fail((423, {"Retry-After": told} if told else {}, ""), times=10)
    api = _api(hubspot)

    with pytest.raises(RetryLater) as refused:
        api.get("/crm/v3/owners")

    assert refused.value.after == expected


def test_a_portal_that_is_being_moved_ends_the_run(hubspot: Running) -> None:
    """477 with hours to wait is not slept through."""
    hubspot.fail((477, {"Retry-After": "7200"}, ""))

    with pytest.raises(CrmError, match="120 minutes") as refused:
        _api(hubspot).get("/crm/v3/owners")

    assert not isinstance(refused.value, RetryLater)


def test_the_daily_limit_stops_cleanly(hubspot: Running) -> None:
    """A 429 of the day is not retried: the next run goes on."""
    hubspot.fail((429, {}, json.dumps({**RATE, "policyName": "DAILY"})), times=9)

    with pytest.raises(BudgetSpent):
        _api(hubspot).get("/crm/v3/owners")

    assert len(hubspot.asked) == 1


def test_the_rest_of_the_day_is_for_others(hubspot: Running) -> None:
    """Below our share of the daily limit no further request is sent; the last answer is not thrown away."""
    headers = {"X-HubSpot-RateLimit-Daily": "1000", "X-HubSpot-RateLimit-Daily-Remaining": "499"}
    hubspot.fail((200, headers, '{"results": [1]}'))
    api = _api(hubspot)

    assert api.get("/crm/v3/owners") == {"results": [1]}
    with pytest.raises(BudgetSpent, match="499 of the portal's 1,000"):
        api.get("/crm/v3/owners")
    with pytest.raises(BudgetSpent):
        api.write("POST", "/crm/v3/objects/deals/batch/update", {"inputs": []})

    assert len(hubspot.asked) == 1


def test_a_refused_token_says_what_to_do(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 names the mend and not the token."""
    monkeypatch.setenv("HUBSPOT_TOKEN", "pat-eu1-very-secret")

    with pytest.raises(SignInRefused, match="service key") as refused:
        connect().connection()

    assert "very-secret" not in str(refused.value)


def test_a_missing_scope_is_named(connect: Connect, hubspot: Running) -> None:
    """403 says which scope to add."""
    hubspot.records.set("tokens", {TOKEN: []})

    with pytest.raises(PermissionMissing, match=r"crm\.objects\.deals\.read"):
        list(connect().pull("stages", None, connect().clock()))


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "v3"])
def test_oauth_signs_in_with_the_refresh_token(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """A public app's refresh token is exchanged, in a body, and again when the access token has expired.

    The path follows the version: v1, the only one that the published client knows, ends in February 2027.
    """
    assert hubspot.portal
    hubspot.records.set("oauth", {"refresh-1": list(hubspot.portal.tokens[TOKEN])})
    monkeypatch.setenv("REFRESH", "refresh-1")
    monkeypatch.setenv("SECRET", "client-secret")
    adapter = connect(
        token_env=None, client_id="app", client_secret_env="SECRET", refresh_token_env="REFRESH", api_version=version
    )  # fmt: skip
    adapter.connection()
    hubspot.records.set("tokens", {})

    pages = list(adapter.pull("stages", None, adapter.clock()))

    assert len(pages[0].rows) > 0
    assert hubspot.count(f"/oauth/{version}/token") == 2


def test_a_refused_refresh_token_is_a_refused_sign_in(
    connect: Connect, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app has to be installed again, says the error, without either secret."""
    monkeypatch.setenv("REFRESH", "refresh-unknown")
    monkeypatch.setenv("SECRET", "client-secret")
    adapter = connect(
        token_env=None, client_id="app", client_secret_env="SECRET", refresh_token_env="REFRESH"
    )

    with pytest.raises(SignInRefused, match="install the app") as refused:
        adapter.connection()

    assert "refresh-unknown" not in str(refused.value)
    assert "client-secret" not in str(refused.value)


def test_secrets_are_nowhere(
    connect: Connect, hubspot: Running, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """No log line, no output, no repr and no error of a busy session holds the token."""
    caplog.set_level(logging.DEBUG)
    adapter = connect()
    adapter.connection()
    hubspot.fail((400, {}, json.dumps({"message": f"bad {TOKEN}", "category": "VALIDATION_ERROR"})))

    with pytest.raises(CrmError) as refused:
        list(adapter.pull("stages", None, adapter.clock()))

    printed = capsys.readouterr()
    everything = [
        caplog.text,
        printed.out,
        printed.err,
        repr(adapter),
        repr(vars(adapter)),
        str(refused.value),
    ]
    assert not [text for text in everything if TOKEN in text]
    assert f"Bearer {TOKEN}" in hubspot.authorizations


def test_a_message_with_customers_data_is_not_repeated(hubspot: Running) -> None:
    """HubSpot's own words hold values of records; only codes and property names are told."""
    body = {
        "message": "Property values were not valid: Ann Smith", "category": "VALIDATION_ERROR", "correlationId": "c-1",
        "errors": [{"message": "Ann Smith", "code": "INVALID_EMAIL", "context": {"propertyName": ["email"]}}],
    }  # fmt: skip
    hubspot.fail((400, {}, json.dumps(body)))

    with pytest.raises(CrmError) as refused:
        _api(hubspot).get("/crm/v3/owners")

    assert "Ann" not in str(refused.value)
    assert "INVALID_EMAIL email" in str(refused.value)
    assert refused.value.request_id == "c-1"


@pytest.mark.parametrize("url", ["http://api.hubapi.com", "ftp://x", "http://127.0.0.1.example.com"])
def test_plain_http_is_for_this_machine_only(connect: Connect, url: str) -> None:
    """A token never travels unencrypted."""
    with pytest.raises(InputError, match="https"):
        connect(url=url)


def test_all_wrong_options_are_told_at_once(connect: Connect) -> None:
    """Unknown keys and wrong values come together, with the nearest known name."""
    with pytest.raises(InputError) as refused:
        connect(api_versoin="v3", daily_share=7)

    assert len(refused.value.problems) == 2
    assert "api_version" in str(refused.value)


def test_a_token_file_is_read_from_beside_the_configuration(connect: Connect, tmp_path: Path) -> None:
    """A relative path of a secret starts at the configuration's folder."""
    (tmp_path / "token.txt").write_text(TOKEN + "\n", encoding="utf-8")

    assert connect(token_env=None, token_file="token.txt").connection().adapter == "hubspot"


def test_bursts_are_spread_as_the_headers_say() -> None:
    """The learnt limit is used up, and then waited for; searches have a limit of their own."""
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(lambda: now[0], sleep, searches=4)
    pace.learn({"X-HubSpot-RateLimit-Max": "5", "X-HubSpot-RateLimit-Interval-Milliseconds": "10000"})
    for _ in range(11):
        pace.wait(search=False)
        pace.count(search=False)
    assert slept == [10.0, 10.0]

    pace.learn({"X-HubSpot-RateLimit-Max": "1000"})
    for _ in range(9):
        pace.wait(search=True)
        pace.count(search=True)

    assert slept[2:] == [1.0, 1.0]


def test_a_slow_answer_counts_from_its_end() -> None:
    """A request may reach HubSpot late: the next window begins with its answer, or the two would overlap there."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(lambda: now[0], sleep, searches=4)
    pace.learn({"X-HubSpot-RateLimit-Max": "1"})
    pace.wait(search=False)
    now[0] = 3.0
    pace.count(search=False)

    pace.wait(search=False)

    assert now[0] == 13.0


def test_optional_fields_of_errors_may_be_missing() -> None:
    """HubSpot's error bodies promise nothing; what is there is used."""
    bare: dict[str, Any] = {"message": "no"}

    assert (missing_scopes(bare), reasons(bare)) == ([], [])
    assert missing_scopes({"errors": [{"context": {"requiredGranularScopes": ["a", "a"]}}]}) == ["a"]


def _api(hubspot: Running) -> Api:
    options = {"url": hubspot.url, "token_env": "HUBSPOT_TOKEN"}
    return Api("hs", Options.model_validate(options), options)
