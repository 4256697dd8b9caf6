"""What fired, kept as columns: a finding, with its texts and evidence, is made when somebody reads it.

Of a million opportunities half a million findings may fire, of which people read twelve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.model import SEVERITIES, Evidence, Finding, Level, Severity, StandingFinding
from pipesync.rules.conditions import All, AnyOf, Condition, Field, Leaf, Not, Parameter, as_text
from pipesync.rules.format import Rule
from pipesync.rules.messages import is_blank, render, show, spoken_values, usual_filter, value_of

Subject = tuple[str, Level, str]
"""Rule, level, subject: what a finding is about, across runs."""
Positions: TypeAlias = npt.NDArray[np.int64]
KEYS = (":subject", ":severity", ":owner", ":amount")
"""Of every rule's table, before what its texts and conditions name, of which none begins with a colon."""
T = TypeVar("T")
F = TypeVar("F", bound=Finding | StandingFinding)
_CHUNK = 8192


class Mark(NamedTuple):
    """A finding without its texts."""

    rule: str
    level: Level
    subject_id: str
    severity: Severity
    owner_id: str | None
    amount: Decimal | None

    @property
    def opportunity_id(self) -> str | None:
        return self.subject_id if self.level == "opportunity" else None


class Test(NamedTuple):
    """A leaf of a condition: its field, how the field's values are shown, and what is asked of it, in words."""

    field: str
    filter: str
    words: str
    learnt: Field | None = None
    """What the row is held against instead, where it has it."""
    counted_by: str = ""
    asks: str = ""
    """The words, with `%s` for what is learnt."""

    def in_words(self, row: Mapping[str, Any], currency: str | None) -> str:  # Any: a row
        if self.learnt is None or (usual := row.get(self.learnt.name)) is None:
            return self.words
        limit = show(float(usual) * self.learnt.times, self.filter, currency)
        cases = row[self.counted_by]
        return self.asks % (f"{limit} (learnt from {cases})" if cases else limit)


@dataclass(frozen=True)
class Moment:
    """When and where it was judged, and what stood before."""

    connection: str
    as_of: datetime
    currency: str | None
    known: Mapping[Subject, StandingFinding]


