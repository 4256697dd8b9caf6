"""A rule's own cases: rows of fields with what the rule must say of them, run on a real database.

A field that a case leaves out is blank; `unknown: [field]` makes it unreadable. Counts of days follow from the dates
that are given and from the case's `today`. A timeline runs one row through several days, with the life cycle of its
finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import pyarrow as pa

from pipesync.config import Calendar
from pipesync.errors import InputError, Place, Problem
from pipesync.features import Features, set_moment
from pipesync.features.columns import Column
from pipesync.model import SEVERITIES, StandingFinding
from pipesync.rules.conditions import NUMERIC
from pipesync.rules.evaluate import evaluate, judge
from pipesync.rules.format import Rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.lifecycle import advance
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import nearest

RESULTS = ("fires", "clear", "unknown", "out_of_scope")
_LIVES = (*RESULTS, "pending", "resolved")
_KEYS = ("name", "today", "given", "unknown", "expect", "timeline")
_DERIVED = {
    "is_closed": "NOT is_open",
    "age_days": "days_since(created_at)",
    "business_age_days": "business_days_since(local_date(created_at))",
    "days_in_stage": "days_since(stage_entered_at)",
    "business_days_in_stage": "business_days_since(local_date(stage_entered_at))",
    "days_since_last_activity": "days_since(last_activity_at)",
    "business_days_since_last_activity": "business_days_since(local_date(last_activity_at))",
    "days_to_close": "date_diff('day', getvariable('today'), close_date)",
    "days_past_due": "greatest(date_diff('day', close_date, getvariable('today')), 0)",
    "close_is_business_day": "is_business_day(close_date)",
    "closes_this_quarter": "quarter_of(close_date) = quarter_of(getvariable('today'))",
    "days_since_closed": "days_since(closed_at)",
}
"""Columns that follow from others, as in features.sql."""
_ARROW = {
    "text": pa.string(), "category": pa.string(), "money": pa.decimal128(18, 2), "number": pa.float64(),
    "integer": pa.int64(), "days": pa.float64(), "date": pa.date32(), "moment": pa.timestamp("us"), "flag": pa.bool_(),
}  # fmt: skip
_CONNECTION = "case"


@dataclass(frozen=True)
class Step:
    """On a day, with these fields changed, the rule is to say this."""

    today: date
    values: Mapping[str, Any]  # Any: as YAML has them
    result: str
    severity: str | None = None


@dataclass(frozen=True)
class Case:
    name: str
    given: Mapping[str, Any]  # Any: as YAML has them
    unknown: frozenset[str]
    steps: tuple[Step, ...]
    is_timeline: bool
    place: Place


@dataclass(frozen=True)
class CaseResult:
    """Whether a case came out as it says; `got` in the words of the case."""

    rule: str
    case: str
    expected: str
    got: str
    place: Place

    @property
    def passed(self) -> bool:
        return self.expected == self.got


# --- Reading --------------------------------------------------------------------------------------------------------


def read_cases(rule: Rule) -> list[Case]:
    """Read a rule's cases; InputError with all that is wrong with them, and where one that fires or is clear lacks."""
    problems: list[Problem] = []
    cases = [_case(rule, i, text, problems) for i, text in enumerate(rule.document.data["tests"])]
    results = {s.result for c in cases for s in c.steps}
    for wanted in ("fires", "clear"):
        if wanted not in results and not (wanted == "clear" and results & {"resolved", "out_of_scope"}):
            fix = f"add a case with `expect: {wanted}`"
            problems.append(rule.document.problem(("tests",), f"no case is {wanted}", fix=fix, key=True))
    if problems:
        raise InputError(*problems)
    return cases


def _case(rule: Rule, i: int, text: Any, problems: list[Problem]) -> Case:  # Any: YAML
    at: tuple[str | int, ...] = ("tests", i)
    document = rule.document
    text = text if isinstance(text, Mapping) else {}
    for key in text:
        if key not in _KEYS:
            problems.append(
                document.problem((*at, key), f"unknown key {key!r}", fix=nearest(key, _KEYS), key=True)
            )
    columns = LEVELS[rule.level]
    given = text.get("given") or {}
    _check_values(rule, given, (*at, "given"), columns, problems)
    unknown = text.get("unknown") or []
    for name in unknown:
        if name not in columns:
            problems.append(
                document.problem((*at, "unknown"), f"unknown field {name!r}", fix=nearest(name, columns))
            )
    timeline = text.get("timeline")
    if timeline is not None:
        steps = tuple(
            _step(rule, s, (*at, "timeline", k), s.get("set") or {}, _LIVES, problems)
            for k, s in enumerate(timeline)
        )
    else:
        steps = (_step(rule, text, at, {}, RESULTS, problems),)
    name = str(text.get("name", f"case {i + 1}"))
    return Case(name, given, frozenset(unknown), steps, timeline is not None, document.place(at))


def _check_values(
    rule: Rule,
    values: Mapping[str, Any],
    at: tuple[str | int, ...],
    columns: Mapping[str, Column],
    problems: list[Problem],
) -> None:
    for name, value in values.items():
        column = columns.get(name)
        if column is None:
            problems.append(
                rule.document.problem(
                    (*at, name), f"unknown field {name!r}", fix=nearest(name, columns), key=True
                )
            )
        elif value is not None and _typed(column, value) is None:
            problems.append(rule.document.problem((*at, name), f"{name} ({column.kind}) cannot be {value!r}"))


