"""Runs: what was written into the CRM, what failed, and how to take it back."""

from __future__ import annotations

from collections import Counter

from pipesync.report.html.blocks import (
    Block,
    Column,
    Note,
    Page,
    Row,
    Sets,
    Table,
    code,
    count,
    moment,
    opportunity,
    text,
)
from pipesync.report.html.wording import dated
from pipesync.report.material import Material, RunRecord

WRITES = 60


def page(made: Material, sets: Sets) -> Page:
    blocks: list[Block] = []
    if not made.runs:
        blocks.append(
            Note(
                "No runs",
                ("Nothing was recorded yet: this report was made from a folder, or before the first sync.",),
            )
            if not made.is_recorded
            else Note("No runs", ("No sync has run for this connection yet.",))
        )
    else:
        blocks += [runs(made, sets), *failures(made), writes(made)]
    return Page(
        "runs", "Runs", ("What pipesync wrote, what failed, and how to take it back.",), tuple(blocks)
    )


def _row(one: RunRecord, alone: bool, sets: Sets) -> Row:
    run = one.run
    by_status = Counter(e.status for e in one.entries)
    ids = {
        s: [e.opportunity_id for e in one.entries if e.status == s and e.opportunity_id] for s in by_status
    }
    written = sets.add(f"run-{run.id}", "Written to in this run", ids.get("applied", []))
    failed = sets.add(f"run-{run.id}-failed", "Failed in this run", ids.get("failed", []))
    undo = (
        code(f"pipesync undo {run.id}") if by_status["applied"] and run.kind != "undo" and alone else text("")
    )
    return Row(
        (
            moment(run.started_at),
            text(run.kind),
            text(run.status, tone="bad" if run.status == "failed" else ""),
            count(by_status["applied"], key=f"run.{run.id}.applied", drill=written),
            count(
                by_status["failed"],
                key=f"run.{run.id}.failed",
                tone="bad" if by_status["failed"] else "",
                drill=failed,
            ),
            undo,
        )
    )


def runs(made: Material, sets: Sets) -> Table:
    alone = made.audience.people is None
    columns = (
        Column("Started"),
        Column("Run"),
        Column("Ended", wide_only=True),
        Column("Written", "right"),
        Column("Failed", "right"),
        Column("To take it back", wide_only=False),
    )
    return Table(
        "The last runs",
        columns,
        tuple(_row(one, alone, sets) for one in made.runs),
        ("A run is taken back by its command: our fields get their values from before, its tasks go.",),
        name="runs",
    )


def failures(made: Material) -> list[Block]:
    failed = [(one.run, e) for one in made.runs for e in one.entries if e.status == "failed"]
    broken = [one.run for one in made.runs if one.run.status == "failed" and one.run.detail.get("error")]
    found: list[Block] = [
        Note("A run failed", (moment(run.started_at), ": ", str(run.detail["error"]))) for run in broken[:3]
    ]
    if failed:
        rows = tuple(
            Row(
                (
                    moment(run.started_at),
                    text(f"{e.action} {e.object}"),
                    text(e.opportunity_id or e.key),
                    text(e.error),
                )
            )
            for run, e in failed[:WRITES]
        )
        columns = (Column("When"), Column("What", wide_only=True), Column("Of"), Column("Why"))
        found.append(
            Table(
                "What failed",
                columns,
                rows,
                ("Failed writes are tried again by the next run.",),
                total=len(failed),
                name="failed",
            )
        )
    return found


def writes(made: Material) -> Table:
    names = {r["id"]: r["name"] for r in made.rows}
    entries = [(one.run, e) for one in made.runs for e in one.entries if e.status == "applied"]
    rows = tuple(
        Row(
            (
                moment(run.started_at),
                text(f"{e.action} {e.object}"),
                text(
                    str(e.after.get("subject") or names.get(e.opportunity_id or "") or e.object),
                    drill=opportunity(e.opportunity_id) if e.opportunity_id else "",
                    sub=dated(e.reason.text),
                ),
            )
        )
        for run, e in entries[:WRITES]
    )
    columns = (Column("When", wide_only=True), Column("What"), Column("Text and reason"))
    return Table(
        "What was written",
        columns,
        rows,
        ("Each with its reason.",) if rows else (),
        total=len(entries),
        more="writes.csv",
        empty="Nothing was written by these runs.",
        name="writes",
    )
