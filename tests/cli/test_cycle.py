"""The cycle end to end, as a person runs it: pull, check, forecast, plan, apply, and all of it again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync.cli import main
from pipesync.cli.rehearsal import Folder

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]


def _tasks(work: Path) -> dict[str, dict[str, str]]:
    with (work / "outbox" / "tasks.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def test_what_is_planned_is_written_once(work: Path, pipesync: Run) -> None:
    """The outbox holds exactly the plan's tasks; the second plan is empty, with and without another pull."""
    planned = pipesync("plan", "--format", "json").entry

    applied = pipesync("apply", "--yes", "--format", "json").entry

    assert applied["applied"] == len(planned["changes"]) > 0
    assert applied["failed"] == []
    tasks = [c for c in planned["changes"] if c["object"] == "task"]
    assert set(_tasks(work)) == {c["key"] for c in tasks}
    assert pipesync("plan", "--format", "json").entry["changes"] == []
    pipesync("pull")
    assert pipesync("plan", "--format", "json").entry["changes"] == []


def test_a_kept_plan_is_applied_as_it_was_read(work: Path, pipesync: Run) -> None:
    """`plan --out` and `apply FILE` write the same changes, and applying the file again writes nothing."""
    planned = pipesync("plan", "--out", "plan.json", "--format", "json").entry

    first = pipesync("apply", "plan.json", "--yes", "--format", "json").entry
    again = pipesync("apply", "plan.json", "--yes", "--format", "json").entry

    assert first["applied"] == len(planned["changes"])
    assert (again["applied"], len(again["skipped"])) == (0, len(planned["changes"]))


def test_a_kept_plan_is_refused_where_the_crm_moved_on(work: Path, pipesync: Run) -> None:
    """Without another pull: the opportunity that somebody changed since is told, the others go through."""
    planned = pipesync("plan", "--out", "plan.json", "--format", "json").entry["changes"]
    changed = next(c for c in planned if c["object"] == "task")
    Folder(work / "exports").edit(changed["opportunity_id"], {"next_step": "Meet the board"})

    done = pipesync("apply", "plan.json", "--yes", "--format", "json").entry

    assert [(s["key"], s["error"]) for s in done["skipped"]] == [
        (changed["key"], "the opportunity changed since it was pulled (next_step)")
    ]
    assert done["applied"] == len(planned) - 1


def test_a_limit_stops_with_the_worst_first(work: Path, pipesync: Run) -> None:
    """`--limit 3` writes three changes and says which were left; the next plan has the rest."""
    planned = pipesync("plan", "--format", "json").entry["changes"]

    applied = pipesync("apply", "--limit", "3", "--yes", "--format", "json").entry

    assert (applied["applied"], len(applied["skipped"])) == (3, len(planned) - 3)
    assert set(_tasks(work)) == {c["key"] for c in planned[:3]}


def test_nothing_is_written_without_a_yes(work: Path, pipesync: Run) -> None:
    """Whoever says no, or nothing, finds the outbox as it was."""
    refused = pipesync("apply", stdin="n\n")

    assert refused.code == 2
    assert "nothing was written" in refused.err
    assert not (work / "outbox" / "tasks.csv").exists()


def test_a_connection_that_may_not_be_written_to_is_not(work: Path, pipesync: Run) -> None:
    """apply refuses, and sync reads and plans only, until `write:` is enabled."""
    text = (work / "pipesync.yaml").read_text()
    (work / "pipesync.yaml").write_text(text.replace("enabled: true", "enabled: false"))

    synced = pipesync("sync", "--format", "json")
    refused = pipesync("apply", "--yes")

    assert synced.code == 0
    assert synced.entry["plan"]["changes"] > 0
    assert synced.entry["applied"] is None
    assert refused.code == 2
    assert "write: {enabled: true" in refused.err
    assert not (work / "outbox").exists()


def test_undo_takes_a_run_back(work: Path, pipesync: Run) -> None:
    """The run's tasks go, and its findings rest instead of coming back with the next plan."""
    run = pipesync("sync", "--format", "json").entry["run"]
    written = set(_tasks(work))

    undone = pipesync("undo", run, "--format", "json")

    assert written
    assert undone.code == 0
    assert _tasks(work) == {}
    planned = pipesync("plan", "--format", "json").entry["changes"]
    assert [c for c in planned if c["object"] == "task"] == []


