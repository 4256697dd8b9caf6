"""Scores: ten points an opportunity, weighted by amount, with what takes them and how that changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipesync import rules
from pipesync.config import Calendar
from pipesync.features import compute
from pipesync.model import Finding, StandingFinding
from pipesync.rules.scores import Scope, Score, scores
from pipesync.store.warehouse import Warehouse

Build = Callable[..., Warehouse]
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAYS = timedelta(days=1)
BASE = {"created_at": NOW - 90 * DAYS, "is_closed": False}
ROWS = [
    {"id": "a", "name": "A", "owner_id": "u1", "amount": 300, **BASE},
    {"id": "b", "name": "B", "owner_id": "u1", "amount": 100, **BASE},
    {"id": "c", "name": "C", "owner_id": "u2", "amount": 600, **BASE},
]
USERS = [{"id": "u1", "name": "Ann", "team": "north"}, {"id": "u2", "name": "Bob", "team": "north"}]


def finding(subject: str, severity: str, rule: str = "r.one") -> Finding:
    given = {"connection": "crm", "rule": rule, "subject_id": subject, "severity": severity, "message": "m"}
    return Finding.model_validate({**given, "first_seen": NOW})


def episode(subject: str, severity: str, ended: datetime | None, rule: str = "r.one") -> StandingFinding:
    known = {n: v for n, v in finding(subject, severity, rule) if n in StandingFinding.model_fields}
    more = {"first_seen": NOW - 60 * DAYS, "last_seen": NOW, "resolved_at": ended}
    return StandingFinding.model_validate({**known, **more})


def told(build: Build, by: Scope, *found: Finding, episodes: tuple[StandingFinding, ...] = ()) -> list[Score]:
    warehouse = build(opportunities=ROWS, users=USERS)
    compute(warehouse, "crm", NOW, Calendar())
    return scores(warehouse, found, episodes, NOW, by)


def test_findings_take_points_by_severity_and_amount(build: Build) -> None:
    """Six of ten on 300 of 400 leave 55; nothing takes an opportunity below zero."""
    owners = told(build, "owner", finding("a", "high"))
    each = told(build, "opportunity", finding("a", "critical"), finding("a", "high", "r.two"))

    assert [(s.id, s.name, s.score, s.open, s.amount) for s in owners] == [
        ("u1", "Ann", 55.0, 2, 400.0),
        ("u2", "Bob", 100.0, 1, 600.0),
    ]
    assert [(s.id, s.score) for s in each] == [("a", 0.0), ("c", 100.0), ("b", 100.0)]


def test_the_line_says_what_takes_most_and_how_it_changed(build: Build) -> None:
    """Of a team and of the company as of a rep."""
    past = (episode("c", "high", NOW - 5 * DAYS), episode("a", "low", None, "r.two"))
    [team] = told(build, "team", finding("a", "high"), finding("a", "low", "r.two"), episodes=past)
    [company] = told(build, "company", finding("a", "high"), episodes=())

    # Now 7 of 10 on 300 of 1,000; then 6 of 10 on 600 and 1 of 10 on 300.
    assert (team.score, team.before) == (79.0, 61.0)
    assert team.says == "79 of 100, up 18 in 28 days: r.one takes 18.0, r.two takes 3.0"
    assert (company.score, company.before) == (82.0, None)
    assert company.says == "82 of 100: r.one takes 18.0"


def test_the_company_has_the_score_that_check_tells(pulled_company: Warehouse) -> None:
    """What the rules take adds up to what is missing of a hundred."""
    as_of = pulled_company.pulled_to("crm")
    features = compute(pulled_company, "crm", as_of, Calendar())
    found = rules.evaluate(pulled_company, features, rules.load())

    [company] = scores(pulled_company, found.findings, (), as_of, "company")

    assert company.score == found.score
    assert abs(sum(points for _, points in company.costs) - (100 - company.score)) < 0.2
