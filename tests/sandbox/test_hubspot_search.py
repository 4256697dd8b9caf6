"""Search filters as SQL, run over a few records."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson
import pytest

from pipesync.sandbox.hubspot.search import BadFilter, order, where

TYPES = {
    "hs_object_id": "number", "hs_lastmodifieddate": "datetime", "amount": "number", "dealname": "string",
    "closedate": "datetime", "due": "date", "stage": "enumeration",
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "amount": "100",
        "dealname": "Alpha One",
        "closedate": "2026-11-01T00:00:00.000Z",
        "due": "2026-11-01",
        "stage": "A",
    },
    {
        "amount": "9.5",
        "dealname": "Beta",
        "closedate": "2026-12-01T00:00:00.000Z",
        "due": "2026-12-01",
        "stage": "b",
    },
    {"dealname": "alpha two"},
]


@pytest.fixture
def db() -> sqlite3.Connection:
    """Three records, modified a second apart."""
    made = sqlite3.connect(":memory:")
    made.execute("CREATE TABLE t (id INTEGER, properties TEXT, created INTEGER, updated INTEGER)")
    for i, row in enumerate(ROWS, 1):
        made.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (i, orjson.dumps(row).decode(), i, i * 1000))
    return made


def _found(db: sqlite3.Connection, *filters: dict[str, Any]) -> list[int]:
    clause = where([{"filters": list(filters)}], TYPES)
    return [r[0] for r in db.execute(f"SELECT id FROM t WHERE {clause.sql} ORDER BY id", clause.values)]


def _f(name: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "propertyName": name,
        "operator": operator,
        **({"value": value} if value is not None else {}),
        **more,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (_f("amount", "GT", "10"), [1]),
        (_f("amount", "LTE", "100"), [1, 2]),
        (_f("amount", "BETWEEN", "9", highValue="50"), [2]),
        (_f("amount", "HAS_PROPERTY"), [1, 2]),
        (_f("amount", "NOT_HAS_PROPERTY"), [3]),
        (_f("dealname", "EQ", "ALPHA ONE"), [1]),
        (_f("dealname", "NEQ", "Beta"), [1, 3]),
        (_f("dealname", "CONTAINS_TOKEN", "alpha*"), [1, 3]),
        (_f("dealname", "NOT_CONTAINS_TOKEN", "alpha*"), [2]),
        (_f("stage", "IN", values=["a", "B"]), [1, 2]),
        (_f("stage", "NOT_IN", values=["a"]), [2]),
        (_f("closedate", "GTE", "1795996800000"), [2]),
        (_f("closedate", "LT", "2026-12-01T00:00:00.000Z"), [1]),
        (_f("due", "EQ", "2026-12-01"), [2]),
        (_f("hs_lastmodifieddate", "GTE", "2000"), [2, 3]),
        (_f("hs_lastmodifieddate", "LT", "1970-01-01T00:00:02Z"), [1]),
        (_f("hs_object_id", "GT", "1"), [2, 3]),
    ],
)
def test_each_operator_compares_as_its_property_is_typed(
    db: sqlite3.Connection, given: dict[str, Any], expected: list[int]
) -> None:
    """Numbers as numbers, moments also as milliseconds, words without case."""
    assert _found(db, given) == expected


def test_groups_are_alternatives_and_filters_conditions(db: sqlite3.Connection) -> None:
    """Any group, all of its filters; no group at all takes everything."""
    groups = [
        {"filters": [_f("amount", "GT", "50"), _f("dealname", "CONTAINS_TOKEN", "alpha*")]},
        {"filters": [_f("dealname", "EQ", "beta")]},
    ]
    clause = where(groups, TYPES)

    assert db.execute(f"SELECT count(*) FROM t WHERE {clause.sql}", clause.values).fetchone() == (2,)
    assert where([], TYPES) == ("1", [])


@pytest.mark.parametrize(
    "groups",
    [
        [{"filters": [_f("nope", "EQ", "1")]}],
        [{"filters": [_f("amount", "LIKE", "1")]}],
        [{"filters": [_f("amount", "EQ")]}],
        [{"filters": [_f("amount", "GT", "much")]}],
        [{"filters": [_f("stage", "IN")]}],
        [{"filters": [_f("amount", "EQ", "1")] * 7}],
        [{"filters": []}] * 6,
    ],
)
def test_what_hubspot_refuses_is_refused(groups: list[dict[str, Any]]) -> None:
    """Unknown properties and operators, missing or odd values, too many filters."""
    with pytest.raises(BadFilter):
        where(groups, TYPES)


@pytest.mark.parametrize(
    ("sorts", "expected"),
    [
        ([], "created DESC, id"),
        (["-amount"], "CAST(json_extract(properties, '$.\"amount\"') AS REAL) DESC, id"),
        ([{"propertyName": "hs_object_id", "direction": "ASCENDING"}], "id ASC, id"),
        ([{"propertyName": "hs_lastmodifieddate", "direction": "DESCENDING"}], "updated DESC, id"),
    ],
)
def test_sorts_come_in_both_forms(sorts: list[Any], expected: str) -> None:
    """Objects as documented, words as the published specification has them."""
    assert order(sorts, TYPES) == expected


def test_only_one_sort_is_allowed() -> None:
    """A second sort is refused, as is an unknown property."""
    with pytest.raises(BadFilter):
        order(["amount", "dealname"], TYPES)
    with pytest.raises(BadFilter):
        order(["nope"], TYPES)
