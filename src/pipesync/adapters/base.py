"""What an adapter is: a few functions over values. `tests/adapters/contract.py` proves that one keeps them.

An adapter turns a CRM's records into pages of normalized columns, and planned changes into requests. It holds
a session and nothing else: cursors belong to the warehouse, intents to the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pipesync.model import Change, ColumnState, Connection, Outcome, OwnForecast, OwnTask

if TYPE_CHECKING:
    import pyarrow as pa

Cursor = str
"""Opaque to everyone but the adapter that made it; kept by the warehouse beside the rows it speaks of."""


@dataclass(frozen=True)
class Reject:
    """A source record that could not be read. `where` is a file and line, or a CRM id."""

    where: str
    reason: str
    raw: str = ""


@dataclass(frozen=True)
class Page:
    """Rows that are committed together with the cursor that follows them.

    `rows` has normalized columns of the stream's record without `connection`; columns that are missing are
    unmapped or unreadable. Times are UTC without zone (`timestamp[us]`), money `decimal128(18, 2)`.
    """

    stream: str
    rows: pa.Table
    cursor: Cursor | None
    mode: Literal["merge", "replace"] = "merge"
    """`replace`: the first page of a full scan; what the connection held in this stream is dropped with it."""
    deleted: tuple[str, ...] = ()
    """Ids that are gone; opportunities take their history, activities and line items along."""
    present: pa.Array | None = None
    """All ids that the CRM has, where they were listed: what is not among them is gone."""
    rejects: tuple[Reject, ...] = ()
    requests: int = 0
    as_before: bool = False
    """The CRM was not asked, because it was not long ago; what is here keeps the moment when it was read."""
    last: bool = False
    """With the last page of a pull the stream has reached the watermark."""


@dataclass(frozen=True)
class Check:
    """One line of `doctor`."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Installed:
    """One line of `install-fields`: a thing of the install kit, and what became of it."""

    what: str
    status: Literal["exists", "created", "would create", "by hand", "not possible"]
    detail: str = ""
    """What to do by hand, or why it is not possible."""


@dataclass(frozen=True)
class SiteField:
    """A field of opportunities that the CRM's admins made, for `init` to propose."""

    name: str
    label: str
    kind: str
    options: tuple[str, ...] = ()
    """The words that it may hold, where the CRM lists them."""


@dataclass(frozen=True)
class Pulled:
    """What one stream's pull brought, for people."""

    pulled: int = 0
    changed: int = 0
    deleted: int = 0
    requests: int = 0
    rejected: int = 0
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Estimate:
    """What a first pull of a stream is expected to take; seconds by how fast the CRM has answered so far."""

    records: int
    requests: int
    seconds: float


@dataclass(frozen=True)
class Seen:
    """An opportunity as the CRM holds it now."""

    facts: Mapping[str, Any]  # Any: columns' values
    """By column of `model.Opportunity`, read as a pull reads them; what is not mapped is missing."""
    ours: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    """Our own fields on it (`model.OWN_FIELDS`), as JSON values; what the CRM lacks is missing."""


class Adapter(Protocol):
    """One signed-in connection."""

    @property
    def streams(self) -> Sequence[str]:
        """Names from `model.TABLES` that this connection can give, in the order to pull them."""
        ...

    @property
    def budget(self) -> tuple[int, int] | None:
        """Requests used and allowed today, as the CRM's last answer told; None where it tells nothing."""
        ...

    def connection(self) -> Connection:
        """Return the account's own facts (home currency, zone); signs in where that is needed."""
        ...

    def clock(self) -> datetime:
        """Return the CRM's time (UTC): the watermark of a pull that starts now."""
        ...

    def columns(self) -> Sequence[ColumnState]:
        """Say for every normalized column of `streams` whether it is readable, and its history."""
        ...

    def pull(self, stream: str, cursor: Cursor | None, until: datetime) -> Iterator[Page]:
        """Yield what changed since `cursor` up to `until`; all of it where the cursor is None or too old.

        A pull that finds nothing yields one empty page with `last=True`. Interrupted anywhere, a later pull
        with the last committed cursor misses nothing; it may repeat rows.
        """
        ...

    def own(
        self, keys: Collection[str], opportunity_ids: Collection[str]
    ) -> tuple[Sequence[OwnTask], Sequence[OwnForecast]]:
        """Return what the CRM now holds under these keys, never from an index that lags behind writes.

        `opportunity_ids` are those of the keys' changes, for CRMs that find tasks only through them.
        """
        ...

    def see(self, opportunity_ids: Collection[str]) -> Mapping[str, Seen]:
        """Return these opportunities as they are now, never from an index that lags; what is gone is missing."""
        ...

    def write(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Write, in as few requests as the CRM allows; one outcome per change, in any order.

        A create whose key exists already is applied, not repeated. A refused record is an outcome, not an
        exception; CrmError means that nothing is known about the changes without an outcome.
        """
        ...

    def site_fields(self) -> Sequence[SiteField]:
        """Return the site's own fields of opportunities that a rule could ask for, ours left out."""
        ...

    def checks(self) -> Iterator[Check]:
        """Yield what `doctor` tells of this connection."""
        ...

    def install_fields(self, *, dry_run: bool = False) -> Sequence[Installed]:
        """Create the fields that pipesync writes, where the CRM's API allows; repeating it changes nothing.

        With `dry_run` nothing is written. CrmError before the first write where there is no room for all of them.
        """
        ...

    def close(self) -> None: ...


Span = tuple[datetime, datetime]
"""From the intent of a write to its answer."""


@runtime_checkable
class Recognising(Protocol):
    """An adapter that can tell from what a search shows that only pipesync has modified an opportunity since."""

    def recognise(
        self, written: Mapping[str, Span], held: Callable[[Collection[str]], Sequence[Mapping[str, Any]]]
    ) -> None:
        """Take what was written since the last pull: spans in the CRM's time, by opportunity.

        `held` returns opportunities as they are mirrored. What was modified within its span, and is as it is held,
        need not be read again.
        """
        ...


@runtime_checkable
class Following(Protocol):
    """An adapter that can read what belongs to some opportunities, whenever it was changed."""

    def children(self, stream: str, opportunity_ids: Sequence[str], until: datetime) -> Iterator[Page]:
        """Yield the rows of these opportunities, of a stream that has a cursor; those of the pages say nothing.

        Rows of other opportunities may come along.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """An adapter whose cursors also hold what the CRM tells no more: a full pull must not lose it."""

    def remains(self, stream: str, cursor: Cursor) -> Cursor | None:
        """Return a cursor that has everything read anew and still holds that; None where there is nothing to keep."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """An adapter that can say beforehand what a first pull takes."""

    def estimate(self, stream: str) -> Estimate | None:
        """Return what a first pull of a stream takes; None for what is made of other streams, or small."""
        ...
