"""A rule made of answers is whole: whatever is asked, its cases stand on both sides of the boundary."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from pipesync import rules
from pipesync.features.columns import COLUMNS
from pipesync.rules.authoring import Answers, offered, write_rule
from pipesync.rules.format import Rule, read_rule
from pipesync.yamlsource import parse

TODAY = date(2026, 11, 26)
VALUES = {
    "money": "1000.5", "number": "0.5", "integer": "3", "days": "10", "date": "2027-01-01", "moment": "today",
    "flag": "false", "text": 'te"st', "category": "New",
}  # fmt: skip


def made(field: str, operator: str, value: str) -> Rule:
    answers = Answers("site.any", 'Any {thing}: "x"', "Because.", "low", field, operator, value, "Look")
    text = write_rule(answers, TODAY)
    return read_rule(parse(text, f"{field} {operator} {value}"), Path("any.yaml"))


def test_every_operator_of_every_kind_has_cases_that_pass() -> None:
    """One field of each kind, and one with values of ours."""
    one_each = {c.kind: c for c in COLUMNS.values() if c.name not in ("id", "custom") and not c.values}
    written = []
    for column in (*one_each.values(), COLUMNS["phase"]):
        for operator in offered(column):
            value = "late" if column.name == "phase" else VALUES[column.kind]
            timed = operator in ("within_next", "within_last", "older_than")
            written.append(
                made(column.name, operator, "14d" if timed else "true" if operator == "missing" else value)
            )

    results = rules.test(written)

    assert len(written) > 50
    assert len(results) == 4 * len(written)
    assert [f"{r.place}: {r.case}: {r.got}, not {r.expected}" for r in results if not r.passed] == []
