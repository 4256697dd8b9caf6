"""Schedules are complete and valid, as far as the tools that read them are here to say so."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml

from pipesync.errors import InputError
from pipesync.schedules import KINDS, UNIT_FILE, Schedule, render

EVERY = (5, 30, 60, 120, 1440)


@pytest.fixture(params=EVERY)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return Schedule(
        config=PurePath("/srv/sales ops/pipesync.yaml"),
        command=PurePath("/usr/bin/true"),
        every_minutes=request.param,
        secrets=("HUBSPOT_TOKEN",),
        timezone="Europe/Warsaw",
    )


def _field(part: str, lowest: int, highest: int) -> bool:
    """Whether a cron field is `*`, a number, or `*/n`, within its range."""
    base, _, step = part.partition("/")
    if step and not 0 < int(step) <= highest:
        return False
    return base == "*" or lowest <= int(base) <= highest


def _is_cron(text: str) -> bool:
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    parts = text.split()
    return len(parts) == 5 and all(_field(p, *r) for p, r in zip(parts, ranges, strict=True))


def test_cron(schedule: Schedule, tmp_path: Path) -> None:
    """Five good fields, a folder with a space quoted, and crontab's own check where it is installed."""
    text = render("cron", schedule)

    line = text.splitlines()[-1]
    assert _is_cron(" ".join(line.split()[:5]))
    assert "'/srv/sales ops/pipesync.yaml'" in line
    if shutil.which("crontab"):
        (tmp_path / "tab").write_text(text)
        verify = ["crontab", "-T", str(tmp_path / "tab")]
        checked = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert checked.returncode == 0 or "invalid option" in checked.stderr, checked.stderr


def test_systemd(schedule: Schedule, tmp_path: Path) -> None:
    """Two units, each with its sections, and systemd's own check where it is installed."""
    text = render("systemd", schedule)

    names = UNIT_FILE.findall(text)
    parts = UNIT_FILE.split(text)[2::2]
    assert names == ["pipesync.service", "pipesync.timer"]
    assert "[Service]" in parts[0]
    assert "[Timer]" in parts[1]
    if shutil.which("systemd-analyze"):
        for name, part in zip(names, parts, strict=True):
            (tmp_path / name).write_text(part)
        verify = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "pipesync.timer")]
        checked = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert "pipesync" not in checked.stderr, checked.stderr


def test_kubernetes(schedule: Schedule) -> None:
    """A CronJob that forbids overlap, runs as nobody on a read-only root, and takes secrets by reference."""
    claim, job = yaml.safe_load_all(render("kubernetes", schedule))

    spec: Any = job["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (claim["kind"], job["kind"], job["apiVersion"]) == ("PersistentVolumeClaim", "CronJob", "batch/v1")
    assert _is_cron(spec["schedule"])
    assert spec["concurrencyPolicy"] == "Forbid"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [e["name"] for e in container["env"]] == ["HUBSPOT_TOKEN"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_github_actions(schedule: Schedule) -> None:
    """A workflow on a schedule, one at a time, that may only read the repository."""
    # YAML 1.1 reads the key `on` as true.
    workflow = yaml.safe_load(render("github-actions", schedule))

    (cron,) = workflow[True]["schedule"]
    assert _is_cron(cron["cron"])
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert "secrets.HUBSPOT_TOKEN" in str(workflow["jobs"]["sync"]["steps"][-1]["env"])


def test_windows(schedule: Schedule) -> None:
    """A task in the scheduler's own vocabulary: one instance, catching up, the configuration quoted."""
    text = render("windows", schedule)

    task = ET.fromstring(text.partition("\n")[2])  # noqa: S314  # our own text
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext("t:Settings/t:MultipleInstancesPolicy", namespaces=space) == "IgnoreNew"
    assert task.findtext("t:Settings/t:StartWhenAvailable", namespaces=space) == "true"
    said = task.findtext("t:Actions/t:Exec/t:Arguments", namespaces=space)
    assert said == 'sync --config "/srv/sales ops/pipesync.yaml" --quiet'


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(PurePath("a.yaml"), PurePath("p"), every_minutes=7),
        lambda: Schedule(PurePath("a\nb.yaml"), PurePath("p")),
        lambda: render("at", Schedule(PurePath("a.yaml"), PurePath("p"))),
    ],
    ids=["an odd interval", "a path with a line break", "an unknown kind"],
)
def test_what_cannot_be_scheduled_is_refused(make: Callable[[], object]) -> None:
    """A message says what can."""
    with pytest.raises(InputError):
        make()


def test_every_kind_is_judged_here() -> None:
    """A new kind needs a test of its own."""
    assert set(KINDS) == {"cron", "systemd", "kubernetes", "github-actions", "windows"}
