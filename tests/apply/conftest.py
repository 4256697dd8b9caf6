"""A small CRM to write to: the real `files` adapter with its outbox, a real ledger, and findings as a test says."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipesync import plan, rules
from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.adapters.files.outbox import Outbox
from pipesync.apply import Applied, apply, recover
from pipesync.config import Config, Suppression, from_text
from pipesync.errors import RetryLater
from pipesync.model import Change, Finding, Outcome, PeriodForecast, Plan, StandingFinding, User
from pipesync.plan.facts import Facts
from pipesync.plan.situation import Situation
from pipesync.store.ledger import Ledger

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
PAST, STEP = "hygiene.close_date_past", "hygiene.no_next_step"

_CONFIG = """
mode: enforce
connections:
  crm:
    adapter: files
    data: data
    write: {{enabled: true, tasks: true, forecasts: true}}
budget: {{open_tasks_per_owner: 5000, new_tasks_per_owner_per_run: 5000, writes_per_run: 5000}}
{more}
"""


@dataclass
class World:
    """One connection in a folder. Its parts are opened anew by `reopen`, as after a crash."""

    folder: Path
    config: Config
    ruleset: rules.RuleSet
    as_of: datetime = MONDAY
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    """Findings that cannot be judged now."""
    forecasts: list[PeriodForecast] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    basis: str = "b1"
    inactive: set[str] = field(default_factory=set)
    """Users who left."""
    off: set[str] = field(default_factory=set)
    """Rules that the site switched off."""
    suppressions: list[Suppression] = field(default_factory=list)
    behind: tuple[str, ...] = ()
    """Streams that the last pull did not get to."""

    def __post_init__(self) -> None:
        self.reopen()
        self.pull()

    def reopen(self) -> None:
        self.ledger = Ledger(f"sqlite:///{self.folder / 'ledger.db'}")
        self.adapter: Adapter = open_adapter("crm", self.config.connections["crm"], self.folder)

    def close(self) -> None:
        self.adapter.close()
        self.ledger.close()

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.folder / "outbox")

    # --- What pipesync does -----------------------------------------------------------------------------------

    def fire(self, opportunity: str, rule: str = PAST, **more: Any) -> None:  # Any: fields
        given = {
            "severity": "medium", "owner_id": "rep", "message": f"{opportunity}: {rule}", "headline": f"Mend {rule}",
            "amount": Decimal(1000), "first_seen": self.as_of, **more,
        }  # fmt: skip
        self.findings[rule, opportunity] = Finding.model_validate(
            {"connection": "crm", "rule": rule, "subject_id": opportunity, **given}
        )

    def clear(self, opportunity: str, rule: str = PAST) -> None:
        del self.findings[rule, opportunity]

    def pull(self) -> None:
        """Read our own records again."""
        started = datetime.now(UTC)
        tasks, forecasts = self.outbox.read()
        users = {
            "rep": User(connection="crm", id="rep", manager_id="boss", is_active="rep" not in self.inactive),
            "boss": User(connection="crm", id="boss"),
        }
        self.facts = Facts(
            users=users,
            tasks=tuple(tasks.values()),
            forecasts=tuple(forecasts.values()),
            pulled_at=started,
            forecasts_pulled_at=started,
            basis=self.basis,
            behind=self.behind,
        )

    def plan(self) -> Plan:
        held = [
            StandingFinding.model_validate(
                {n: v for n, v in self.findings[s] if n in StandingFinding.model_fields}
                | {"last_seen": self.as_of}
            )
            for s in self.findings
            if s in self.unknown or s[0] in self.off
        ]
        situation = Situation(
            connection="crm",
            as_of=self.as_of,
            findings=[f for s, f in self.findings.items() if s not in self.unknown and s[0] not in self.off],
            facts=self.facts,
            held=held,
            journal=self.ledger.journal("crm"),
            fates=self.ledger.fates("crm"),
            forecasts=self.forecasts,
            suppressions=self.suppressions,
        )
        on = replace(self.ruleset, rules={n: r for n, r in self.ruleset.rules.items() if n not in self.off})
        return plan.make(situation, self.config, on)

    def apply(self, made: Plan | None = None, adapter: Adapter | None = None, **more: Any) -> Applied:
        more.setdefault("write", self.config.connections["crm"].write)
        return apply(made or self.plan(), adapter or self.adapter, self.ledger, **more)

    def sync(self) -> Applied:
        """Recover, pull, plan, apply."""
        recover(self.adapter, self.ledger, "crm")
        self.pull()
        return self.apply()

    # --- What people do ---------------------------------------------------------------------------------------

    def tasks(self) -> dict[str, dict[str, str]]:
        """Return the CRM's task rows by key, as text."""
        file = self.folder / "outbox" / "tasks.csv"
        if not file.exists():
            return {}
        with file.open(newline="", encoding="utf-8") as text:
            return {row["key"]: row for row in csv.DictReader(text)}

    def key_of(self, opportunity: str) -> str:
        """Return the key of the opportunity's newest task."""
        return max(k for k, row in self.tasks().items() if row["opportunity_id"] == opportunity)

    def edit(self, key: str, **values: str) -> None:
        rows = self.tasks()
        rows[key] |= values
        self._save(rows)

    def remove(self, key: str) -> None:
        rows = self.tasks()
        del rows[key]
        self._save(rows)

    def _save(self, rows: dict[str, dict[str, str]]) -> None:
        from pipesync.model import OwnTask

        names = [n for n in OwnTask.model_fields if n != "connection"]
        with (self.folder / "outbox" / "tasks.csv").open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(rows.values())

    def snapshot(self) -> dict[str, str]:
        """Return everything that the CRM holds of ours."""
        tasks, forecasts = self.outbox.read()
        held = (*tasks.items(), *forecasts.items())
        return {key: record.model_dump_json(exclude={"modified_at"}) for key, record in held}


