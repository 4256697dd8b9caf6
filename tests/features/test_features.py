"""One row per opportunity as of a moment, and nothing from after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipesync.config import Calendar, FiscalWeeks
from pipesync.errors import InputError
from pipesync.features import COLUMNS, compute, stand
from pipesync.mapping import REQUIRABLE
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)  # a Monday
Build = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
STAGES = [
    {"id": str(i), "name": name, "pipeline": "p", "order": i * 10, "phase": phase}
    for i, (name, phase) in enumerate(
        [("Qualify", "early"), ("Propose", "middle"), ("Sign", "late"), ("Won", "won"), ("Lost", "lost")]
    )
]


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def change(field: str, value: str | None, days: float, seq: int = 0) -> Row:
    return {
        "id": f"{field}{days}{seq}",
        "opportunity_id": "o",
        "field": field,
        "value": value,
        "changed_at": days_ago(days),
        "seq": seq,
    }


def opportunity(**values: Any) -> Row:
    given = {
        "id": "o", "name": "Acme", "pipeline": "p", "stage": "Propose", "created_at": days_ago(40),
        "amount": Decimal(100), "is_closed": False, "is_won": False,
    }  # fmt: skip
    return {**given, **values}


def row(warehouse: Warehouse, as_of: datetime = NOW, calendar: Calendar | None = None) -> Row:
    """Return the features of opportunity `o`."""
    compute(warehouse, "crm", as_of, calendar or Calendar())
    table = warehouse.arrow("SELECT * FROM features WHERE id = 'o'").to_pylist()
    return table[0] if table else {}


def test_the_table_has_exactly_the_columns_of_the_catalogue(build: Build) -> None:
    """Columns stand in the order of the catalogue, so that the page about them is the truth."""
    warehouse = build(opportunities=[opportunity()], stages=STAGES)

    compute(warehouse, "crm", NOW, Calendar())

    assert warehouse.arrow("SELECT * FROM features").schema.names == list(COLUMNS)


def test_stage_history_becomes_visits_with_their_ends(build: Build) -> None:
    """A stay ends where the next begins; the last one of an open opportunity lasts."""
    changes = [change("stage", s, d) for s, d in (("Qualify", 40), ("Sign", 30), ("Propose", 10))]
    warehouse = build(opportunities=[opportunity()], stages=STAGES, field_changes=changes)

    found = row(warehouse)

    visits = warehouse.rows(
        "SELECT stage, exit, next_stage, left_at IS NULL FROM stage_visits ORDER BY visit"
    )
    assert visits == [
        ("Qualify", "advance", "Sign", False),
        ("Sign", "backward", "Propose", False),
        ("Propose", None, None, True),
    ]
    assert found["days_in_stage"] == 10
    assert found["stage_order"] == 2
    assert found["regressions"] == 1
    assert found["skipped_stages"] == 1


def test_a_win_ends_the_last_visit_whether_its_stage_is_in_the_history_or_not(build: Build) -> None:
    """An outcome without a stage change closes the visit at the closing time."""
    closed = opportunity(is_closed=True, is_won=True, closed_at=days_ago(5), stage="Won")
    told = [change("stage", "Qualify", 40), change("stage", "Won", 5)]
    for changes in (told[:1], told):
        warehouse = build(opportunities=[closed], stages=STAGES, field_changes=changes)

        found = row(warehouse)

        assert warehouse.rows("SELECT exit, left_at FROM stage_visits") == [
            ("won", days_ago(5).replace(tzinfo=None))
        ]
        assert (found["is_open"], found["is_won"], found["cycle_days"]) == (False, True, 35)


def test_reopening_is_counted_and_is_a_new_visit(build: Build) -> None:
    """From a closed stage back to an open one."""
    changes = [change("stage", s, d) for s, d in (("Qualify", 40), ("Lost", 30), ("Propose", 20))]
    found = row(build(opportunities=[opportunity()], stages=STAGES, field_changes=changes))

    assert found["reopen_count"] == 1
    assert found["reopened_at"] == days_ago(20).replace(tzinfo=None)


def test_only_moves_to_a_later_day_are_pushes(build: Build) -> None:
    """Pulling a date in, or setting it for the first time, is none."""
    dates = [("2026-10-01", 40), ("2026-10-31", 30), ("2026-10-15", 20), ("2027-01-10", 3)]
    warehouse = build(
        opportunities=[opportunity(close_date=date(2027, 1, 10))],
        stages=STAGES,
        field_changes=[change("close_date", d, ago) for d, ago in dates],
    )

    found = row(warehouse)

    assert (found["push_count"], found["push_days_total"]) == (2, 30 + 87)
    assert found["first_close_date"] == date(2026, 10, 1)
    assert found["close_date_changes"] == 3
    assert found["pushed_out_of_quarter_at"] == days_ago(3).replace(tzinfo=None)
    assert found["pushed_out_this_quarter"]


def test_the_date_that_closing_sets_is_no_push(build: Build) -> None:
    """HubSpot overwrites the close date when a deal closes; that it slipped is judged by the dates before."""
    dates = [("2026-10-01", 40), ("2026-10-31", 30), ("2026-11-18", 5)]
    warehouse = build(
        opportunities=[
            opportunity(
                close_date=date(2026, 11, 18), is_closed=True, is_won=True, closed_at=days_ago(5), stage="Won"
            )
        ],
        stages=STAGES,
        field_changes=[change("close_date", d, ago) for d, ago in dates],
    )

    found = row(warehouse)

    assert (found["push_count"], found["push_days_total"], found["close_date_changes"]) == (1, 30, 1)
    assert found["pushed_out_of_quarter_at"] is None
    assert found["close_date"] == date(2026, 11, 18)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (datetime(2026, 11, 20, 9, tzinfo=UTC), 1),  # Friday to Monday
        (datetime(2026, 11, 21, 9, tzinfo=UTC), 1),  # Saturday
        (datetime(2026, 11, 23, 7, tzinfo=UTC), 0),
        (datetime(2026, 11, 16, 9, tzinfo=UTC), 5),
        (datetime(2025, 11, 24, 9, tzinfo=UTC), 260),
    ],
)
def test_business_days_leave_weekends_out(build: Build, last: datetime, expected: int) -> None:
    """They count the business days that have begun since."""
    acted = [{"id": "a", "opportunity_id": "o", "at": last, "is_done": True}]
    warehouse = build(opportunities=[opportunity(created_at=days_ago(800))], stages=STAGES, activities=acted)

    assert row(warehouse)["business_days_since_last_activity"] == expected


def test_holidays_are_no_business_days(build: Build) -> None:
    """A holiday on a weekday is left out like a Sunday."""
    acted = [{"id": "a", "opportunity_id": "o", "at": datetime(2026, 11, 16, 9, tzinfo=UTC), "is_done": True}]
    warehouse = build(opportunities=[opportunity()], stages=STAGES, activities=acted)
    calendar = Calendar(holidays=(date(2026, 11, 18), date(2026, 11, 22)))

    assert row(warehouse, calendar=calendar)["business_days_since_last_activity"] == 4


def test_days_are_those_of_the_calendars_zone(build: Build) -> None:
    """Late on Sunday in UTC is already Monday in Tokyo."""
    warehouse = build(opportunities=[opportunity(close_date=date(2026, 11, 23))], stages=STAGES)
    sunday = datetime(2026, 11, 22, 20, tzinfo=UTC)
    warehouse.execute("UPDATE pulls SET watermark = ?", [sunday.replace(tzinfo=None)])

    assert row(warehouse, sunday, Calendar(timezone="Asia/Tokyo"))["days_to_close"] == 0
    assert row(warehouse, sunday)["days_to_close"] == 1


def test_planned_activities_are_next_and_done_ones_are_last(build: Build) -> None:
    """What is planned does not count as activity, and what is overdue is not next."""
    acted = [
        {
            "id": "1",
            "opportunity_id": "o",
            "at": days_ago(9),
            "is_done": True,
            "direction": "in",
            "kind": "Meeting",
        },
        {"id": "2", "opportunity_id": "o", "at": days_ago(2), "is_done": False},
        {"id": "3", "opportunity_id": "o", "at": days_ago(-4), "is_done": False},
        {"id": "4", "opportunity_id": "o", "at": days_ago(-3), "is_done": False},
    ]
    found = row(build(opportunities=[opportunity()], stages=STAGES, activities=acted))

    assert found["last_activity_at"] == found["last_inbound_at"] == days_ago(9).replace(tzinfo=None)
    assert found["last_meeting_at"] == days_ago(9).replace(tzinfo=None)
    assert found["next_activity_at"] == days_ago(-3).replace(tzinfo=None)
    assert (found["activity_count"], found["overdue_activities"]) == (1, 1)


def test_amounts_are_converted_into_the_home_currency(build: Build) -> None:
    """By the latest rate that is valid; an amount without a rate has no value at home."""
    rates = [
        {"currency": "USD", "rate": 0.5, "valid_from": date(2026, 1, 1)},
        {"currency": "USD", "rate": 0.8, "valid_from": date(2026, 11, 1)},
        {"currency": "USD", "rate": 9.9, "valid_from": date(2027, 1, 1)},
    ]
    for currency, expected in (("USD", Decimal("80.00")), ("EUR", Decimal("100.00")), ("PLN", None)):
        warehouse = build(opportunities=[opportunity(currency=currency)], stages=STAGES, currency_rates=rates)

        assert row(warehouse)["amount"] == expected


def test_look_alikes_on_one_account_are_duplicates_of_the_earlier(build: Build) -> None:
    """Only the later one names the other."""
    twins = [
        opportunity(account_id="a", name="Acme renewal 2026", close_date=date(2026, 12, 1)),
        opportunity(id="p", account_id="a", name="ACME Renewal 2026 ", created_at=days_ago(3)),
        opportunity(id="q", account_id="a", name="Something else", created_at=days_ago(3)),
    ]
    warehouse = build(opportunities=twins, stages=STAGES)

    compute(warehouse, "crm", NOW, Calendar())

    found = warehouse.rows("SELECT id, duplicate_of, duplicate_count FROM features ORDER BY id")
    assert found == [("o", None, 1), ("p", "o", 1), ("q", None, 0)]


def wins(n: int, days: float, **values: Any) -> list[Row]:
    """Return so many wins that took so many days, closed one a day before NOW."""
    return [
        opportunity(
            id=f"w{days}-{i}", is_closed=True, is_won=True, stage="Won", created_at=days_ago(i + 1 + days),
            closed_at=days_ago(i + 1), **values,
        )
        for i in range(n)
    ]  # fmt: skip


def test_cycles_are_learnt_from_wins_of_the_segment_where_there_are_twenty(build: Build) -> None:
    """With fewer of them, from those of the pipeline; with fewer than twenty there as well, from none."""
    large, small = wins(20, 100, segment="large"), wins(19, 10, segment="small")
    for won, segment, expected in (
        ([*large, *small], "large", (100, 20)),
        ([*large, *small], "small", (100, 39)),
        (small, "small", (None, 0)),
    ):
        found = row(build(opportunities=[opportunity(segment=segment), *won], stages=STAGES))

        assert (found["cycle_p50"], found["won_n"]) == expected


def test_the_time_that_is_left_follows_from_wins_that_passed_the_stage(build: Build) -> None:
    """Wins took 30 days from Propose on; 12 of them are over, and after 40 nothing is left."""
    for days, expected in ((12, 18), (40, 0)):
        changes = [change("stage", "Propose", days)]
        won = wins(20, 30)
        for one in won:
            changes.append(
                {**changes[0], "id": one["id"], "opportunity_id": one["id"], "changed_at": one["created_at"]}
            )
        found = row(build(opportunities=[opportunity(), *won], stages=STAGES, field_changes=changes))

        assert found["expected_remaining_days"] == expected


def test_pauses_and_replies_are_learnt_from_wins(build: Build) -> None:
    """The longest pause of each win counts, in business days, and every answer to our own activity."""
    won = wins(20, 60)
    acted = [
        {"id": f"{o['id']}-{k}", "opportunity_id": o["id"], "is_done": True, "direction": way,
         "at": datetime(2026, 9, day, 9, tzinfo=UTC) - timedelta(days=7 * i)}
        for i, o in enumerate(won)
        for k, (day, way) in enumerate([(7, "out"), (9, "in"), (10, None), (24, "out"), (25, "in")])
    ]  # fmt: skip

    found = row(build(opportunities=[opportunity(), *won], stages=STAGES, activities=acted))

    assert (found["idle_p90"], found["idle_n"]) == (10, 20)
    assert (found["reply_p90"], found["reply_n"]) == (2, 40)


def test_line_items_are_compared_with_the_amount(build: Build) -> None:
    """The difference either way, and as a share of the amount."""
    for total, expected in ((Decimal(97), (Decimal(3), 3.0)), (Decimal(104), (Decimal(4), 4.0))):
        items = [{"id": "i", "opportunity_id": "o", "total": total}]
        found = row(build(opportunities=[opportunity()], stages=STAGES, line_items=items))

        assert (found["line_item_gap"], found["line_item_gap_pct"]) == expected


def test_what_a_pipeline_records_at_all_is_told_of_each_of_its_opportunities(build: Build) -> None:
    """One meeting, one person who decides and one line item in the pipeline are enough; another pipeline has none."""
    warehouse = build(
        opportunities=[opportunity(), opportunity(id="p"), opportunity(id="q", pipeline="other")],
        stages=STAGES,
        activities=[
            {"id": "a", "opportunity_id": "p", "at": days_ago(1), "is_done": True, "kind": "Meeting"}
        ],
        contact_roles=[{"opportunity_id": "p", "contact_id": "c", "role": "Decision Maker"}],
        line_items=[{"id": "i", "opportunity_id": "p"}],
    )

    compute(warehouse, "crm", NOW, Calendar())

    found = warehouse.rows("SELECT id, meetings_used, roles_used, products_used FROM features ORDER BY id")
    assert found == [("o", *[True] * 3), ("p", *[True] * 3), ("q", *[False] * 3)]


@pytest.mark.parametrize(
    ("starts", "closed", "quarters", "left"),
    [
        (1, date(2026, 11, 20), 0, 42),
        (1, date(2026, 9, 30), 1, 1),
        (1, date(2026, 9, 17), 1, 14),
        (1, date(2025, 12, 31), 4, 1),
        (2, date(2026, 10, 31), 1, 1),
        (2, date(2026, 11, 1), 0, 92),
    ],
)
def test_a_closing_knows_its_fiscal_quarter(
    build: Build, starts: int, closed: date, quarters: int, left: int
) -> None:
    """How many quarters ago it was, and how many days of it were left, the day itself included."""
    at = datetime(closed.year, closed.month, closed.day, 12, tzinfo=UTC)
    warehouse = build(
        opportunities=[opportunity(is_closed=True, closed_at=at, created_at=days_ago(900))], stages=STAGES
    )

    found = row(warehouse, calendar=Calendar(fiscal_year_starts=starts))

    assert (found["quarters_since_closed"], found["quarter_days_left"]) == (quarters, left)


@pytest.mark.parametrize(
    ("closed", "quarters", "left"),
    [
        (date(2026, 8, 2), 1, 91),
        (date(2026, 11, 1), 0, 91),
        (date(2026, 10, 31), 1, 1),
        (date(2024, 2, 3), 12, 1),
    ],
)
def test_a_fiscal_quarter_may_be_one_of_weeks(build: Build, closed: date, quarters: int, left: int) -> None:
    """Retail's year of 2023 ends with a 53rd week on 3 February 2024; its third quarter of 2026 on 31 October."""
    at = datetime(closed.year, closed.month, closed.day, 12, tzinfo=UTC)
    warehouse = build(
        opportunities=[opportunity(is_closed=True, closed_at=at, created_at=at - timedelta(days=9))]
    )
    retail = Calendar(fiscal_year_starts=2, weeks=FiscalWeeks(pattern="4-5-4"))

    found = row(warehouse, calendar=retail)

    assert (found["quarters_since_closed"], found["quarter_days_left"]) == (quarters, left)


