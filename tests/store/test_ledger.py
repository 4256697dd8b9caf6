"""What the ledger promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
import sqlalchemy as sa

from pipesync.config import Suppression
from pipesync.errors import InputError
from pipesync.model import (
    Call,
    Change,
    OpportunityForecast,
    Outcome,
    PeriodForecast,
    Reason,
    RuleCount,
    StandingFinding,
    TaskFate,
)
from pipesync.store.ledger import LeaseTaken, Ledger

NOW = datetime(2026, 11, 23, 9, 30, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def change(key: str, **more: object) -> Change:
    given = {
        "action": "create",
        "object": "task",
        "reason": Reason(kind="findings", rules=("r",), text="why"),
    }
    return Change.model_validate({"connection": "crm", "key": key, **given, **more})


def standing(subject: str, **more: object) -> StandingFinding:
    given = {"rule": "hygiene.x", "severity": "high", "first_seen": NOW, "last_seen": NOW}
    return StandingFinding.model_validate({"connection": "crm", "subject_id": subject, **given, **more})


# --- Runs -------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(ledger: Ledger) -> None:
    """The last runs come first, and only those of the connection that was asked for."""
    first = ledger.start_run("crm", "apply", NOW, NOW)
    ledger.finish_run(first.id, NOW + MINUTE, "partly", {"applied": 3})
    second = ledger.start_run("crm", "undo", NOW + MINUTE)
    ledger.start_run("other", "apply", NOW + 2 * MINUTE)

    found = ledger.runs("crm")

    assert [r.id for r in found] == [second.id, first.id]
    assert (found[1].status, found[1].finished_at, found[1].detail) == (
        "partly",
        NOW + MINUTE,
        {"applied": 3},
    )
    assert len(ledger.runs(limit=2)) == 2


def test_a_run_that_died_is_closed_by_the_next_of_its_kind(ledger: Ledger) -> None:
    """A killed run does not count as running for ever."""
    dead = ledger.start_run("crm", "apply", NOW)
    elsewhere = ledger.start_run("other", "apply", NOW)

    ledger.start_run("crm", "apply", NOW + MINUTE)

    assert ledger.run(dead.id).status == "failed"
    assert ledger.run(elsewhere.id).status == "running"


def test_an_unknown_run_is_an_input_error(ledger: Ledger) -> None:
    """A mistyped run id is answered with where to look."""
    with pytest.raises(InputError, match="no run 'nonsense'"):
        ledger.run("nonsense")


# --- Findings ---------------------------------------------------------------------------------------------------


def test_findings_come_back_as_they_went_in(ledger: Ledger) -> None:
    """Cents, microseconds and texts survive the database."""
    saved = [
        standing(
            "006A", amount=Decimal("90071992547409.93"), owner_id="u1", message="Ünïcode ☐", headline="h"
        ),
        standing("006B", status="pending", runs=2, clean_runs=1, resolved_at=NOW + MINUTE),
    ]
    ledger.save_findings("crm", saved)

    found = ledger.standing_findings("crm")

    assert sorted(found, key=lambda s: s.subject_id) == saved
    assert ledger.standing_findings("other") == []


def test_a_finding_that_is_not_given_stays(ledger: Ledger) -> None:
    """Saving some findings leaves the others as they were."""
    ledger.save_findings("crm", [standing("006A"), standing("006B")])

    ledger.save_findings("crm", [standing("006A", episode=2)])

    assert {s.subject_id: s.episode for s in ledger.standing_findings("crm")} == {"006A": 2, "006B": 1}


def test_every_episode_of_a_finding_is_kept(ledger: Ledger) -> None:
    """The latest state of a finding overwrites the one before; its episodes add up. Pending is no episode."""
    ledger.save_findings("crm", [standing("006A", status="pending")])
    ledger.save_findings("crm", [standing("006A")])
    ledger.save_findings("crm", [standing("006A", status="resolved", resolved_at=NOW + MINUTE)])
    ledger.save_findings("crm", [standing("006A", episode=2, first_seen=NOW + 2 * MINUTE)])

    found = sorted(ledger.episodes("crm"), key=lambda s: s.episode)

    assert [(s.episode, s.status, s.resolved_at) for s in found] == [
        (1, "resolved", NOW + MINUTE),
        (2, "open", None),
    ]


def test_the_last_count_of_a_rule_is_one_that_did_not_trip(ledger: Ledger) -> None:
    """A count that the breaker stopped is no measure for the next."""

    def count(at: datetime, fired: int, *, tripped: bool) -> RuleCount:
        return RuleCount(rule="r", as_of=at, fired=fired, clear=0, unknown=0, open=10, tripped=tripped)

    ledger.save_counts("crm", "run1", [count(NOW, 1, tripped=False)])
    ledger.save_counts("crm", "run2", [count(NOW + MINUTE, 9, tripped=True)])

    assert ledger.last_counts("crm")["r"].fired == 1
    assert [c.fired for c in ledger.counts("crm")] == [1, 9]
    assert ledger.last_counts("other") == {}


# --- Journal ----------------------------------------------------------------------------------------------------


def test_an_intent_is_unconfirmed_until_it_is_settled(ledger: Ledger) -> None:
    """What was sent and not answered can be asked for, with all that is needed to look it up."""
    run = ledger.start_run("crm", "apply", NOW, NOW)
    planned = [change("k1", after={"due": "2026-11-24", "n": None}, opportunity_id="006"), change("k2")]
    ledger.intend(run, planned, at=NOW, as_of=NOW, basis="b")
    ledger.settle(run.id, [Outcome(key="k2", status="applied", target="T2")], at=NOW + MINUTE)

    waiting = ledger.unconfirmed("crm")

    assert [e.key for e in waiting] == ["k1"]
    assert waiting[0].after == {"due": "2026-11-24", "n": None}
    assert waiting[0].reason == planned[0].reason
    assert (waiting[0].run_kind, waiting[0].basis, waiting[0].as_of) == ("apply", "b", NOW)
    done = ledger.journal("crm")[1]
    assert (done.status, done.target, done.settled_at) == ("applied", "T2", NOW + MINUTE)


def test_settling_concerns_one_run_and_open_intents_only(ledger: Ledger) -> None:
    """The same key in another run, and an outcome that was entered before, stay as they are."""
    first, second = ledger.start_run("crm", "apply", NOW), ledger.start_run("crm", "undo", NOW)
    for run in (first, second):
        ledger.intend(run, [change("k", target="T1")], at=NOW, as_of=NOW)
    ledger.settle(first.id, [Outcome(key="k", status="failed", error="no", request_id="q1")], at=NOW)

    ledger.settle(first.id, [Outcome(key="k", status="applied")], at=NOW + MINUTE)

    assert [(e.run, e.status) for e in ledger.journal("crm")] == [
        (first.id, "failed"),
        (second.id, "intended"),
    ]
    told = ledger.journal_of(first.id)[0]
    assert (told.error, told.request_id, told.target) == ("no", "q1", "T1")


def test_the_journal_is_in_the_order_of_intent(ledger: Ledger) -> None:
    """Numbers grow, over runs and connections."""
    assert ledger.last_entry("crm") == 0
    for name in ("crm", "other", "crm"):
        run = ledger.start_run(name, "apply", NOW)
        ledger.intend(run, [change(f"k{i}") for i in range(3)], at=NOW, as_of=NOW)

    numbers = [e.seq for e in ledger.journal("crm")]

    assert numbers == sorted(numbers)
    assert ledger.last_entry("crm") == numbers[-1]
    assert len(numbers) == 6


def test_threads_write_side_by_side(ledger: Ledger) -> None:
    """Connections that are synced at once lose none of each other's entries."""

    def work(name: str) -> int:
        run = ledger.start_run(name, "apply", NOW)
        for i in range(20):
            ledger.intend(run, [change(f"{name}-{i}")], at=NOW, as_of=NOW)
        return len(ledger.journal(name))

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(work, "abcd"))

    assert counts == [20] * 4


