"""What became of our tasks: the CRM's rows and the journal, told as threads of episodes.

The rows are as old as the last pull. Writes that were confirmed since are laid over them, so that a plan made
right after an apply sees its tasks without asking the CRM again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from pipesync.model import JournalEntry, OwnTask, TaskFate
from pipesync.plan import keys
from pipesync.plan.snoozes import Snooze

TEXTS = ("subject", "body", "due", "priority")
"""The fields of a task that we write."""


@dataclass
class Written:
    """One of our tasks as the journal knows it, whatever people did to it since."""

    opportunity_id: str | None
    owner_id: str | None
    values: dict[str, Any]  # Any: JSON
    rules: tuple[str, ...]
    made_as_of: datetime
    as_of: datetime
    """Of the last write."""
    ending: JournalEntry | None = None
    """The write by which we completed or removed it."""


State = Literal["open", "closed", "deleted", "ended"]
"""open; closed or deleted by people; ended by us."""


@dataclass(frozen=True)
class Episode:
    """One task of a thread."""

    key: str
    number: int
    state: State
    row: OwnTask | None
    written: Written | None
    refused_at: datetime | None = None
    """As of then people were seen to have closed or deleted it, or an undo took it back."""
    snooze: Snooze | None = None
    """Until when people put it off."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules whose findings it lists, as far as the journal knows."""
        return self.written.rules if self.written else ()

    def lists(self, rule: str) -> bool:
        """Whether it may list a finding of this rule; a task that the journal does not know may list any."""
        return self.written is None or rule in self.written.rules

    @property
    def is_touched(self) -> bool:
        """Whether people changed it; a task that the journal does not know counts as theirs."""
        if self.row is None:
            return False
        return self.written is None or not same(self.row, self.written.values, self.written.owner_id)


@dataclass
class Thread:
    """The tasks that one assignee had about one opportunity, the newest last."""

    opportunity_id: str | None
    owner_id: str | None
    episodes: list[Episode] = field(default_factory=list)

    @property
    def open(self) -> Episode | None:
        return next((e for e in reversed(self.episodes) if e.state == "open"), None)

    @property
    def next_number(self) -> int:
        return max((e.number for e in self.episodes), default=0) + 1


def same(row: OwnTask, values: Mapping[str, Any], owner_id: str | None) -> bool:
    """Whether a row holds what we wrote, apart from the white space that CRMs add and drop.

    A CRM gives an unassigned task to whom it likes; that is nobody's edit.
    """
    if owner_id is not None and row.owner_id != owner_id:
        return False
    return all(
        _plain(getattr(row, name)) == _plain(values[name]) for name in (*TEXTS, "is_done") if name in values
    )


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return " ".join(value.split()) if isinstance(value, str) else value or None


def written(entries: Iterable[JournalEntry]) -> dict[str, Written]:
    """Fold the confirmed task writes of a journal (in order) by key."""
    found: dict[str, Written] = {}
    for entry in entries:
        if entry.object != "task" or entry.status != "applied":
            continue
        current = found.get(entry.key)
        if entry.action == "create" or current is None:
            current = found[entry.key] = Written(
                entry.opportunity_id, entry.owner_id, {}, entry.reason.rules, entry.as_of, entry.as_of
            )
        current.values |= entry.after
        current.as_of = entry.as_of
        if entry.action == "update":
            current.rules = entry.reason.rules or current.rules
        current.ending = entry if entry.action in ("complete", "delete") else None
        if entry.action == "complete":
            current.values["is_done"] = True
    return found


def overlaid(
    rows: Iterable[OwnTask], entries: Iterable[JournalEntry], pulled_at: datetime | None
) -> dict[str, OwnTask]:
    """Return the rows by key, with the writes that were confirmed after they were read."""
    held = {row.key: row for row in rows}
    for entry in entries:
        if entry.object != "task" or entry.status != "applied":
            continue
        if pulled_at and entry.settled_at and entry.settled_at <= pulled_at:
            continue
        if entry.action == "delete":
            held.pop(entry.key, None)
        elif entry.action == "create":
            held.setdefault(entry.key, _created(entry))
        elif row := held.get(entry.key):
            done = {"is_done": True} if entry.action == "complete" else {}
            held[entry.key] = row.model_copy(update={**_typed(entry.after), **done})
    return held


def _created(entry: JournalEntry) -> OwnTask:
    return OwnTask.model_construct(
        connection="",
        id=entry.target or entry.key,
        key=entry.key,
        opportunity_id=entry.opportunity_id,
        owner_id=entry.owner_id,
        **_typed(entry.after),
    )


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON in, fields of OwnTask out
    due = values.get("due")
    return {**values, "due": date.fromisoformat(due)} if isinstance(due, str) else dict(values)


def threads(
    rows: Mapping[str, OwnTask],
    journal: Sequence[JournalEntry],
    fates: Iterable[TaskFate],
    as_of: datetime,
    snooze_of: Callable[[OwnTask], Snooze | None] = lambda row: None,
) -> dict[str, Thread]:
    """Tell the story of every task that carries our key; `rows` are `overlaid`.

    `snooze_of` reads a task's text; what the fates remember of a snooze stays as it was first read.
    """
    known = written(journal)
    fates = list(fates)
    seen = {fate.key: fate.seen_at for fate in fates}
    put_off = {fate.key: Snooze(fate.rests_until, fate.note) for fate in fates if fate.rests_until}
    found: dict[str, Thread] = {}
    for key in sorted({*rows, *known}):
        parsed = keys.episode_of(key)
        if parsed is None:
            continue
        row, ours = rows.get(key), known.get(key)
        opportunity_id = ours.opportunity_id if ours else row.opportunity_id if row else None
        owner_id = ours.owner_id if ours else row.owner_id if row else None
        line = found.setdefault(parsed[0], Thread(opportunity_id, owner_id))
        state, refused_at = _state(row, ours, as_of)
        if refused_at is not None:
            refused_at = seen.get(key, refused_at)
        snooze = put_off.get(key) or (snooze_of(row) if row else None)
        line.episodes.append(Episode(key, parsed[1], state, row, ours, refused_at, snooze))
    for line in found.values():
        line.episodes.sort(key=lambda e: e.number)
    return found


def _state(row: OwnTask | None, ours: Written | None, as_of: datetime) -> tuple[State, datetime | None]:
    if row is not None and not row.is_done:
        return "open", None
    if ours is not None and ours.ending is not None:
        return "ended", ours.as_of if ours.ending.run_kind == "undo" else None
    if row is not None:
        return "closed", min(row.modified_at or as_of, as_of)
    return "deleted", as_of