def test_quotas_are_those_of_the_present_quarter(build: Build) -> None:
    """Months are added up, in the home currency; a team has its own or its people's, whichever is more."""
    month = {"owner_id": "u", "amount": Decimal(100), "currency": "USD"}
    quotas = [
        {**month, "period_start": date(2026, 10, 1), "period_end": date(2026, 11, 1)},
        {**month, "period_start": date(2026, 11, 1), "period_end": date(2026, 12, 1)},
        {**month, "period_start": date(2026, 9, 1), "period_end": date(2026, 10, 1)},
        {**month, "period_start": date(2026, 10, 1), "period_end": date(2027, 10, 1)},
        {"team": "North", "amount": Decimal(90), "period_start": date(2026, 10, 1), "period_end": date(2027, 1, 1)},
    ]  # fmt: skip
    warehouse = build(
        opportunities=[opportunity(owner_id="u"), opportunity(id="p", owner_id="v")],
        stages=STAGES,
        users=[{"id": u, "team": "North"} for u in ("u", "v")],
        quotas=quotas,
        currency_rates=[
            {"currency": "USD", "rate": 0.5, "valid_from": date(2026, 1, 1)},
            {"currency": "EUR", "rate": 1.0, "valid_from": date(2026, 1, 1)},
        ],
    )

    compute(warehouse, "crm", NOW, Calendar())

    assert warehouse.rows("SELECT owner_quota, team_quota FROM features ORDER BY id") == [
        (Decimal(100), Decimal(100)),
        (None, Decimal(100)),
    ]


