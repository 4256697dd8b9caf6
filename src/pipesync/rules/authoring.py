"""New rule files: from answers to a few questions, or as an editable copy of a shipped rule."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

from pipesync.errors import InputError, Place, Problem
from pipesync.features.columns import COLUMNS, Column
from pipesync.model import Severity
from pipesync.rules.conditions import NUMERIC, OPERATORS, duration
from pipesync.rules.format import Rule
from pipesync.rules.reader import TIME_UNITS
from pipesync.yamlsource import nearest, read

OFFERED = (
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "missing",
    "contains",
    "within_next",
    "within_last",
    "older_than",
)
"""Operators that `new` asks for; the others are for people who edit the file."""


@dataclass(frozen=True)
class Answers:
    """What `rules new` asks."""

    rule: str
    title: str
    why: str
    severity: Severity
    field: str
    operator: str
    value: str
    task: str = ""


def offered(column: Column) -> tuple[str, ...]:
    """Return the operators that a field has, of those offered."""
    return tuple(o for o in OPERATORS[column.kind] if o in OFFERED)


def check_field(name: str) -> Column:
    """Return the field's column; InputError with the nearest name."""
    if name not in COLUMNS or name == "custom":
        raise InputError(Problem(f"unknown field {name!r}", fix=nearest(name, COLUMNS)))
    return COLUMNS[name]


def write_rule(answers: Answers, today: date) -> str:
    """Return the file: the rule with a case that fires, one that is clear, one of a closed one, one unknown."""
    column = check_field(answers.field)
    if answers.operator not in offered(column):
        fix = nearest(answers.operator, offered(column))
        raise InputError(Problem(f"{answers.field} has no operator {answers.operator!r}", fix=fix))
    value = _value(column, answers)
    parameter, written = _parameter(column, answers.operator, value)
    fires, clear = _cases(column, answers.operator, value, today)
    lines = [
        "# yaml-language-server: $schema=../schema.json",
        f"rule: {answers.rule}",
        f"title: {_quoted(answers.title)}",
        f"why: {_quoted(answers.why)}",
        f"severity: {answers.severity}",
        "applies_to: {is_open: true}",
        *parameter,
        "when:",
        f"  {answers.field}: {_short(written)}",
        f"message: {_quoted(_message(column, answers.title))}",
        *(
            [f"task: {{subject: {_quoted(f'{answers.task}: {{name}}')}, due: 3 business days}}"]
            if answers.task
            else []
        ),
        "tests:",
        *_case("it fires", today, {"is_open": True, **fires}, "fires"),
        *_case("it is clear", today, {"is_open": True, **clear}, "clear"),
        *_case("closed ones are not judged", today, {"is_open": False, **fires}, "out_of_scope"),
        *_case(f"no {answers.field} to read", today, {"is_open": True}, "unknown", answers.field),
    ]
    return "\n".join(lines) + "\n"


def _value(column: Column, answers: Answers) -> object:
    text = answers.value.strip()
    if answers.operator == "missing" or column.kind == "flag":
        if text not in ("true", "false"):
            raise InputError(Problem(f"{text!r} is neither true nor false", fix="write true or false"))
        return text == "true"
    if answers.operator in ("within_next", "within_last", "older_than"):
        if (found := duration(text)) is None or found < timedelta(days=1):
            raise InputError(Problem(f"{text!r} is not a duration of days", fix="write 7d or 2w"))
        return text
    if column.kind in NUMERIC:
        try:
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        except ValueError:
            raise InputError(Problem(f"{text!r} is not a number", fix="write 10, or 0.5")) from None
    if column.kind in ("date", "moment"):
        try:
            return "today" if text == "today" else date.fromisoformat(text).isoformat()
        except ValueError:
            raise InputError(Problem(f"{text!r} is not a date", fix="write 2026-11-23, or today")) from None
    if column.values and text not in column.values:
        raise InputError(Problem(f"{column.name} is never {text!r}", fix=nearest(text, column.values)))
    return text


