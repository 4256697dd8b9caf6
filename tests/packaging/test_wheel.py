"""What is installed is what is in the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git, or not a checkout: nothing to compare the wheel with")
    listed = subprocess.run(
        ["git", "ls-files", "src/pipesync", "rules", "adapters"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_tracked_file(tracked: list[str], wheel: Path) -> None:
    """Code, SQL, rules and mappings are all in it; only their folders differ."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    moved = {"src/": "", "rules/": "pipesync/_data/rules/", "adapters/": "pipesync/_data/adapters/"}

    missing = [
        name
        for name in tracked
        if not any(
            name.startswith(old) and new + name.removeprefix(old) in inside for old, new in moved.items()
        )
    ]

    assert missing == []


def test_the_wheel_brings_no_tests_and_no_data_of_ours(wheel: Path) -> None:
    """Nobody installs our tests, benchmarks or work files."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"pipesync"}


@pytest.mark.campaign
def test_an_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """Outside a checkout, in a fresh environment, rules and mappings are found."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        str(ROOT / "constraints.txt"),
        str(wheel),
    ]
    subprocess.run(install, check=True)

    ran = subprocess.run(
        [str(python), "-m", "pipesync.cli", "demo", "--crm", "files", "--opportunities", "150"],
        cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert "second plan: 0 changes" in ran.stdout


def test_the_exact_versions_agree_with_one_another() -> None:
    """What constraints.txt pins can be installed together: a fresh machine gets what was tested."""
    pinned = dict(
        line.strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )

    broken = [
        f"{name} wants {requirement}, pinned is {pinned[wanted]}"
        for name in pinned
        if (found := next(iter(metadata.distributions(name=name)), None))
        for requirement in map(Requirement, found.requires or ())
        if not (requirement.marker and not requirement.marker.evaluate({"extra": ""}))
        and (
            wanted := next(
                (p for p in pinned if canonicalize_name(p) == canonicalize_name(requirement.name)), ""
            )
        )
        and not requirement.specifier.contains(pinned[wanted], prereleases=True)
    ]

    assert broken == []
