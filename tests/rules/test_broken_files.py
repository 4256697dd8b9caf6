"""Two hundred rule files with one mistake each: every one is found where it was made, with its mend, all in one run.

The generator takes shipped rules and makes the mistakes that people make; it knows where, and what would mend them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipesync._paths import shipped
from pipesync.config import from_text
from pipesync.errors import Problem
from pipesync.rules.linting import Linted, lint
from pipesync.rules.ruleset import rule_files
from pipesync.rules.vocabulary import Vocabulary
from pipesync.yamlsource import Document, Path_, parse

EACH = 25
STAGES = ("Qualify", "Discover", "Propose", "Security review", "Negotiate")
GOOD = [path.read_text(encoding="utf-8") for path in rule_files(shipped("rules")).values()]


@dataclass(frozen=True)
class Mistake:
    """A broken file, the line that is wrong, and words of the message or of its fix."""

    text: str
    line: int
    mend: str


Maker = Callable[[str, random.Random], Mistake | None]


def edited(text: str, at: tuple[int, int], old: str, new: str) -> str | None:
    """Put `new` in the place of `old`, which begins at a line and column; None where something else stands there."""
    lines = text.splitlines()
    line, start = lines[at[0] - 1], at[1] - 1
    if not line[start:].startswith(old):
        return None
    lines[at[0] - 1] = line[:start] + new + line[start + len(old) :]
    return "\n".join(lines) + "\n"


def made(text: str, at: tuple[int, int], old: str, new: str, mend: str) -> Mistake | None:
    broken = edited(text, at, old, new)
    return None if broken is None else Mistake(broken, at[0], mend)


def swapped(word: str) -> str:
    """Write a word as hurried people do: with two inner letters the other way round."""
    middle = max(1, len(word) // 2)
    for i in [*range(middle, len(word) - 1), *range(1, middle)]:
        if word[i] != word[i + 1 : i + 2] and i + 1 < len(word):
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word + word[-1]


def some(document: Document, rng: random.Random, wanted: Callable[[Path_], bool]) -> Path_ | None:
    found = sorted((p for p in document.keys if wanted(p)), key=repr)
    return rng.choice(found) if found else None


def in_conditions(path: Path_) -> bool:
    return path[0] in ("when", "applies_to") or (path[:1] == ("overrides",) and "match" in path)


def misspelt_key(text: str, rng: random.Random) -> Mistake | None:
    """Of the file, of a parameter, of the task, or a field of a condition or a case."""
    document = parse(text)
    path = some(
        document, rng,
        lambda p: len(str(p[-1])) > 4 and "." not in str(p[-1])
        and (len(p) == 1 or (p[0] in ("params", "task") and len(p) == (3 if p[0] == "params" else 2))
             or in_conditions(p) or (p[0] == "tests" and p[-2] == "given")),
    )  # fmt: skip
    return renamed(document, path, swapped(str(path[-1]))) if path else None


def renamed(document: Document, path: Path_, wrong: str) -> Mistake | None:
    key = str(path[-1])
    return made(document.text, document.keys[path], key, wrong, f"did you mean {key!r}")


def wrong_operator(text: str, rng: random.Random) -> Mistake | None:
    """One that is nearly right."""
    document = parse(text)
    operators = ("gte", "lte", "missing", "within_next", "within_last", "older_than", "not_in", "between")
    path = some(document, rng, lambda p: in_conditions(p) and p[-1] in operators)
    return renamed(document, path, swapped(str(path[-1]))) if path else None


def bad_unit(text: str, rng: random.Random) -> Mistake | None:
    document = parse(text)
    path = some(document, rng, lambda p: p[0] == "params" and p[-1] == "unit")
    if path is None:
        return None
    unit = document.data["params"][path[1]]["unit"]
    return made(text, document.values[path], unit, swapped(unit), f"did you mean {unit!r}")


def wrong_type(text: str, rng: random.Random) -> Mistake | None:
    """`yes` in place of true, a number in words, a list where there is one value."""
    document = parse(text)

    def value(path: Path_) -> object:
        found = document.data
        for step in path:
            found = found[step]
        return found

    path = some(
        document, rng,
        lambda p: (in_conditions(p) or p[-2:-1] == ("given",) or (p[0] == "params" and p[-1] in ("min", "max")))
        and isinstance(value(p), bool | int | float) and p[-1] not in ("times", "or_missing"),
    )  # fmt: skip
    if path is None:
        return None
    old = value(path)
    at = document.values[path]
    if isinstance(old, bool):
        return made(text, at, str(old).lower(), "yes" if old else "no", "true or false")
    return made(text, at, str(old), "ten", "number")


def bad_date(text: str, rng: random.Random) -> Mistake | None:
    document = parse(text)
    path = some(document, rng, lambda p: p[0] == "tests" and p[-1] == "today")
    if path is None:
        return None
    at = document.values[path]
    day = document.text.splitlines()[at[0] - 1][at[1] - 1 :][:10]
    wrong = rng.choice([day[:5] + "13-01", day[:8] + "32", "soon", "23.11.2026"])
    return made(text, at, day, wrong, "write `today: 2026-11-23`")


def duplicate_key(text: str, rng: random.Random) -> Mistake | None:
    """A line of the file's own keys that somebody copied to its end."""
    document = parse(text)
    lines = text.splitlines()
    path = some(
        document, rng,
        lambda p: len(p) == 1 and p != ("tests",)
        and not lines[document.keys[p][0] - 1].rstrip().endswith((":", ">", ",")),
    )  # fmt: skip
    if path is None:
        return None
    first = document.keys[path][0]
    said = f"{path[0]!r} is given twice (first on line {first})"
    return Mistake("\n".join([*lines, lines[first - 1]]) + "\n", len(lines) + 1, said)


