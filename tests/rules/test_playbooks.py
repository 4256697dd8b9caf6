"""Playbooks: read with their mistakes named, their cases run, and an opportunity's next step found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipesync import features, rules
from pipesync._paths import shipped
from pipesync.config import Calendar, from_text
from pipesync.rules.playbooks import advise, read_playbooks, run_cases, usual

if TYPE_CHECKING:
    from tests.conftest import Build

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
SHIPPED = shipped("rules")
GOOD = """\
playbook: partner
title: Through a partner
pipelines: [Partner]
phases:
  middle:
    milestones:
      - {title: "Meet the partner's seller", when: {next_activity_at: {missing: false}}}
    obstacles: ["The partner sells something else this week."]
    content: [{title: "Partner kit for {name}", link: "https://example.com/kit", for: "the partner"}]
    follow_up: {subject: "About {name}", body: "Shall we call them together?"}
tests:
  - {name: nothing booked, today: 2026-11-23, phase: middle, expect: {open: ["Meet the partner's seller"]}}
  - {name: booked, today: 2026-11-23, phase: middle, given: {next_activity_at: 2026-12-01}, expect: {}}
"""


def site(folder: Path, text: str = GOOD, name: str = "partner") -> Path:
    (folder / "playbooks").mkdir(parents=True)
    (folder / "playbooks" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_every_shipped_case_passes() -> None:
    """What ships is whole: no problem in reading it, and its cases come out as they say."""
    books, problems = read_playbooks([SHIPPED])

    assert problems == []
    assert [r for r in run_cases(books.values()) if not r.passed] == []
    assert {phase for book in books.values() for phase in book.phases} == {"early", "middle", "late"}


def test_a_case_that_is_wrong_fails(tmp_path: Path) -> None:
    """The result names the case, what it expects and what came."""
    text = GOOD.replace("given: {next_activity_at: 2026-12-01}, ", "given: {next_activity_at: null}, ")

    books, problems = read_playbooks([site(tmp_path, text)])
    [failed] = [r for r in run_cases(books.values()) if not r.passed]

    assert problems == []
    assert (failed.case, failed.expected, failed.got) == (
        "booked", "open: nothing", "open: Meet the partner's seller",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{next_activity_at: {missing: false}}", "{next_actvity_at: {missing: false}}", "next_activity_at"),
        ("{name}\", link", "{nmae}\", link", "unknown field 'nmae'"),
        ("https://example.com/kit", "ftp://example.com/kit", "link"),
        ("  - {name: booked", "  - {name: booked, colour: red", "colour"),
        ("expect: {open: [\"Meet the partner's seller\"]}", "expect: {open: [\"Meet the partner\"]}", "no milestone"),
        ("phase: middle, given", "phase: late, given", "no phase 'late'"),
        ("playbook: partner", "playbook: partners", "its file 'partner'"),
        ("title: Through a partner", "titel: Through a partner", "titel"),
    ],
    ids=["field", "slot", "link", "key of a case", "milestone", "phase", "name", "key"],
)  # fmt: skip
def test_a_wrong_playbook_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    """File, line and the mend; the other playbooks are read all the same."""
    assert old in GOOD

    books, problems = read_playbooks([SHIPPED, site(tmp_path, GOOD.replace(old, new))])

    assert "new_business" in books
    assert any(said in str(p) for p in problems)
    assert all(p.place and p.place.file.endswith("partner.yaml") and p.place.line for p in problems)


def test_a_milestone_without_both_cases_is_named(tmp_path: Path) -> None:
    """As with rules: a condition that no case saw true, or false, is not tested."""
    text = GOOD.replace(
        "given: {next_activity_at: 2026-12-01}, expect: {}", 'expect: {open: ["Meet the partner\'s seller"]}'
    )

    _, problems = read_playbooks([site(tmp_path, text)])

    assert ["reached" in p.message for p in problems] == [True]


def test_a_rule_asks_for_a_playbook_that_is_there(tmp_path: Path) -> None:
    """A mistyped name is an error of the rule."""
    folder = tmp_path / "own"
    (folder / "hygiene").mkdir(parents=True)
    text = (SHIPPED / "hygiene" / "no_next_step.yaml").read_text(encoding="utf-8")
    (folder / "hygiene" / "no_next_step.yaml").write_text(
        text.replace("priority: low}", "priority: low, playbook: new_busines}"), encoding="utf-8"
    )

    loaded = rules.load(from_text("connections: {c: {adapter: files}}\nrule_folders: [own]\n", tmp_path))

    assert ["new_business" in p.fix for p in loaded.problems] == [True]


def opportunity(**more: Any) -> dict[str, Any]:  # Any: columns' values
    return {
        "id": "006A", "name": "Acme", "owner_id": "rep", "pipeline": "Sales", "stage": "Offer", "amount": Decimal(10),
        "created_at": NOW - timedelta(days=30), "is_closed": False, "is_won": False, **more,
    }  # fmt: skip


STAGES = [
    {"id": f"{p}{n}", "name": n, "pipeline": p, "order": i, "phase": phase, "is_active": True}
    for p in ("Sales", "Partner")
    for i, (n, phase) in enumerate((("Talk", "early"), ("Offer", "middle"), ("Sign", "late")), start=1)
]


def test_where_an_opportunity_stands(build: Build, tmp_path: Path) -> None:
    """The open milestones of its phase, in their order, in every playbook that has the phase."""
    rows = [opportunity(), opportunity(id="006B", stage="Sign"), opportunity(id="006C", is_closed=True)]
    roles = [{"opportunity_id": "006A", "contact_id": c} for c in ("1", "2")]
    warehouse = build(opportunities=rows, stages=STAGES, contact_roles=roles, activities=[])
    computed = features.compute(warehouse, "crm", NOW, Calendar())
    books, _ = read_playbooks([SHIPPED, site(tmp_path)])

    found = advise(warehouse, computed, books, ["006A", "006B", "006C"])

    assert {i: {name for name, told in of.items() if told.steps} for i, of in found.items()} == {
        "006A": {"partner"},
        "006B": {"new_business"},
        "006C": set(),
    }
    assert found["006A"]["new_business"].steps == ()
    assert found["006A"]["partner"].steps == ("Meet the partner's seller",)
    assert found["006B"]["new_business"].steps[0] == "Agree the steps to signature, with dates"
    assert found["006A"]["partner"].values["name"] == "Acme"


def test_what_cannot_be_judged_is_no_step(build: Build) -> None:
    """Where contacts cannot be read, nobody is asked to bring in a second one."""
    warehouse = build(
        opportunities=[opportunity(amount=None)], stages=STAGES, activities=[],
        unmapped=("opportunities.contact_count",),
    )  # fmt: skip
    computed = features.compute(warehouse, "crm", NOW, Calendar())
    books, _ = read_playbooks([SHIPPED])

    [told] = advise(warehouse, computed, books, ["006A"]).values()

    assert told["new_business"].steps == ("Put an amount on it that the customer has seen",)


@pytest.mark.parametrize(
    ("pipeline", "expected"), [("Partner", "partner"), ("Sales", "new_business"), (None, "new_business")]
)
def test_a_pipeline_has_its_own_or_the_usual_one(tmp_path: Path, pipeline: str | None, expected: str) -> None:
    """The one that names it, else the one for any."""
    books, _ = read_playbooks([SHIPPED, site(tmp_path)])

    assert usual(books, pipeline) == expected
    assert usual({}, pipeline) is None
