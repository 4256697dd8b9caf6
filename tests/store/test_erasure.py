"""What is to be forgotten is in no file any more, and what stays still adds up."""

from __future__ import annotations

import shutil
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from pipesync import sync
from pipesync.config import Config, load
from pipesync.errors import InputError
from pipesync.sandbox.company import generate
from pipesync.store.erasure import prune
from pipesync.store.ledger import Ledger
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

CONFIGURATION = """\
mode: enforce
connections:
  company: {adapter: files, data: exports, outbox: outbox, write: {enabled: true, tasks: true, forecasts: true}}
"""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synced")
    generate(folder / "exports", opportunities=120, activities_per_opportunity=2)
    (folder / "pipesync.yaml").write_text(CONFIGURATION)
    sync.sync_all(load(folder / "pipesync.yaml"), ["company"])
    return folder


@pytest.fixture
def config(synced: Path, tmp_path: Path) -> Config:
    shutil.copytree(synced, tmp_path / "work")
    return load(tmp_path / "work" / "pipesync.yaml")


def owner_with_tasks(config: Config) -> tuple[str, str, str]:
    """Return id, name and address of the owner with the most tasks."""
    with Warehouse(published(config.warehouse), read_only=True) as warehouse:
        (found,) = warehouse.rows(
            "SELECT u.id, u.name, u.email FROM users u JOIN own_tasks t ON t.owner_id = u.id "
            "GROUP BY ALL ORDER BY count(*) DESC, u.id LIMIT 1"
        )
    return found


def holding(folder: Path, text: str) -> list[str]:
    """Return the files of the stores that hold a text anywhere in their bytes."""
    stores = [p for p in folder.iterdir() if p.is_file() and p.suffix != ".yaml"]
    return [p.name for p in stores if text.encode() in p.read_bytes()]


def test_no_file_holds_a_forgotten_person(config: Config) -> None:
    """Name and address are in no byte of any store, the id in none of their rows, and findings keep their number."""
    owner, name, email = owner_with_tasks(config)
    assert holding(config.folder, name)
    with Ledger(config.ledger_url) as ledger:
        before = len(ledger.standing_findings("company"))

    done = sync.forget(config, ["company"], owner)["company"]

    assert holding(config.folder, name) == holding(config.folder, email) == []
    assert done.is_in_crm
    assert done.rows["opportunities"] > 0
    with Ledger(config.ledger_url) as ledger, Warehouse(config.warehouse) as warehouse:
        findings = ledger.standing_findings("company")
        theirs = [f for f in findings if f.owner_id == done.pseudonym]
        assert (len(findings), len([f for f in findings if f.owner_id == owner])) == (before, 0)
        assert len(theirs) > 0
        assert [e for e in ledger.journal("company") if owner in (e.owner_id, e.after.get("owner_id"))] == []
        assert warehouse.rows("SELECT count(*) FROM opportunities WHERE owner_id = ?", [owner]) == [(0,)]


def test_what_an_owner_sold_is_still_counted(config: Config) -> None:
    """Sums per owner move to the pseudonym as a whole."""
    owner, _, _ = owner_with_tasks(config)
    query = "SELECT count(*), sum(amount) FROM opportunities WHERE owner_id = ?"
    with Warehouse(config.warehouse) as warehouse:
        before = warehouse.rows(query, [owner])

    done = sync.forget(config, ["company"], owner)["company"]

    with Warehouse(config.warehouse) as warehouse:
        assert warehouse.rows(query, [done.pseudonym]) == before


def test_a_person_that_nobody_knows_is_told(config: Config) -> None:
    """A mistyped id changes nothing and says so."""
    with pytest.raises(InputError, match="knows no owner '005XX0000012345'"):
        sync.forget(config, ["company"], "005XX0000012345")


