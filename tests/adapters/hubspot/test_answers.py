"""Answers read into columns hold what HubSpot said, or say that they broke off or are of another form."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest

from pipesync._paths import shipped
from pipesync.adapters.hubspot.answers import Answer, answer, field, inline_links, past, records_of, together
from pipesync.adapters.hubspot.deals import Deals
from pipesync.adapters.hubspot.reading import Link, Wanted
from pipesync.adapters.hubspot.values import column, day
from pipesync.arrays import TEXT, array
from pipesync.mapping import load

WANTED = Wanted("deals", ("amount", "dealname"), ("amount",), ("contacts",))
ENTRY = {"value": "1", "timestamp": "2026-01-02T03:04:05.006Z", "sourceType": "CRM_UI", "updatedByUserId": 7}
DEAL: dict[str, Any] = {
    "id": "1",
    "properties": {"amount": "1.50", "dealname": "Zoë", "hs_object_id": "1"},
    "propertiesWithHistory": {"amount": [ENTRY, {"value": "", "timestamp": "2026-01-01T00:00:00Z"}]},
    "associations": {"contacts": {"results": [{"id": "5", "type": "deal_to_contact"}, {"id": "5", "type": "Buyer"}]}},
}  # fmt: skip
PAGE = {"results": [DEAL, {"id": "2", "properties": {"amount": None}}], "paging": {"next": {"after": "2"}}}


def page(told: object) -> Answer:
    return answer(orjson.dumps(told), WANTED)


def facts(found: pa.Table) -> list[Any]:
    ends, entries = past(found, "amount")
    return [
        found["id"].to_pylist(), field(found, "properties", "amount").to_pylist(), ends.tolist(),
        entries.field("updatedByUserId").to_pylist(), inline_links(found, "contacts"),
    ]  # fmt: skip


EXPECTED = [["1", "2"], ["1.50", None], [0, 2, 2], [7, None], {"1": [Link("5", "Buyer", False)], "2": []}]


def test_a_page_is_read_as_it_is() -> None:
    """Values, histories, associations, and where the next page starts."""
    found = page(PAGE)

    assert found.after == "2"
    assert facts(together([found.records])) == EXPECTED
    assert facts(records_of([DEAL, {"id": "2", "properties": {}}], WANTED)) == EXPECTED


def test_pages_together_are_one_after_another() -> None:
    """Also an empty one, which HubSpot sends where nothing is left."""
    several: list[dict[str, Any]] = [PAGE, {"results": []}, {"results": [DEAL]}]

    found = together([page(told).records for told in several])

    assert found["id"].to_pylist() == ["1", "2", "1"]
    assert past(found, "amount")[0].tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize(
    "content",
    [
        orjson.dumps(PAGE, option=orjson.OPT_INDENT_2),
        orjson.dumps(PAGE).replace(b'"1.50"', b"1.50").replace(b'"id":"1"', b'"id":1'),
        orjson.dumps(PAGE["results"]),
    ],
    ids=["lines", "numbers", "list"],
)
def test_json_of_another_form_is_read_too(content: bytes) -> None:
    """On several lines, numbers for texts, a bare list: the same records, by a slower way."""
    found = facts(together([answer(content, WANTED).records]))

    assert [found[0], [float(v) if v else None for v in found[1]], *found[2:]] == [
        EXPECTED[0],
        [1.5, None],
        *EXPECTED[2:],
    ]


@pytest.mark.parametrize(
    "cut", [b"", b'{"results":[{"id', orjson.dumps(PAGE)[:-1], b'{"results":[{"id":"\xff"}]}']
)
def test_what_broke_off_is_told_from_what_is_odd(cut: bytes) -> None:
    """It is asked for again, while an odd form would come again."""
    with pytest.raises(orjson.JSONDecodeError):
        answer(cut, WANTED)


@pytest.mark.parametrize("told", [{}, {"results": None}, {"paging": {"next": {"after": "2"}}}])
def test_an_answer_without_results_is_no_last_page(told: dict[str, Any]) -> None:
    """A listing that ended there would take all that it has not seen for gone."""
    with pytest.raises(ValueError, match="without results"):
        page(told)


@pytest.mark.parametrize(
    "record",
    [
        {"properties": {}},
        {"id": "1"},
        {"id": "1", "properties": []},
        {"id": {"of": "1"}, "properties": {}},
        {"id": "1", "properties": {"amount": {"value": "1"}}},
        {"id": "1", "properties": {}, "propertiesWithHistory": {"amount": [{"value": "1"}]}},
    ],
)
def test_an_odd_form_is_an_error(record: dict[str, Any]) -> None:
    """Of a kind that the pull turns into one of the CRM's, before anything of the page is stored."""
    with pytest.raises((ValueError, TypeError, AttributeError)):
        past(together([page({"results": [record]}).records]), "amount")


