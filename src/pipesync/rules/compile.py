"""Conditions become sqlglot expressions; nothing is ever pasted into SQL as text.

Whether a field is unknown is a fact of the connection, so it is settled here: a leaf over an unknown field is
`NULL::BOOLEAN`, any other is `COALESCE(test, FALSE)`, and SQL's AND, OR and NOT are then Kleene's logic. A rule's
verdict on a row is TRUE (fires), FALSE (clear) or NULL (unknown).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from decimal import Decimal

from sqlglot import exp

from pipesync.features.columns import Kind
from pipesync.rules.conditions import (
    NUMERIC,
    TIMED,
    All,
    BusinessDays,
    Condition,
    Field,
    Leaf,
    Not,
    Operand,
    Parameter,
    as_moment,
    read_by,
)
from pipesync.rules.format import Rule
from pipesync.rules.measures import Measure
from pipesync.rules.parameters import Value

_COMPARE = {"eq": exp.EQ, "ne": exp.NEQ, "gt": exp.GT, "gte": exp.GTE, "lt": exp.LT, "lte": exp.LTE}
_AS_OF = "as_of"


def variable(name: str) -> exp.Expr:
    """Return a session variable that `features.compute` has set."""
    return exp.Anonymous(this="getvariable", expressions=[exp.Literal.string(name)])


def column(name: str, kind: Kind = "text") -> exp.Expr:
    """Return a column; a custom field, which is text, read as the kind that it is asked as."""
    if name.startswith("custom."):
        key = exp.Literal.string(name.removeprefix("custom."))
        text = exp.Anonymous(this="map_extract_value", expressions=[column("custom"), key])
        if kind in ("text", "category"):
            return text
        read_as = "DOUBLE" if kind in NUMERIC else {"flag": "BOOLEAN", "date": "DATE"}.get(kind, "TIMESTAMP")
        return exp.TryCast(this=text, to=exp.DataType.build(read_as), requires_string=True)
    return exp.column(exp.to_identifier(name, quoted=True))


_SECONDS = {"hours": 3600, "days": 86400, "weeks": 604800}


class Compiler:
    """Compiles one rule's conditions: it knows the rule's parameters and what is unknown."""

    def __init__(self, rule: Rule, unknown: Collection[str]) -> None:
        self.rule, self.unknown = rule, unknown
        self.unread = {n for n, m in rule.measures.items() if any(self._is_unread(f) for f in m.fields)}
        """Measures that cannot be known: what they are made of is unknown."""
        self._matches = [exp.func("COALESCE", self.condition(o.match), exp.false()) for o in rule.overrides]

    def condition(self, condition: Condition) -> exp.Expr:
        if isinstance(condition, Leaf):
            return self._leaf(condition)
        if isinstance(condition, Not):
            return exp.not_(self.condition(condition.part))
        parts = [self.condition(p) for p in condition.parts]
        if not parts:
            return exp.true()
        return exp.and_(*parts) if isinstance(condition, All) else exp.or_(*parts)

    def is_unknown(self, leaf: Leaf) -> bool:
        return any(self._is_unread(name) or name in self.unread for name in read_by(leaf))

    def _is_unread(self, name: str) -> bool:
        return name in self.unknown or name.split(".")[0] in self.unknown

    def _column(self, name: str, kind: Kind) -> exp.Expr:
        return column(measured(self.rule, name) if name in self.rule.measures else name, kind)

    def _leaf(self, leaf: Leaf) -> exp.Expr:
        if self.is_unknown(leaf):
            return exp.cast(exp.null(), "BOOLEAN")
        this = self._column(leaf.field, leaf.kind)
        if leaf.operator == "missing":
            blank = exp.Is(this=this, expression=exp.null())
            return blank if leaf.value else exp.not_(blank)
        return exp.func("COALESCE", self._test(leaf, this), exp.true() if leaf.or_missing else exp.false())

    def _test(self, leaf: Leaf, this: exp.Expr) -> exp.Expr:
        value, operator = leaf.value, leaf.operator
        if operator in ("in", "not_in"):
            if isinstance(value, Parameter):
                asked = [self.parameter(value.name), this]
                found: exp.Expr = exp.Anonymous(this="list_contains", expressions=asked)
                return found if operator == "in" else exp.not_(found)
            assert isinstance(value, tuple)  # noqa: S101  # the reader saw to it
            found = exp.In(this=this, expressions=[self._value(v, leaf) for v in value])
            return found if operator == "in" else exp.not_(found)
        if operator == "between":
            assert isinstance(value, tuple)  # noqa: S101  # the reader saw to it
            low, high = value
            return exp.Between(this=this, low=self._value(low, leaf), high=self._value(high, leaf))
        if operator == "contains":
            lowered = exp.func("LOWER", this.copy())
            return exp.func(
                "CONTAINS", lowered, exp.func("LOWER", self._value(value, leaf)), dialect="duckdb"
            )
        if operator == "matches":
            return exp.Anonymous(this="regexp_matches", expressions=[this, self._value(value, leaf)])
        if operator in TIMED:
            return self._relative(leaf, this)
        return _COMPARE[operator](this=this, expression=self._value(value, leaf))

    def _relative(self, leaf: Leaf, this: exp.Expr) -> exp.Expr:
        """Moments are measured from as_of, dates from today, so that a date of today is within both."""
        now = variable("today") if leaf.kind == "date" else variable(_AS_OF)
        span, in_business_days = self._span(leaf.value)
        if in_business_days:
            return self._in_business_days(leaf, this, now, span)
        if leaf.operator == "within_next":
            return exp.Between(this=this, low=now, high=exp.Add(this=now.copy(), expression=span))
        then = exp.Sub(this=now, expression=span)
        if leaf.operator == "older_than":
            return exp.LT(this=this, expression=then)
        return exp.Between(this=this, low=then, high=now.copy())

    def _span(self, value: Operand) -> tuple[exp.Expr, bool]:
        """Return a length of time as an interval, or as a number of business days and True."""
        if isinstance(value, BusinessDays):
            return literal(value.days), True
        if not isinstance(value, Parameter):
            return literal(value), False
        default = self.rule.params[value.name]
        unit = self.rule.texts[value.name].unit
        if isinstance(default, BusinessDays) or unit == "business_days":
            return self.parameter(value.name), True
        if isinstance(default, timedelta):
            return self.parameter(value.name), False
        seconds = exp.Mul(this=self.parameter(value.name), expression=exp.Literal.number(_SECONDS[unit]))
        return exp.Anonymous(this="to_seconds", expressions=[exp.cast(seconds, "DOUBLE")]), False

    def _in_business_days(self, leaf: Leaf, this: exp.Expr, now: exp.Expr, count: exp.Expr) -> exp.Expr:
        day = (
            this.copy()
            if leaf.kind == "date"
            else exp.Anonymous(this="local_date", expressions=[this.copy()])
        )
        if leaf.operator == "within_next":
            ahead = exp.Anonymous(this="business_days_until", expressions=[day])
            return exp.and_(exp.GTE(this=this, expression=now), exp.LTE(this=ahead, expression=count))
        ago = exp.Anonymous(this="business_days_since", expressions=[day])
        if leaf.operator == "older_than":
            return exp.GT(this=ago, expression=count)
        return exp.and_(exp.LTE(this=this, expression=now), exp.LTE(this=ago, expression=count))

    def _value(self, value: Operand, leaf: Leaf) -> exp.Expr:
        if isinstance(value, Parameter):
            return self.parameter(value.name)
        if isinstance(value, Field):
            return times(self._column(value.name, leaf.kind), value.times)
        if value == "today":
            return variable("today") if leaf.kind == "date" else variable(_AS_OF)
        if isinstance(value, date) and leaf.kind == "moment":
            return exp.cast(exp.Literal.string(as_moment(value).isoformat()), "TIMESTAMP")
        return literal(value)

    def parameter(self, name: str) -> exp.Expr:
        """Return the parameter's value for the row: the first override that matches and sets it, or the rule's own."""
        return self._chosen(
            [
                (m, o.params[name])
                for m, o in zip(self._matches, self.rule.overrides, strict=True)
                if name in o.params
            ],
            self._usual(name),
        )

    def _usual(self, name: str) -> exp.Expr:
        """Return what a parameter is where no override matches: learnt from the company's own past, or the default."""
        default, learnt = literal(self.rule.params[name]), self.rule.learnt.get(name)
        if learnt is None or self._is_unread(learnt.name):
            return default
        return exp.func("COALESCE", times(column(learnt.name), learnt.times), default)

    def severity(self) -> exp.Expr:
        """Return the row's severity: the last rung of the ladder that holds, then overrides, then the rule's own."""
        rungs = [
            (exp.func("COALESCE", self.condition(c), exp.false()), s) for c, s in reversed(self.rule.ladder)
        ]
        said = [
            (m, o.severity) for m, o in zip(self._matches, self.rule.overrides, strict=True) if o.severity
        ]
        return self._chosen([*rungs, *said], literal(self.rule.severity))

    def _chosen(self, cases: list[tuple[exp.Expr, Value]], default: exp.Expr) -> exp.Expr:
        if not cases:
            return default
        chosen = exp.Case()
        for match, value in cases:
            chosen = chosen.when(match.copy(), literal(value))
        return chosen.else_(default)


