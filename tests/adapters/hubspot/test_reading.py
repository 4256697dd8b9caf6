"""What the adapter reads, judged against the dataset that the portal was filled with."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.adapters.hubspot.conftest import DEALS, Connect, Fault, Running

from pipesync.adapters import open_adapter
from pipesync.config import ConnectionConfig
from pipesync.errors import CrmError
from pipesync.pull import pull
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


def test_what_vanished_without_a_trace_goes_with_the_next_listing(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A purged deal is noticed when everything is listed anew, at the latest after `rescan`."""
    (gone,) = _open_ids(pulled, 1)
    hubspot.records.db.execute("DELETE FROM hs_objects WHERE kind = 'deals' AND id = ?", (int(gone),))
    hubspot.advance(8 * 86400)

    pull(connect(), pulled, streams=DEALS)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE id = ?", [gone]) == [(0,)]


def test_the_overlap_is_not_read_twice(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """Deals met within the overlap are recognised by the moment they carry."""
    for deal in _open_ids(pulled, 5):
        hubspot.edit(int(deal), hs_next_step="Meet")
    pull(connect(), pulled, streams=DEALS)
    hubspot.asked.clear()
    hubspot.advance(60)

    pull(connect(), pulled, streams=DEALS)

    assert hubspot.count("deals/batch/read") == 0


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


@pytest.mark.parametrize(
    "refusal",
    [(429, {}, json.dumps({"policyName": "DAILY"})), (477, {"Retry-After": "86400"}, "")],
    ids=["the day's requests are used up", "the portal is being moved"],
)
def test_what_a_listing_brought_before_it_broke_off_is_kept(
    refusal: Any, connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """A portal whose day is too short for a listing is read whole all the same, day by day."""
    listing = "/objects/2026-09/deals"

    def used_up(method: str, path: str) -> Any:
        return refusal if method == "GET" and hubspot.count(listing) > 2 and path.endswith("/deals") else None

    hubspot.faults.append(used_up)
    with suppress(CrmError):
        pull(connect(), warehouse, streams=DEALS)
    kept = _rows(warehouse, "SELECT count(*), count(DISTINCT id) FROM opportunities")
    changed = _rows(warehouse, "SELECT count(DISTINCT opportunity_id) FROM field_changes")
    hubspot.faults.clear()
    hubspot.asked.clear()
    pull(connect(), warehouse, streams=DEALS)

    assert (kept, changed) == ([(100, 100)], [(100,)])
    assert hubspot.count(listing) == 3
    assert _rows(warehouse, "SELECT count(*) FROM opportunities") == [(240,)]


def test_a_renamed_stage_is_renamed_in_history_too(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A new label makes everything be listed anew, so that history and stages agree."""
    change_stage(hubspot, "Propose", "PATCH", {"label": "Proposal"})

    pull(connect(), pulled, streams=DEALS)

    values = {r[0] for r in pulled.rows("SELECT DISTINCT value FROM field_changes WHERE field = 'stage'")}
    assert "Proposal" in values
    assert "Propose" not in values


def change_stage(hubspot: Running, label: str, method: str, body: dict[str, str]) -> None:
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


@pytest.mark.parametrize("merged_id", ["primary", "new"])
def test_merged_deals_leave_one(
    connect: Connect, pulled: Warehouse, hubspot: Running, merged_id: str
) -> None:
    """What went up in another deal is gone, although no archive lists it; whose id stays is not documented."""
    primary, other = _open_ids(pulled, 2)
    before = pulled.rows("SELECT count(*) FROM opportunities")[0][0]
    assert hubspot.portal
    hubspot.portal.turn("merged_id", merged_id)
    hubspot.advance(1)
    answer = requests.post(
        f"{hubspot.url}/crm/v3/objects/deals/merge",
        json={"primaryObjectId": primary, "objectIdToMerge": other},
        headers={"Authorization": "Bearer sandbox-token"},
        timeout=5,
    )

    pull(connect(), pulled, streams=DEALS)

    stays = answer.json()["id"]
    assert (stays == primary) == (merged_id == "primary")
    left = pulled.rows("SELECT id FROM opportunities WHERE id IN (?, ?, ?)", [primary, other, stays])
    assert left == [(stays,)]
    assert pulled.rows("SELECT count(*) FROM opportunities") == [(before - 1,)]
    assert pulled.rows("SELECT count(*) > 0 FROM field_changes WHERE opportunity_id = ?", [stays]) == [
        (True,)
    ]


def test_a_restored_deal_comes_back(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """A deal that left the archive is read again, history and line items too, although restoring modifies nothing."""
    streams = (*DEALS, "line_items")
    pull(connect(), pulled, streams=streams)
    sql = "SELECT opportunity_id, count(*) FROM line_items GROUP BY 1 ORDER BY 1 LIMIT 1"
    deal, items = pulled.rows(sql)[0]
    hubspot.records.archive("deals", [int(deal)])
    pull(connect(), pulled, streams=streams)
    assert pulled.rows("SELECT count(*) FROM opportunities WHERE id = ?", [deal]) == [(0,)]
    hubspot.advance(3600)
    hubspot.records.restore("deals", int(deal))

    pull(connect(), pulled, streams=streams)

    assert pulled.rows("SELECT count(*) FROM opportunities WHERE id = ?", [deal]) == [(1,)]
    found = pulled.rows("SELECT count(*) > 0 FROM field_changes WHERE opportunity_id = ?", [deal])
    assert found == [(True,)]
    assert pulled.rows("SELECT count(*) FROM line_items WHERE opportunity_id = ?", [deal]) == [(items,)]


def test_archived_line_items_go(connect: Connect, warehouse: Warehouse, hubspot: Running) -> None:
    """The archives of what stands around the deals are looked through as often as `reference` says."""
    pull(connect(), warehouse)
    (gone,) = warehouse.rows("SELECT id FROM line_items ORDER BY id LIMIT 1")[0]
    hubspot.advance(3600)
    hubspot.records.archive("line_items", [int(gone)])
    hubspot.advance(7 * 3600)

    found = pull(connect(), warehouse)

    assert found["line_items"].deleted == 1
    assert warehouse.rows("SELECT count(*) FROM line_items WHERE id = ?", [gone]) == [(0,)]


def test_a_deleted_stage_keeps_its_last_label(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """History of a stage that the portal has deleted tells its name, and the stage stays as an inactive one.

    Also where the mapping has changed since, which makes everything be read anew.
    """
    (deal,) = pulled.rows(
        "SELECT opportunity_id FROM field_changes WHERE field = 'stage' AND value = 'Propose' LIMIT 1"
    )[0]
    change_stage(hubspot, "Propose", "DELETE", {})
    hubspot.records.set("audit", [])
    hubspot.edit(int(deal), hs_next_step="Again")

    pull(connect(), pulled, streams=DEALS)
    pull(connect(mapping=None), pulled, streams=DEALS)

    left = pulled.rows(
        "SELECT count(*) FROM field_changes WHERE opportunity_id = ? AND field = 'stage' AND value = 'Propose'",
        [deal],
    )
    assert left[0][0] > 0
    assert pulled.rows("SELECT DISTINCT is_active FROM stages WHERE name = 'Propose'") == [(False,)]


def test_a_full_pull_keeps_what_the_portal_has_deleted(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Reading everything anew loses no name of a stage, no ending and no inactive row; what it reads is all."""
    looks = (
        "SELECT id, stage, is_closed, is_won FROM opportunities ORDER BY id",
        "SELECT id, value FROM field_changes WHERE field = 'stage' ORDER BY id",
        "SELECT id, name, phase FROM stages ORDER BY id",
        "SELECT id, name FROM pipelines ORDER BY id",
    )
    before = [_rows(pulled, sql) for sql in looks]
    _delete_pipelines(hubspot)
    _clear(hubspot, "hs_is_closed", "hs_is_closed_won")
    hubspot.records.set("audit", [])
    (gone,) = _open_ids(pulled, 1)
    hubspot.records.db.execute("DELETE FROM hs_objects WHERE kind = 'deals' AND id = ?", (int(gone),))
    pulled.execute("UPDATE opportunities SET name = 'Odd'")

    for _ in range(2):
        pull(connect(), pulled, streams=DEALS, full=True)

    history = dict(pulled.rows("SELECT id, opportunity_id FROM field_changes"))
    assert [_rows(pulled, sql) for sql in looks] == [
        [row for row in before[0] if row[0] != gone],
        [row for row in before[1] if row[0] in history],
        *before[2:],
    ]
    assert gone not in history.values()
    assert _rows(pulled, "SELECT count(*) FROM opportunities WHERE name = 'Odd'") == [(0,)]
    assert _rows(pulled, "SELECT DISTINCT is_active FROM stages") == [(False,)]


_ENDED = "SELECT id, is_closed, is_won, closed_at FROM opportunities WHERE is_closed ORDER BY id"


def _delete_pipelines(hubspot: Running) -> None:
    assert hubspot.portal
    for pipeline in hubspot.portal.pipelines("deals"):
        requests.delete(
            f"{hubspot.url}/crm/v3/pipelines/deals/{pipeline['id']}",
            headers={"Authorization": "Bearer sandbox-token"},
            timeout=5,
        ).raise_for_status()


def _clear(hubspot: Running, *properties: str) -> None:
    """Have the deals not tell these properties any more."""
    gone = ", ".join(f"'$.{p}'" for p in properties)
    hubspot.records.db.execute(
        f"UPDATE hs_objects SET properties = json_remove(properties, {gone}) WHERE kind = 'deals'"
    )


def test_deals_in_a_deleted_stage_stay_closed(connect: Connect, pulled: Warehouse, hubspot: Running) -> None:
    """What was won or lost stays so when its pipeline goes, as the last pull knew its stages."""
    before = _rows(pulled, _ENDED)
    _delete_pipelines(hubspot)
    _clear(hubspot, "hs_is_closed", "hs_is_closed_won")
    hubspot.advance(8 * 86400)

    pull(connect(), pulled, streams=DEALS)

    assert {won for _, _, won, _ in before} == {True, False}
    assert _rows(pulled, _ENDED) == before


def test_deals_in_a_stage_that_was_never_seen_tell_their_end_themselves(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """A first pull after a pipeline went reads from the deal itself whether it is won or lost."""
    before = _rows(pulled, _ENDED)
    _delete_pipelines(hubspot)

    with Warehouse() as first:
        pull(connect(), first, streams=DEALS)
        assert _rows(first, _ENDED) == before


def test_a_cursor_from_before_endings_were_kept_is_read(
    connect: Connect, pulled: Warehouse, hubspot: Running
) -> None:
    """Its stages have a name and a pipeline alone; the deal itself tells the rest."""
    before = _rows(pulled, _ENDED)
    cursor = json.loads(pulled.checkpoint("hs", "opportunities").cursor or "")
    cursor["labels"] = {i: told[:2] for i, told in cursor["labels"].items()}
    told = json.dumps(cursor | {"form": "of another version"})
    pulled.execute("UPDATE pulls SET cursor = ? WHERE stream = 'opportunities'", [told])
    _delete_pipelines(hubspot)

    pull(connect(), pulled, streams=DEALS)

    assert _rows(pulled, _ENDED) == before
    stages = {r[0] for r in pulled.rows("SELECT DISTINCT stage FROM opportunities")}
    assert not [s for s in stages if s.isdigit()]


def test_a_stage_deleted_before_the_first_pull_is_named_by_its_audit(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """The portal's own log still knows what history calls by a number; it is asked once for each."""
    change_stage(hubspot, "Propose", "DELETE", {})

    pull(connect(), warehouse, streams=DEALS)

    values = {r[0] for r in warehouse.rows("SELECT DISTINCT value FROM field_changes WHERE field = 'stage'")}
    assert "Propose" in values
    assert not [v for v in values if v.isdigit()]
    assert hubspot.portal
    assert 1 <= hubspot.count("/audit") <= len(hubspot.portal.pipelines("deals"))


def test_owners_who_left_and_teams_are_known(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Owners come active and archived, each with the primary one of several teams."""
    owners = hubspot.records.setting("owners")
    owners[0] |= {
        "archived": True,
        "teams": [
            {"id": "8", "name": "Second", "primary": False},
            {"id": "9", "name": "First", "primary": True},
        ],
    }
    hubspot.records.set("owners", owners)

    pull(connect(), warehouse, streams=("users",))

    found = warehouse.rows("SELECT is_active, team FROM users WHERE id = ?", [owners[0]["id"]])
    assert found == [(False, "First")]
    assert len(warehouse.rows("SELECT id FROM users")) == len(owners)


def test_goals_of_teams_and_of_other_kinds(connect: Connect, warehouse: Warehouse, hubspot: Running) -> None:
    """A team's goal carries the team's name; a goal that counts calls is no quota."""
    from pipesync.sandbox.hubspot.records import Source

    owners = hubspot.records.setting("owners")
    owners[0]["teams"] = [{"id": "77", "name": "North", "primary": True}]
    hubspot.records.set("owners", owners)
    goal = {
        "hs_target_amount": "1000000.5", "hs_start_datetime": "2026-10-01T00:00:00Z",
        "hs_end_datetime": "2026-12-31T23:59:59.999Z", "hs_assignee_team_id": "77", "hs_goal_type": "sales_quota",
    }  # fmt: skip
    for given in (goal, {**goal, "hs_goal_type": "calls_made"}):
        hubspot.records.create("goal_targets", given, Source("CRM_UI"))

    pull(connect(mapping=None), warehouse, streams=("quotas",))

    found = warehouse.rows(
        "SELECT team, owner_id, period_start::VARCHAR, period_end::VARCHAR FROM quotas WHERE amount = 1000000.5"
    )
    assert found == [("North", None, "2026-10-01", "2027-01-01")]


def test_exchange_rates_and_the_account_are_read(
    connect: Connect, warehouse: Warehouse, hubspot: Running
) -> None:
    """Rates lead to the company's currency from their day on; zone and currency are the account's own."""
    rate = {
        "id": "1", "fromCurrencyCode": "USD", "toCurrencyCode": "EUR", "conversionRate": 0.92,
        "effectiveAt": "2026-11-02T00:00:00Z",
    }  # fmt: skip
    hubspot.records.set("rates", [rate])
    account = hubspot.records.setting("account") | {"timeZone": "Europe/Warsaw", "companyCurrency": "PLN"}
    hubspot.records.set("account", account)
    adapter = connect(mapping=None)

    pull(adapter, warehouse, streams=("currency_rates",))

    assert (adapter.connection().timezone, adapter.connection().currency) == ("Europe/Warsaw", "PLN")
    found = warehouse.rows("SELECT currency, rate, valid_from::VARCHAR FROM currency_rates")
    assert found == [("USD", 0.92, "2026-11-02")]


def test_a_search_that_was_stopped_still_looks_behind_where_it_began(
    connect: Connect, pulled: Warehouse, hubspot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the index hid while a search went on in pieces is found by the search after it."""
    for module in ("reading", "streams"):
        monkeypatch.setattr(f"pipesync.adapters.hubspot.{module}.SEARCH_PAGE", 20)
    monkeypatch.setattr("pipesync.adapters.hubspot.streams._CHANGED_TOGETHER", 20)
    *early, hidden = _open_ids(pulled, 20)
    late = [r[0] for r in pulled.rows("SELECT id FROM opportunities WHERE is_closed ORDER BY id LIMIT 30")]
    for deal in early:
        hubspot.edit(int(deal), hs_next_step="Seen")
    hubspot.records.lag = 60_000
    hubspot.edit(int(hidden), hs_next_step="Seen")
    hubspot.records.lag = 0
    for deal in late:
        hubspot.edit(int(deal), hs_next_step="Seen")
    hubspot.fail((429, {}, '{"policyName": "DAILY"}'), where="deals/batch/read", times=1)
    hubspot.faults.append(_only(1, "deals/batch/read", hubspot.faults.pop()))

    def seen() -> int:
        return int(pulled.rows("SELECT count(*) FROM opportunities WHERE next_step = 'Seen'")[0][0])

    counts = []
    for _ in range(3):
        pull(connect(write=False), pulled, streams=DEALS)
        counts.append(seen())
    hubspot.advance(90)
    pull(connect(write=False), pulled, streams=DEALS)

    assert counts == [20, 49, 49]
    assert seen() == 50


def _only(number: int, word: str, fault: Fault) -> Fault:
    """Let as many requests with this word in their path pass before the fault."""
    passed = [0]

    def meet(method: str, path: str) -> Any:
        if word in path and passed[0] < number:
            passed[0] += 1
            return None
        return fault(method, path)

    return meet


ROLES = "SELECT opportunity_id, contact_id FROM contact_roles ORDER BY ALL"


def _with_more_contacts(hubspot: Running, whole: Warehouse, *, more: int, page: int) -> tuple[str, Any]:
    """Give a deal more contacts than the portal tells at once; return it, and everybody's contacts then."""
    deal = str(_rows(whole, "SELECT min(opportunity_id) FROM contact_roles")[0][0])
    contacts = [4_999_999_000 + n for n in range(more)]
    for contact in contacts:
        hubspot.records.link("deals", int(deal), "contacts", contact, 3, None, 4)
    assert hubspot.portal
    hubspot.portal.turn("links_page", page)
    return deal, sorted([*_rows(whole, ROLES), *((deal, str(c)) for c in contacts)])


def test_a_listing_brings_contacts_beyond_a_page(
    connect: Connect, warehouse: Warehouse, hubspot: Running, whole: Warehouse
) -> None:
    """A deal with more than come inline has all of them; a deal whose contacts fit costs no request."""
    _, expected = _with_more_contacts(hubspot, whole, more=25, page=10)

    pull(connect(write=False), warehouse, streams=("opportunities", "contact_roles"))

    assert _rows(warehouse, ROLES) == expected
    assert hubspot.count("/associations/") == 3  # the pages of that deal alone


def test_a_changed_deal_brings_contacts_beyond_a_page(
    connect: Connect, pulled: Warehouse, hubspot: Running, whole: Warehouse
) -> None:
    """An increment follows the pages of the associations' batch read to their end."""
    deal, expected = _with_more_contacts(hubspot, whole, more=7, page=2)
    hubspot.edit(int(deal), hs_next_step="More people")

    pull(connect(), pulled, streams=DEALS)

    assert _rows(pulled, ROLES) == expected


def test_other_records_bring_links_beyond_a_page(
    connect: Connect, warehouse: Warehouse, hubspot: Running, whole: Warehouse
) -> None:
    """A call that was held about more deals than come inline is an activity of each."""
    sql = "SELECT id, opportunity_id FROM activities WHERE id LIKE 'calls:%' ORDER BY ALL"
    call = _rows(whole, "SELECT min(id) FROM activities WHERE id SIMILAR TO 'calls:[0-9]+'")[0][0]
    had = _rows(whole, f"SELECT opportunity_id FROM activities WHERE id = '{call}'")[0][0]
    others = [d for d in _open_ids(whole, 6) if d != had][:5]
    for deal in others:
        hubspot.records.link("calls", int(call.removeprefix("calls:")), "deals", int(deal), 206, None, 205)
    assert hubspot.portal
    hubspot.portal.turn("links_page", 2)

    pull(connect(write=False, activities=["calls"]), warehouse)

    found = {deal for i, deal in _rows(warehouse, sql) if i == call or i.startswith(f"{call}:")}
    assert found == {had, *others}
    assert len(_rows(warehouse, sql)) == len(_rows(whole, sql)) + 5


def test_a_deal_tells_when_it_was_last_touched_and_what_comes_next(
    connect: Connect, warehouse: Warehouse, hubspot: Running, whole: Warehouse
) -> None:
    """HubSpot's own activity dates arrive without the activities, from a listing and from an increment."""
    listed, changed = _open_ids(whole, 2)
    dates = {
        "notes_last_contacted": "2026-11-02T09:30:00.000Z",
        "notes_next_activity_date": "2026-11-20T14:00:00.250Z",
    }
    hubspot.edit(int(listed), **dates)
    streams = ("opportunities", "stages", "pipelines")

    pull(connect(mapping=None, write=False), warehouse, streams=streams)
    hubspot.advance(3600)
    hubspot.edit(int(changed), **{**dates, "notes_next_activity_date": None})
    pull(connect(mapping=None, write=False), warehouse, streams=streams)

    sql = (
        "SELECT id, CAST(last_activity_at AS VARCHAR), CAST(next_activity_at AS VARCHAR) FROM opportunities "
        "WHERE id IN (?, ?) ORDER BY id"
    )
    assert warehouse.rows(sql, [listed, changed]) == sorted(
        [
            (listed, "2026-11-02 09:30:00", "2026-11-20 14:00:00.25"),
            (changed, "2026-11-02 09:30:00", None),
        ]
    )


def test_deals_were_last_touched_when_the_dataset_says(
    connect: Connect, warehouse: Warehouse, files: Warehouse
) -> None:
    """With the shipped mapping and no activities read, the last call, e-mail or meeting is in the deal."""
    pull(connect(mapping=None, write=False), warehouse, streams=("opportunities", "stages", "pipelines"))

    found = _rows(warehouse, "SELECT created_at, name, last_activity_at FROM opportunities ORDER BY ALL")
    expected = _rows(
        files,
        "SELECT o.created_at, o.name, max(a.at) FILTER (a.is_done AND a.kind <> 'task') FROM opportunities o "
        "LEFT JOIN activities a ON a.opportunity_id = o.id GROUP BY o.id, o.created_at, o.name ORDER BY ALL",
    )
    assert found == expected
    assert sum(at is not None for *_, at in found) > 100