def test_a_stage_knows_how_many_that_were_in_it_were_won(build: Build) -> None:
    """Of decided ones only, and of twenty at least."""
    for lost, expected in ((10, 2 / 3), (0, 1.0), (-1, None)):
        closed = [
            *wins(20 + min(lost, 0), 30),
            *(
                opportunity(id=f"l{i}", is_closed=True, closed_at=days_ago(1), stage="Lost")
                for i in range(lost)
            ),
        ]
        changes = [
            {**change("stage", "Propose", 35), "id": o["id"], "opportunity_id": o["id"]}
            for o in [*closed, opportunity()]
        ]
        found = row(build(opportunities=[opportunity(), *closed], stages=STAGES, field_changes=changes))

        assert found["stage_win_rate"] == expected


def test_what_was_in_commit_once_stays_known(build: Build) -> None:
    """Also where the history begins later than the present category."""
    once = [change("forecast_category", c, d) for c, d in (("commit", 20), ("pipeline", 10))]
    for told, category, expected in ((once, "pipeline", True), ([], "commit", True), ([], "pipeline", False)):
        found = row(
            build(opportunities=[opportunity(forecast_category=category)], stages=STAGES, field_changes=told)
        )

        assert found["was_committed"] is expected


def test_what_a_stage_requires_and_is_blank_is_named(build: Build) -> None:
    """Every feature that a mapping may require; what cannot be read is not missed, and blanks are spaces too."""
    custom = ["custom.region", "custom.budget"]
    stages = [{**s, "required": ",".join([*REQUIRABLE, *custom])} for s in STAGES]
    bare = opportunity(amount=Decimal(0), next_step=" ", custom={"region": " ", "budget": "9"})

    found = row(build(opportunities=[bare], stages=stages, contact_roles=[], line_items=[]))
    unread = row(build(opportunities=[bare], stages=stages, unmapped=("opportunities.source",)))
    nothing = row(build(opportunities=[bare], stages=STAGES))

    assert found["required_missing"] == ", ".join([*REQUIRABLE, "custom.region"])
    assert {"source", "has_decision_maker", "line_item_count"}.isdisjoint(
        unread["required_missing"].split(", ")
    )
    assert nothing["required_missing"] is None
    assert set(REQUIRABLE) <= set(COLUMNS)