def times(this: exp.Expr, factor: float) -> exp.Expr:
    return this if factor == 1 else exp.Mul(this=this, expression=exp.Literal.number(factor))


def literal(value: Operand | Value) -> exp.Expr:
    if isinstance(value, tuple):
        return exp.Array(expressions=[literal(v) for v in value])
    if isinstance(value, BusinessDays):
        return exp.Literal.number(value.days)
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, timedelta):
        seconds = exp.Literal.number(int(value.total_seconds()))
        return exp.Anonymous(this="to_seconds", expressions=[seconds])
    if isinstance(value, date):
        return exp.cast(exp.Literal.string(value.isoformat()), "DATE")
    if isinstance(value, int | float | Decimal):
        return exp.Literal.number(str(value)) if value >= 0 else exp.Neg(this=exp.Literal.number(str(-value)))
    return exp.Literal.string(str(value))


# --- Measures -------------------------------------------------------------------------------------------------


def measured(rule: Rule, name: str) -> str:
    """Return the column of the level's table that holds a rule's measure."""
    return f"{rule.id}.{name}"


def measure(rule: Rule, asked: Measure) -> exp.Expr:
    """Return a measure as an aggregate over the features of one subject."""
    compiler = Compiler(rule, ())
    where = compiler.condition(asked.where)
    if asked.calculate == "count":
        return _where(exp.Count(this=exp.Star()), where)
    if asked.calculate == "share":
        among = compiler.condition(asked.among)
        weight: exp.Expr = exp.Count(this=exp.Star())
        if asked.field:
            weight = exp.cast(exp.func("SUM", column(asked.field)), "DOUBLE")
        part = _where(weight, exp.and_(among, where))
        whole = _where(weight.copy(), among.copy())
        some = exp.func("COALESCE", exp.cast(part, "DOUBLE"), exp.Literal.number(0))
        return exp.Div(this=some, expression=exp.func("NULLIF", whole, exp.Literal.number(0)))
    function = {"mean": "AVG", "sum": "SUM", "min": "MIN", "max": "MAX", "median": "MEDIAN"}[asked.calculate]
    assert asked.field  # noqa: S101  # the reader saw to it
    return _where(exp.Anonymous(this=function, expressions=[column(asked.field)]), where)


def _where(aggregate: exp.Expr, condition: exp.Expr) -> exp.Expr:
    inner = aggregate.this if isinstance(aggregate, exp.Cast) else aggregate
    filtered = exp.Filter(this=inner.copy(), expression=exp.Where(this=condition))
    return exp.cast(filtered, "DOUBLE") if isinstance(aggregate, exp.Cast) else filtered
