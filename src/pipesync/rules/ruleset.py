"""Which rules run: presets of shipped rules, a site's own folders, and its changes to single rules.

A rule file that is wrong never stops the good ones: it is named in `RuleSet.problems`, and `strict` makes an error
of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipesync._paths import shipped
from pipesync.config import Config, RuleSetting
from pipesync.errors import InputError, Place, Problem
from pipesync.rules.format import Catalogue, Rule, load_rule, with_setting
from pipesync.rules.languages import Language, read_languages
from pipesync.rules.levels import LEVELS
from pipesync.rules.playbooks import Playbook, read_playbooks, unknown_names
from pipesync.yamlsource import Document, nearest, read, validate

PRESETS = ("recommended", "strict", "all")
_AREAS = ("hygiene", "bottleneck", "forecast")


class Preset(BaseModel):
    """A preset file: rules by id, `all: true` for every shipped one, and changes to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    title: str
    all: bool = False
    rules: tuple[str, ...] = ()
    settings: dict[str, RuleSetting] = Field(default_factory=dict)


@dataclass(frozen=True)
class RuleSet:
    """The rules of a site, by id."""

    rules: dict[str, Rule]
    problems: tuple[Problem, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    """Rule id -> where it comes from: a preset or a folder."""
    unreadable: frozenset[str] = frozenset()
    """Ids of rules that should run and cannot be read; what they found earlier stays as it is."""
    files: dict[str, Path] = field(default_factory=dict)
    """Rule id -> its file, also of those that cannot be read."""
    languages: dict[str, Language] = field(default_factory=dict)
    """By tag; English is what the rules themselves say."""
    playbooks: dict[str, Playbook] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules.values())

    def __len__(self) -> int:
        return len(self.rules)

    def __getitem__(self, rule: str) -> Rule:
        if rule in self.unreadable:
            raise InputError(*self.problems)
        if rule not in self.rules:
            raise InputError(self._not_on(rule))
        return self.rules[rule]

    def _not_on(self, rule: str) -> Problem:
        home = rule_files(shipped("rules"))
        if rule in home:
            return Problem(f"{rule!r} is not on", fix=f"say `{rule}: on` below `rules:`")
        return Problem(f"no rule {rule!r}", fix=nearest(rule, {**home, **self.rules}))

    def only(self, ids: Sequence[str]) -> RuleSet:
        """Return the set of these rules alone; InputError for one that is not there."""
        return replace(self, rules={i: self[i] for i in ids})


_NO_RULES = ("presets", "playbooks", "languages")


@dataclass(frozen=True)
class _Setting:
    """A change to a rule, and where it is said."""

    setting: RuleSetting
    document: Document
    at: tuple[str | int, ...]


def _site(config: Config | None) -> Document:
    """Return the site's file, or an empty one where the configuration was made without."""
    return (config.document if config else None) or Document("pipesync.yaml", "", None)


def rule_files(folder: Path) -> dict[str, Path]:
    """Return rule id -> file for every rule file below a folder; presets, playbooks and languages are not rules.

    InputError for a link that leads out of the folder: a pack that somebody else made is not to read other files.
    """
    found = {
        ".".join(path.relative_to(folder).with_suffix("").parts): path
        for path in sorted(folder.rglob("*.yaml"))
        if path.relative_to(folder).parts[0] not in _NO_RULES and not path.name.startswith(".")
    }
    for path in found.values():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                Problem("leads out of the folder of rules", Place(str(path)), "put a file in its place")
            )
    return found