# --- Fates, forecasts, suppressions -----------------------------------------------------------------------------


def test_the_first_fate_of_a_task_stays(ledger: Ledger) -> None:
    """A cooldown counts from when the end was first seen."""
    fate = TaskFate(connection="crm", key="k", rules=("r",), ending="closed", seen_at=NOW)
    ledger.save_fates("crm", [fate])

    ledger.save_fates("crm", [fate.model_copy(update={"ending": "mended", "seen_at": NOW + MINUTE})])

    assert ledger.fates("crm") == [fate]


FORETOLD = PeriodForecast(
    connection="crm", period_start=date(2026, 10, 1), period_end=date(2027, 1, 1), currency="EUR",
    p10=Decimal("1.10"), p50=Decimal("2.20"), p90=Decimal("3.30"), mean=Decimal("2.25"),
    closed=Decimal(0), open=Decimal("1.15"), new=Decimal("1.10"), model="m",
)  # fmt: skip


def test_what_was_issued_is_never_changed(ledger: Ledger) -> None:
    """Each moment's forecast and calls stay; the same moment again changes neither."""
    call = Call(connection="crm", period_start=date(2026, 10, 1), period_end=date(2027, 1, 1), kind="commit",
                amount=Decimal("5.50"))  # fmt: skip
    ledger.issue("run1", NOW, [FORETOLD], calls=[call])
    ledger.issue("run2", NOW, [FORETOLD.model_copy(update={"p50": Decimal("2.50")})],
                 calls=[call.model_copy(update={"amount": Decimal(9)})])  # fmt: skip
    ledger.issue("run3", NOW + MINUTE, [FORETOLD])

    assert ledger.issued("crm") == [(NOW, FORETOLD), (NOW + MINUTE, FORETOLD)]
    assert ledger.issued_calls("crm") == [(NOW, call)]


