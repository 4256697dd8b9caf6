"""Ten problems that users of other extractors report, each answered; adapters/hubspot/README.md tells them in a table.

A test is named `test_problem_N_...`, and carries the reports it answers.
"""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette
from tests.adapters.hubspot.conftest import DEALS, Connect, Running

from pipesync._paths import shipped
from pipesync.adapters.hubspot.pacing import Pace
from pipesync.pull import pull
from pipesync.sandbox.hubspot import Filled, routes
from pipesync.sandbox.hubspot.limits import BURST, Limits
from pipesync.sandbox.hubspot.portal import custom
from pipesync.sandbox.hubspot.records import iso
from pipesync.store.warehouse import Warehouse

STREAMS = ("opportunities", "field_changes", "contact_roles", "stages", "pipelines")


def _open_ids(warehouse: Warehouse, count: int) -> list[str]:
    found = warehouse.rows("SELECT id FROM opportunities WHERE NOT is_closed ORDER BY id LIMIT ?", [count])
    return [r[0] for r in found]


def test_problem_1_records_missing_because_the_index_lags(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Airbyte #69203, Estuary #1743: what the index shows late is found by the next pull, which looks further back."""
    (deal,) = _open_ids(pulled, 1)
    hubspot.records.lag = 60_000
    hubspot.edit(int(deal), amount="1.00")
    pull(connect(), pulled, streams=DEALS)
    assert pulled.rows("SELECT amount::VARCHAR FROM opportunities WHERE id = ?", [deal]) != [("1.00",)]
    hubspot.advance(90)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT amount::VARCHAR FROM opportunities WHERE id = ?", [deal]) == [("1.00",)]


@pytest.mark.parametrize("together", [False, True])
def test_problem_2_searches_end_at_ten_thousand_results(
    connect: Connect, pulled: Warehouse, hubspot: Running, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """Airbyte #10700, #23630: each search starts anew from the last moment, so the cap is never reached.

    Also where all changes share one moment, which makes others ask for the same window for ever. The cap is played
    at 40 results, the pages have 20, and 90 deals changed.
    """
    monkeypatch.setattr("pipesync.sandbox.hubspot.objects.WINDOW", 40)
    for module in ("reading", "streams"):
        monkeypatch.setattr(f"pipesync.adapters.hubspot.{module}.SEARCH_PAGE", 20)
    deals = [r[0] for r in pulled.rows("SELECT id FROM opportunities ORDER BY id LIMIT 90")]
    for deal in deals:
        hubspot.edit(int(deal), hs_next_step="Bulk")
    if together:
        hubspot.records.db.execute(
            "UPDATE hs_objects SET updated = ?, properties = json_set(properties, '$.hs_lastmodifieddate', ?) "
            "WHERE kind = 'deals' AND json_extract(properties, '$.hs_next_step') = 'Bulk'",
            (hubspot.now_ms, iso(hubspot.now_ms)),
        )
    hubspot.advance(2)
    hubspot.asked.clear()

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE next_step = 'Bulk'") == [(90,)]
    assert hubspot.count("deals/search") >= 90 / 20


def test_problem_3_deletes_are_invisible(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Airbyte #19838, #35017, singer #64, #106: archiving modifies nothing, so each pull looks through the archive.

    What was purged without a trace goes when all is listed anew, after `rescan` at the latest.
    """
    archived, purged, stays = _open_ids(pulled, 3)
    hubspot.records.archive("deals", [int(archived)])
    hubspot.records.db.execute("DELETE FROM hs_objects WHERE kind = 'deals' AND id = ?", (int(purged),))

    found = pull(connect(), pulled, streams=DEALS)

    assert found["opportunities"].deleted == 1
    assert pulled.rows("SELECT count(*) FROM field_changes WHERE opportunity_id = ?", [archived]) == [(0,)]
    hubspot.advance(8 * 86400)
    pull(connect(), pulled, streams=DEALS)
    left = pulled.rows("SELECT id FROM opportunities WHERE id IN (?, ?, ?)", [archived, purged, stays])
    assert left == [(stays,)]


def test_problem_4_history_disagrees_with_the_present(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Airbyte #46576, dlt's dropped pages: values and history come in one reading, so the last change is the value.

    For every deal and every property with history, after changes by people as after the first pull.
    """
    for deal in _open_ids(pulled, 4):
        hubspot.edit(int(deal), amount="4711.5", hubspot_owner_id="100002")
    pull(connect(), pulled, streams=DEALS)

    for column in ("stage", "amount", "owner_id", "forecast_category", "close_date"):
        wrong = pulled.rows(
            f"SELECT o.id FROM opportunities o JOIN (SELECT opportunity_id, arg_max(value, (changed_at, seq)) AS last "
            f"FROM field_changes WHERE field = '{column}' GROUP BY 1) h ON h.opportunity_id = o.id "
            f"WHERE o.{column}::VARCHAR IS DISTINCT FROM h.last"
        )
        assert wrong == [], column
    last = pulled.rows("SELECT changed_by FROM field_changes WHERE value = '4711.50'")
    assert last == [("100001",)] * 4


def test_problem_5_an_address_too_long(
    connect: Connect,
    warehouse: Warehouse,
    hubspot: Running,
    tmp_path: Path,
    template: tuple[sqlite3.Connection, Filled],
) -> None:
    """Airbyte #33976, dlt #305, #600: more property names than an address holds are asked for in a body."""
    assert hubspot.portal
    names = [f"a_rather_long_name_of_a_property_that_an_admin_made_{n:03d}" for n in range(200)]
    hubspot.portal.define("deals", [custom(n, "string") for n in names])
    path = tmp_path / "wide.yaml"
    lines = "".join(f"      c{n}: {name}\n" for n, name in enumerate(names))
    path.write_text(
        f"extends: pipesync:hubspot\nstreams:\n  opportunities:\n    custom:\n{lines}", encoding="utf-8"
    )

    found = pull(connect(mapping=path), warehouse)

    assert found["opportunities"].pulled == 240
    assert hubspot.count("deals/batch/read") > 0


def test_problem_6_full_syncs_that_take_days(
    connect: Connect, warehouse: Warehouse, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airbyte #11448, #31199: the limit that the headers tell is used up and not run into, whatever the tier.

    No answer is 429, and the time is what the limit forces. Time is played: ten requests in ten seconds.
    """
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setitem(BURST, "free", 10)
    monkeypatch.setattr("pipesync.adapters.hubspot.api.Pace", partial(Pace, lambda: now[0], sleep))
    assert hubspot.portal
    hubspot.portal.turn("tier", "free")
    limits = Limits(lambda: now[0])
    hubspot.app = Starlette(routes=routes(hubspot.portal, limits))

    pull(connect(searches_per_second=4), warehouse)

    requests = len(hubspot.asked)
    assert requests > 25
    assert limits.refused == 0
    assert now[0] == 10.0 * ((requests - 1) // 10)


def test_problem_7_associations_missing_in_incremental_runs(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Airbyte #14390, #69203: a changed deal is read with its contacts; one that was removed goes."""
    sql = "SELECT opportunity_id, contact_id FROM contact_roles ORDER BY ALL LIMIT 1"
    deal, contact = pulled.rows(sql)[0]
    hubspot.advance(1)
    hubspot.records.unlink("deals", int(deal), "contacts", int(contact))
    hubspot.records.link("deals", int(deal), "contacts", 4_999_999_999, 3, None, 4)
    hubspot.edit(int(deal), hs_next_step="One less, one more")

    pull(connect(), pulled, streams=DEALS)

    left = {
        r[0] for r in pulled.rows("SELECT contact_id FROM contact_roles WHERE opportunity_id = ?", [deal])
    }
    assert contact not in left
    assert "4999999999" in left


def test_problem_8_a_full_resync_every_run(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Singer #34, pipeline-diff: when nothing changed, at most eight requests, the archived sweep apart."""
    pull(connect(write=False), pulled)
    hubspot.advance(3600)
    hubspot.asked.clear()

    found = pull(connect(write=False), pulled)

    assert len(hubspot.asked) - 1 <= 8
    assert sum(p.changed for p in found.values()) == 0


def test_problem_8_once_a_day_what_stands_around_the_deals_is_looked_at(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """After `reference`: owners twice, a search for each of four objects, three pages of goals, and five archives."""
    pull(connect(write=False), pulled)
    hubspot.advance(86400)
    hubspot.asked.clear()

    pull(connect(write=False), pulled)

    archives = sum(
        method == "GET" and "/objects/" in path and "goal" not in path for method, path in hubspot.asked
    )
    assert (len(hubspot.asked) - archives, archives) == (14, 5)


def test_problem_9_limits_that_never_let_the_cursor_advance(
    connect: Connect, pulled: Warehouse, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipedream #4209: a pipeline was edited, all deals are touched, and each run ends early.

    Runs with room for a few requests each get on all the same: what was read is committed with its cursor.
    """
    monkeypatch.setattr("pipesync.adapters.hubspot.reading.SEARCH_PAGE", 20)
    monkeypatch.setattr("pipesync.adapters.hubspot.reading.HISTORY_PAGE", 10)
    monkeypatch.setattr("pipesync.adapters.hubspot.streams._CHANGED_TOGETHER", 20)
    for (deal,) in pulled.rows("SELECT id FROM opportunities"):
        hubspot.edit(int(deal), hs_next_step="Touched")
    left = [0]

    def daily(method: str, path: str) -> object:
        left[0] -= 1
        if left[0] >= 0:
            return None
        return 429, {}, '{"status": "error", "errorType": "RATE_LIMIT", "policyName": "DAILY"}'

    hubspot.faults.append(daily)
    touched: list[int] = []
    while not touched or touched[-1] < 240:
        left[0] = 12
        told = pull(connect(write=False), pulled, streams=STREAMS)
        touched += pulled.rows("SELECT count(*) FROM opportunities WHERE next_step = 'Touched'")[0]
        assert len(touched) < 60, "it does not get on"
        assert touched[-1] == 240 or any("used up" in w for p in told.values() for w in p.warnings)

    assert len(touched) > 3
    assert touched == sorted(touched)


def test_problem_10_renamed_stage_time_properties(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """dlt #631, #647, singer #133: time in a stage is worked out of the stage's history; no such property is read.

    A mapped property that HubSpot renames is told: its column becomes unknown, and `doctor` names the nearest.
    """
    assert hubspot.portal
    definitions = hubspot.portal.definitions("deals")
    renamed = [
        {**d, "name": "hs_next_step_v2"} if d["name"] == "hs_next_step" else d
        for d in definitions
        if not re.match(r"hs_(v2_)?(date|time|latest|cumulative)_", d["name"])
    ]
    hubspot.records.set("properties.deals", renamed)
    hubspot.portal.forget_definitions("deals")

    pull(connect(), warehouse, streams=DEALS)

    visits = warehouse.rows("SELECT count(*) FROM field_changes WHERE field = 'stage'")
    assert visits[0][0] > 240
    states = {c.column: c.state for c in warehouse.columns("hs") if c.stream == "opportunities"}
    assert (states["stage"], states["next_step"]) == ("known", "unreadable")
    (check,) = [c for c in connect().checks() if c.name == "property hs_next_step"]
    assert "hs_next_step_v2" in check.fix


def test_the_table_tells_each_problem_and_its_test() -> None:
    """The install kit's page lists the ten problems, each with the test that answers it."""
    page = (shipped("adapters") / "hubspot" / "README.md").read_text(encoding="utf-8")
    tests = [name for name in globals() if name.startswith("test_problem_")]

    assert len({name.split("_")[2] for name in tests}) == 10
    assert [name for name in tests if f"`{name}`" not in page] == []
