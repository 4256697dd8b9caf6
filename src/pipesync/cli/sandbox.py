"""`pipesync sandbox`: the stand-in CRMs alone, to rehearse against."""

from __future__ import annotations

from pathlib import Path

import click

from pipesync.cli.options import example, loud


@click.command(epilog=example("pipesync sandbox --help"))
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Fill it from this folder."
)
@click.option(
    "--mapping", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="How to read the folder."
)
@click.option(
    "--crm",
    type=click.Choice(["salesforce", "hubspot", "both"]),
    default="both",
    show_default=True,
    help="Which CRM.",
)
@click.option("--opportunities", default=2000, show_default=True, help="Size of the made-up company.")
@click.option("--seed", default=7, show_default=True, help="Of the made-up company, and of the faults.")
@click.option("--port", default=0, help="Default: one that is free.")
@click.option(
    "--faults",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A plan of what is to go wrong.",
)
@click.option(
    "--tier", type=click.Choice(["free", "professional", "enterprise"]), help="HubSpot's limits to keep to."
)
@click.option(
    "--work", type=click.Path(path_type=Path, file_okay=False), default=Path("sandbox"), show_default=True,
    help="Where pipesync.yaml for it is written.",
)  # fmt: skip
@click.option(
    "--detach", is_flag=True, help="Go on in the background; say how to reach it and how to stop it."
)
@loud
def sandbox(
    data: Path | None,
    mapping: Path | None,
    crm: str,
    opportunities: int,
    seed: int,
    port: int,
    faults: Path | None,
    tier: str | None,
    work: Path,
    detach: bool,
) -> None:
    """Run a stand-in for both CRMs until you stop it.

    It speaks the CRMs' own protocols, over HTTP on loopback, and prints how to reach it as JSON. A pipesync.yaml
    that fits is written into the working folder.
    """
    import signal
    import tempfile

    import orjson
    import yaml

    from pipesync.cli.output import note
    from pipesync.sandbox.company import generate
    from pipesync.sandbox.faults import load
    from pipesync.sandbox.process import running

    if detach:
        _detach(work)
        return
    if faults:
        load(faults)  # a mistake in it is told here, not in the other process
    with tempfile.TemporaryDirectory(prefix="pipesync-sandbox-") as made:
        folder = data
        if folder is None:
            folder = Path(made) / "company"
            generate(folder, opportunities=opportunities, seed=seed)
        started = running(folder, crm, mapping=mapping, port=port, faults=faults, seed=seed, tier=tier)
        with started as served:
            work.mkdir(parents=True, exist_ok=True)
            connections = {name: served.settings(name, work) for name in served.crms}
            for keys in connections.values():
                keys["write"] = {"enabled": True, "tasks": True, "forecasts": True}
            text = yaml.safe_dump(
                {"version": 1, "mode": "propose", "connections": connections}, sort_keys=False
            )
            (work / "pipesync.yaml").write_text(text, encoding="utf-8")
            click.echo(orjson.dumps({name: {"url": served.url} for name in served.crms}).decode())
            note(f"{work}/pipesync.yaml:\n\n{text}")
            note(f"try: pipesync sync --config {work}/pipesync.yaml     stop: Ctrl-C")
            signal.signal(
                signal.SIGTERM, signal.default_int_handler
            )  # the other process must be stopped as well
            try:
                signal.pause()
            except KeyboardInterrupt:
                note("stopped")


def _detach(work: Path) -> None:
    """Start the same command again, without a terminal, and wait until it answers."""
    import subprocess
    import sys

    from pipesync.cli.output import note
    from pipesync.errors import InputError

    words = [word for word in sys.argv[1:] if word != "--detach"]
    started = subprocess.Popen(  # noqa: S603  # this very command
        [sys.executable, "-m", "pipesync.cli", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    assert started.stdout is not None  # noqa: S101  # asked for
    told = started.stdout.readline()
    if not told:
        raise InputError("the sandbox did not start; run it without --detach to see why")
    click.echo(told, nl=False)
    note(f"its configuration: {work}/pipesync.yaml     stop it: kill {started.pid}")
    started.stdout.close()
    started.returncode = 0  # it is left running on purpose
