"""The page that leads through the workshop works as it stands there, and so does the repository to start from."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipesync.cli import main
from pipesync.rules.linting import lint
from pipesync.sandbox.company import generate
from pipesync.yamlsource import parse, read

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
GITOPS = ROOT / "docs" / "gitops"
_BLOCK = re.compile(r"^```(console|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SITE = """\
version: 1
connections:
  crm: {adapter: files, data: exports, outbox: outbox, write: {enabled: true, tasks: true}}
"""


def steps() -> Iterator[tuple[str, str]]:
    """Yield what the page does, in its order: a command to run, or a file to write as `name`, `text`."""
    for kind, text in _BLOCK.findall(PAGE):
        if kind == "yaml":
            name, _, body = text.partition("\n")
            yield f"file {name.removeprefix('# ')}", body
        else:
            yield from ((line.removeprefix("$ "), "") for line in text.splitlines() if line.startswith("$ "))


def test_the_page_leads_to_a_live_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command ends with 0, the last ones with the new rule among what runs."""
    generate(tmp_path / "exports", opportunities=200)
    (tmp_path / "pipesync.yaml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(catch_exceptions=False)
    assert runner.invoke(main, ["pull"]).exit_code == 0
    said = {}

    for step, text in steps():
        if step.startswith("file "):
            Path(step.removeprefix("file ")).write_text(text, encoding="utf-8")
            continue
        program, *words = shlex.split(step)
        if program == "cp":
            shutil.copyfile(*words)
            continue
        ran = runner.invoke(main, words)
        assert ran.exit_code == 0, f"{step}\n{ran.output}"
        said[" ".join(words[:2])] = ran.output

    assert len(said) >= 12
    assert "100.0% of" in said["rules test"]
    assert "added" in said["rules diff"]
    assert "site.large_and_quiet" in said["check --rule"]
    assert (tmp_path / "rule-pages" / "site.large_and_quiet.md").exists()
    assert "of 100" in said["rules score"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The template as a repository of its own, whose last commit tunes a rule."""
    site = tmp_path / "site"
    shutil.copytree(GITOPS, site)
    generate(site / "exports", opportunities=200)
    git = ("git", "-c", "user.name=ops", "-c", "user.email=ops@example.com", "-C", str(site))
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "The site"], check=True)
    file = site / "pipesync.yaml"
    file.write_text(file.read_text().replace("idle_days: 10", "idle_days: 4"))
    subprocess.run([*git, "commit", "-qam", "Shorter patience"], check=True)
    return site


def commands_of_the_workflow() -> list[str]:
    workflow = read(GITOPS / ".github" / "workflows" / "rules.yml").data
    runs = [s["run"] for s in workflow["jobs"]["rehearse"]["steps"] if "run" in s]
    return [r for r in runs if "pipesync" in r or "comment" in r if not r.startswith("pip install")]


def test_the_workflow_runs_commands_that_exist() -> None:
    """With options that they have; the campaign runs them."""
    runner = CliRunner()

    for line in "\n".join(commands_of_the_workflow()).splitlines():
        if line.startswith("pipesync"):
            words = shlex.split(line.partition("2>" if "2>" in line else ">")[0])[1:]
            assert runner.invoke(main, [*words, "--help"]).exit_code == 0, line


def rehearsed(repository: Path, folder: Path) -> tuple[str, str]:
    """Run the workflow's steps as its shell does, with a program that keeps the comment; return it and the errors."""
    *steps, comment = commands_of_the_workflow()
    for name, does in (
        ("pipesync", f'"{sys.executable}" -m pipesync.cli "$@"'),
        ("gh", 'cat "$5" > "$5.posted"'),
    ):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder), "NUMBER": "7",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "BASE": "HEAD~1",
    }  # fmt: skip

    def shell(script: str) -> subprocess.CompletedProcess[str]:
        words = ["/bin/bash", "-e", "-o", "pipefail", "-c", script]
        return subprocess.run(
            words, cwd=repository, env=environment, capture_output=True, text=True, check=False
        )

    assert len(steps) == 5
    ran = shell("\n".join(steps))
    assert shell(comment).returncode == 0
    return (folder / "comment.md.posted").read_text(), ran.stderr


@pytest.mark.campaign
def test_a_pull_request_is_rehearsed(repository: Path, tmp_path: Path) -> None:
    """The workflow's steps, in its shell, lead to a comment that says what the edit would do."""
    comment, errors = rehearsed(repository, tmp_path)

    assert "edited: params.idle_days: 10 -> 4" in comment, errors
    assert "rules are fine" in comment
    assert (tmp_path / "summary.md").read_text() in comment


@pytest.mark.campaign
def test_a_pull_request_that_is_wrong_is_told_where(repository: Path, tmp_path: Path) -> None:
    """The steps end at the mistake, and the comment has its line and mend."""
    rule = repository / "rules" / "site" / "large_and_quiet.yaml"
    rule.write_text(rule.read_text().replace("severity: medium", "severity: mediun"))

    comment, _ = rehearsed(repository, tmp_path)

    assert "rules/site/large_and_quiet.yaml:5:11" in comment
    assert "did you mean 'medium'?" in comment
    assert "edited" not in comment


def test_hooks_are_commands_that_exist() -> None:
    """Each entry is a command of pipesync, and the template's configuration names the hooks as they are called."""
    hooks = parse((ROOT / ".pre-commit-hooks.yaml").read_text()).data
    named = read(GITOPS / ".pre-commit-config.yaml").data["repos"][0]["hooks"]

    assert {h["id"] for h in named} == {h["id"] for h in hooks}
    for hook in hooks:
        program, *words = shlex.split(hook["entry"])
        assert program == "pipesync"
        assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0
        assert re.search(hook["files"], "rules/site/large_and_quiet.yaml")
        assert not re.search(hook["files"], "README.md")


def test_the_templates_own_rule_is_fine() -> None:
    """So that the first pull request is about the reader's edit."""
    from pipesync.config import load

    found = lint(load(GITOPS / "pipesync.yaml"))

    assert (found.problems, found.warnings) == ((), ())
    assert "site.large_and_quiet" in found.rules.rules
