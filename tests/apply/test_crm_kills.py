"""Kill -9 at random moments of apply, over both CRMs' protocols, while the CRM misbehaves.

Whatever happens, the CRM ends with exactly the tasks and values of a run that nobody disturbed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.apply.lives import (
    FAULTS,
    Scene,
    Told,
    faults_of,
    key_of,
    run,
    set_up,
    still,
    survive,
    usual_duration,
)

from pipesync.apply import undo
from pipesync.sandbox.company import generate
from pipesync.sandbox.process import running

pytestmark = pytest.mark.thorough

PIECES, TRIALS, KILLS = 11, 10, 9
"""The campaign: pieces of so many trials, each of nine runs that are to be killed and one to the end; on each CRM."""


@dataclass
class Base:
    """A scene, and how it ends undisturbed."""

    scene: Scene
    expected: dict[str, list[dict[str, Any]]]
    usual: float


@pytest.fixture(scope="module", params=["salesforce", "hubspot"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    folder = tmp_path_factory.mktemp(request.param)
    generate(folder / "exports", opportunities=60, activities_per_opportunity=1)
    with running(folder / "exports", request.param, tier=None) as sandbox:
        scene = set_up(sandbox, request.param, folder / "work")
        first = scene.copied(folder / "undisturbed")
        usual_duration(first)  # the first process of a kind loads what the others share
        again = scene.copied(folder / "again")
        usual = usual_duration(again)
        yield Base(scene, again.ours(), usual)


def ends_as_undisturbed(base: Base, seed: int, work: Path, kills: int = KILLS) -> Told:
    """Return how many runs there were, how many of them were killed, and how many of those while they wrote."""
    scene = base.scene.copied(work)
    told = survive(scene, seed, base.usual, kills)
    assert scene.ours() == base.expected
    keys = [key for rows in scene.dump().values() for r in rows if (key := key_of(r))]
    assert len(keys) == len(set(keys)), "a key is there twice"
    with scene.ledger() as ledger:
        assert ledger.unconfirmed(scene.crm) == []
    assert run(scene.folder, scene.crm).applied == 0, "there was something left to do"
    shutil.rmtree(work)
    return told


@pytest.mark.parametrize("seed", [40])
def test_killed_runs_are_made_good(base: Base, seed: int, tmp_path: Path) -> None:
    """The same tasks and forecasts, none twice, none lost, and nothing left to do."""
    assert {"task", "forecast"} == {e.object for e in _journal(base.scene)}
    told = ends_as_undisturbed(base, seed, tmp_path / "work", kills=2)

    assert told.killed > 0


@pytest.mark.campaign
@pytest.mark.parametrize("piece", range(PIECES))
def test_a_thousand_killed_runs_are_made_good(
    base: Base, piece: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every fault alone and in pairs, in pieces that can be run one by one; each prints its counts."""
    all_told = Told()
    for seed in range(piece * TRIALS, (piece + 1) * TRIALS):
        told = ends_as_undisturbed(base, seed, tmp_path / "work")
        all_told.runs += told.runs
        all_told.killed += told.killed
        all_told.writing += told.writing
    with capfd.disabled():
        said = f"{TRIALS} trials, {all_told.runs} runs, {all_told.killed} killed, {all_told.writing} while writing"
        sys.stdout.write(f"\n{base.scene.crm} {piece}: {said}\n")

    assert all_told.runs == (KILLS + 1) * TRIALS
    assert all_told.killed > KILLS * TRIALS / 2
    assert all_told.writing > TRIALS


def _journal(scene: Scene) -> list[Any]:
    with scene.ledger() as ledger:
        return ledger.journal(scene.crm)


# --- Undo ---------------------------------------------------------------------------------------------------------


def whole(scene: Scene) -> dict[str, Any]:
    """Return all that the CRM holds: our records by key and what they say, other people's by id as they are.

    HubSpot moves a deal's stamps when a task on it comes or goes; that is its own doing.
    """
    found: dict[str, Any] = {}
    for kind, rows in scene.dump().items():
        for row in rows:
            if key := key_of(row):
                found[f"{kind} {key}"] = still(row)
            elif scene.crm == "hubspot":
                found[f"{kind} {row['id']}"] = {
                    n: v for n, v in row.items() if n != "hs_lastmodifieddate" and v
                }
            else:
                found[f"{kind} {row['Id']}"] = row
    return found


