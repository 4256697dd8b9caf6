"""Bulk 2.0: what is too much to list by REST arrives by jobs, and is the same to the last row."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.adapters.salesforce.conftest import Connect, edit, facts, order, put

from pipesync.adapters.salesforce import bulk
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.sandbox.salesforce.org import full_id
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
        {"used_jobs": 10_000},
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


def test_the_next_page_is_on_its_way_while_one_is_stored(connect: Connect, sandbox: Sandbox) -> None:
    """One page ahead, never more."""

    def asked() -> int:
        paths = sandbox.ask("GET")["by_path"]
        return sum(n for path, n in paths.items() if path.endswith("/results"))

    put(sandbox, bulk_page=20)
    adapter = connect(**BULK)
    pages = iter(adapter.pull("opportunities", None, adapter.clock()))
    next(pages)
    deadline = time.monotonic() + 30
    while asked() < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    ahead = asked()
    rest = list(pages)

    assert ahead == 2
    assert [len(p.rows) for p in rest] == [20] * 6 + [10]
    assert asked() == 8


@pytest.mark.parametrize("way", ["Bulk", "REST"])
def test_memory_does_not_grow_with_what_is_pulled(
    connect: Connect, sandbox: Sandbox, tmp_path: Path, way: str
) -> None:
    """Pages are let go of (simple-salesforce #738, #629, #428): what is resident grows by less than half of them."""
    text, page, settled = "x" * 4000, 400, 5  # the first pages fill allocators and caches
    row = {"SystemModstamp": "2026-01-01T00:00:00.000+0000", "StageName": "Qualify", "NextStep": text}
    ids = [full_id("006", 900_000 + i) for i in range(20 * page)]
    for start in range(0, len(ids), 2000):
        some = ids[start : start + 2000]
        sandbox.ask("POST", "insert", {"object": "Opportunity", "records": [{**row, "Id": i} for i in some]})
    keys = sandbox.settings("salesforce", tmp_path)
    size = {"bulk_from": 100, "bulk_page": page} if way == "Bulk" else {"page_size": page}
    (tmp_path / "connection.yaml").write_text(yaml.safe_dump(keys | size))

    told = subprocess.run(
        [sys.executable, "-c", _RESIDENT, str(tmp_path)], check=True, capture_output=True, text=True
    )
    resident = [int(n) for n in told.stdout.split()]

    assert len(resident) >= 20
    assert jobs(sandbox) == int(way == "Bulk")
    passed = (len(resident) - settled) * page * len(text) / 1000
    assert max(resident) - max(resident[:settled]) < passed / 2


_RESIDENT = """
import sys
from pathlib import Path
import yaml
from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
work = Path(sys.argv[1])
config = ConnectionConfig.model_validate(yaml.safe_load((work / "connection.yaml").read_text()))
adapter = open_adapter("salesforce", config, work)
for page in adapter.pull("opportunities", None, adapter.clock()):
    del page
    print(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmRSS")))
"""
"""Pulls opportunities and prints after each page how many kB are resident."""


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
