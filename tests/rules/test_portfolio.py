"""Figures of owners, teams, sources and stages, against sums done by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipesync import rules
from pipesync.analysis import stages
from pipesync.config import Calendar, Config, ConnectionConfig
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.model import Level
from pipesync.rules.format import read_rule
from pipesync.rules.portfolio import table_of
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

Build = Callable[..., Warehouse]
Row = dict[str, Any]  # Any: columns' values
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
STAGES = [
    {"id": str(i), "name": name, "pipeline": "p", "order": i, "phase": phase}
    for i, (name, phase) in enumerate(
        [("Qualify", "early"), ("Propose", "middle"), ("Won", "won"), ("Lost", "lost")]
    )
]


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def opportunity(id: str, **values: Any) -> Row:
    given = {
        "id": id, "name": id, "pipeline": "p", "stage": "Propose", "owner_id": "u", "amount": Decimal(100),
        "created_at": days_ago(100), "is_closed": False, "is_won": False, "close_date": date(2026, 12, 1),
    }  # fmt: skip
    return {**given, **values}


def closed(id: str, days: float, *, won: bool, **values: Any) -> Row:
    ending = {
        "is_closed": True,
        "is_won": won,
        "closed_at": days_ago(days),
        "stage": "Won" if won else "Lost",
    }
    return opportunity(id, **{**ending, "created_at": days_ago(days + 40), **values})


def figures(warehouse: Warehouse, level: Level) -> dict[str, Row]:
    """Return the level's figures by subject, with no rule that asks for any."""
    compute(warehouse, "crm", NOW, Calendar())
    warehouse.execute("CREATE OR REPLACE TEMP TABLE penalties AS SELECT 'a' AS id, 5::BIGINT AS points")
    table = table_of(warehouse, level, [], None)
    return {r["subject_id"]: r for r in warehouse.arrow(f"SELECT * FROM {table}").to_pylist()}


def test_a_gap_to_quota_asks_for_as_much_as_the_company_wins_of_what_it_decides(build: Build) -> None:
    """Of 400 decided 100 were won, so a gap of 60 asks for 240; a win of this quarter is off the quota already."""
    quota = {"amount": Decimal(160), "period_start": date(2026, 10, 1), "period_end": date(2027, 1, 1)}
    warehouse = build(
        opportunities=[
            opportunity("a"),
            opportunity("later", close_date=date(2027, 1, 1)),
            closed("w", 10, won=True),
            *(closed(f"l{i}", 200, won=False, owner_id="v") for i in range(3)),
        ],
        stages=STAGES,
        users=[{"id": u, "name": u, "team": "North"} for u in ("u", "v")],
        quotas=[{**quota, "owner_id": "u"}, {**quota, "team": "North", "amount": Decimal(500)}],
    )

    owner, team = figures(warehouse, "owner")["u"], figures(warehouse, "team")["North"]

    assert (owner["quota"], owner["quota_gap"], owner["needed_open_amount"]) == (160, 60, 240)
    assert owner["open_this_quarter_amount"] == 100
    assert (team["quota"], team["quota_gap"], team["needed_open_amount"]) == (500, 400, 1600)


def test_calls_are_held_against_wins_with_two_average_wins_added(build: Build) -> None:
    """Won 100 of 300 called; the average win is 100: (100 + 200) / (300 + 200)."""
    warehouse = build(
        opportunities=[
            closed("w", 10, won=True, forecast_category="commit"),
            closed("l", 10, won=False, amount=Decimal(200), forecast_category="commit"),
            closed("m", 10, won=False, forecast_category="pipeline"),
        ],
        stages=STAGES,
    )

    found = figures(warehouse, "owner")["u"]

    assert (found["called_amount_365d"], found["won_amount_365d"]) == (300, 100)
    assert found["call_ratio_365d"] == pytest.approx(0.6)


def test_a_score_weighs_findings_by_amount(build: Build) -> None:
    """Five of ten points off an amount of 300, none off 100: 100 x (1 - 1500 / 4000)."""
    warehouse = build(opportunities=[opportunity("a", amount=Decimal(300)), opportunity("b")], stages=STAGES)

    assert figures(warehouse, "owner")["u"]["hygiene_score"] == pytest.approx(62.5)


def test_leads_are_held_against_a_quarters_quota(build: Build) -> None:
    """Four leads a year brought wins of 200; a quota of 100 takes two a quarter."""
    leads = [
        {"id": str(i), "source": "Web", "created_at": days_ago(d)}
        for i, d in enumerate((10, 100, 200, 300, 400))
    ]
    quota = {
        "owner_id": "u",
        "amount": Decimal(100),
        "period_start": date(2026, 10, 1),
        "period_end": date(2027, 1, 1),
    }
    warehouse = build(
        opportunities=[closed("w", 10, won=True, source="Web", amount=Decimal(200))],
        stages=STAGES,
        leads=leads,
        quotas=[quota],
    )

    found = figures(warehouse, "source")["Web"]

    assert (found["leads_91d"], found["leads_365d"], found["needed_leads"]) == (1, 4, 2)


