"""Both CRMs in one configuration, spoken to over their protocols: one answer, apart in failure, no secret told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pipesync.cli.rehearsal import Crm, Folder, World, write_configuration
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]
CRMS = ("salesforce", "hubspot")


class Played(NamedTuple):
    """Where it was played, and what the first sync of the three connections said."""

    config: Path
    synced: Ran
    sandbox: Sandbox
    tasks: dict[str, list[tuple[Any, ...]]]  # Any: columns' values
    """As `own_tasks` told them after that sync."""

    def secrets(self) -> list[str]:
        return [file.read_text() for file in self.config.parent.glob("*-secret")]

    def entry(self, name: str) -> Any:  # Any: JSON
        return next(e for e in self.synced.document["connections"] if e["connection"] == name)


def own_tasks(config: Path, connection: str) -> list[tuple[Any, ...]]:  # Any: columns' values
    """Return (opportunity, owner, subject) of every open task of ours, as mirrored."""
    query = "SELECT opportunity_id, owner_id, subject FROM own_tasks WHERE connection = ? AND NOT is_done ORDER BY 3"
    with Warehouse(published(config.with_name("warehouse.duckdb")), read_only=True) as warehouse:
        return warehouse.rows(query, [connection])


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, pipesync: Run) -> Iterator[Played]:
    """A company of 150 opportunities as a folder, an org and a portal, synced side by side."""
    work = tmp_path_factory.mktemp("crms")
    folder = Folder.generated(work, 150, 7)
    with running(folder.data, "both") as sandbox:
        worlds: list[World] = [folder, *(Crm(sandbox, name, work) for name in sandbox.crms)]
        write_configuration(work, worlds)
        config = work / "pipesync.yaml"
        synced = pipesync("sync", "--config", str(config), "--format", "json", "-v")
        yield Played(config, synced, sandbox, {name: own_tasks(config, name) for name in ("files", *CRMS)})


def test_every_crm_gives_the_same_answer(played: Played) -> None:
    """Findings, score and plan through either CRM are those of the folder that filled it.

    The forecast is within a percent: HubSpot keeps values from a deal's creation that a folder's history may lack.
    """
    files = played.entry("files")

    for crm in CRMS:
        entry = played.entry(crm)
        assert (entry["findings"], entry["score"]) == (files["findings"], files["score"])
        assert entry["plan"]["counts"] == files["plan"]["counts"]
        assert entry["applied"]["applied"] == files["applied"]["applied"] > 0
        assert entry["forecast"]["p50"] == pytest.approx(files["forecast"]["p50"], rel=0.01)


def test_the_second_sync_has_nothing_to_write(played: Played, pipesync: Run) -> None:
    """On each CRM the plan is empty once it was applied."""
    again = pipesync("sync", "--config", str(played.config), "--format", "json")

    assert again.code == 0
    assert [e["plan"]["changes"] for e in again.document["connections"]] == [0, 0, 0]


def test_one_crm_that_refuses_leaves_the_others_whole(played: Played, pipesync: Run) -> None:
    """With a wrong token HubSpot's sync fails and says so; the other two run, and the exit code is 4."""
    secret = played.config.with_name("hubspot-secret")
    before = secret.read_text()
    secret.write_text("pat-na1-wrong")
    try:
        ran = pipesync("sync", "--config", str(played.config), "--format", "json")
    finally:
        secret.write_text(before)

    assert ran.code == 4
    failed = [e["connection"] for e in ran.document["connections"] if "error" in e]
    assert failed == ["hubspot"]
    assert "hubspot: " in ran.err


def test_a_single_connection_that_refuses_is_the_exit_code(played: Played, pipesync: Run) -> None:
    """Alone, the CRM's refusal is exit code 3, with the mend."""
    secret = played.config.with_name("hubspot-secret")
    before = secret.read_text()
    secret.write_text("pat-na1-wrong")
    try:
        ran = pipesync("pull", "--config", str(played.config), "--connection", "hubspot")
    finally:
        secret.write_text(before)

    assert ran.code == 3
    assert "Traceback" not in ran.err


