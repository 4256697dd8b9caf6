"""`pipesync demo`: the whole cycle twice, against a made-up company or a folder, for someone who has two minutes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipesync.cli.options import example, formatted, loud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from pipesync.cli.rehearsal import Rehearsal, World


@click.command(epilog=example("pipesync demo --crm files --opportunities 80"))
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Show it on a copy of this folder."
)  # fmt: skip
@click.option(
    "--mapping", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="How to read the folder."
)
@click.option(
    "--crm",
    type=click.Choice(["files", "salesforce", "hubspot", "both"]),
    help="Which CRM to play.  [default: both; files with --data]",
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this folder and leave it."
)
@click.option("--opportunities", default=2000, show_default=True, help="Size of the made-up company.")
@click.option("--seed", default=7, show_default=True, help="Of the made-up company.")
@loud
@formatted("json")
def demo(
    data: Path | None,
    mapping: Path | None,
    crm: str | None,
    keep: Path | None,
    opportunities: int,
    seed: int,
    form: str,
) -> None:
    """Walk through the whole cycle on a made-up company.

    Pull, check, forecast, plan, apply; then again, to see that nothing is left to do; then a mended opportunity.
    """
    import tempfile
    from dataclasses import replace

    from pipesync.cli.output import Result, finish, note
    from pipesync.cli.rehearsal import rehearse, write_configuration
    from pipesync.errors import InputError, Place, Problem

    with ExitStack() as stack:
        work = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipesync-demo-")))
        if keep and keep.exists() and any(keep.iterdir()):
            raise InputError(Problem("is not empty", Place(str(keep)), "give --keep a new folder"))
        work.mkdir(parents=True, exist_ok=True)
        worlds = _worlds(
            stack, work, crm or ("files" if data else "both"), data, mapping, opportunities, seed
        )
        config = write_configuration(work, worlds)

        def tell(crm: str) -> None:
            if form == "text":
                note(f"{crm}: pull, check, forecast, plan, apply, and all of it again ...")

        results = [Result(done.entry(), tuple(_view(done))) for done in rehearse(config, worlds, tell)]
        results[-1] = replace(results[-1], view=(*results[-1].view, *_next(keep)))
        finish([w.connection for w in worlds], results, form)


def _worlds(
    stack: ExitStack,
    work: Path,
    crm: str,
    data: Path | None,
    mapping: Path | None,
    opportunities: int,
    seed: int,
) -> Sequence[World]:
    """Return where the demo plays: a folder, or a sandbox that is filled from it and ends with the stack."""
    from pipesync.cli.output import note
    from pipesync.cli.rehearsal import Crm, Folder

    folder = Folder.copied(work, data, mapping) if data else Folder.generated(work, opportunities, seed)
    if crm == "files":
        return [folder]
    from pipesync.sandbox.process import running

    note("starting the sandbox ...")
    sandbox = stack.enter_context(running(folder.data, crm))
    return [Crm(sandbox, name, work) for name in sandbox.crms]


def _view(done: Rehearsal) -> list[RenderableType]:
    from rich.text import Text

    from pipesync.cli import outcomes
    from pipesync.report import views

    later = len(done.later.changes)
    by_time = ", ".join(sorted({f.rule for f in done.by_time})) or "none"
    gone = done.tasks[0] - done.tasks[1]
    shown: list[RenderableType] = [
        views.heading("Pulled", f"{done.world.crm}, as of {done.as_of:%Y-%m-%d %H:%M} UTC"),
        outcomes.pulled_view(done.pulled),
        "",
        views.heading("The worst findings", f"score {done.evaluation.score:.0f} of 100"),
        views.findings(done.evaluation.findings, 8),
        "",
        views.heading("Where revenue waits"),
        views.bottlenecks(done.bottlenecks, done.forecast.total.currency),
        "",
        views.heading("Forecast", str(done.forecast.period)),
        views.forecast(done.forecast, done.owners),
        "",
        views.heading("Plan"),
        views.plan(done.first, 6),
        "",
        views.heading("Apply"),
        outcomes.applied_view(done.applied),
        "",
        Text(
            f"second plan: {len(done.second.changes)} changes",
            "bold green" if not done.second.changes else "bold red",
        ),
        Text(
            f"a day later, on the same data: {later} changes, from findings that time itself makes true: {by_time}"
        ),
    ]
    if done.mended:
        style = "bold green" if gone == 1 else "bold red"
        shown.append(
            Text.assemble(
                f"someone mends {done.mended.subject_id} ({done.mended.rule}: {done.how}): ",
                (f"tasks {done.tasks[0]} -> {done.tasks[1]}", style),
            )
        )
    return shown


def _next(keep: Path | None) -> list[RenderableType]:
    from pipesync.report import views

    return [
        "",
        views.heading("What to do next"),
        *([f"  look around in {keep}: pipesync check --config {keep}/pipesync.yaml"] if keep else []),
        "  try it on your own exports:      pipesync plan --data FOLDER     (writes nothing)",
        "  connect your CRM, read-only:     pipesync init work --adapter salesforce   (or hubspot)",
        "  the rules, and how to tune them: pipesync rules list",
    ]