def test_what_a_stage_requires_and_has_is_not_named(build: Build) -> None:
    """One of each is enough."""
    full = opportunity(
        account_id="a", close_date=date(2026, 12, 1), forecast_category="commit", next_step="Call", owner_id="u",
        product="Plus", source="Web", type="new",
    )  # fmt: skip
    warehouse = build(
        opportunities=[full],
        stages=[{**s, "required": ",".join(REQUIRABLE)} for s in STAGES],
        contact_roles=[{"opportunity_id": "o", "contact_id": "c", "role": "Decision Maker"}],
        line_items=[{"id": "i", "opportunity_id": "o"}],
    )

    assert row(warehouse)["required_missing"] is None


def test_waiting_begins_with_the_lead_and_ends_with_the_first_touch(build: Build) -> None:
    """Five business days since the lead came in; its own first touch counts, one of tomorrow does not."""
    made = opportunity(created_at=days_ago(3))
    for touched, expected in ((None, 5), (days_ago(-1), 5), (days_ago(6), None)):
        lead = {"id": "l", "opportunity_id": "o", "created_at": days_ago(7), "first_touch_at": touched}
        found = row(build(opportunities=[made], stages=STAGES, leads=[lead]))

        assert found["business_days_untouched"] == expected
        assert found["lead_created_at"] == days_ago(7).replace(tzinfo=None)


