"""What users of simple-salesforce and of other extractors complain about: each problem, and the test that answers it.

The table is checked: every test that it names exists. docs/reliability.md shows it to people.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tests.adapters.salesforce.conftest import Connect, order, put

from pipesync.errors import BudgetSpent, CrmError
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.store.warehouse import Warehouse

HERE = Path(__file__).parent
_ROW = re.compile(r"\| (.+?) \| (.+?) \| `(test_\w+)` \|")


def test_the_table_of_problems_names_tests_that_exist() -> None:
    """Twenty problems, and no test in the table that is not there."""
    text = (HERE.parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = _ROW.findall(text)
    there = {n for f in HERE.glob("test_*.py") for n in re.findall(r"^def (test_\w+)", f.read_text(), re.M)}

    assert len(rows) == 20
    assert {name for _, _, name in rows} - there == set()


@contextmanager
def silent() -> Iterator[int]:
    """Listen, take requests and never answer; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for one in held:
            one.close()


def test_an_org_that_never_answers_is_given_up(connect: Connect) -> None:
    """Sign-in and every request have a timeout (simple-salesforce #148, #755)."""
    with silent() as port, pytest.raises(CrmError, match="did not answer"):
        connect(url=f"http://127.0.0.1:{port}", timeout=0.05).connection()


def test_more_fields_than_an_address_holds_are_read_by_a_job(
    connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A long query goes in a body; its HTML refusal would say nothing (airbyte #20703)."""
    heads = ("Owner", "Account.Owner", "CreatedBy", "Account.CreatedBy", "RecordType.CreatedBy")
    told = (
        "Name",
        "Email",
        "IsActive",
        "Username",
        "ManagerId",
        "UserRoleId",
        "TimeZoneSidKey",
        "LocaleSidKey",
        "Id",
    )
    paths = [head + ".Manager" * n + f".{field}" for head in heads for n in range(7) for field in told]
    custom = {f"a{i}": path for i, path in enumerate(paths)}
    own = yaml.safe_load(sandbox.told["salesforce"]["mapping"])
    own["streams"]["opportunities"]["custom"] = custom
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))

    with Warehouse() as warehouse:
        pull(connect(mapping="own.yaml"), warehouse, streams=["opportunities"])

        assert warehouse.rows("SELECT count(*) FROM opportunities") == [(150,)]
        assert sandbox.ask("GET")["by_path"]["POST /services/data/v62.0/jobs/query"] == 1


def test_a_query_that_takes_too_long_never_ends_a_run_as_if_it_were_done(
    connect: Connect, sandbox: Sandbox
) -> None:
    """Pages get smaller until they pass; where none does, the run fails (airbyte #17503)."""
    put(sandbox, times_out_above=100)
    with Warehouse() as warehouse:
        pull(connect(), warehouse, streams=["opportunities"])
        passed = warehouse.rows("SELECT count(*) FROM opportunities")
    put(sandbox, times_out_above=1)
    with Warehouse() as warehouse, pytest.raises(CrmError, match="QUERY_TIMEOUT"):
        pull(connect(), warehouse, streams=["opportunities"])

    assert passed == [(150,)]


def test_nothing_is_left_out_for_its_age(connect: Connect, sandbox: Sandbox, pulled: Warehouse) -> None:
    """There is no start date: a record of 1999 is pulled at first (airbyte #37528)."""
    record = pulled.rows("SELECT min(id) FROM opportunities")[0][0]
    old = {"CreatedDate": "1999-12-31T00:00:00.000+0000", "SystemModstamp": "1999-12-31T00:00:00.000+0000"}
    sandbox.ask("POST", "edit", {"crm": "salesforce", "id": record, "fields": old})

    with Warehouse() as warehouse:
        pull(connect(), warehouse, streams=["opportunities"])

        assert warehouse.rows("SELECT count(*) FROM opportunities WHERE id = ?", [record]) == [(1,)]


def test_the_budget_counts_whatever_else_the_header_says(connect: Connect, sandbox: Sandbox) -> None:
    """`api-usage=10/100; api-bursts=1/750` is understood; its tail blinds other clients' guards (singer PR #221)."""
    adapter = connect()
    adapter.connection()

    used, allowed = adapter._api.used  # type: ignore[attr-defined]

    assert (used > 0, allowed) == (True, 1_000_000)


def test_two_requests_at_once_share_one_budget(connect: Connect) -> None:
    """What is under way counts already, so that a run's share is never exceeded by what was asked beside it."""
    api = connect(daily_share=3 / 1_000_000)._api  # type: ignore[attr-defined]  # nothing else asks at once
    api.get("limits")
    api.get("limits")

    with api._within_budget(), pytest.raises(BudgetSpent), api._within_budget():
        pass


@pytest.mark.parametrize("status", [406, 420, 502, 504])
def test_empty_and_html_bodies_are_survived(connect: Connect, sandbox: Sandbox, status: int) -> None:
    """Whatever stands between us and the org answers so at times (simple-salesforce #402)."""
    order(sandbox, {"kind": "status", "status": status, "moments": [2, 3]})

    with Warehouse() as warehouse:
        found = pull(connect(), warehouse, streams=["opportunities"])

    assert found["opportunities"].pulled == 150
