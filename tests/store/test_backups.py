"""A backup holds both stores as they stood, can be made while runs write, and goes back into either database."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from pipesync.cli.rehearsal import Folder
from pipesync.config import load
from pipesync.errors import InputError, StoreError
from pipesync.sandbox.company import generate
from pipesync.store.backups import back_up, restore
from pipesync.store.ledger import Ledger
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse
from pipesync.sync import Cycle, sync_all

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
CONFIGURATION = """\
mode: enforce
store: {{ledger: "{ledger}"}}
connections:
  company: {{adapter: files, data: exports, outbox: outbox, write: {{enabled: true, tasks: true, forecasts: true}}}}
"""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder after one sync that wrote; not to be changed."""
    folder = tmp_path_factory.mktemp("synced")
    generate(folder / "exports", opportunities=60, activities_per_opportunity=2)
    (folder / "pipesync.yaml").write_text(CONFIGURATION.format(ledger="ledger.db"))
    done = sync_all(load(folder / "pipesync.yaml"), ["company"])["company"]
    assert isinstance(done, Cycle)
    assert done.applied
    return folder


@pytest.fixture
def work(synced: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(synced, folder)
    return folder


def files(work: Path) -> tuple[Path, str]:
    return work / "warehouse.duckdb", f"sqlite:///{work / 'ledger.db'}"


def recorded(url: str) -> dict[str, object]:
    with Ledger(url) as ledger:
        return {
            "runs": ledger.runs(),
            "findings": sorted(ledger.standing_findings("company"), key=lambda f: (f.rule, f.subject_id)),
            "episodes": sorted(ledger.episodes("company"), key=lambda f: (f.rule, f.subject_id)),
            "journal": ledger.journal("company"),
            "issued": sorted(ledger.issued("company"), key=lambda f: (f[0], f[1].scope, f[1].scope_id)),
        }


def test_what_is_restored_is_what_was_saved(work: Path, url: str, tmp_path: Path) -> None:
    """Every value of the ledger comes back, in SQLite and in PostgreSQL, and the warehouse byte by byte."""
    warehouse, ledger = files(work)
    before = recorded(ledger)

    back_up(warehouse, ledger, tmp_path / "saved.zip", at=NOW)
    restore(tmp_path / "saved.zip", tmp_path / "new" / "warehouse.duckdb", url, now=NOW)

    assert recorded(url) == before
    assert before["journal"]
    kept = published(tmp_path / "new" / "warehouse.duckdb").read_bytes()
    assert kept == published(warehouse).read_bytes() == (tmp_path / "new" / "warehouse.duckdb").read_bytes()


def test_a_restored_ledger_goes_on_counting(work: Path, url: str, tmp_path: Path) -> None:
    """After a restore the next sync writes and plans as if nothing had happened: an empty plan on the same facts."""
    warehouse, ledger = files(work)
    back_up(warehouse, ledger, tmp_path / "saved.zip", at=NOW)
    restore(tmp_path / "saved.zip", warehouse, url, now=NOW, replace=True)
    (work / "pipesync.yaml").write_text(CONFIGURATION.format(ledger=url))

    same = sync_all(load(work / "pipesync.yaml"), ["company"])["company"]
    with Warehouse(warehouse) as mirror:
        (opportunity,) = mirror.rows("SELECT opportunity_id FROM own_tasks ORDER BY 1 LIMIT 1")[0]
    Folder(work / "exports").edit(
        opportunity, {"outcome": "Closed Lost", "closed_at": "2026-11-16T07:00:00Z"}
    )
    changed = sync_all(load(work / "pipesync.yaml"), ["company"])["company"]

    assert isinstance(same, Cycle)
    assert isinstance(changed, Cycle)
    assert same.prepared.plan.changes == ()
    assert changed.applied
    assert changed.applied.applied > 0


def test_backups_of_a_running_sync_are_consistent(work: Path, tmp_path: Path) -> None:
    """While syncs write without pause, each backup's ledger knows every task that its warehouse holds."""
    config, stop = load(work / "pipesync.yaml"), threading.Event()
    saved: list[Path] = []
    cycles: list[object] = []
    with Warehouse(published(work / "warehouse.duckdb"), read_only=True) as mirror:
        ours = [
            o for (o,) in mirror.rows("SELECT opportunity_id FROM own_tasks WHERE NOT is_done ORDER BY 1")
        ]

    def keep_syncing() -> None:
        for number, opportunity in enumerate(ours[:3]):
            closed = {"outcome": "Closed Lost", "closed_at": f"2026-11-16T07:00:{number:02}Z"}
            Folder(work / "exports").edit(opportunity, closed)
            cycles.append(sync_all(config, ["company"])["company"])
        stop.set()

    writer = threading.Thread(target=keep_syncing)
    writer.start()
    while not stop.is_set():
        file = tmp_path / f"{len(saved)}.zip"
        back_up(*files(work), file, at=NOW)
        saved.append(file)
    writer.join()

    assert all(isinstance(cycle, Cycle) for cycle in cycles)
    assert len(saved) > 1
    for file in (saved[0], saved[len(saved) // 2], saved[-1]):
        there = tmp_path / file.stem
        restore(file, *files(there), now=NOW)
        with Ledger(files(there)[1]) as ledger, Warehouse(there / "warehouse.duckdb") as mirror:
            journal = ledger.journal("company")
            tasks = mirror.rows("SELECT key FROM own_tasks")
        assert {key for (key,) in tasks} <= {entry.key for entry in journal}


def test_stores_that_are_there_are_not_replaced_by_accident(work: Path, tmp_path: Path) -> None:
    """Neither a backup's file nor a folder's stores are overwritten without being told to."""
    back_up(*files(work), tmp_path / "saved.zip", at=NOW)

    with pytest.raises(InputError, match="is there already"):
        back_up(*files(work), tmp_path / "saved.zip", at=NOW)
    with pytest.raises(InputError, match="there are stores here already"):
        restore(tmp_path / "saved.zip", *files(work), now=NOW)


def test_a_restore_waits_for_no_running_sync(work: Path, tmp_path: Path) -> None:
    """Where a run holds the warehouse, or a lease on a connection, a restore is refused and changes nothing."""
    back_up(*files(work), tmp_path / "saved.zip", at=NOW)
    before = recorded(files(work)[1])

    with Ledger(files(work)[1]) as ledger:
        run = ledger.start_run("company", "sync", datetime.now(UTC))
        with (
            ledger.lease("company", run.id, datetime.now(UTC)),
            pytest.raises(StoreError, match="is writing to 'company'"),
        ):
            restore(tmp_path / "saved.zip", *files(work), now=datetime.now(UTC), replace=True)

    assert recorded(files(work)[1])["journal"] == before["journal"]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-400])


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    file.write_bytes(raw)


def _other(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil", "no")


def _newer(file: Path) -> None:
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    manifest = orjson.loads(parts["manifest.json"])
    parts["manifest.json"] = orjson.dumps({**manifest, "schema_": "9999"})
    with zipfile.ZipFile(file, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_cut, "is no whole backup"),
        (_flip, "is damaged|is no whole backup"),
        (_other, "is no backup of pipesync's"),
        (_newer, "newer pipesync"),
    ],
)
def test_what_is_no_whole_backup_is_refused(
    work: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """A cut, damaged, foreign or newer file is told, and the ledger stays as it was."""
    back_up(*files(work), tmp_path / "saved.zip", at=NOW)
    before = recorded(files(work)[1])
    spoil(tmp_path / "saved.zip")

    with pytest.raises((InputError, StoreError), match=said):
        restore(tmp_path / "saved.zip", *files(work), now=NOW, replace=True)

    assert recorded(files(work)[1]) == before


def test_a_backup_is_its_owners_alone(work: Path, tmp_path: Path) -> None:
    """It holds what the CRM says of customers."""
    back_up(*files(work), tmp_path / "saved.zip", at=NOW)

    assert (tmp_path / "saved.zip").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.glob("*.partial")] == []
