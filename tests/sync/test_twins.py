"""Opportunities that two CRMs hold are counted once, and nobody loses sight of the others."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import Ran, run_command

from pipesync.cli.rehearsal import Crm, write_configuration
from pipesync.config import load
from pipesync.connections import pull_all
from pipesync.errors import InputError
from pipesync.sandbox.company import generate
from pipesync.sandbox.process import running
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse
from pipesync.sync import Cycle, sync_all
from pipesync.twins import counted_once, in_order

CONFIGURATION = """\
connections:
  first: {adapter: files, data: first}
  second: {adapter: files, data: second, mapping: second.yaml}
"""
MATCH = "counted_once: [{keep: first, leave_out: second, match: {id: custom.original}}]\n"
MAPPING = "version: 1\nextends: pipesync:files\nstreams: {opportunities: {custom: {original: original}}}\n"


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company, and another system that holds half of its opportunities under ids of its own, beside others."""
    folder = tmp_path_factory.mktemp("twins")
    generate(folder / "first", opportunities=60, activities_per_opportunity=2)
    generate(folder / "second", opportunities=60, activities_per_opportunity=2, seed=8)
    with (folder / "first" / "opportunities.csv").open(newline="") as file:
        originals = [row["opportunity_id"] for row in csv.DictReader(file)]
    file_ = folder / "second" / "opportunities.csv"
    with file_.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chance = random.Random(3)  # noqa: S311  # seeded on purpose
    twins = chance.sample(range(len(rows)), 30)
    for place, row in enumerate(rows):
        row["original"] = f" {originals[place].lower()} " if place in twins else ""
    with file_.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "second.yaml").write_text(MAPPING)
    (folder / "pipesync.yaml").write_text(CONFIGURATION + MATCH)
    pull_all(load(folder / "pipesync.yaml"), ("first", "second"))
    return folder


