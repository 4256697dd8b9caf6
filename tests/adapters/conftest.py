"""A small company, and a sandbox that serves it as both CRMs: started once, put back for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipesync.sandbox.company import generate
from pipesync.sandbox.process import Sandbox, running


@pytest.fixture(scope="session")
def company_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company of 150 opportunities as a dataset folder, not to be changed."""
    folder = tmp_path_factory.mktemp("company") / "exports"
    generate(folder, opportunities=150, activities_per_opportunity=3)
    return folder


@pytest.fixture(scope="session")
def served(company_folder: Path) -> Iterator[Sandbox]:
    with running(company_folder) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox) -> Sandbox:
    """Both CRMs as they were filled."""
    served.ask("POST", "reset")
    served.ask("DELETE", "counters")
    return served
