"""Two processes that work on one ledger for a long time leave it as one that worked alone would."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pipesync.model import Change, Outcome, Reason, StandingFinding
from pipesync.store.ledger import LeaseTaken, Ledger

pytestmark = pytest.mark.thorough

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
CONNECTIONS = ("a", "b")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pipesync.store.ledger"])


def work(url: str, worker: int, runs: int) -> None:
    """Do runs on either connection: take the lease, intend, settle, enter a finding; a taken lease is a failed run."""
    chance = random.Random(worker)  # noqa: S311  # seeded on purpose
    with Ledger(url) as ledger:
        for number in range(runs):
            name, at = chance.choice(CONNECTIONS), datetime.now(UTC)
            run = ledger.start_run(name, "apply", at)
            key = f"{worker}-{number}"
            try:
                with ledger.lease(name, run.id, at):
                    reason = Reason(kind="findings", text="why")
                    change = Change(connection=name, key=key, action="create", object="task", reason=reason)
                    before = ledger.last_entry(name)
                    ledger.intend(run, [change], at=at, as_of=NOW)
                    assert ledger.last_entry(name) > before
                    ledger.settle(run.id, [Outcome(key=key, status="applied", target=key)], at=at)
                    subject = StandingFinding(
                        connection=name, rule="r", subject_id=str(number % 20), severity="low", message=key,
                        first_seen=NOW, last_seen=NOW + timedelta(seconds=number),
                    )  # fmt: skip
                    ledger.save_findings(name, [subject])
                ledger.finish_run(run.id, at, "done", {"key": key})
            except LeaseTaken:
                ledger.finish_run(run.id, at, "failed", {"key": key})


def interleave(url: str, runs: int) -> None:
    """Two processes, half of the runs each; then what the ledger says of itself must agree."""
    Ledger(url).close()
    processes = [_context.Process(target=work, args=(url, worker, runs // 2)) for worker in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [p.exitcode for p in processes] == [0, 0]
    with Ledger(url) as ledger:
        found = [run for name in CONNECTIONS for run in ledger.runs(name, limit=runs)]
        journal = [entry for name in CONNECTIONS for entry in ledger.journal(name)]
        standing = {(name, s.subject_id) for name in CONNECTIONS for s in ledger.standing_findings(name)}
        episodes = {(name, e.subject_id) for name in CONNECTIONS for e in ledger.episodes(name)}
        assert not any(ledger.unconfirmed(name) for name in CONNECTIONS)
        with ledger.lease("a", "after", NOW), ledger.lease("b", "after", NOW):
            pass
    done = [run for run in found if run.status == "done"]
    assert len(found) == runs
    assert {run.status for run in found} <= {"done", "failed"}
    assert Counter(entry.key for entry in journal) == Counter(str(run.detail["key"]) for run in done)
    assert {entry.run for entry in journal} == {run.id for run in done}
    assert len({entry.seq for entry in journal}) == len(journal)
    assert standing == episodes


def test_two_workers_leave_a_consistent_ledger(url: str) -> None:
    """Each write stands in exactly one run that ended well; no lease is left; findings and episodes agree."""
    interleave(url, 60)


@pytest.mark.campaign
def test_a_thousand_interleaved_runs(url: str) -> None:
    """The same, a thousand runs."""
    interleave(url, 1000)
