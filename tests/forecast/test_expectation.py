"""What was to be expected of opportunities, before their outcome, in usual hands."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from benchmarks import simulate
from tests.forecast.worlds import AS_OF, features, small_warehouse

from pipesync.forecast.expectation import expected_wins, levelled
from pipesync.store.warehouse import Warehouse


def test_everybody_together_wins_what_was_expected(warehouse: Warehouse) -> None:
    """The level is everybody's own, so only differences between people are left."""
    found = expected_wins(warehouse, features())

    won = {i for (i,) in warehouse.rows("SELECT id FROM opportunities WHERE is_won")}
    assert len(found) > 50
    assert sum(found.values()) == pytest.approx(len(won & found.keys()), abs=0.01)
    assert len({round(p, 6) for p in found.values()}) > 40


def test_what_came_later_is_not_known_to_the_expectation(company: simulate.Company) -> None:
    """Only the common level may move with outcomes: the order of opportunities stays."""
    as_of = AS_OF - timedelta(days=30)
    with company.warehouse(as_of) as early:
        before = expected_wins(early, features(as_of))
        early.execute("UPDATE opportunities SET is_won = NOT is_won WHERE closed_at > ?",
                      [as_of.replace(tzinfo=None) - timedelta(days=180)])  # fmt: skip
        after = expected_wins(early, features(as_of))

    names = sorted(before)
    first = [n for n in names if n in after]
    assert np.argsort([before[n] for n in first]).tolist() == np.argsort([after[n] for n in first]).tolist()


def test_too_little_history_expects_nothing() -> None:
    """No model, no expectation; nothing is made up."""
    with small_warehouse(
        [{"id": "o1", "created_at": AS_OF - timedelta(days=9), "stage": "Proposal"}]
    ) as opened:
        assert expected_wins(opened, features()) == {}


def test_the_level_is_moved_and_the_order_kept() -> None:
    """As many are expected as were won; none won is next to none expected."""
    chance = np.array([0.1, 0.5, 0.9])

    some = levelled(chance, np.array([True, False, False]))
    none = levelled(chance, np.zeros(3, dtype=bool))

    assert some.sum() == pytest.approx(1.0)
    assert (np.diff(some) > 0).all()
    assert none.sum() == pytest.approx(0.5)
