"""Take the pictures of the report that the documentation shows, of a made-up company.

    python docs/screenshots.py        # writes docs/images/report-*.png

Needs Chromium, and Playwright and Pillow of the development dependencies. The pictures stay small: 64 colours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from pipesync.sandbox.company import generate

IMAGES = Path(__file__).parent / "images"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
PICTURES = (
    # name, address, width, height, theme
    ("overview", "overview", 1280, 1000, "light"),
    ("forecast", "forecast", 1280, 900, "dark"),
    ("pipeline", "pipeline", 1280, 900, "light"),
    ("list", "pipeline?list=state%3Dopen%26stage%3DPropose", 1280, 800, "light"),
    ("phone", "today?team=North", 390, 800, "light"),
)
COLOURS = 64


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made)
        generate(folder / "company", opportunities=2000)
        report = ("report", "--data", "company", "--out", "pipeline.html")
        subprocess.run([sys.executable, "-m", "pipesync.cli", *report], cwd=folder, check=True)  # noqa: S603  # ours
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for name, address, width, height, theme in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                locale="en-GB",
            )
            page.goto(f"{(folder / 'pipeline.html').as_uri()}#{address}")
            page.locator(".page.current h1").wait_for()
            file = IMAGES / f"report-{name}.png"
            page.screenshot(path=file)
            Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
                file, optimize=True
            )
            page.close()
            sys.stdout.write(f"{file.name}: {file.stat().st_size / 1024:.0f} kB\n")
        browser.close()


if __name__ == "__main__":
    main()
