"""Which rules matter: how often each fired, what people did about its tasks, and what it foretold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

from pipesync.model import JournalEntry, StandingFinding, TaskFate
from pipesync.plan.threads import written
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

Opportunity = tuple[str, str]
"""Connection and id."""


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
    snoozed: int = 0
    """Tasks that people put off."""
    ignored: int = 0
    """Tasks that are still open after their date."""
    won: int = 0
    lost: int = 0
    """Tasks whose opportunity ended first: what the rule was right, or wrong, to worry about."""
    decided: int = 0
    """Opportunities that it ever fired on and that are won or lost by now."""
    decided_lost: int = 0

    @property
    def acted_on(self) -> float | None:
        """Share mended of the tasks that people had their chance with; None before the first."""
        ended = self.mended + self.refused + self.snoozed + self.ignored + self.won + self.lost
        return self.mended / ended if ended else None

    @property
    def foretold(self) -> float | None:
        """Share lost of what it fired on and what is decided; None before the first. Compare with the base rate."""
        return self.decided_lost / self.decided if self.decided else None


def read_effects(
    ledger: Ledger, warehouse: Warehouse | None, connections: Sequence[str], today: date
) -> tuple[dict[str, Effect], float | None]:
    """Return every rule's record over these connections, and the share lost of all that is decided (the base rate)."""
    outcomes: dict[Opportunity, bool] = {}
    if warehouse is not None:
        rows = warehouse.rows("SELECT connection, id, is_won FROM opportunities WHERE is_closed")
        outcomes = {(name, i): won for name, i, won in rows if name in connections}
    found = effects(
        [e for name in connections for e in ledger.episodes(name)],
        [e for name in connections for e in ledger.journal(name)],
        [f for name in connections for f in ledger.fates(name)],
        outcomes=outcomes,
        today=today,
    )
    lost = sum(not won for won in outcomes.values())
    return found, lost / len(outcomes) if outcomes else None


def effects(
    episodes: Iterable[StandingFinding],
    journal: Iterable[JournalEntry],
    fates: Iterable[TaskFate],
    *,
    outcomes: Mapping[Opportunity, bool] | None = None,
    today: date | None = None,
) -> dict[str, Effect]:
    """Return each rule's record, from the ledger's episodes, writes and fates.

    `outcomes` says of decided opportunities whether they were won; `today` is the day from which a task's date is past.
    """
    opened: Counter[str] = Counter()
    still: Counter[str] = Counter()
    days: dict[str, list[float]] = {}
    fired_on: dict[str, set[Opportunity]] = {}
    for episode in episodes:
        opened[episode.rule] += 1
        if episode.level == "opportunity":
            fired_on.setdefault(episode.rule, set()).add((episode.connection, episode.subject_id))
        if episode.resolved_at is None:
            still[episode.rule] += 1
        else:
            took = (episode.resolved_at - episode.first_seen).total_seconds() / 86_400
            days.setdefault(episode.rule, []).append(took)
    entries, ends = list(journal), list(fates)
    listed: dict[str, set[str]] = {}
    for entry in entries:
        if entry.object == "task" and entry.status == "applied" and entry.reason.kind == "findings":
            for rule in entry.reason.rules:
                listed.setdefault(rule, set()).add(entry.key)
    ended = Counter((rule, fate.ending) for fate in ends for rule in fate.rules)
    over = {fate.key for fate in ends}
    ignored = Counter(
        rule
        for key, task in written(entries).items()
        if key not in over and task.ending is None and _is_past(task.values.get("due"), today)
        for rule in task.rules
    )
    decided = (
        {rule: [outcomes[o] for o in of if o in outcomes] for rule, of in fired_on.items()}
        if outcomes
        else {}
    )
    return {
        rule: Effect(
            rule=rule,
            episodes=opened[rule],
            open=still[rule],
            days_to_mend=median(days[rule]) if rule in days else None,
            tasks=len(listed.get(rule, ())),
            mended=ended[rule, "mended"],
            refused=ended[rule, "closed"] + ended[rule, "deleted"],
            snoozed=ended[rule, "snoozed"],
            ignored=ignored[rule],
            won=ended[rule, "won"],
            lost=ended[rule, "lost"],
            decided=len(decided.get(rule, ())),
            decided_lost=sum(not won for won in decided.get(rule, ())),
        )
        for rule in sorted({*opened, *listed, *(rule for rule, _ in ended)})
    }


def _is_past(due: str | None, today: date | None) -> bool:
    return due is not None and today is not None and date.fromisoformat(due) < today