def load(config: Config | None = None, *, strict: bool = False, catalogue: Catalogue = LEVELS) -> RuleSet:
    """Return the rules that a configuration asks for; without one the recommended preset.

    `catalogue` holds the connected CRM's own words, which the site's rules and settings are checked against. Shipped
    rules are not: they have no words of any CRM.
    """
    home = shipped("rules")
    available = rule_files(home)
    chosen: dict[str, tuple[Path, Path, str]] = {}
    settings: dict[str, list[_Setting]] = {}
    problems: list[Problem] = []
    for name in config.extends if config else ("pipesync:recommended",):
        path = _preset_file(name, config)
        document = read(path)
        preset = validate(Preset, document)
        ids = tuple(available) if preset.all else preset.rules
        for rule in ids:
            if rule not in available:
                at = ("rules", preset.rules.index(rule))
                problems.append(document.problem(at, f"no rule {rule!r}", fix=nearest(rule, available)))
            else:
                chosen[rule] = (available[rule], home, name)
        for rule, setting in preset.settings.items():
            settings.setdefault(rule, []).append(_Setting(setting, document, ("settings", rule)))
    for folder in config.rule_folders if config else ():
        own = config.path(folder) if config else folder
        if not own.is_dir():
            raise InputError(Problem("no such folder of rules", Place(str(own)), "correct `rule_folders`"))
        chosen |= {rule: (path, own, str(own)) for rule, path in rule_files(own).items()}
    for rule, setting in (config.rules if config else {}).items():
        if rule not in chosen and rule not in available:
            said = f"`rules:` speaks of {rule!r}, which is no rule"
            place = _site(config).place(("rules", rule), key=True)
            problems.append(Problem(said, place, nearest(rule, {**available, **chosen})))
            continue
        if rule not in chosen and setting.enabled:
            chosen[rule] = (available[rule], home, "rules")
        own_setting = _Setting(setting, _site(config), ("rules", rule))
        settings.setdefault(rule, []).append(own_setting)
    wanted = {r for r in chosen if _is_on(settings.get(r, ()))}
    loaded = _read_all({r: chosen[r] for r in wanted}, settings, problems, catalogue)
    for one in loaded.values():
        for i, other in enumerate(one.supersedes):
            if other not in loaded and other not in available:
                said = f"supersedes {other!r}, which is no rule"
                fix = nearest(other, available)
                problems.append(one.document.problem(("supersedes", i), said, fix=fix))
    folders = (home, *(config.path(f) for f in config.rule_folders)) if config else (home,)
    books, wrong = read_playbooks(folders)
    languages, wrong_words = read_languages(folders, loaded, {*available, *chosen}, books)
    problems += [*wrong, *wrong_words, *unknown_names(books, list(loaded.values()))]
    if problems and strict:
        raise InputError(*problems)
    sources = {r: chosen[r][2] for r in loaded}
    unreadable = frozenset(wanted - set(loaded))
    files = {r: chosen[r][0] for r in wanted}
    return RuleSet(loaded, tuple(problems), sources, unreadable, files, languages, books)


def _preset_file(name: str, config: Config | None) -> Path:
    kind, _, rest = name.partition(":")
    if kind == "pipesync":
        if rest not in PRESETS:
            raise InputError(_no_preset(name, config))
        return shipped("rules") / "presets" / f"{rest}.yaml"
    path = config.path(Path(name)) if config else Path(name)
    if not path.is_file():
        raise InputError(_no_preset(name, config))
    return path


def _no_preset(name: str, config: Config | None) -> Problem:
    at = ("extends", config.extends.index(name)) if config else ()
    ours = [f"pipesync:{preset}" for preset in PRESETS]
    fix = f"did you mean 'pipesync:{name}'?" if name in PRESETS else nearest(name, ours)
    said = f"no preset {name!r}" + ("" if name.startswith("pipesync:") else ", and no such file")
    return Problem(said, _site(config).place(at), fix)


def _read_all(
    chosen: dict[str, tuple[Path, Path, str]],
    settings: dict[str, list[_Setting]],
    problems: list[Problem],
    catalogue: Catalogue,
) -> dict[str, Rule]:
    loaded: dict[str, Rule] = {}
    for rule_id, (path, folder, _) in sorted(chosen.items()):
        is_shipped = folder == shipped("rules")
        try:
            rule = load_rule(path, folder) if is_shipped else load_rule(path, folder, catalogue)
        except InputError as error:
            problems += error.problems
            continue
        wrong: list[Problem] = []
        for one in settings.get(rule_id, ()):
            rule, said = with_setting(rule, one.setting, one.document, one.at, catalogue)
            wrong += said
        if wrong:  # with half of its settings it would say what nobody meant
            problems += wrong
        else:
            loaded[rule_id] = rule
    return loaded


def _is_on(settings: Sequence[_Setting]) -> bool:
    """The last that says so turns a rule on or off."""
    said = [s.setting.enabled for s in settings if "enabled" in s.setting.model_fields_set]
    return said[-1] if said else True
