"""SOQL, read by a small parser of ours and translated to SQLite. What it does not know is MALFORMED_QUERY.

    SELECT fields FROM Object [WHERE conditions] [GROUP BY fields [HAVING conditions]] [ORDER BY fields]
    [LIMIT n] [OFFSET n]

Fields may go through relationships (`Owner.Name`, `RecordType.Name`), be functions with an alias (`COUNT(Id) n`), all
that this user sees of an object (`FIELDS(STANDARD)`), or be a child's query in parentheses (`(SELECT Id FROM
OpportunityLineItems)`). A condition may ask for ids that another query finds (`AccountId IN (SELECT Id FROM Account
WHERE ...)`). Values are bound, never pasted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<datetime>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<date>\d{4}-\d\d-\d\d)|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w.]*(?::\d+)?)"
    r"|(?P<sign><=|>=|!=|<>|[=<>(),]))"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "_": "_", "%": "%"}
_KEYWORDS = {
    "from",
    "where",
    "group",
    "order",
    "limit",
    "offset",
    "and",
    "or",
    "not",
    "in",
    "like",
    "asc",
    "desc",
    "having",
}
GROUPS = ("ALL", "CUSTOM", "STANDARD")
"""Of fields, as `FIELDS(...)` asks for them."""
_FUNCTIONS = ("COUNT", "COUNT_DISTINCT", "SUM", "MIN", "MAX", "AVG")


class Malformed(Exception):
    """The query cannot be read; the message says where."""


@dataclass(frozen=True)
class Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Query:
    """A query as it was read; `where` and `having` are SQL over the columns that `fields` and `reads` name."""

    entity: str
    fields: tuple[str, ...]
    where: str
    values: tuple[object, ...]
    order: tuple[tuple[str, str], ...]
    group: tuple[str, ...]
    limit: int | None
    offset: int
    reads: frozenset[str] = field(default=frozenset())
    """Every field that the query names."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Field or function -> the name that it is answered under."""
    having: str = ""
    children: tuple[Query, ...] = ()
    """Queries of what belongs to each record; their entity is a relationship's name."""

    @property
    def is_count(self) -> bool:
        return len(self.fields) == 1 and self.fields[0].casefold() == "count()"


T = TypeVar("T")
Column = Callable[[str], str]
"""Field (with its path) -> SQL expression."""
Resolve = Callable[[str, str, str], tuple[str, Column]]
"""(object or relationship, the object that it is a child of or "", table alias) -> its table, its columns."""


