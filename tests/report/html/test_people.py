"""What the five users come for, step by step in a real browser, at two widths."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from tests.report.html.conftest import Company, Open, Reader
from tests.report.html.test_pages import PAGES

pytestmark = pytest.mark.thorough

WIDTHS = pytest.mark.parametrize("width", [1280, 390])
NORTH = "North"


def _value(found: Locator) -> float:
    return float(found.first.get_attribute("value") or "nan")


def _drawer(reader: Reader) -> Locator:
    return reader.page.locator("#drawer .body")


def _count(reader: Reader) -> int:
    """How many opportunities the open list says it has."""
    return round(_value(_drawer(reader).locator(".said data[data-kind=count]")))


def _back(reader: Reader) -> None:
    reader.page.go_back()
    expect(reader.page.locator("#drawer")).not_to_be_visible()


@WIDTHS
def test_a_leader_sees_the_forecast_its_parts_and_a_team(
    open_report: Open, company: Company, width: int
) -> None:
    """The overview leads to the list behind a number and back; a team's figures are those of its roll-up."""
    reader = open_report(company.report(), width=width)
    expect(reader.page).to_have_title(re.compile("Pipeline report"))
    expect(reader.current(".hero .big").first).to_contain_text("€")
    reader.current("[data-key='forecast.total.closed']").first.click()
    expect(_drawer(reader).locator("h2")).to_have_text("Won in this period")
    assert _count(reader) > 0
    _back(reader)
    reader.page.locator(".menu a[data-page=forecast]").click()
    reader.current("[data-tabs] button", has_text="Team").click()
    expect(reader.page).to_have_url(re.compile("by=by-team"))
    row = reader.current(f".tab.current tr[data-team={NORTH}]")
    team = _value(row.locator(f"[data-key='forecast.team.{NORTH}.p50']"))
    reader.page.locator("select[aria-label=Team]").select_option(NORTH)
    expect(reader.page).to_have_url(re.compile(f"team={NORTH}"))
    assert _value(reader.current("[data-key='forecast.total.p50']")) == team
    assert reader.barriers("body") == []


@WIDTHS
def test_a_manager_goes_from_the_team_to_a_rep_to_an_opportunity(
    open_report: Open, company: Company, width: int
) -> None:
    """Every level is an address, so back walks up again, and each can be sent."""
    reader = open_report(company.report("manager:USR-025"), "team", width=width)
    owner = reader.current("table[data-table=owners] tbody tr").first
    name = owner.locator("th a bdi").inner_text()
    owner.locator("th a").click()
    expect(_drawer(reader).locator("h2")).to_have_text(f"Open: {name}")
    first = _drawer(reader).locator("tbody tr th a").first
    title = first.inner_text()
    first.click()
    expect(_drawer(reader).locator("h2")).to_have_text(title)
    assert _drawer(reader).locator(".timeline li").count() > 1
    assert reader.barriers("#drawer") == []
    sent = reader.page.url.split("#")[1]
    reader.page.go_back()
    expect(_drawer(reader).locator("h2")).to_have_text(f"Open: {name}")
    reader.go(sent)
    expect(_drawer(reader).locator("h2")).to_have_text(title)


@WIDTHS
def test_a_rep_opens_the_day_and_finds_the_next_action(
    open_report: Open, company: Company, width: int
) -> None:
    """The report opens on today; everything can be done with the keyboard."""
    reader = open_report(company.report("rep:USR-005"), width=width)
    expect(reader.current("h1")).to_have_text("Today")
    first = reader.current(".items li").first
    action = first.locator(".action").inner_text()
    first.locator("h3 a.drill").focus()
    reader.page.keyboard.press("Enter")
    expect(_drawer(reader)).to_contain_text(action)
    link = _drawer(reader).locator("a.button")
    assert (link.get_attribute("href") or "").startswith("https://crm.example.com/opportunities/OPP-")
    reader.page.keyboard.press("Escape")
    expect(reader.page.locator("#drawer")).not_to_be_visible()
    expect(first.locator("h3 a.drill")).to_be_focused()
    word = first.locator("h3").inner_text().split()[0]
    reader.page.keyboard.press("/")
    reader.page.keyboard.type(word)
    expect(reader.page.locator("#found li").first).to_contain_text(word)
    reader.page.keyboard.press("Enter")
    expect(_drawer(reader).locator("h2")).to_contain_text(word)
    assert reader.barriers("body") == []


@WIDTHS
def test_ops_sees_what_a_rule_found(open_report: Open, company: Company, width: int) -> None:
    """The number of a rule is the length of the list behind it."""
    reader = open_report(company.report(), "hygiene", width=width)
    number = reader.current(
        "table[data-table=rules] [data-key^='rule.hygiene.'][data-key$='.findings']"
    ).first
    wanted = round(_value(number))
    number.click()
    assert _count(reader) == wanted
    _drawer(reader).locator("tbody th a").first.click()
    expect(_drawer(reader)).to_contain_text("Findings")