def tab(text: str, rng: random.Random) -> Mistake | None:
    """In place of the blanks that a line is indented with."""
    lines = text.splitlines()
    indented = [i for i, line in enumerate(lines) if line.startswith("  ") and lines[i - 1].endswith(":")]
    if not indented:
        return None
    at = rng.choice(indented)
    lines[at] = "\t" + lines[at].lstrip()
    return Mistake("\n".join(lines) + "\n", at + 1, "never with tabs")


def unknown_stage(text: str, rng: random.Random) -> Mistake | None:
    """One that this CRM does not have."""
    document = parse(text)
    if document.data.get("level", "opportunity") != "opportunity" or ("applies_to",) not in document.keys:
        return None
    stage = rng.choice(STAGES)
    at = document.keys["applies_to",][0]
    lines = text.splitlines()
    if not lines[at - 1].rstrip().endswith("}"):
        return None
    lines[at - 1] = lines[at - 1].rstrip()[:-1] + f", stage: {swapped(stage)}}}"
    return Mistake("\n".join(lines) + "\n", at, f"did you mean {stage!r}")


MAKERS: dict[str, Maker] = {
    "misspelt key": misspelt_key, "wrong type": wrong_type, "wrong operator": wrong_operator, "bad unit": bad_unit,
    "bad date": bad_date, "duplicate key": duplicate_key, "tab": tab, "unknown stage": unknown_stage,
}  # fmt: skip


def mistakes(seed: int) -> Iterator[tuple[str, Mistake]]:
    """Yield EACH broken files of every kind, each from a rule drawn at random, under an id of its own."""
    rng = random.Random(seed)  # noqa: S311  # the same mistakes every time
    for kind, make in MAKERS.items():
        texts: set[str] = set()
        while len(texts) < EACH:
            text = rng.choice(GOOD)
            name = f"broken.{kind.replace(' ', '_')}_{len(texts)}"
            rule = parse(text).data["rule"]
            found = make(text.replace(f"rule: {rule}\n", f"rule: {name}\n", 1), rng)
            if found is not None and found.text not in texts:
                texts.add(found.text)
                yield name, found


@pytest.fixture(scope="module")
def linted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Mistake], Linted]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "own" / "broken").mkdir(parents=True)
    (folder / "own" / "fine").mkdir()
    (folder / "own" / "fine" / "one.yaml").write_text(
        GOOD[0].replace(parse(GOOD[0]).data["rule"], "fine.one", 1)
    )
    broken = dict(mistakes(seed=20261123))
    for name, mistake in broken.items():
        (folder / "own" / "broken" / f"{name.partition('.')[2]}.yaml").write_text(
            mistake.text, encoding="utf-8"
        )
    config = from_text("connections: {crm: {adapter: files, data: x}}\nrule_folders: [own]\n", folder)
    return broken, lint(config, Vocabulary({"stage": STAGES}))


def test_two_hundred_mistakes_are_found_where_they_were_made(
    linted: tuple[dict[str, Mistake], Linted],
) -> None:
    """The line is right and the mend is named; nothing but what follows from the one mistake is said besides."""
    broken, found = linted
    by_file: dict[str, list[Problem]] = {}
    for problem in found.problems:
        assert problem.place is not None
        by_file.setdefault(f"broken.{Path(problem.place.file).stem}", []).append(problem)

    assert len(broken) == len(MAKERS) * EACH == 200
    missed = []
    for name, mistake in broken.items():
        here = [p for p in by_file.get(name, []) if p.place and p.place.line == mistake.line]
        if not any(mistake.mend in f"{p.message} {p.fix}" for p in here):
            missed.append((name, mistake.line, mistake.mend, [str(p) for p in by_file.get(name, [])]))
    assert missed == []
    assert max(len(problems) for problems in by_file.values()) <= 3


def test_none_of_them_stops_a_good_one(linted: tuple[dict[str, Mistake], Linted]) -> None:
    """The site's good file and the shipped ones are there, and those that are broken are known by their ids."""
    broken, found = linted

    assert "fine.one" in found.rules.rules
    assert "hygiene.stale_commit" in found.rules.rules
    cases_only = {n for n in broken if n in found.rules.rules}
    assert found.rules.unreadable == broken.keys() - cases_only