def test_two_changes_in_one_millisecond_are_two() -> None:
    """Their ids depend on nothing but the deal's own history: read again in other company they are the same."""
    twice = {**DEAL, "propertiesWithHistory": {"amount": [ENTRY, {**ENTRY, "value": "2"}]}}
    mapping = load(shipped("adapters") / "hubspot" / "mapping.yaml", base="pipesync:hubspot")
    deals = Deals(mapping, "UTC", {}, lambda stage: None, dict, "EUR")

    def ids(*records: dict[str, Any]) -> list[str]:
        found = deals.field_changes(records_of(list(records), WANTED))
        rows: list[dict[str, Any]] = found.to_pylist()
        mine = [r for r in rows if r["opportunity_id"] == "1" and r["field"] == "amount"]
        return [r["id"] for r in sorted(mine, key=lambda r: r["seq"])]

    assert ids(twice) == ids(twice, {**twice, "id": "2"}, {**DEAL, "id": "3"})
    assert ids(twice) == [f"1:amount:{ENTRY['timestamp']}", f"1:amount:{ENTRY['timestamp']}:1"]
    assert ids({**twice, "id": "0"}, DEAL) == ids(DEAL)


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
)
def test_dates_are_those_of_the_portals_clocks(zone: str) -> None:
    """Every half hour of more than a year, the days on which clocks change among them, and nothing."""
    start = datetime(2025, 12, 30, tzinfo=UTC)
    moments = [start + timedelta(minutes=30 * n) for n in range(48 * 400)]
    told = [m.strftime("%Y-%m-%dT%H:%M:%S.000Z") for m in moments]

    found, unread = column(array([None, *told, ""], TEXT), pa.date32(), zone)

    assert unread == []
    assert found.to_pylist() == [None, *(day(t, zone) for t in told), None]


def test_one_value_without_room_is_one_value_that_cannot_be_read() -> None:
    """Twenty digits blank themselves and no other: as a sum, a number, a moment and a date."""
    for kind, good in ((pa.decimal128(18, 2), "2"), (pa.int64(), "2"), (pa.timestamp("us"), "2026-01-01T00:00:00Z"),
                       (pa.date32(), "2026-01-01")):  # fmt: skip
        found, unread = column(array([good, "9" * 20, good], TEXT), kind, "UTC")

        assert [v is None for v in found.to_pylist()] == [False, True, False]
        assert unread == [1]


@pytest.mark.parametrize("told", ["soon", "9" * 20, "9" * 400])
def test_a_next_activity_that_is_no_moment_is_told_as_such(told: str) -> None:
    """It blanks itself, and the deal stays."""
    record = {"id": "1", "properties": {"notes_next_activity_date": told, "amount": "2"}}
    mapping = load(shipped("adapters") / "hubspot" / "mapping.yaml", base="pipesync:hubspot")
    deals = Deals(mapping, "UTC", {}, lambda stage: None, dict, "EUR")
    wanted = Wanted("deals", ("amount", "notes_next_activity_date"))

    rows, rejects = deals.opportunities(records_of([record], wanted))

    assert [(r["id"], str(r["amount"]), r["next_activity_at"]) for r in rows.to_pylist()] == [
        ("1", "2.00", None)
    ]
    assert [(r.where, r.reason) for r in rejects] == [
        ("deal 1", "notes_next_activity_date: cannot be read as next_activity_at")
    ]


def test_reading_deals_loads_no_pandas() -> None:
    """A fifth of a pull's CPU would be its import, which pyarrow makes where it is handed a bare Python value."""
    program = f"""
import sys
from tests.adapters.hubspot.test_answers import *
mapping = load(shipped("adapters") / "hubspot" / "mapping.yaml", base="pipesync:hubspot")
deals = Deals(mapping, "UTC", {{}}, lambda stage: None, dict, "EUR")
records = records_of([{DEAL!r}], WANTED)
deals.opportunities(records)
print(len(deals.field_changes(records)), "pandas" in sys.modules)
"""

    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert told.stdout.split() == ["2", "False"]
