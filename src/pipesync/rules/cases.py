"""A rule's own cases: rows of fields with what the rule must say of them, run on a real database.

A field that a case leaves out is blank; `unknown: [field]` makes it unreadable. Counts of days follow from the dates
that are given and from the case's `today`. A timeline runs one row through several days, with the life cycle of its
finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import pyarrow as pa

from pipesync.config import Calendar
from pipesync.errors import InputError, Place, Problem
from pipesync.features import Features, set_moment
from pipesync.features.columns import Column
from pipesync.model import SEVERITIES, Level, StandingFinding
from pipesync.rules.compile import measure, measured
from pipesync.rules.conditions import NUMERIC
from pipesync.rules.evaluate import evaluate, judge, severity_of
from pipesync.rules.format import Rule, read_rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.lifecycle import advance
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import Document, nearest

RESULTS = ("fires", "clear", "unknown", "out_of_scope")
LIVES = (*RESULTS, "pending", "resolved", "expired")
_KEYS = ("name", "today", "given", "opportunities", "unknown", "expect", "timeline")
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
    "created_on": "local_date(created_at)",
    "business_days_since_last_inbound": "business_days_since(local_date(last_inbound_at))",
}
"""Columns that follow from others, as in features.sql."""
_ARROW = {
    "text": pa.string(), "category": pa.string(), "money": pa.decimal128(18, 2), "number": pa.float64(),
    "integer": pa.int64(), "days": pa.float64(), "date": pa.date32(), "moment": pa.timestamp("us"), "flag": pa.bool_(),
}  # fmt: skip
_EXAMPLES = {
    "flag": "write true or false", "date": "write 2026-11-23", "moment": "write 2026-11-23 or 2026-11-23T08:00:00",
} | dict.fromkeys(NUMERIC, "write a number")  # fmt: skip
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
    opportunities: tuple[Mapping[str, Any], ...] = ()  # Any: as YAML has them
    """Of a portfolio rule's subject; its measures are computed from them."""


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
    cases, problems = look_at(rule.document, rule.columns)
    if problems:
        raise InputError(*problems)
    return cases


def look_at(document: Document, columns: Mapping[str, Column]) -> tuple[list[Case], list[Problem]]:
    """Return a file's cases as far as they can be read, and all that is wrong with them."""
    problems: list[Problem] = []
    texts = document.data.get("tests") if isinstance(document.data, Mapping) else None
    if not isinstance(texts, list) or not texts:
        return [], [
            document.problem(("tests",), "a rule has cases", fix="add one that fires, one that is clear")
        ]
    cases = [_case(document, columns, i, text, problems) for i, text in enumerate(texts)]
    results = {s.result for c in cases for s in c.steps}
    for wanted in ("fires", "clear"):
        if wanted not in results and not (
            wanted == "clear" and results & {"resolved", "expired", "out_of_scope"}
        ):
            fix = f"add a case with `expect: {wanted}`"
            problems.append(document.problem(("tests",), f"no case is {wanted}", fix=fix, key=True))
    return cases, problems


def _case(
    document: Document,
    columns: Mapping[str, Column],
    i: int,
    text: Any,
    problems: list[Problem],  # Any: YAML
) -> Case:
    at: tuple[str | int, ...] = ("tests", i)
    if not isinstance(text, Mapping):
        problems.append(
            document.problem(at, "a case is a map", fix="write `name`, `today`, `given`, `expect`")
        )
        text = {}
    for key in text:
        if key not in _KEYS:
            problems.append(
                document.problem((*at, key), f"unknown key {key!r}", fix=nearest(key, _KEYS), key=True)
            )
    given = _map(document, text, (*at, "given"), problems)
    _check_values(document, given, (*at, "given"), columns, problems)
    opportunities = _opportunities(document, text, at, problems)
    unknown = text.get("unknown") or []
    if not isinstance(unknown, list):
        problems.append(document.problem((*at, "unknown"), "unknown takes a list", fix="write [field]"))
        unknown = []
    for k, name in enumerate(unknown):
        if name not in columns and not _is_custom(name, columns):
            place = (*at, "unknown", k)
            problems.append(document.problem(place, f"unknown field {name!r}", fix=nearest(name, columns)))
    timeline = text.get("timeline")
    steps: tuple[Step, ...]
    if timeline is None:
        steps = (_step(document, columns, text, at, {}, RESULTS, problems),)
    elif isinstance(timeline, list) and timeline and all(isinstance(s, Mapping) for s in timeline):
        steps = tuple(
            _step(
                document, columns, s, (*at, "timeline", k),
                _map(document, s, (*at, "timeline", k, "set"), problems), LIVES, problems,
            )
            for k, s in enumerate(timeline)
        )  # fmt: skip
    else:
        fix = "write a list of {today: .., set: {..}, expect: ..}"
        problems.append(document.problem((*at, "timeline"), "a timeline takes a list of days", fix=fix))
        steps = ()
    name = str(text.get("name", f"case {i + 1}"))
    known = frozenset(map(str, unknown))
    return Case(name, given, known, steps, timeline is not None, document.place(at), opportunities)


