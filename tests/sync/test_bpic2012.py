"""The whole cycle on real data: a bank's loan funnel, where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.cli.rehearsal import Crm, Folder, World, write_configuration
from pipesync.sandbox.process import running
from pipesync.sync import sync_all

DATA = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[3] / "shared" / "data")) / "bpic2012"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real data is not here; set PIPESYNC_DATA to the folder that holds bpic2012"
)


@pytest.fixture(scope="module")
def shown() -> Any:  # Any: JSON
    ran = CliRunner(catch_exceptions=False).invoke(main, ["demo", "--data", str(DATA), "--format", "json"])
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)["connections"][0]


def test_everything_is_pulled(shown: Any) -> None:
    """9,322 opportunities, and not one row rejected."""
    assert shown["pulled"]["opportunities"] == 9322


def test_the_second_plan_is_empty(shown: Any) -> None:
    """At least a hundred changes first, all applied, and none left."""
    assert shown["first_plan"]["changes"] >= 100
    assert shown["applied"] == {"applied": shown["first_plan"]["changes"], "failed": 0}
    assert shown["second_plan"]["changes"] == 0


def test_a_day_later_time_alone_makes_changes(shown: Any) -> None:
    """Every change of the next day's plan is listed with the finding that time made true."""
    later = shown["next_day_plan"]

    assert later["unexplained"] == []
    assert later["changes"] <= len(later["made_by_time"])


def test_one_mended_opportunity_loses_exactly_its_task(shown: Any) -> None:
    """One task is removed, and there is one fewer."""
    mended = shown["mended"]

    assert mended["changes"].get("task.delete") == 1
    assert mended["tasks_before"] - mended["tasks_after"] == 1


def test_bottlenecks_are_where_the_bank_waits() -> None:
    """`4-Offer sent` is first for time, the return from `5-Offer returned` first for rework."""
    ran = CliRunner(catch_exceptions=False).invoke(
        main, ["bottlenecks", "--data", str(DATA), "--format", "json"]
    )

    ranked = json.loads(ran.stdout)["connections"][0]["ranked"]
    first = {kind: next(b["subject"] for b in ranked if b["kind"] == kind) for kind in ("time", "rework")}
    assert first == {"time": "4-Offer sent", "rework": "5-Offer returned -> 4-Offer sent"}


@pytest.mark.thorough
def test_both_crms_say_what_the_folder_says(tmp_path: Path) -> None:
    """Filled with the same data and spoken to over their protocols, each gives the folder's very answer."""
    folder = Folder.copied(tmp_path, DATA, None)
    with running(folder.data, "both") as sandbox:
        worlds: list[World] = [folder, *(Crm(sandbox, name, tmp_path) for name in sandbox.crms)]
        config = write_configuration(tmp_path, worlds).model_copy(update={"mode": "propose"})
        done = sync_all(config, [world.connection for world in worlds])

    said = {name: _said(cycle) for name, cycle in done.items()}
    assert said["files"]["opportunities"] == 9322
    assert said == dict.fromkeys(("files", "salesforce", "hubspot"), said["files"])


def _said(cycle: Any) -> dict[str, object]:  # Any: a cycle; an error has none of this, and says so
    made = cycle.prepared
    total = made.forecast.total
    return {
        "opportunities": cycle.pulled["opportunities"].pulled,
        "as_of": cycle.as_of,
        "rules": {rule.id: (rule.fired, rule.clear, rule.unknown) for rule in made.examined.evaluation.rules},
        "score": made.examined.evaluation.score,
        "bottlenecks": [(b.kind, b.subject, b.why, b.amount) for b in cycle.bottlenecks.ranked],
        "forecast": (total.p10, total.p50, total.p90, total.mean, total.closed, total.open, total.new),
        "changes": len(made.plan.changes),
    }
