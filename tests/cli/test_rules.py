"""The workshop's commands: list, lint, test, show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync.config import load
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]

RULE = """\
rule: hygiene.mine
title: A rule of the site
why: It has a reason.
severity: low
applies_to: {is_open: true}
when: {amount: {gt: 5}}
message: "{name} is large."
tests:
  - {name: large fires, today: 2026-11-16, given: {is_open: true, name: A, amount: 9}, expect: fires}
  - {name: small is clear, today: 2026-11-16, given: {is_open: true, name: A, amount: AMOUNT}, expect: clear}
"""


def _own(work: Path, amount: int) -> None:
    (work / "own" / "hygiene").mkdir(parents=True)
    (work / "own" / "hygiene" / "mine.yaml").write_text(RULE.replace("AMOUNT", str(amount)))
    file = work / "pipesync.yaml"
    file.write_text(file.read_text() + "rule_folders: [own]\n")


def test_the_shipped_cases_pass(fresh: Path, pipesync: Run) -> None:
    """Every rule of the preset, and the playbook, carries cases, and all of them come out as they say."""
    told = pipesync("rules", "test", "--format", "json").document

    assert told["failed"] == 0
    listed = pipesync("rules", "list", "--format", "json").document["rules"]
    assert {c["rule"] for c in told["cases"]} == {r["id"] for r in listed} | {"playbook new_business"}


def test_a_rule_of_the_site_is_listed_tested_and_used(fresh: Path, pipesync: Run) -> None:
    """A file below `rule_folders` is a rule like any other."""
    _own(fresh, 1)

    assert "hygiene.mine" in pipesync("rules", "list").out
    assert pipesync("rules", "test", "hygiene.mine").out == "2 cases passed, 0 failed\n"
    checked = pipesync("check", "--data", "exports", "--config", "pipesync.yaml", "--rule", "hygiene.mine",
                       "--format", "json").entry  # fmt: skip
    assert checked["rules"][0]["fired"] > 0


def test_a_case_that_fails_is_named_with_its_place(fresh: Path, pipesync: Run) -> None:
    """The exit code is 1, and the text says where the case is, what it expects and what it got."""
    _own(fresh, 9)

    ran = pipesync("rules", "test", "hygiene.mine")

    assert ran.code == 1
    assert "mine.yaml:10" in ran.out
    assert "1 cases passed, 1 failed" in ran.out


def test_show_prints_the_file_and_what_is_in_force(fresh: Path, pipesync: Run) -> None:
    """A site's parameter takes the place of the default."""
    file = fresh / "pipesync.yaml"
    file.write_text(file.read_text() + "rules:\n  hygiene.stale_commit: {params: {idle_days: 21}}\n")

    shown = pipesync("rules", "show", "hygiene.stale_commit").out

    assert "rule: hygiene.stale_commit" in shown
    assert "idle_days = 21" in shown


def test_lint_reports_for_programs(fresh: Path, pipesync: Run) -> None:
    """JSON has a place for every problem, and the exit code is 2."""
    _own(fresh, 1)
    mine = fresh / "own" / "hygiene" / "mine.yaml"
    mine.write_text(mine.read_text().replace("amount: {gt", "amonut: {gt"))

    ran = pipesync("rules", "lint", "--format", "json")

    assert ran.code == 2
    (problem, *_) = ran.document["problems"]
    assert (problem["line"], problem["file"].endswith("mine.yaml")) == (6, True)


def test_lint_says_all_that_is_wrong_with_a_file_its_cases_included(fresh: Path, pipesync: Run) -> None:
    """One run names every mistake, in the order of the file."""
    _own(fresh, 1)
    mine = fresh / "own" / "hygiene" / "mine.yaml"
    text = mine.read_text().replace("severity: low", "severity: lo").replace("amount: {gt", "amonut: {gt")
    mine.write_text(text.replace("expect: fires", "expect: fire"))

    problems = pipesync("rules", "lint", "--format", "json").document["problems"]

    assert [(p["line"], p["fix"]) for p in problems] == [
        (4, "did you mean 'low'?; allowed: 'info', 'low', 'medium', 'high' or 'critical'"),
        (6, "did you mean 'amount'?"),
        (8, "add a case with `expect: fires`"),
        (9, "did you mean 'fires'?"),
    ]