def test_an_opportunity_that_was_closed_on_its_first_day_says_so(build: Build) -> None:
    """By the calendar's days, not by hours."""
    created = datetime(2026, 11, 10, 23, tzinfo=UTC)
    for hours, expected in ((0.5, True), (2, False)):
        closed = opportunity(created_at=created, is_closed=True, closed_at=created + timedelta(hours=hours))
        found = row(build(opportunities=[closed], stages=STAGES))

        assert (found["created_on"], found["closed_same_day"]) == (date(2026, 11, 10), expected)


def test_a_column_that_is_not_mapped_is_unknown_and_so_is_all_that_needs_it(build: Build) -> None:
    """What one of two sources tells is known."""
    acted = [{"id": "a", "opportunity_id": "o", "at": days_ago(1)}]
    warehouse = build(
        opportunities=[opportunity()],
        activities=acted,
        unmapped=("opportunities.close_date", "opportunities.last_activity_at"),
    )

    unknown = compute(warehouse, "crm", NOW, Calendar()).unknown

    assert {"close_date", "days_to_close", "push_count", "stage_order"} <= unknown
    assert not {"last_activity_at", "amount", "is_open"} & unknown


def test_the_past_of_a_field_without_history_is_unknown(build: Build) -> None:
    """Now it is known; of a moment before the last pull it is not."""
    warehouse = build(opportunities=[opportunity()], stages=STAGES, history="none")

    assert "amount" not in compute(warehouse, "crm", NOW, Calendar()).unknown
    past = compute(warehouse, "crm", days_ago(10), Calendar()).unknown
    assert {"amount", "stage", "next_activity_at", "lost_reason"} <= past
    assert not {"is_open", "age_days", "pipeline"} & past


