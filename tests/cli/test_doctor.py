"""`doctor` says what is missing around the connections, and how to mend it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]


def told(pipesync: Run) -> dict[str, tuple[str, str, str]]:
    ran = pipesync("doctor", "--format", "json")
    return {c["name"]: (c["status"], c["detail"], c["fix"]) for c in ran.document["installation"]}


def test_a_new_installation_lacks_a_schedule_only(work: Path, pipesync: Run) -> None:
    """Rules, stores and space are fine; that nothing runs yet is a warning; after a sync it is none."""
    before = told(pipesync)
    pipesync("sync", "-q")
    after = told(pipesync)

    assert {name: status for name, (status, _, _) in before.items()} == {
        "rules": "ok", "warehouse": "ok", "disk": "ok", "ledger": "ok", "schedule": "warning",
    }  # fmt: skip
    assert "pipesync schedule" in before["schedule"][2]
    assert after["schedule"][0] == "ok"
    assert "installation" in pipesync("doctor").out


@pytest.mark.parametrize("kind", ["cron", "systemd"])
def test_a_schedule_of_this_machine_is_seen(
    kind: str,
    work: Path,
    pipesync: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What `schedule` prints is found where it belongs; one of another folder, or that is commented out, is not."""
    home = tmp_path_factory.mktemp("home")
    tools, units = home / "bin", home / ".config" / "systemd" / "user"
    tools.mkdir()
    units.mkdir(parents=True)
    (tools / "crontab").write_text(f"#!/bin/sh\ncat {home}/crontab\n")
    (tools / "crontab").chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    file = home / "crontab" if kind == "cron" else units / "pipesync.service"
    text = pipesync("schedule", kind, "--config", str(work / "pipesync.yaml")).out
    (home / "crontab").touch()

    def status(text: str) -> str:
        file.write_text(text)
        return told(pipesync)["schedule"][0]

    assert status(text) == "ok"
    assert status(text.replace(str(work), "/srv/another")) == "warning"
    assert status("".join(f"# {line}\n" for line in text.splitlines())) == "warning"


def test_each_fault_has_its_mend(work: Path, pipesync: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a rule's setting, a ledger that is none, a secret's file for all to read, a notice nobody takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    monkeypatch.setenv("TEST_ALERTS", f"json://localhost:{closed}/x")
    monkeypatch.delenv("TEST_DIGEST", raising=False)
    (work / "token").write_text("pat-na1-0000")
    (work / "token").chmod(0o644)
    (work / "ledger.db").write_text("no database" * 100)
    (work / "pipesync.yaml").write_text(
        (work / "pipesync.yaml").read_text()
        + "  portal: {adapter: hubspot, token_file: token, url: 'http://127.0.0.1:1'}\n"
        + "rules: {hygiene.no_activity: {params: {idle_days: 9999}}}\n"
        + "notify: {digest: {to_env: TEST_DIGEST}, failures: {to_env: TEST_ALERTS}}\n"
    )

    found = told(lambda *words: pipesync(*words, "--connection", "company"))

    assert {name: status for name, (status, _, _) in found.items() if status != "ok"} == {
        "rules": "failed", "ledger": "failed", "schedule": "warning", "secret portal.token_file": "warning",
        "notify.digest": "failed", "notify.failures 1": "failed",
    }  # fmt: skip
    assert all(fix for status, _, fix in found.values() if status != "ok")
    assert "chmod 600" in found["secret portal.token_file"][2]
    assert pipesync("doctor", "--connection", "company").code == 2
