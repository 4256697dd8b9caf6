"""What sells: per product, how often, how fast, for how much, with what beside it, and whether that changes.

Products come from line items where there are any, else from the opportunity's own product. Reads the session's
`features` and the mirrored line items, as they stand now: past line items are not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipesync.analysis.significance import FALSE_DISCOVERY, MIN_CASES, kept, two_shares, wilson
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

By = Literal["product", "family"]
_RECENT = 182
"""Days that count as now in the trend; before: as many days again, twice."""

# One row per opportunity and product: what it brings there, at what price and discount.
_SOLD = """
CREATE OR REPLACE TEMP TABLE sold AS
WITH itemised AS (
    SELECT i.opportunity_id, i.quantity, i.total, i.discount_pct, i.unit_price,
           coalesce(CASE WHEN ? = 'family' THEN p.family ELSE p.name END, i.product_id) AS product
    FROM line_items AS i
    LEFT JOIN products AS p ON p.connection = i.connection AND p.id = i.product_id
    WHERE i.connection = getvariable('connection') AND i.product_id IS NOT NULL AND getvariable('is_current')
),
-- Line items are in the opportunity's currency; its amount at home says what one unit of it is worth.
valued AS (
    SELECT f.id, i.product, sum(i.total * f.amount / nullif(f.amount_original, 0))::DOUBLE AS amount,
           sum(i.unit_price * i.quantity * f.amount / nullif(f.amount_original, 0))::DOUBLE AS priced,
           sum(i.quantity) FILTER (i.unit_price IS NOT NULL) AS quantity, avg(i.discount_pct) AS discount
    FROM itemised AS i JOIN features AS f ON f.id = i.opportunity_id GROUP BY ALL
)
SELECT * FROM valued
UNION ALL
SELECT f.id, coalesce(p.family, f.product), f.amount::DOUBLE, NULL, NULL, NULL
FROM features AS f LEFT JOIN families AS p ON p.product = f.product
WHERE f.product IS NOT NULL AND f.id NOT IN (SELECT id FROM valued)
"""
# An opportunity names its product by name or by id.
_FAMILIES = """
CREATE OR REPLACE TEMP TABLE families AS
SELECT product, any_value(family) AS family
FROM (SELECT unnest([name, id]) AS product, family FROM products
      WHERE connection = getvariable('connection') AND family IS NOT NULL AND ? = 'family')
WHERE product IS NOT NULL GROUP BY product
"""
_PRODUCTS = """
SELECT s.product,
       count(*) FILTER (is_open), coalesce(sum(s.amount) FILTER (is_open), 0),
       count(*) FILTER (is_closed AND days_since_closed <= 365), count(*) FILTER (is_won AND days_since_closed <= 365),
       coalesce(sum(s.amount) FILTER (is_won AND days_since_closed <= 365), 0),
       avg(s.amount) FILTER (is_won AND days_since_closed <= 365),
       median(cycle_days) FILTER (is_won AND days_since_closed <= 365),
       sum(priced) FILTER (is_won) / nullif(sum(quantity) FILTER (is_won), 0), avg(discount) FILTER (is_won),
       count(*) FILTER (is_closed AND days_since_closed <= {recent}),
       count(*) FILTER (is_won AND days_since_closed <= {recent}),
       count(*) FILTER (is_closed AND days_since_closed > {recent} AND days_since_closed <= 3 * {recent}),
       count(*) FILTER (is_won AND days_since_closed > {recent} AND days_since_closed <= 3 * {recent})
FROM sold AS s JOIN features AS f USING (id) GROUP BY s.product ORDER BY 6 DESC, s.product
"""
_PAIRS = """
WITH won AS (SELECT DISTINCT id, sold.product FROM sold JOIN features USING (id) WHERE is_won),
     of_each AS (SELECT product, count(*) AS n FROM won GROUP BY product),
     baskets AS (SELECT count(DISTINCT id) AS n FROM won)
SELECT a.product, b.product, count(*) AS together, any_value(x.n), any_value(y.n), any_value(k.n)
FROM won AS a JOIN won AS b ON a.id = b.id AND a.product < b.product
JOIN of_each AS x ON x.product = a.product JOIN of_each AS y ON y.product = b.product CROSS JOIN baskets AS k
GROUP BY ALL HAVING count(*) >= ? ORDER BY together DESC, a.product, b.product
"""


@dataclass(frozen=True)
class Product:
    """Of the last 365 days; money in the home currency. `low` and `high`: Wilson, 95%."""

    product: str
    open: int
    open_amount: float
    decided: int
    won: int
    won_amount: float
    win_rate: float | None
    low: float
    high: float
    average: float | None
    """Won amount per winning opportunity."""
    cycle_days: float | None
    """Median."""
    price: float | None
    """Per unit, of what was won; None without line items."""
    discount_pct: float | None
    per_day: float | None
    """Velocity: open x win rate x average / cycle."""
    forecast: float | None
    """Mean of the period handed in."""
    trend: float | None
    """Win rate of the last half year less that of the year before; None with fewer than 20 cases in either."""
    trend_is_real: bool
    """At a false discovery rate of 10% over all products."""


@dataclass(frozen=True)
class Pair:
    """Two products won together, `lift` times as often as if they had nothing to do with each other."""

    one: str
    other: str
    together: int
    lift: float


@dataclass(frozen=True)
class Products:
    rows: tuple[Product, ...]
    """Most won first."""
    pairs: tuple[Pair, ...]
    """Most often first."""
    missing: tuple[str, ...]


def products(
    warehouse: Warehouse,
    features: Features,
    *,
    by: By = "product",
    forecast: Mapping[str, float] | None = None,
    min_together: int = 5,
) -> Products:
    """Tell every product or family apart; `forecast` holds the mean of a period by the opportunity's product."""
    missing = []
    if "line_item_count" in features.unknown:
        missing.append("line items: no prices, discounts or pairs")
        if "product" in features.unknown:
            return Products((), (), ("neither line items nor a product of the opportunity",))
    warehouse.execute(_FAMILIES, [by])
    warehouse.execute(_SOLD, [by])
    families = dict(warehouse.rows("SELECT product, family FROM families"))
    foreseen: dict[str, float] = {}
    for product, amount in (forecast or {}).items():
        name = families.get(product, product)
        foreseen[name] = foreseen.get(name, 0.0) + amount
    rows = warehouse.rows(_PRODUCTS.format(recent=_RECENT))
    tests = [two_shares(r[11], r[10], r[13], r[12]) if min(r[10], r[12]) >= MIN_CASES else 1.0 for r in rows]
    real = kept(tests, FALSE_DISCOVERY)
    found = []
    for row, is_real in zip(rows, real, strict=True):
        name, open_, open_amount, decided, won, amount, average, cycle, price, discount, n1, k1, n0, k0 = row
        rate = won / decided if decided else None
        low, high = wilson(won, decided)
        known = min(n1, n0) >= MIN_CASES
        found.append(
            Product(
                name, open_, open_amount, decided, won, amount, rate, low, high, average, cycle, price, discount,
                open_ * rate * average / cycle if rate and average and cycle else None,
                foreseen.get(name), k1 / n1 - k0 / n0 if known else None, known and is_real,
            )
        )  # fmt: skip
    pairs = [
        Pair(one, other, both, both * baskets / (n_one * n_other))
        for one, other, both, n_one, n_other, baskets in warehouse.rows(_PAIRS, [min_together])
    ]
    return Products(tuple(found), tuple(pairs), tuple(missing))
