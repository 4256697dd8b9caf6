"""The fiscal calendar in the hazards: what repeats at a quarter's end is learnt, what happened once is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from tests.forecast.worlds import AS_OF

from pipesync.config import Calendar
from pipesync.forecast import Model, arrivals, landmarks, reasons
from pipesync.forecast.fitting import from_document, to_document
from pipesync.forecast.hazard import FittedHazard
from pipesync.forecast.history import DAY, Floats, History, Ints, to_ms
from pipesync.forecast.rhythm import SILENT, Rhythm, Weeks, learn, months_of, positions, rhythm_of

NOW = to_ms(AS_OF)
MONTHS = months_of(Calendar(), NOW)
PUSH = Rhythm(MONTHS, win=(0.0, 0.0, 0.4, 0.0))
"""Twice and a half as many wins in the last two weeks of a quarter as before."""


EARLIER = NOW - 49 * DAY
"""In the middle of the quarter at whose end AS_OF lies."""


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return to_ms(datetime(year, month, day, hour, tzinfo=UTC))


def weeks(count: int, rhythm: Rhythm, *, wins: float = 40.0, only: int | None = None) -> Weeks:
    """Return weeks before AS_OF whose wins keep to a rhythm (in `only` the last so many), and even losses."""
    origin = NOW - 7 * DAY * np.arange(count, 0, -1)
    days = (np.arange(7) + 0.5) * DAY
    pace = np.array([rhythm.pace((one + days).astype(np.int64))[0].mean() for one in origin])
    if only is not None:
        pace[: count - only] = 1.0
    even = np.full(count, wins)
    expected = np.column_stack([np.full(count, float(np.mean(wins * pace))), even])
    return Weeks(origin, 7.0, np.ones(count), expected, np.column_stack([wins * pace, even]))


def moments(*asked: int) -> Ints:
    return np.array(asked, dtype=np.int64)


def last_weeks_against_others(rhythm: Rhythm) -> float:
    """Return how much faster wins come on the day before a quarter's end than in its middle."""
    win, _ = rhythm.pace(moments(ms(2025, 3, 31, 12), ms(2025, 2, 14)))
    return float(win[0] / win[1])


def test_a_push_that_repeats_is_found() -> None:
    """Of two years of quarters that end with a push most of it is foretold; losses, which have none, stay even."""
    found = learn(weeks(104, PUSH), MONTHS, 0.1)

    truth = last_weeks_against_others(PUSH)
    assert 1 + 0.6 * (truth - 1) < last_weeks_against_others(found) < truth * 1.1
    assert found.lose == pytest.approx((0.0, 0.0, 0.0, 0.0), abs=0.02)


def test_what_happened_in_one_quarter_counts_for_less() -> None:
    """A burst at the end of one quarter of eight is that quarter's luck."""
    always, once = (learn(weeks(104, PUSH, only=only), MONTHS, 0.1) for only in (None, 13))

    assert last_weeks_against_others(once) - 1 < 0.4 * (last_weeks_against_others(always) - 1)


def test_less_than_two_quarters_teach_no_rhythm() -> None:
    """What was seen once cannot be told from a trend or a holiday."""
    assert learn(weeks(24, PUSH), MONTHS, 0.1).is_silent
    assert not learn(weeks(27, PUSH), MONTHS, 0.1).is_silent


def test_a_rhythm_moves_wins_and_adds_none() -> None:
    """Over the past that it was learnt from it expects as much as was expected without it."""
    past = weeks(104, PUSH)

    found = learn(past, MONTHS, 0.1)

    days = (np.arange(7) + 0.5) * DAY
    pace = [found.pace((one + days).astype(np.int64))[0].mean() for one in past.origin]
    assert np.mean(pace) == pytest.approx(1.0, abs=0.02)


def test_positions_are_those_of_the_fiscal_calendar() -> None:
    """A quarter that ends with January has its last two weeks in January; outside of known months nothing moves."""
    months = months_of(Calendar(fiscal_year_starts=2), NOW)
    end, start = ms(2025, 1, 25), ms(2025, 2, 1)

    of_end, of_start = positions(months, moments(end, start))

    assert (of_end > 0).all()
    assert (of_start < 0).all()
    assert Rhythm(months).quarter_end(end) == start
    assert PUSH.pace(moments(0))[0] == pytest.approx(1.0)


def test_time_within_bins_follows_the_rhythm() -> None:
    """Places rise with days, meet the bins' edges, and move faster where wins do."""
    origin = ms(2025, 3, 10)
    days = np.linspace(0.0, 56.0, 200)

    steps = PUSH.steps(origin, 14.0, 4)
    place = steps.place(days)

    assert (np.diff(place) >= 0).all()
    assert steps.place(14.0 * np.arange(5.0)) == pytest.approx(np.arange(5.0))
    assert steps.place(np.array([7.0]))[0] < 0.5  # the last two weeks begin on the 17th
    assert (steps.win[1] > steps.win[2]) & (steps.win[3] < 0.01)


def with_push(model: Model) -> Model:
    assert isinstance(model.fitted, FittedHazard)
    return replace(model, fitted=replace(model.fitted, rhythm=PUSH))


def chance(model: Model, rows: landmarks.Landmarks, days: float) -> Floats:
    found: Floats = model.fitted.win_by(rows, np.array([days]))[:, 0]
    return found


def test_the_hazards_of_a_later_week_are_its_own(model: Model, past: History) -> None:
    """With a push the last two weeks of a quarter bring more and the two before less, whenever that is said."""
    rows = landmarks.at(past, [EARLIER])
    pushed, even = with_push(model), reasons.without_rhythm(model)
    end = PUSH.quarter_end(EARLIER)
    assert end is not None
    left = (end - EARLIER) / DAY

    last, middle = (
        [chance(one, rows, until) - chance(one, rows, until - 14) for one in (pushed, even)]
        for until in (left, left - 14)
    )

    assert (last[0] > last[1]).all()
    assert middle[0].sum() < middle[1].sum()


def test_new_business_keeps_to_the_rhythm(past: History) -> None:
    """More is created and won until the end of a quarter that ends with a push."""
    end = PUSH.quarter_end(EARLIER)
    assert end is not None
    left = (end - EARLIER) / DAY

    assert arrivals.expect(past, EARLIER, left, PUSH).rate > arrivals.expect(past, EARLIER, left).rate
    assert arrivals.expect(past, EARLIER, left, SILENT).rate == arrivals.expect(past, EARLIER, left).rate


def test_the_calendar_is_a_reason_in_a_reps_words(model: Model, past: History) -> None:
    """Its points are what the model says with its rhythm less what it says without, and it names the quarter's end."""
    pushed = with_push(model)
    rows = landmarks.at(past, [EARLIER], banned=model.banned)
    end = PUSH.quarter_end(EARLIER)
    assert end is not None
    left = (end - EARLIER) / DAY

    points = reasons.effects(pushed, rows, left)["calendar"]
    told = [w for up, _ in reasons.explain(pushed, rows, left, most=20) for w in up if w.trait == "calendar"]

    assert points.max() > 0.005
    assert told
    assert {w.text for w in told} == {f"the fiscal quarter ends in {round(left / 7)} weeks"}


def test_a_rhythm_is_kept_with_its_model(model: Model) -> None:
    """Written and read again it is the same."""
    pushed = with_push(model)

    assert rhythm_of(from_document(to_document(pushed)).fitted) == PUSH
