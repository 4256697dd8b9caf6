"""What a deployment says through the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipesync.config import load

FILE = "connections: {crm: {adapter: files, data: exports}}\nstore: {ledger: of-the-file.db}\n"


def test_the_environment_names_the_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger's URL with its password need not stand in the file, and is not shown with the configuration."""
    (tmp_path / "pipesync.yaml").write_text(FILE)
    monkeypatch.setenv("PIPESYNC_LEDGER", "postgresql+psycopg://pipesync:hush@db/pipesync")
    monkeypatch.setenv("PIPESYNC_WAREHOUSE", "/data/warehouse.duckdb")

    config = load(tmp_path / "pipesync.yaml")

    assert config.ledger_url == "postgresql+psycopg://pipesync:hush@db/pipesync"
    assert config.warehouse == Path("/data/warehouse.duckdb")
    assert "hush" not in repr(config)


def test_without_it_the_file_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is none."""
    (tmp_path / "pipesync.yaml").write_text(FILE)
    monkeypatch.setenv("PIPESYNC_LEDGER", "")
    monkeypatch.setenv("PIPESYNC_WAREHOUSE", "")

    config = load(tmp_path / "pipesync.yaml")

    assert config.ledger_url == f"sqlite:///{tmp_path / 'of-the-file.db'}"
    assert config.warehouse == tmp_path / "warehouse.duckdb"