def test_no_secret_is_told_or_kept(played: Played, pipesync: Run) -> None:
    """Not in what commands print, with -v too, nor in the warehouse, the ledger or the outbox."""
    config = ("--config", str(played.config))
    printed = [played.synced, pipesync("doctor", *config, "-v"), pipesync("status", *config, "-v"),
               pipesync("plan", *config, "--format", "json", "-v")]  # fmt: skip
    said = "".join(ran.out + ran.err for ran in printed).encode()
    kept = b"".join(p.read_bytes() for p in played.config.parent.rglob("*")
                    if p.is_file() and not p.name.endswith("-secret"))  # fmt: skip

    assert len(played.secrets()) == 2
    for secret in played.secrets():
        assert secret.encode() not in said
        assert secret.encode() not in kept


def test_doctor_finds_nothing_wrong(played: Played, pipesync: Run) -> None:
    """Every check of every connection passes against a whole CRM, for programs as for people."""
    ran = pipesync("doctor", "--config", str(played.config), "--format", "json")

    checks = [
        (e["connection"], c["name"], c["status"]) for e in ran.document["connections"] for c in e["checks"]
    ]
    assert {name for name, _, _ in checks} == {"files", *CRMS}
    assert [c for c in checks if c[2] == "failed"] == []
    assert ran.code == 0


def test_fields_are_installed_where_an_api_allows(played: Played, pipesync: Run) -> None:
    """HubSpot's portal has all of them already; Salesforce's are deployed by hand, by the command that is printed."""
    ran = pipesync("install-fields", "--config", str(played.config), "--format", "json")
    told = {e["connection"]: e["installed"] for e in ran.document["connections"]}
    shown = pipesync(
        "install-fields", "--dry-run", "--config", str(played.config), "--connection", "salesforce"
    )

    assert ran.code == 0
    assert told["files"] == []
    assert {i["status"] for i in told["hubspot"]} == {"exists"}
    assert "tasks.pipesync_key" in {i["what"] for i in told["hubspot"]}
    assert [i["status"] for i in told["salesforce"]] == ["by hand"]
    assert "sf project deploy start --dry-run --source-dir force-app" in shown.out


def test_tasks_are_where_they_belong(played: Played, pipesync: Run) -> None:
    """Every task hangs on its opportunity, with the folder's subjects; nobody has it only where the owner left and
    the CRM, as HubSpot, knows no manager."""
    subjects = [subject for *_, subject in played.tasks["files"]]

    for crm in CRMS:
        tasks = played.tasks[crm]
        assert [subject for *_, subject in tasks] == subjects
        assert all(opportunity for opportunity, *_ in tasks)
        assert {subject.partition(":")[0] for _, owner, subject in tasks if not owner} <= {
            "Give it to someone"
        }


@pytest.mark.parametrize("crm", CRMS)
def test_a_mended_opportunity_loses_its_task(crm: str, played: Played, pipesync: Run) -> None:
    """A task that nobody touched is removed, not completed, and no other task changes."""
    config = ("--config", str(played.config), "--connection", crm, "--format", "json")
    found = pipesync("check", *config).entry["findings"]
    by_rule = {rule: {f["opportunity_id"] for f in found if (f["rule"] == "hygiene.no_next_step") == rule}
               for rule in (True, False)}  # fmt: skip
    mended = min(by_rule[True] - by_rule[False])
    before = own_tasks(played.config, crm)

    played.sandbox.edit(crm, mended, {"next_step": "Call on Monday"})
    counts = pipesync("sync", *config).entry["plan"]["counts"]

    assert counts == {"total": 1, "task.delete": 1}
    assert set(before) - set(own_tasks(played.config, crm)) == {t for t in before if t[0] == mended}