class Fired:
    """The findings of one rule: an Arrow table of KEYS and of what its texts and conditions name."""

    def __init__(self, rule: Rule, table: pa.Table, moment: Moment) -> None:
        self.rule, self.table, self._moment = rule, table, moment

    def marks(self, rows: Positions) -> list[Mark]:
        rule, level = self.rule.id, self.rule.level
        columns = [_listed(self.table.column(name).take(rows)) for name in KEYS]
        return [
            Mark(rule, level, subject, severity, owner, _money(amount))
            for subject, severity, owner, amount in zip(*columns, strict=True)
        ]

    def findings(self, rows: Positions) -> list[Finding]:
        names = self.table.column_names
        columns = [_listed(self.table.column(name).take(rows)) for name in names]
        return [self._finding(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]

    @cached_property
    def _first(self) -> Finding:
        """What all of them have in common: a copy costs a third of what making one from nothing does."""
        return Finding(
            connection=self._moment.connection,
            rule=self.rule.id,
            level=self.rule.level,
            subject_id="",
            severity=self.rule.severity,
            message="",
            currency=self._moment.currency,
            first_seen=self._moment.as_of,
        )

    @cached_property
    def _tests(self) -> list[Test]:
        return _tests(self.rule.when, self.rule)

    @cached_property
    def _spoken(self) -> list[str]:
        return sorted(self.rule.spoken) if self.rule.task else []

    def _finding(self, row: Mapping[str, Any]) -> Finding:  # Any: a row
        rule, currency = self.rule, self._moment.currency
        subject, severity, owner, amount = (row[name] for name in KEYS)
        before = self._moment.known.get((rule.id, rule.level, subject))
        is_standing = before is not None and not before.is_over
        return self._first.model_copy(
            update={
                "subject_id": subject,
                "severity": severity,
                "owner_id": owner,
                "message": render(rule.message, row, currency),
                "headline": render(rule.subject, row, currency) if rule.subject else "",
                "amount": _money(amount),
                "evidence": tuple(_evidence(test, row, currency) for test in self._tests),
                "values": spoken_values(row, self._spoken),
                "first_seen": before.first_seen if before and is_standing else self._moment.as_of,
                "episode": before.episode + (not is_standing) if before else 1,
            }
        )


class Findings(Sequence[Finding]):
    """All findings, the most severe first, then by what is at stake; rule and subject break ties.

    Each reading makes them anew: keep those that are needed again.
    """

    def __init__(self, fired: Iterable[Fired] = (), order: Positions | None = None) -> None:
        self._fired = sorted(fired, key=lambda f: f.rule.id)
        self._starts = np.cumsum([0, *(f.table.num_rows for f in self._fired)])
        self._chosen = order

    @cached_property
    def _order(self) -> Positions:
        return _sorted(self._fired) if self._chosen is None else self._chosen

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Findings: ...
    def __getitem__(self, index: int | slice) -> Finding | Findings:
        if isinstance(index, slice):
            return Findings(self._fired, self._order[index])
        [found] = self._made(self._order[[index]], Fired.findings)
        return found

    def __iter__(self) -> Iterator[Finding]:
        for start in range(0, len(self), _CHUNK):
            yield from self._made(self._order[start : start + _CHUNK], Fired.findings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]  # compared by what it holds

    def marks(self) -> Iterator[Mark]:
        """Yield what the findings are about, in their order, without making texts."""
        for start in range(0, len(self), _CHUNK):
            yield from self._made(self._order[start : start + _CHUNK], Fired.marks)

    def where(self, test: Callable[[Mark], bool]) -> Findings:
        keep = np.fromiter((test(mark) for mark in self.marks()), bool, len(self))
        return Findings(self._fired, self._order[keep])

    def _made(self, positions: Positions, make: Callable[[Fired, Positions], list[T]]) -> list[T]:
        """Make what stands at these positions, rule by rule, and return it in their order."""
        of = np.searchsorted(self._starts, positions, side="right") - 1
        made: list[T | None] = [None] * len(positions)
        for part in np.unique(of):
            [places] = np.nonzero(of == part)
            for place, one in zip(
                places, make(self._fired[part], positions[places] - self._starts[part]), strict=True
            ):
                made[place] = one
        return [one for one in made if one is not None]


def marks(findings: Iterable[F]) -> Iterator[F | Mark]:
    """Yield what findings are about, for whoever needs no texts."""
    return findings.marks() if isinstance(findings, Findings) else iter(findings)


def where(findings: Sequence[Finding], test: Callable[[Finding | Mark], bool]) -> Sequence[Finding]:
    """Return those that pass; where they are columns, none is made for it."""
    return findings.where(test) if isinstance(findings, Findings) else tuple(f for f in findings if test(f))


def _equal(one: Finding, other: object) -> bool:
    return one == other


def _sorted(fired: Sequence[Fired]) -> Positions:
    """Return positions in order: rules come by id, and their rows by subject, so that a stable sort does the rest."""
    rows, severities, amounts, start = [], [], [], 0
    for one in fired:
        by_subject = pc.sort_indices(one.table.column(":subject"))
        severity = one.table.column(":severity").take(by_subject)
        amount = one.table.column(":amount").take(by_subject)
        ranks = pc.index_in(severity, value_set=pa.array(SEVERITIES))
        rows.append(np.asarray(by_subject, dtype=np.int64) + start)
        severities.append(np.asarray(ranks, dtype=np.int64))
        amounts.append(np.asarray(pc.fill_null(amount.cast("float64"), 0.0)))
        start += one.table.num_rows
    if not rows:
        return np.empty(0, dtype=np.int64)
    at_stake = np.nan_to_num(np.concatenate(amounts))
    order = np.lexsort((-at_stake, -np.concatenate(severities)))
    return np.asarray(np.concatenate(rows)[order])


def _listed(column: pa.ChunkedArray) -> list[Any]:  # Any: a column's values
    """Return values as Python has them, a map as a dictionary."""
    listed: list[Any] = column.to_pylist(maps_as_pydicts="strict" if pa.types.is_map(column.type) else None)
    return listed


def _money(amount: Any) -> Decimal | None:  # Any: money, or a number of a frame
    """Return an amount; in a frame a blank is not a number."""
    if amount is None or isinstance(amount, Decimal):
        return amount
    return None if is_blank(amount) else Decimal(str(amount))


# --- Evidence -------------------------------------------------------------------------------------------------


def _evidence(test: Test, row: Mapping[str, Any], currency: str | None) -> Evidence:  # Any: a row
    value = value_of(row, test.field)
    shown = None if is_blank(value) else show(value, test.filter, currency)
    return Evidence(test.field, shown, test.in_words(row, currency))


def _tests(condition: Condition, rule: Rule, *, is_denied: bool = False) -> list[Test]:
    """Return the leaves of a condition, each of which speaks for the verdict, with the `not` that it stands under."""
    if isinstance(condition, Not):
        return _tests(condition.part, rule, is_denied=not is_denied)
    if isinstance(condition, All | AnyOf):
        return [test for part in condition.parts for test in _tests(part, rule, is_denied=is_denied)]
    test = _test(condition, rule)
    return [test._replace(words=f"not {test.words}", asks=f"not {test.asks}") if is_denied else test]


def _test(leaf: Leaf, rule: Rule) -> Test:
    value, learnt = leaf.value, None
    if isinstance(value, Parameter):
        learnt = rule.learnt.get(value.name)
        value = rule.params.get(value.name, value.name)
    if isinstance(value, Field):
        column = rule.columns.get(value.name)
        learnt = value if column and column.counted_by else None
        shown = f"{value.name} x {value.times:g}" if value.times != 1 else value.name
    else:
        shown = as_text(value)
    asks = f"{leaf.operator} %s" + (" or missing" if leaf.or_missing else "")
    test = Test(leaf.field, usual_filter(leaf.kind), asks % shown)
    return (
        test._replace(learnt=learnt, counted_by=rule.columns[learnt.name].counted_by, asks=asks)
        if learnt
        else test
    )
