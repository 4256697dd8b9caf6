"""What the adapter reads, judged against the dataset that the portal was filled with."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.hubspot.conftest import DEALS, Connect, Running

from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.pull import pull
from pipesync.sandbox.hubspot import Filled
from pipesync.store.warehouse import Warehouse


def _open_ids(warehouse: Warehouse, count: int) -> list[str]:
    found = warehouse.rows("SELECT id FROM opportunities WHERE NOT is_closed ORDER BY id LIMIT ?", [count])
    return [r[0] for r in found]


def _rows(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(sql)


@pytest.fixture(scope="module")
def files(company: Path) -> Warehouse:
    """The same company, read by the files adapter."""
    warehouse = Warehouse()
    config = ConnectionConfig(adapter="files", options={"data": str(company)})
    pull(open_adapter("files", config, Path()), warehouse)
    return warehouse


FACTS = (
    "SELECT amount, currency, pipeline, stage, forecast_category, close_date, created_at, closed_at, is_closed, "
    "is_won, type, source, product, segment, next_step, contact_count, lost_reason, name "
    "FROM opportunities ORDER BY created_at, name"
)


def test_opportunities_are_those_of_the_dataset(whole: Warehouse, files: Warehouse) -> None:
    """Money, dates, stages, categories, closings and segments survive HubSpot's texts."""
    found = _rows(whole, FACTS)

    assert found == _rows(files, FACTS)
    assert len(found) == 240


def test_history_is_that_of_the_dataset(whole: Warehouse, files: Warehouse) -> None:
    """Every change of stage and amount arrives with its moment, in its order, under the stage's name."""
    sql = (
        "SELECT o.name, o.created_at, c.field, c.value, c.changed_at FROM field_changes c "
        "JOIN opportunities o ON o.id = c.opportunity_id AND o.connection = c.connection "
        "WHERE c.field IN ('stage', 'amount') AND c.changed_at > o.created_at ORDER BY ALL"
    )

    assert _rows(whole, sql) == _rows(files, sql)


def test_stages_keep_order_and_phase(whole: Warehouse, files: Warehouse) -> None:
    """Pipelines and stages have the mapping's phases in the portal's order."""
    sql = 'SELECT pipeline, name, "order", phase FROM stages ORDER BY pipeline, "order"'

    assert _rows(whole, sql) == _rows(files, sql)


@pytest.mark.parametrize(
    "stream", ["users", "accounts", "products", "line_items", "leads", "quotas", "contact_roles"]
)
def test_other_streams_are_complete(whole: Warehouse, files: Warehouse, stream: str) -> None:
    """What stands around the opportunities arrives whole."""
    sql = f"SELECT count(*) FROM {stream}"

    assert _rows(whole, sql) == _rows(files, sql)


def test_quotas_keep_their_periods_and_sums(whole: Warehouse, files: Warehouse) -> None:
    """Goals become quotas with the day after their last as end."""
    sql = "SELECT period_start, period_end, amount FROM quotas ORDER BY ALL"

    assert _rows(whole, sql) == _rows(files, sql)


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "v3"])
def test_every_api_version_tells_the_same(
    connect: Connect, warehouse: Warehouse, hubspot: Running, version: str
) -> None:
    """One setting moves every path, and no other family is asked."""
    pull(connect(api_version=version), warehouse)

    assert len(_rows(warehouse, FACTS)) == 240
    foreign = [p for _, p in hubspot.asked if (("/v3" in p or "/v4" in p) != (version == "v3"))]
    assert foreign == []


def test_activities_arrive_where_they_are_chosen(whole: Warehouse, files: Warehouse) -> None:
    """Kinds, moments and directions of calls, e-mails and meetings are those of the dataset."""
    sql = 'SELECT kind, "at", is_done, direction FROM activities ORDER BY ALL'

    assert _rows(whole, sql) == _rows(files, sql)


