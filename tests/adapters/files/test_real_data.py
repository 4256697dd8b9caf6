"""Real exports, where they are: loaded whole, without a rejected row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter, Page
from pipesync.config import ConnectionConfig

DATA = Path(os.environ.get("PIPESYNC_DATA", Path(__file__).parents[4] / "shared" / "data"))


def open_data(name: str, mapping: Path | None, folder: Path) -> Adapter:
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not at $PIPESYNC_DATA or ../shared/data")
    config = ConnectionConfig(
        adapter="files", mapping=mapping, options={"data": DATA / name, "outbox": folder}
    )
    return open_adapter(name, config, Path())


def test_a_funnel_without_any_mapping(tmp_path: Path, page: Callable[..., Page]) -> None:
    """Opportunities, stages in their order, history and activities of a real funnel, all inferred."""
    adapter = open_data("bpic2012", None, tmp_path)
    opportunities = page(adapter, "opportunities")
    rows = opportunities.rows.to_pylist()
    pulled = {s: page(adapter, s) for s in adapter.streams}

    assert Counter((r["is_closed"], r["is_won"]) for r in rows) == {
        (True, True): 1389, (True, False): 7128, (False, False): 805,
    }  # fmt: skip
    assert [s["name"] for s in pulled["stages"].rows.to_pylist()] == [
        "1-Submitted", "2-Qualified", "3-Accepted", "4-Offer sent", "5-Offer returned", "Closed Won", "Closed Lost",
    ]  # fmt: skip
    assert len(pulled["field_changes"].rows) == 32458
    assert len(pulled["activities"].rows) == 60809
    assert not any(p.rejects for p in pulled.values())
    assert datetime(2012, 1, 20, tzinfo=UTC) < adapter.clock() < datetime(2012, 1, 21, tzinfo=UTC)


SALES = """
date_formats: ["%m/%d/%Y"]
streams:
  opportunities:
    source: sales_pipeline
    fields:
      id: opportunity_id
      owner_id: sales_agent
      product: product
      account_id: account
      stage: deal_stage
      outcome: {field: deal_stage, values: {Won: Closed Won, Lost: Closed Lost, Engaging: Open, Prospecting: Open}}
      created_at: engage_date
      closed_at: close_date
      close_date: close_date
      amount: close_value
  users: {source: sales_teams, fields: {id: sales_agent, name: sales_agent, manager_id: manager, team: regional_office}}
  accounts: {source: accounts, fields: {id: account, name: account, industry: sector, employees: employees}}
  products: {source: products, fields: {id: product, name: product, family: series, list_price: sales_price}}
stages: {Prospecting: early, Engaging: middle, Won: won, Lost: lost}
"""


def test_an_exercise_with_columns_of_its_own(tmp_path: Path, page: Callable[..., Page]) -> None:
    """A mapping alone makes foreign files, dates and words readable, without a stage history."""
    (tmp_path / "mapping.yaml").write_text(SALES, encoding="utf-8")
    adapter = open_data("maven_crm", tmp_path / "mapping.yaml", tmp_path)
    pulled = {s: page(adapter, s) for s in adapter.streams}
    stages = Counter(pulled["opportunities"].rows["stage"].to_pylist())

    assert sum(stages.values()) == 8800
    assert stages.keys() == {"Won", "Lost", "Engaging", "Prospecting"}
    assert len(pulled["field_changes"].rows) == stages["Won"] + stages["Lost"]
    assert [len(pulled[s].rows) for s in ("users", "accounts", "products")] == [35, 85, 7]
    assert not any(p.rejects for p in pulled.values())
