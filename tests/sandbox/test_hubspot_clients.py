"""The sandbox's HubSpot serves HubSpot's own client, whose typed calls were generated from HubSpot's specification."""

from __future__ import annotations

import inspect
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from hubspot.crm import deals as deals_models
from hubspot.crm import pipelines as pipeline_models
from hubspot.crm import properties as property_models
from hubspot.crm.associations import v4 as association_models
from hubspot.crm.deals import models as deal_models
from hubspot.crm.objects import tasks as task_models
from hubspot.crm.properties import PropertyCreate, PropertyGroupCreate
from starlette.applications import Starlette
from starlette.routing import Match

import hubspot
from pipesync.sandbox.company import AS_OF, generate
from pipesync.sandbox.hubspot import Filled, Portal, fill, routes

TOKEN = "sandbox-token"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[sqlite3.Connection, Filled]:
    """A portal's content."""
    folder = tmp_path_factory.mktemp("company")
    generate(folder, opportunities=130, seed=5, activities_per_opportunity=1)
    db = sqlite3.connect(":memory:", check_same_thread=False)
    return db, fill(Portal(db, lambda: round(AS_OF.timestamp() * 1000)), folder)


class Served:
    """A server whose portal is exchanged for each test."""

    def __init__(self) -> None:
        self.app: Any = None
        self.portal: Portal

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Served]]:
    served = Served()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(
        uvicorn.Config(served, port=port, log_level="critical", lifespan="off", access_log=False)
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{port}", served
    running.should_exit = True
    thread.join(5)


@pytest.fixture
def portal(server: tuple[str, Served], filled: tuple[sqlite3.Connection, Filled]) -> Portal:
    """A portal for one test."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    filled[0].backup(db)
    server[1].portal = Portal(db, lambda: round(AS_OF.timestamp() * 1000))
    server[1].app = Starlette(routes=routes(server[1].portal))
    return server[1].portal


@pytest.fixture
def url(server: tuple[str, Served], portal: Portal) -> str:
    return server[0]


@pytest.fixture
def client(url: str) -> Any:
    """HubSpot's own client."""
    return hubspot.Client.create(access_token=TOKEN, host=url, base_url=url)


def _ask(
    url: str, method: str, path: str, body: Any = None, token: str = TOKEN, **query: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url + path, json=body, params=query, headers=headers, timeout=10)


def test_a_listing_pages_through_everything_once(client: Any) -> None:
    """The client's get_all finds every deal, in the order of ids, with the properties asked for."""
    found = client.crm.deals.get_all(properties=["dealname", "amount"])

    ids = [int(d.id) for d in found]
    assert len(ids) == 130
    assert ids == sorted(set(ids))
    assert all(d.properties["dealname"] for d in found)


def test_history_comes_with_a_listing_newest_first(client: Any) -> None:
    """Fifty deals a page, each with the past of the properties asked for."""
    found = client.crm.deals.get_all(properties_with_history=["dealstage"])

    stages = [d.properties_with_history["dealstage"] for d in found]
    assert all(s for s in stages)
    assert all([e.timestamp for e in s] == sorted((e.timestamp for e in s), reverse=True) for s in stages)
    assert [s[0].value for s in stages] == [d.properties["dealstage"] for d in found]


def test_a_page_with_history_is_limited_to_fifty(url: str) -> None:
    """More is refused, as HubSpot refuses it."""
    answer = _ask(url, "GET", "/crm/v3/objects/deals", limit=51, propertiesWithHistory="dealstage")

    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("query", ["properties=dealname&properties=amount", "properties=dealname,amount"])
@pytest.mark.parametrize(
    "path", ["/crm/v3/objects/deals", "/crm/objects/2026-03/0-3", "/crm/objects/2026-09/deals"]
)
def test_both_path_families_and_both_forms_of_lists(url: str, path: str, query: str) -> None:
    """Legacy and date-based paths, repeated and comma-separated parameters, names and type ids."""
    answer = _ask(url, "GET", f"{path}?{query}")

    assert {"dealname", "amount"} <= set(answer.json()["results"][0]["properties"])


def test_paging_links_are_whole_addresses(url: str) -> None:
    """A client that follows `link` gets the next page."""
    first = _ask(url, "GET", "/crm/v3/objects/deals", limit=100).json()

    second = requests.get(
        first["paging"]["next"]["link"], headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
    )

    assert len(second.json()["results"]) == 30
    assert "paging" not in second.json()


def test_a_search_counts_pages_and_sorts(client: Any) -> None:
    """The typed search finds what the filter says, in the order of the sort."""
    request = deal_models.PublicObjectSearchRequest(
        filter_groups=[{"filters": [{"propertyName": "hs_is_closed", "operator": "EQ", "value": "false"}]}],
        sorts=[{"propertyName": "amount", "direction": "DESCENDING"}], properties=["amount"], limit=5, after="0",
    )  # fmt: skip

    found = client.crm.deals.search_api.do_search(public_object_search_request=request)

    amounts = [float(d.properties["amount"]) for d in found.results]
    assert found.total > 5
    assert amounts == sorted(amounts, reverse=True)
    assert found.paging.next.after == "5"


def test_a_search_ends_at_ten_thousand(url: str) -> None:
    """Beyond the cap HubSpot answers 400, not an empty page."""
    answer = _ask(url, "POST", "/crm/v3/objects/deals/search", {"limit": 200, "after": "9900"})

    assert answer.status_code == 400


def test_a_new_record_is_not_searched_while_the_index_lags(url: str, portal: Portal) -> None:
    """The listing knows it at once, the search does not; a changed one is shown as it was."""
    portal.records.lag = 60_000
    deal = str(portal.records.page("deals", after=0, limit=1, archived=False)[0].id)
    _ask(url, "POST", "/crm/v3/objects/deals", {"properties": {"dealname": "Fresh"}})
    _ask(url, "PATCH", f"/crm/v3/objects/deals/{deal}", {"properties": {"dealname": "Renamed"}})

    def count(name: str) -> int:
        filters = [{"propertyName": "dealname", "operator": "EQ", "value": name}]
        body = {"filterGroups": [{"filters": filters}], "limit": 1}
        return int(_ask(url, "POST", "/crm/v3/objects/deals/search", body).json()["total"])

    assert (count("Fresh"), count("Renamed")) == (0, 0)
    assert _ask(url, "GET", f"/crm/v3/objects/deals/{deal}").json()["properties"]["dealname"] == "Renamed"


def test_batches_read_create_update_upsert_and_archive(client: Any, portal: Portal) -> None:
    """Each batch call of the client does its work and answers with what it expects."""
    api = client.crm.deals.batch_api
    made = api.create(
        deals_models.BatchInputSimplePublicObjectBatchInputForCreate(
            inputs=[{"properties": {"dealname": f"n{i}"}, "associations": []} for i in range(3)]
        )
    )
    ids = [r.id for r in made.results]
    api.update(
        deals_models.BatchInputSimplePublicObjectBatchInput(
            inputs=[{"id": ids[0], "properties": {"amount": "5"}}]
        )
    )
    api.archive(deals_models.BatchInputSimplePublicObjectId(inputs=[{"id": ids[2]}]))

    read = api.read(
        deals_models.BatchReadInputSimplePublicObjectId(
            inputs=[{"id": i} for i in ids], properties=["amount"], properties_with_history=["amount"]
        )
    )

    assert {r.id: r.properties["amount"] for r in read.results} == {ids[0]: "5", ids[1]: None}
    assert read.results[0].properties_with_history["amount"][0].value == "5"


@pytest.mark.parametrize("told", ["silent", "error"])
def test_missing_ids_of_a_batch_read(url: str, portal: Portal, told: str) -> None:
    """Whether HubSpot names them is not known, so it is a switch."""
    portal.turn("missing_ids", told)

    answer = _ask(
        url, "POST", "/crm/v3/objects/deals/batch/read", {"inputs": [{"id": "1"}], "properties": []}
    )

    assert answer.status_code == (207 if told == "error" else 200)


def test_trace_ids_make_a_failure_its_own(url: str) -> None:
    """With them 207 and the others done; without them 400 and nothing."""
    good, bad = {"dealname": "ok"}, {"no_such": "1"}

    def send(traced: bool) -> requests.Response:
        inputs = [{"properties": p, "associations": []} for p in (good, bad)]
        for n, one in enumerate(inputs):
            if traced:
                one["objectWriteTraceId"] = f"t{n}"
        return _ask(url, "POST", "/crm/v3/objects/deals/batch/create", {"inputs": inputs})

    def count() -> int:
        body = {
            "filterGroups": [{"filters": [{"propertyName": "dealname", "operator": "EQ", "value": "ok"}]}]
        }
        return int(_ask(url, "POST", "/crm/v3/objects/deals/search", body).json()["total"])

    whole, none, partly, one = send(False), count(), send(True), count()

    assert (whole.status_code, none, one) == (400, 0, 1)
    assert (partly.status_code, partly.json()["numErrors"]) == (207, 1)
    assert partly.json()["errors"][0]["context"] == {"objectWriteTraceId": ["t1"]}


def test_tasks_hang_on_deals(client: Any, portal: Portal) -> None:
    """Association 216 puts a task on a deal; the deal's next activity follows, and both sides tell of the link."""
    deal = str(portal.records.page("deals", after=0, limit=1, archived=False)[0].id)
    task = client.crm.objects.tasks.basic_api.create(
        task_models.SimplePublicObjectInputForCreate(
            properties={
                "hs_timestamp": "1795996800000",
                "hs_task_subject": "Call",
                "hs_task_status": "NOT_STARTED",
            },
            associations=[
                {
                    "to": {"id": deal},
                    "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 216}],
                }
            ],
        )
    )

    there = client.crm.associations.v4.batch_api.get_page(
        "deals",
        "tasks",
        association_models.BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": deal}]),
    )

    assert [str(t.to_object_id) for t in there.results[0].to] == [task.id]
    read = client.crm.deals.basic_api.get_by_id(deal, properties=["notes_next_activity_date"])
    assert read.properties["notes_next_activity_date"] == "2026-11-30T00:00:00.000Z"


def test_pipelines_owners_and_properties(client: Any, portal: Portal) -> None:
    """What describes a portal fits the client's types."""
    pipelines = client.crm.pipelines.pipelines_api.get_all("deals").results
    owners = client.crm.owners.owners_api.get_page(limit=100).results
    properties = client.crm.properties.core_api.get_all("deals").results

    assert {p.label for p in pipelines} == {"New business", "Renewals"}
    assert {s.metadata["isClosed"] for p in pipelines for s in p.stages} == {"true", "false"}
    assert all(o.email for o in owners)
    assert {"amount", "pipesync_win_probability"} <= {p.name for p in properties}


def test_groups_and_properties_are_created(client: Any) -> None:
    """A new property needs its group, and is there afterwards."""
    client.crm.properties.groups_api.create(
        "deals", PropertyGroupCreate(name="own", label="Own", display_order=1)
    )

    client.crm.properties.core_api.create(
        "deals", PropertyCreate(name="own_a", label="A", group_name="own", type="string", field_type="text")
    )

    assert client.crm.properties.core_api.get_by_name("deals", "own_a").group_name == "own"


def test_archived_records_are_listed_apart(client: Any, portal: Portal) -> None:
    """An archived deal leaves listing and search, and its modification time as it was."""
    deal = portal.records.page("deals", after=0, limit=1, archived=False)[0]
    client.crm.deals.basic_api.archive(str(deal.id))

    gone = client.crm.deals.basic_api.get_page(archived=True).results

    assert [g.id for g in gone] == [str(deal.id)]
    assert gone[0].archived_at is not None
    assert round(gone[0].updated_at.timestamp() * 1000) == deal.updated


def test_merged_records_answer_under_both_ids(url: str, portal: Portal) -> None:
    """The primary stays and remembers; the other's id leads to it."""
    first, second = (str(d.id) for d in portal.records.page("deals", after=0, limit=2, archived=False))
    _ask(url, "POST", "/crm/v3/objects/deals/merge", {"primaryObjectId": first, "objectIdToMerge": second})

    found = _ask(url, "GET", f"/crm/v3/objects/deals/{second}", properties="hs_merged_object_ids").json()

    assert (found["id"], found["properties"]["hs_merged_object_ids"]) == (first, second)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/crm/v3/objects/deals/1", None, 404),
        ("GET", "/crm/v3/objects/nonsense", None, 400),
        ("GET", "/crm/objects/later/deals", None, 404),
        ("POST", "/crm/v3/objects/tasks", {"properties": {"hs_task_subject": "no due time"}}, 400),
        ("POST", "/crm/v3/objects/deals", {"properties": {"hs_lastmodifieddate": "1"}}, 400),
        ("POST", "/crm/v3/objects/deals", {"properties": {"amount": "much"}}, 400),
        ("POST", "/crm/v3/objects/deals/batch/read", {"inputs": [{"id": str(i)} for i in range(101)]}, 400),
        ("POST", "/crm/v3/objects/deals/search", {"limit": 201}, 400),
        ("GET", "/crm/v3/objects/deals?properties=" + "x" * 16_000, None, 414),
    ],
)
def test_refusals_have_hubspots_form(
    url: str, method: str, path: str, body: Json | None, status: int
) -> None:
    """An error tells its status and message, and what is not known is absent, not null."""
    answer = _ask(url, method, path, body)

    assert answer.status_code == status
    assert answer.json()["status"] == "error"
    assert None not in answer.json().values()