def test_activities_are_left_alone_by_default(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Without the option not one engagement is asked for."""
    pull(connect(), warehouse)

    assert [p for _, p in hubspot.asked if p.endswith(("/calls", "/emails", "/meetings"))] == []


def test_a_quiet_hour_costs_few_requests(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Nothing changed: at most eight requests, the archived sweep apart (complaint: full resync every run)."""
    pull(connect(write=False), pulled)
    hubspot.advance(3600)
    hubspot.asked.clear()

    found = pull(connect(write=False), pulled)

    assert len(hubspot.asked) - 1 <= 8
    assert sum(p.changed for p in found.values()) == 0


def test_a_change_is_found_with_its_history(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """A changed deal is read again, history included (complaint: history disagrees with the current stage)."""
    (deal,) = _open_ids(pulled, 1)
    hubspot.edit(int(deal), amount="4711.5")

    found = pull(connect(), pulled, streams=DEALS)

    assert found["opportunities"].changed == 1
    assert pulled.rows("SELECT amount::VARCHAR FROM opportunities WHERE id = ?", [deal]) == [("4711.50",)]
    last = pulled.rows(
        "SELECT value, changed_by FROM field_changes WHERE opportunity_id = ? AND field = 'amount' "
        "ORDER BY changed_at DESC LIMIT 1",
        [deal],
    )
    assert last == [("4711.50", "100001")]


def test_archived_deals_go_although_nothing_was_modified(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """An archived deal leaves with its history and line items (complaint: deletes are invisible)."""
    gone, stays = _open_ids(pulled, 2)
    hubspot.records.archive("deals", [int(gone)])

    found = pull(connect(), pulled, streams=DEALS)

    assert found["opportunities"].deleted == 1
    assert pulled.rows("SELECT id FROM opportunities WHERE id IN (?, ?)", [gone, stays]) == [(stays,)]
    assert pulled.rows("SELECT count(*) FROM field_changes WHERE opportunity_id = ?", [gone]) == [(0,)]


def test_merged_deals_leave_one(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """The deal that went up in another is gone, although no archive lists it."""
    primary, other = _open_ids(pulled, 2)
    assert hubspot.portal
    _merge(hubspot, primary, other)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT id FROM opportunities WHERE id IN (?, ?)", [primary, other]) == [(primary,)]


def _merge(hubspot: Running, primary: str, other: str) -> None:
    import requests

    hubspot.advance(1)
    answer = requests.post(
        f"{hubspot.url}/crm/v3/objects/deals/merge",
        json={"primaryObjectId": primary, "objectIdToMerge": other},
        headers={"Authorization": "Bearer sandbox-token"},
        timeout=5,
    )
    assert answer.status_code == 200


def test_what_vanished_without_a_trace_goes_with_the_next_listing(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A purged deal is noticed when everything is listed anew, at the latest after `rescan`."""
    (gone,) = _open_ids(pulled, 1)
    hubspot.records.db.execute("DELETE FROM hs_objects WHERE kind = 'deals' AND id = ?", (int(gone),))
    hubspot.advance(8 * 86400)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE id = ?", [gone]) == [(0,)]


def test_a_lagging_search_index_hides_nothing_for_good(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A change that the index shows late is found by the next pull (complaint: records missing in incremental runs)."""
    (deal,) = _open_ids(pulled, 1)
    hubspot.records.lag = 60_000
    hubspot.edit(int(deal), amount="1.00")
    pull(connect(), pulled, streams=DEALS)
    assert pulled.rows("SELECT amount::VARCHAR FROM opportunities WHERE id = ?", [deal]) != [("1.00",)]
    hubspot.advance(90)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT amount::VARCHAR FROM opportunities WHERE id = ?", [deal]) == [("1.00",)]


def test_the_overlap_is_not_read_twice(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Deals met within the overlap are recognised by the moment they carry."""
    for deal in _open_ids(pulled, 5):
        hubspot.edit(int(deal), hs_next_step="Meet")
    pull(connect(), pulled, streams=DEALS)
    hubspot.asked.clear()
    hubspot.advance(60)

    pull(connect(), pulled, streams=DEALS)

    assert hubspot.count("deals/batch/read") == 0


def test_a_bulk_update_larger_than_a_page_is_found_whole(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Deals that share one moment are walked by id (complaint: the same window for ever)."""
    db = hubspot.records.db
    moment = hubspot.now_ms + 500
    text = "2026-11-16T09:00:00.500Z"
    db.execute(
        "UPDATE hs_objects SET updated = ?, properties = json_set(properties, '$.hs_lastmodifieddate', ?, "
        "'$.hs_next_step', 'Bulk') WHERE kind = 'deals'",
        (moment, text),
    )
    hubspot.advance(2)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE next_step = 'Bulk'") == [(240,)]


def test_a_broken_listing_goes_on_where_it_stopped(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """After a crash the pages that were committed are not asked for again."""
    adapter = connect()
    until = adapter.clock()
    pages = adapter.pull("accounts", None, until)
    cursor = json.dumps(json.loads(next(pages).cursor or "{}") | {"listing": True, "after": "3000000050"})
    hubspot.asked.clear()

    again = list(connect().pull("accounts", cursor, until))

    assert again[0].mode == "merge"
    assert sum(len(p.rows) for p in again) < 240


def test_a_renamed_stage_is_renamed_in_history_too(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A new label makes everything be listed anew, so that history and stages agree."""
    _change_stage(hubspot, "Propose", "PATCH", {"label": "Proposal"})

    pull(connect(), pulled, streams=DEALS)

    values = {r[0] for r in pulled.rows("SELECT DISTINCT value FROM field_changes WHERE field = 'stage'")}
    assert "Proposal" in values
    assert "Propose" not in values


def test_a_deleted_stage_keeps_its_last_label(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """History of a stage that the portal has deleted still tells its name."""
    (deal,) = pulled.rows(
        "SELECT opportunity_id FROM field_changes WHERE field = 'stage' AND value = 'Propose' LIMIT 1"
    )[0]
    _change_stage(hubspot, "Propose", "DELETE", {})
    hubspot.edit(int(deal), hs_next_step="Again")

    pull(connect(), pulled, streams=DEALS)

    left = pulled.rows(
        "SELECT count(*) FROM field_changes WHERE opportunity_id = ? AND field = 'stage' AND value = 'Propose'",
        [deal],
    )
    assert left[0][0] > 0


def _change_stage(hubspot: Running, label: str, method: str, body: dict[str, str]) -> None:
    import requests

    assert hubspot.portal
    pipeline, stage = next(
        (p, s) for p in hubspot.portal.pipelines("deals") for s in p["stages"] if s["label"] == label
    )
    answer = requests.request(
        method,
        f"{hubspot.url}/crm/v3/pipelines/deals/{pipeline['id']}/stages/{stage['id']}",
        json=body,
        headers={"Authorization": "Bearer sandbox-token"},
        timeout=5,
    )
    assert answer.status_code in (200, 204)


def test_contacts_follow_a_changed_deal(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """A removed contact leaves the deal's roles (complaint: associations missing in incremental mode)."""
    deal, contact = pulled.rows("SELECT opportunity_id, contact_id FROM contact_roles ORDER BY ALL LIMIT 1")[
        0
    ]
    hubspot.advance(1)
    hubspot.records.unlink("deals", int(deal), "contacts", int(contact))
    hubspot.edit(int(deal), hs_next_step="One less")

    pull(connect(), pulled, streams=DEALS)

    left = pulled.rows(
        "SELECT count(*) FROM contact_roles WHERE opportunity_id = ? AND contact_id = ?", [deal, contact]
    )
    assert left == [(0,)]


def test_many_properties_are_read_by_post(
    connect: Connect,
    warehouse: Warehouse,
    hubspot: Running,
    tmp_path: Path,
    template: tuple[sqlite3.Connection, Filled],
) -> None:
    """More property names than an address holds are asked for in a body (complaint: 414 URI too long)."""
    from pipesync.sandbox.hubspot.portal import custom

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


def test_a_missing_scope_makes_columns_unknown(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Without the scope of line items everything else is pulled, and their columns say why they are not known."""
    assert hubspot.portal
    scopes = [s for s in hubspot.portal.tokens["sandbox-token"] if "line_items" not in s]
    hubspot.records.set("tokens", {"sandbox-token": scopes})

    found = pull(connect(), warehouse)

    assert "crm.objects.line_items.read" in found["line_items"].warnings[0]
    assert {c.state for c in warehouse.columns("hs") if c.stream == "line_items"} == {"unreadable"}
    assert found["opportunities"].pulled == 240


def test_a_property_that_is_not_there_is_unknown(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """A mapped property that the token cannot see makes its column unreadable, not blank."""
    assert hubspot.portal
    left = [d for d in hubspot.portal.definitions("deals") if d["name"] != "hs_next_step"]
    hubspot.records.set("properties.deals", left)
    hubspot.portal.forget_definitions("deals")

    pull(connect(), warehouse)

    (state,) = [c for c in warehouse.columns("hs") if (c.stream, c.column) == ("opportunities", "next_step")]
    assert state.state == "unreadable"
    assert "hs_next_step" in state.detail


def test_many_changes_are_listed_rather_than_searched(
    connect: Connect, pulled: Warehouse, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a large share changed (a pipeline was edited), listing costs less than searching."""
    monkeypatch.setattr("pipesync.adapters.hubspot.streams.SEARCH_PAGE", 2)
    for deal in _open_ids(pulled, 60):
        hubspot.edit(int(deal), hs_next_step="All")
    for (deal,) in pulled.rows("SELECT id FROM opportunities WHERE is_closed LIMIT 60"):
        hubspot.edit(int(deal), hs_next_step="All")

    found = pull(connect(), pulled, streams=DEALS)

    assert found["opportunities"].pulled == 240
