"""Schedules are complete and valid, as far as the tools that read them are here to say so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import kubernetes_validate
import pytest
import yaml
from lxml import etree

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


def test_cron(schedule: Schedule) -> None:
    """Five good fields, and a folder with a space quoted."""
    text = render("cron", schedule)

    line = text.splitlines()[-1]
    assert _is_cron(" ".join(line.split()[:5]))
    assert "'/srv/sales ops/pipesync.yaml'" in line


def test_cron_takes_it(schedule: Schedule, tmp_path: Path) -> None:
    """crontab's own check (cronie's -T, Debian's -n) accepts it, and refuses what is wrong."""
    program = shutil.which("crontab")
    if program is None:
        pytest.skip("cron is not installed")
    usage = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
    option = (
        "-n" if "-n" in usage.stdout + usage.stderr and "dry run" in usage.stdout + usage.stderr else "-T"
    )

    codes = []
    for content in (render("cron", schedule), "61 * * * * true\n"):
        (tmp_path / "tab").write_text(content)
        checked = subprocess.run([program, option, str(tmp_path / "tab")], capture_output=True, check=False)
        codes.append(checked.returncode)

    assert codes[0] == 0
    assert codes[1] != 0


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
        assert checked.returncode == 0, checked.stderr
        assert "pipesync" not in checked.stderr, checked.stderr


def test_kubernetes(schedule: Schedule) -> None:
    """A CronJob that forbids overlap, runs as nobody on a read-only root, and takes secrets by reference."""
    claim, job = yaml.safe_load_all(render("kubernetes", schedule))

    for part in (claim, job) if schedule.every_minutes == EVERY[0] else ():
        kubernetes_validate.validate(part, "1.31", strict=True)  # the published schemas
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


def published_schema(name: str, file: Path) -> str:
    """Return what the published schema that check-jsonschema ships has against a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", name, str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if checked.returncode == 0 else checked.stdout + checked.stderr


def test_github_actions(schedule: Schedule, tmp_path: Path) -> None:
    """A workflow on a schedule, one at a time, that may only read the repository."""
    # YAML 1.1 reads the key `on` as true.
    text = render("github-actions", schedule)
    workflow = yaml.safe_load(text)

    if schedule.every_minutes == EVERY[0]:
        (tmp_path / "pipesync.yml").write_text(text)
        assert published_schema("vendor.github-workflows", tmp_path / "pipesync.yml") == ""
    (cron,) = workflow[True]["schedule"]
    assert _is_cron(cron["cron"])
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert "secrets.HUBSPOT_TOKEN" in str(workflow["jobs"]["sync"]["steps"][-1]["env"])


def test_windows(schedule: Schedule) -> None:
    """A task in the scheduler's own vocabulary: one instance, catching up, the configuration quoted."""
    text = render("windows", schedule)

    body = text.partition("\n")[2]
    grammar = etree.XMLSchema(file=str(Path(__file__).with_name("task.xsd")))
    assert grammar.validate(etree.fromstring(body)), grammar.error_log
    task = ET.fromstring(body)  # noqa: S314  # our own text
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


# --- Images -----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def test_the_compose_file_is_one(tmp_path: Path) -> None:
    """By the published schema; both services run without capabilities to write their root, secrets stand in files."""
    told = yaml.safe_load((ROOT / "compose.yaml").read_text())

    assert published_schema("vendor.compose-spec", ROOT / "compose.yaml") == ""
    ours, ledger = told["services"]["pipesync"], told["services"]["ledger"]
    assert (ours["read_only"], ledger["read_only"], ours["cap_drop"]) == (True, True, ["ALL"])
    assert ours["user"] == "10001:10001"
    assert ours["depends_on"]["ledger"]["condition"] == "service_healthy"
    assert "PASSWORD" not in str(ours)
    assert ledger["environment"]["POSTGRES_PASSWORD_FILE"].startswith("/run/secrets/")
    mounted = {v.split(":")[0] for s in (ours, ledger) for v in s["volumes"] if not v.startswith(".")}
    assert mounted == set(told["volumes"])


def test_the_image_is_pinned_and_runs_as_nobody() -> None:
    """Exact base, exact versions, compiled bytecode, a user of its own, and everything that it copies exists."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]

    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-bookworm", base) for base in bases)
    assert [rest for word, rest in steps if word == "USER"] == ["10001:10001"]
    install = next(rest for word, rest in steps if word == "RUN" and "pip install" in rest)
    assert "--compile" in install
    assert "--constraint constraints.txt" in install
    copied = [n for word, rest in steps if word == "COPY" and "--from" not in rest for n in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{name.removeprefix('./')}" for name in copied} <= set(ignored)
    words = [word for word, _ in steps]
    assert words.index("USER") < words.index("ENTRYPOINT")
