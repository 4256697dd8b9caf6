"""The generated pages: commands, configuration, features and rules, each from the code or the files that hold it."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel

from pipesync.adapters.files.adapter import Options as Files
from pipesync.adapters.hubspot.options import Options as HubSpot
from pipesync.adapters.salesforce.options import Options as Salesforce
from pipesync.config import Config, ConnectionConfig
from pipesync.features import COLUMNS
from pipesync.rules import editor, load
from pipesync.rules import pages as rule_pages
from pipesync.rules.levels import LEVELS


def commands_page() -> str:
    """Return docs/commands.md: the help of every command, as the terminal shows it."""
    from pipesync.cli import main

    parts = [
        "# Commands\n",
        "Generated from the commands' own help by `python -m pipesync.cli docs --write`.\n",
        "Exit codes: 0 done; 1 findings at or above `--fail-on`; 2 wrong use or configuration; "
        "3 the CRM refused or could not be reached; 4 partly done.\n",
    ]
    for name, command in walk(main, ("pipesync",)):
        context = click.Context(command, info_name=" ".join(name), terminal_width=100, max_content_width=100)
        parts.append(f"## {' '.join(name)}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def walk(command: click.Command, name: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(name, command)]
    if isinstance(command, click.Group):
        for key, child in sorted(command.commands.items()):
            if not child.hidden:
                found += walk(child, (*name, key))
    return found


def features_page() -> str:
    """Return docs/features.md: the columns that rules may ask for, and how far back each can be known."""
    parts = [
        "# Features\n",
        "One row per opportunity as of a moment; what happened later is never looked at. Rules ask for these columns "
        "by name. Generated from `features/columns.py` by `python -m pipesync.cli docs --write`.\n",
        "Past: *fixed* does not change; *events* follows from dated events; *tracked* reaches as far back as the CRM's "
        "history of the fields it needs; *now* is unknown of any moment before the last pull.\n",
        "| column | kind | meaning | unit | needs | past |",
        "|---|---|---|---|---|---|",
    ]
    for column in COLUMNS.values():
        needs = ", ".join(f"`{need}`" for need in column.needs).replace("|", "` or `")
        kind = f"{column.kind}: {', '.join(column.values)}" if column.values else column.kind
        parts.append(
            f"| `{column.name}` | {kind} | {column.meaning} | {column.unit} | {needs} | {column.history} |"
        )
    for level, columns in LEVELS.items():
        if level != "opportunity":
            parts += [
                f"\n## Per {level}\n", "| column | kind | meaning | unit | from |", "|---|---|---|---|---|"
            ]  # fmt: skip
            parts += [
                f"| `{c.name}` | {c.kind} | {c.meaning} | {c.unit} | {', '.join(f'`{n}`' for n in c.needs)} |"
                for c in columns.values()
            ]
    return "\n".join(parts) + "\n"


def rules_pages() -> dict[str, str]:
    """Return rules/README.md, which lists every shipped rule, and a page of each in the docs."""
    config = Config(extends=("pipesync:all",), connections={"any": ConnectionConfig(adapter="files")})
    ruleset = load(config, strict=True)
    head = (
        "# Rules\n\nGenerated from the rule files by `python -m pipesync.cli docs --write`. Rules of the recommended "
        "preset have a star. `pipesync.yaml` turns a rule off, or changes its severity and parameters; nobody edits "
        "these files. The [tutorial](../docs/tutorials/sales-ops.md) leads through the workshop.\n"
    )
    index = rule_pages.listed(ruleset, load().rules, "../docs/rules/{}.md", head)
    schema = json.dumps(editor.schema(), indent=1, ensure_ascii=False) + "\n"
    return {
        "rules/README.md": index,
        "rules/schema.json": schema,
        **{f"docs/rules/{rule.id}.md": rule_pages.page(rule) for rule in ruleset},
    }


def configuration_page() -> str:
    """Return docs/configuration.md: every key of pipesync.yaml, from the models that validate it."""
    parts = [
        "# Configuration\n",
        "Every key of `pipesync.yaml`. Generated from the models that validate it by `python -m pipesync.cli docs "
        "--write`. Durations are written `30m`, `12h`, `7d` or `2w`. Secrets never stand in the file: `NAME_env` names "
        "the environment variable that holds one, `NAME_file` the file.\n",
    ]
    parts += _section("The file", Config)
    for adapter, options in (("files", Files), ("salesforce", Salesforce), ("hubspot", HubSpot)):
        parts += _section(f"A connection with `adapter: {adapter}`", options)
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> list[str]:
    """Return a table of a model's keys, and one of each model that is a key's value."""
    lines = [f"## {title}\n", "| key | value | default | meaning |", "|---|---|---|---|"]
    below: list[str] = []
    meanings = _meanings(model)
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        if field.exclude or name == "options":
            continue
        inner = next((t for t in _types(field.annotation) if _is_model(t)), None)
        if inner is not None:
            below += _section(f"`{name}`", inner)
        value = "see below" if inner is not None else _kind(field.annotation)
        given = (
            ""
            if field.is_required() or inner is not None
            else _default(field.get_default(call_default_factory=True))
        )
        meaning = " ".join(meanings.get(attribute, "").split())
        lines.append(f"| `{name}` | {value} | {given} | {meaning} |")
    return [*lines, "", *below]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below a model's keys. Pydantic could read them, but would at every import."""
    written = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(written, ast.ClassDef)  # noqa: S101
    return {
        key.target.id: below.value.value
        for key, below in pairwise(written.body)
        if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }


def _types(annotation: Any) -> Iterator[Any]:  # Any: types
    """Yield a type and every type inside it."""
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(annotation: Any) -> str:  # Any: a type
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    inner = [a for a in get_args(annotation) if a is not type(None) and a is not ...]
    if get_origin(annotation) in (tuple, list):
        return f"list of {_kind(inner[0])}"
    if get_origin(annotation) is dict:
        return f"map of {_kind(inner[1])}"
    if inner and isinstance(inner[0], type):
        return _kind(inner[0])
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", date: "date", Path: "path",
             timedelta: "duration"}  # fmt: skip
    return words.get(annotation, "")


def _default(value: object) -> str:
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, timedelta):
        return (
            f"`{value.days}d`"
            if value.days and not value.seconds
            else f"`{int(value.total_seconds() // 60)}m`"
        )
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value}`"


def pages() -> dict[str, str]:
    """Return path below the checkout -> what it must hold."""
    return {
        "docs/commands.md": commands_page(),
        "docs/configuration.md": configuration_page(),
        "docs/features.md": features_page(),
        **rules_pages(),
    }