def test_nothing_pulled_is_an_error_that_names_the_mend(build: Build) -> None:
    """A connection that was never pulled has no features."""
    with pytest.raises(InputError, match="pipesync pull"):
        compute(build(opportunities=[]), "other", NOW, Calendar())


def test_standing_at_another_moment_leaves_the_sessions_features_alone(build: Build) -> None:
    """The same stage, amount and outcome as `compute` would tell, in a table of its own."""
    told = [change("amount", "40.00", 40), change("amount", "100.00", 5)]
    warehouse = build(opportunities=[opportunity(currency="EUR")], stages=STAGES, field_changes=told)
    compute(warehouse, "crm", NOW, Calendar(timezone="Asia/Tokyo", holidays=(date(2026, 11, 20),)))

    stand(warehouse, "crm", days_ago(10), Calendar(), "then")

    assert warehouse.rows('SELECT id, is_closed, amount FROM "then"') == [("o", False, Decimal("40.00"))]
    assert warehouse.rows("SELECT amount, age_days FROM features") == [(Decimal("100.00"), 40.0)]
    assert warehouse.rows(
        "SELECT getvariable('as_of'), getvariable('zone_offset'), getvariable('holidays')"
    ) == [(NOW.replace(tzinfo=None), timedelta(hours=9), [date(2026, 11, 20)])]


