"""YAML that people write: read with marks, so that every complaint can point at its line and column.

YAML 1.2's core schema as far as it matters to people: only `true` and `false` are booleans (`no`, `on` and
`off` stay text), `010` is ten, dates stay text until a field types them, and a key given twice is an error
instead of a silent last-one-wins.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipesync.errors import InputError, Place, Problem

Path_ = tuple[str | int, ...]
"""Where a value sits: the keys and indexes that lead to it."""

M = TypeVar("M", bound=BaseModel)

_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map", "merge", "value")
_MOST_VALUES = 200_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Document:
    """One YAML file: its plain data, and where each key and value of it stands."""

    file: str
    text: str
    data: Any  # Any: this is what validation is for
    values: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path_, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: Sequence[str | int] = (), *, key: bool = False) -> Place:
        """Return the place of the value (or of the key) at `path`, or of its nearest known parent."""
        at = tuple(path)
        marks = (self.keys, self.values) if key else (self.values, self.keys)
        while True:
            for found in (m[at] for m in marks if at in m):
                line, column = found
                lines = self.text.splitlines()
                return Place(self.file, line, column, lines[line - 1] if line <= len(lines) else "")
            if not at:
                return Place(self.file)
            at = at[:-1]

    def problem(
        self, path: Sequence[str | int], message: str, *, fix: str = "", key: bool = False
    ) -> Problem:
        return Problem(message, self.place(path, key=key), fix)


def read(path: Path) -> Document:
    """Read a YAML file; InputError where it is missing, unreadable or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(Problem("no such file", Place(str(path)))) from None
    except (OSError, UnicodeDecodeError) as error:
        why = (
            "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or "unreadable")
        )
        raise InputError(Problem(why, Place(str(path)))) from None
    return parse(text, str(path))


def parse(text: str, file: str = "<text>") -> Document:
    """Parse YAML text; all duplicate keys are reported at once."""
    document = Document(file, text, None)
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines = text.splitlines()
        at = (
            Place(file, mark.line + 1, mark.column + 1, lines[mark.line] if mark.line < len(lines) else "")
            if mark
            else Place(file)
        )
        raise InputError(Problem(f"not valid YAML: {error.problem}", at, _yaml_mend(at))) from None
    except yaml.YAMLError as error:
        raise InputError(Problem(f"not valid YAML: {error}".splitlines()[0], Place(file))) from None
    except RecursionError:
        raise InputError(Problem("is nested too deeply", Place(file))) from None
    problems: list[Problem] = []
    if node is not None:
        try:
            document.data = _build(node, (), document, problems)
        except RecursionError:  # an alias inside of what it stands for, too
            raise InputError(Problem("is nested too deeply", Place(file))) from None
    if problems:
        raise InputError(*problems)
    return document


def _yaml_mend(at: Place) -> str:
    """Return what usually is behind YAML that cannot be read at this place."""
    text = at.text.rstrip()
    indent = text[: len(text) - len(text.lstrip())]
    if "\t" in indent + text[at.column - 1 : at.column]:
        return "indent with spaces, never with tabs"
    value = text.partition(": ")[2].strip()
    is_plain = value[:1] not in ("'", '"', "|", ">", "")
    if is_plain and ((": " in value.strip("{}[]") and not value.startswith("{")) or _BROKEN_OFF.match(value)):
        return "quote the text: it holds a colon, or begins with a brace"
    return "begin it where the lines that belong together begin, and close every quote, bracket and brace"


def _build(node: yaml.Node, path: Path_, document: Document, problems: list[Problem]) -> Any:
    here = (node.start_mark.line + 1, node.start_mark.column + 1)
    if len(document.values) >= _MOST_VALUES:  # aliases of aliases make much out of little
        raise InputError(Problem(f"holds more than {_MOST_VALUES:,} values", _mark(document, here)))
    document.values[path] = here
    if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
        problems.append(
            Problem("a tag makes no sense here", _mark(document, here), "write the value without it")
        )
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), document, problems) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            at = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem("a key must be a plain word", _mark(document, at)))
                continue
            key = key_node.value
            if key in built:
                first = document.keys[(*path, key)][0]
                problems.append(
                    Problem(
                        f"key {key!r} is given twice (first on line {first})",
                        _mark(document, at),
                        "keep one of them",
                    )
                )
                continue
            document.keys[(*path, key)] = at
            built[key] = _build(value_node, (*path, key), document, problems)
        return built
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101  # the composer knows no fourth kind
    return _scalar(node)


def _mark(document: Document, at: tuple[int, int]) -> Place:
    return Place(document.file, at[0], at[1], document.text.splitlines()[at[0] - 1])


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    value: str = node.value
    if node.style:  # None from the Python loader, "" from the C one, for a plain scalar
        return value
    if value in _NULL:
        return None
    if value in _BOOL:
        return _BOOL[value]
    if _INT.match(value):
        return int(value)
    if _FLOAT.match(value):
        return float(value)
    return value


