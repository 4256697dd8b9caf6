"""What would have been said at an earlier origin, and what then happened.

Everything that a forecast learns about itself (calibration, the size of its errors, whom to believe) it learns
from origins whose period had ended by the moment it speaks of. An `Issue` is made with what its origin could
know; `settle` adds the outcome, and refuses to do so before it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipesync.forecast import amounts, arrivals, landmarks
from pipesync.forecast.amounts import AmountModel
from pipesync.forecast.arrivals import Arrivals
from pipesync.forecast.baselines import Pace, run_rate
from pipesync.forecast.forecasters import Fitted, fit, within
from pipesync.forecast.history import DAY, NEVER, Bools, Floats, History, Ms
from pipesync.forecast.landmarks import Landmarks
from pipesync.forecast.rhythm import SILENT, rhythm_of
from pipesync.forecast.training import start_of_history, training_at

WEEK = 7 * DAY


@dataclass(frozen=True)
class Issue:
    origin: Ms
    days: float
    rows: Landmarks
    fitted: dict[str, Fitted]
    win: dict[str, Floats]
    """By forecaster: the probability to win within `days`, as fitted."""
    amount: AmountModel
    value: Floats
    """What each row brings if won."""
    new: Arrivals
    new_values: Floats
    """Amounts of the past wins that new ones are drawn from."""
    run_rate: Pace
    closed: int
    won: int

    @property
    def end(self) -> Ms:
        return self.origin + int(self.days * DAY)

    def said(self, method: str) -> Floats:
        """Return the method's probabilities; the hazards' where the method is dear and was not asked here."""
        return self.win[method] if method in self.win else self.win["hazard"]

    @property
    def new_value(self) -> float:
        """Mean amount of a new win."""
        return float(np.average(self.new_values, weights=self.new.weight)) if len(self.new_values) else 0.0


@dataclass(frozen=True)
class Settled:
    issue: Issue
    won: Bools
    """Per row: won within the days."""
    open_amount: float
    new_count: int
    new_amount: float

    @property
    def actual(self) -> float:
        return self.open_amount + self.new_amount


def issue(
    history: History,
    origin: Ms,
    days: float,
    forecasters: Sequence[str],
    *,
    banned: frozenset[str] = frozenset(),
    seed: int = 0,
    most_rows: int = 60_000,
) -> Issue:
    training = training_at(history, origin, banned=banned, seed=seed, most_rows=most_rows)
    rows = landmarks.at(history, [origin], banned=banned)
    fitted = {name: fit(name, training) for name in forecasters}
    amount = amounts.learn(history, training)
    rhythm = rhythm_of(fitted[forecasters[0]]) if forecasters else SILENT
    new = arrivals.expect(history, origin, days, rhythm)
    return Issue(
        origin=origin,
        days=days,
        rows=rows,
        fitted=fitted,
        win={name: within(one, rows, days) for name, one in fitted.items()},
        amount=amount,
        value=amount.expect(rows),
        new=new,
        new_values=amounts.known(history.amount[new.pool], amount.usual),
        run_rate=run_rate(history, origin, days, start_of_history(history, origin)),
        closed=training.closed,
        won=training.won,
    )


def settle(history: History, made: Issue, known_at: Ms) -> Settled:
    if made.end > known_at:
        raise ValueError("the period of this issue has not ended by then")
    winners = history.won & (history.closed > made.origin) & (history.closed <= made.end)
    at_hand = winners[made.rows.opportunity]
    new = winners & (history.created > made.origin) & (history.created < NEVER)
    value = amounts.known(history.amount, made.amount.usual)
    return Settled(
        made,
        at_hand,
        float(value[made.rows.opportunity][at_hand].sum()),
        int(new.sum()),
        float(value[new].sum()),
    )


def earlier_origins(history: History, origin: Ms, days: float, *, most: int = 12) -> list[Ms]:
    """Return origins whose period has ended by `origin` and that had a period's length of history to learn from.

    They are spread over the year before, half a period apart at least: neighbours share their luck, and those of one
    quarter its season.
    """
    length = int(days * DAY)
    first = start_of_history(history, origin) + max(length, 4 * WEEK)
    at = origin - length
    reach = min(at - first, 52 * WEEK)
    step = WEEK * max(1, length // 2 // WEEK, -(-reach // (max(most - 1, 1) * WEEK)))
    found: list[Ms] = []
    while at >= first and len(found) < most:
        found.append(at)
        at -= step
    return found[::-1]
