"""The simulated companies that forecasts are measured on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from benchmarks.simulate import _times


def test_a_blank_day_is_no_time_whatever_memory_holds() -> None:
    """Blank days read no memory that nobody has set: where it held large numbers, rounding it overflowed."""
    days = pd.Series(np.where(np.arange(5000) % 2, np.nan, 1.5))
    for _ in range(20):
        large = [np.full(len(days), 1.7e308) for _ in range(6)]
        del large  # what is freed comes back as it is
        found = _times(days)
    assert found.isna().equals(days.isna())
    assert set(found.dropna()) == {pd.Timestamp("2024-01-02 12:00")}
