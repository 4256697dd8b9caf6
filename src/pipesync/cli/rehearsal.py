"""What the demo does: one cycle, the same again, a day later, and after one opportunity was mended.

A `World` is where the opportunities live and where someone plays the rep who mends one.
"""

from __future__ import annotations

import csv
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipesync import connections, steps, sync
from pipesync.cli.opening import reading_from
from pipesync.cli.options import Source
from pipesync.config import Config, load
from pipesync.errors import InputError, Place, Problem
from pipesync.report import documents
from pipesync.rules.examination import load_rules

if TYPE_CHECKING:
    from pipesync.adapters.base import Pulled
    from pipesync.analysis.bottlenecks import Bottlenecks
    from pipesync.apply import Applied
    from pipesync.forecast import Forecast
    from pipesync.model import Finding, Plan
    from pipesync.rules import Evaluation
    from pipesync.sandbox.process import Sandbox


class World(Protocol):
    crm: str

    @property
    def connection(self) -> str: ...

    def settings(self) -> str:
        """Return the connection's keys as YAML, indented by four."""
        ...

    def edit(self, opportunity_id: str, values: Mapping[str, str]) -> None:
        """Change fields of an opportunity, by their normalized names, as a person would in the CRM."""
        ...


@dataclass
class Folder:
    """A dataset folder below the working folder."""

    data: Path
    crm: str = "files"
    connection: str = "files"

    @classmethod
    def generated(cls, work: Path, opportunities: int, seed: int) -> Folder:
        from pipesync.sandbox.company import generate

        generate(work / "exports", opportunities=opportunities, seed=seed)
        return cls(work / "exports")

    @classmethod
    def copied(cls, work: Path, data: Path, mapping: Path | None) -> Folder:
        shutil.copytree(data, work / "exports")
        if mapping:
            shutil.copyfile(mapping, work / "exports" / "mapping.yaml")
        return cls(work / "exports")

    def settings(self) -> str:
        return "    adapter: files\n    data: exports\n    outbox: outbox\n"

    def edit(self, opportunity_id: str, values: Mapping[str, str]) -> None:
        from pipesync._paths import shipped
        from pipesync.mapping import load as load_mapping

        own = self.data / "mapping.yaml"
        path = own if own.exists() else shipped("adapters") / "files" / "mapping.yaml"
        fields = load_mapping(path, base="pipesync:files").streams["opportunities"].fields
        names = {name: fields[name].field for name in ("id", *values)}
        words = {
            fields[name].field: next((k for k, v in fields[name].values.items() if v == value), value)
            for name, value in values.items()
        }
        file = self.data / "opportunities.csv"
        if not file.exists():
            raise InputError(Problem("the demo mends an opportunity in CSV only", Place(str(self.data))))
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            columns, rows = list(reader.fieldnames or ()), list(reader)
        columns += [c for c in words if c not in columns]
        for row in rows:
            if row[names["id"]] == opportunity_id:
                row.update(words)
        with file.open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


@dataclass
class Crm:
    """A stand-in CRM, spoken to over its real protocol."""

    sandbox: Sandbox
    crm: str
    work: Path

    @property
    def connection(self) -> str:
        return self.crm

    def settings(self) -> str:
        return textwrap.indent(self.sandbox.settings_text(self.crm, self.work), "    ")

    def edit(self, opportunity_id: str, values: Mapping[str, str]) -> None:
        self.sandbox.edit(self.crm, opportunity_id, values)


def write_configuration(work: Path, worlds: Sequence[World]) -> Config:
    """Write the demo's pipesync.yaml, which may write whatever is planned, and read it."""
    parts = [
        "version: 1\nmode: enforce   # the demo writes; a new connection of yours only observes\n"
        "guard: {first_apply: 1000000}   # and writes everything at once\nconnections:\n"
    ]
    for world in worlds:
        parts.append(f"  {world.connection}:\n{world.settings()}")
        parts.append("    write: {enabled: true, tasks: true, forecasts: true}\n")
    file = work / "pipesync.yaml"
    file.write_text("".join(parts), encoding="utf-8")
    return load(file)


@dataclass(frozen=True)
class Rehearsal:
    """What happened, step by step."""

    world: World
    owners: Mapping[str, str]
    """Names by id."""
    as_of: datetime
    pulled: Mapping[str, Pulled]
    evaluation: Evaluation
    bottlenecks: Bottlenecks
    forecast: Forecast
    first: Plan
    applied: Applied
    second: Plan
    later: Plan
    by_time: tuple[Finding, ...]
    """Findings that are new, or gone, in the plan a day later: nothing but time passed."""
    unexplained: tuple[str, ...]
    """Keys of changes a day later that no such finding explains; there should be none."""
    mended: Finding | None
    how: str
    third: Plan
    tasks: tuple[int, int]
    """Open tasks of ours in the CRM before and after the mending."""

    def entry(self) -> documents.Entry:
        """Return the entry for programs; what DESIGN calls counts are numbers."""
        third = Counter(f"{c.object}.{c.action}" for c in self.third.changes)
        return {
            "crm": self.world.crm,
            "as_of": self.as_of,
            "pulled": {name: p.pulled for name, p in self.pulled.items()},
            "findings": len(self.evaluation.findings),
            "findings_by_rule": {r.id: r.fired for r in self.evaluation.rules},
            "score": self.evaluation.score,
            "bottlenecks": documents.bottlenecks(self.bottlenecks, self.as_of)["ranked"],
            "forecast": documents.forecast(self.forecast, self.as_of)["total"],
            "first_plan": {"changes": len(self.first.changes), "counts": documents.counts(self.first)},
            "applied": {"applied": self.applied.applied, "failed": len(self.applied.failed)},
            "second_plan": {"changes": len(self.second.changes)},
            "next_day_plan": {
                "changes": len(self.later.changes),
                "made_by_time": [{"rule": f.rule, "opportunity_id": f.opportunity_id} for f in self.by_time],
                "unexplained": list(self.unexplained),
            },
            "mended": {
                "opportunity_id": self.mended.opportunity_id if self.mended else None,
                "rule": self.mended.rule if self.mended else None,
                "how": self.how,
                "changes": dict(third),
                "tasks_before": self.tasks[0],
                "tasks_after": self.tasks[1],
            },
        }


