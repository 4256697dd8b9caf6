"""Which rules matter: how often each fired, what people did about its tasks, and what it foretold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from pipesync.model import JournalEntry, StandingFinding, TaskFate


@dataclass(frozen=True)
class Effect:
    """One rule's record so far."""

    rule: str
    episodes: int = 0
    """Times that it opened."""
    open: int = 0
    """Of these, still open."""
    days_to_mend: float | None = None
    """Median from first seen to resolved; None before the first."""
    tasks: int = 0
    """Tasks that were made with it on their list."""
    mended: int = 0
    """Tasks that ended because their points were settled."""
    refused: int = 0
    """Tasks that people closed or deleted while they still held."""
    won: int = 0
    lost: int = 0
    """Tasks whose opportunity ended first: what the rule was right, or wrong, to worry about."""

    @property
    def acted_on(self) -> float | None:
        """Share of the ended tasks that were mended; None before the first end."""
        ended = self.mended + self.refused + self.won + self.lost
        return self.mended / ended if ended else None


def effects(
    episodes: Iterable[StandingFinding], journal: Iterable[JournalEntry], fates: Iterable[TaskFate]
) -> dict[str, Effect]:
    """Return each rule's record, from the ledger's episodes, writes and fates."""
    opened: Counter[str] = Counter()
    still: Counter[str] = Counter()
    days: dict[str, list[float]] = {}
    for episode in episodes:
        opened[episode.rule] += 1
        if episode.resolved_at is None:
            still[episode.rule] += 1
        else:
            took = (episode.resolved_at - episode.first_seen).total_seconds() / 86_400
            days.setdefault(episode.rule, []).append(took)
    listed: dict[str, set[str]] = {}
    for entry in journal:
        if entry.object == "task" and entry.status == "applied" and entry.reason.kind == "findings":
            for rule in entry.reason.rules:
                listed.setdefault(rule, set()).add(entry.key)
    ended = Counter((rule, fate.ending) for fate in fates for rule in fate.rules)
    return {
        rule: Effect(
            rule=rule,
            episodes=opened[rule],
            open=still[rule],
            days_to_mend=median(days[rule]) if rule in days else None,
            tasks=len(listed.get(rule, ())),
            mended=ended[rule, "mended"],
            refused=ended[rule, "closed"] + ended[rule, "deleted"],
            won=ended[rule, "won"],
            lost=ended[rule, "lost"],
        )
        for rule in sorted({*opened, *listed, *(rule for rule, _ in ended)})
    }
