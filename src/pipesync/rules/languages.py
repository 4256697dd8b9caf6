"""What tasks say in other languages: `languages/TAG.yaml` in the folders of rules, held against what they translate.

A text that is not translated is said in English; `untranslated` names it for `rules lint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipesync.errors import InputError, Place, Problem
from pipesync.rules.format import Rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.messages import Template, parse_template
from pipesync.rules.playbooks import Playbook
from pipesync.yamlsource import Document, nearest, read, validate

FOLDER = "languages"
TEXTS: Mapping[str, str] = {
    "footer": "This task goes away by itself once its points are settled.",
    "snooze": "To put it off, write in a line of its own here: snooze 14d, and why.",
    "done": "Settled: {why}.",
    "mended": "every point of it is settled",
    "won": "the opportunity was won",
    "lost": "the opportunity was lost",
    "gone": "the opportunity is gone",
    "suppressed": "{rule} is suppressed until {until}: {reason}",
    "baseline": "{rule} is from before the baseline",
    "snoozed": "put off until {until}: {reason}",
    "no_reason": "no reason given",
    "next": "Next step",
    "later": "After that",
    "obstacles": "What often gets in the way",
    "content": "Worth sending",
    "content_for": "for {whom}",
    "draft": "A draft for you to send",
}
"""What we say ourselves, in English; `{names}` are filled in and stay in a translation."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _RuleTexts(_Part):
    message: str
    subject: str | None = None


class _LanguageText(_Part):
    language: str = Field(pattern=r"^[a-z]{2,3}$")
    texts: dict[str, str] = Field(default_factory=dict)
    rules: dict[str, _RuleTexts] = Field(default_factory=dict)
    playbooks: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Playbook -> its English text -> the translation."""


@dataclass(frozen=True)
class Language:
    """One language's texts, as far as they are translated."""

    tag: str
    texts: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, Template] = field(default_factory=dict)
    """By rule."""
    subjects: Mapping[str, Template] = field(default_factory=dict)
    playbooks: Mapping[str, Mapping[str, Template]] = field(default_factory=dict)
    """By playbook and English text."""

    def text(self, key: str, **slots: str) -> str:
        return self.texts.get(key, TEXTS[key]).format(**slots)


ENGLISH = Language("en")


def read_languages(
    folders: Iterable[Path], rules: Mapping[str, Rule], known: Iterable[str], books: Mapping[str, Playbook]
) -> tuple[dict[str, Language], list[Problem]]:
    """Return the languages of these folders by tag (later ones win text by text), and what is wrong with them.

    `rules` are those that are on; `known` are the ids of all that there are: what is off is not looked at. A playbook
    that a site replaced leaves translations of the shipped one without a text; they are passed over.
    """
    found: dict[str, Language] = {}
    problems: list[Problem] = []
    names = set(known)
    for folder in folders:
        for path in sorted((folder / FOLDER).glob("*.yaml")):
            try:
                document = read(path)
                text = validate(_LanguageText, document)
            except InputError as error:
                problems += error.problems
                continue
            if text.language != path.stem:
                said = f"the language is called {text.language!r} and its file {path.stem!r}"
                problems.append(document.problem(("language",), said, fix="make them equal"))
            one = _typed(text, document, rules, names, books, problems)
            found[one.tag] = _joined(found.get(one.tag, Language(one.tag)), one)
    return found, problems


def _joined(one: Language, other: Language) -> Language:
    return replace(
        other,
        texts={**one.texts, **other.texts},
        messages={**one.messages, **other.messages},
        subjects={**one.subjects, **other.subjects},
        playbooks={
            n: {**one.playbooks.get(n, {}), **other.playbooks.get(n, {})}
            for n in {**one.playbooks, **other.playbooks}
        },
    )


def _typed(
    text: _LanguageText,
    document: Document,
    rules: Mapping[str, Rule],
    known: set[str],
    books: Mapping[str, Playbook],
    problems: list[Problem],
) -> Language:
    for key, said in text.texts.items():
        if key not in TEXTS:
            problems.append(
                document.problem(("texts", key), f"unknown text {key!r}", fix=nearest(key, TEXTS), key=True)
            )
        elif wrong := _slots(said) ^ _slots(TEXTS[key]):
            listed = ", ".join(f"{{{n}}}" for n in sorted(wrong))
            fix = f"the English one is: {TEXTS[key]}"
            problems.append(
                document.problem(("texts", key), f"{listed} stands in one of the two alone", fix=fix)
            )
    messages: dict[str, Template] = {}
    subjects: dict[str, Template] = {}
    for name, pair in text.rules.items():
        rule = rules.get(name)
        if rule is None:
            if name not in known:
                said, fix = f"no rule {name!r}", nearest(name, known)
                problems.append(document.problem(("rules", name), said, fix=fix, key=True))
            continue
        messages[name] = _template(pair.message, rule, document, (name, "message"), problems)
        if pair.subject is not None:
            subjects[name] = _template(pair.subject, rule, document, (name, "subject"), problems)
    texts = {k: v for k, v in text.texts.items() if k in TEXTS}
    playbooks = {}
    for name, pairs in text.playbooks.items():
        if name not in books:
            at = ("playbooks", name)
            problems.append(document.problem(at, f"no playbook {name!r}", fix=nearest(name, books), key=True))
            continue
        playbooks[name] = {e: parse_template(said, LEVELS["opportunity"])[0] for e, said in pairs.items()}
        for english, other in pairs.items():
            for wrong_slot, fix in parse_template(other, LEVELS["opportunity"])[1]:
                problems.append(document.problem(("playbooks", name, english), wrong_slot, fix=fix))
    return Language(text.language, texts, messages, subjects, playbooks)


def _template(
    text: str, rule: Rule, document: Document, at: tuple[str, str], problems: list[Problem]
) -> Template:
    template, wrong = parse_template(text, rule.columns)
    problems += [document.problem(("rules", *at), said, fix=fix) for said, fix in wrong]
    english = rule.spoken
    for name in sorted(template.fields - english):
        said = f"{{{name}}} is not in the rule's own texts"
        fix = f"they name {', '.join(sorted(english)) or 'no field'}"
        problems.append(document.problem(("rules", *at), said, fix=fix))
    return template


def _slots(text: str) -> set[str]:
    return {part.partition("}")[0] for part in text.split("{")[1:]}


def untranslated(
    languages: Mapping[str, Language],
    rules: Iterable[Rule],
    books: Iterable[Playbook] = (),
    folders: Sequence[Path] = (),
) -> list[Problem]:
    """Name, per language, what is said in English there: rules' tasks, our own texts, playbooks'."""
    books = list(books)
    listed = sorted(rule.id for rule in rules if rule.task and rule.level == "opportunity")
    notes = []
    for tag, language in sorted(languages.items()):
        missing = [r for r in listed if r not in language.messages or r not in language.subjects]
        missing += [f"texts.{key}" for key in TEXTS if key not in language.texts]
        for book in books:
            told = language.playbooks.get(book.id, {})
            missing += [f"playbooks.{book.id}.{t!r}" for t in book.texts if t not in told]
        if missing:
            said = f"{tag}: said in English, for want of a translation: {', '.join(missing)}"
            place = Place(str((folders[-1] if folders else Path("rules")) / FOLDER / f"{tag}.yaml"))
            notes.append(Problem(said, place, "add them there, or leave it at English"))
    return notes
