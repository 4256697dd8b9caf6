"""Build the documentation as a site, strictly: a broken link or a page that is nowhere in it stops the build.

    python docs/build.py        # the site is in build/site

Pages lie where people on a code host read them, some beside what they describe; they are gathered first, in the same
places, so that their links work in both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = """\
[project]
site_name = "pipesync"
site_description = "Keeps a CRM's sales pipeline honest."
docs_dir = "pages"
site_dir = "site"
nav = [
  {{ "Start" = "index.md" }},
  {{ "Overview" = "docs/index.md" }},
  {{ "Tutorials" = [{tutorials}] }},
  {{ "How to" = [{how_to}] }},
  {{ "Reference" = [{reference}] }},
  {{ "Explanation" = [{explanation}] }},
]
"""
REFERENCE = ("commands", "configuration", "features", "json")


def gather(target: Path) -> None:
    """Copy every page, the README as the site's first, into a new folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target / "docs", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copyfile(ROOT / "README.md", target / "index.md")
    for page in [*ROOT.glob("rules/README.md"), *ROOT.glob("adapters/*/README.md")]:
        copy = target / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, copy)


def navigation(target: Path) -> str:
    """Return the site's configuration: folders are sections, and every page of docs is in one of them."""

    def listed(pages: list[Path]) -> str:
        return ", ".join(f'"{page.relative_to(target)}"' for page in pages)

    docs = target / "docs"
    top = [p for p in sorted(docs.glob("*.md")) if p.name != "index.md"]
    beside = sorted(p for p in target.glob("*/**/README.md"))
    return CONFIG.format(
        tutorials=listed(sorted(docs.glob("tutorials/*.md"))),
        how_to=listed(sorted(docs.glob("how-to/*.md"))),
        reference=listed([p for p in top if p.stem in REFERENCE] + beside),
        explanation=listed([p for p in top if p.stem not in REFERENCE]),
    )


def main() -> None:
    build = ROOT / "build"
    gather(build / "pages")
    config = build / "zensical.toml"
    config.write_text(navigation(build / "pages"), encoding="utf-8")
    tomllib.loads(config.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", str(config)]
    sys.exit(subprocess.run(command, cwd=build, check=False).returncode)  # noqa: S603  # our own words


if __name__ == "__main__":
    main()
