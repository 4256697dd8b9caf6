"""Small dataset folders, and what an adapter makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter, Page
from pipesync.config import ConnectionConfig

OPPORTUNITIES = """\
opportunity_id,name,amount,created_at,closed_at,outcome,owner_id,close_date,forecast_category
1,First,100.50,2026-01-05T09:00:00Z,,Open,u1,2026-06-30,Best Case
2,Second,200,2026-01-06T09:00:00Z,2026-02-06T09:00:00Z,Closed Won,u1,2026-02-06,closed
3,Third,,2026-01-07T09:00:00Z,2026-03-07T09:00:00Z,Closed Lost,u2,2026-03-07,OMITTED
"""
STAGE_HISTORY = """\
opportunity_id,stage,entered_at,changed_by
1,Qualify,2026-01-05T09:00:00Z,u1
1,Propose,2026-02-01T09:00:00Z,u1
2,Qualify,2026-01-06T09:00:00Z,u1
2,Propose,2026-01-20T09:00:00Z,u1
2,Closed Won,2026-02-06T09:00:00Z,u1
3,Qualify,2026-01-07T09:00:00Z,u2
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder with three opportunities and their stages."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "opportunities.csv").write_text(OPPORTUNITIES, encoding="utf-8")
    (folder / "stage_history.csv").write_text(STAGE_HISTORY, encoding="utf-8")
    return folder


@pytest.fixture
def opened(dataset: Path) -> Callable[..., Adapter]:
    """Open the dataset, with options beside `data`; the outbox is beside the data."""

    def open_it(**options: Any) -> Adapter:
        config = ConnectionConfig.model_validate({"adapter": "files", "data": "data"} | options)
        return open_adapter("exports", config, dataset.parent)

    return open_it


@pytest.fixture
def page() -> Callable[..., Page]:
    """Pull a stream, which `files` gives in one page."""

    def pull(adapter: Adapter, stream: str, cursor: str | None = None) -> Page:
        (found,) = adapter.pull(stream, cursor, adapter.clock())
        return found

    return pull
