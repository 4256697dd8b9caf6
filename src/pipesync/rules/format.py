"""A rule: one YAML file that says when it fires, on what, why it matters and what is to be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipesync.config import RuleSetting
from pipesync.errors import InputError, Problem
from pipesync.features.columns import Column
from pipesync.model import Level, Priority, Severity
from pipesync.rules.conditions import Condition, Parameter, fields, leaves, span
from pipesync.rules.conditions import Field as FieldOf
from pipesync.rules.levels import LEVELS
from pipesync.rules.measures import Measure, MeasureText, read_measures
from pipesync.rules.messages import Template, parse_template
from pipesync.rules.parameters import Given, ParamText, Value, checked, learnt_from
from pipesync.rules.reader import Reader
from pipesync.yamlsource import Document, nearest, read, validate


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OverrideText(_Part):
    match: dict[str, Any]  # Any: a condition, read by reader.Reader
    params: dict[str, Given] = Field(default_factory=dict)
    severity: Severity | None = None


class LadderText(_Part):
    when: dict[str, Any]  # Any: a condition
    severity: Severity


class Task(_Part):
    """What a rep (or manager) is to do about it."""

    subject: str
    due: Annotated[str, Field(pattern=r"^\d{1,3} business days?$", examples=["3 business days"])] = (
        "3 business days"
    )
    priority: Priority = "normal"
    assignee: Literal["owner", "manager", "ops"] = "owner"
    playbook: str | None = None

    @property
    def due_business_days(self) -> int:
        return int(self.due.split()[0])


class DedupeText(_Part):
    cooldown: str | None = None


class ResolveText(_Part):
    when: dict[str, Any] | None = None  # Any: a condition, stricter than that the rule's own is clear
    after: Annotated[str, Field(pattern=r"^\d{1,2} clean runs?$", examples=["2 clean runs"])] = "1 clean run"


class EscalateText(_Part):
    after: Annotated[str, Field(pattern=r"^\d{1,3} business days?$", examples=["3 business days"])]
    to: Literal["owner.manager", "ops"] = "owner.manager"
    from_: Severity = Field(default="info", alias="from")


class Escalation(NamedTuple):
    """After so many business days somebody else is asked as well, where the finding is as severe as this."""

    after: int
    to: Literal["owner.manager", "ops"]
    severity: Severity

    @property
    def in_words(self) -> str:
        whom = "the manager" if self.to == "owner.manager" else "sales ops"
        least = "" if self.severity == "info" else f", where it is {self.severity} or worse"
        days = f"{self.after} business day{'s' if self.after != 1 else ''}"
        return f"after {days} {whom} is asked as well{least}"


class RuleText(_Part):
    """The file's keys; what conditions and messages hold is read apart."""

    rule: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$", examples=["site.large_and_quiet"])
    ]
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
    min_n: Annotated[int, Field(ge=0)] = 0
    measures: dict[str, MeasureText] = Field(default_factory=dict)
    when: dict[str, Any]  # Any: a condition
    for_: Annotated[str, Field(alias="for", pattern=r"^\d{1,2} runs?$", examples=["2 runs"])] = "1 run"
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
    params: Mapping[str, Value]
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
    params: Mapping[str, Value]
    overrides: tuple[Override, ...]
    ladder: tuple[tuple[Condition, Severity], ...]
    min_n: int
    measures: Mapping[str, Measure]
    when: Condition
    runs: int
    """How many runs in a row it must hold before it opens."""
    clean_runs: int
    """How many clean runs in a row resolve it."""
    resolve_when: Condition | None
    """What must hold as well before a clear run counts as clean."""
    supersedes: tuple[str, ...]
    message: Template
    subject: Template | None
    task: Task | None
    cooldown: timedelta | None
    """How long its points rest after people said no; None: as long as the site says (`tasks.cooldown`)."""
    escalations: tuple[Escalation, ...]
    """Who else is asked when the owner's task stays open, the soonest first."""
    propose: Template | None
    false_positives: tuple[str, ...]
    sources: tuple[str, ...]
    texts: Mapping[str, ParamText]
    """The parameters as the file explains them."""
    file: Path
    document: Document
    learnt: Mapping[str, FieldOf]
    """Of the parameters that nobody has set: what takes the default's place."""
    columns: Mapping[str, Column]
    """What its conditions may ask for: those of its level, and its measures."""
    status_note: str = ""
    """Of a deprecated rule: what replaces it."""
    owner: str | None = None
    docs: str | None = None
    tags: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """What a site changed -> where it says so."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition that it decides by."""
        return (
            self.applies_to,
            self.when,
            *(o.match for o in self.overrides),
            *(c for c, _ in self.ladder),
            *((self.resolve_when,) if self.resolve_when else ()),
        )

    @property
    def has_severities(self) -> bool:
        """Whether a row decides how severe it is."""
        return bool(self.ladder) or any(o.severity for o in self.overrides)

    @property
    def learnt_from(self) -> frozenset[str]:
        """Every column of what is usual that rows are held against, and those that tell from how many it is learnt."""
        read = {f.name for f in self.learnt.values()} | self.fields
        names = {n for n in read if n in self.columns and self.columns[n].counted_by}
        return frozenset(names | {self.columns[n].counted_by for n in names})

    @property
    def spoken(self) -> frozenset[str]:
        """Every column that its message and subject name: all that a translation may name."""
        return self.message.fields | (self.subject.fields if self.subject else frozenset())

    @property
    def fields(self) -> frozenset[str]:
        """Every column that deciding it reads."""
        return frozenset(f for c in self.conditions for f in fields(c))


