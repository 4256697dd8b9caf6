"""Pages that are written from the code, so that they cannot drift from it: `docs --write`, and `--check` in CI."""

from __future__ import annotations

import click

from pipesync.cli.options import example


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
    from pipesync.features import COLUMNS

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
    return "\n".join(parts) + "\n"


def rules_page() -> str:
    """Return rules/README.md: every shipped rule, why it is there and what can be tuned."""
    from pipesync.config import Config, ConnectionConfig
    from pipesync.rules import load

    config = Config(extends=("pipesync:all",), connections={"any": ConnectionConfig(adapter="files")})
    recommended = set(load().rules)
    parts = [
        "# Rules\n",
        "Generated from the rule files by `python -m pipesync.cli docs --write`. Rules of the recommended preset "
        "have a star. `pipesync.yaml` turns a rule off, or changes its severity and parameters; nobody edits these "
        "files.\n",
    ]
    for rule in load(config, strict=True):
        star = " ★" if rule.id in recommended else ""
        parts.append(
            f"## {rule.id}{star}\n\n**{rule.title}** ({rule.severity}, {rule.status}, per {rule.level}). {rule.why}\n"
        )
        for name, text in rule.texts.items():
            bounds = (
                f", from {text.min} to {text.max}" if text.min is not None and text.max is not None else ""
            )
            unit = f" {text.unit.replace('_', ' ')}" if text.unit else ""
            parts.append(f"- `{name}`: {text.help or name} (default {text.default}{unit}{bounds})")
        for case in rule.false_positives:
            parts.append(f"- Not meant: {case}")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return path below the checkout -> what it must hold."""
    return {
        "docs/commands.md": commands_page(),
        "docs/features.md": features_page(),
        "rules/README.md": rules_page(),
    }


@click.command(hidden=True, epilog=example("pipesync docs --check"))
@click.option("--write", is_flag=True, help="Write the pages.")
@click.option("--check", is_flag=True, help="Fail where a page differs from what the code says.")
def docs(write: bool, check: bool) -> None:
    """Write or check the generated pages of this checkout."""
    from pipesync._paths import shipped
    from pipesync.errors import InputError, Place, Problem

    root = shipped("rules").parent
    if not (root / "pyproject.toml").exists():
        raise InputError("the generated pages belong to a checkout; this is an installed pipesync")
    stale = []
    for name, text in pages().items():
        file = root / name
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            click.echo(f"wrote {name}")
    if stale and check and not write:
        fix = "run `python -m pipesync.cli docs --write`"
        raise InputError(*(Problem("differs from the code", Place(name), fix) for name in stale))