@pytest.mark.parametrize("days", [35.0, 25.0, 12.0, 3.0])
def test_standing_tells_what_computing_tells(build: Build, days: float) -> None:
    """Fields without any change, changed before, only later, both, to blank, and twice in one moment."""
    fields = ("amount", "close_date", "owner_id")
    told = [
        [],
        [change("amount", "40.00", 30), change("owner_id", "u1", 30), change("close_date", "2026-12-01", 30)],
        [change("amount", "40.00", 10), change("owner_id", "u1", 10), change("close_date", None, 10)],
        [change("amount", None, 30), change("owner_id", None, 30), change("owner_id", "u2", 10)],
        [change("amount", "1.00", 20, 2), change("amount", "2.00", 20, 1), change("stage", "Sign", 20)],
    ]
    ids = [str(i) for i in range(len(told))]
    warehouse = build(
        opportunities=[
            opportunity(id=i, owner_id="u2", close_date=date(2027, 1, 1), is_closed=i == "4", closed_at=days_ago(10))
            for i in ids
        ],
        stages=STAGES,
        field_changes=[
            {**one, "id": f"{i}{one['id']}", "opportunity_id": i}
            for i, changes in zip(ids, told, strict=True)
            for one in changes
        ],
    )  # fmt: skip

    stand(warehouse, "crm", days_ago(days), Calendar(), "then")
    compute(warehouse, "crm", days_ago(days), Calendar())

    columns = f"id, {', '.join(fields)}, is_won"
    assert warehouse.rows(f'SELECT {columns}, is_closed FROM "then" ORDER BY id') == warehouse.rows(
        f"SELECT {columns}, NOT is_open FROM features ORDER BY id"
    )


MOMENTS = st.floats(min_value=-20, max_value=60)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("stage"), st.sampled_from(["Qualify", "Propose", "Sign"]), MOMENTS),
        st.tuples(st.just("amount"), st.sampled_from(["10.00", "500.00"]), MOMENTS),
        st.tuples(
            st.just("close_date"), st.sampled_from(["2026-12-01", "2027-02-01", "2027-06-30"]), MOMENTS
        ),
        st.tuples(st.just("activity"), st.just(None), MOMENTS),
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, closes=st.none() | st.tuples(MOMENTS, st.booleans()))
def test_what_happens_after_the_moment_changes_nothing(
    build: Build, events: list[tuple[str, str | None, float]], closes: tuple[float, bool] | None
) -> None:
    """The same rows come out whether the later events, and a later closing, are there or not."""
    moment, creation = days_ago(20), 61.0
    first = [
        ("stage", "Qualify", creation),
        ("amount", "10.00", creation),
        ("close_date", "2026-12-01", creation),
    ]
    seen = {}
    for is_later_known in (True, False):
        kept = [*first, *(e for e in events if is_later_known or days_ago(e[2]) <= moment)]
        closed = closes if closes and (is_later_known or days_ago(closes[0]) <= moment) else None
        last = {
            name: max((e for e in enumerate(kept) if e[1][0] == name), key=lambda e: (-e[1][2], e[0]))[1][1]
            for name in ("stage", "amount", "close_date")
        }
        opportunity_now = opportunity(
            created_at=days_ago(creation),
            stage=last["stage"],
            amount=Decimal(last["amount"] or 0),
            close_date=date.fromisoformat(last["close_date"] or ""),
            is_closed=closed is not None,
            is_won=bool(closed and closed[1]),
            closed_at=days_ago(closed[0]) if closed else None,
        )
        warehouse = build(
            opportunities=[opportunity_now],
            stages=STAGES,
            field_changes=[change(n, v, d, i) for i, (n, v, d) in enumerate(kept) if n != "activity"],
            activities=[
                {"id": str(i), "opportunity_id": "o", "at": days_ago(d), "is_done": True}
                for i, (n, _, d) in enumerate(kept)
                if n == "activity"
            ],
        )
        found = row(warehouse, moment)
        seen[is_later_known] = (found, warehouse.rows("SELECT * FROM stage_visits ORDER BY visit"))

    assert seen[True] == seen[False]


def test_parts_make_the_same_features_as_one(
    pulled_company: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are too many to be joined at once, they are joined part by part; no row is lost or told twice."""
    as_of = pulled_company.pulled_to("crm")
    compute(pulled_company, "crm", as_of, Calendar())
    whole = pulled_company.arrow("SELECT * FROM features ORDER BY id")

    monkeypatch.setattr("pipesync.features._PART", 70)
    compute(pulled_company, "crm", as_of, Calendar())

    assert pulled_company.arrow("SELECT * FROM features ORDER BY id") == whole
    assert pulled_company.rows("SELECT getvariable('parts') > 3") == [(True,)]
