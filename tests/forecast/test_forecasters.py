"""What every forecaster keeps to: a new one earns its name by these checks and needs no tests of them of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.forecast.worlds import AS_OF

from pipesync.forecast import landmarks
from pipesync.forecast.forecasters import EVER, FORECASTERS, fit
from pipesync.forecast.hazard import bins_of
from pipesync.forecast.history import DAY, NEVER, History, to_ms
from pipesync.forecast.landmarks import Fate, Landmarks
from pipesync.forecast.training import Training, start_of_history, training_at

DAYS = np.array([0.0, 7.0, 28.0, 90.0, EVER])
NOW = to_ms(AS_OF)

every = pytest.mark.parametrize("name", sorted(FORECASTERS))
learning = pytest.mark.parametrize("name", sorted(set(FORECASTERS) - {"crm_probability"}))


def now_rows(past: History) -> Landmarks:
    return landmarks.at(past, [NOW])


def only(training: Training, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Training:
    fate = training.fate
    return replace(
        training,
        rows=training.rows.take(kept),
        fate=Fate(fate.days[kept], fate.won[kept], fate.lost[kept]),
        weight=training.weight[kept],
    )


@every
def test_probabilities_are_probabilities_that_grow_with_time(
    name: str, past: History, training: Training
) -> None:
    """Within 0 and 1, never less for more days."""
    found = fit(name, training).win_by(now_rows(past), DAYS)

    assert found.shape == (len(now_rows(past)), len(DAYS))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found, axis=1) >= -1e-12).all()


@every
def test_the_same_input_gives_the_same_output(name: str, past: History, training: Training) -> None:
    """Two fits agree to the last bit, and fitting leaves its input alone."""
    before = training.rows.frame.copy()

    first, second = (fit(name, training).win_by(now_rows(past), DAYS) for _ in range(2))

    assert (first == second).all()
    assert before.equals(training.rows.frame)


@every
def test_a_row_does_not_depend_on_its_neighbours(name: str, past: History, training: Training) -> None:
    """One opportunity alone is told the same as among others."""
    fitted, rows = fit(name, training), now_rows(past)

    alone = fitted.win_by(rows.take(np.array([3])), DAYS)

    assert alone[0] == pytest.approx(fitted.win_by(rows, DAYS)[3], abs=1e-12)


@every
def test_no_rows_are_no_answer(name: str, past: History, training: Training) -> None:
    """Nothing open: nothing said, in the right shape."""
    nothing = now_rows(past).take(np.array([], dtype=np.int64))

    assert fit(name, training).win_by(nothing, DAYS).shape == (0, len(DAYS))


@every
def test_what_comes_after_the_cutoff_does_not_matter(name: str, past: History) -> None:
    """A fit as of a moment is the same, whatever happened later."""
    cutoff = NOW - 90 * DAY
    ended_later = past.closed > cutoff
    other = replace(
        past,
        closed=np.where(ended_later, NEVER, past.closed),
        won=past.won & ~ended_later,
    )
    rows = landmarks.at(past, [cutoff])

    first = fit(name, training_at(past, cutoff)).win_by(rows, DAYS)
    second = fit(name, training_at(other, cutoff)).win_by(rows, DAYS)

    assert (first == second).all()


@learning
@pytest.mark.parametrize("kind", ["all won", "all lost", "all open"])
def test_one_class_only(name: str, kind: str, past: History, training: Training) -> None:
    """Where everything went one way the answer leans that way and stays a probability."""
    size = len(training.rows)
    closed = training.fate.won | training.fate.lost
    won = closed if kind == "all won" else np.zeros(size, dtype=bool)
    lost = closed if kind == "all lost" else np.zeros(size, dtype=bool)
    same = replace(
        training, fate=Fate(training.fate.days, won, lost), won=training.closed if won.any() else 0
    )

    found = fit(name, same).win_by(now_rows(past), DAYS)

    usual = fit(name, training).win_by(now_rows(past), DAYS)[:, 3].mean()
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert found[:, 3].mean() > usual if kind == "all won" else found[:, 3].mean() < usual


@every
@pytest.mark.parametrize("kind", ["nothing", "one stage", "only closed ones"])
def test_little_to_learn_from(name: str, kind: str, past: History, training: Training) -> None:
    """No landmark at all, one stage, or no censored one: an answer all the same."""
    keep: dict[str, Callable[[], Training]] = {
        "nothing": lambda: only(training, np.zeros(len(training.rows), dtype=bool)),
        "one stage": lambda: only(
            training, (training.rows.frame["stage"] == training.rows.frame["stage"].iloc[0]).to_numpy(bool)
        ),
        "only closed ones": lambda: only(training, training.fate.won | training.fate.lost),
    }

    found = fit(name, keep[kind]()).win_by(now_rows(past), DAYS)

    assert ((found >= 0) & (found <= 1)).all()


@every
def test_odd_values_are_borne(name: str, past: History, training: Training) -> None:
    """Blank, negative and huge amounts, a creation in the future, stages never seen: still probabilities."""
    rows = now_rows(past)
    frame = rows.frame.assign(
        amount=np.resize([np.nan, -500.0, 0.0, 1e15], len(rows)),
        age=np.resize([-3.0, 1e6], len(rows)),
        due_in=np.resize([np.nan, -4000.0, 4000.0], len(rows)),
        stage="default/never seen",
        owner_id=None,
    )

    found = fit(name, training).win_by(Landmarks(frame, rows.opportunity, rows.origin), DAYS)

    assert ((found >= 0) & (found <= 1)).all()


def test_the_hazards_beat_the_baselines_where_there_is_something_to_learn(past: History) -> None:
    """Six weeks ahead, from four origins: ranked better than by stage alone."""
    from pipesync.forecast.metrics import auc

    origins = [NOW - w * 7 * DAY for w in (18, 14, 10, 6)]
    scores = {}
    for name in ("hazard", "stage"):
        told, won = [], []
        for origin in origins:
            rows = landmarks.at(past, [origin])
            told.append(fit(name, training_at(past, origin)).win_by(rows, np.array([42.0]))[:, 0])
            closed = past.closed[rows.opportunity] <= origin + timedelta(days=42) / timedelta(milliseconds=1)
            won.append(past.won[rows.opportunity] & closed)
        scores[name] = auc(np.concatenate(won), np.concatenate(told))

    assert scores["hazard"] > scores["stage"]


def test_a_step_is_learnt_where_half_of_the_weeks_saw_it_end(past: History) -> None:
    """What came of the first weeks' opportunities long after is one piece of luck, however many they were."""
    for weeks in (8, 30):
        training = training_at(past, start_of_history(past, NOW) + (weeks * 7 + 1) * DAY, most_rows=1200)

        bins = bins_of(training)

        assert bins.learnt == max(int(7 * (weeks + 1) / 2 // bins.width), 1)
