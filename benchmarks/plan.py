"""How long a plan of 10,000 changes takes, and in how many batches it is written.

    python benchmarks/plan.py [--changes 10000]

The bar is 2 seconds for the plan, on one core whatever else the machine does. Applying goes to a CRM in memory, so that
what is measured is our share: the journal, and the number of batches, which a CRM's adapter turns into requests.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pipesync import plan, rules
from pipesync.apply import apply
from pipesync.config import from_text
from pipesync.model import Change, Finding, Outcome, OwnForecast, OwnTask, User
from pipesync.plan.facts import Facts
from pipesync.plan.situation import Situation
from pipesync.store.ledger import Ledger

AS_OF = datetime(2026, 11, 23, 9, tzinfo=UTC)
CONFIG = """
connections: {crm: {adapter: files, write: {enabled: true, tasks: true, forecasts: true}}}
budget: {open_tasks_per_owner: 100000, new_tasks_per_owner_per_run: 100000, writes_per_run: 100000}
"""


class Memory:
    """A CRM in memory that counts what it is asked."""

    def __init__(self) -> None:
        self.tasks: dict[str, OwnTask] = {}
        self.batches = 0

    def own(
        self, keys: Sequence[str], opportunity_ids: Sequence[str]
    ) -> tuple[list[OwnTask], list[OwnForecast]]:
        return [self.tasks[k] for k in keys if k in self.tasks], []

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        self.batches += 1
        for c in changes:
            known = dict(self.tasks[c.key]) if c.key in self.tasks else {"id": c.key, "key": c.key}
            about = {"opportunity_id": c.opportunity_id, "owner_id": c.owner_id}
            self.tasks[c.key] = OwnTask.model_validate({**known, **about, **c.after})
            yield Outcome(key=c.key, status="applied", target=c.key)


def findings(count: int, message: str) -> list[Finding]:
    return [
        Finding(
            connection="crm", rule=rule, subject_id=f"006{i:06}", severity="medium", owner_id=f"rep{i % 200}",
            message=f"006{i:06}: {message}", headline="Set a new close date", amount=Decimal(i), first_seen=AS_OF,
            values={"name": f"Opportunity {i} {message}", "stage": "Offer", "close_date": "2026-11-09"},
        )
        for i in range(count)
        for rule in ("hygiene.close_date_past", "hygiene.no_next_step")
    ]  # fmt: skip


def people() -> dict[str, User]:
    """Reps of five countries: their tasks are in as many languages."""
    places = ("en_GB", "fr_FR", "it_IT", "pl_PL", "sv_SE")
    return {f"rep{i}": User(id=f"rep{i}", locale=places[i % 5]) for i in range(200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=10_000)
    count = parser.parse_args().changes
    config, ruleset = from_text(CONFIG, Path()), rules.load()
    crm, situation = Memory(), Situation("crm", AS_OF, (), Facts(basis="b", users=people()), currency="EUR")
    with tempfile.TemporaryDirectory() as folder, Ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        for what, text, after in (("create", "old", 0), ("nothing", "old", 0), ("update", "new", 1)):
            facts = replace(situation.facts, tasks=tuple(crm.tasks.values()), pulled_at=datetime.now(UTC))
            now = replace(
                situation,
                findings=findings(count, text),
                facts=facts,
                journal=ledger.journal("crm"),
                as_of=AS_OF + timedelta(days=after),
            )
            busy = time.process_time()
            made = plan.make(now, config, ruleset)
            planned, crm.batches, started = time.process_time() - busy, 0, time.perf_counter()
            done = apply(made, crm, ledger, write=config.connections["crm"].write)  # type: ignore[arg-type]  # what is used of it
            took = time.perf_counter() - started
            print(
                f"{what:8} {len(made.changes):6,} changes planned in {planned:5.2f} s, "
                f"{done.applied:6,} written in {crm.batches:3} batches and {took:5.2f} s"
            )


if __name__ == "__main__":
    main()
