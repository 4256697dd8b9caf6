"""Playbooks: per pipeline and phase the milestones, what gets in the way, what to send, and a draft to follow up with.

One file per playbook (`playbooks/ID.yaml` in the folders of rules), its cases inside. A milestone is a condition like a
rule's, so whether it is reached is judged by the same engine. A task then offers the next step. We never send anything:
the draft is for the rep, in the CRM.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipesync.errors import InputError, Problem
from pipesync.features import Features
from pipesync.rules.cases import CaseResult, verdicts
from pipesync.rules.evaluate import judge, unread_by
from pipesync.rules.format import Rule, read_rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.messages import Template, parse_template, spoken_values
from pipesync.rules.reader import Reader
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import Document, nearest, read, validate

FOLDER = "playbooks"
OpenPhase = Literal["early", "middle", "late"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _MilestoneText(_Part):
    title: str
    when: dict[str, Any]  # Any: a condition


class Content(_Part):
    """Something worth sending."""

    title: str
    link: str | None = Field(default=None, pattern=r"^https?://\S+$")
    whom: str | None = Field(default=None, alias="for")


class Draft(_Part):
    """A message for the rep to send from the CRM."""

    subject: str
    body: str


class _PhaseText(_Part):
    milestones: tuple[_MilestoneText, ...] = Field(min_length=1)
    obstacles: tuple[str, ...] = ()
    content: tuple[Content, ...] = ()
    follow_up: Draft | None = None


class _Expected(_Part):
    open: tuple[str, ...] = ()
    """The milestones that are not reached, in their order; the first is the next step."""
    unknown: tuple[str, ...] = ()


class _CaseText(_Part):
    name: str
    today: str
    phase: OpenPhase
    given: dict[str, Any] = Field(default_factory=dict)  # Any: columns' values
    unknown: tuple[str, ...] = ()
    expect: _Expected


class _PlaybookText(_Part):
    playbook: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    pipelines: tuple[str, ...] = ()
    phases: dict[OpenPhase, _PhaseText] = Field(min_length=1)
    tests: tuple[_CaseText, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Playbook:
    """A playbook that was read and typed."""

    id: str
    title: str
    pipelines: tuple[str, ...]
    """Those that it is for; none named: any that has no playbook of its own."""
    phases: Mapping[OpenPhase, _PhaseText]
    milestones: Mapping[OpenPhase, tuple[Rule, ...]]
    """Each a rule that fires where the milestone is reached."""
    cases: tuple[_CaseText, ...]
    document: Document

    @property
    def texts(self) -> tuple[str, ...]:
        """Return everything that it says, in English: what a language translates."""
        found: list[str] = []
        for phase in self.phases.values():
            found += [m.title for m in phase.milestones]
            found += phase.obstacles
            for one in phase.content:
                found += [one.title, *([one.whom] if one.whom else [])]
            if phase.follow_up:
                found += [phase.follow_up.subject, phase.follow_up.body]
        return tuple(dict.fromkeys(found))

    @property
    def fields(self) -> frozenset[str]:
        """Return every column that its milestones and texts read."""
        rules = [rule for some in self.milestones.values() for rule in some]
        return frozenset().union(*(rule.fields for rule in rules), *(template(t).fields for t in self.texts))


@dataclass(frozen=True)
class Advice:
    """Where one opportunity stands in a playbook. Texts are English, with slots that `values` fill."""

    playbook: str
    steps: tuple[str, ...]
    """Milestones that are not reached, the next one first."""
    phase: _PhaseText
    values: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    is_partial: bool = False
    """A milestone of the phase cannot be judged: what a task says of the next step is then left as it is."""


@cache
def template(text: str) -> Template:
    """Return a text of a playbook as a template; that it is a sound one was checked when it was read."""
    return parse_template(text, LEVELS["opportunity"])[0]


# --- Reading --------------------------------------------------------------------------------------------------------


def read_playbooks(folders: Iterable[Path]) -> tuple[dict[str, Playbook], list[Problem]]:
    """Return the playbooks of these folders by id, a later one in place of an earlier; and what is wrong with them."""
    found: dict[str, Playbook] = {}
    problems: list[Problem] = []
    for folder in folders:
        for path in sorted((folder / FOLDER).glob("*.yaml")):
            try:
                one = _read(read(path), path)
            except InputError as error:
                problems += error.problems
            else:
                found[one.id] = one
    return found, problems


def _read(document: Document, path: Path) -> Playbook:
    text = validate(_PlaybookText, document)
    problems: list[Problem] = []
    if text.playbook != path.stem:
        said = f"the playbook is called {text.playbook!r} and its file {path.stem!r}"
        problems.append(document.problem(("playbook",), said, fix="make them equal"))
    reader = Reader(document, LEVELS["opportunity"])
    for name, phase in text.phases.items():
        for i, milestone in enumerate(phase.milestones):
            reader.read(milestone.when, ("phases", name, "milestones", i, "when"))
        for at, said in _texts_of(phase):
            for wrong, fix in parse_template(said, LEVELS["opportunity"])[1]:
                problems.append(document.problem(("phases", name, *at), wrong, fix=fix))
    problems += reader.problems
    if problems:
        raise InputError(*problems)
    milestones = {
        name: tuple(_milestone(text, name, i, path) for i in range(len(phase.milestones)))
        for name, phase in text.phases.items()
    }
    book = Playbook(text.playbook, text.title, text.pipelines, text.phases, milestones, text.tests, document)
    if wrong_cases := list(_wrong_cases(book)):
        raise InputError(*wrong_cases)
    return book


def _texts_of(phase: _PhaseText) -> Iterator[tuple[tuple[str | int, ...], str]]:
    yield from ((("milestones", i, "title"), m.title) for i, m in enumerate(phase.milestones))
    yield from ((("obstacles", i), said) for i, said in enumerate(phase.obstacles))
    yield from ((("content", i, "title"), c.title) for i, c in enumerate(phase.content))
    if phase.follow_up:
        yield ("follow_up", "subject"), phase.follow_up.subject
        yield ("follow_up", "body"), phase.follow_up.body


def _milestone(text: _PlaybookText, phase: OpenPhase, i: int, path: Path) -> Rule:
    """Make a milestone a rule, so that it is judged as rules are; its condition was read in its own place before."""
    when = text.phases[phase].milestones[i].when
    data = {
        "rule": f"playbook.{text.playbook}.{phase}_{i + 1}", "title": "milestone", "why": "a step of a playbook",
        "severity": "info", "applies_to": {"is_open": True, "phase": phase}, "when": when, "message": "reached",
        "tests": [{}],
    }  # fmt: skip
    return read_rule(Document(str(path), "", data), path)


def _wrong_cases(book: Playbook) -> Iterator[Problem]:
    """Every milestone is seen reached and not reached, and cases name milestones that there are."""
    seen_open: set[tuple[str, str]] = set()
    seen_done: set[tuple[str, str]] = set()
    for i, case in enumerate(book.cases):
        phase = book.phases.get(case.phase)
        if phase is None:
            said = f"the playbook has no phase {case.phase!r}"
            yield book.document.problem(("tests", i, "phase"), said, fix=nearest(case.phase, book.phases))
            continue
        titles = [m.title for m in phase.milestones]
        for name in (*case.expect.open, *case.expect.unknown):
            if name not in titles:
                said = f"no milestone {name!r} in phase {case.phase}"
                yield book.document.problem(("tests", i, "expect"), said, fix=nearest(name, titles))
        seen_open |= {(case.phase, t) for t in case.expect.open}
        seen_done |= {(case.phase, t) for t in titles} - {
            (case.phase, t) for t in (*case.expect.open, *case.expect.unknown)
        }
    for name, one in book.phases.items():
        for i, milestone in enumerate(one.milestones):
            for seen, word in ((seen_open, "open"), (seen_done, "reached")):
                if (name, milestone.title) not in seen:
                    at = ("phases", name, "milestones", i, "title")
                    said = f"no case has {milestone.title!r} {word}"
                    yield book.document.problem(at, said, fix="add a case to `tests:`")


# --- Its cases ------------------------------------------------------------------------------------------------------


def run_cases(books: Iterable[Playbook]) -> list[CaseResult]:
    """Run every case of these playbooks: which milestones are open, and which cannot be judged."""
    results = []
    with Warehouse() as warehouse:
        for book in books:
            for i, case in enumerate(book.cases):
                given = {"is_open": True, "phase": case.phase, **case.given}
                rules = book.milestones[case.phase]
                said = verdicts(warehouse, rules, given, frozenset(case.unknown), case.today)
                titles = [m.title for m in book.phases[case.phase].milestones]
                got = _Expected(
                    open=tuple(t for t, v in zip(titles, said, strict=True) if v == "clear"),
                    unknown=tuple(t for t, v in zip(titles, said, strict=True) if v == "unknown"),
                )
                results.append(
                    CaseResult(
                        f"playbook {book.id}",
                        case.name,
                        _in_words(case.expect),
                        _in_words(got),
                        book.document.place(("tests", i)),
                    )
                )
    return results


def _in_words(found: _Expected) -> str:
    unknown = f"; unknown: {', '.join(found.unknown)}" if found.unknown else ""
    return f"open: {', '.join(found.open) or 'nothing'}{unknown}"


# --- Where opportunities stand ------------------------------------------------------------------------------------


def advise(
    warehouse: Warehouse, features: Features, books: Mapping[str, Playbook], ids: Collection[str]
) -> dict[str, dict[str, Advice]]:
    """Return by opportunity and playbook where it stands, of every playbook that has its phase.

    What cannot be judged is neither offered as a step nor taken as reached. Reads the session's `features`.
    """
    asked = [
        (book, phase, rule)
        for book in books.values()
        for phase, rules in book.milestones.items()
        for rule in rules
    ]
    if not asked or not ids:
        return {}
    rules = [rule for _, _, rule in asked]
    judge(warehouse, rules, "features", unread_by(warehouse, features, rules))
    names = sorted({"phase", *(n for book in books.values() for t in book.texts for n in template(t).fields)})
    columns = ", ".join(f't."{n}"' for n in names if not n.startswith("custom."))
    flags = ", ".join(f"CASE WHEN a{i} THEN v{i} END" for i in range(len(asked)))
    rows = warehouse.rows(
        f"SELECT subject, {flags}, t.custom, {columns} FROM judged JOIN features AS t ON t.id = subject "
        "SEMI JOIN (SELECT unnest(?) AS subject) USING (subject)",
        [sorted(ids)],
    )
    plain = [n for n in names if not n.startswith("custom.")]
    found: dict[str, dict[str, Advice]] = {}
    for row in rows:
        values = dict(zip(["custom", *plain], row[1 + len(asked) :], strict=True))
        values["custom"] = dict(values["custom"] or {})
        for book in books.values():
            phase = book.phases.get(values["phase"])
            if phase is None:
                continue
            said = [
                v
                for v, (b, p, _) in zip(row[1:], asked, strict=False)
                if b.id == book.id and p == values["phase"]
            ]
            steps = tuple(m.title for m, v in zip(phase.milestones, said, strict=True) if v is False)
            told = Advice(book.id, steps, phase, spoken_values(values, names), any(v is None for v in said))
            found.setdefault(row[0], {})[book.id] = told
    return found


def usual(books: Mapping[str, Playbook], pipeline: str | None) -> str | None:
    """Return the playbook of a pipeline: its own, or the first that is for any; None where there is neither."""
    own = [b.id for b in books.values() if pipeline in b.pipelines]
    return next(iter([*own, *(b.id for b in books.values() if not b.pipelines)]), None)


def unknown_names(books: Mapping[str, Playbook], rules: Sequence[Rule]) -> Iterator[Problem]:
    """Name the rules whose task asks for a playbook that is not there."""
    for rule in rules:
        if rule.task and rule.task.playbook and rule.task.playbook not in books:
            said = f"no playbook {rule.task.playbook!r}"
            yield rule.document.problem(("task", "playbook"), said, fix=nearest(rule.task.playbook, books))
