"""Pulling: everything arrives once, whatever interrupts it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipesync.adapters.base import Check, Installed, Page, Reject, Seen, SiteField
from pipesync.errors import BudgetSpent, CrmError, PermissionMissing, RetryLater
from pipesync.model import Change, ColumnState, Connection, Outcome, OwnForecast, OwnTask
from pipesync.pull import pull
from pipesync.schema import schema, table
from pipesync.store.warehouse import Warehouse

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
Row = dict[str, Any]  # Any: columns' values


@dataclass
class Crm:
    """Streams as lists that only grow; a cursor is how many rows of a list were read."""

    rows: dict[str, list[Row]]
    now: datetime = START
    page: int = 3
    refusals: dict[str, CrmError] = field(default_factory=dict)
    """Raised by a stream after its first page."""
    forbidden: frozenset[str] = frozenset()
    pause: float = 0.0

    @property
    def streams(self) -> Sequence[str]:
        return list(self.rows)

    @property
    def budget(self) -> tuple[int, int] | None:
        return None

    def connection(self) -> Connection:
        return Connection(connection="crm", adapter="files", currency="EUR")

    def clock(self) -> datetime:
        return self.now

    def columns(self) -> Sequence[ColumnState]:
        return [
            ColumnState(connection="crm", stream=s, column=c, state="known")
            for s in self.rows
            for c in schema(s).names
        ]

    def pull(self, stream: str, cursor: str | None, until: datetime) -> Iterator[Page]:
        if stream in self.forbidden:
            raise PermissionMissing(f"{stream} is not for this user")
        rows, at = self.rows[stream], int(cursor or 0)
        while True:
            part = rows[at : at + self.page]
            at += len(part)
            rejects = (Reject("row 1", "not a row"),) if at == self.page else ()
            yield Page(
                stream, table(stream, part), str(at), requests=1, rejects=rejects, last=at >= len(rows)
            )
            if stream in self.refusals:
                raise self.refusals[stream]
            if at >= len(rows):
                return
            time.sleep(self.pause)

    def own(
        self, keys: Collection[str], opportunity_ids: Collection[str]
    ) -> tuple[Sequence[OwnTask], Sequence[OwnForecast]]:
        return (), ()

    def see(self, opportunity_ids: Collection[str]) -> Mapping[str, Seen]:
        return {}

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        return iter(())

    def site_fields(self) -> Sequence[SiteField]:
        return ()

    def checks(self) -> Iterator[Check]:
        return iter(())

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        return ()

    def close(self) -> None:
        pass


def crm(n: int = 8, **given: Any) -> Crm:
    opportunities = [{"id": f"o{i}", "name": f"Name {i}", "created_at": START} for i in range(n)]
    accounts = [{"id": f"a{i}", "name": f"Account {i}"} for i in range(n)]
    return Crm({"opportunities": opportunities, "accounts": accounts}, **given)


def ids(warehouse: Warehouse, stream: str) -> list[str]:
    return [i for (i,) in warehouse.rows(f'SELECT id FROM "{stream}" ORDER BY id')]


def test_a_pull_brings_every_row_and_moves_the_watermark() -> None:
    """All streams reach one moment, the CRM's at the start, and the counts say what came."""
    seen: list[tuple[str, int]] = []
    with Warehouse() as warehouse:
        found = pull(crm(), warehouse, progress=lambda *step: seen.append(step))

        assert ids(warehouse, "opportunities") == [f"o{i}" for i in range(8)]
        assert warehouse.watermark("crm") == START
    one = found["opportunities"]
    assert (one.pulled, one.changed, one.requests, one.rejected) == (8, 8, 3, 1)
    assert seen == [(s, n) for s in ("opportunities", "accounts") for n in (3, 6, 8)]


def test_a_second_pull_brings_only_what_is_new() -> None:
    """From the cursor on, to a later watermark."""
    source = crm()
    with Warehouse() as warehouse:
        pull(source, warehouse)
        source.rows["accounts"].append({"id": "a8", "name": "New"})
        source.now += timedelta(hours=1)

        found = pull(source, warehouse)

        assert (found["accounts"].pulled, found["opportunities"].pulled) == (1, 0)
        assert warehouse.watermark("crm") == START + timedelta(hours=1)


def test_a_full_pull_reads_all_again_and_changes_nothing() -> None:
    """Checkpoints are forgotten, rows are not doubled."""
    source = crm()
    with Warehouse() as warehouse:
        pull(source, warehouse)

        found = pull(source, warehouse, full=True)

        assert (found["accounts"].pulled, found["accounts"].changed) == (8, 0)
        assert len(ids(warehouse, "accounts")) == 8


