"""Landmarks know what their origin could know, and nothing after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.forecast.worlds import AS_OF, NAME, small_warehouse

from pipesync.forecast import history, landmarks
from pipesync.forecast.history import DAY, NEVER, Events, History, to_ms
from pipesync.forecast.landmarks import NUMBERS

DAY_ONE = datetime(2024, 3, 1, tzinfo=UTC)


@given(weeks=st.integers(8, 50), seed=st.integers(0, 2**16))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_happens_after_an_origin_changes_nothing(past: History, weeks: int, seed: int) -> None:
    """Scrambling every later event, closing and outcome leaves the rows of an origin as they were."""
    origin = to_ms(AS_OF) - weeks * 7 * DAY
    random = np.random.default_rng(seed)
    later = {
        name: Events.of(
            e.opportunity,
            np.where(e.at > origin, origin + 1 + random.integers(0, 90 * DAY, len(e.at)), e.at),
            np.where(e.at > origin, random.permutation(e.value), e.value),
        )
        for name, e in past.events.items()
    }
    ended = past.closed > origin
    scrambled = replace(
        past,
        events=later,
        closed=np.where(
            ended, np.where(random.random(len(past)) < 0.5, NEVER, past.closed + DAY), past.closed
        ),
        won=np.where(ended, random.random(len(past)) < 0.5, past.won),
    )

    before, after = landmarks.at(past, [origin]), landmarks.at(scrambled, [origin])

    assert list(before.opportunity) == list(after.opportunity)
    pd.testing.assert_frame_equal(before.frame, after.frame)


@pytest.fixture(scope="module")
def one_path() -> History:
    """One opportunity that goes two stages on, one back, and whose close date and amount change."""
    at = [DAY_ONE + timedelta(days=d) for d in range(40)]
    changes = [
        ("stage", "Discovery", at[0]), ("stage", "Negotiation", at[10]), ("stage", "Proposal", at[20]),
        ("amount", "100.00", at[0]), ("amount", "250.00", at[12]),
        ("close_date", "2024-03-20", at[0]), ("close_date", "2024-04-20", at[15]), ("close_date", "2024-04-10", at[25]),
    ]  # fmt: skip
    rows = [{"id": "a", "created_at": at[0], "stage": "Proposal", "amount": 250, "owner_id": "r1"}]
    events = [{"opportunity_id": "a", "field": f, "value": v, "changed_at": t} for f, v, t in changes]
    with small_warehouse(rows, events) as opened:
        return history.load(opened, NAME)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (5, {"stage_days": 5, "moves": 0, "amount": 100, "pushes": 0, "skipped": 0, "due_in": 14}),
        (18, {"stage_days": 8, "moves": 1, "amount": 250, "pushes": 1, "skipped": 1, "back_moves": 0}),
        (30, {"stage_days": 10, "moves": 2, "back_moves": 1, "pushes": 1, "push_days": 31, "age": 30}),
    ],
)
def test_an_opportunity_is_told_as_it_was(one_path: History, day: int, expected: dict[str, float]) -> None:
    """Stage, amount, pushes and steps back are those up to the origin."""
    rows = landmarks.at(one_path, [to_ms(DAY_ONE + timedelta(days=day))])

    told = {name: rows.frame[name].iloc[0] for name in expected}

    assert told == pytest.approx(expected)


def test_banned_fields_are_blank(past: History) -> None:
    """A field that gives the outcome away is nowhere in the rows."""
    rows = landmarks.at(past, [to_ms(AS_OF)], banned=frozenset({"amount", "owner_id", "stage"}))

    assert rows.frame[["amount", "owner_rate", "owner_load"]].isna().all().all()
    assert rows.frame["stage"].nunique() == 1


def test_a_part_of_the_rows_is_a_part(past: History) -> None:
    """Thinned rows equal the same rows of the whole."""
    origins = [to_ms(AS_OF) - w * 7 * DAY for w in (3, 2, 1)]

    whole, part = landmarks.at(past, origins), landmarks.at(past, origins, most=20, seed=1)

    key = dict(zip(zip(whole.opportunity, whole.origin, strict=True), range(len(whole)), strict=True))
    rows = [key[pair] for pair in zip(part.opportunity, part.origin, strict=True)]
    assert len(part) == 20
    pd.testing.assert_frame_equal(part.frame[list(NUMBERS)], whole.take(np.array(rows)).frame[list(NUMBERS)])


def test_fates_stop_at_the_cutoff(past: History) -> None:
    """Who closes after the cut-off is open at it."""
    origin, cutoff = to_ms(AS_OF) - 70 * DAY, to_ms(AS_OF) - 42 * DAY
    rows = landmarks.at(past, [origin])

    fate = landmarks.fates(past, rows, cutoff)

    open_still = past.closed[rows.opportunity] > cutoff
    assert open_still.any()
    assert not (fate.won | fate.lost)[open_still].any()
    assert set(fate.days[open_still]) == {28.0}


def test_amounts_are_in_the_home_currency() -> None:
    """A rate of the CRM turns amounts and their history into the home currency."""
    rows = [{"id": "a", "created_at": DAY_ONE, "stage": "Proposal", "amount": 100, "currency": "USD"}]
    changes = [{"opportunity_id": "a", "field": "amount", "value": "50.00", "changed_at": DAY_ONE}]
    with small_warehouse(rows, changes) as opened:
        opened.execute("INSERT INTO currency_rates VALUES (?, 'USD', 0.5, DATE '2024-01-01')", [NAME])
        found = history.load(opened, NAME)

    told = landmarks.at(found, [to_ms(DAY_ONE + timedelta(days=1))])

    assert found.amount[0] == 50.0
    assert told.frame["amount"].iloc[0] == 25.0


def test_a_closing_without_a_time_is_taken_from_the_close_date() -> None:
    """Closed without `closed_at`: the close date holds the day; without both it never was at risk."""
    rows = [
        {"id": "a", "created_at": DAY_ONE, "is_closed": True, "is_won": True,
         "close_date": DAY_ONE.date() + timedelta(days=9)},
        {"id": "b", "created_at": DAY_ONE, "is_closed": True},
    ]  # fmt: skip
    with small_warehouse(rows) as opened:
        found = history.load(opened, NAME)

    assert found.is_open(to_ms(DAY_ONE + timedelta(days=3))).tolist() == [True, False]
    assert found.won.tolist() == [True, False]