def test_the_low_figure_of_a_quarter_is_won_and_what_open_ones_bring_in_four_of_five_cases(
    build: Build,
) -> None:
    """100 won; of 4 x 100 open in a stage that half are won from: 200 - 0.8416 x sqrt(4 x 100^2 / 4)."""
    decided = [closed(f"d{i}", 200, won=i < 10, owner_id="v") for i in range(20)]
    open_ones = [opportunity(f"o{i}") for i in range(4)]
    everything = [*decided, *open_ones, closed("w", 10, won=True)]
    changes = [
        {"id": o["id"], "opportunity_id": o["id"], "field": "stage", "value": "Propose", "changed_at": days_ago(230)}
        for o in [*decided, *open_ones]
    ]  # fmt: skip
    warehouse = build(
        opportunities=[{**o, "created_at": days_ago(250)} for o in everything],
        stages=STAGES,
        field_changes=changes,
    )

    found = figures(warehouse, "owner")["u"]

    assert float(found["low_this_quarter_amount"]) == pytest.approx(100 + 200 - 0.8416 * 100, abs=0.01)


def test_a_share_below_the_companys_is_told_with_its_interval(build: Build) -> None:
    """One of ten against half of all; Wilson's upper end of 1 in 10 is 40.4%."""
    decided = [closed(f"a{i}", 20, won=i == 0, product="Plus") for i in range(10)]
    others = [closed(f"b{i}", 20, won=i < 9, product="Pro") for i in range(10)]

    found = figures(build(opportunities=[*decided, *others], stages=STAGES), "product")["Plus"]

    assert found["win_rate_high_365d"] == pytest.approx(0.404, abs=0.001)
    assert found["company_win_rate_365d"] == 0.5


@pytest.mark.parametrize(("went_on", "is_real"), [(10, True), (27, False)])
def test_a_stage_that_lets_fewer_through_is_told_from_chance(
    build: Build, went_on: int, is_real: bool
) -> None:
    """Of 30 in the last quarter, against 45 of 50 in the year before."""
    made, changes = [], []
    for i in range(80):
        days = 30 if i < 30 else 200
        goes_on = i < went_on if i < 30 else i < 75
        made.append(closed(f"o{i}", days, won=goes_on))
        changes.append(
            {"id": f"c{i}", "opportunity_id": f"o{i}", "field": "stage", "value": "Propose",
             "changed_at": days_ago(days + 40)}
        )  # fmt: skip
    warehouse = build(opportunities=made, stages=STAGES, field_changes=changes)
    compute(warehouse, "crm", NOW, Calendar())

    [found] = stages.analyse(warehouse, "crm", NOW, Calendar()).to_dict("records")

    assert (found["recent_ended"], found["earlier_ended"]) == (30, 50)
    assert (found["recent_advance"], found["earlier_advance"]) == (went_on / 30, 0.9)
    assert bool(found["drop_is_real"]) is is_real


def test_every_portfolio_rule_says_something_of_the_demo(pulled_company: Warehouse) -> None:
    """Fired or clear on each of its subjects, unknown on none: what the demo's CRM keeps is enough for all of them."""
    config = Config(extends=("pipesync:all",), connections={"crm": ConnectionConfig(adapter="files")})
    as_of = pulled_company.watermark("crm")
    assert as_of is not None
    features = compute(pulled_company, "crm", as_of, Calendar())
    table = stages.analyse(pulled_company, "crm", as_of, Calendar())

    found = rules.evaluate(pulled_company, features, rules.load(config, strict=True), stages=table)

    portfolio = {r.id: r for r in found.rules if r.level != "opportunity"}
    assert {i: r.blame for i, r in portfolio.items() if r.unknown} == {}
    assert len(portfolio) == 17
    weak = [f for f in found.findings if f.rule == "hygiene.hygiene_score"]
    assert all(f.owner_id == f.subject_id and f.opportunity_id is None for f in weak)


MEASURED = """\
rule: site.measured
title: Measured
why: Because.
severity: low
level: team
measures:
  large: {calculate: count, where: {amount: {gte: 100}, age_days: {gte: 2}}}
when: {large: {gte: 2}}
message: "{large} large ones."
tests:
  - name: two
    today: 2026-11-23
    opportunities:
      [{amount: 100, created_at: 2026-11-21}, {amount: 900, created_at: 2026-01-01}, {amount: 99, age_days: 9}]
    expect: fires
  - name: one
    today: 2026-11-23
    opportunities: [{amount: 100, created_at: 2026-11-22}, {amount: 900, created_at: 2026-01-01}]
    expect: clear
  - name: given
    today: 2026-11-23
    given: {large: 2}
    expect: fires
"""


def test_a_case_computes_measures_from_the_opportunities_it_gives() -> None:
    """With what follows from their dates on the case's day."""
    rule = read_rule(parse(MEASURED, "r.yaml"), Path("r.yaml"))

    assert [(r.case, r.got) for r in rules.test([rule])] == [
        ("two", "fires"),
        ("one", "clear"),
        ("given", "fires"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{amount: 100, created_at: 2026-11-21}", "{amuont: 100}", "did you mean 'amount'"),
        ("{amount: 100, created_at: 2026-11-21}", "7", "opportunities are a list of maps"),
        ("level: team", "level: opportunity", "an opportunity has no measures"),
    ],
)
def test_opportunities_of_a_case_that_cannot_be_read_are_told(old: str, new: str, said: str) -> None:
    """With the line."""
    with pytest.raises(InputError) as error:
        rules.test([read_rule(parse(MEASURED.replace(old, new), "r.yaml"), Path("r.yaml"))])

    assert said in str(error.value)
    assert "r.yaml:" in str(error.value)
