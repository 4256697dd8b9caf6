"""What a run tells while it works and what is known of it afterwards: events, measures, status."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pipesync import health, logs
from pipesync.config import Config, load
from pipesync.errors import CrmError, PipesyncError
from pipesync.sandbox.company import generate
from pipesync.store.ledger import Ledger
from pipesync.sync import Cycle, sync_all

CONFIGURATION = """\
mode: enforce
connections:
  north: {adapter: files, data: exports, outbox: north, write: {enabled: true, tasks: true, forecasts: true}}
  south: {adapter: files, data: exports, outbox: south}
"""
NAMES = ("north", "south")


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two connections after a good sync of both; not to be changed."""
    folder = tmp_path_factory.mktemp("company")
    generate(folder / "exports", opportunities=60, activities_per_opportunity=2)
    (folder / "pipesync.yaml").write_text(CONFIGURATION)
    sync_all(load(folder / "pipesync.yaml"), NAMES)
    return folder


@pytest.fixture
def config(synced: Path, tmp_path: Path) -> Config:
    shutil.copytree(synced, tmp_path, dirs_exist_ok=True)
    return load(tmp_path / "pipesync.yaml")


@pytest.fixture
def told() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Events as a log collector gets them: one JSON object a line."""
    out = io.StringIO()
    logs.configure(logging.INFO, out, people=False)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    logs.silence()


def known(config: Config, longest: timedelta | None = None, now: datetime | None = None) -> dict[str, Any]:
    with Ledger(config.ledger_url) as ledger:
        return health.status(config, NAMES, ledger, now or datetime.now(UTC), longest)[1]


def test_every_event_names_its_run_and_connection(
    config: Config, told: Callable[[], list[dict[str, Any]]]
) -> None:
    """Connections that work side by side do not mix: each line has the run that the ledger knows for its connection."""
    done = sync_all(config, NAMES)

    runs = {name: cycle.run for name, cycle in done.items() if isinstance(cycle, Cycle)}
    events = told()
    assert {(e["connection"], e["run"]) for e in events} == set(runs.items())
    assert len(runs) == 2
    assert {"sync begins", "pulled", "checked", "planned", "applied", "sync ended"} <= {
        e["event"] for e in events
    }
    assert all(e["timestamp"].endswith("Z") and e["level"] for e in events)


def test_people_get_lines_and_nobody_gets_noise(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal's lines are no JSON; a library that was not told where to log prints nothing."""
    out = io.StringIO()
    logs.configure(logging.INFO, out, people=True)
    sync_all(config, ("south",))
    logs.silence()
    sync_all(config, ("south",))

    assert "sync ended" in out.getvalue()
    assert "{" not in out.getvalue().splitlines()[0]
    assert capfd.readouterr() == ("", "")


def test_measures_are_openmetrics_of_all_connections(config: Config) -> None:
    """A collector's own parser reads them; a run of one connection leaves the other's measures there."""
    done = sync_all(config, ("north",))

    assert config.metrics is not None
    parsed = text_string_to_metric_families(config.metrics.read_text())  # type: ignore[no-untyped-call]
    families = {f.name: f for f in parsed}
    north = done["north"]
    assert isinstance(north, Cycle)
    score = {s.labels["connection"]: s.value for s in families["pipesync_hygiene_score"].samples}
    good = {s.labels["connection"]: s.value for s in families["pipesync_last_run_good"].samples}
    steps = {s.labels["step"] for s in families["pipesync_last_run_duration_seconds"].samples}
    assert score["north"] == pytest.approx(north.prepared.examined.evaluation.score, abs=0.01)
    assert good == {"north": 1.0, "south": 1.0}
    assert {"total", "pull", "learn", "plan", "apply"} <= steps
    assert config.metrics.read_text().endswith("# EOF\n")


def test_status_tells_of_a_good_run(config: Config) -> None:
    """Its last good run, nothing behind or unconfirmed, and what waits where nothing may be written."""
    done = sync_all(config, NAMES)

    found = known(config, timedelta(hours=1))
    south = done["south"]
    assert isinstance(south, Cycle)
    assert found["south"]["last_good_run"]["id"] == south.run
    assert (found["south"]["behind"], found["south"]["unconfirmed"]) == ([], 0)
    assert found["south"]["waiting"] == len(south.prepared.plan.changes) > 0
    assert (found["south"]["health"], found["south"]["why"]) == ("ok", "")


def test_status_tells_why_runs_fail(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is counted since the last good run and told with its error; the good run stays the last good one."""
    good = known(config)["north"]["last_good_run"]
    (config.folder / "exports" / "opportunities.csv").unlink()

    failed = sync_all(config, NAMES)["north"]

    found = known(config)["north"]
    assert isinstance(failed, PipesyncError)
    assert found["last_good_run"] == {**good, "status": "done"}
    assert (found["health"], found["failed_since"]) == ("failing", 1)
    assert "opportunities" in found["last_error"]


def test_a_sync_that_nobody_starts_any_more_is_failing(config: Config) -> None:
    """Good runs that are too old are no health."""
    later = datetime.now(UTC) + timedelta(hours=30)
    assert known(config, timedelta(hours=26), later)["north"]["health"] == "failing"
    assert known(config, timedelta(hours=36), later)["north"]["health"] == "ok"


def test_a_changed_set_up_is_told(config: Config, told: Callable[[], list[dict[str, Any]]]) -> None:
    """A column that is gone, and the rules that cannot judge without it, stand in status and in the log."""
    file = config.folder / "exports" / "opportunities.csv"
    header, _, rest = file.read_text().partition("\n")
    file.write_text(header.replace('"next_step"', '"renamed"') + "\n" + rest)

    sync_all(config, ("south",))

    found = known(config)["south"]
    assert "column opportunities.next_step: known -> unmapped" in found["drift"]
    blamed = {one["rule"]: one["why"] for one in found["not_evaluated"]}
    assert blamed["hygiene.no_next_step"] == ["next_step"]
    warned = [e for e in told() if e["level"] == "warning"]
    assert {"the CRM's set-up changed", "a rule could not judge"} <= {e["event"] for e in warned}
    assert found["health"] == "warning"


def test_an_error_that_holds_a_secret_is_kept_without_it(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a library puts into its message is neither in the ledger nor in the log."""
    from pipesync.secrecy import hide

    out = io.StringIO()
    logs.configure(logging.INFO, out, people=False)
    hide("s3cr3t-token-4711")

    def refuse(*_: object, **__: object) -> None:
        raise CrmError("no answer from https://api?token=s3cr3t-token-4711")

    monkeypatch.setattr("pipesync.sync.pull", refuse)
    sync_all(config, ("north",))
    logs.silence()

    with Ledger(config.ledger_url) as ledger:
        run = ledger.runs("north")[0]
    assert "[secret]" in run.detail["error"]
    assert "s3cr3t" not in str(run.detail) + out.getvalue()
    assert "[secret]" in out.getvalue()
