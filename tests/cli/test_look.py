"""analyze and forecast as programs and people see them; what they calculate is tested where it is calculated."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync.cli.analyze import TOPICS

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]
QUICK = ("today", "waterfall", "velocity")
"""Topics that are looked at while working; the others are in `make check`."""
NEEDED = {"effect": ("--change", "2026-07-01")}


@pytest.mark.parametrize(
    "topic", [pytest.param(t, marks=() if t in QUICK else pytest.mark.thorough) for t in TOPICS]
)
def test_a_topic_is_an_array_of_its_name(topic: str, work: Path, pipesync: Run) -> None:
    """JSON, CSV and text tell the same rows, with the columns that people see in each of them."""
    asked = ("analyze", topic, *NEEDED.get(topic, ()))
    entry = pipesync(*asked, "--format", "json").entry
    table = list(csv.DictReader(pipesync(*asked, "--format", "csv").out.splitlines()))
    text = pipesync(*asked)

    assert len(entry[topic]) == len(table) > 0
    assert set(TOPICS[topic][1]) <= set(entry[topic][0])
    assert text.code == 0
    assert TOPICS[topic][1][0].replace("_", " ") in text.out


def test_a_waterfall_adds_up(work: Path, pipesync: Run) -> None:
    """Start, plus what came in, less what went out, is the end."""
    steps = {
        r["step"]: r["amount"]
        for r in pipesync("analyze", "waterfall", "--format", "json").entry["waterfall"]
    }

    gained = sum(steps[k] for k in ("new", "reopened", "moved_in", "pulled_in", "increased"))
    lost = sum(steps[k] for k in ("won", "lost", "pushed_out", "moved_out", "decreased"))
    assert steps["start"] + gained - lost == pytest.approx(steps["end"], abs=0.01)


def test_a_topic_is_told_by_what_it_knows(work: Path, pipesync: Run) -> None:
    """--by names a field of the topic; another one is refused with the known ones."""
    told = pipesync("analyze", "coverage", "--by", "team", "--format", "json")
    refused = pipesync("analyze", "coverage", "--by", "taem")

    assert told.code == 0
    assert (refused.code, "'team'" in refused.err) == (2, True)


def test_an_effect_needs_its_date(work: Path, pipesync: Run) -> None:
    """Without one it is asked for."""
    refused = pipesync("analyze", "effect")

    assert (refused.code, "--change" in refused.err) == (2, True)


def test_sources_say_how_many_leads_wins_need(work: Path, pipesync: Run) -> None:
    """For so many wins, for so much revenue, or for what the quota lacks."""
    wins, gap, quota = (
        pipesync("analyze", "sources", *asked, "--format", "json").entry
        for asked in (("--wins", "5"), ("--gap", "100000"), ())
    )

    assert wins["gap"] is None
    assert {n["wins"] for n in wins["needed"]} == {5}
    assert all(n["leads"] >= 5 for n in wins["needed"])
    assert (gap["gap"], len(gap["needed"]) > 0) == (100000, True)
    assert quota["gap"] >= 0


def test_a_part_of_the_pipeline_is_a_smaller_one(work: Path, pipesync: Run) -> None:
    """--where narrows bottlenecks, analyses and waterfalls alike."""
    whole, part = (
        pipesync("bottlenecks", *asked, "--format", "json").entry
        for asked in ((), ("--where", "product=Platform", "--period", "2026-Q3"))
    )
    steps = pipesync("analyze", "waterfall", "--where", "product=Platform", "--format", "json").entry[
        "waterfall"
    ]
    refused = pipesync("analyze", "velocity", "--where", "product=Platfrom")

    visits = [sum(stage["visits"] for stage in entry["stages"]) for entry in (whole, part)]
    assert 0 < visits[1] < visits[0]
    assert part["as_of"] == "2026-10-01T00:00:00Z"
    assert steps[0]["amount"] > 0
    assert (refused.code, "'Platform'" in refused.err) == (2, True)


def test_bottlenecks_hold_the_process_as_data(work: Path, pipesync: Run) -> None:
    """Moves, rounds and ways; what waits in each stage and how it left; what differs."""
    entry = pipesync("bottlenecks", "--format", "json").entry

    assert {"moves", "rounds", "variants"} <= set(entry["process"])
    assert {"from_stage", "to_stage", "kind", "n", "median_days"} <= set(entry["process"]["moves"][0])
    assert {"stage", "ages", "drain_weeks", "exits", "little"} <= set(entry["flow"][0])
    assert set(entry["differences"]) == {"period_before", "segments"}
    assert {"win_low", "win_high", "mean_days", "benchmark_days"} <= set(entry["stages"][0])


def test_a_forecast_holds_every_side(work: Path, pipesync: Run) -> None:
    """Sides, simpler methods, targets and plans; the text tells one side, the plans and the model."""
    entry = pipesync("forecast", "--format", "json").entry
    text = pipesync("forecast", "--by", "manager", "--target", "1000000").out

    sides = ("owner", "manager", "team", "product", "source", "segment", "currency", "pipeline")
    assert all(entry[f"by_{side}"] for side in sides)
    assert {"stage", "stage_age", "crm_probability", "run_rate"} <= set(entry["baselines"])
    assert entry["targets"][0]["scope"] == "total"
    assert 0 <= entry["targets"][0]["reach"] <= 1
    assert entry["plans"]["a"]
    assert entry["reports_to"]
    assert "plan A" in text
    assert "carry 1.00M" in text
    assert "manager" in text
    assert "model: " in text


def test_a_forecast_says_why(work: Path, pipesync: Run) -> None:
    """For the largest, or for the one that is asked for; one that is not open is refused."""
    told = pipesync("forecast", "why", "--limit", "3", "--format", "json").entry["opportunities"]
    name = told[1]["id"]
    one = pipesync("forecast", "why", "--opportunity", name, "--format", "json").entry["opportunities"]
    refused = pipesync("forecast", "why", "--opportunity", "nothing")

    assert len(told) == 3
    assert one == [told[1]]
    assert one[0]["up"] or one[0]["down"]
    assert (refused.code, "is not open" in refused.err) == (2, True)


def test_changes_since_the_last_issued_forecast_add_up(work: Path, pipesync: Run) -> None:
    """Nothing to compare with after one run; after another pull, opportunity by opportunity."""
    pipesync("sync")
    first = pipesync("forecast", "changes", "--format", "json").entry
    with sqlite3.connect("ledger.db") as ledger:  # as if the first run had been two days earlier
        for table in ("issued_forecasts", "issued_opportunities"):
            ledger.execute(f"UPDATE {table} SET as_of = datetime(as_of, '-2 days')")
    ledger.close()

    entry = pipesync("forecast", "changes", "--format", "json").entry
    text = pipesync("forecast", "changes").out

    assert first["changes"] == []
    assert entry["start"] + sum(c["amount"] for c in entry["changes"]) == pytest.approx(
        entry["end"], abs=0.01
    )
    assert sum(entry["by_kind"].values()) == pytest.approx(entry["end"] - entry["start"], abs=0.01)
    assert "since the forecast as of" in text


def test_fields_are_told_that_say_nothing(work: Path, pipesync: Run) -> None:
    """Every static field with its AUC, and all of them together."""
    entry = pipesync("forecast", "fields", "--format", "json").entry

    assert entry["signals"][-1]["field"] == "all static fields"
    assert {s["says"] for s in entry["signals"]} <= {"signal", "no signal"}


def test_a_backtest_names_origins_methods_and_metrics(work: Path, pipesync: Run) -> None:
    """Each origin has its interval and what came; each method its metrics."""
    asked = ("forecast", "backtest", "--origins", "2026-09-01", "--horizon", "4w")

    entry = pipesync(*asked, "--format", "json").entry

    assert [o["origin"][:10] for o in entry["origins"]] == ["2026-09-01"]
    assert {"actual", "p10", "p50", "p90"} <= set(entry["origins"][0])
    assert {"model", "stage", "stage_age", "run_rate"} <= set(entry["metrics"])
    assert {"auc", "brier", "ece", "wape", "bias", "pinball", "coverage_80"} <= set(entry["metrics"]["model"])
    assert {"value", "interval", "says"} == set(entry["against"]["run_rate"]["wape"])


def test_accuracy_waits_for_a_period_to_end(work: Path, pipesync: Run) -> None:
    """What sync issued is counted; what cannot be judged yet is not judged."""
    pipesync("sync")

    entry = pipesync("forecast", "accuracy", "--format", "json").entry

    assert entry["issued"] > 0
    assert entry["accuracy"] == []


def test_options_belong_to_the_subcommand(pipesync: Run) -> None:
    """Options before a subcommand would be lost, so they are refused."""
    refused = pipesync("forecast", "--as-of", "2026-11-16", "accuracy")

    assert (refused.code, "after `accuracy`" in refused.err) == (2, True)


def test_a_forecast_draws_its_interval(work: Path, pipesync: Run) -> None:
    """The text names the likely figure and the interval, and draws both; JSON has one entry per open opportunity."""
    text = pipesync("forecast").out
    entry = pipesync("forecast", "--format", "json").entry

    assert "with 80% confidence" in text
    assert "┃" in text
    total = entry["total"]
    assert total["p10"] <= total["p50"] <= total["p90"]
    assert all(
        0 <= o["win_in_period"] <= o["win_probability"] + 1e-9 <= 1.000001 for o in entry["opportunities"]
    )
