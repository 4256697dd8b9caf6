"""Quotas and exchange rates: small, optional, and said by Salesforce in other terms than ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.values import at_path
from pipesync.errors import PermissionMissing
from pipesync.model import CurrencyRate, Quota

REVENUE = "OpportunityRevenue"
"""The forecast type that sums amounts of opportunities; an org may have others beside it."""
_TYPE = "ForecastingType.DeveloperName"
_ALWAYS = date(1970, 1, 1)


def is_readable(org: Org, stream: str) -> bool:
    """Whether an org has this at all; most have one currency and no quotas, and lack nothing by it."""
    source = org.mapping.streams[stream].source
    return org.fields(source) is not None


def quotas(org: Org) -> Iterator[Quota]:
    """Yield what owners are to win; of several forecast types the one on revenue.

    A period's last day becomes the day after it. Quotas of quantities are left out.
    """
    told = org.mapping.streams["quotas"]
    paths = {c: f.field for c, f in told.fields.items() if org.sees(told.source, f.field)}
    if lacking := {"period_start", "period_end", "amount"} - set(paths):
        named = ", ".join(told.fields[c].field if c in told.fields else c for c in sorted(lacking))
        raise PermissionMissing(
            f"quotas need {named} of {told.source}",
            fix="grant View All Forecasts and Read on forecasting quotas, or say `quotas: null` in the mapping",
        )
    extra = [_TYPE] if org.sees(told.source, _TYPE) else []
    rows = [
        row
        for page in org.api.pages(
            f"SELECT {', '.join([*paths.values(), *extra])} FROM {told.source} ORDER BY Id"
        )
        for row in page
    ]
    types = {at_path(row, _TYPE) for row in rows}
    for row in rows:
        values = {c: at_path(row, path) for c, path in paths.items()}
        if values["amount"] is None or (REVENUE in types and at_path(row, _TYPE) != REVENUE):
            continue
        last = date.fromisoformat(values.pop("period_end"))
        amount = Decimal(str(values.pop("amount"))).quantize(Decimal("0.01"))
        yield Quota(**values, amount=amount, period_end=last + timedelta(days=1))


def currency_rates(org: Org) -> Iterator[CurrencyRate]:
    """Yield what one unit is worth in the corporate currency: Salesforce says it the other way round.

    Where the org keeps dated rates they say from when on; the first of a currency begins with time itself.
    """
    wanted = "SELECT IsoCode, ConversionRate FROM CurrencyType WHERE IsActive = true ORDER BY IsoCode"
    always = {row["IsoCode"]: row["ConversionRate"] for row in org.api.query(wanted)["records"]}
    later: list[CurrencyRate] = []
    if org.fields("DatedConversionRate") is not None:
        dated = (
            "SELECT IsoCode, ConversionRate, StartDate FROM DatedConversionRate ORDER BY IsoCode, StartDate"
        )
        for row in (row for page in org.api.pages(dated) for row in page):
            if row["StartDate"] <= _ALWAYS.isoformat():
                always[row["IsoCode"]] = row["ConversionRate"]
            else:
                later.append(
                    _rate(row["IsoCode"], row["ConversionRate"], date.fromisoformat(row["StartDate"]))
                )
    yield from (_rate(currency, rate, _ALWAYS) for currency, rate in always.items())
    yield from later


def _rate(currency: str, per_home: float, valid_from: date) -> CurrencyRate:
    return CurrencyRate(currency=currency, rate=1 / float(per_home), valid_from=valid_from)