def test_a_forbidden_stream_is_unknown_and_stops_no_other() -> None:
    """Its columns cannot be read, and the watermark does not wait for it, now or when it was readable before."""
    source = crm(forbidden=frozenset({"opportunities"}))
    for was_readable in (False, True):
        with Warehouse() as warehouse:
            if was_readable:
                pull(crm(now=START - timedelta(days=1)), warehouse)

            found = pull(source, warehouse)

            states = {s.column: s.state for s in warehouse.columns("crm") if s.stream == "opportunities"}
            assert set(states.values()) == {"unreadable"}
            assert "not for this user" in found["opportunities"].warnings[0]
            assert len(ids(warehouse, "accounts")) == 8
            assert warehouse.watermark("crm") == START

            pull(source, warehouse, streams=("accounts",))
            assert {s.state for s in warehouse.columns("crm") if s.stream == "opportunities"} == {
                "unreadable"
            }


def test_a_spent_budget_stops_cleanly_and_the_next_run_goes_on() -> None:
    """The watermark waits for every stream that was to come; nothing is read twice."""
    source = crm(refusals={"opportunities": BudgetSpent("used up")})
    with Warehouse() as warehouse:
        stopped = pull(source, warehouse)

        assert list(stopped) == ["opportunities"]
        assert stopped["opportunities"].warnings == ("used up",)
        assert warehouse.watermark("crm") is None
        source.refusals.clear()

        went_on = pull(source, warehouse)

        assert went_on["opportunities"].pulled == 5
        assert warehouse.watermark("crm") == START


def test_a_stream_that_is_gone_does_not_hold_the_watermark() -> None:
    """A source that is no longer mapped is no longer waited for."""
    source = crm()
    with Warehouse() as warehouse:
        pull(source, warehouse)
        del source.rows["accounts"]
        source.now += timedelta(days=1)

        pull(source, warehouse)

        assert warehouse.watermark("crm") == START + timedelta(days=1)


def test_of_a_stream_that_is_gone_nothing_is_known() -> None:
    """What is not read any more is not taken for read, and late: a plan would wait for it for ever."""
    source = crm()
    with Warehouse() as warehouse:
        pull(source, warehouse)
        del source.rows["accounts"]

        pull(source, warehouse)

        assert {c.stream for c in warehouse.columns("crm")} == {"opportunities"}


def test_another_refusal_is_raised_and_keeps_what_was_committed() -> None:
    """The caller decides about an outage; the pages before it stay."""
    source = crm(refusals={"accounts": RetryLater("busy")})
    with Warehouse() as warehouse:
        with pytest.raises(RetryLater):
            pull(source, warehouse)

        assert len(ids(warehouse, "opportunities")) == 8
        assert len(ids(warehouse, "accounts")) == 3
        assert warehouse.watermark("crm") is None


def test_where_children_cannot_be_asked_for_their_stream_is_read_anew() -> None:
    """An opportunity that appears late and is older than the stream's cursor has its children in what was read."""
    made = {"kind": "call", "at": START}
    source = crm(2)
    source.rows["activities"] = [{"id": f"x{i}", "opportunity_id": f"o{i}", **made} for i in range(5)]
    late = {"id": "o4", "name": "Late", "created_at": START - timedelta(days=9)}
    with Warehouse() as warehouse:
        pull(source, warehouse)
        warehouse.execute("DELETE FROM activities WHERE opportunity_id = 'o4'")
        source.rows["opportunities"].append(late)
        source.now += timedelta(hours=1)

        found = [pull(source, warehouse)["activities"].pulled for _ in range(2)]

        assert found == [5, 0]
        assert ids(warehouse, "activities") == [f"x{i}" for i in range(5)]


def in_a_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


@pytest.mark.parametrize("seed", range(4))
def test_a_pull_that_is_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    """After kill -9 at a random moment the next pull ends with exactly the CRM's rows."""
    path = tmp_path / "warehouse.duckdb"
    rng = np.random.default_rng(seed)
    source = crm(24, pause=0.002)

    def work() -> None:
        with Warehouse(path) as warehouse:
            pull(source, warehouse)

    for _ in range(2):
        child = in_a_child(work)
        time.sleep(float(rng.uniform(0.02, 0.5)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with Warehouse(path) as warehouse:
        pull(source, warehouse)

        for stream in ("opportunities", "accounts"):
            assert ids(warehouse, stream) == sorted(r["id"] for r in source.rows[stream])
        assert warehouse.watermark("crm") == START
