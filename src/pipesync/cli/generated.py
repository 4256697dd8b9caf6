"""`docs --write` and `--check`: pages that come from the code, so that they cannot drift from it."""

from __future__ import annotations

import click

from pipesync.cli.options import example


@click.command(hidden=True, epilog=example("pipesync docs --check"))
@click.option("--write", is_flag=True, help="Write the pages.")
@click.option("--check", is_flag=True, help="Fail where a page differs from what the code says.")
def docs(write: bool, check: bool) -> None:
    """Write or check the generated pages of this checkout."""
    from pipesync._paths import shipped
    from pipesync.cli.pages import pages
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
