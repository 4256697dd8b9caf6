"""analyze and forecast as programs and people see them; what they calculate is tested where it is calculated."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync.cli.analyze import TOPICS

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_an_array_of_its_name(topic: str, work: Path, pipesync: Run) -> None:
    """JSON, CSV and text tell the same rows, with the columns that people see in each of them."""
    entry = pipesync("analyze", topic, "--format", "json").entry
    table = list(csv.DictReader(pipesync("analyze", topic, "--format", "csv").out.splitlines()))
    text = pipesync("analyze", topic)

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


def test_a_backtest_names_origins_methods_and_metrics(work: Path, pipesync: Run) -> None:
    """Each origin has its interval and what came; each method its metrics."""
    asked = ("forecast", "backtest", "--origins", "2026-09-01", "--horizon", "4w")

    entry = pipesync(*asked, "--format", "json").entry

    assert [o["origin"][:10] for o in entry["origins"]] == ["2026-09-01"]
    assert {"actual", "p10", "p50", "p90"} <= set(entry["origins"][0])
    assert {"model", "stage", "stage_age", "run_rate"} <= set(entry["metrics"])
    assert {"auc", "brier", "ece", "wape", "bias", "pinball", "coverage_80"} <= set(entry["metrics"]["model"])


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
