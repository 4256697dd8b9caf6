"""Products and sources: shares with intervals, of what is old enough to be judged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pipesync.analysis.products import Pair, products
from pipesync.analysis.sources import leads_needed, share, sources
from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values


def opportunity(name: str, closed: float | None, is_won: bool = False, **values: Any) -> Row:
    at = None if closed is None else NOW - timedelta(days=closed)
    given = {
        "id": name, "pipeline": "p", "stage": "A", "amount": Decimal(100), "created_at": NOW - timedelta(days=400),
        "closed_at": at, "is_closed": at is not None, "is_won": is_won,
    }  # fmt: skip
    return {**given, **values}


def item(opportunity_id: str, product: str, total: int, discount: float = 0.0) -> Row:
    return {
        "id": opportunity_id + product, "opportunity_id": opportunity_id, "product_id": product,
        "quantity": 2.0, "unit_price": Decimal(total) / 2, "total": Decimal(total), "discount_pct": discount,
    }  # fmt: skip


CATALOGUE = [
    {"id": "1", "name": "Drill", "family": "Tools"},
    {"id": "2", "name": "Bits", "family": "Tools"},
    {"id": "3", "name": "Course", "family": "Services"},
]


def test_a_product_is_told_from_its_line_items(build: Make) -> None:
    """Counts, price per unit, discount, velocity, the forecast handed in."""
    rows = [opportunity("a", 10, True), opportunity("b", 20), opportunity("c", None)]
    items = [item("a", "1", 60, 10.0), item("a", "3", 40), item("b", "1", 100), item("c", "1", 100)]
    warehouse = build(opportunities=rows, products=CATALOGUE, line_items=items)

    found = products(warehouse, compute(warehouse, "crm", NOW, Calendar()), forecast={"Drill": 55.0})

    drill = next(p for p in found.rows if p.product == "Drill")
    assert (drill.open, drill.open_amount, drill.decided, drill.won, drill.won_amount) == (1, 100, 2, 1, 60)
    assert (drill.price, drill.discount_pct, drill.forecast) == (30, 10, 55)
    assert drill.per_day == pytest.approx(1 * 0.5 * 60 / 390)
    assert [p.product for p in found.rows] == ["Drill", "Course"]


def test_families_gather_their_products(build: Make) -> None:
    """An opportunity with two products of one family counts once."""
    warehouse = build(
        opportunities=[opportunity("a", 10, True)],
        products=CATALOGUE,
        line_items=[item("a", "1", 60), item("a", "2", 40)],
    )

    [found] = products(warehouse, compute(warehouse, "crm", NOW, Calendar()), by="family").rows

    assert (found.product, found.won, found.won_amount) == ("Tools", 1, 100)


def test_a_product_without_line_items_belongs_to_its_family_too(build: Make) -> None:
    """What the opportunity itself names, and the forecast by product, are told under the family."""
    warehouse = build(
        opportunities=[opportunity("a", 10, True, product="Drill"), opportunity("b", None, product="2")],
        products=CATALOGUE,
    )
    features = compute(warehouse, "crm", NOW, Calendar())

    found = products(warehouse, features, by="family", forecast={"Drill": 5.0, "2": 6.0, "Course": 7.0})

    assert [(p.product, p.open, p.won, p.forecast) for p in found.rows] == [("Tools", 1, 1, 11.0)]


def test_what_is_bought_together_is_told_with_its_lift(build: Make) -> None:
    """Six of twelve baskets hold both; alone each is in half of them."""
    rows = [opportunity(str(i), 10, True) for i in range(12)]
    items = [item(str(i), p, 50) for i in range(12) for p in (("1", "2") if i < 6 else ("3",))]
    warehouse = build(opportunities=rows, products=CATALOGUE, line_items=items)

    found = products(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert found.pairs == (Pair("Bits", "Drill", 6, 2.0),)


def test_a_trend_is_told_and_only_a_large_one_is_real(build: Make) -> None:
    """A win rate that fell from all to none in half a year, beside one that stayed."""
    rows = [
        opportunity(f"{p}{i}{days}", days, is_won, product=p)
        for i in range(30)
        for p, days, is_won in (("down", 30, False), ("down", 300, True), ("same", 30, i < 15), ("same", 300, i < 15))
    ]  # fmt: skip
    warehouse = build(opportunities=rows)

    found = products(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert {p.product: (p.trend, p.trend_is_real) for p in found.rows} == {
        "down": (-1, True),
        "same": (0, False),
    }
    assert found.missing == ("line items: no prices, discounts or pairs",)


def test_without_products_there_is_nothing_to_tell(build: Make) -> None:
    """And it says what is missing."""
    warehouse = build(opportunities=[opportunity("a", 10)], unmapped=("opportunities.product",))

    found = products(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert found.rows == ()
    assert "neither line items" in found.missing[0]


def leads(n: int, source: str, converted: int, won: int, age: float = 300) -> tuple[list[Row], list[Row]]:
    """Leads of an age; the first of them converted after 10 days, the first of those were won 40 days later."""
    made, opportunities = [], []
    for i in range(n):
        created = NOW - timedelta(days=age + i * 0.01)
        name = f"{source}{age}{i}"
        is_converted = i < converted
        made.append(
            {"id": name, "source": source, "created_at": created, "first_touch_at": created + timedelta(hours=3),
             "converted_at": created + timedelta(days=10) if is_converted else None,
             "opportunity_id": name if is_converted else None}
        )  # fmt: skip
        if is_converted:
            opportunities.append(
                opportunity(name, age - 50, i < won, created_at=created + timedelta(days=10), source=source)
            )
    return made, opportunities


def test_sources_are_judged_on_leads_that_are_old_enough(build: Make) -> None:
    """Leads of five days ago have not failed: nine tenths of the others took ten days."""
    old, won = leads(100, "web", 40, 10)
    young, _ = leads(50, "web", 0, 0, age=5)
    warehouse = build(opportunities=won, leads=[*old, *young])

    found = sources(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    [web] = found.rows
    assert (web.leads, web.young) == (150, 50)
    assert web.converted == share(40, 100)
    assert web.won == share(10, 100)
    assert (web.touch_hours, web.touched, web.convert_days) == (3, 150, 10)
    assert (found.convert_lag, found.win_lag) == pytest.approx((10, 50), abs=0.1)
    assert [(o.source, o.won.k) for o in found.opportunities] == [("web", 10)]


def test_leads_that_a_gap_needs_follow_from_their_source(build: Make) -> None:
    """One win in ten at 100 each: a gap of 500 takes 50 leads, more at worst, and so many weeks at this pace."""
    old, won = leads(100, "web", 40, 10)
    late, _ = leads(26, "web", 0, 0, age=20)
    found = sources(
        (warehouse := build(opportunities=won, leads=[*old, *late])),
        compute(warehouse, "crm", NOW, Calendar()),
    )

    [need] = leads_needed(found, 500)

    assert (need.wins, need.leads, need.weeks) == (5, 50, 25)
    assert need.worst is not None
    assert need.worst > 50
    assert found.rows[0].leads_for(1) == (10, 6, 19)
    assert [(n.wins, n.leads) for n in leads_needed(found, wins=3)] == [(3, 30)]
    assert leads_needed(found) == ()


def test_cohorts_are_months(build: Make) -> None:
    """Each lead in the month that it was created in."""
    old, won = leads(10, "web", 4, 1)
    late, _ = leads(3, "web", 0, 0, age=20)
    warehouse = build(opportunities=won, leads=[*old, *late])

    found = sources(warehouse, compute(warehouse, "crm", NOW, Calendar()), by="month")

    assert {(s.key, s.leads) for s in found.rows} == {("2026-01", 10), ("2026-11", 3)}


def test_without_leads_opportunities_still_tell_their_sources(build: Make) -> None:
    """And what is missing is said; with nothing at all everything is."""
    warehouse = build(opportunities=[opportunity("a", 10, True, source="web")])
    found = sources(warehouse, compute(warehouse, "crm", NOW, Calendar()))
    assert (found.rows, found.missing) == ((), ("leads",))
    assert found.opportunities[0].won == share(1, 1)

    empty = build(opportunities=[], leads=[], unmapped=("opportunities.source",))
    nothing = sources(empty, compute(empty, "crm", NOW, Calendar()))
    assert nothing.missing == ("the source of opportunities", "leads")
    assert leads_needed(nothing, 100) == ()


def test_leads_that_led_nowhere_need_no_made_up_number(build: Make) -> None:
    """No conversion, no win: no leads needed can be told."""
    made, _ = leads(30, "web", 0, 0)
    warehouse = build(opportunities=[], leads=made)

    found = sources(warehouse, compute(warehouse, "crm", NOW, Calendar()))

    assert found.rows[0].converted == share(0, 30)
    assert found.rows[0].leads_for(5) is None
    assert found.missing == ("no lead has converted yet", "no lead has led to a win yet")