def test_scopes_are_asked_for(url: str, portal: Portal) -> None:
    """401 without a token that is known, 403 naming the scope that this one lacks."""
    portal.records.set("tokens", {"poor": ["crm.objects.owners.read"]})
    portal.records.db.commit()

    unknown, poor = (_ask(url, "GET", "/crm/v3/objects/deals", token=t) for t in ("other", "poor"))

    assert (unknown.status_code, poor.status_code) == (401, 403)
    assert poor.json()["errors"][0]["context"]["requiredGranularScopes"] == ["crm.objects.deals.read"]


def test_limits_follow_the_tier(url: str, portal: Portal) -> None:
    """Headers tell the burst; the sixth search within a second is refused, and searches carry no headers."""
    portal.turn("tier", "professional")
    headers = _ask(url, "GET", "/crm/v3/owners").headers
    answers = [_ask(url, "POST", "/crm/v3/objects/deals/search", {"limit": 1}) for _ in range(7)]

    assert headers["X-HubSpot-RateLimit-Max"] == "190"
    assert "X-HubSpot-RateLimit-Max" not in answers[0].headers
    assert [a.status_code for a in answers].count(429) >= 1
    assert answers[-1].json()["policyName"] == "SECONDLY"


def test_optional_fields_are_absent(url: str) -> None:
    """No null stands where HubSpot's specification allows none; a blank property is null."""
    one = _ask(url, "GET", "/crm/v3/objects/deals", limit=1, properties="closed_lost_reason").json()[
        "results"
    ][0]

    assert {"archivedAt", "associations", "objectWriteTraceId", "propertiesWithHistory"}.isdisjoint(one)


