"""`pipesync digest`: see the weekly digests before anybody gets one, or send them now."""

from __future__ import annotations

from pathlib import Path

import click

from pipesync.cli.options import Source, example, formatted, reading


@click.command(epilog=example("pipesync digest", "pipesync digest --for rep:USR-001 --html previews"))
@reading
@click.option("--for", "person", metavar="WHO", help="Only rep:ID, manager:ID or leader:ID (default: all).")
@click.option(
    "--html", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write previews as HTML here."
)
@click.option(
    "--send", "sending", is_flag=True, help="Send this week's now, to those who did not get it yet."
)
@formatted("json")
def digest(source: Source, person: str | None, folder: Path | None, sending: bool, form: str) -> None:
    """Show the weekly digest of each person, in their language.

    `sync` sends them once a week where `notify.digest` says how; nothing is sent without it.
    """
    import re

    from rich.text import Text

    from pipesync import notices, steps
    from pipesync.cli.opening import reading_from
    from pipesync.cli.output import Result, each, finish
    from pipesync.errors import InputError, Problem
    from pipesync.report import views
    from pipesync.rules.examination import load_rules
    from pipesync.runlog import now
    from pipesync.store.ledger import Ledger

    with reading_from(source) as opened:
        config, ruleset = opened.config, load_rules(opened.config)
        templates = config.notify.templates and config.path(config.notify.templates)
        if sending and (config.notify.digest is None or source.data):
            raise InputError(
                Problem("nothing says how digests are sent", fix="give `notify: {digest: {to_env: ...}}`")
            )

        def work(name: str) -> Result:
            made = steps.prepare(opened.warehouse, name, config, ruleset, opened.as_of(name), opened.ledger)
            found = steps.find_bottlenecks(opened.warehouse, name, config, opened.as_of(name))
            evaluation = made.examined.evaluation
            facts = notices.gather(opened.warehouse, opened.ledger, evaluation, made.forecast, found, ruleset)
            digests = notices.previews(facts, config, person)
            entry: dict[str, object] = {
                "digests": [
                    {"kind": d.kind, "person": d.person, "email": d.email, "language": d.language, "title": d.title,
                     "text": notices.lay_out(d, "txt", templates)}
                    for d in digests
                ]
            }  # fmt: skip
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                for d in digests:
                    file = folder / (re.sub(r"[^\w.-]+", "-", f"{name}-{d.kind}-{d.person}") + ".html")
                    file.write_text(notices.lay_out(d, "html", templates), encoding="utf-8")
            code = 0
            if sending:
                with Ledger(config.ledger_url) as ledger:
                    entry["delivery"] = done = notices.deliver(facts, config, ledger, now(), at_once=True)
                code = 4 if done["failed"] else 0
            shown = [f"{d.title}\n{notices.lay_out(d, 'txt', templates)}" for d in digests]
            if sending:
                shown = [", ".join(f"{count} {what.replace('_', ' ')}" for what, count in done.items())]
            return Result(entry, (views.heading(name), *map(Text, shown or ["nobody gets a digest"])), code)

        finish(opened.connections, each(opened.connections, work), form)