Catalogue = Mapping[Level, Mapping[str, Column]]
"""What can be asked for, by level: ours, or with the values that a connected CRM has."""


def load_rule(path: Path, folder: Path, catalogue: Catalogue = LEVELS) -> Rule:
    """Read a rule file below `folder`; InputError with everything that is wrong with it."""
    expected = ".".join(path.relative_to(folder).with_suffix("").parts)
    return read_rule(read(path), path, expected=expected, catalogue=catalogue)


def read_rule(
    document: Document, path: Path, *, expected: str | None = None, catalogue: Catalogue = LEVELS
) -> Rule:
    problems: list[Problem] = []
    try:
        text = validate(RuleText, document)
    except InputError as error:
        # The frame is wrong; say what is wrong with the conditions as well, all at once.
        raise InputError(*_in_order([*error.problems, *_conditions_of(document, catalogue)])) from None
    if expected is not None and text.rule != expected:
        problems.append(
            document.problem(
                ("rule",),
                f"the rule is called {text.rule!r} and its file {expected!r}",
                fix="make them equal",
            )
        )
    columns = catalogue[text.level]
    reader = Reader(document, columns, text.params)
    measures = _measures(text, reader, catalogue)
    reader.columns = {**columns, **{n: m.column for n, m in measures.items()}}
    rule = _typed(text, document, path, reader, measures)
    # A condition that is wrong may be the one that uses it.
    unused = () if reader.problems else sorted(set(text.params) - reader.used)
    for name in unused:
        reader.complain(
            ("params", name), f"parameter {name!r} is never used", f"use ${name} or remove it", key=True
        )
    problems += reader.problems
    if problems:
        raise InputError(*_in_order(problems))
    return rule


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


def _conditions_of(document: Document, catalogue: Catalogue) -> list[Problem]:
    """Return what is wrong with the conditions of a file whose frame is wrong, as far as that can be told."""
    data = document.data if isinstance(document.data, dict) else {}
    level = data.get("level", "opportunity")
    params = data.get("params")
    if data.get("measures") or level not in catalogue or is_misled(data):
        return []
    reader = Reader(document, catalogue[level], params if isinstance(params, dict) else {})
    for key in ("applies_to", "when"):
        if isinstance(data.get(key), dict):
            reader.read(data[key], (key,))
    return reader.problems


def is_misled(data: Mapping[str, Any]) -> bool:  # Any: YAML
    """Whether a misspelt key hides what the fields are: all of them would be complained of, and none is wrong."""
    names = {f.alias or n for n, f in RuleText.model_fields.items()}
    meant = {nearest(key, names) for key in data if key not in names}
    return any(f"{key!r}" in said for said in meant for key in ("level", "measures", "params"))


