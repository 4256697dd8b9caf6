"""JSON and CSV: what programs and spreadsheets are given."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesync.model import Bottleneck, Quantiles
from pipesync.report.encode import to_csv, to_json


def test_values_become_plain_json() -> None:
    """Money is a number, times end with Z, dates are ISO, and what is not a number is null."""
    document = {
        "money": Decimal("1234.50"),
        "utc": datetime(2026, 11, 16, 8, tzinfo=UTC),
        "zoned": datetime(2026, 11, 16, 8, tzinfo=timezone(timedelta(hours=2))),
        "naive": datetime(2026, 11, 16, 8),  # noqa: DTZ001  # as the warehouse keeps times
        "day": date(2026, 11, 16),
        "nan": float("nan"),
        "numpy": np.int64(3),
        "tuple": Quantiles(1.0, 2.0, 3.0),
        "record": Bottleneck(connection="a", kind="time", subject="Propose", why="slow", amount=Decimal(5)),
    }

    read = json.loads(to_json(document))

    assert read == {
        "money": 1234.5,
        "utc": "2026-11-16T08:00:00Z",
        "zoned": "2026-11-16T06:00:00Z",
        "naive": "2026-11-16T08:00:00Z",
        "day": "2026-11-16",
        "nan": None,
        "numpy": 3,
        "tuple": {"p10": 1.0, "p50": 2.0, "p90": 3.0},
        "record": {
            "connection": "a", "kind": "time", "subject": "Propose", "pipeline": None, "why": "slow", "amount": 5.0,
            "currency": None,
        },
    }  # fmt: skip


@given(st.decimals(min_value=-(10**13), max_value=10**13, places=2))
def test_money_survives_json_to_the_cent(amount: Decimal) -> None:
    """An amount read back from JSON and rounded to cents is the amount that was written."""
    read = json.loads(to_json({"amount": amount}))["amount"]

    assert round(Decimal(repr(read)), 2) == amount


@pytest.mark.parametrize("text", ['=HYPERLINK("x")', "+1", "-1", "@sum", "\tx"])
def test_a_spreadsheet_gets_no_formula(text: str) -> None:
    """A cell that a spreadsheet would run starts with an apostrophe instead."""
    written = list(csv.reader(io.StringIO(to_csv([{"name": text}], ["name"]), newline="")))

    assert written[1] == ["'" + text]


def test_csv_has_the_columns_that_were_asked_for() -> None:
    """Rows are laid out by column; what a row lacks is empty; nested values are JSON."""
    written = to_csv([{"b": Decimal("-2.5"), "a": None}, {"a": [1, 2]}], ["a", "b"])

    assert written == 'a,b\n,-2.5\n"[1,2]",\n'