def _step(
    rule: Rule,
    text: Mapping[str, Any],
    at: tuple[str | int, ...],
    values: Mapping[str, Any],
    allowed: tuple[str, ...],
    problems: list[Problem],
) -> Step:
    _check_values(rule, values, (*at, "set"), LEVELS[rule.level], problems)
    expect = text.get("expect")
    said = expect if isinstance(expect, Mapping) else {"result": expect}
    result, severity = said.get("result"), said.get("severity")
    if result not in allowed:
        problems.append(
            rule.document.problem(
                (*at, "expect"), f"a rule is never {result!r}", fix=f"one of {', '.join(allowed)}"
            )
        )
    if severity is not None and severity not in SEVERITIES:
        problems.append(
            rule.document.problem(
                (*at, "expect"), f"no severity {severity!r}", fix=nearest(severity, SEVERITIES)
            )
        )
    try:
        today = date.fromisoformat(str(text.get("today")))
    except ValueError:
        fix = "write `today: 2026-11-23`"
        problems.append(rule.document.problem((*at, "today"), f"{text.get('today')!r} is not a day", fix=fix))
        today = date(2000, 1, 1)
    return Step(today, values, str(result), severity)


def _typed(
    column: Column, value: Any
) -> Any:  # Any: YAML in, a column's value out; None where it does not fit
    kind = column.kind
    if kind == "flag":
        return value if isinstance(value, bool) else None
    if kind in NUMERIC:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return value if fits else None
    if kind in ("date", "moment"):
        try:
            day = datetime.fromisoformat(str(value))
        except ValueError:
            return None
        return day.date() if kind == "date" else day.replace(tzinfo=None)
    return str(value)


# --- Running --------------------------------------------------------------------------------------------------------


def run(rules: Iterable[Rule]) -> list[CaseResult]:
    """Run every case of these rules; InputError for a case that cannot be read."""
    problems: list[Problem] = []
    read: list[tuple[Rule, list[Case]]] = []
    for rule in rules:
        try:
            read.append((rule, read_cases(rule)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    with Warehouse() as warehouse:
        return [_run(warehouse, rule, case) for rule, cases in read for case in cases]


def _run(warehouse: Warehouse, rule: Rule, case: Case) -> CaseResult:
    values = dict(case.given)
    standing: tuple[StandingFinding, ...] = ()
    expected, got = [], []
    for step in case.steps:
        values |= step.values
        as_of = datetime.combine(step.today, time(), UTC)
        _prepare(warehouse, rule, values, as_of)
        verdict, severity = _verdict(warehouse, rule, case.unknown)
        if case.is_timeline:
            verdict, standing = _live(warehouse, rule, case, as_of, standing, verdict)
        with_severity = step.severity is not None and verdict == "fires"
        expected.append(f"{step.result} ({step.severity})" if step.severity else step.result)
        got.append(f"{verdict} ({severity})" if with_severity else verdict)
    return CaseResult(rule.id, case.name, ", ".join(expected), ", ".join(got), case.place)


def _prepare(warehouse: Warehouse, rule: Rule, values: Mapping[str, Any], as_of: datetime) -> None:
    """Make the level's table of one row, with what follows from what is given."""
    set_moment(warehouse, _CONNECTION, as_of, Calendar(), is_current=True)
    columns = {n: c for n, c in LEVELS[rule.level].items() if n != "custom"}
    arrays = [
        pa.array(
            [_typed(c, values[n]) if values.get(n) is not None else None], _ARROW[c.kind], from_pandas=True
        )
        if c.kind != "money"
        else pa.array([None if values.get(n) is None else str(values[n])]).cast(_ARROW["money"])
        for n, c in columns.items()
    ]
    warehouse.register("given", pa.table(arrays, names=list(columns)))
    if rule.level == "opportunity":
        derived = [
            f'{sql} AS "{n}"' for n, sql in _DERIVED.items() if n not in values and _is_told(n, values)
        ]
        replaced = f" REPLACE ({', '.join(derived)})" if derived else ""
        warehouse.execute(
            f"CREATE OR REPLACE TEMP TABLE features AS SELECT *{replaced}, "
            "MAP {}::MAP(VARCHAR, VARCHAR) AS custom FROM given"
        )
        warehouse.execute("UPDATE features SET id = 'o' WHERE id IS NULL")


def _is_told(name: str, values: Mapping[str, Any]) -> bool:
    """Whether what a derived column follows from is given."""
    bases = ("is_open", "close_date", "created_at", "stage_entered_at", "last_activity_at", "closed_at")
    return all(values.get(b) is not None for b in bases if b in _DERIVED[name])


def _verdict(warehouse: Warehouse, rule: Rule, unknown: frozenset[str]) -> tuple[str, str]:
    table = "features"
    if rule.level != "opportunity":
        warehouse.execute(
            "CREATE OR REPLACE TEMP TABLE portfolio AS SELECT *, 's' AS subject_id, visits AS n FROM given"
        )
        table = "portfolio"
    judge(warehouse, [rule], table, unknown)
    in_scope, verdict, severity = warehouse.rows("SELECT a0, v0, s0 FROM judged")[0]
    if in_scope is False:
        return "out_of_scope", severity
    return {True: "fires", False: "clear", None: "unknown"}[verdict], severity


def _live(
    warehouse: Warehouse,
    rule: Rule,
    case: Case,
    as_of: datetime,
    standing: tuple[StandingFinding, ...],
    verdict: str,
) -> tuple[str, tuple[StandingFinding, ...]]:
    """Run the finding's life cycle on; return what became of it, and the findings that stand."""
    features = Features(_CONNECTION, as_of, case.unknown)
    evaluation = evaluate(warehouse, features, [rule], standing=standing)
    after = advance(standing, evaluation, [rule])
    status = after[0].status if after else None
    lived = {"open": "fires", "pending": "pending", "resolved": "resolved", None: verdict}[status]
    return (verdict if verdict == "unknown" else lived), after