@WIDTHS
def test_an_admin_sees_what_was_written_and_how_to_take_it_back(
    open_report: Open, company: Company, width: int
) -> None:
    """A run stands with its writes and its undo command."""
    reader = open_report(company.report(), "runs", width=width)
    expect(reader.current("table[data-table=runs] code").first).to_contain_text("pipesync undo 2")
    written = _value(reader.current("table[data-table=runs] [data-key$='.applied']"))
    with (company.folder / "leader" / "pipeline-writes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == written


@WIDTHS
def test_on_a_bank_each_of_them_gets_what_can_be_known(
    open_report: Open, bpic_report: Path, width: int
) -> None:
    """Without owners, products, sources and quotas pages say what is missing, and the rest works."""
    reader = open_report(bpic_report, width=width)
    reader.current("[data-key='forecast.total.closed']").first.click()
    assert _count(reader) > 100
    _back(reader)
    reader.current(".numbered li a", has_text="Unblock 4-Offer sent").click()
    expect(_drawer(reader).locator("h2")).to_have_text("Open: 4-Offer sent")
    assert _count(reader) == 537
    _back(reader)
    for page, said in (
        ("team", "no quota for this period"),
        ("products", "Neither line items nor a product"),
        ("sources", "The source of opportunities; leads."),
        ("runs", "made from a folder"),
    ):
        reader.page.locator(f".menu a[data-page={page}]").click()
        expect(reader.current()).to_contain_text(said)
    reader.page.locator(".menu a[data-page=today]").click()
    reader.current(".items li h3 a.drill").first.click()
    expect(_drawer(reader)).to_contain_text("What speaks")
    _back(reader)
    reader.page.locator(".menu a[data-page=hygiene]").click()
    number = reader.current("[data-key^='rule.hygiene.']").first
    wanted = round(_value(number))
    number.click()
    assert _count(reader) == wanted


class TestFilters:
    """What is chosen stands in the address and holds on every page."""

    def test_a_filter_leaves_rows_stages_and_sums_of_its_own(
        self, open_report: Open, company: Company
    ) -> None:
        """The stages' counts add up to the open opportunities of the team."""
        reader = open_report(company.report(), f"pipeline?team={NORTH}")
        counts = reader.current(".funnel li .count data").evaluate_all("all => all.map(e => Number(e.value))")
        reader.page.locator(".menu a[data-page=overview]").click()
        assert _value(reader.current("[data-key='open.count']")) == sum(counts)
        expect(reader.page.locator("[data-filtered]")).to_contain_text("Filtered by Team North.")

    def test_clearing_it_brings_everything_back(self, open_report: Open, company: Company) -> None:
        """To the digit."""
        reader = open_report(company.report(), "overview")
        before = reader.current("data").evaluate_all("all => all.map(e => [e.value, e.textContent])")
        reader.page.locator("select[aria-label=Team]").select_option(NORTH)
        expect(reader.page.locator("[data-filtered]")).to_be_visible()
        reader.page.get_by_role("button", name="Clear").click()
        expect(reader.page.locator("[data-filtered]")).not_to_be_visible()
        assert reader.current("data").evaluate_all("all => all.map(e => [e.value, e.textContent])") == before

    def test_search_narrows_the_list(self, open_report: Open, company: Company) -> None:
        """As one types, and the address keeps it."""
        reader = open_report(company.report(), "opportunities")
        name = reader.current("[data-list] tbody th a").first.inner_text()
        reader.current("[data-find]").fill(name)
        expect(reader.page).to_have_url(re.compile("q="))
        expect(reader.current("[data-list] tbody tr")).to_have_count(1)

    def test_closed_opportunities_can_be_shown_too(self, open_report: Open, company: Company) -> None:
        """All of them are the open, the won and the lost ones together."""
        reader = open_report(company.report(), "opportunities")
        counts = {}
        for which in ("Open", "Won", "Lost", "All"):
            reader.current(".chips button", has_text=which).click()
            expect(reader.current(".chips button[aria-pressed=true]")).to_have_text(which)
            counts[which] = _value(reader.current("[data-explorer] [data-list] .said data[data-kind=count]"))
        assert counts["All"] == counts["Open"] + counts["Won"] + counts["Lost"]
        assert min(counts.values()) > 0

    def test_numbers_are_in_the_readers_locale(self, company: Company, open_report: Open) -> None:
        """A British reader gets €1.2m; the exact number stays in the page."""
        reader = open_report(company.report(), "overview")
        shown = reader.current("[data-key='forecast.total.p50']").first
        assert re.fullmatch(r"€[\d.,]+[km]", shown.inner_text())
        assert _value(shown) > 1000

    def test_dates_are_in_the_readers_locale(self, company: Company, open_report: Open) -> None:
        """A German reader finds no other date on any page, in any sentence or on any axis."""
        reader = open_report(company.report(), "overview", locale="de-DE")
        seen = ""
        for page in PAGES:
            reader.page.locator(f".menu a[data-page={page}]").click()
            expect(reader.current("h1")).to_be_visible()
            seen += reader.current().inner_text()
        reader.go("opportunities")
        reader.current("[data-list] tbody th a").first.click()
        seen += _drawer(reader).inner_text() + reader.page.locator(".foot").inner_text()
        assert re.findall(r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2} [A-Z][a-z]{2} \d{4}\b", seen) == []
        assert len(re.findall(r"\b\d{1,2}\. [A-Z][a-zä]+\.? \d{4}\b", seen)) > 50
