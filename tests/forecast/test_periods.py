"""Periods of the company's calendar, and what people write for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from pipesync import fiscal
from pipesync.config import Calendar, Config, ConnectionConfig, FiscalWeeks
from pipesync.errors import InputError
from pipesync.forecast.periods import Period, PeriodKind, following, parse_period, period_of
from pipesync.model import Connection

CIVIL = Calendar()
FROM_APRIL = Calendar(fiscal_year_starts=4, timezone="America/New_York")


@pytest.mark.parametrize(
    ("text", "calendar", "start", "end"),
    [
        ("2026-Q4", CIVIL, date(2026, 10, 1), date(2027, 1, 1)),
        ("2026-11", CIVIL, date(2026, 11, 1), date(2026, 12, 1)),
        ("2026", CIVIL, date(2026, 1, 1), date(2027, 1, 1)),
        ("2026-Q1", FROM_APRIL, date(2026, 4, 1), date(2026, 7, 1)),
        ("2026-Q4", FROM_APRIL, date(2027, 1, 1), date(2027, 4, 1)),
        ("2026", FROM_APRIL, date(2026, 4, 1), date(2027, 4, 1)),
        ("2026-11-05..2026-11-19", CIVIL, date(2026, 11, 5), date(2026, 11, 19)),
    ],
)
def test_written_periods(text: str, calendar: Calendar, start: date, end: date) -> None:
    """Months, fiscal quarters, fiscal years and spans are read as people mean them."""
    found = parse_period(text, calendar)

    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("text", ["2026-13", "Q4", "soon", "2026-11-19..2026-11-05", "2026-11-01..x"])
def test_what_is_no_period(text: str) -> None:
    """Anything else is refused with what could be written instead."""
    with pytest.raises(InputError, match="period"):
        parse_period(text, CIVIL)


RETAIL = Calendar(fiscal_year_starts=2, weeks=FiscalWeeks(pattern="4-5-4"))
MAKER = Calendar(weeks=FiscalWeeks(begins="monday", year="last"))


@pytest.mark.parametrize(
    ("text", "calendar", "start", "end"),
    [
        # The National Retail Federation's calendar: 2023 has 53 weeks, and ends on 3 February 2024.
        ("2023", RETAIL, date(2023, 1, 29), date(2024, 2, 4)),
        ("2024", RETAIL, date(2024, 2, 4), date(2025, 2, 2)),
        ("2024-Q1", RETAIL, date(2024, 2, 4), date(2024, 5, 5)),
        ("2023-Q4", RETAIL, date(2023, 10, 29), date(2024, 2, 4)),
        ("2024-03", RETAIL, date(2024, 3, 3), date(2024, 4, 7)),
        ("2024-01", RETAIL, date(2023, 12, 31), date(2024, 2, 4)),
        ("2026", MAKER, date(2025, 12, 29), date(2026, 12, 28)),
        ("2026-Q1", MAKER, date(2025, 12, 29), date(2026, 3, 30)),
    ],
)
def test_months_of_whole_weeks(text: str, calendar: Calendar, start: date, end: date) -> None:
    """Years, quarters and months of 4-4-5 and its kin, a 53rd week in the last month."""
    found = parse_period(text, calendar)

    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("calendar", [CIVIL, FROM_APRIL, RETAIL, MAKER])
@pytest.mark.parametrize("years", [1, 3, 8])
def test_a_calendar_is_known_by_the_first_days_of_its_months(calendar: Calendar, years: int) -> None:
    """What is recognised has these months; with eight years of them also those after."""
    asked = range(2021, 2021 + years)

    found = fiscal.recognised([day for year in asked for day in fiscal.months(year, calendar)[:-1]])

    assert found is not None
    assert [fiscal.months(y, found)[:-1] for y in asked] == [fiscal.months(y, calendar)[:-1] for y in asked]
    if years == 8:
        assert [fiscal.months(y, found) for y in range(2010, 2040)] == [
            fiscal.months(y, calendar) for y in range(2010, 2040)
        ]


@pytest.mark.parametrize(
    "days", [[], [date(2026, 2, 1)] * 12, [date(2026, 1, 1) + timedelta(30 * n) for n in range(12)]]
)
def test_other_days_are_no_calendar(days: list[date]) -> None:
    """Nothing, nonsense, and months of thirty days."""
    assert fiscal.recognised(days) is None


@pytest.mark.parametrize("calendar", [CIVIL, FROM_APRIL, RETAIL, MAKER])
@pytest.mark.parametrize("kind", ["month", "quarter", "year"])
def test_periods_follow_one_another_without_a_gap(calendar: Calendar, kind: PeriodKind) -> None:
    """For twenty years each is followed by the one that holds its end, and holds its own first and last days."""
    one = period_of(datetime(2015, 1, 20, tzinfo=UTC), kind, calendar)
    while one.end.year < 2035:
        assert period_of(one.starts_at, kind, calendar) == one
        assert period_of(one.ends_at - timedelta(hours=1), kind, calendar) == one
        later = following(one, calendar)
        assert later == period_of(one.ends_at, kind, calendar)
        one = later


def test_a_moment_belongs_to_the_period_of_the_companys_own_day() -> None:
    """Three in the morning UTC on the first is still the month before in New York."""
    found = period_of(datetime(2026, 4, 1, 3, tzinfo=UTC), "quarter", FROM_APRIL)

    assert (found.start, found.end) == (date(2026, 1, 1), date(2026, 4, 1))
    assert found.ends_at == datetime(2026, 4, 1, 4, tzinfo=UTC)


def test_the_following_period_begins_where_this_one_ends() -> None:
    """Quarters follow quarters, and spans of days spans of as many days."""
    quarter = following(parse_period("2026-Q4", CIVIL), CIVIL)
    days = following(Period(date(2026, 11, 5), date(2026, 11, 19)), CIVIL)

    assert str(quarter) == "2027-01-01..2027-04-01"
    assert str(days) == "2026-11-19..2026-12-03"


@pytest.mark.parametrize(
    ("said", "start"), [({}, date(2026, 11, 1)), ({"fiscal_year_starts": 1}, date(2026, 10, 1))]
)
def test_the_crms_fiscal_year_holds_where_we_say_nothing(said: dict[str, int], start: date) -> None:
    """A year that begins in February has its quarter from November on; what the configuration says goes first."""
    config = Config(
        connections={"crm": ConnectionConfig(adapter="salesforce")}, calendar=Calendar.model_validate(said)
    )
    facts = Connection(connection="crm", adapter="salesforce", fiscal_year_starts=2)

    found = period_of(datetime(2026, 11, 23, tzinfo=UTC), "quarter", config.of(facts).calendar)

    assert found.start == start
    assert config.of(Connection(connection="crm", adapter="hubspot")) == config