def _opportunities(
    document: Document, text: Mapping[str, Any], at: tuple[str | int, ...], problems: list[Problem]
) -> tuple[Mapping[str, Any], ...]:  # Any: YAML
    """Return the opportunities of a portfolio rule's case, typed as features."""
    found = text.get("opportunities") or []
    if not isinstance(found, list) or not all(isinstance(o, Mapping) for o in found):
        fix = "write a list of {field: value}"
        problems.append(document.problem((*at, "opportunities"), "opportunities are a list of maps", fix=fix))
        return ()
    if found and document.data.get("level", "opportunity") == "opportunity":
        said = "only a portfolio rule's case is made of opportunities"
        problems.append(document.problem((*at, "opportunities"), said, fix="write `given`", key=True))
        return ()
    for k, one in enumerate(found):
        _check_values(document, one, (*at, "opportunities", k), LEVELS["opportunity"], problems)
    return tuple(found)


def _map(
    document: Document, text: Mapping[str, Any], at: tuple[str | int, ...], problems: list[Problem]
) -> Mapping[str, Any]:  # Any: YAML
    """Return the map of fields under a key; complain where something else stands there."""
    found = text.get(str(at[-1])) or {}
    if isinstance(found, Mapping):
        return found
    problems.append(document.problem(at, f"{at[-1]} takes a map of fields", fix="write {field: value}"))
    return {}


def _check_values(
    document: Document,
    values: Mapping[str, Any],
    at: tuple[str | int, ...],
    columns: Mapping[str, Column],
    problems: list[Problem],
) -> None:
    for name, value in values.items():
        if _is_custom(name, columns):
            continue
        column = columns.get(name)
        if column is None:
            fix = nearest(name, columns)
            problems.append(document.problem((*at, name), f"unknown field {name!r}", fix=fix, key=True))
        elif value is not None and _typed(column, value) is None:
            fix = _EXAMPLES.get(column.kind, "write text")
            problems.append(
                document.problem((*at, name), f"{name} ({column.kind}) cannot be {value!r}", fix=fix)
            )


def _is_custom(name: str, columns: Mapping[str, Column]) -> bool:
    return name.startswith("custom.") and "custom" in columns


