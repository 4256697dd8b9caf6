"""Bring a CRM's records into the warehouse: stream by stream, page by page, each page with its cursor.

All streams of a pull are read up to one moment, the CRM's own time at its start, which becomes the watermark once
every stream has reached it. A pull that stops anywhere leaves committed pages behind and repeats at most one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipesync.adapters.base import (
    Adapter,
    Estimate,
    Following,
    Foreseeing,
    Page,
    Pulled,
    Recognising,
    Remembering,
    Span,
)
from pipesync.errors import BudgetSpent, CrmError, PermissionMissing
from pipesync.model import ColumnState
from pipesync.store import owed
from pipesync.store.pages import CHILDREN
from pipesync.store.warehouse import Checkpoint, Warehouse

if TYPE_CHECKING:
    from pipesync.store.ledger import Ledger

Progress = Callable[[str, int], None]
"""Called after each page with the stream and the rows of it so far."""
Announce = Callable[[str, Estimate], None]
_AT_ONCE = timedelta(minutes=10)
"""A write that took longer was lost and found again; when it took place is not known."""
_APART = timedelta(minutes=1)
"""How far our clock's and the CRM's idea of a moment may differ once the clocks are compared."""
_MOST_OWED = 2000
"""Opportunities whose children are worth asking for by their ids; of more the whole stream is read."""
_OWED_TOGETHER = 200
"""Of how many the children are read before that is noted."""


@dataclass(frozen=True)
class Written:
    """What pipesync wrote to opportunities since the last pull, by a clock that shows `now`."""

    now: datetime
    spans: Mapping[str, Span] = field(default_factory=dict)


def written_since(warehouse: Warehouse, ledger: Ledger, name: str, at: datetime) -> Written | None:
    """Return what was written to opportunities, or to tasks on them, since they were last pulled."""
    since = warehouse.pulled_at(name, "opportunities")
    if since is None:
        return None
    spans: dict[str, Span] = {}
    for entry in ledger.applied_since(name, since):
        if entry.opportunity_id and entry.settled_at:
            first, _ = spans.get(entry.opportunity_id, (entry.intended_at, None))
            spans[entry.opportunity_id] = (first, entry.settled_at)
    return Written(at, spans)


def pull(
    adapter: Adapter,
    warehouse: Warehouse,
    *,
    full: bool = False,
    streams: Collection[str] | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
    written: Written | None = None,
) -> dict[str, Pulled]:
    """Pull `streams` (default: all the adapter gives) and return what each brought.

    `full` reads everything anew. A stream that this user may not read makes its columns unknown and stops nothing.
    When the request budget is spent the pull ends without an error: later streams keep their old watermark, and the
    next run goes on. `announce` is told what a stream's first pull will take, where the CRM can be asked that.
    What pipesync itself has `written` is not read again for it, where the CRM shows that nobody else changed it.
    """
    with understood("the account"):
        connection = adapter.connection()
        states = list(adapter.columns())
        until = adapter.clock()
    name = connection.connection
    wanted = [s for s in adapter.streams if streams is None or s in streams]
    # A stream that is gone (no longer mapped, or licensed) must not hold the watermark back for ever.
    gone = [s for s in warehouse.pulled_streams(name) if s not in adapter.streams]
    # What an earlier pull was refused stays unreadable until that stream is asked for again; of what is gone none is.
    before = warehouse.columns(name)
    told = [s for s in before if s.stream in adapter.streams and s.stream not in wanted]
    said = {s.stream for s in told}
    lost = _lost(before, states)
    states = [*told, *(s for s in states if s.stream not in said)]
    warehouse.set_connection(connection, states)
    remains = _remains(adapter, warehouse, name, wanted) if full else {}
    with warehouse.transaction():
        warehouse.forget_checkpoints(name, [*gone, *(wanted if full else ())])
        warehouse.expect(name, wanted, until, remains)
    if written and isinstance(adapter, Recognising):
        adapter.recognise(_in_time_of(until, written), lambda ids: _held(warehouse, name, ids))
    found = {stream: Pulled(warnings=tuple(said)) for stream, said in lost.items() if stream in wanted}
    for stream in wanted:
        try:
            if announce and isinstance(adapter, Foreseeing):
                _foresee(adapter, warehouse.checkpoint(name, stream), stream, announce)
            for brought, part in _pull_stream(adapter, warehouse, name, stream, until):
                found[brought] = _sum(found.get(brought, Pulled()), part)
                if progress:
                    progress(brought, found[brought].pulled)
            found.setdefault(stream, Pulled())
        except PermissionMissing as refused:
            states = [_unreadable(s, str(refused)) if s.stream == stream else s for s in states]
            warehouse.set_connection(connection, states)
            warehouse.forget_checkpoints(name, [stream])
            found[stream] = _sum(found.get(stream, Pulled()), Pulled(warnings=(str(refused),)))
        except BudgetSpent as spent:
            found[stream] = _sum(found.get(stream, Pulled()), Pulled(warnings=(str(spent),)))
            break
    return {stream: found[stream] for stream in adapter.streams if stream in found}


def _remains(
    adapter: Adapter, warehouse: Warehouse, connection: str, streams: Collection[str]
) -> dict[str, str]:
    """Return the cursors that a full pull of these streams begins with."""
    if not isinstance(adapter, Remembering):
        return {}
    before = {s: cursor for s in streams if (cursor := warehouse.checkpoint(connection, s).cursor)}
    return {s: kept for s, cursor in before.items() if (kept := adapter.remains(s, cursor))}


def _lost(before: Collection[ColumnState], now: Collection[ColumnState]) -> dict[str, list[str]]:
    """Say of each stream which columns could be read at the last pull and cannot be now, and why."""
    known = {(c.stream, c.column) for c in before if c.state == "known"}
    here = {c.stream for c in now if c.state == "known"}
    found: dict[str, list[str]] = {}
    for c in now:
        if c.state != "unreadable" or (c.stream, c.column) not in known:
            continue
        said = found.setdefault(c.stream, [])
        if c.stream in here:
            said.append(f"{c.stream}.{c.column} is not known any more: {c.detail}")
        elif not said:
            said.append(f"nothing of {c.stream} can be read any more; what was pulled stays as it was")
    return found


def _in_time_of(until: datetime, written: Written) -> dict[str, Span]:
    """Return the spans in the time of the CRM, whose clock shows `until`."""
    behind = written.now - until
    return {
        i: (first - behind - _APART, last - behind + _APART)
        for i, (first, last) in written.spans.items()
        if last - first <= _AT_ONCE
    }


def _held(
    warehouse: Warehouse, connection: str, ids: Collection[str]
) -> list[dict[str, Any]]:  # Any: columns' values
    sql = "SELECT * FROM opportunities WHERE connection = ? AND id IN (SELECT unnest(?))"
    found: list[dict[str, Any]] = warehouse.arrow(sql, [connection, list(ids)]).to_pylist()
    return found


def _foresee(adapter: Foreseeing, checkpoint: Checkpoint, stream: str, announce: Announce) -> None:
    is_first = checkpoint.cursor is None and checkpoint.watermark is None
    if is_first and (expected := adapter.estimate(stream)):
        announce(stream, expected)


def _unreadable(state: ColumnState, why: str) -> ColumnState:
    return state.model_copy(update={"state": "unreadable", "detail": why})


def _pull_stream(
    adapter: Adapter, warehouse: Warehouse, connection: str, stream: str, until: datetime
) -> Iterator[tuple[str, Pulled]]:
    """Merge page by page; yield what each brought, and to which stream: one pass may bring pages of others along."""
    cursor = warehouse.checkpoint(connection, stream).cursor
    missing = owed.missing(warehouse, connection, stream) if stream in CHILDREN else []
    if missing and cursor is not None and len(missing) <= _MOST_OWED and isinstance(adapter, Following):
        for start in range(0, len(missing), _OWED_TOGETHER):
            some = missing[start : start + _OWED_TOGETHER]
            yield from _pull_children(adapter, warehouse, connection, stream, some, until)
            owed.settle(warehouse, connection, stream, some)
    elif missing:
        cursor = None
    for page in _understood_pages(adapter.pull(stream, cursor, until), stream):
        gone = (*page.deleted, *_absent(warehouse, connection, page))
        changed = warehouse.merge(
            connection,
            page.stream,
            page.rows,
            cursor=page.cursor,
            until=until,
            replace=page.mode == "replace",
            deleted=gone,
            rejects=[(r.where, r.reason, r.raw) for r in page.rejects],
            as_before=page.as_before,
            last=page.last,
        )
        if missing and cursor is None:  # from here on its own cursor stands for them
            owed.settle(warehouse, connection, stream)
        yield page.stream, Pulled(len(page.rows), changed, len(gone), page.requests, len(page.rejects))


def _pull_children(
    adapter: Following,
    warehouse: Warehouse,
    connection: str,
    stream: str,
    ids: Sequence[str],
    until: datetime,
) -> Iterator[tuple[str, Pulled]]:
    """Merge what belongs to opportunities that appeared here with a past; the stream's cursor stays where it is."""
    cursor = warehouse.checkpoint(connection, stream).cursor
    for page in _understood_pages(adapter.children(stream, ids, until), stream):
        rejects = [(r.where, r.reason, r.raw) for r in page.rejects]
        changed = warehouse.merge(connection, stream, page.rows, cursor=cursor, until=until, rejects=rejects)
        yield stream, Pulled(len(page.rows), changed, 0, page.requests, len(page.rejects))


def _understood_pages(pages: Iterator[Page], stream: str) -> Iterator[Page]:
    while True:
        with understood(stream):
            page = next(pages, None)
        if page is None:
            return
        yield page


_ODD = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, NotImplementedError)
"""What reading an answer raises that is not of the form that the CRM's documentation tells of."""


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Turn what an answer of an unheard-of form leads to into an error of the CRM's; its text stays with the cause."""
    try:
        yield
    except _ODD as error:
        raise CrmError(
            f"the CRM's answer about {what} has a form that is not known ({type(error).__name__})",
            fix="run again; if it stays, run with -v and report what it prints, without customers' data",
        ) from error


def _sum(one: Pulled, other: Pulled) -> Pulled:
    return Pulled(
        one.pulled + other.pulled,
        one.changed + other.changed,
        one.deleted + other.deleted,
        one.requests + other.requests,
        one.rejected + other.rejected,
        (*one.warnings, *other.warnings),
    )


def _absent(warehouse: Warehouse, connection: str, page: Page) -> tuple[str, ...]:
    """Return the ids that are here and that the CRM did not list, where it listed all."""
    return () if page.present is None else warehouse.ids_beside(connection, page.stream, page.present)
