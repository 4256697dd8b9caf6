"""The process as it is walked: every move between stages with its count and its time, and how often it goes round.

Reads the session's `stage_visits` and `features`. Days are those spent in the stage that a move leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipesync.features import Features
from pipesync.store.warehouse import Warehouse

MoveKind = Literal["created", "advance", "skip", "backward", "reopened", "aside", "won", "lost"]

_MOVES = """
WITH walked AS (
    SELECT v.opportunity_id, coalesce(v.pipeline, '') AS pipeline, v.stage, v.exit, v.next_stage, v.visit,
           v.next_order - v.stage_order AS step, v.is_reopened, v.amount,
           date_diff('microsecond', entered_at, left_at) / 86400e6 AS days, left_at IS NOT NULL AS is_over
    FROM stage_visits AS v
)
SELECT pipeline, NULL AS from_stage, stage AS to_stage,
       CASE WHEN visit = 1 THEN 'created' ELSE 'reopened' END AS kind,
       count(*) AS n, NULL::DOUBLE AS median_days, NULL::DOUBLE AS p90_days, sum(amount)::DOUBLE AS amount
FROM walked WHERE visit = 1 OR is_reopened GROUP BY ALL
UNION ALL
SELECT pipeline, stage, CASE WHEN exit IN ('won', 'lost') THEN exit ELSE next_stage END,
       CASE WHEN exit = 'advance' AND step > 1 THEN 'skip' ELSE coalesce(exit, 'aside') END,
       count(*), median(days), quantile_cont(days, 0.9), sum(amount)::DOUBLE
FROM walked WHERE is_over GROUP BY ALL
ORDER BY pipeline, n DESC, from_stage NULLS FIRST, to_stage
"""
_ROUNDS = """
WITH steps AS (
    SELECT opportunity_id, coalesce(pipeline, '') AS pipeline, stage, exit, is_reopened,
           next_order - stage_order AS step,
           lag(stage, 2) OVER way = stage AND lag(stage) OVER way <> stage AS is_return
    FROM stage_visits WINDOW way AS (PARTITION BY opportunity_id ORDER BY visit)
),
each AS (
    SELECT pipeline, opportunity_id, count(*) FILTER (exit IN ('advance', 'backward')) AS moves,
           count(*) FILTER (exit = 'backward') AS backward, count(*) FILTER (exit = 'advance' AND step > 1) AS skips,
           count(*) FILTER (is_reopened) AS reopened, count(*) FILTER (is_return) AS returns
    FROM steps GROUP BY ALL
)
SELECT e.pipeline, count(*), sum(moves), sum(backward), sum(skips), sum(reopened), sum(returns),
       count(*) FILTER (backward > 0), count(*) FILTER (backward > 0 AND f.is_closed),
       count(*) FILTER (backward > 0 AND f.is_won), count(*) FILTER (backward = 0 AND f.is_closed),
       count(*) FILTER (backward = 0 AND f.is_won)
FROM each AS e JOIN features AS f ON f.id = e.opportunity_id GROUP BY e.pipeline ORDER BY e.pipeline
"""
_VARIANTS = """
WITH ways AS (
    SELECT coalesce(v.pipeline, '') AS pipeline, opportunity_id, list(stage ORDER BY visit) AS way
    FROM stage_visits AS v GROUP BY ALL
)
SELECT w.pipeline, way, count(*) AS n, count(*) FILTER (is_closed), count(*) FILTER (is_won), median(cycle_days)
FROM ways AS w JOIN features AS f ON f.id = w.opportunity_id
GROUP BY w.pipeline, way QUALIFY row_number() OVER (PARTITION BY w.pipeline ORDER BY n DESC, way) <= ?
ORDER BY w.pipeline, n DESC, way
"""


@dataclass(frozen=True)
class Move:
    """`from_stage` None: from outside; `to_stage` is `won` or `lost` where it left the pipeline."""

    pipeline: str
    from_stage: str | None
    to_stage: str
    kind: MoveKind
    n: int
    median_days: float | None
    p90_days: float | None
    amount: float
    """Of the opportunities that made it, each time counted; in their own currencies."""


@dataclass(frozen=True)
class Rounds:
    """How straight a pipeline is walked. Rates are of moves between open stages; None where there are none."""

    pipeline: str
    opportunities: int
    moves: int
    backward: int
    skips: int
    reopened: int
    ping_pong: int
    """Returns to a stage right after one stay elsewhere: g, h, g."""
    with_rework: int
    """Opportunities that went back at least once."""
    win_rate_with: float | None
    """Of the closed ones that went back."""
    win_rate_without: float | None

    @property
    def rework_rate(self) -> float | None:
        return self.backward / self.moves if self.moves else None

    @property
    def skip_rate(self) -> float | None:
        return self.skips / self.moves if self.moves else None


@dataclass(frozen=True)
class Variant:
    """A way through the stages, and how it ends."""

    pipeline: str
    stages: tuple[str, ...]
    n: int
    closed: int
    won: int
    median_days: float | None
    """From creation to closing."""


@dataclass(frozen=True)
class ProcessMap:
    moves: tuple[Move, ...]
    rounds: tuple[Rounds, ...]
    variants: tuple[Variant, ...]
    missing: tuple[str, ...]


def process_map(warehouse: Warehouse, features: Features, *, variants: int = 20) -> ProcessMap:
    """Return every move, and each pipeline's most frequent ways through its stages."""
    missing = ("the past of stages",) if "days_in_stage" in features.unknown else ()
    moves = [Move(*row) for row in warehouse.rows(_MOVES)]
    rounds = [
        Rounds(
            pipeline, n, moves, backward, skips, reopened, returns, reworked,
            won_with / closed_with if closed_with else None,
            won_without / closed_without if closed_without else None,
        )
        for pipeline, n, moves, backward, skips, reopened, returns, reworked, closed_with, won_with, closed_without,
        won_without in warehouse.rows(_ROUNDS)
    ]  # fmt: skip
    ways = [Variant(p, tuple(way), *rest) for p, way, *rest in warehouse.rows(_VARIANTS, [variants])]
    return ProcessMap(tuple(moves), tuple(rounds), tuple(ways), missing)
