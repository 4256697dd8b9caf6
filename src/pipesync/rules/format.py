"""A rule: one YAML file that says when it fires, on what, why it matters and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipesync.errors import InputError, Problem
from pipesync.features.columns import Column
from pipesync.model import Level, Priority, Severity
from pipesync.rules.conditions import Condition, Reader, duration, fields
from pipesync.rules.levels import LEVELS
from pipesync.rules.messages import Template, parse_template
from pipesync.yamlsource import Document, nearest, read, validate

Number = int | float


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ParamText(_Part):
    default: int | float | str
    min: int | float | None = None
    max: int | float | None = None
    unit: str = ""
    help: str = ""


class OverrideText(_Part):
    match: dict[str, Any]  # Any: a condition, read by conditions.Reader
    params: dict[str, int | float | str] = Field(default_factory=dict)
    severity: Severity | None = None


class LadderText(_Part):
    when: dict[str, Any]  # Any: a condition
    severity: Severity


class Task(_Part):
    """What a rep (or manager) is to do about it."""

    subject: str
    due: Annotated[str, Field(pattern=r"^\d{1,3} business days?$")] = "3 business days"
    priority: Priority = "normal"
    assignee: Literal["owner", "manager", "ops"] = "owner"
    playbook: str | None = None

    @property
    def due_business_days(self) -> int:
        return int(self.due.split()[0])


class DedupeText(_Part):
    cooldown: str = "7d"


class ResolveText(_Part):
    after: Annotated[str, Field(pattern=r"^\d{1,2} clean runs?$")] = "1 clean run"


class EscalateText(_Part):
    after: Annotated[str, Field(pattern=r"^\d{1,3} business days?$")]
    to: Literal["owner.manager"] = "owner.manager"


class RuleText(_Part):
    """The file's keys; what conditions and messages hold is read apart."""

    rule: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")]
    title: str
    why: str
    status: Literal["experimental", "stable", "deprecated"] = "stable"
    replaced_by: str | None = None
    severity: Severity
    level: Level = "opportunity"
    owner: str | None = None
    docs: str | None = None
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    applies_to: dict[str, Any] = Field(default_factory=dict)  # Any: a condition
    params: dict[str, ParamText] = Field(default_factory=dict)
    overrides: tuple[OverrideText, ...] = ()
    severity_ladder: tuple[LadderText, ...] = ()
    min_n: int = 0
    when: dict[str, Any]  # Any: a condition
    for_: Annotated[str, Field(alias="for", pattern=r"^\d{1,2} runs?$")] = "1 run"
    supersedes: tuple[str, ...] = ()
    message: str
    propose: str | None = None
    task: Task | None = None
    dedupe: DedupeText = DedupeText()
    resolve: ResolveText = ResolveText()
    escalate: tuple[EscalateText, ...] = ()
    tests: list[dict[str, Any]] = Field(min_length=1)  # Any: cases, read by rules.cases


@dataclass(frozen=True)
class Override:
    """For what matches: other parameters, another severity. The first that matches wins."""

    match: Condition
    params: Mapping[str, Number | timedelta]
    severity: Severity | None


@dataclass(frozen=True)
class Rule:
    """A rule that was read and typed, with the site's changes applied."""

    id: str
    title: str
    why: str
    status: str
    severity: Severity
    level: Level
    applies_to: Condition
    params: Mapping[str, Number | timedelta]
    overrides: tuple[Override, ...]
    ladder: tuple[tuple[Condition, Severity], ...]
    min_n: int
    when: Condition
    runs: int
    """How many runs in a row it must hold before it opens."""
    clean_runs: int
    """How many clean runs in a row resolve it."""
    supersedes: tuple[str, ...]
    message: Template
    subject: Template | None
    task: Task | None
    cooldown: timedelta
    escalate_after: int | None
    """Business days."""
    propose: Template | None
    false_positives: tuple[str, ...]
    sources: tuple[str, ...]
    texts: Mapping[str, ParamText]
    """The parameters as the file explains them."""
    file: Path
    document: Document

    @property
    def fields(self) -> frozenset[str]:
        """Every column that deciding it reads."""
        conditions = [
            self.applies_to,
            self.when,
            *(o.match for o in self.overrides),
            *(c for c, _ in self.ladder),
        ]
        return frozenset(f for c in conditions for f in fields(c))


def load_rule(path: Path, folder: Path) -> Rule:
    """Read a rule file below `folder`; InputError with everything that is wrong with it."""
    return read_rule(read(path), path, expected=".".join(path.relative_to(folder).with_suffix("").parts))


