"""What is wrong with a rule file, a preset or a site's settings is said with its place and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipesync.config import Config, from_text
from pipesync.errors import InputError
from pipesync.rules import load
from pipesync.rules.format import read_rule
from pipesync.yamlsource import parse

GOOD = """\
rule: hygiene.example
title: An example
why: Because.
severity: low
applies_to: {is_open: true}
params:
  days: {default: 10, min: 1, max: 90, unit: days}
when:
  all:
    - days_in_stage: {gte: $days}
    - not: {next_activity_at: {within_next: 7d}}
    - phase: {in: [early, late]}
message: "{name} since {stage_entered_at:date}"
task: {subject: "Move {name}", due: 2 business days}
tests:
  - {name: fires, today: 2026-11-23, given: {is_open: true, days_in_stage: 10, phase: early}, expect: fires}
  - {name: clear, today: 2026-11-23, given: {is_open: true, days_in_stage: 9, phase: early}, expect: clear}
"""
MISTAKES = [
    ("severity: low", "severity: lo", 4, "allowed: 'info', 'low'"),
    ("severity:", "severty:", 4, "did you mean 'severity'"),
    ("title: An example\n", "", 0, "key 'title' is missing"),
    ("days_in_stage:", "days_in_stag:", 10, "did you mean 'days_in_stage'"),
    ("{gte: $days}", "{gt_e: $days}", 10, "did you mean 'gte'"),
    ("{gte: $days}", "{gte: $day}", 10, "did you mean 'days'"),
    ("{gte: $days}", "{gte: ten}", 10, "expected a number, not 'ten'"),
    ("{gte: $days}", "{within_next: 7d}", 10, "(days) has no operator 'within_next'"),
    ("{gte: $days}", "{gt: {field: stage_dwell_p99}}", 10, "did you mean 'stage_dwell_p90'"),
    ("{gte: $days}", "{gt: {field: name}}", 10, "cannot be compared with name (text)"),
    ("{gte: $days}", "{gt: {field: stage_dwell_p90, time: 2}}", 10, "did you mean 'times'"),
    ("within_next: 7d", "within_next: 7 moons", 11, "'7 moons' is not a duration"),
    ("[early, late]", "[early, lat]", 12, "did you mean 'late'"),
    ("[early, late]", "[early, $days]", 12, "$days is a number, expected a text"),
    ("{gte: $days}", "{between: $days}", 10, "between takes a list of two values"),
    (
        "unit: days}\nwhen:\n  all:\n",
        "}\nwhen:\n  all:\n    - next_activity_at: {within_next: $days}\n",
        10,
        "give it a `unit`",
    ),
    (
        "days_in_stage: {gte",
        "business_days_in_stage: {gte",
        10,
        "$days is in days, business_days_in_stage in business days",
    ),
    ("unit: days", "unit: dais", 7, "did you mean 'days'"),
    ("{gte: $days}", "{changed_within: 7d}", 10, "(days) has no operator 'changed_within'"),
    ("severity: low", "severity: low\nmin_n: 3", 5, "an opportunity is always one"),
    ("default: 10, min: 1, max: 90, unit: days", "default: 7d", 10, "$days is a duration, expected a number"),
    ("phase: {in: [early, late]}", "name: {matches: '^(?=x)x'}", 12, "is not a pattern"),
    ("[early, late]", "[]", 12, "in takes a list of values"),
    ("  all:\n", "  al:\n", 9, "did you mean 'all'"),
    ("default: 10", "default: 100", 7, "days: 100 is outside of 1 to 90"),
    ("{name} since", "{nam} since", 13, "did you mean 'name'"),
    (":date}", ":dat}", 13, "did you mean 'date'"),
    ("{name} since", "{name since", 13, "not closed"),
    ("2 business days", "2 days", 14, "write it like '3 business days'"),
    ("severity: low", "severity: low\nfor: 2 rnus", 5, "write it like '2 runs'"),
    ("severity: low", "severity: low\nresolve: {after: soon}", 5, "write it like '2 clean runs'"),
    ("is_open: true}\nparams", "is_open: yes}\nparams", 5, "expected true or false, not 'yes'"),
    ("why: Because.", "why: Because.\nwhy: Again.", 4, "given twice"),
    ("why: Because.", "\twhy: Because.", 3, "tabs"),
    ("rule: hygiene.example", "rule: Hygiene Example", 1, "write it like 'site.large_and_quiet'"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"), MISTAKES, ids=[m[1].strip() or m[0].strip() for m in MISTAKES]
)
def test_one_mistake_is_found_at_its_line_with_the_mend(old: str, new: str, line: int, said: str) -> None:
    """The good file is read; with one mistake in it, the place and what to do are said."""
    read_rule(parse(GOOD, "r.yaml"), Path("r.yaml"))

    with pytest.raises(InputError) as error:
        read_rule(parse(GOOD.replace(old, new, 1), "r.yaml"), Path("r.yaml"))

    assert said in str(error.value)
    places = [p.place.line for p in error.value.problems if p.place]
    assert line == 0 or line in places


def test_all_mistakes_of_a_file_are_said_at_once() -> None:
    """Not only the first."""
    text = GOOD.replace("severity: low", "severity: lo").replace("days_in_stage:", "days_in_stag:")
    text = text.replace("[early, late]", "[early, lat]")

    with pytest.raises(InputError) as error:
        read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    assert len(error.value.problems) == 3


def site(tmp_path: Path, text: str) -> Config:
    return from_text(f"version: 1\nconnections: {{crm: {{adapter: files, data: x}}}}\n{text}", tmp_path)


def test_a_rule_file_must_be_called_as_its_rule(tmp_path: Path) -> None:
    """A rule is found by its id."""
    (tmp_path / "own" / "hygiene").mkdir(parents=True)
    (tmp_path / "own" / "hygiene" / "other.yaml").write_text(GOOD)

    ruleset = load(site(tmp_path, "rule_folders: [own]"))

    assert "hygiene.example" not in ruleset.rules
    assert "make them equal" in str(ruleset.problems[0])


def test_a_bad_rule_stops_no_good_one_unless_asked(tmp_path: Path) -> None:
    """It is named; `strict` makes an error of it."""
    (tmp_path / "own" / "hygiene").mkdir(parents=True)
    (tmp_path / "own" / "hygiene" / "example.yaml").write_text(GOOD.replace("gte", "gtt"))
    config = site(tmp_path, "rule_folders: [own]")

    ruleset = load(config)

    assert len(ruleset) == 14
    assert "example.yaml:10" in str(ruleset.problems[0])
    with pytest.raises(InputError):
        load(config, strict=True)


def test_a_site_switches_off_regrades_and_tunes(tmp_path: Path) -> None:
    """And copies nothing."""
    ruleset = load(
        site(
            tmp_path,
            "rules:\n  hygiene.no_next_step: off\n"
            "  hygiene.no_activity: {severity: critical, params: {idle_days: 21}}\n",
        )
    )

    assert "hygiene.no_next_step" not in ruleset.rules
    assert ruleset["hygiene.no_activity"].severity == "critical"
    assert ruleset["hygiene.no_activity"].params["idle_days"] == 21


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {hygiene.no_activty: off}", "did you mean 'hygiene.no_activity'"),
        ("rules: {hygiene.no_activity: {params: {idle_days: 999}}}", "outside of 1 to 120"),
        ("rules: {hygiene.no_activity: {params: {idle_day: 9}}}", "did you mean 'idle_days'"),
        ("extends: ['pipesync:recomended']", "did you mean 'pipesync:recommended'"),
        ("rule_folders: [nowhere]", "no such folder of rules"),
        ("rule_folders: [own]", "supersedes 'hygiene.no_activty'"),
    ],
)
def test_a_sites_mistakes_are_said(tmp_path: Path, text: str, said: str) -> None:
    """With the nearest name, or the limits."""
    (tmp_path / "own" / "hygiene").mkdir(parents=True)
    own = GOOD.replace("task:", "supersedes: [hygiene.no_activty]\ntask:")
    (tmp_path / "own" / "hygiene" / "example.yaml").write_text(own)

    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        load(site(tmp_path, text), strict=True)


def test_presets_hold_what_they_say() -> None:
    """Twelve opportunity rules and two on stages are recommended."""
    ruleset = load()

    assert sum(r.level == "opportunity" for r in ruleset) == 12
    assert sum(r.level == "stage" for r in ruleset) == 2


@pytest.mark.parametrize(
    ("wrote", "mend"),
    [
        ('amount: {">=": 20000}', "write `gte`"),
        ("{all: [amount >= 20000]}", "write `amount: {gte: 20000}`"),
        ("{or: [{amount: 1}, {amount: 2}]}", "write `any`"),
        ("amount: {gte: 20k}", "write 20000"),
        ('amount: {gte: "EUR 20,500"}', "write 20500"),
        ("is_open: yes", "write true"),
        ("stage: {eq: [Propose, Close]}", "write `in: [...]`, one of them"),
        ("age_days: {older_than: 14d}", "it is a number: write `gt`"),
    ],
)
def test_what_people_write_by_habit_is_answered_with_what_is_meant(wrote: str, mend: str) -> None:
    """Signs of SQL and spreadsheets, words of other tools, numbers as people write them."""
    text = (
        "rule: site.example\ntitle: T\nwhy: W\nseverity: low\nwhen: "
        + (wrote if wrote.startswith("{") else f"{{{wrote}}}")
        + "\nmessage: M\ntests: [{}]\n"
    )

    with pytest.raises(InputError) as caught:
        read_rule(parse(text, "r.yaml"), Path("r.yaml"))

    assert [(p.place.line if p.place else 0, p.fix) for p in caught.value.problems] == [(5, mend)]
