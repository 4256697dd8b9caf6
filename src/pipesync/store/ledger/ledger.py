"""`Ledger`: the tables behind typed methods."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any, Literal, Self

import sqlalchemy as sa

from pipesync.config import Suppression
from pipesync.errors import InputError, Problem
from pipesync.model import (
    Call,
    Change,
    JournalEntry,
    OpportunityForecast,
    Outcome,
    PeriodForecast,
    Reason,
    RuleCount,
    Run,
    StandingFinding,
    TaskFate,
)
from pipesync.secrecy import redacted
from pipesync.store.ledger import erasing, foretold, leases, rows
from pipesync.store.ledger.database import open_database
from pipesync.store.ledger.tables import (
    episodes,
    findings,
    issued_calls,
    issued_forecasts,
    journal,
    notices,
    rule_evaluations,
    runs,
    suppressions,
    task_fates,
)
from pipesync.store.ledger.tables import leases as lease_table

LEASE = timedelta(minutes=10)
"""How long a silent run keeps others out; `apply` renews its lease with every batch."""


class Ledger:
    """An open ledger. Safe to share between threads; use as a context manager."""

    def __init__(self, url: str) -> None:
        self._engine = open_database(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def told(self) -> str:
        """Name the database, without a password."""
        url = self._engine.url
        return str(url.database) if self._engine.dialect.name == "sqlite" else url.render_as_string()

    def _rows(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:  # Any: columns of any table
        with self._engine.connect().execution_options(reading=True) as connection:
            return list(connection.execute(query))

    # --- Runs -------------------------------------------------------------------------------------------------

    def start_run(
        self,
        connection: str,
        kind: Literal["sync", "apply", "undo"],
        started_at: datetime,
        as_of: datetime | None = None,
    ) -> Run:
        """Enter a new run; its id begins with its start, so that ids sort by time.

        An earlier one of its kind that never ended and holds no lease was killed. Should it be alive after all, it says
        so at its end.
        """
        run = Run(
            connection=connection,
            id=f"{started_at:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            kind=kind,
            started_at=started_at,
            as_of=as_of,
        )
        alive = sa.select(lease_table.c.run).where(lease_table.c.expires_at > started_at)
        earlier = runs.update().where(
            runs.c.connection == connection,
            runs.c.kind == kind,
            runs.c.status == "running",
            runs.c.id.not_in(alive),
        )
        with self._engine.begin() as transaction:
            transaction.execute(earlier.values(status="failed", detail=leases.UNSAID))
            transaction.execute(runs.insert().values(rows.values(run)))
        return run

    def finish_run(
        self,
        run: str,
        finished_at: datetime,
        status: Literal["done", "partly", "failed"] = "done",
        detail: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> None:
        values = {"finished_at": finished_at, "status": status, "detail": redacted(detail or {})}
        with self._engine.begin() as transaction:
            transaction.execute(runs.update().where(runs.c.id == run).values(values))

    def run(self, run: str) -> Run:
        """Return a run; InputError where there is none of that id."""
        found = self._rows(sa.select(runs).where(runs.c.id == run))
        if not found:
            raise InputError(Problem(f"no run {run!r}", fix="`pipesync status` lists the last runs"))
        return rows.record(Run, found[0])

    def runs(self, connection: str | None = None, limit: int = 20) -> list[Run]:
        """Return the last runs, the newest first."""
        query = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit)
        if connection is not None:
            query = query.where(runs.c.connection == connection)
        return [rows.record(Run, row) for row in self._rows(query)]

    # --- Findings ---------------------------------------------------------------------------------------------

    def standing_findings(self, connection: str) -> list[StandingFinding]:
        """Return every finding that the connection ever had, in its latest episode."""
        found = self._rows(sa.select(findings).where(findings.c.connection == connection))
        return [rows.record(StandingFinding, row) for row in found]

    def save_findings(self, connection: str, standing: Iterable[StandingFinding]) -> None:
        """Enter what became of the findings in a run; those that are not given stay as they were."""
        before = {_subject(s): s for s in self.standing_findings(connection)}
        changed = [s for s in standing if before.get(_subject(s)) != s]
        opened = [
            s for s in changed if s.status != "pending" and not _never_opened(s, before.get(_subject(s)))
        ]
        with self._engine.begin() as transaction:
            rows.replace(transaction, findings, [rows.values(s) for s in changed])
            names = [c.name for c in episodes.c]
            rows.replace(transaction, episodes, [{n: rows.values(s)[n] for n in names} for s in opened])

    def episodes(self, connection: str) -> list[StandingFinding]:
        """Return every episode that ever opened, as findings without their texts."""
        found = self._rows(sa.select(episodes).where(episodes.c.connection == connection))
        return [
            StandingFinding.model_construct(
                **{**row._mapping, "last_seen": row.resolved_at or row.first_seen},
                status="resolved" if row.resolved_at else "open",
            )
            for row in found
        ]

    def save_counts(self, connection: str, run: str, counts: Iterable[RuleCount]) -> None:
        """Enter what each rule said in a run."""
        lines = [{**rows.values(c), "connection": connection, "run": run} for c in counts]
        with self._engine.begin() as transaction:
            rows.replace(transaction, rule_evaluations, lines)

    def counts(self, connection: str) -> list[RuleCount]:
        """Return what the rules said in every run, the oldest first."""
        table = rule_evaluations
        query = sa.select(table).where(table.c.connection == connection).order_by(table.c.as_of, table.c.run)
        return [rows.record(RuleCount, row) for row in self._rows(query)]

    def last_counts(self, connection: str) -> dict[str, RuleCount]:
        """Return for each rule its last count in which the breaker did not trip."""
        return {c.rule: c for c in self.counts(connection) if not c.tripped}

    # --- Journal ----------------------------------------------------------------------------------------------

    def intend(
        self, run: Run, changes: Sequence[Change], *, at: datetime, as_of: datetime, basis: str = ""
    ) -> None:
        """Enter what is about to be sent; nothing may be sent before this returns."""
        lines = [
            {
                **{c.name: getattr(change, c.name) for c in journal.c if c.name in Change.model_fields},
                "connection": run.connection,
                "run": run.id,
                "run_kind": run.kind,
                "reason": change.reason.model_dump(mode="json"),
                "as_of": as_of,
                "basis": basis,
                "status": "intended",
                "intended_at": at,
                "error": "",
                "request_id": "",
            }
            for change in changes
        ]
        if lines:
            with self._engine.begin() as transaction:
                transaction.execute(journal.insert(), lines)

    def settle(self, run: str, outcomes: Iterable[Outcome], *, at: datetime) -> None:
        """Enter what became of a run's intents, by their keys."""
        lines = [
            {
                "b_key": o.key,
                "status": o.status,
                "target": o.target,
                "error": redacted(o.error),
                "request_id": o.request_id,
                "settled_at": at,
            }
            for o in outcomes
        ]
        if not lines:
            return
        statement = (
            journal.update()
            .where(
                journal.c.run == run,
                journal.c.key == sa.bindparam("b_key"),
                journal.c.status == "intended",
            )
            .values(target=sa.func.coalesce(sa.bindparam("target", type_=sa.String), journal.c.target))
        )
        with self._engine.begin() as transaction:
            transaction.execute(statement, lines)

    def journal(self, connection: str) -> list[JournalEntry]:
        """Return every write ever intended, in the order of intent."""
        return self._journal(journal.c.connection == connection)

    def applied_since(self, connection: str, at: datetime) -> list[JournalEntry]:
        """Return what was written since."""
        return self._journal(
            journal.c.connection == connection, journal.c.status == "applied", journal.c.settled_at > at
        )

    def journal_of(self, run: str) -> list[JournalEntry]:
        return self._journal(journal.c.run == run)

    def unconfirmed(self, connection: str) -> list[JournalEntry]:
        """Return the intents whose outcome is not known."""
        return self._journal(journal.c.connection == connection, journal.c.status == "intended")

    def _journal(self, *where: sa.ColumnElement[bool]) -> list[JournalEntry]:
        found, names = [], [c.name for c in journal.c]
        for row in self._rows(sa.select(journal).where(*where).order_by(journal.c.seq)):
            values = dict(zip(names, row, strict=True))
            values["reason"] = Reason(**values["reason"])
            found.append(JournalEntry.model_construct(**values))
        return found

    def last_entry(self, connection: str) -> int:
        """Return the number of the journal's last entry; 0 before the first."""
        query = sa.select(sa.func.max(journal.c.seq)).where(journal.c.connection == connection)
        return int(self._rows(query)[0][0] or 0)

    # --- Tasks' ends, forecasts, suppressions -----------------------------------------------------------------

    def save_fates(self, connection: str, fates: Iterable[TaskFate]) -> None:
        """Enter how tasks ended; the first that was seen of a task stays."""
        known = {f.key for f in self.fates(connection)}
        lines = [
            {**rows.values(f), "connection": connection, "rules": list(f.rules)}
            for f in fates
            if f.key not in known
        ]
        with self._engine.begin() as transaction:
            rows.replace(transaction, task_fates, lines)

    def fates(self, connection: str) -> list[TaskFate]:
        found = self._rows(sa.select(task_fates).where(task_fates.c.connection == connection))
        return [TaskFate.model_construct(**{**row._mapping, "rules": tuple(row.rules)}) for row in found]

    def issue(
        self,
        run: str,
        as_of: datetime,
        forecasts: Iterable[PeriodForecast],
        *,
        calls: Iterable[Call] = (),
        opportunities: Iterable[OpportunityForecast] = (),
    ) -> None:
        """Keep what was foretold and what people said, so that both can be held against what came.

        What was issued as of a moment is never changed: a repeat as of the same moment is not entered. Of single
        opportunities the last issue of each of the last 35 days is kept.
        """
        with self._engine.begin() as transaction:
            foretold.enter(transaction, run, as_of, list(forecasts), calls, opportunities)

    def issued(self, connection: str) -> list[tuple[datetime, PeriodForecast]]:
        """Return (as of, forecast), the oldest first."""
        table = issued_forecasts
        query = sa.select(table).where(table.c.connection == connection).order_by(table.c.as_of)
        return [(row.as_of, rows.record(PeriodForecast, row)) for row in self._rows(query)]

    def issued_calls(self, connection: str) -> list[tuple[datetime, Call]]:
        """Return (as of, call), the oldest first."""
        table = issued_calls
        query = sa.select(table).where(table.c.connection == connection).order_by(table.c.as_of)
        return [(row.as_of, rows.record(Call, row)) for row in self._rows(query)]

    def issued_opportunities(
        self, connection: str, period_start: date, period_end: date, before: datetime
    ) -> tuple[datetime, dict[str, tuple[float, float]]] | None:
        """Return the last issue before a moment: as of when, and by id the probability in the period and the amount."""
        for row in self._rows(foretold.last_of_opportunities(connection, period_start, period_end, before)):
            return row.as_of, {name: (float(p), float(amount)) for name, (p, amount) in row.document.items()}
        return None

    def suppress(self, connection: str, suppression: Suppression, at: datetime) -> int:
        """Enter a suppression; return its number, by which `end_suppression` finds it."""
        values = {
            "connection": connection,
            "rule": suppression.rule,
            "opportunity_id": suppression.opportunity,
            "owner_id": suppression.owner,
            "until": suppression.until,
            "reason": suppression.reason,
            "by": suppression.by,
            "created_at": at,
        }
        with self._engine.begin() as transaction:
            done = transaction.execute(suppressions.insert().values(values))
        return int(done.inserted_primary_key[0])  # type: ignore[index]  # an insert of one row has one

    def end_suppression(self, connection: str, number: int, at: datetime) -> None:
        """End one before its day; InputError where there is none of that number that still holds."""
        table = suppressions
        is_it = sa.and_(table.c.connection == connection, table.c.id == number, table.c.ended_at.is_(None))
        with self._engine.begin() as transaction:
            done = transaction.execute(table.update().where(is_it).values(ended_at=at))
        if not done.rowcount:
            fix = "`pipesync suppressions list` shows those that can be ended"
            raise InputError(Problem(f"no suppression {number} of {connection!r}", fix=fix))

    def suppressions(self, connection: str) -> list[Suppression]:
        """Return all that were ever entered and not ended early, the expired ones too."""
        return list(self.numbered_suppressions(connection).values())

    def numbered_suppressions(self, connection: str) -> dict[int, Suppression]:
        table = suppressions
        query = sa.select(table).where(table.c.connection == connection, table.c.ended_at.is_(None))
        return {
            row.id: Suppression(
                rule=row.rule,
                opportunity=row.opportunity_id,
                owner=row.owner_id,
                until=row.until,
                reason=row.reason,
                by=row.by,
            )
            for row in self._rows(query.order_by(table.c.id))
        }

    # --- Notices ----------------------------------------------------------------------------------------------

    def notice(self, connection: str, kind: str, recipient: str, period: str, at: datetime) -> None:
        """Enter that somebody was told something."""
        values = {
            "connection": connection,
            "kind": kind,
            "recipient": recipient,
            "period": period,
            "sent_at": at,
        }
        with self._engine.begin() as transaction:
            rows.replace(transaction, notices, [values])

    def noticed(self, connection: str, kind: str, period: str) -> set[str]:
        """Return who was told."""
        same = (notices.c.connection == connection, notices.c.kind == kind, notices.c.period == period)
        return {row.recipient for row in self._rows(sa.select(notices).where(*same))}

    # --- Erasing ----------------------------------------------------------------------------------------------

    def prune(self, connection: str, before: datetime) -> dict[str, int]:
        """Delete what ended before a moment; return rows by table."""
        with self._engine.begin() as transaction:
            return erasing.prune(transaction, connection, before)

    def rewrite(self, connection: str, person: erasing.Person) -> dict[str, int]:
        """Put a pseudonym in a person's place; return rows changed by table."""
        with self._engine.begin() as transaction:
            return erasing.rewrite(transaction, connection, person)

    def vacuum(self) -> None:
        """Let no deleted or rewritten row remain in the database's file."""
        if (
            self._engine.dialect.name == "sqlite"
        ):  # under SQLAlchemy there is always a transaction, and VACUUM wants none
            raw = self._engine.raw_connection()
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                raw.cursor().execute(statement)
            raw.close()
        else:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM FULL")

    # --- Leases -----------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, connection: str, run: str, now: datetime, ttl: timedelta = LEASE) -> Iterator[None]:
        """Be the only one to work on a connection; LeaseTaken where another run is. See `leases`."""
        with self._engine.begin() as transaction:
            is_new = leases.take(transaction, connection, run, now, ttl)
        try:
            yield
        finally:
            if is_new:
                with self._engine.begin() as transaction:
                    leases.release(transaction, connection, run)

    def renew_lease(self, connection: str, run: str, now: datetime, ttl: timedelta = LEASE) -> None:
        with self._engine.begin() as transaction:
            leases.renew(transaction, connection, run, now, ttl)


def _never_opened(now: StandingFinding, then: StandingFinding | None) -> bool:
    """Whether a finding ended while it was pending: that was no episode."""
    return now.is_over and then is not None and then.status == "pending"


def _subject(standing: StandingFinding) -> tuple[str, str, str]:
    return standing.rule, standing.level, standing.subject_id