def _parameter(column: Column, operator: str, value: object) -> tuple[list[str], object]:
    """A number or a length of time becomes a parameter, so that sites tune it and never touch the file."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and duration(value) and operator not in ("eq", "ne")):
        return [], {operator: value}
    unit = column.unit.replace(" ", "_") if is_number else ""
    unit = unit if unit in (*TIME_UNITS, "home_currency", "share", "percent") else ""
    told = f", unit: {unit}" if unit else ""
    lines = [
        "params:",
        f"  limit: {{default: {value}{told}, help: {_quoted(f'The limit of {column.name}')}}}",
    ]
    return lines, {operator: "$limit"}


def _short(written: object) -> str:
    return yaml.safe_dump(written, default_flow_style=True, sort_keys=False, width=200).strip()


def _message(column: Column, title: str) -> str:
    """Say what is wrong, with the value: but never an age, which would change the text, and the task, every day."""
    said = title.replace("{", "(").replace("}", ")")
    return f"{{name}}: {said}." if column.kind == "days" else f"{{name}}: {said} ({{{column.name}}})."


def _cases(
    column: Column, operator: str, value: object, today: date
) -> tuple[dict[str, object], dict[str, object]]:
    """Return a row that fires and one that is clear, on either side of the boundary where there is one."""
    name = column.name
    if operator == "missing":
        there = {name: _some(column, today)}
        return ({}, there) if value else (there, {})
    if operator in ("within_next", "within_last", "older_than"):
        length = duration(value) or timedelta(days=1)
        sign = 1 if operator == "within_next" else -1
        inside, outside = today + sign * length, today + sign * (length + timedelta(days=1))
        near: dict[str, object] = {name: inside.isoformat()}
        far: dict[str, object] = {name: outside.isoformat()}
        return (far, near) if operator == "older_than" else (near, far)
    if operator in ("gt", "gte", "lt", "lte"):
        step = 1 if operator in ("gt", "gte") else -1
        if isinstance(value, str):
            day = today if value == "today" else date.fromisoformat(value)
            at, beyond = day.isoformat(), (day + timedelta(days=step)).isoformat()
            before = (day - timedelta(days=step)).isoformat()
        else:
            assert isinstance(value, int | float)  # noqa: S101  # a number or a day, by its kind
            at, beyond, before = value, value + step, value - step  # type: ignore[assignment]  # numbers here
        return ({name: at}, {name: before}) if operator.endswith("e") else ({name: beyond}, {name: at})
    same: dict[str, object] = {name: today.isoformat() if value == "today" else value}
    if operator == "contains":
        return {name: f"a {value} b"}, {name: "–"}
    other: dict[str, object] = {name: _other(column, value, today)}
    return (same, other) if operator == "eq" else (other, same)


def _some(column: Column, today: date) -> object:
    if column.kind == "flag":
        return True
    if column.kind in NUMERIC:
        return 1
    if column.kind in ("date", "moment"):
        return today.isoformat()
    return column.values[0] if column.values else "something"


def _other(column: Column, value: object, today: date) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if column.kind in ("date", "moment"):
        return (today + timedelta(days=400)).isoformat()
    return next((v for v in column.values if v != value), "something else")


def _case(name: str, today: date, given: dict[str, object], expect: str, unknown: str = "") -> list[str]:
    return [
        f"  - name: {name}",
        f"    today: {today}",
        f"    given: {_short(given)}",
        *([f"    unknown: [{unknown}]"] if unknown else []),
        f"    expect: {expect}",
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- Files ------------------------------------------------------------------------------------------------------


def place_of(rule: str, folder: Path) -> Path:
    """Return where a rule's file belongs below a folder; InputError for an id that names no file."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", rule):
        raise InputError(Problem(f"{rule!r} is no rule's id", fix="write it like site.large_without_plan"))
    return folder.joinpath(*rule.split(".")).with_suffix(".yaml")


def ejected(rule: Rule, folder: Path) -> tuple[Path, str]:
    """Return where an editable copy of a rule belongs, and what it holds."""
    path = place_of(rule.id, folder)
    depth = "../" * (len(rule.id.split(".")) - 1)
    lines = rule.document.text.splitlines()
    head = f"# yaml-language-server: $schema={depth}schema.json"
    body = lines[1:] if lines and lines[0].startswith("# yaml-language-server") else lines
    return path, "\n".join([head, *body]) + "\n"


def with_folder(file: Path, folder: Path) -> str | None:
    """Return the configuration's text with `rule_folders` naming the folder; None where it does already.

    InputError where the key names other folders only: which of them comes last, and wins, is for people to say.
    """
    document = read(file)
    given = document.data.get("rule_folders") if isinstance(document.data, dict) else None
    if given is None:
        text = document.text if document.text.endswith("\n") else document.text + "\n"
        return f"{text}rule_folders: [{folder.as_posix()}]\n"
    there = {(file.parent / str(name)).resolve() for name in given} if isinstance(given, list) else set()
    if (file.parent / folder).resolve() in there:
        return None
    raise InputError(
        Problem(
            f"`rule_folders` does not name {folder}",
            Place(str(file), document.place(("rule_folders",), key=True).line),
            f"add it: rule_folders: [..., {folder}]",
        )
    )
