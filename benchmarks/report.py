"""How long the report of 50,000 opportunities takes to write, and to open in a browser.

    python benchmarks/report.py [--opportunities 50000] [--folder DIR]

The bars on two idle cores: written in 10 seconds and 1 GB with a kept forecast model, under 5 MB; open in Chromium in
2 seconds; a filter answers within 200 ms. `--folder` keeps the synced company for the next time.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = """\
mode: observe
connections:
  company:
    adapter: files
    data: exports
"""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)


def pipesync(*words: str, cwd: Path) -> tuple[float, float]:
    """Run a command in a process of its own; return seconds and the most memory of any so far, in MB."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipesync.cli", *words], cwd=cwd, check=True, stdout=subprocess.DEVNULL
    )
    took = time.perf_counter() - started
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def look(file: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto("about:blank")
        started = time.perf_counter()
        page.goto(file.as_uri())
        page.locator(".page.current h1").wait_for()
        print(f"opened in {time.perf_counter() - started:.2f} s")
        for address in ("overview", "pipeline", "today", "opportunities"):
            page.goto(f"{file.as_uri()}#{address}")
            page.wait_for_timeout(300)
            took = page.evaluate(
                """async () => {
                  const select = document.querySelector(".report.current select[aria-label=Team]");
                  const started = performance.now();
                  const done = new Promise((next) => addEventListener("hashchange", () => requestAnimationFrame(
                    () => requestAnimationFrame(next)), { once: true }));
                  select.value = select.options[1].value;
                  select.dispatchEvent(new Event("change"));
                  await done;
                  return performance.now() - started;
                }"""
            )
            print(f"a filter on {address} answered in {took:.0f} ms")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opportunities", type=int, default=50_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        if not (folder / "warehouse.published.duckdb").exists():
            from pipesync.sandbox.company import generate

            folder.mkdir(parents=True, exist_ok=True)
            generate(folder / "exports", opportunities=given.opportunities, activities_per_opportunity=4)
            (folder / "pipesync.yaml").write_text(CONFIGURATION)
            # In a process of its own, whose memory is not counted below.
            subprocess.run(
                ["sh", "-c", f"{sys.executable} -m pipesync.cli sync > sync.log"], cwd=folder, check=True
            )
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        took, memory = pipesync("report", "--out", "pipeline.html", cwd=folder)
        file = (folder / "pipeline.html").resolve()
        lists = sum(f.stat().st_size for f in folder.glob("pipeline-*.csv"))
        peak = f"{memory:,.0f} MB" if memory > before else f"less than {before:,.0f} MB"
        print(
            f"{given.opportunities:,} opportunities: written in {took:.1f} s, {peak}; "
            f"{file.stat().st_size / 1e6:.2f} MB, and {lists / 1e6:.1f} MB of lists beside it"
        )
        look(file)


if __name__ == "__main__":
    main()