def nearest(word: object, known: Iterable[str]) -> str:
    """Return `did you mean 'X'?`, or the known names where nothing is near."""
    names = sorted(known)
    # Letters that changed places are the commonest slip, and `get` is then nearer to `gte` than to `gt`.
    close = [name for name in names if sorted(name) == sorted(str(word))]
    close = close or difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if shown else ""


def validate(model: type[M], document: Document, path: Sequence[str | int] = ()) -> M:
    """Validate the document's data (below `path`) as `model`; InputError with every problem and its place."""
    data = document.data
    for step in path:
        data = data[step]
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise InputError(
            document.problem(path, "expected a map of keys and values", fix="write `key: value`")
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(*_problems(error, model, document, tuple(path))) from None


def _problems(
    error: ValidationError, model: type[BaseModel], document: Document, base: Path_
) -> list[Problem]:
    found: dict[tuple[Place, str], Problem] = {}
    for e in error.errors(include_url=False):
        at = base + _known_part(e["loc"], document, base)
        if e["type"] == "extra_forbidden":
            names = _names_at(model, e["loc"][:-1])
            problem = document.problem(
                at, f"unknown key {e['loc'][-1]!r}", fix=_key_mend(e["loc"][-1], names), key=True
            )
        elif e["type"] in ("string_pattern_mismatch", "string_type") and (
            like := _example_at(model, e["loc"])
        ):
            said = f"{e['loc'][-1]}: {e['input']!r} is not understood"
            problem = document.problem(at, said, fix=f"write it like {like!r}")
        elif e["type"] == "missing":
            problem = document.problem(at, f"key {e['loc'][-1]!r} is missing", fix=f"add `{e['loc'][-1]}:`")
        else:
            ctx = e.get("ctx", {})
            expected = ctx.get("expected")
            message, fix = _in_words(e["type"], e["msg"].removeprefix("Value error, "))
            if e["type"] in ("literal_error", "enum") and expected:
                known = re.findall(r"'([^']*)'", str(expected))
                message, fix = f"never {e['input']!r}", f"{nearest(e['input'], known)}; allowed: {expected}"
            name = ".".join(map(str, e["loc"]))
            problem = document.problem(at, f"{name}: {message}" if name else message, fix=fix)
        key = (problem.place or Place(document.file), problem.message)
        found.setdefault(key, problem)
    return sorted(found.values(), key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


_BROKEN_OFF = re.compile(r"\{[^{}]*\}\s*[^\s,}#]|[*&!%@`]")
"""A text that begins as a map, or as something else that YAML knows, and goes on."""
_KINDS = {
    "tuple_type": ("expected a list", "write `[first, second]`, or `- first` below it"),
    "list_type": ("expected a list", "write `[first, second]`, or `- first` below it"),
    "dict_type": ("expected a map", "write `{key: value}`, or `key: value` below it"),
    "model_type": ("expected a map", "write `{key: value}`, or `key: value` below it"),
    "string_type": ("expected text", "quote it"),
    "bool_type": ("expected true or false", "write true or false"),
    "bool_parsing": ("expected true or false", "write true or false"),
    "int_type": ("expected a whole number", ""),
    "int_parsing": ("expected a whole number", ""),
    "float_type": ("expected a number", ""),
    "float_parsing": ("expected a number", ""),
}


def _key_mend(key: str | int, names: Iterable[str]) -> str:
    return "write numbers without thousands: 20000" if str(key).isdigit() else nearest(key, names)


def _in_words(kind: str, said: str) -> tuple[str, str]:
    """Return what is wrong, and its mend, in the words of people who never saw Python."""
    return _KINDS.get(kind, (said, ""))


def _known_part(loc: tuple[str | int, ...], document: Document, base: Path_) -> Path_:
    """Drop what pydantic adds to a location (union tags, function names): keep steps that exist in the file."""
    at: Path_ = ()
    for step in loc:
        known = (*base, *at, step)
        if known in document.values or known in document.keys:
            at = (*at, step)
    return at


def _names_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    """Return the keys that the model allows at `loc`, as far as they can be followed."""
    return {f.alias or name for m in _models_at(model, loc) for name, f in m.model_fields.items()}


def _example_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Return the first of a field's `examples`; empty where it has none."""
    for m in _models_at(model, loc[:-1]):
        info = _field(m, loc[-1])
        if info and info.examples:
            return str(info.examples[0])
    return ""


def _field(model: type[BaseModel], name: str | int) -> FieldInfo | None:
    found = model.model_fields.get(str(name))
    return found or next((f for f in model.model_fields.values() if f.alias == name), None)


def _models_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    current: list[type[BaseModel]] = [model]
    for step in loc:
        following: list[type[BaseModel]] = []
        for m in current:
            info = _field(m, step)
            pending: list[Any] = [info.annotation] if info else []
            while pending:
                kind = pending.pop()
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    following.append(kind)
                pending += typing.get_args(kind)
        current = following or current
    return current