def test_the_dataset_is_told_in_hubspots_words(
    portal: Portal, filled: tuple[sqlite3.Connection, Filled]
) -> None:
    """A deal carries the dataset's id, and the mapping says only what differs from the shipped one."""
    deals, told = portal.records.page("deals", after=0, limit=200, archived=False), filled[1]

    assert {d.properties["dataset_id"]: str(d.id) for d in deals} == told.ids["deals"]
    assert told.mapping.startswith("version: 1\nextends: pipesync:hubspot")


def test_an_address_of_no_service_is_not_found(url: str) -> None:
    """What is not played answers 404."""
    assert _ask(url, "GET", "/marketing/v3/emails").status_code == 404


def test_a_folder_without_history_fills_too(tmp_path: Path) -> None:
    """The least dataset makes a portal: numbers stay ids, and what is not there is not mapped."""
    (tmp_path / "opportunities.csv").write_text(
        "opportunity_id,amount,created_at,closed_at,outcome,stage\n7,10,2026-01-01T00:00:00Z,,Open,New\n",
        encoding="utf-8",
    )
    portal = Portal(sqlite3.connect(":memory:"), lambda: 1_800_000_000_000)

    told = fill(portal, tmp_path)

    assert portal.records.get("deals", [7])[7].properties["amount"] == "10"
    assert "contact_roles: null" in told.mapping