def read_rule(document: Document, path: Path, *, expected: str | None = None) -> Rule:
    problems: list[Problem] = []
    try:
        text = validate(RuleText, document)
    except InputError as error:
        # The frame is wrong; say what is wrong with the conditions as well, all at once.
        raise InputError(*error.problems, *_conditions_of(document)) from None
    if expected is not None and text.rule != expected:
        problems.append(
            document.problem(
                ("rule",),
                f"the rule is called {text.rule!r} and its file {expected!r}",
                fix="make them equal",
            )
        )
    columns = LEVELS[text.level]
    reader = Reader(document, columns, text.params)
    rule = _typed(text, document, path, reader)
    for name in set(text.params) - reader.used:
        reader.complain(
            ("params", name), f"parameter {name!r} is never used", f"use ${name} or remove it", key=True
        )
    problems += reader.problems
    if problems:
        raise InputError(
            *sorted(problems, key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))
        )
    return rule


def _conditions_of(document: Document) -> list[Problem]:
    data = document.data if isinstance(document.data, dict) else {}
    level = data.get("level", "opportunity")
    params = data.get("params")
    reader = Reader(
        document, LEVELS.get(level, LEVELS["opportunity"]), params if isinstance(params, dict) else {}
    )
    for key in ("applies_to", "when"):
        if isinstance(data.get(key), dict):
            reader.read(data[key], (key,))
    return reader.problems


def _typed(text: RuleText, document: Document, path: Path, reader: Reader) -> Rule:
    params = {name: _parameter(reader, name, p) for name, p in text.params.items()}
    overrides = []
    for i, override in enumerate(text.overrides):
        at = ("overrides", i)
        values = {
            name: _checked(reader, (*at, "params", name), name, value, text.params.get(name))
            for name, value in override.params.items()
        }
        overrides.append(
            Override(
                reader.read(override.match, (*at, "match")),
                {n: v for n, v in values.items() if v is not None},
                override.severity,
            )
        )
    ladder = tuple(
        (reader.read(step.when, ("severity_ladder", i, "when")), step.severity)
        for i, step in enumerate(text.severity_ladder)
    )
    return Rule(
        id=text.rule,
        title=text.title,
        why=text.why.strip(),
        status=text.status,
        severity=text.severity,
        level=text.level,
        applies_to=reader.read(text.applies_to, ("applies_to",)),
        params={n: v for n, v in params.items() if v is not None},
        overrides=tuple(overrides),
        ladder=ladder,
        min_n=text.min_n,
        when=reader.read(text.when, ("when",)),
        runs=int(text.for_.split()[0]),
        clean_runs=int(text.resolve.after.split()[0]),
        supersedes=text.supersedes,
        message=_template(reader, text.message, ("message",)),
        subject=_template(reader, text.task.subject, ("task", "subject")) if text.task else None,
        task=text.task,
        cooldown=_cooldown(reader, text.dedupe.cooldown),
        escalate_after=min((int(e.after.split()[0]) for e in text.escalate), default=None),
        propose=_template(reader, text.propose, ("propose",)) if text.propose else None,
        false_positives=text.false_positives,
        sources=text.sources,
        texts=text.params,
        file=path,
        document=document,
    )


def _parameter(reader: Reader, name: str, text: ParamText) -> Number | timedelta | None:
    return _checked(reader, ("params", name, "default"), name, text.default, text)


def _checked(
    reader: Reader, at: tuple[str | int, ...], name: str, value: object, text: ParamText | None
) -> Number | timedelta | None:
    """Return a parameter's value within its limits; complain otherwise."""
    if text is None:
        reader.complain(at, f"no parameter {name!r}", nearest(name, reader.parameters), key=True)
        return None
    wanted = duration(text.default)
    if wanted is not None:
        found = duration(value)
        if found is None:
            reader.complain(at, f"{name}: {value!r} is not a duration", "write 7d, 12h or 2w")
        return found
    if isinstance(value, bool) or not isinstance(value, int | float):
        reader.complain(at, f"{name}: expected a number, not {value!r}")
        return None
    if (text.min is not None and value < text.min) or (text.max is not None and value > text.max):
        reader.complain(at, f"{name}: {value} is outside of {text.min} to {text.max}")
        return None
    return value


def _template(reader: Reader, text: str, at: tuple[str | int, ...]) -> Template:
    template, wrong = parse_template(text, reader.columns)
    for message, fix in wrong:
        reader.complain(at, message, fix)
    return template


def _cooldown(reader: Reader, text: str) -> timedelta:
    found = duration(text)
    if found is None:
        reader.complain(("dedupe", "cooldown"), f"{text!r} is not a duration", "write 7d, 12h or 2w")
    return found or timedelta(days=7)


def with_setting(
    rule: Rule, *, severity: Severity | None, params: Mapping[str, Any]
) -> tuple[Rule, list[str]]:
    """Apply a site's change; return the rule and what is wrong with the change."""
    reader = Reader(rule.document, LEVELS[rule.level], rule.texts)
    values = {n: _checked(reader, (), n, v, rule.texts.get(n)) for n, v in params.items()}
    changed = {**rule.params, **{n: v for n, v in values.items() if v is not None}}
    said = [f"{p.message}; {p.fix}" if p.fix else p.message for p in reader.problems]
    return replace(rule, severity=severity or rule.severity, params=changed), said


def columns_of(rule: Rule) -> Mapping[str, Column]:
    return LEVELS[rule.level]