def forecast(**more: Any) -> PeriodForecast:  # Any: fields
    numbers = dict.fromkeys(("p10", "p50", "p90", "mean", "closed", "open", "new"), Decimal(100))
    return PeriodForecast(
        **{
            "connection": "crm", "period_start": date(2026, 10, 1), "period_end": date(2027, 1, 1),
            "currency": "EUR", "model": "m", **numbers, **more,
        }
    )  # fmt: skip


class Flaky:
    """The CRM on a bad line, or in a bad mood: the real adapter, between us and it a fault."""

    def __init__(
        self,
        adapter: Adapter,
        *,
        lose: tuple[str, int] | None = None,
        refuse: Collection[str] = (),
        before_write: Callable[[Sequence[Change]], None] = lambda changes: None,
    ) -> None:
        self._adapter = adapter
        self._lose = lose  # answer or request, and how many go well before it
        self._refuse, self._before = refuse, before_write
        self.writes = 0

    def __getattr__(self, name: str) -> Any:  # Any: whatever the adapter has
        return getattr(self._adapter, name)

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        self._before(changes)
        self.writes += 1
        refused = [c for c in changes if c.opportunity_id in self._refuse]
        for change in refused:
            yield Outcome(
                key=change.key, status="failed", error="its validation rule says no", request_id="q"
            )
        taken = [c for c in changes if c not in refused]
        for some in [[c] for c in taken] if self._lose else [taken]:
            if self._lose == ("request", 0):
                raise RetryLater("the connection was lost")
            outcomes = list(self._adapter.write(some))
            if self._lose == ("answer", 0):
                raise RetryLater("the connection was lost")
            self._lose = self._lose and (self._lose[0], self._lose[1] - 1)
            yield from outcomes


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger: copying one is faster than migrating each."""
    folder = tmp_path_factory.mktemp("template")
    Ledger(f"sqlite:///{folder / 'ledger.db'}").close()
    return folder / "ledger.db"


Worlds = Callable[..., World]


@pytest.fixture
def worlds(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Worlds]:
    """Make worlds; `more` are further lines of their configuration."""
    opened = []
    ruleset = rules.load()

    def make(more: str = "", **fields: Any) -> World:
        folder = tmp_path_factory.mktemp("world")
        (folder / "data").mkdir()
        rows = "".join(f"006{c},1000,2026-01-05T09:00:00Z,,Open\n" for c in "ABC")
        header = "opportunity_id,amount,created_at,closed_at,outcome\n"
        (folder / "data" / "opportunities.csv").write_text(header + rows, encoding="utf-8")
        history = "opportunity_id,stage,entered_at,changed_by\n006A,Qualify,2026-01-05T09:00:00Z,rep\n"
        (folder / "data" / "stage_history.csv").write_text(history, encoding="utf-8")
        shutil.copyfile(template, folder / "ledger.db")
        world = World(folder, from_text(_CONFIG.format(more=more), folder), ruleset, **fields)
        opened.append(world)
        return world

    yield make
    for world in opened:
        world.close()


@pytest.fixture
def world(worlds: Worlds) -> World:
    return worlds()


@pytest.fixture
def a_day() -> timedelta:
    return timedelta(days=1)


@pytest.fixture
def flaky() -> type[Flaky]:
    return Flaky


@pytest.fixture
def foretell() -> Callable[..., PeriodForecast]:
    return forecast