def test_a_mended_opportunity_loses_its_task_and_no_other(work: Path, pipesync: Run) -> None:
    """When the rep writes a next step, exactly that task goes away."""
    pipesync("sync")
    before = _tasks(work)
    findings = pipesync("check", "--format", "json").entry["findings"]
    lacking = {f["opportunity_id"] for f in findings if f["rule"] == "hygiene.no_next_step"}
    others = {f["opportunity_id"] for f in findings if f["rule"] != "hygiene.no_next_step"}
    mended = min(lacking - others)

    Folder(work / "exports").edit(mended, {"next_step": "Call on Monday"})
    pipesync("sync")

    gone = [row["opportunity_id"] for key, row in before.items() if key not in _tasks(work)]
    assert gone == [mended]


def test_a_day_later_only_time_adds_tasks(work: Path, pipesync: Run) -> None:
    """On unchanged data every change of tomorrow's plan belongs to a finding that is new tomorrow."""
    today = pipesync("sync", "--format", "json").entry["as_of"]
    tomorrow = today.replace("-16T", "-17T")
    then = {(f["rule"], f["subject_id"]) for f in pipesync("check", "--format", "json").entry["findings"]}

    planned = pipesync("plan", "--as-of", tomorrow, "--format", "json").entry["changes"]
    later = pipesync("check", "--as-of", tomorrow, "--format", "json").entry["findings"]

    turned = {subject for _, subject in then ^ {(f["rule"], f["subject_id"]) for f in later}}
    assert {c["opportunity_id"] for c in planned} <= turned


def test_status_tells_what_happened(work: Path, pipesync: Run) -> None:
    """Runs newest first, each with its connection; nothing unconfirmed, nothing behind."""
    pipesync("sync")

    told = pipesync("status", "--format", "json").document

    assert [(r["kind"], r["status"], r["connection"]) for r in told["runs"]] == [("sync", "done", "company")]
    (entry,) = told["connections"]
    assert (entry["unconfirmed"], entry["behind"], entry["rejected"]) == (0, [], 0)
    assert entry["watermark"] == "2026-11-16T08:00:00Z"
    assert "2026-11-16" in pipesync("status").out