def test_retention_takes_what_has_ended_long_ago(config: Config) -> None:
    """Opportunities closed before the moment go with their history; open ones and younger ones stay whole."""
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:
        (before,) = warehouse.rows("SELECT quantile_disc(closed_at, 0.5) FROM opportunities WHERE is_closed")[
            0
        ]
        (kept,) = warehouse.rows(
            "SELECT count(*) FROM opportunities WHERE NOT is_closed OR closed_at >= ?", [before]
        )

        done = prune(warehouse, ledger, "company", before.replace(tzinfo=UTC))

        assert done["opportunities"] > 10
        assert warehouse.rows("SELECT count(*) FROM opportunities") == [kept]
        orphans = "SELECT count(*) FROM {} WHERE opportunity_id NOT IN (SELECT id FROM opportunities)"
        assert [warehouse.rows(orphans.format(t))[0][0] for t in ("field_changes", "activities")] == [0, 0]
        assert len(ledger.journal("company")) > 0, "tasks that are still open keep their journal"


def test_retention_is_part_of_every_sync(config: Config) -> None:
    """With `store.keep`, nothing older is left after a sync, and the next sync does not bring it back."""
    text = (config.folder / "pipesync.yaml").read_text() + "store: {keep: 6 months}\n"
    (config.folder / "pipesync.yaml").write_text(text)
    config = load(config.folder / "pipesync.yaml")

    for _ in range(2):
        done = sync.sync_all(config, ["company"])["company"]
        assert isinstance(done, sync.Cycle)
        with Warehouse(published(config.warehouse), read_only=True) as warehouse:
            oldest = warehouse.rows("SELECT min(closed_at) FROM opportunities WHERE is_closed")[0][0]
        assert oldest.replace(tzinfo=UTC) >= done.as_of - timedelta(days=183)


def test_what_comes_later_of_a_pruned_opportunity_goes_too(config: Config) -> None:
    """A CRM lists contact roles and history also by themselves; what belongs to an opportunity that is here stays."""
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:
        (late,) = warehouse.rows("SELECT max(closed_at) + INTERVAL 1 DAY FROM opportunities")[0]
        closed, open_ = (
            warehouse.rows(f"SELECT min(id) FROM opportunities WHERE is_closed = {is_closed}")[0][0]
            for is_closed in (True, False)
        )
        prune(warehouse, ledger, "company", late.replace(tzinfo=UTC))
        warehouse.execute(
            "INSERT INTO contact_roles (connection, opportunity_id, contact_id) "
            "SELECT 'company', unnest([?, ?, 'not pulled yet']), 'c'",
            [closed, open_],
        )

        done = prune(warehouse, ledger, "company", late.replace(tzinfo=UTC))

        left = warehouse.rows("SELECT opportunity_id FROM contact_roles WHERE contact_id = 'c' ORDER BY ALL")
        assert (done["contact_roles"], left) == (1, [(open_,), ("not pulled yet",)])


def test_the_text_of_a_task_goes_with_its_opportunity(config: Config) -> None:
    """The key of an ended task stays, so that no new task gets it."""
    with Warehouse(config.warehouse) as warehouse, Ledger(config.ledger_url) as ledger:
        ended, open_ = warehouse.rows("SELECT key, opportunity_id FROM own_tasks ORDER BY key LIMIT 2")
        warehouse.execute("UPDATE own_tasks SET is_done = TRUE WHERE key = ?", [ended[0]])
        (late,) = warehouse.rows("SELECT max(created_at) + INTERVAL 1 DAY FROM opportunities")[0]
        warehouse.execute(
            "UPDATE opportunities SET is_closed = TRUE, closed_at = created_at WHERE id IN (?, ?)",
            [ended[1], open_[1]],
        )

        prune(warehouse, ledger, "company", late.replace(tzinfo=UTC))

        texts = dict(warehouse.rows("SELECT key, subject FROM own_tasks"))
        assert texts[ended[0]] is None
        assert texts[open_[0]]


@pytest.mark.parametrize(("text", "days"), [("3 years", 1095), ("18 months", 547), ("200d", 200)])
def test_retention_is_written_as_people_say_it(text: str, days: int, tmp_path: Path) -> None:
    """Years, months or days; nothing shorter than a quarter."""
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION + f"store: {{keep: {text}}}\n")

    assert load(tmp_path / "pipesync.yaml").store.keep == timedelta(days=days)


def test_a_retention_too_short_to_learn_from_is_refused(tmp_path: Path) -> None:
    """A typo does not empty the stores."""
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION + "store: {keep: 3d}\n")

    with pytest.raises(InputError, match="keep"):
        load(tmp_path / "pipesync.yaml")
