"""Every page in a real browser: nothing goes wrong, nothing is asked of the network, nobody is kept out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.report.html.conftest import Company, Open

pytestmark = pytest.mark.thorough

PAGES = (
    "overview", "forecast", "pipeline", "team", "today", "products", "sources", "hygiene", "opportunities", "runs",
)  # fmt: skip


def _walk(open_report: Open, file: Path, width: int, theme: str, judged: Collection[str] = PAGES) -> None:
    """Open every page from the menu; those that are `judged` are held against WCAG."""
    reader = open_report(file, width=width, theme=theme)
    for around in (".top", ".menu", ".foot"):
        assert reader.barriers(around) == []
    for name in PAGES:
        reader.page.locator(f".menu a[data-page={name}]").click()
        expect(reader.page.locator(f".report.current .page.current[data-page={name}] h1")).to_be_visible()
        assert reader.fits(), name
        if name in judged:
            assert reader.barriers() == [], name


def test_the_company_has_ten_pages_that_everybody_can_use(open_report: Open, company: Company) -> None:
    """On a phone in the dark, where contrast and room are least; and on a desk."""
    _walk(open_report, company.report(), 390, "dark")
    _walk(open_report, company.report(), 1280, "light", ("overview", "pipeline", "opportunities"))


def test_a_company_without_owners_and_products_has_them_too(open_report: Open, bpic_report: Path) -> None:
    """Where something cannot be known, the page says so."""
    _walk(open_report, bpic_report, 390, "light", ("forecast", "team", "sources"))
    _walk(open_report, bpic_report, 1280, "dark", ("overview", "hygiene"))


@pytest.mark.campaign
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_judged_at_every_width_in_every_theme(
    open_report: Open, company: Company, bpic_report: Path, width: int, theme: str
) -> None:
    """The whole of it: both companies, ten pages, two widths, two themes."""
    for report in (company.report(), bpic_report):
        _walk(open_report, report, width, theme)


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_a_page_prints(open_report: Open, company: Company, paper: str, tmp_path: Path) -> None:
    """Without menu and filters, and nothing is cut off at the right."""
    reader = open_report(company.report(), "pipeline")
    reader.page.emulate_media(media="print")
    inches = {"A4": 8.27, "Letter": 8.5}[paper]
    reader.page.set_viewport_size({"width": round((inches - 1.1) * 96), "height": 900})
    assert not reader.page.locator(".menu").is_visible()
    assert not reader.page.locator(".report.current .filters").is_visible()
    assert reader.fits()
    file = tmp_path / "page.pdf"
    reader.page.pdf(path=file, format=paper)
    assert file.read_bytes().startswith(b"%PDF")


def test_nothing_moves_while_it_opens(open_report: Open, company: Company) -> None:
    """The cumulative layout shift is as good as none."""
    reader = open_report(company.report(), "overview")
    shift = reader.page.evaluate(
        "() => new Promise(done => { let sum = 0;"
        " new PerformanceObserver(l => l.getEntries().forEach(e => sum += e.value))"
        ".observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 200); })"
    )
    assert shift < 0.02