def rehearse(
    config: Config, worlds: Sequence[World], tell: Callable[[str], None] = lambda crm: None
) -> list[Rehearsal]:
    """Walk every world through it all; a refusal on the way is the connection's own error, raised.

    CRMs in one sandbox share its clock, and a person's edit moves it: so people mend only when every world has had its
    first cycle, and all of them speak of one moment.
    """
    return [_mended(config, begun) for begun in [_begin(config, world, tell) for world in worlds]]


@dataclass(frozen=True)
class _Begun:
    """A world after its first cycle, with the plans made from what that left."""

    world: World
    first: sync.Cycle
    second: Plan
    later: Plan
    tasks: int


def _begin(config: Config, world: World, tell: Callable[[str], None]) -> _Begun:
    tell(world.crm)
    name = world.connection
    first = _cycle(config, name)
    connections.pull_all(config, [name])
    second, tasks = _plan(config, name)
    later, _ = _plan(config, name, first.as_of + timedelta(days=1))
    return _Begun(world, first, second, later, tasks)


def _mended(config: Config, begun: _Begun) -> Rehearsal:
    """Play the rep who mends one opportunity, and see which task goes."""
    world, first, second, later = begun.world, begun.first, begun.second, begun.later
    name = world.connection
    by_time = _differing(second.findings, later.findings)
    touched = {f.opportunity_id for f in by_time}
    rules = {f.rule for f in by_time if f.opportunity_id is None}
    unexplained = [
        c.key
        for c in later.changes
        if c.opportunity_id not in touched and not rules.intersection(c.reason.rules)
    ]
    mended = _choose(second)
    values, how = _mend(mended.rule, first.as_of) if mended else ({}, "nothing to mend")
    if mended:
        world.edit(mended.subject_id, values)
    third = _cycle(config, name)
    connections.pull_all(config, [name])
    _, after = _plan(config, name)
    assert first.applied  # noqa: S101  # this configuration enforces
    prepared = first.prepared
    return Rehearsal(
        world=world,
        owners=_owners(config, name),
        as_of=first.as_of,
        pulled=first.pulled,
        evaluation=prepared.examined.evaluation,
        bottlenecks=first.bottlenecks,
        forecast=prepared.forecast,
        first=prepared.plan,
        applied=first.applied,
        second=second,
        later=later,
        by_time=by_time,
        unexplained=tuple(unexplained),
        mended=mended,
        how=how,
        third=third.prepared.plan,
        tasks=(begun.tasks, after),
    )


def _cycle(config: Config, name: str) -> sync.Cycle:
    done = sync.sync_all(config, [name])[name]
    if isinstance(done, Exception):
        raise done
    return done


def _owners(config: Config, name: str) -> dict[str, str]:
    with reading_from(Source(config.folder / "pipesync.yaml", (name,))) as opened:
        return opened.owners(name)


def _plan(config: Config, name: str, as_of: datetime | None = None) -> tuple[Plan, int]:
    """Return the plan from the published warehouse, and how many open tasks of ours the CRM had when it was pulled."""
    with reading_from(Source(config.folder / "pipesync.yaml", (name,))) as opened:
        ruleset = load_rules(config)
        made = steps.prepare(
            opened.warehouse, name, config, ruleset, as_of or opened.as_of(name), opened.ledger
        ).plan
        tasks = opened.warehouse.rows(
            "SELECT count(*) FROM own_tasks WHERE connection = ? AND NOT is_done", [name]
        )
    return made, int(tasks[0][0])


def _differing(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that only one side has."""
    here, there = ({(f.rule, f.subject_id): f for f in side} for side in (before, after))
    return tuple(f for key, f in sorted((here | there).items()) if (key in here) != (key in there))


_MENDS = ("hygiene.no_next_step", "hygiene.close_date_past", "hygiene.amount_missing")


def _choose(made: Plan) -> Finding | None:
    """Pick an opportunity that is easily mended: one finding only, of a rule that a single field answers."""
    by_opportunity: dict[str, list[Finding]] = {}
    for finding in made.findings:
        if finding.opportunity_id and finding.headline:
            by_opportunity.setdefault(finding.opportunity_id, []).append(finding)
    alone = [found[0] for found in by_opportunity.values() if len(found) == 1]
    order = {rule: i for i, rule in enumerate(_MENDS)}
    return min(
        alone, key=lambda f: (order.get(f.rule, len(order)), f.amount or 0, f.subject_id), default=None
    )


def _mend(rule: str, as_of: datetime) -> tuple[dict[str, str], str]:
    """Return the edit that answers a rule, and its description; where no field does, the opportunity is closed."""
    in_a_month = (as_of + timedelta(days=30)).date().isoformat()
    edits = {
        "hygiene.no_next_step": ({"next_step": "Agree on the review date"}, "wrote down a next step"),
        "hygiene.close_date_past": ({"close_date": in_a_month}, f"moved the close date to {in_a_month}"),
        "hygiene.amount_missing": ({"amount": "25000"}, "filled in the amount"),
    }
    closed = {"outcome": "Closed Lost", "closed_at": as_of.isoformat()}
    return edits.get(rule, (closed, "closed it as lost"))
