"""How good a rule's cases are: one thing that decides is changed at a time, and a case is to notice.

An operator, a threshold, a value or a join. A mutant that no case tells from its rule survives: either a boundary has
no case, or what was changed decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from pipesync.errors import InputError
from pipesync.rules.cases import run
from pipesync.rules.format import Rule, read_rule
from pipesync.yamlsource import parse

Path = tuple[str | int, ...]
Yaml = Any  # what a YAML file holds
_AREAS = ("applies_to", "when", "overrides", "severity_ladder", "measures")
_SWAPPED = {
    "gt": "gte", "gte": "gt", "lt": "lte", "lte": "lt", "eq": "ne", "ne": "eq", "in": "not_in", "not_in": "in",
    "within_last": "older_than", "older_than": "within_last", "within_next": "within_last", "all": "any", "any": "all",
}  # fmt: skip
_OTHERS = {
    "phase": ("early", "middle", "late"),
    "forecast_category": ("omitted", "pipeline", "best_case", "commit"),
    "stage_default_category": ("omitted", "pipeline", "best_case", "commit"),
}
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_SPAN = re.compile(r"(\d+)(.*)")


_AT_ONCE = 400
"""Mutants whose cases are judged together."""


@dataclass(frozen=True)
class Campaign:
    """What the cases made of the mutants; survivors as `RULE: what was changed`."""

    total: int
    survivors: tuple[str, ...]

    @property
    def killed(self) -> float:
        """The share that a case noticed."""
        return 1 - len(self.survivors) / self.total if self.total else 1.0


def campaign(
    rules: Iterable[Rule], *, every: int = 1, progress: Callable[[int], None] = lambda done: None
) -> Campaign:
    """Run the cases of the rules' mutants, or of every so manyth, and return which survive."""
    made = [m for n, rule in enumerate(rules) for m in read_mutants(rule, every, n % every)]
    survivors: set[str] = set()
    for start in range(0, len(made), _AT_ONCE):
        some = made[start : start + _AT_ONCE]
        results = run(some)
        killed = {r.place.file for r in results if not r.passed}
        survivors |= {m.document.file for m in some} - killed
        progress(start + len(some))
    return Campaign(len(made), tuple(sorted(survivors)))


def read_mutants(rule: Rule, every: int = 1, start: int = 0) -> Iterator[Rule]:
    """Yield every so manyth mutant, under a file name that says what was changed; what is no rule is no mutant."""
    for said, copy in islice(mutants(rule.document.data), start, None, every):
        text = yaml.dump(copy, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
        try:
            yield read_rule(parse(text, f"{rule.id}: {said}"), rule.file)
        except InputError:
            continue


def mutants(data: Yaml) -> Iterator[tuple[str, Yaml]]:
    """Yield what was changed, and the changed copy."""
    for area in _AREAS:
        if area in data:
            yield from _below(data, (area,), data[area])
    for name, parameter in data.get("params", {}).items():
        yield from _of_parameter(data, ("params", name), parameter)
    if data.get("min_n"):
        yield from ((f"min_n {n}", _with(data, ("min_n",), n)) for n in _beside(data["min_n"]))


def _below(data: Yaml, at: Path, node: Yaml) -> Iterator[tuple[str, Yaml]]:
    said = ".".join(map(str, at))
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _SWAPPED and not (key in ("all", "any") and len(value) < 2):
                renamed = {(_SWAPPED[key] if k == key else k): v for k, v in node.items()}
                yield f"{said}: {key} -> {_SWAPPED[key]}", _with(data, at, renamed)
            if key == "or_missing":
                yield f"{said}: no or_missing", _with(data, at, {k: v for k, v in node.items() if k != key})
            elif key == "not":
                yield f"{said}: no not", _with(data, at, value)
            elif key not in ("severity", "help", "calculate", "field"):
                yield from _below(data, (*at, key), value)
    elif isinstance(node, list):
        if len(node) > 1 and not any(isinstance(n, dict) and "match" in n for n in node):
            for i in range(len(node)):
                yield f"{said}: without {i}", _with(data, at, node[:i] + node[i + 1 :])
        for i, value in enumerate(node):
            if isinstance(value, dict):
                yield from _below(data, (*at, i), value)
    elif isinstance(node, bool):
        yield f"{said}: {not node}", _with(data, at, not node)
    elif isinstance(node, int | float):
        yield from ((f"{said}: {n}", _with(data, at, n)) for n in _beside(node))
    elif isinstance(node, str):
        other = next((o for o in _OTHERS.get(str(at[-1]), ()) if o != node), None)
        if other:
            yield f"{said}: {other}", _with(data, at, other)


def _of_parameter(data: Yaml, at: Path, parameter: Mapping[str, Yaml]) -> Iterator[tuple[str, Yaml]]:
    said, default = ".".join(map(str, at)), parameter["default"]
    if isinstance(default, list):
        for i in range(len(default)):
            yield f"{said}: without {i}", _with(data, (*at, "default"), default[:i] + default[i + 1 :])
    elif isinstance(default, str) and (found := _SPAN.fullmatch(default)):
        for n in _beside(int(found[1])):
            yield f"{said}: {n}{found[2]}", _with(data, (*at, "default"), f"{n}{found[2]}")
    elif not isinstance(default, str):
        for n in _beside(default):
            if parameter.get("min", n) <= n <= parameter.get("max", n):
                yield f"{said}: {n}", _with(data, (*at, "default"), n)
    if learnt := parameter.get("learnt"):
        yield f"{said}: not learnt", _with(data, at, {k: v for k, v in parameter.items() if k != "learnt"})
        for n in _beside(float(learnt.get("times", 1))):
            yield f"{said}: learnt x {n}", _with(data, (*at, "learnt", "times"), n)


def _beside(value: float) -> tuple[float, float]:
    """One more and one less of a count; of anything finer, a tenth."""
    if isinstance(value, int):
        return value + 1, value - 1
    return round(value * 1.1, 6), round(value * 0.9, 6)


def _with(data: Yaml, at: Path, value: Yaml) -> Yaml:
    copy = deepcopy(data)
    node = copy
    for step in at[:-1]:
        node = node[step]
    node[at[-1]] = value
    return copy