def parse(text: str, resolve: Resolve, now: datetime) -> Query:
    """Read a query; `resolve` turns objects and fields into SQL (and may refuse them), `now` is what TODAY is."""
    parser = _Parser(_tokens(text), resolve, now)
    query = parser.query()
    parser.end()
    return query


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Malformed(f"unexpected token: '{text[at : at + 20]}'")
        found.append(Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[Token], resolve: Resolve, now: datetime, parent: str = "") -> None:
        self._tokens, self._resolve, self._now, self._parent = tokens, resolve, now, parent
        self._column: Column = str  # until FROM has said whose fields they are
        self._at = 0
        self._values: list[object] = []
        self._reads: set[str] = set()
        self._aliases: dict[str, str] = {}
        self._children: list[list[Token]] = []

    # --- Tokens -----------------------------------------------------------------------------------------------

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("end", "")

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _is(self, word: str) -> bool:
        return self._peek().text.casefold() == word and self._peek().kind in ("name", "sign")

    def _take(self, word: str) -> bool:
        if self._is(word):
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise Malformed(f"expecting '{word}', found '{self._peek().text or 'end of query'}'")

    def _name(self) -> str:
        token = self._next()
        if token.kind != "name" or token.text.casefold() in _KEYWORDS:
            raise Malformed(f"unexpected token: '{token.text or 'end of query'}'")
        return token.text

    # --- Clauses ----------------------------------------------------------------------------------------------

    def query(self) -> Query:
        self._expect("select")
        fields = [f for f in self._list(self._field) if f]
        self._expect("from")
        name = self._name()
        _, self._column = self._resolve(name, self._parent, "t")
        children = [_Parser(t, self._resolve, self._now, name).query() for t in self._children]
        if self._peek().kind == "name" and self._peek().text.casefold() not in _KEYWORDS:
            self._name()  # an alias of the object; fields are said without it here
        where = self._or() if self._take("where") else "1"
        group, order, having = [], [], ""
        if self._take("group"):
            self._expect("by")
            group = self._list(self._read)
            having = self._or() if self._take("having") else ""
        if self._take("order"):
            self._expect("by")
            order = self._list(self._ordering)
        limit = int(self._number()) if self._take("limit") else None
        offset = int(self._number()) if self._take("offset") else 0
        return Query(
            name, tuple(fields), where, tuple(self._values), tuple(order), tuple(group), limit, offset,
            frozenset(self._reads), self._aliases, having, tuple(children),
        )  # fmt: skip

    def end(self) -> None:
        if self._peek().kind != "end":
            raise Malformed(f"unexpected token: '{self._peek().text}'")

    def _list(self, one: Callable[[], T]) -> list[T]:
        found = [one()]
        while self._take(","):
            found.append(one())
        return found

    def _field(self) -> str:
        """Return a field or function; "" for a child's query, which is kept for when the object is known."""
        if self._is("("):
            self._children.append(self._parenthesised())
            return ""
        name = self._name()
        if name.upper() == "FIELDS" and self._is("("):
            return self._group_of_fields()
        if self._is("("):
            name = self._function(name)
        else:
            self._reads.add(name)
        if self._peek().kind == "name" and self._peek().text.casefold() not in _KEYWORDS:
            self._aliases[name] = self._name()
        return name

    def _group_of_fields(self) -> str:
        self._expect("(")
        group = self._name().upper()
        self._expect(")")
        if group not in GROUPS:
            raise Malformed(f"unexpected token: '{group}'")
        return f"FIELDS({group})"

    def _function(self, name: str) -> str:
        self._expect("(")
        inner = "" if self._is(")") else self._read()
        self._expect(")")
        if name.upper() not in _FUNCTIONS:
            raise Malformed(f"unexpected token: '{name}'")
        return f"{name.upper()}({inner})"

    def _parenthesised(self) -> list[Token]:
        self._expect("(")
        start, depth = self._at, 1
        while depth:
            token = self._next()
            if token.kind == "end":
                raise Malformed("expecting ')', found 'end of query'")
            depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "sign" else 0
        return self._tokens[start : self._at - 1]

    def _read(self) -> str:
        name = self._name()
        self._reads.add(name)
        return name

    def _ordering(self) -> tuple[str, str]:
        name = self._read()
        if self._is("("):
            name = self._function(name)
        direction = "DESC" if self._take("desc") else "ASC"
        self._take("asc")
        if self._take("nulls"):
            return name, f"{direction} NULLS {self._name().upper()}"
        return name, f"{direction} NULLS FIRST" if direction == "ASC" else f"{direction} NULLS LAST"

    def _number(self) -> str:
        token = self._next()
        if token.kind != "number":
            raise Malformed(f"expecting a number, found '{token.text}'")
        return token.text

    # --- Conditions -------------------------------------------------------------------------------------------

    def _or(self) -> str:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def _and(self) -> str:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"

    def _not(self) -> str:
        if self._take("not"):
            return f"(NOT {self._not()})"
        if self._take("("):
            inner = self._or()
            self._expect(")")
            return f"({inner})"
        return self._comparison()

    def _comparison(self) -> str:
        name = self._name()
        if self._is("("):
            name = self._function(name)
        else:
            self._reads.add(name)
        this = self._column(name)
        if self._take("not"):
            self._expect("in")
            return f"{this} NOT IN ({self._in()})"
        if self._take("in"):
            return f"{this} IN ({self._in()})"
        if self._take("like"):
            return f"{this} LIKE {self._bind(self._value())} ESCAPE '\\'"
        sign = self._next().text
        if sign not in ("=", "!=", "<>", "<", "<=", ">", ">="):
            raise Malformed(f"unexpected token: '{sign}'")
        value = self._value()
        if value is None:
            return f"{this} IS {'NOT ' if sign != '=' else ''}NULL"
        if isinstance(value, tuple):
            low, high = value
            if sign in ("=",):
                return f"({this} >= {self._bind(low)} AND {this} < {self._bind(high)})"
            return f"{this} {sign} {self._bind(high if sign in ('>', '<=') else low)}"
        if sign in ("!=", "<>"):
            return f"({this} IS NULL OR {this} <> {self._bind(value)})"
        return f"{this} {sign} {self._bind(value)}"

    def _in(self) -> str:
        self._expect("(")
        if self._is("select"):
            found = self._semi_join()
            self._expect(")")
            return found
        values = self._list(self._value)
        self._expect(")")
        return ", ".join(self._bind(v) for v in values)

    def _semi_join(self) -> str:
        """Read a query inside a condition: one field of another object's records."""
        self._expect("select")
        wanted = self._name()
        self._expect("from")
        table, column = self._resolve(self._name(), "", "s")
        outer, self._column = self._column, column
        where = self._or() if self._take("where") else "1"
        self._column = outer
        return f'SELECT {column(wanted)} FROM {table} AS s WHERE ({where}) AND s."IsDeleted" = 0'

    def _bind(self, value: object) -> str:
        self._values.append(value)
        return "?"

    def _value(self) -> object:
        token = self._next()
        if token.kind == "string":
            return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token.text[1:-1])
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.kind == "datetime":
            return stored_time(datetime.fromisoformat(token.text))
        if token.kind == "date":
            return token.text
        word = token.text.casefold()
        if word in ("true", "false"):
            return int(word == "true")
        if word == "null":
            return None
        if (span := self._date_literal(word)) is not None:
            return span
        raise Malformed(f"unexpected token: '{token.text or 'end of query'}'")

    def _date_literal(self, word: str) -> tuple[str, str] | None:
        """Return the first day of the span and the day after its last."""
        today = self._now.date()
        name, _, count = word.partition(":")
        n = int(count or 0)
        spans: dict[str, tuple[date, date]] = {
            "today": (today, today + timedelta(1)),
            "yesterday": (today - timedelta(1), today),
            "tomorrow": (today + timedelta(1), today + timedelta(2)),
            "last_n_days": (today - timedelta(n), today + timedelta(1)),
            "next_n_days": (today + timedelta(1), today + timedelta(n + 1)),
            "this_week": _weeks(today, 0),
            "last_week": _weeks(today, -1),
            "next_week": _weeks(today, 1),
            "this_month": _months(today, 0, 1),
            "last_month": _months(today, -1, 1),
            "next_month": _months(today, 1, 1),
            "last_n_months": (_months(today, -n, 1)[0], _months(today, 0, 1)[0]),
            "next_n_months": (_months(today, 1, 1)[0], _months(today, n + 1, 1)[0]),
            "this_quarter": _months(today, -((today.month - 1) % 3), 3),
            "last_quarter": _months(today, -((today.month - 1) % 3) - 3, 3),
            "next_quarter": _months(today, 3 - (today.month - 1) % 3, 3),
            "this_year": _months(today, 1 - today.month, 12),
            "last_year": _months(today, -11 - today.month, 12),
            "next_year": _months(today, 13 - today.month, 12),
        }
        if name not in spans:
            return None
        first, after = spans[name]
        return first.isoformat(), after.isoformat()


def _weeks(today: date, ahead: int) -> tuple[date, date]:
    """Return a week's Sunday (as in the United States' locale) and the next one's."""
    first = today - timedelta((today.weekday() + 1) % 7) + timedelta(weeks=ahead)
    return first, first + timedelta(weeks=1)


def _months(today: date, ahead: int, count: int) -> tuple[date, date]:
    """Return the first day of the month so far ahead, and the day after the last of `count` months."""

    def first(months: int) -> date:
        year, month = divmod(today.year * 12 + today.month - 1 + months, 12)
        return date(year, month + 1, 1)

    return first(ahead), first(ahead + count)


def stored_time(moment: datetime) -> str:
    """Return a time as it is stored and answered: `2026-11-16T08:00:00.000+0000`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}+0000"