def test_lint_holds_names_against_the_crm(work: Path, pipesync: Run) -> None:
    """A stage that this CRM does not have is an error; a segment that nobody is in so far is wondered at."""
    _own(work, 1)
    mine = work / "own" / "hygiene" / "mine.yaml"
    mine.write_text(mine.read_text().replace("when: {", "when: {stage: Negotation, segment: enterprize, "))

    ran = pipesync("rules", "lint", "--format", "json")

    assert ran.code == 2
    said = {p["kind"]: (p["message"], p["line"], p["fix"]) for p in ran.document["problems"]}
    assert said["error"] == ("stage is never 'Negotation'", 6, "did you mean 'Negotiate'?")
    assert said["warning"] == ("segment is never 'enterprize'", 6, "did you mean 'enterprise'?")
    assert ran.document["checked_against"] == ["company"]


def test_a_stage_that_the_crm_does_not_have_is_no_silence(work: Path, pipesync: Run) -> None:
    """A rule that names it would be clear of everything; check says so instead, and ends with 4."""
    _own(work, 1)
    mine = work / "own" / "hygiene" / "mine.yaml"
    mine.write_text(mine.read_text().replace("when: {", "when: {stage: Negotation, "))

    ran = pipesync("check", "--format", "json")

    assert ran.code == 4
    assert [(p["line"], p["message"]) for p in ran.document["problems"]] == [
        (6, "stage is never 'Negotation'")
    ]
    assert "hygiene.mine" not in {r["id"] for r in ran.entry["rules"]}


def test_a_suppression_that_silences_nothing_is_a_mistake(work: Path, pipesync: Run) -> None:
    """The rule and the owner that it names are looked up."""
    file = work / "pipesync.yaml"
    told = "{rule: hygiene.stale_comit, owner: nobody, until: 2030-01-01, reason: Legal review}"
    text = file.read_text() + f"suppressions:\n  - {told}\n"
    file.write_text(text)

    problems = pipesync("rules", "lint", "--format", "json").document["problems"]

    line = len(text.splitlines())
    assert [(p["line"], p["message"]) for p in problems] == [
        (line, "no rule 'hygiene.stale_comit'"),
        (line, "no owner 'nobody' in this CRM"),
    ]
    assert problems[0]["fix"] == "did you mean 'hygiene.stale_commit'?"


def test_a_bad_rule_stops_no_good_one_unless_asked(work: Path, pipesync: Run) -> None:
    """check, plan and sync run the others and end with 4; with --strict they stop."""
    _own(work, 1)
    mine = work / "own" / "hygiene" / "mine.yaml"
    mine.write_text(mine.read_text().replace("gt", "gtt"))

    ran = pipesync("check", "--format", "json")

    assert ran.code == 4
    assert ran.entry["findings"]
    assert [p["line"] for p in ran.document["problems"]] == [6]
    assert "did you mean 'gt'" in ran.err
    assert [pipesync(command, "--strict").code for command in ("check", "plan", "sync")] == [2, 2, 2]


def test_show_tells_where_each_value_comes_from(fresh: Path, pipesync: Run) -> None:
    """The site's file with its line, or the rule's own."""
    file = fresh / "pipesync.yaml"
    text = (
        file.read_text()
        + "rules:\n  hygiene.stale_commit:\n    params: {idle_days: 21}\n    severity: critical\n"
    )
    file.write_text(text)
    line = text.splitlines().index("    params: {idle_days: 21}") + 1

    values = pipesync("rules", "show", "hygiene.stale_commit", "--format", "json").document["values"]

    found = {v["key"]: (v["value"], v["origin"]) for v in values}
    assert found["params.idle_days"] == ("21", f"pipesync.yaml:{line}")
    assert found["severity"] == ("critical", f"pipesync.yaml:{line + 1}")
    assert found["where segment is enterprise"][1].startswith("rules/hygiene/stale_commit.yaml:")


def test_explain_recomputes_what_check_found(work: Path, pipesync: Run) -> None:
    """The same message, with every condition's value and whether it holds."""
    found = pipesync("check", "--format", "json").entry["findings"]
    one = next(f for f in found if f["rule"] == "hygiene.single_threaded")

    told = pipesync("rules", "explain", one["rule"], one["opportunity_id"], "--format", "json").entry
    said = pipesync("rules", "explain", one["rule"], told["name"]).out

    assert (told["result"], told["severity"], told["message"]) == ("fires", one["severity"], one["message"])
    leaves = {p["field"]: (p["holds"], p["value"]) for p in told["when"]["parts"]}
    assert leaves["contact_count"] == (True, "1")
    assert "+ contact_count <= 1 ($max_contacts): 1" in said
    assert pipesync("rules", "explain", one["rule"], "nobody").code == 2


