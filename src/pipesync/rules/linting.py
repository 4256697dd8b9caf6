"""Every rule file of a site looked at: what is wrong, and what is right but will surprise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipesync._paths import shipped
from pipesync.config import Config
from pipesync.errors import InputError, Problem
from pipesync.model import Level
from pipesync.rules.cases import look_at
from pipesync.rules.format import Catalogue, Rule, is_misled
from pipesync.rules.languages import untranslated
from pipesync.rules.levels import LEVELS
from pipesync.rules.ruleset import RuleSet, load, rule_files
from pipesync.rules.vocabulary import Vocabulary
from pipesync.yamlsource import nearest, read


@dataclass(frozen=True)
class Linted:
    """`problems` are errors; `warnings` are not; `notes` are for who wants more: texts said in English elsewhere."""

    rules: RuleSet
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()


def lint(config: Config | None, words: Vocabulary | None = None) -> Linted:
    """Look at every rule that the configuration asks for, its cases included.

    `words` are the connected CRM's: what its lists do not have is an error, what nobody used so far a warning.
    """
    words = words or Vocabulary()
    ruleset = load(config, catalogue=words.catalogue)
    problems = [*ruleset.problems]
    for rule in ruleset:
        problems += look_at(rule.document, rule.columns)[1]
    for rule_id in sorted(ruleset.unreadable):
        problems += _cases_of(ruleset.files[rule_id], words.catalogue)
    problems += _suppressions(config, ruleset, words)
    narrow = load(config, catalogue=words.narrow).problems
    said = {(p.place, p.message) for p in problems}
    wondered = [p for p in narrow if (p.place, p.message) not in said]
    warnings = [*wondered, *(w for rule in ruleset for w in _surprises(rule))]
    folders = [config.path(f) for f in config.rule_folders] if config else []
    notes = untranslated(ruleset.languages, ruleset, ruleset.playbooks.values(), folders)
    return Linted(ruleset, _in_order(problems), _in_order(warnings), tuple(notes))


def _suppressions(config: Config | None, ruleset: RuleSet, words: Vocabulary) -> Iterator[Problem]:
    """Yield suppressions that name a rule or an owner that there is not: they silence nothing."""
    document = config.document if config else None
    if config is None or document is None:
        return
    known = {**rule_files(shipped("rules")), **ruleset.files, "*": None}
    owners = words.listed.get("owner_id", ())
    for i, one in enumerate(config.suppressions):
        at = ("suppressions", i)
        if one.rule not in known:
            yield document.problem((*at, "rule"), f"no rule {one.rule!r}", fix=nearest(one.rule, known))
        if one.owner and owners and one.owner not in owners:
            fix = nearest(one.owner, owners)
            yield document.problem((*at, "owner"), f"no owner {one.owner!r} in this CRM", fix=fix)


def _cases_of(path: Path, catalogue: Catalogue) -> list[Problem]:
    """Return what is wrong with the cases of a file whose rule cannot be read."""
    try:
        document = read(path)
    except InputError:
        return []  # said already
    data = document.data if isinstance(document.data, dict) else {}
    level: Level = data.get("level", "opportunity")
    if "measures" in data or "tests" not in data or is_misled(data):
        return []
    return look_at(document, catalogue.get(level, LEVELS["opportunity"]))[1]


def _surprises(rule: Rule) -> Iterator[Problem]:
    if rule.status == "deprecated":
        said = f"{rule.id} is deprecated"
        yield rule.document.problem(("status",), said, fix=rule.status_note or "switch it off")
    texts = ((("message",), rule.message), (("task", "subject"), rule.subject), (("propose",), rule.propose))
    for at, text in texts:
        ages = sorted(f for f in (text.fields if text else ()) if _is_age(f, rule))
        if ages and rule.level == "opportunity":
            said = f"{', '.join(ages)} in a text changes it every day, and the task with it"
            yield rule.document.problem(at, said, fix="write the date that it counts from")


def _is_age(field: str, rule: Rule) -> bool:
    column = rule.columns.get(field)
    return column is not None and column.kind == "days" and column.meaning.startswith(("Since", "Until"))


def _in_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    def key(problem: Problem) -> tuple[str, int, int]:
        place = problem.place
        return (place.file, place.line, place.column) if place else ("", 0, 0)

    return tuple(sorted(dict.fromkeys(problems), key=key))