def _measures(text: RuleText, reader: Reader, catalogue: Catalogue) -> dict[str, Measure]:
    if text.measures and text.level == "opportunity":
        reader.complain(("measures",), "an opportunity has no measures", "set `level:`", key=True)
        return {}
    if text.min_n and text.level == "opportunity":
        reader.complain(("min_n",), "an opportunity is always one", "remove it, or set `level:`", key=True)
    inner = Reader(reader.document, catalogue["opportunity"], reader.parameters, reader.problems, reader.used)
    found = read_measures(text.measures, inner, reader.columns)
    for name, measure in found.items():
        if any(
            isinstance(leaf.value, Parameter) for c in (measure.where, measure.among) for leaf in leaves(c)
        ):
            fix = "write the value itself"
            reader.complain(("measures", name), "a measure takes no parameters", fix, key=True)
    return found


def _typed(
    text: RuleText, document: Document, path: Path, reader: Reader, measures: Mapping[str, Measure]
) -> Rule:
    params = {
        name: checked(reader, ("params", name, "default"), name, p.default, p)
        for name, p in text.params.items()
    }
    overrides = []
    for i, override in enumerate(text.overrides):
        at = ("overrides", i)
        values = {
            name: checked(reader, (*at, "params", name), name, value, text.params.get(name))
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
        measures=measures,
        when=reader.read(text.when, ("when",)),
        runs=int(text.for_.split()[0]),
        clean_runs=int(text.resolve.after.split()[0]),
        resolve_when=reader.read(text.resolve.when, ("resolve", "when")) if text.resolve.when else None,
        supersedes=text.supersedes,
        message=_template(reader, text.message, ("message",)),
        subject=_template(reader, text.task.subject, ("task", "subject")) if text.task else None,
        task=text.task,
        cooldown=_cooldown(reader, text.dedupe.cooldown),
        escalations=tuple(sorted(Escalation(int(e.after.split()[0]), e.to, e.from_) for e in text.escalate)),
        propose=_template(reader, text.propose, ("propose",)) if text.propose else None,
        false_positives=text.false_positives,
        sources=text.sources,
        texts=text.params,
        file=path,
        document=document,
        learnt={n: found for n, p in text.params.items() if (found := learnt_from(reader, n, p))},
        columns=reader.columns,
        status_note=f"use {text.replaced_by} instead" if text.replaced_by else "",
        owner=text.owner,
        docs=text.docs,
        tags=text.tags,
    )


def _template(reader: Reader, text: str, at: tuple[str | int, ...]) -> Template:
    template, wrong = parse_template(text, reader.columns)
    for message, fix in wrong:
        reader.complain(at, message, fix)
    return template


def _cooldown(reader: Reader, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = span(text)
    if isinstance(found, timedelta):
        return found
    reader.complain(("dedupe", "cooldown"), f"{text!r} is not a duration", "write 7d, 12h or 2w")
    return None


def with_setting(
    rule: Rule,
    setting: RuleSetting,
    where: Document,
    at: tuple[str | int, ...],
    catalogue: Catalogue = LEVELS,
) -> tuple[Rule, list[Problem]]:
    """Apply a site's change, which stands at `at` of a document; return the rule and what is wrong with it."""
    reader = Reader(where, {**rule.columns, **catalogue[rule.level]}, rule.texts)

    def within(params: Mapping[str, Any], base: tuple[str | int, ...]) -> dict[str, Value]:  # Any: YAML
        found = {n: checked(reader, (*base, n), n, v, rule.texts.get(n)) for n, v in params.items()}
        return {n: v for n, v in found.items() if v is not None}

    values = within(setting.params, (*at, "params"))
    overrides = tuple(
        Override(
            reader.read(o.match, (*at, "overrides", i, "match")),
            within(o.params, (*at, "overrides", i, "params")),
            o.severity,
        )
        for i, o in enumerate(setting.overrides)
    )

    def here(*path: str | int) -> str:
        place = where.place((*at, *path))
        return f"{place.file}:{place.line}"

    told = {f"params.{n}": here("params", n) for n in values}
    if setting.severity:
        told["severity"] = here("severity")
    told |= {f"overrides.{i}": here("overrides", i) for i in range(len(overrides))}
    changed = replace(
        rule,
        severity=setting.severity or rule.severity,
        params={**rule.params, **values},
        learnt={n: found for n, found in rule.learnt.items() if n not in values},
        overrides=(*overrides, *rule.overrides),
        origins={**rule.origins, **told},
    )
    return changed, reader.problems
