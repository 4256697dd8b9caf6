"""Parameters that are learnt from the company's own wins, until a site says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipesync import rules
from pipesync.config import Calendar, Config, ConnectionConfig, RuleSetting
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.rules import load
from pipesync.rules.evaluate import judge
from pipesync.rules.format import read_rule
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

Build = Callable[..., Warehouse]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
RULE = """\
rule: site.old
title: Old
why: Because.
severity: low
params:
  age: {default: 30, unit: days, learnt: {field: cycle_p50}}
when: {age_days: {gt: $age}}
message: Old.
tests:
  - {today: 2026-11-23, given: {age_days: 31}, expect: fires}
  - {today: 2026-11-23, given: {age_days: 30}, expect: clear}
"""


def configured(**settings: RuleSetting) -> Config:
    return Config(
        extends=(),
        rules={"hygiene.close_date_too_far": RuleSetting(), **settings},
        connections={"crm": ConnectionConfig(adapter="files")},
    )


def evaluated(build: Build, config: Config, *, wins: int) -> list[tuple[str, str | None, str]]:
    """Return the evidence of the one finding on an opportunity that is to close 200 days from now."""
    made = [
        {"id": f"w{i}", "is_closed": True, "is_won": True, "created_at": NOW - timedelta(days=91),
         "closed_at": NOW - timedelta(days=1)}
        for i in range(wins)
    ]  # fmt: skip
    far = {"id": "o", "created_at": NOW - timedelta(days=1), "close_date": (NOW + timedelta(days=200)).date()}
    warehouse = build(opportunities=[far, *made])
    features = compute(warehouse, "crm", NOW, Calendar())
    found = rules.evaluate(warehouse, features, load(config)).findings
    return [(e.field, e.value, e.test) for f in found for e in f.evidence]


def test_twenty_wins_take_the_defaults_place_and_the_evidence_says_how_many(build: Build) -> None:
    """Twice 90 days instead of a year."""
    assert evaluated(build, configured(), wins=20) == [("days_to_close", "200", "gt 180 (learnt from 20)")]


def test_with_fewer_wins_the_default_stands(build: Build) -> None:
    """200 days are less than a year."""
    assert evaluated(build, configured(), wins=19) == []


def test_what_a_site_sets_is_not_learnt(build: Build) -> None:
    """Whatever the wins say."""
    for days, expected in ((199, [("days_to_close", "200", "gt 199")]), (200, [])):
        config = configured(**{"hygiene.close_date_too_far": RuleSetting(params={"days": days})})

        assert evaluated(build, config, wins=20) == expected


def test_where_wins_cannot_be_known_the_default_stands(build: Build) -> None:
    """An unknown column makes no rule unknown by what would have been learnt from it."""
    rule = read_rule(parse(RULE.replace("age_days", "days_in_stage"), "r.yaml"), Path("r.yaml"))
    warehouse = Warehouse()
    warehouse.execute("CREATE TEMP TABLE features AS SELECT 'o' AS id, 31.0 AS days_in_stage")

    judge(warehouse, [rule], "features", frozenset({"cycle_p50"}))

    assert warehouse.rows("SELECT v0 FROM judged") == [(True,)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cycle_p50", "cycle_p55", "did you mean 'cycle_p50'"),
        ("cycle_p50", "created_at", "age cannot be learnt from created_at (moment)"),
        ("cycle_p50", "days_in_stage", "days_in_stage is not learnt from the past"),
        ("cycle_p50", "won_amount_p95", "age is in days, won_amount_p95 in home currency"),
        ("{field: cycle_p50}", "{field: cycle_p50, times: 0}", "greater than 0"),
        ("{field: cycle_p50}", "{feild: cycle_p50}", "feild"),
    ],
)
def test_what_cannot_be_learnt_is_refused(old: str, new: str, said: str) -> None:
    """With the line."""
    with pytest.raises(InputError) as error:
        read_rule(parse(RULE.replace(old, new), "r.yaml"), Path("r.yaml"))

    assert said in str(error.value)
    assert "r.yaml:6" in str(error.value)
