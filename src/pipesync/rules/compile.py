"""Conditions become sqlglot expressions; nothing is ever pasted into SQL as text.

Whether a field is unknown is a fact of the connection, so it is settled here: a leaf over an unknown field is
`NULL::BOOLEAN`, any other is `COALESCE(test, FALSE)`, and SQL's AND, OR and NOT are then Kleene's logic. A rule's
verdict on a row is TRUE (fires), FALSE (clear) or NULL (unknown).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, timedelta
from decimal import Decimal

from sqlglot import exp

from pipesync.rules.conditions import All, Condition, Field, Leaf, Not, Operand, Parameter, as_moment
from pipesync.rules.format import Number, Rule

_COMPARE = {"eq": exp.EQ, "ne": exp.NEQ, "gt": exp.GT, "gte": exp.GTE, "lt": exp.LT, "lte": exp.LTE}
_AS_OF = "as_of"


def variable(name: str) -> exp.Expr:
    """Return a session variable that `features.compute` has set."""
    return exp.Anonymous(this="getvariable", expressions=[exp.Literal.string(name)])


def column(name: str) -> exp.Expr:
    if name.startswith("custom."):
        key = exp.Literal.string(name.removeprefix("custom."))
        return exp.Anonymous(this="map_extract_value", expressions=[column("custom"), key])
    return exp.column(exp.to_identifier(name, quoted=True))


class Compiler:
    """Compiles one rule's conditions: it knows the rule's parameters and what is unknown."""

    def __init__(self, rule: Rule, unknown: Collection[str]) -> None:
        self.rule, self.unknown = rule, unknown
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
        read = {leaf.field} | ({leaf.value.name} if isinstance(leaf.value, Field) else set())
        return any(name.split(".")[0] in self.unknown for name in read)

    def _leaf(self, leaf: Leaf) -> exp.Expr:
        if self.is_unknown(leaf):
            return exp.cast(exp.null(), "BOOLEAN")
        this = column(leaf.field)
        if leaf.operator == "missing":
            blank = exp.Is(this=this, expression=exp.null())
            return blank if leaf.value else exp.not_(blank)
        return exp.func("COALESCE", self._test(leaf, this), exp.true() if leaf.or_missing else exp.false())

    def _test(self, leaf: Leaf, this: exp.Expr) -> exp.Expr:
        value, operator = leaf.value, leaf.operator
        if operator in ("in", "not_in"):
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
        if operator in ("within_next", "within_last", "older_than"):
            return self._relative(leaf, this)
        return _COMPARE[operator](this=this, expression=self._value(value, leaf))

    def _relative(self, leaf: Leaf, this: exp.Expr) -> exp.Expr:
        """Moments are measured from as_of, dates from today, so that a date of today is within both."""
        now = variable("today") if leaf.kind == "date" else variable(_AS_OF)
        span = self._value(leaf.value, leaf)
        if leaf.operator == "within_next":
            return exp.Between(this=this, low=now, high=exp.Add(this=now.copy(), expression=span))
        then = exp.Sub(this=now, expression=span)
        if leaf.operator == "older_than":
            return exp.LT(this=this, expression=then)
        return exp.Between(this=this, low=then, high=now.copy())

    def _value(self, value: Operand, leaf: Leaf) -> exp.Expr:
        if isinstance(value, Parameter):
            return self.parameter(value.name)
        if isinstance(value, Field):
            other = column(value.name)
            return (
                other if value.times == 1 else exp.Mul(this=other, expression=exp.Literal.number(value.times))
            )
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
            self.rule.params[name],
        )

    def severity(self) -> exp.Expr:
        """Return the row's severity: the last rung of the ladder that holds, then overrides, then the rule's own."""
        rungs = [
            (exp.func("COALESCE", self.condition(c), exp.false()), s) for c, s in reversed(self.rule.ladder)
        ]
        said = [
            (m, o.severity) for m, o in zip(self._matches, self.rule.overrides, strict=True) if o.severity
        ]
        return self._chosen([*rungs, *said], self.rule.severity)

    def _chosen(
        self, cases: list[tuple[exp.Expr, Number | timedelta | str]], default: Number | timedelta | str
    ) -> exp.Expr:
        if not cases:
            return literal(default)
        chosen = exp.Case()
        for match, value in cases:
            chosen = chosen.when(match.copy(), literal(value))
        return chosen.else_(literal(default))


def literal(value: Operand | Mapping[str, object]) -> exp.Expr:
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