@pytest.mark.parametrize("seed", [None, 1])
def test_undo_leaves_the_whole_crm_as_before(base: Base, seed: int | None, tmp_path: Path) -> None:
    """Of a run that went through, and of one that was killed in the middle: nothing else was touched."""
    scene = base.scene.copied(tmp_path / "work")
    before = whole(scene)
    if seed is None:
        run(scene.folder, scene.crm)
    else:
        cut_off(scene, seed, base.usual, begun=lambda: whole(scene) != before)
    assert whole(scene) != before

    taken_back(scene)

    assert whole(scene) == before


@pytest.mark.campaign
def test_a_hundred_runs_that_were_cut_off_are_taken_back(base: Base, tmp_path: Path) -> None:
    """At a hundred different moments, with every kind of fault."""
    for seed in range(100):
        scene = base.scene.copied(tmp_path / "work")
        before = whole(scene)
        cut_off(scene, seed, base.usual)
        taken_back(scene)
        assert whole(scene) == before, f"seed {seed}"
        shutil.rmtree(scene.folder)


def cut_off(scene: Scene, seed: int, usual: float, begun: Callable[[], bool] | None = None) -> None:
    """Kill one run soon after it has `begun`; else after it has entered what it will write."""
    earlier = len(_journal(scene))
    scene.disturb(faults_of(seed), seed)
    process = scene.started()
    while process.is_alive() and not (begun() if begun else len(_journal(scene)) > earlier):
        process.join(0.005)
    process.join(usual * (seed % 10) / 40)
    process.kill()
    process.join()
    scene.disturb([])


def taken_back(scene: Scene) -> None:
    """Undo the last run, if it is one that the scene did not begin with."""
    adapter = scene.adapter()
    with scene.ledger() as ledger:
        newest = ledger.runs(scene.crm)[0]
        if newest.kind == "apply" and len(ledger.runs(scene.crm)) > 1:
            undo(newest.id, adapter, ledger)
    adapter.close()


def test_a_rep_puts_a_task_off_in_the_crm(base: Base, tmp_path: Path) -> None:
    """A line in the task's own text, as the CRM keeps it: the task is completed with a note, and stays away."""
    scene = base.scene.copied(tmp_path / "work")
    run(scene.folder, scene.crm)
    kind, done, text = ("Task", "IsClosed", "Description") if scene.crm == "salesforce" else (
        "tasks", "hs_task_status", "hs_task_body",
    )  # fmt: skip
    row = next(r for r in scene.dump()[kind] if key_of(r) and r[done] in (0, "NOT_STARTED"))
    line = "snooze 10d: customer on holiday"
    body = f"{row[text]}\n{line}" if scene.crm == "salesforce" else f"{row[text]}<p>{line}</p>"
    edit = {"crm": scene.crm, "kind": kind, "id": row.get("Id") or row["id"], "fields": {text: body}}
    scene.sandbox.ask("POST", "edit", edit)

    first, second = run(scene.folder, scene.crm), run(scene.folder, scene.crm)

    now = next(r for r in scene.dump()[kind] if key_of(r) == key_of(row))
    assert (first.applied, second.applied) == (1, 0)
    assert now[done] in (1, "COMPLETED")
    assert line in now[text]
    assert "Put off until" in now[text]
    with scene.ledger() as ledger:
        assert [(f.key, f.note) for f in ledger.fates(scene.crm) if f.rests_until] == [
            (key_of(row), "customer on holiday")
        ]


def test_every_kind_of_fault_has_its_turn() -> None:
    """The campaign's seeds cover each kind alone and every pair."""
    pairs = {frozenset(f["kind"] for f in faults_of(seed)) for seed in range(PIECES * TRIALS)}

    assert {frozenset((a, b)) for a in FAULTS for b in FAULTS} == pairs