@pytest.fixture
def work(pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(pulled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(*words: str) -> dict[str, Any]:
    ran: Ran = run_command(*words, "--format", "json")
    assert ran.code == 0, ran.err
    return {entry["connection"]: entry for entry in json.loads(ran.out)["connections"]}


def test_twins_are_seen_in_one_connection_only(work: Path) -> None:
    """Thirty leave the second one's view with all that belongs to them; the file itself keeps every row."""
    config = load(work / "pipesync.yaml")
    with Warehouse(published(config.warehouse), read_only=True) as warehouse:
        count = "SELECT connection, count(*) FROM opportunities GROUP BY 1 ORDER BY 1"
        known = "SELECT connection, id FROM opportunities"
        orphans = f"SELECT count(*) FROM field_changes WHERE (connection, opportunity_id) NOT IN ({known})"
        with counted_once(warehouse, config, config.connections) as left:
            inside, lost = warehouse.rows(count), warehouse.rows(orphans)
        outside = warehouse.rows(count)

    assert left == {"second": 30}
    assert inside == [("first", 60), ("second", 30)]
    assert lost == [(0,)]
    assert outside == [("first", 60), ("second", 60)]


@pytest.mark.thorough
def test_forecasts_analyses_and_rules_count_them_once(work: Path) -> None:
    """What the second connection says is what it says where its twins do not exist; the first one's figures stay."""
    names = ("forecast", "check", "bottlenecks")
    with_twins = {name: asked(name) for name in names}
    (work / "pipesync.yaml").write_text(CONFIGURATION)
    without = {name: asked(name) for name in names}

    def seen(said: dict[str, Any], connection: str) -> int:
        return len(said["forecast"][connection]["opportunities"])

    assert seen(with_twins, "first") == seen(without, "first") > 0
    assert with_twins["check"]["first"]["findings"] == without["check"]["first"]["findings"]
    assert 0 < seen(with_twins, "second") < seen(without, "second")
    judged = {s: sum(r["clear"] + r["fired"] for r in said["check"]["second"]["rules"]) for s, said in
              (("with", with_twins), ("without", without))}  # fmt: skip
    assert judged["with"] < judged["without"]
    visits = [
        sum(s["visits"] for s in said["bottlenecks"]["second"]["stages"]) for said in (with_twins, without)
    ]
    assert visits[0] < visits[1]


def test_a_sync_leaves_the_mirror_whole(work: Path) -> None:
    """What it counts once stays where it was."""
    config = load(work / "pipesync.yaml")
    done = sync_all(config, ("first", "second"))

    assert all(isinstance(one, Cycle) for one in done.values())
    with Warehouse(published(config.warehouse), read_only=True) as warehouse:
        assert warehouse.rows("SELECT count(*) FROM opportunities") == [(120,)]


@pytest.mark.thorough
def test_both_crms_write_about_an_opportunity_once(tmp_path: Path) -> None:
    """Every other deal names its Salesforce id, of 15 characters; the first sync already counts those once."""
    generate(tmp_path / "exports", opportunities=60, activities_per_opportunity=2)
    with running(tmp_path / "exports") as sandbox:
        write_configuration(tmp_path, [Crm(sandbox, crm, tmp_path) for crm in ("hubspot", "salesforce")])
        with (tmp_path / "pipesync.yaml").open("a") as file:
            file.write(
                "counted_once: [{keep: salesforce, leave_out: hubspot, match: {id: custom.salesforce_id}}]\n"
            )
        mapping = yaml.safe_load((tmp_path / "hubspot-mapping.yaml").read_text())
        mapping["streams"]["opportunities"]["custom"] = {"salesforce_id": "dataset_id"}
        (tmp_path / "hubspot-mapping.yaml").write_text(yaml.safe_dump(mapping))
        held = {
            "salesforce": sandbox.ids("salesforce")["opportunities"],
            "hubspot": sandbox.ids("hubspot")["deals"],
        }
        theirs = held["hubspot"]
        paired = sorted(theirs)[::2]
        for one, deal in theirs.items():
            known = held["salesforce"][one][:15] if one in paired else ""
            fields = {"dataset_id": known}
            sandbox.ask("POST", "edit", {"crm": "hubspot", "id": deal, "fields": fields})
        config = load(tmp_path / "pipesync.yaml")

        done = sync_all(config, ("hubspot", "salesforce"))
        again = sync_all(config, ("hubspot", "salesforce"))

    assert list(done) == ["hubspot", "salesforce"]
    assert all(isinstance(one, Cycle) for one in (*done.values(), *again.values())), (done, again)
    planned = {name: one.prepared.plan.changes for name, one in done.items() if isinstance(one, Cycle)}
    about = {name: {c.opportunity_id for c in changes} - {None} for name, changes in planned.items()}
    twins = {theirs[one] for one in paired}
    both = {held["salesforce"][one] for one in paired}
    assert about["hubspot"]
    assert about["hubspot"] & twins == set()
    assert about["salesforce"] & both
    foretold = {
        name: {o.id for o in one.prepared.forecast.opportunities}
        for name, one in done.items()
        if isinstance(one, Cycle)
    }
    assert foretold["hubspot"] & twins == set()
    counted = Counter(
        one for crm, ids in held.items() for one, there in ids.items() if there in foretold[crm]
    )
    assert counted == {one: 1 if one in paired else 2 for one in counted}
    assert [one.prepared.plan.changes for one in again.values() if isinstance(one, Cycle)] == [(), ()]


def test_who_leaves_twins_out_comes_after_who_keeps_them(work: Path) -> None:
    """A chain goes link by link; connections that have nothing to do with each other go side by side."""
    pair = "{{keep: {}, leave_out: {}, match: {{id: id}}}}"
    (work / "pipesync.yaml").write_text(
        "connections:\n"
        + "".join(f"  {name}: {{adapter: files, data: first}}\n" for name in "abcd")
        + f"counted_once: [{pair.format('b', 'a')}, {pair.format('c', 'b')}]\n"
    )
    config = load(work / "pipesync.yaml")

    assert in_order(("a", "b", "c", "d"), config) == [["c", "d"], ["b"], ["a"]]
    assert in_order(("a", "d"), config) == [["a", "d"]]


def test_twins_of_a_crm_that_was_never_pulled_are_not_guessed(work: Path) -> None:
    """Nothing is calculated of the one connection before the other was pulled."""
    (work / "warehouse.duckdb").unlink()
    config = load(work / "pipesync.yaml")
    pull_all(config, ["second"])

    ran = run_command("check", "--connection", "second")

    assert (ran.code, "run `pipesync pull --connection first` first" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("counted_once: [{keep: first, leave_out: third, match: {id: id}}]\n", "no connection"),
        ("counted_once: [{keep: first, leave_out: first, match: {id: id}}]\n", "two connections"),
        ("counted_once: [{keep: first, leave_out: second, match: {idd: id}}]\n", "no field 'idd'"),
        ("counted_once: [{keep: first, leave_out: second, match: {}}]\n", "match"),
    ],
)
def test_a_pair_that_cannot_be_is_refused(work: Path, text: str, said: str) -> None:
    """Names of connections and fields are checked."""
    (work / "pipesync.yaml").write_text(CONFIGURATION + text)

    def use() -> None:
        config = load(work / "pipesync.yaml")
        with (
            Warehouse(published(config.warehouse), read_only=True) as warehouse,
            counted_once(warehouse, config, config.connections),
        ):
            pass

    check: Callable[[], None] = use
    with pytest.raises(InputError, match=said):
        check()