def test_a_new_rule_is_whole(fresh: Path, pipesync: Run) -> None:
    """The file passes lint and its own cases, the configuration reads it, the editor's schema lies beside it."""
    answers = "A first look\nIt has a reason.\nlow\nnext_step\nmissing\ntrue\n"

    made = pipesync("rules", "new", "site.first", "--task", "Look", stdin=answers)

    assert made.code == 0
    assert (fresh / "rules" / "schema.json").exists()
    assert pipesync("rules", "lint").code == 0
    assert pipesync("rules", "test", "site.first").out == "4 cases passed, 0 failed\n"
    assert "site.first" in pipesync("rules", "list").out
    again = pipesync("rules", "new", "site.first", stdin=answers)
    assert (again.code, "--force" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--field": "amonut"}, "did you mean 'amount'"),
        ({"--operator": "matches"}, "no operator 'matches'"),
        ({"--value": "much"}, "'much' is not a number"),
        ({"--field": "phase", "--operator": "eq", "--value": "lat"}, "did you mean 'late'"),
        ({"id": "Large ones"}, "is no rule's id"),
    ],
)
def test_new_says_what_it_cannot_write(change: dict[str, str], said: str, fresh: Path, pipesync: Run) -> None:
    """And writes nothing."""
    given = {
        "--title": "T",
        "--why": "W",
        "--severity": "low",
        "--field": "amount",
        "--operator": "gt",
        "--value": "5",
    }
    rule = change.pop("id", "site.any")
    words = [w for pair in {**given, **change}.items() for w in pair]

    made = pipesync("rules", "new", rule, *words)

    assert (made.code, said in made.err) == (2, True)
    assert not (fresh / "rules").exists()


def test_an_ejected_rule_takes_the_place_of_the_shipped_one(fresh: Path, pipesync: Run) -> None:
    """It is the site's from then on, and `test` runs its cases as the file has them, whatever the site tunes."""
    file = fresh / "pipesync.yaml"
    file.write_text(file.read_text() + "rules:\n  hygiene.stale_commit: {params: {idle_days: 30}}\n")
    assert pipesync("rules", "test", "hygiene.stale_commit").code == 0

    assert pipesync("rules", "eject", "hygiene.stale_commit").code == 0

    listed = pipesync("rules", "list", "--format", "json").document["rules"]
    assert {r["id"]: r["source"] for r in listed}["hygiene.stale_commit"] == "rules"
    assert pipesync("rules", "test", "hygiene.stale_commit").code == 0
    assert pipesync("rules", "eject", "hygiene.stale_commti").code == 2


def test_diff_tells_what_an_edit_would_do(work: Path, pipesync: Run) -> None:
    """What opens, closes and changes, with the values that differ; nothing differs from itself."""
    old = (work / "pipesync.yaml").read_text()
    (work / "new.yaml").write_text(
        old + "rules:\n  hygiene.no_activity: {severity: critical, params: {idle_days: 3}}\n"
        "  hygiene.close_date_past: off\n"
    )

    told = pipesync("rules", "diff", "pipesync.yaml", "new.yaml", "--format", "json").entry
    same = pipesync("rules", "diff", "pipesync.yaml", "pipesync.yaml")
    comment = pipesync("rules", "diff", "pipesync.yaml", "new.yaml", "--format", "markdown").out

    rules = {r["id"]: r for r in told["rules"]}
    assert rules["hygiene.close_date_past"]["edit"] == "removed"
    assert rules["hygiene.close_date_past"]["closes"] == rules["hygiene.close_date_past"]["before"] > 0
    assert "params.idle_days: 14 -> 3" in rules["hygiene.no_activity"]["values"]
    assert rules["hygiene.no_activity"]["opens"] > 0
    fates = [f["fate"] for f in told["findings"] if f["rule"] == "hygiene.no_activity"]
    assert fates.count("opens") == rules["hygiene.no_activity"]["opens"]
    assert "nothing opens, closes or changes" in same.out
    assert "| `hygiene.close_date_past` |" in comment
    names = {f["message"] for f in told["findings"]}
    assert not any(name in comment for name in names)


