"""Names are text: whatever stands in them, they show as themselves and do nothing."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.report.html.conftest import Company, Open, run

pytestmark = pytest.mark.thorough

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><b>bold</b><!--",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    'O\'Brien & "Sons" &amp; <3',
    "שלום עולם (ישראל) 12",
    "مرحبا بالعالم",
    "Ünïcødé 🚀👩‍👩‍👧‍👦 é",
    "=HYPERLINK(1)",
    "line\u2028separator\u202egnp.exe",
    "a%26list=b&opp=c#d?e",
)


def _renamed(rows: list[dict[str, str]], column: str, name: str) -> None:
    for i, row in enumerate(rows):
        row[column] = f"{name} {i}" if i >= len(NAMES) else NAMES[i]


@pytest.fixture(scope="module")
def report(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The company with hostile names of opportunities, people, teams, accounts, products and sources."""
    folder = tmp_path_factory.mktemp("hostile") / "exports"
    shutil.copytree(company.folder / "exports", folder)
    for table, column in (
        ("opportunities", "name"),
        ("owners", "name"),
        ("accounts", "name"),
        ("products", "name"),
    ):
        file = folder / f"{table}.csv"
        with file.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
        if table == "opportunities":
            rows.sort(key=lambda r: r["outcome"] != "Open")
            for i, row in enumerate(rows):
                row["lead_source"] = NAMES[i % len(NAMES)]
        if table == "owners":
            for i, row in enumerate(rows):
                row["team"] = NAMES[i % 4]
        _renamed(rows, column, table)
        with file.open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    out = folder.parent / "pipeline.html"
    run("report", "--data", str(folder), "--out", str(out))
    return out


def test_names_show_as_themselves(open_report: Open, report: Path) -> None:
    """In the list, in the drawer and in the page's own tables; nothing of them becomes an element."""
    reader = open_report(report, "opportunities")
    for name in NAMES:
        reader.current("[data-find]").fill(name.split()[0])
        link = reader.current("[data-list] tbody th a").get_by_text(name, exact=True).first
        expect(link).to_be_visible()
        link.click()
        expect(reader.page.locator("#drawer h2")).to_have_text(name, use_inner_text=False)
        reader.page.keyboard.press("Escape")
        expect(reader.page.locator("#drawer")).not_to_be_visible()
    for page in ("team", "products", "hygiene", "today", "forecast", "sources"):
        reader.page.locator(f".menu a[data-page={page}]").click()
        expect(reader.current("h1")).to_be_visible()
    assert reader.page.locator("main img, main script, main b").count() == 0
    reader.page.locator(".menu a[data-page=team]").click()
    assert NAMES[0] in reader.current().inner_text()


def test_a_hostile_team_can_be_chosen(open_report: Open, report: Path) -> None:
    """Its name travels through the address unharmed."""
    reader = open_report(report, "overview")
    reader.page.locator("select[aria-label=Team]").select_option(NAMES[1])
    expect(reader.page.locator("[data-filtered]")).to_contain_text(NAMES[1])
    reader.page.reload()
    assert reader.page.locator("select[aria-label=Team]").input_value() == NAMES[1]


def test_a_spreadsheet_runs_nothing_of_them(report: Path) -> None:
    """A formula gets an apostrophe in the CSV beside the report."""
    with report.with_name("pipeline-opportunities.csv").open(newline="", encoding="utf-8") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert "'=HYPERLINK(1)" in names
    assert "=HYPERLINK(1)" not in names
