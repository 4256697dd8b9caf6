"""`sync` writes the reports that the configuration asks for, from what it published."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.config import load
from pipesync.reporting import survey
from pipesync.rules.examination import load_rules
from pipesync.sandbox.company import generate
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

CONFIGURATION = """\
connections:
  company: {adapter: files, data: exports}
report:
  - {out: reports/leader.html}
  - {out: reports/rep.html, for: "rep:USR-005"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    generate(tmp_path / "exports", opportunities=60)
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sync_writes_every_report_with_its_lists(folder: Path) -> None:
    """Beside the configuration, each for its reader; what failed on the way leaves no half a file."""
    ran = CliRunner(catch_exceptions=False).invoke(main, ["sync"])
    assert ran.exit_code == 0, ran.stderr
    written = {f.name for f in (folder / "reports").iterdir()}
    assert {"leader.html", "rep.html", "leader-opportunities.csv", "rep-today.csv"} <= written
    assert not [name for name in written if name.startswith(".")]
    leader, rep = (
        (folder / "reports" / f"{who}.html").read_text(encoding="utf-8") for who in ("leader", "rep")
    )
    assert "Pipeline report" in leader
    assert "Elif Eriks" in rep
    assert "USR-006" in leader
    assert "USR-006" not in rep


def test_a_report_that_cannot_be_written_takes_nothing_back(folder: Path) -> None:
    """The run stands, the others are told, and the command ends with 4."""
    (folder / "pipesync.yaml").write_text(
        CONFIGURATION.replace("report:\n", "report:\n  - {out: reports/nobody.html, for: 'rep:USR-999'}\n")
    )
    ran = CliRunner(catch_exceptions=False).invoke(main, ["sync"])
    assert ran.exit_code == 4
    assert "USR-999" in ran.stderr
    assert (folder / "reports" / "leader.html").exists()
    assert (folder / "reports" / "rep.html").exists()
    assert not (folder / "reports" / "nobody.html").exists()


def test_a_report_reads_the_crms_fiscal_year(folder: Path) -> None:
    """As `forecast` does: in November a year that begins in February has its quarter from the first of the month on."""
    assert CliRunner().invoke(main, ["pull"]).exit_code == 0
    config = load(folder / "pipesync.yaml")
    with Warehouse(published(config.warehouse)) as warehouse:
        warehouse.execute("UPDATE connections SET fiscal_year_starts = 2")
        as_of = warehouse.pulled_to("company")

        made = survey(warehouse, "company", config, load_rules(config), as_of, None)

    assert made.total is not None
    assert made.total.period_start == date(2026, 11, 1)
