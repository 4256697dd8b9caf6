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


def pages() -> dict[str, str]:
    """Return path below the checkout -> what it must hold."""
    from pipesync.features.columns import page as features_page
    from pipesync.rules.pages import catalogue, schema

    return {
        "docs/commands.md": commands_page(),
        "docs/features.md": features_page(),
        "rules/README.md": catalogue(),
        "rules/schema.json": schema(),
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