def _typed_calls(api: Any) -> list[tuple[str, str]]:
    """Return (method, path) of every call that one of the client's APIs makes, read in its own source."""
    found = []
    for name, method in inspect.getmembers(api, inspect.ismethod):
        if name.endswith("_with_http_info"):
            source = inspect.getsource(method)
            told = re.search(r'call_api\(\s*"([^"]+)",\s*"([A-Z]+)"', source)
            assert told, name
            found.append((told[2], told[1]))
    return found


UNPLAYED = {
    ("PATCH", "/crm-object-schemas/v3/schemas/{objectType}"),
    ("POST", "/crm-object-schemas/v3/schemas/{objectType}/associations"),
    ("DELETE", "/crm-object-schemas/v3/schemas/{objectType}/associations/{associationIdentifier}"),
}
"""Changes of a custom object's schema, which nothing here makes."""


def test_every_typed_call_has_an_endpoint(client: Any, portal: Portal) -> None:
    """Of deals, pipelines, properties, owners, associations and schemas: whatever the client can ask is answered."""
    crm = client.crm
    apis = (
        crm.deals.basic_api, crm.deals.batch_api, crm.deals.search_api, crm.pipelines.pipelines_api,
        crm.pipelines.pipeline_stages_api, crm.pipelines.pipeline_audits_api, crm.pipelines.pipeline_stage_audits_api,
        crm.properties.core_api, crm.properties.batch_api, crm.properties.groups_api, crm.owners.owners_api,
        crm.associations.v4.basic_api, crm.associations.v4.batch_api, crm.schemas.core_api,
    )  # fmt: skip
    served = routes(portal)
    calls = {call for api in apis for call in _typed_calls(api)}

    missing = {
        (method, path)
        for method, path in calls
        if not any(
            route.matches({
                "type": "http", "method": method, "path": re.sub(r"\{.*?\}", "1", path), "headers": [],
                "root_path": "", "query_string": b"",
            })[0] == Match.FULL
            for route in served
        )
    }  # fmt: skip

    assert len(calls) > 45
    assert missing - {c for c in calls if "high-usage-report" in c[1]} == UNPLAYED