def test_an_interval_is_kept_and_older_issues_have_that_of_their_quantiles(ledger: Ledger) -> None:
    """What was issued before intervals were kept says P10 to P90."""
    apart = FORETOLD.model_copy(update={"low": Decimal("1.10"), "high": Decimal("2.90")})
    ledger.issue("run1", NOW, [FORETOLD])
    ledger.issue("run2", NOW + MINUTE, [apart])

    assert [one.interval for _, one in ledger.issued("crm")] == [
        (Decimal("1.10"), Decimal("3.30")),
        (Decimal("1.10"), Decimal("2.90")),
    ]


def test_opportunities_are_kept_as_they_were_foretold(ledger: Ledger) -> None:
    """The last issue of a day, for five weeks; of one period, and before the moment that is asked for."""
    for days, chance in ((-40, 0.1), (-2, 0.2), (-1, 0.3), (0, 0.4)):
        said = OpportunityForecast(
            id="x", win_probability=0.9, win_in_period=chance, expected_amount=Decimal("70.50")
        )
        at = NOW + timedelta(days=days)
        ledger.issue("early", at - timedelta(minutes=30), [FORETOLD], opportunities=[said])
        ledger.issue("run", at, [FORETOLD], opportunities=[said])
    period = (date(2026, 10, 1), date(2027, 1, 1))

    def last(before: datetime) -> object:
        return ledger.issued_opportunities("crm", *period, before)

    assert last(NOW) == (NOW - timedelta(days=1), {"x": (0.3, 70.5)})
    assert last(NOW - timedelta(days=1)) == (NOW - timedelta(days=2), {"x": (0.2, 70.5)})
    assert last(NOW - timedelta(days=3)) is None
    assert ledger.issued_opportunities("crm", date(2026, 1, 1), period[1], NOW) is None


def test_suppressions_come_back(ledger: Ledger) -> None:
    """What ops entered is there for the next plan, of its connection alone."""
    entered = Suppression(
        rule="hygiene.x", opportunity="006", until=date(2026, 12, 1), reason="Legal review", by="ops"
    )
    ledger.suppress("crm", entered, NOW)

    assert ledger.suppressions("crm") == [entered]
    assert ledger.suppressions("other") == []


def test_moments_of_any_zone_come_back_as_utc(ledger: Ledger) -> None:
    """A time is one moment, whatever zone it is told in."""
    told = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))

    run = ledger.start_run("crm", "apply", told)

    found = ledger.run(run.id).started_at
    assert found == NOW
    assert found.utcoffset() == timedelta(0)


# --- Leases -----------------------------------------------------------------------------------------------------


def test_one_run_at_a_time_holds_a_connection(ledger: Ledger) -> None:
    """A second run is refused and told by whom; another connection is free, and so is the next run."""
    with (
        ledger.lease("crm", "run1", NOW),
        ledger.lease("other", "run2", NOW),
        pytest.raises(LeaseTaken, match="run1"),
        ledger.lease("crm", "run3", NOW),
    ):
        pass

    with ledger.lease("crm", "run3", NOW):
        ledger.renew_lease("crm", "run3", NOW + MINUTE)


def test_a_lease_expires(ledger: Ledger) -> None:
    """A run that fell silent is overtaken, and finds out before it writes again."""
    with (
        ledger.lease("crm", "slow", NOW, timedelta(minutes=5)),
        ledger.lease("crm", "next", NOW + 6 * MINUTE),
        pytest.raises(LeaseTaken, match="lost its lease"),
    ):
        ledger.renew_lease("crm", "slow", NOW + 6 * MINUTE)


def test_renewing_keeps_others_out(ledger: Ledger) -> None:
    """A long run stays alone as long as it says that it lives."""
    with ledger.lease("crm", "long", NOW, timedelta(minutes=5)):
        ledger.renew_lease("crm", "long", NOW + 4 * MINUTE, timedelta(minutes=5))
        with pytest.raises(LeaseTaken), ledger.lease("crm", "next", NOW + 6 * MINUTE):
            pass


def test_the_lease_of_a_dead_process_is_free_at_once(url: str, ledger: Ledger) -> None:
    """After kill -9 on this machine nobody waits for the expiry."""
    child = os.fork()
    if child == 0:
        taken = Ledger(url).lease("crm", "killed", NOW)
        taken.__enter__()
        os._exit(0)
    os.waitpid(child, 0)

    with ledger.lease("crm", "next", NOW + MINUTE):
        found = ledger.runs()

    assert found == []


def test_the_lease_of_another_machine_holds_until_it_expires(url: str, ledger: Ledger) -> None:
    """Whether a process elsewhere lives cannot be seen from here."""
    with ledger.lease("crm", "elsewhere", NOW, timedelta(minutes=5)):
        driver = url.replace("postgresql:", "postgresql+psycopg:")
        engine = sa.create_engine(driver)
        with engine.begin() as db:
            db.execute(sa.text("UPDATE leases SET holder = 'another-machine 1'"))
        engine.dispose()

        with pytest.raises(LeaseTaken), ledger.lease("crm", "next", NOW + MINUTE):
            pass
        with ledger.lease("crm", "later", NOW + 6 * MINUTE):
            pass