def test_backtest_says_what_it_cannot_know(work: Path, pipesync: Run) -> None:
    """A field without a past is named; a rule with one has its numbers."""
    told = pipesync("rules", "backtest", "hygiene.close_date_past", "hygiene.no_next_activity", "--since", "3w",
                    "--format", "json").entry  # fmt: skip

    rules = {r["id"]: r for r in told["rules"]}
    assert told["weeks"] == 3
    assert rules["hygiene.no_next_activity"]["blame"] == ["next_activity_at"]
    assert rules["hygiene.no_next_activity"]["unknown"] > 0
    assert rules["hygiene.close_date_past"]["fired"] > 0
    assert rules["hygiene.close_date_past"]["unknown"] == 0
    assert pipesync("rules", "backtest", "--since", "3d").code == 2


def test_pages_are_written_of_what_runs_here(fresh: Path, pipesync: Run) -> None:
    """One per rule, with the site's values."""
    file = fresh / "pipesync.yaml"
    file.write_text(file.read_text() + "rules:\n  hygiene.stale_commit: {params: {idle_days: 30}}\n")

    assert pipesync("rules", "docs", "--out", "pages").code == 0

    assert (
        "| `idle_days` | 30 business days | 10 |" in (fresh / "pages" / "hygiene.stale_commit.md").read_text()
    )
    assert "(hygiene.stale_commit.md)" in (fresh / "pages" / "README.md").read_text()


def test_mutants_show_which_boundary_no_case_stands_on(fresh: Path, pipesync: Run) -> None:
    """A rule's author learns what the cases do not notice; what they notice enough of is fine."""
    _own(fresh, 1)

    lax = pipesync("rules", "test", "hygiene.mine", "--mutants")
    strict = pipesync("rules", "test", "hygiene.close_date_pushed", "--mutants", "--format", "json")

    assert lax.code == 1
    assert "not noticed: hygiene.mine: when.amount: gt -> gte" in lax.out
    assert (strict.code, strict.document["mutants"]["survivors"]) == (0, [])


CLOSING = """\
rule: site.closing
title: Closes in this quarter
why: It is near.
severity: low
applies_to: {is_open: true}
when: {closes_this_quarter: true}
message: "{name} closes in this quarter."
tests:
  - {name: fires, given: {is_open: true, name: A, closes_this_quarter: true}, expect: fires}
  - {name: clear, given: {is_open: true, name: A, closes_this_quarter: false}, expect: clear}
"""
DUE = "SELECT id FROM opportunities WHERE NOT is_closed AND close_date >= ? AND close_date < ? ORDER BY id"


def test_rules_are_judged_in_the_fiscal_year_that_the_crm_tells(fresh: Path, pipesync: Run) -> None:
    """Whatever judges does as `sync` does, where the configuration says nothing."""
    (fresh / "own" / "site").mkdir(parents=True)
    (fresh / "own" / "site" / "closing.yaml").write_text(CLOSING)
    file = fresh / "pipesync.yaml"
    before = file.read_text()
    file.write_text(before + "rule_folders: [own]\n")
    (fresh / "before.yaml").write_text(before)
    pipesync("pull")
    backtest = ("rules", "backtest", "site.closing", "--since", "4w", "--format", "json")
    civil = pipesync(*backtest).entry
    with Warehouse(published(load(file).warehouse)) as warehouse:
        warehouse.execute("UPDATE connections SET fiscal_year_starts = 2")
        due = [i for (i,) in warehouse.rows(DUE, [date(2026, 11, 1), date(2027, 2, 1)])]
        [(later,)] = warehouse.rows(f"SELECT min(id) FROM ({DUE})", [date(2027, 1, 1), date(2027, 2, 1)])

    found = pipesync("check", "--rule", "site.closing", "--format", "json").entry["findings"]
    assert sorted(f["subject_id"] for f in found) == due
    told = pipesync("rules", "explain", "site.closing", later, "--format", "json").entry
    assert told["result"] == "fires"
    (edit,) = pipesync("rules", "diff", "before.yaml", "pipesync.yaml", "--format", "json").entry["rules"]
    assert edit["opens"] == len(due)
    assert pipesync(*backtest).entry != civil