def test_pipelines_and_stages_live_and_are_audited(client: Any) -> None:
    """Typed calls create, change and delete them; the audit tells of each, the latest first."""
    told = pipeline_models.PipelineStageInput(label="First", display_order=0, metadata={"probability": "0.1"})
    api, stages = client.crm.pipelines.pipelines_api, client.crm.pipelines.pipeline_stages_api
    made = api.create(
        "deals", pipeline_models.PipelineInput(label="Partners", display_order=9, stages=[told])
    )
    more = stages.create(
        "deals",
        made.id,
        pipeline_models.PipelineStageInput(label="Second", display_order=1, metadata={"probability": "0.5"}),
    )
    renamed = stages.update(
        "deals", made.id, more.id, pipeline_models.PipelineStagePatchInput(label="Later", metadata={})
    )
    stages.archive("deals", made.id, made.stages[0].id)

    left = api.get_by_id("deals", made.id)
    audit = client.crm.pipelines.pipeline_audits_api.get_audit("deals", made.id).results

    assert [s.label for s in left.stages] == [renamed.label] == ["Later"]
    assert [a.action for a in audit] == ["DELETE", "UPDATE", "CREATE", "CREATE"]
    assert stages.get_by_id("deals", made.id, more.id).label == "Later"
    api.archive("deals", made.id)
    assert made.id not in {p.id for p in api.get_all("deals").results}


def test_properties_groups_and_links_are_changed(client: Any, portal: Portal) -> None:
    """The rest of the client's typed calls: a property is relabelled and archived, a group too, a link made and cut."""
    core, groups = client.crm.properties.core_api, client.crm.properties.groups_api
    groups.create("deals", property_models.PropertyGroupCreate(name="ours", label="Ours", display_order=1))
    given = property_models.PropertyCreate(
        name="ours_a", label="A", type="string", field_type="text", group_name="ours"
    )
    core.create("deals", given)
    assert core.update("deals", "ours_a", property_models.PropertyUpdate(label="B")).label == "B"
    assert groups.get_by_name("deals", "ours").label == "Ours"
    names = property_models.BatchReadInputPropertyName(
        archived=False, inputs=[property_models.PropertyName(name="ours_a")]
    )
    assert [p.label for p in client.crm.properties.batch_api.read("deals", names).results] == ["B"]
    core.archive("deals", "ours_a")
    groups.archive("deals", "ours")
    assert "ours_a" not in portal.types("deals")

    deal, contact = (
        portal.records.page(k, after=0, limit=1, archived=False)[0].id for k in ("deals", "contacts")
    )
    spec = [association_models.AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=3)]
    api = client.crm.associations.v4.basic_api
    api.create("deals", str(deal), "contacts", str(contact), spec)
    assert contact in {to for to, _, _ in portal.records.links("deals", [deal], "contacts")[deal]}
    api.archive("deals", str(deal), "contacts", str(contact))
    assert contact not in {to for to, _, _ in portal.records.links("deals", [deal], "contacts").get(deal, ())}
