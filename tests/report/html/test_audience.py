"""Who may see what: a report holds nothing of others, in the page and in the files beside it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.report.html.conftest import Company

from pipesync.cli import main
from pipesync.errors import InputError
from pipesync.model import User
from pipesync.report.audience import Audience, audience_of

pytestmark = pytest.mark.thorough


def _table(company: Company, name: str) -> list[dict[str, str]]:
    with (company.folder / "exports" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _everything(report: Path) -> str:
    """The text of the report and of every file beside it."""
    return "\n".join(f.read_text(encoding="utf-8") for f in sorted(report.parent.iterdir()))


@pytest.mark.parametrize("audience", ["rep:USR-005", "manager:USR-026"])
def test_nothing_of_others_is_in_it(company: Company, audience: str) -> None:
    """Neither names nor ids of other people, other teams and their opportunities."""
    kind, _, person = audience.partition(":")
    people = _table(company, "owners")
    mine = {person} | (
        {p["owner_id"] for p in people if p["manager_id"] == person} if kind == "manager" else set()
    )
    teams = {p["team"] for p in people if p["owner_id"] in mine}
    own = [o for o in _table(company, "opportunities") if o["owner_id"] in mine]
    others = [o for o in _table(company, "opportunities") if o["owner_id"] not in mine]
    text = _everything(company.report(audience))
    assert any(o["opportunity_id"] in text for o in own)
    hidden = {p["owner_id"] for p in people if p["owner_id"] not in mine}
    hidden |= {p["name"] for p in people if p["owner_id"] not in mine}
    hidden |= {p["team"] for p in people if p["team"]} - teams
    hidden |= {o["opportunity_id"] for o in others}
    hidden |= {o["name"] for o in others} - {o["name"] for o in own}
    assert len(hidden) > 100
    assert sorted(h for h in hidden if h in text) == []


def test_a_rep_sees_the_figures_that_the_leader_sees_of_the_rep(company: Company) -> None:
    """A rep's forecast is the company's by owner, not another one."""
    rep = company.report("rep:USR-005").read_text(encoding="utf-8")
    leader = company.report().read_text(encoding="utf-8")
    key = 'data-key="forecast.owner.USR-005.p50"'
    before = leader[: leader.index(key)]
    value = before[before.rindex('<data value="') :].split('"')[1]
    assert f'<data value="{value}" data-kind="money" data-unit="EUR" data-key="forecast.total.p50"' in rep


USERS = {
    u.id: u
    for u in (
        User(id="boss"),
        User(id="lead", manager_id="boss"),
        User(id="rep", manager_id="lead"),
        User(id="other", manager_id="boss"),
        User(id="circle", manager_id="circle"),
    )
}


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("leader", None),
        ("rep:rep", {"rep"}),
        ("manager:lead", {"lead", "rep"}),
        ("manager:boss", {"boss", "lead", "rep", "other"}),
        ("manager:circle", {"circle"}),
    ],
)
def test_a_manager_sees_everybody_below(text: str, people: set[str] | None) -> None:
    """Through all levels; a circle ends."""
    assert audience_of(text, USERS).people == people


@pytest.mark.parametrize("text", ["", "rep", "rep:", "team:x", "rep:nobody", "manager:"])
def test_nobody_is_an_error(text: str) -> None:
    """Before anything is written."""
    with pytest.raises(InputError):
        audience_of(text, USERS)


def test_the_command_names_the_mend(company: Company, tmp_path: Path) -> None:
    """And writes no file."""
    out = tmp_path / "no.html"
    words = ["report", "--config", company.config, "--out", str(out), "--for", "rep:USR-00"]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 2
    assert "USR-00" in ran.stderr
    assert not out.exists()


def test_an_audience_without_people_sees_everybody() -> None:
    """Opportunities without an owner too."""
    assert Audience().sees(None)
    assert not Audience("rep", "a", frozenset({"a"})).sees(None)
