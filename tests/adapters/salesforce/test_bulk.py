"""Bulk 2.0: what is too much to list by REST arrives by jobs, and is the same to the last row."""

from __future__ import annotations

from typing import Any

import pytest
from tests.adapters.salesforce.conftest import Connect, edit, facts, order, put

from pipesync.adapters.salesforce import bulk
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.store.warehouse import Warehouse

BULK = {"bulk_from": 20, "bulk_page": 100}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's jobs are done when they are asked after."""
    monkeypatch.setattr(bulk, "_FIRST_PAUSE", 0.001)


def jobs(sandbox: Sandbox) -> int:
    """Return how many Bulk jobs were made."""
    return sum(n for path, n in sandbox.ask("GET")["by_path"].items() if path.endswith("/jobs/query"))


def test_bulk_and_rest_bring_the_same(connect: Connect, sandbox: Sandbox, pulled: Warehouse) -> None:
    """Times, flags, blanks and related records are read alike from CSV and from JSON; only large objects need a job."""
    assert jobs(sandbox) == 0
    with Warehouse() as warehouse:
        pull(connect(**BULK), warehouse)

        assert jobs(sandbox) >= 5
        assert facts(warehouse) == facts(pulled)


@pytest.mark.parametrize(
    "settings",
    [
        {"bulk_page": 40},
        {"bulk_polls": 3},
        {"bulk_refused": ["Opportunity", "Account"]},
        {"bulk_fails": "QUERY_TIMEOUT: took too long"},
    ],
    ids=lambda s: next(iter(s)),
)
def test_short_pages_slow_jobs_and_refused_objects_change_nothing(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, settings: dict[str, Any]
) -> None:
    """What the Bulk API does not give is listed by REST."""
    put(sandbox, **settings)

    with Warehouse() as warehouse:
        pull(connect(**BULK), warehouse)

        assert facts(warehouse) == facts(pulled)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "session", "path": "/results", "moments": [2]},
        {"kind": "status", "status": 502, "path": "/jobs/", "rate": 0.3},
        {"kind": "lost", "path": "/jobs/query", "moments": [1, 4]},
        {"kind": "refused", "path": "/results", "moments": [1, 2]},
    ],
    ids=lambda f: str(f["kind"]),
)
def test_a_job_outlives_its_session_and_lost_answers(
    connect: Connect, sandbox: Sandbox, pulled: Warehouse, fault: dict[str, Any]
) -> None:
    """A locator belongs to the job, so a page is fetched again wherever it broke off."""
    order(sandbox, fault)

    with Warehouse() as warehouse:
        pull(connect(**BULK), warehouse)

        assert facts(warehouse) == facts(pulled)


@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "gone"])
def test_an_interrupted_job_goes_on_at_its_locator(
    connect: Connect, sandbox: Sandbox, *, is_gone: bool
) -> None:
    """Also when records were changed and deleted for good meanwhile; a job that is gone is made anew."""
    adapter = connect(**BULK)
    until = adapter.clock()
    with Warehouse() as warehouse, Warehouse() as fresh:
        warehouse.set_connection(adapter.connection(), adapter.columns())
        first = next(iter(adapter.pull("opportunities", None, until)))
        warehouse.merge("crm", "opportunities", first.rows, cursor=first.cursor, until=until, replace=True)
        changed, purged = (warehouse.rows("SELECT id FROM opportunities ORDER BY id")[i][0] for i in (3, 5))
        sandbox.ask("POST", "clock", {"advance": 3600})
        edit(sandbox, changed, NextStep="Meet")
        edit(sandbox, purged, purged=True)
        if is_gone:
            sandbox.ask("POST", "forget-jobs")
        before = jobs(sandbox)

        pull(connect(**BULK), warehouse, streams=["opportunities"])
        made = jobs(sandbox) - before
        pull(connect(), fresh, streams=["opportunities"])

        assert made == int(is_gone)
        assert facts(warehouse)["opportunities"] == facts(fresh)["opportunities"]


def test_a_large_increment_turns_to_bulk(connect: Connect, sandbox: Sandbox, pulled: Warehouse) -> None:
    """After some pages the rest is counted."""
    sandbox.ask("POST", "clock", {"advance": 3600})
    for (record,) in pulled.rows("SELECT id FROM opportunities"):
        edit(sandbox, record, NextStep="All new")

    pull(connect(**BULK, page_size=10), pulled, streams=["opportunities"])

    assert jobs(sandbox) == 1
    assert pulled.rows("SELECT count(*) FROM opportunities WHERE next_step = 'All new'") == [(150,)]


def test_jobs_are_deleted_when_they_are_read(connect: Connect, sandbox: Sandbox) -> None:
    """Results count against the org's storage for seven days otherwise."""
    with Warehouse() as warehouse:
        pull(connect(**BULK), warehouse)

    paths = sandbox.ask("GET")["by_path"]
    assert sum(n for p, n in paths.items() if p.startswith("DELETE ") and "/jobs/query/" in p) == jobs(
        sandbox
    )


def test_a_spent_budget_stops_between_pages_of_a_job(connect: Connect, sandbox: Sandbox) -> None:
    """The next run fetches what is left of it."""
    put(sandbox, bulk_page=20)
    adapter = connect(bulk_from=20, bulk_page=100, daily_share=0.000022)

    with Warehouse() as warehouse:
        found = pull(adapter, warehouse, streams=["opportunities"])
        part = warehouse.rows("SELECT count(*) FROM opportunities")[0][0]
        pull(connect(**BULK), warehouse, streams=["opportunities"])

        assert "daily requests" in found["opportunities"].warnings[0]
        assert 0 < part < 150
        assert warehouse.rows("SELECT count(*) FROM opportunities") == [(150,)]
        assert jobs(sandbox) == 1
