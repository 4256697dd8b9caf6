"""A part of the pipeline is looked at as if there were nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pipesync.analysis import scope, stages
from pipesync.config import Calendar
from pipesync.errors import InputError
from pipesync.features import compute
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Make = Callable[..., Warehouse]


def test_a_segment_is_told_alone(process: Make) -> None:
    """Its stays and no other's; the parts' visits are those of the whole."""
    warehouse = process(n=200)

    counted = []
    for part in ({}, {"segment": "s0"}, {"segment": "s1"}):
        features = compute(warehouse, "crm", NOW, Calendar())
        scope.narrow(warehouse, features, part)
        counted.append(int(stages.analyse(warehouse, "crm", NOW, Calendar())["visits"].sum()))

    whole, *parts = counted
    assert sum(parts) == whole
    assert min(parts) > 0


def test_a_period_is_what_began_in_it(process: Make) -> None:
    """Stays before it are left out, opportunities are not."""
    warehouse = process(n=200)
    features = compute(warehouse, "crm", NOW, Calendar())
    since = NOW - timedelta(days=60)

    scope.narrow(warehouse, features, {}, since)

    first = warehouse.rows("SELECT min(entered_at), (SELECT count(*) FROM features) FROM stage_visits")[0]
    assert first[0] >= since.replace(tzinfo=None)
    assert first[1] == 200


def test_a_part_without_stays_is_an_answer(process: Make) -> None:
    """An empty table, no crash."""
    warehouse = process(n=20)
    features = compute(warehouse, "crm", NOW, Calendar())

    scope.narrow(warehouse, features, {}, NOW + timedelta(days=1))

    assert stages.analyse(warehouse, "crm", NOW, Calendar()).empty


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"segmnet": "s0"}, "'segment'"),
        ({"segment": "s9"}, "known: s0, s1|did you mean"),
        ({"type": "new"}, "type cannot be read"),
    ],
)
def test_a_wrong_part_is_refused(process: Make, part: dict[str, str], said: str) -> None:
    """With the nearest field or value, or what cannot be read."""
    warehouse = process(n=20)
    if "type" in part:
        warehouse.execute("UPDATE column_states SET state = 'unmapped' WHERE \"column\" = 'type'")
    features = compute(warehouse, "crm", NOW, Calendar())

    with pytest.raises(InputError, match=said):
        scope.narrow(warehouse, features, part)


@pytest.mark.parametrize("text", ["segment", "segment="])
def test_a_part_is_a_field_and_a_value(text: str) -> None:
    """Anything else is refused with the way to write it."""
    with pytest.raises(InputError, match="segment=enterprise"):
        scope.parse_where((text,))
