"""What each rule came to so far, as `rules list` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipesync.cli.options import Source

if TYPE_CHECKING:
    from pipesync.config import Config
    from pipesync.plan import Effect

EFFECTS = (
    "episodes", "open", "days_to_mend", "tasks", "mended", "refused", "snoozed", "ignored", "won", "lost", "decided",
    "decided_lost", "acted_on", "foretold",
)  # fmt: skip


def effects_of(config: Config | None, source: Source) -> tuple[dict[str, Effect], float | None]:
    """Return every rule's record and the base rate; nothing where no run was ever recorded."""
    from pipesync.cli.opening import open_ledger
    from pipesync.plan import read_effects
    from pipesync.plan.calendars import local_date
    from pipesync.runlog import now
    from pipesync.store.opening import published
    from pipesync.store.warehouse import Warehouse

    ledger = open_ledger(config) if config else None
    if config is None or ledger is None:
        return {}, None
    names = source.connections or tuple(config.connections)
    today, copy = local_date(now(), config.zone), published(config.warehouse)
    with ledger:
        if not copy.exists():
            return read_effects(ledger, None, names, today)
        with Warehouse(copy, read_only=True) as warehouse:
            return read_effects(ledger, warehouse, names, today)


def effect_entry(effect: Effect | None) -> dict[str, Any]:  # Any: JSON
    return {name: getattr(effect, name) if effect else None for name in EFFECTS}


def effect_cells(effect: Effect | None) -> list[str]:
    """Return a rule's record for people: fired, open, tasks, acted on, then lost."""
    from pipesync.report.draw import number, percent

    if effect is None:
        return ["–"] * 5
    lost = f"{percent(effect.foretold)} of {effect.decided:,}" if effect.decided else "–"
    counted = (number(effect.episodes), number(effect.open), number(effect.tasks))
    return [*counted, percent(effect.acted_on), lost]
