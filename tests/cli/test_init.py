"""`init`: a configuration that is valid, asked for or given, and a mapping proposed by the CRM itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.config import load
from pipesync.mapping import load as load_mapping
from pipesync.sandbox.process import HUBSPOT_TOKEN, Sandbox, running
from pipesync.sandbox.salesforce.org import CONSUMER_KEY, CONSUMER_SECRET

if TYPE_CHECKING:
    from tests.cli.conftest import Ran

Run = Callable[..., "Ran"]


def test_what_is_given_stands_in_the_file(tmp_path: Path, pipesync: Run) -> None:
    """Every option becomes its key, and nothing may be written yet."""
    ran = pipesync(
        "init", str(tmp_path / "work"), "--adapter", "salesforce", "--url", "https://acme.my.salesforce.com",
        "--client-id", "3MVG9", "--secret-env", "SF", "--timezone", "Europe/Warsaw", "--fiscal-year-starts", "2",
    )  # fmt: skip

    config = load(tmp_path / "work" / "pipesync.yaml")
    assert ran.code == 0
    assert config.connections["salesforce"].options == {
        "url": "https://acme.my.salesforce.com", "client_id": "3MVG9", "client_secret_env": "SF",
    }  # fmt: skip
    assert (config.calendar.timezone, config.calendar.fiscal_year_starts) == ("Europe/Warsaw", 2)
    assert config.store.keep is not None
    assert not config.connections["salesforce"].write.enabled
    assert "set SF in the environment" in ran.out


def test_on_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not given, and before it overwrites; a no leaves the file as it was."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    work = tmp_path / "work"

    first = CliRunner().invoke(main, ["init", str(work)], input="hubspot\nMY_TOKEN\nEurope/Berlin\n")
    before = (work / "pipesync.yaml").read_text()
    second = CliRunner().invoke(main, ["init", str(work)], input="n\n")

    assert first.exit_code == 0, first.output
    config = load(work / "pipesync.yaml")
    assert config.connections["hubspot"].options == {"token_env": "MY_TOKEN"}
    assert config.calendar.timezone == "Europe/Berlin"
    assert second.exit_code == 2
    assert (work / "pipesync.yaml").read_text() == before


def test_a_value_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, pipesync: Run) -> None:
    """A typo in the time zone leaves no file behind."""
    ran = pipesync("init", str(tmp_path / "work"), "--adapter", "files", "--timezone", "Europe/Warzaw")

    assert ran.code == 2
    assert "time zone" in ran.err
    assert not (tmp_path / "work" / "pipesync.yaml").exists()


def test_exports_propose_their_own_mapping(company: Path, tmp_path: Path, pipesync: Run) -> None:
    """Columns that nobody mapped become custom fields; the proposal is a valid mapping, and a pull reads it."""
    work = tmp_path / "work"
    shutil.copytree(company, work / "exports")
    file = work / "exports" / "opportunities.csv"
    header, _, rest = file.read_text().partition("\n")
    rows = [f'{line},"EMEA"' for line in rest.splitlines()]
    file.write_text("\n".join([header + ',"Sales Region"', *rows]) + "\n")

    ran = pipesync("init", str(work), "--adapter", "files", "--map")

    assert ran.code == 0, ran.err
    proposed = load_mapping(work / "mapping.yaml", base="pipesync:files")
    assert proposed.streams["opportunities"].custom == {"sales_region": "Sales Region"}
    assert {s.phase for p in proposed.pipelines.values() for s in p.stages.values()} >= {
        "early",
        "won",
        "lost",
    }
    assert pipesync("pull", "--config", str(work / "pipesync.yaml")).code == 0


@pytest.fixture(scope="module")
def sandbox(company: Path) -> Iterator[Sandbox]:
    with running(company) as served:
        yield served


@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
def test_a_crm_proposes_its_own_mapping(
    crm: str, sandbox: Sandbox, tmp_path: Path, pipesync: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own fields, stages and phases, from the CRM over its protocol; the three next steps end in a plan."""
    monkeypatch.setenv("HUBSPOT_TOKEN", HUBSPOT_TOKEN)
    monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", CONSUMER_SECRET)
    work = tmp_path / "work"

    ran = pipesync(
        "init", str(work), "--adapter", crm, "--map", "--url", sandbox.url, "--client-id", CONSUMER_KEY
    )

    assert ran.code == 0, ran.err
    told = yaml.safe_load((work / "mapping.yaml").read_text())
    assert told["extends"] == f"pipesync:{crm}"
    own = {"salesforce": "Product__c", "hubspot": "dataset_product"}[crm]
    assert own in told["streams"]["opportunities"]["custom"].values()
    phases = {phase for pipeline in told["pipelines"].values() for phase in pipeline["stages"].values()}
    assert phases == {"early", "middle", "late", "won", "lost"}
    config = str(work / "pipesync.yaml")
    assert [pipesync(command, "--config", config).code for command in ("doctor", "pull")] == [0, 0]
    planned = pipesync("plan", "--config", config, "--format", "json").entry
    assert planned["counts"]["task.create"] > 0, "before writing is enabled a plan shows what it would be"
