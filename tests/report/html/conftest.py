"""Reports on a made-up company and on real data, written once, and a browser that notices what goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, Request, sync_playwright

from pipesync.cli import main
from pipesync.config import load
from pipesync.sandbox.company import generate
from pipesync.sync import sync_all

BPIC = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[4] / "shared" / "data")) / "bpic2012"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
CONFIGURATION = """\
mode: enforce
connections:
  company:
    adapter: files
    data: exports
    outbox: outbox
    link: https://crm.example.com/opportunities/{id}
    write: {enabled: true, tasks: true, forecasts: true}
"""
AXE = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "resultTypes": ["violations"],
}


def run(*words: str) -> str:
    """Run a command and return what it prints."""
    ran = CliRunner(catch_exceptions=False).invoke(main, words, prog_name="pipesync")
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


@dataclass(frozen=True)
class Company:
    """A working folder with a company that was synced, so that there are runs, tasks and an issued forecast."""

    folder: Path

    @property
    def config(self) -> str:
        return str(self.folder / "pipesync.yaml")

    def report(self, audience: str = "leader") -> Path:
        """Write the report for somebody, once."""
        out = self.folder / audience.replace(":", "-") / "pipeline.html"
        if not out.exists():
            run("report", "--config", self.config, "--out", str(out), "--for", audience)
        return out


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """300 opportunities: whose report nobody changes."""
    folder = tmp_path_factory.mktemp("reported")
    generate(folder / "exports", opportunities=300)
    (folder / "pipesync.yaml").write_text(CONFIGURATION)
    sync_all(load(folder / "pipesync.yaml"), ["company"])
    return Company(folder)


@pytest.fixture(scope="session")
def bpic_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank's loan funnel: no owners, products, sources or quotas."""
    if not BPIC.is_dir():
        pytest.skip("the real data is not here; set PIPESYNC_DATA to the folder that holds bpic2012")
    out = tmp_path_factory.mktemp("bank") / "pipeline.html"
    run("report", "--data", str(BPIC), "--out", str(out))
    return out


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip(
            "no Chromium on this machine: `apt-get install chromium` runs the tests that look at pages"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Reader:
    """A page that is open in a browser, with everything in it that should not have happened."""

    page: Page
    file: Path
    wrong: list[str] = field(default_factory=list)

    def hear(self) -> None:
        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.wrong.append(f"console: {message.text}")

        def asked(request: Request) -> None:
            if not request.url.startswith(("file:", "data:")):
                self.wrong.append(f"request: {request.url}")

        def stopped(dialog: Dialog) -> None:
            self.wrong.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        self.page.on("console", said)
        self.page.on("dialog", stopped)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", asked)

    def go(self, address: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.file.as_uri()}#{address}")

    def current(self, selector: str = "", **how: Any) -> Locator:  # Any: as of a locator
        """Find something in the page that is shown."""
        return self.page.locator(f".report.current .page.current {selector}".strip(), **how)

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def barriers(self, within: str = ".report.current .page.current") -> list[str]:
        """What keeps somebody out, by WCAG 2.2 at level AA."""
        found = Axe().run(self.page, context={"include": [[within]]}, options=AXE).response["violations"]
        return [
            f"{v['id']}: {n['html'][:160]} {n['failureSummary'][:200]}" for v in found for n in v["nodes"]
        ]


Open = Callable[..., Reader]


@pytest.fixture
def open_report(chromium: Browser) -> Iterator[Open]:
    """Open a report at a width; whatever goes wrong in it fails the test at its end."""
    readers: list[Reader] = []

    def opened(
        file: Path, address: str = "", *, width: int = 1280, theme: str = "light", locale: str = "en-GB"
    ) -> Reader:
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,  # type: ignore[arg-type]  # light or dark
            locale=locale,
            timezone_id="UTC",
        )
        reader = Reader(context.new_page(), file)
        reader.hear()
        reader.go(address)
        readers.append(reader)
        return reader

    yield opened
    for reader in readers:
        reader.page.context.close()
    assert [wrong for reader in readers for wrong in reader.wrong] == []
