"""Which open opportunities get which hygiene problem, and the one problem that needs their past rewritten.

An opportunity carries one problem at most, chosen among those that its stage and age make believable.
"""

from __future__ import annotations

import numpy as np

from pipesync.sandbox.company.shape import PIPELINES
from pipesync.sandbox.company.simulate import Company, Flags, Floats, Ints, longest

SHARE = 0.04
"""Of the open opportunities, for each rule."""
_FEWEST = 6
_OLD_ENOUGH = -45.0
"""Business days: so old is an opportunity on which something could be neglected for weeks."""

Plants = dict[str, Ints]
"""Rule id -> positions of opportunities, ascending."""


def choose(rng: np.random.Generator, company: Company) -> Plants:
    """Choose the plants, and move those that are to be stuck back in time."""
    free = company.is_open.copy()
    phases = phase_of(company)
    old = company.created < _OLD_ENOUGH
    fits: dict[str, Flags] = {
        # The scarcest first: few opportunities are late, fewer old as well.
        "hygiene.stale_commit": old & (phases == "late"),
        "hygiene.category_stage_mismatch": (phases != "middle"),
        "hygiene.single_threaded": (phases != "early"),
        "hygiene.close_date_pushed": old,
        "hygiene.close_date_past": old,
        "hygiene.no_activity": old,
        "bottleneck.stuck_in_stage": np.ones(len(company), dtype=bool),
        "hygiene.no_next_step": company.stage > 0,
        "hygiene.amount_missing": company.stage > 0,
        "hygiene.no_next_activity": np.ones(len(company), dtype=bool),
        "hygiene.owner_inactive": np.ones(len(company), dtype=bool),
        "hygiene.duplicate_open": np.ones(len(company), dtype=bool),
    }
    running = int(company.is_open.sum())
    # A small company keeps some opportunities without a problem.
    wanted = max(2, min(max(_FEWEST, round(SHARE * running)), running // (len(fits) + 4)))
    plants: Plants = {}
    for rule, possible in fits.items():
        among = np.flatnonzero(free & possible)
        count = min(wanted, len(among))
        if rule == "hygiene.duplicate_open":
            among = among[company.pipeline[among] == 0]
            count = 2 * (min(wanted, len(among)) // 2)
        found = np.sort(rng.choice(among, count, replace=False))
        free[found] = False
        plants[rule] = found
    _make_stuck(rng, company, plants["bottleneck.stuck_in_stage"])
    return plants


def phase_of(company: Company) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    phases = np.empty(len(company), dtype="<U6")
    for index, steps in enumerate(PIPELINES.values()):
        mine = company.pipeline == index
        phases[mine] = np.asarray([s.phase for s in steps])[company.stage[mine]]
    return phases


def _make_stuck(rng: np.random.Generator, company: Company, who: Ints) -> None:
    """Move their whole past back, so that they have been in their stage for more than twice the longest stay."""
    medians = np.zeros(len(who))
    for index, steps in enumerate(PIPELINES.values()):
        mine = company.pipeline[who] == index
        medians[mine] = np.asarray([s.median_days for s in steps])[company.stage[who][mine]]
    earlier: Floats = np.zeros(len(company))
    earlier[who] = 2 * longest(medians) + rng.uniform(15, 50, len(who))
    company.created -= earlier
    company.visit_entered -= earlier[company.visit_opportunity]