def _step(
    document: Document,
    columns: Mapping[str, Column],
    text: Mapping[str, Any],
    at: tuple[str | int, ...],
    values: Mapping[str, Any],
    allowed: tuple[str, ...],
    problems: list[Problem],
) -> Step:
    _check_values(document, values, (*at, "set"), columns, problems)
    expect = text.get("expect")
    said = expect if isinstance(expect, Mapping) else {"result": expect}
    result, severity = said.get("result"), said.get("severity")
    place = (*at, "expect", "result") if isinstance(expect, Mapping) else (*at, "expect")
    if result not in allowed:
        fix = nearest(result, allowed) if isinstance(result, str) else f"one of {', '.join(allowed)}"
        problems.append(document.problem(place, f"a rule is never {result!r}", fix=fix))
    if isinstance(expect, Mapping):
        for key in expect:
            if key not in ("result", "severity"):
                fix = nearest(key, ("result", "severity"))
                problems.append(
                    document.problem((*at, "expect", key), f"unknown key {key!r}", fix=fix, key=True)
                )
    if severity is not None and severity not in SEVERITIES:
        place = (*at, "expect", "severity")
        problems.append(
            document.problem(place, f"no severity {severity!r}", fix=nearest(severity, SEVERITIES))
        )
    try:
        today = date.fromisoformat(str(text.get("today")))
    except ValueError:
        fix = "write `today: 2026-11-23`"
        problems.append(document.problem((*at, "today"), f"{text.get('today')!r} is not a day", fix=fix))
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
    """Run every case of these rules, as their files have them; InputError for a case that cannot be read.

    A case says what the rule says with the parameters of its file; a site that tunes them breaks none.
    """
    problems: list[Problem] = []
    read: list[tuple[Rule, list[Case]]] = []
    for given in rules:
        rule = read_rule(given.document, given.file) if given.origins else given
        try:
            read.append((rule, read_cases(rule)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    with Warehouse() as warehouse:
        asked = [step for rule, cases in read for case in cases for step in _steps(rule, case)]
        said = _verdicts(warehouse, asked)
        answers = iter(zip(asked, said, strict=True))
        return [
            _result(warehouse, rule, case, [next(answers) for _ in case.steps])
            for rule, cases in read
            for case in cases
        ]


class _Asked(NamedTuple):
    """What one step asks: of a rule, about a row, on a day."""

    rule: Rule
    unknown: frozenset[str]
    today: date
    values: Mapping[str, Any]  # Any: as YAML has them
    opportunities: tuple[Mapping[str, Any], ...] = ()
    """What the rule's measures are computed from, instead of being given."""


def _steps(rule: Rule, case: Case) -> Iterator[_Asked]:
    values: dict[str, Any] = dict(case.given)
    for step in case.steps:
        values = {**values, **step.values}
        yield _Asked(rule, case.unknown, step.today, values, case.opportunities)


def verdicts(
    warehouse: Warehouse, rules: Sequence[Rule], given: Mapping[str, Any], unknown: frozenset[str], today: str
) -> list[str]:
    """Return what each rule says of a row on a day, in the words of the cases; InputError for what cannot be given."""
    problems: list[Problem] = []
    document = rules[0].document
    _check_values(document, given, ("given",), rules[0].columns, problems)
    if problems:
        raise InputError(*problems)
    day = date.fromisoformat(today)
    return [word for word, _ in _verdicts(warehouse, [_Asked(rule, unknown, day, given) for rule in rules])]


def _verdicts(warehouse: Warehouse, asked: Sequence[_Asked]) -> list[tuple[str, str]]:
    """Return verdict and severity of each. Rows of one level and day share a table, those of one rule a statement."""
    said: dict[int, tuple[str, str]] = {}
    days: dict[tuple[Level, date], list[int]] = {}
    for number, one in enumerate(asked):
        days.setdefault((one.rule.level, one.today), []).append(number)
    for (level, day), numbers in days.items():
        table = _prepare(warehouse, level, day, {str(n): asked[n] for n in numbers})
        together: dict[tuple[int, frozenset[str]], list[int]] = {}
        for n in numbers:
            together.setdefault((id(asked[n].rule), asked[n].unknown), []).append(n)
        for (_, unknown), some in together.items():
            judge(warehouse, [asked[some[0]].rule], table, unknown)
            for n, in_scope, verdict, severity in warehouse.rows(
                f"SELECT subject::INTEGER, a0, v0, {severity_of(asked[some[0]].rule, 0)} FROM judged "
                "WHERE list_contains(?, subject::INTEGER)",
                [some],
            ):
                word = {True: "fires", False: "clear", None: "unknown"}[verdict]
                said[n] = ("out_of_scope" if in_scope is False else word), severity
    return [said[n] for n in range(len(asked))]


def _prepare(warehouse: Warehouse, level: Level, day: date, rows: Mapping[str, _Asked]) -> str:
    """Make the level's table of these rows by subject, with what follows from what is given; return its name."""
    set_moment(warehouse, _CONNECTION, _midnight(day), Calendar(), is_current=True)
    books = {s: a for s, a in rows.items() if a.opportunities}
    if books:
        below = {f"{s}/{k}": _Asked(a.rule, frozenset(), day, o) for s, a in books.items()
                 for k, o in enumerate(a.opportunities)}  # fmt: skip
        _prepare(warehouse, "opportunity", day, below)
    columns = {n: c for n, c in LEVELS[level].items() if n != "custom"}
    named = {n: [a.values.get(n) for a in rows.values()] for n in columns}
    for rule in {id(a.rule): a.rule for a in rows.values()}.values():
        for name in rule.measures:
            columns[measured(rule, name)] = rule.columns[name]
            named[measured(rule, name)] = [
                a.values.get(name) if a.rule.id == rule.id else None for a in rows.values()
            ]
    arrays = [
        pa.array([None if v is None else _typed(c, v) for v in named[n]], _ARROW[c.kind])
        if c.kind != "money"
        else pa.array([None if v is None else str(v) for v in named[n]]).cast(_ARROW["money"])
        for n, c in columns.items()
    ]
    told = pa.array([list(a.values) for a in rows.values()], pa.list_(pa.string()))
    own = pa.array([_custom(a) for a in rows.values()], pa.map_(pa.string(), pa.string()))
    given = pa.table(
        [*arrays, pa.array(list(rows)), told, own], names=[*columns, "subject_id", "told", "custom"]
    )
    warehouse.register("given", given)
    if level != "opportunity":
        n = "coalesce(n, visits)" if level == "stage" else "n"
        shown = "" if "owner_id" in columns else ", NULL::VARCHAR AS owner_id"
        warehouse.execute(
            f"CREATE OR REPLACE TEMP TABLE portfolio AS SELECT * REPLACE ({n} AS n), NULL::DECIMAL(18, 2) AS amount"
            f"{shown} FROM given"
        )
        for rule in {id(a.rule): a.rule for a in books.values()}.values():
            _measure(warehouse, rule, [s for s, a in books.items() if a.rule is rule])
        return "portfolio"
    derived = ", ".join(f'{_derived(n, sql)} AS "{n}"' for n, sql in _DERIVED.items())
    warehouse.execute(
        f"CREATE OR REPLACE TEMP TABLE features AS SELECT * REPLACE ({derived}, subject_id AS id) FROM given"
    )
    return "features"


def _measure(warehouse: Warehouse, rule: Rule, subjects: Sequence[str]) -> None:
    """Compute a rule's measures of these subjects from the opportunities that their cases give."""
    names = [measured(rule, n) for n in rule.measures]
    figures = ", ".join(
        f'{measure(rule, m).sql(dialect="duckdb")} AS "{n}"'
        for n, m in zip(names, rule.measures.values(), strict=True)
    )
    said = ", ".join(f'"{n}" = found."{n}"' for n in names)
    warehouse.execute(
        f"UPDATE portfolio SET {said} FROM (SELECT split_part(id, '/', 1) AS subject, {figures} FROM features "
        "GROUP BY 1) AS found WHERE subject_id = found.subject AND list_contains(?, subject_id)",
        [subjects],
    )


def _custom(asked: _Asked) -> list[tuple[str, str | None]]:
    """Return a row's custom fields as the mirror keeps them, as texts; one that nobody gives is blank."""
    names = [
        n for n in {**asked.values, **dict.fromkeys(sorted(asked.rule.fields))} if n.startswith("custom.")
    ]
    values = [asked.values.get(n) for n in names]
    return [
        (n.removeprefix("custom."), None if v is None else _as_text(v))
        for n, v in zip(names, values, strict=True)
    ]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _derived(name: str, sql: str) -> str:
    """Return the column as it is told, or as it follows from the columns that it rests on where those are told."""
    bases = (
        "is_open", "close_date", "created_at", "stage_entered_at", "last_activity_at", "closed_at", "last_inbound_at",
    )  # fmt: skip
    missing = " OR ".join(f"{b} IS NULL" for b in bases if b in sql)
    return f"CASE WHEN list_contains(told, '{name}') OR {missing} THEN \"{name}\" ELSE {sql} END"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _result(
    warehouse: Warehouse, rule: Rule, case: Case, answers: Sequence[tuple[_Asked, tuple[str, str]]]
) -> CaseResult:
    standing: tuple[StandingFinding, ...] = ()
    expected, got = [], []
    for step, (asked, (verdict, severity)) in zip(case.steps, answers, strict=True):
        if case.is_timeline:
            verdict, standing = _live(warehouse, asked, standing, verdict)
        with_severity = step.severity is not None and verdict == "fires"
        expected.append(f"{step.result} ({step.severity})" if step.severity else step.result)
        got.append(f"{verdict} ({severity})" if with_severity else verdict)
    return CaseResult(rule.id, case.name, ", ".join(expected), ", ".join(got), case.place)


def _live(
    warehouse: Warehouse, asked: _Asked, standing: tuple[StandingFinding, ...], verdict: str
) -> tuple[str, tuple[StandingFinding, ...]]:
    """Run the finding's life cycle on; return what became of it, and the findings that stand."""
    rule = asked.rule
    table = _prepare(warehouse, rule.level, asked.today, {"o": asked})
    features = Features(_CONNECTION, _midnight(asked.today), asked.unknown)
    evaluation = evaluate(warehouse, features, [rule], standing=standing, tables={rule.level: table})
    after = advance(standing, evaluation, [rule])
    status = after[0].status if after else None
    lived = verdict if status is None else "fires" if status == "open" else status
    return (verdict if verdict == "unknown" else lived), after