def test_reading_commands_need_no_configuration(company: Path, tmp_path: Path, pipesync: Run,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """With --data a folder is read on the fly, and nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    before = sorted(company.iterdir())

    ran = [
        pipesync(command, "--data", str(company), "--format", "json")
        for command in ("check", "bottlenecks", "plan")
    ]

    assert [r.code for r in ran] == [0, 0, 0]
    assert all(r.entry["as_of"] == "2026-11-16T08:00:00Z" for r in ran)
    assert sorted(company.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_fail_on_is_an_exit_code(company: Path, pipesync: Run) -> None:
    """1 where a finding is at least that severe, 0 where none is; the report is printed all the same."""
    high = pipesync("check", "--data", str(company), "--fail-on", "high")
    critical = pipesync("check", "--data", str(company), "--fail-on", "critical")

    assert (high.code, critical.code) == (1, 0)
    assert "hygiene.stale_commit" in high.out


def test_csv_has_a_row_per_finding(company: Path, pipesync: Run) -> None:
    """Findings as CSV say what they say as JSON."""
    rows = list(csv.DictReader(pipesync("check", "--data", str(company), "--format", "csv").out.splitlines()))

    found = pipesync("check", "--data", str(company), "--format", "json").entry["findings"]
    assert [(r["rule"], r["subject_id"]) for r in rows] == [(f["rule"], f["subject_id"]) for f in found]


def test_malformed_rows_are_told_and_the_rest_is_kept(work: Path, pipesync: Run) -> None:
    """Two rows that cannot be read, and what belongs to them, are rejected; the rest is pulled, the exit code is 0."""
    file = work / "exports" / "opportunities.csv"
    lines = file.read_text().splitlines(keepends=True)
    cells = lines[1].split(",")
    lines[1] = ",".join(["", *cells[1:]])
    lines[2] = lines[2].replace("2024-", "20x4-").replace("2025-", "20x5-").replace("2026-", "20x6-")
    file.write_text("".join(lines))

    ran = pipesync("pull", "--format", "json")

    assert ran.code == 0
    pulled = ran.entry["objects"]["opportunities"]
    assert (pulled["pulled"], pulled["rejected"]) == (298, 2)
    rejected = sum(one["rejected"] for one in ran.entry["objects"].values())
    assert pipesync("status", "--format", "json").entry["rejected"] == rejected


def test_one_connection_that_fails_leaves_the_other_whole(work: Path, company: Path, pipesync: Run) -> None:
    """Two folders side by side, one of them broken: the other is synced, the exit code is 4, both are named."""
    shutil.copytree(company, work / "other")
    (work / "other" / "opportunities.csv").write_text("nothing\nof use\n")
    text = (work / "pipesync.yaml").read_text()
    broken = text.partition("connections:\n")[2].replace("company", "broken").replace("exports", "other")
    (work / "pipesync.yaml").write_text(text + broken.replace("outbox: outbox", "outbox: out2"))

    ran = pipesync("sync", "--format", "json")

    assert ran.code == 4
    whole, failed = ran.document["connections"]
    assert whole["applied"]["applied"] > 0
    assert "opportunities.csv" in failed["error"]
    assert "broken: " in ran.err
    assert len(_tasks(work)) == whole["plan"]["counts"]["task.create"]


def test_two_connections_side_by_side_do_what_each_does_alone(
    work: Path, company: Path, pipesync: Run
) -> None:
    """Two folders with the same company get the same findings and the same number of tasks."""
    text = (work / "pipesync.yaml").read_text()
    twin = (
        text.partition("connections:\n")[2]
        .replace("company", "twin")
        .replace("outbox: outbox", "outbox: out2")
    )
    (work / "pipesync.yaml").write_text(text + twin)

    first, second = pipesync("sync", "--format", "json").document["connections"]

    told = ("findings", "score", "forecast", "as_of")
    assert {k: first[k] for k in told} == {k: second[k] for k in told}
    assert first["plan"]["counts"] == second["plan"]["counts"]


def test_the_demo_shows_the_whole_cycle(pipesync: Run) -> None:
    """Changes first, none second, none unexplained a day later, and one task less after one was mended."""
    shown = pipesync("demo", "--crm", "files", "--opportunities", "80", "--format", "json").entry

    assert shown["pulled"]["opportunities"] == 80
    assert shown["first_plan"]["changes"] == shown["applied"]["applied"] > 5
    assert shown["second_plan"]["changes"] == 0
    assert shown["next_day_plan"]["unexplained"] == []
    assert shown["mended"]["changes"].get("task.delete") == 1
    assert shown["mended"]["tasks_before"] - shown["mended"]["tasks_after"] == 1


@pytest.mark.thorough
def test_the_demo_reads_well_and_can_be_kept(tmp_path: Path, pipesync: Run) -> None:
    """Each part has its heading, the end says what to do next, and the kept folder works with other commands."""
    keep = tmp_path / "kept"
    example = (main.commands["demo"].epilog or "").split()[-5:]

    told = pipesync(*example, "--keep", str(keep))

    headings = ["Pulled", "The worst findings", "Where revenue waits", "Forecast", "Plan", "Apply",
                "second plan: 0 changes", "What to do next"]  # fmt: skip
    places = [told.out.index(heading) for heading in headings]
    assert places == sorted(places)
    config = str(keep / "pipesync.yaml")
    assert (
        json.loads(pipesync("plan", "--config", config, "--format", "json").out)["connections"][0]["changes"]
        == []
    )


def test_our_fields_are_written_where_they_are_asked_for(work: Path, pipesync: Run) -> None:
    """Probability, expected close and reasons of open opportunities; the second plan is empty; undo empties them."""
    file = work / "pipesync.yaml"
    file.write_text(file.read_text().replace("tasks: true, forecasts: true", "opportunity_fields: true"))

    planned = pipesync("plan", "--format", "json").entry
    applied = pipesync("apply", "--yes", "--format", "json").entry
    again = pipesync("plan", "--format", "json").entry
    rows = _fields(work)
    taken = pipesync("undo", applied["run"], "--format", "json").entry

    assert set(planned["counts"]) == {"total", "opportunity.update"}
    assert (len(applied["failed"]), applied["applied"]) == (0, planned["counts"]["total"])
    assert again["changes"] == []
    assert len(rows) == applied["applied"] > 20
    assert all(float(row["win_probability"]) * 20 % 1 == 0 for row in rows)
    assert any(row["reasons"].strip("'").startswith(("+", "−")) for row in rows)
    assert taken["applied"] == applied["applied"]
    assert not any(row["win_probability"] for row in _fields(work))


def _fields(work: Path) -> list[dict[str, str]]:
    with (work / "outbox" / "opportunities.csv").open(newline="") as file:
        return list(csv.DictReader(file))
