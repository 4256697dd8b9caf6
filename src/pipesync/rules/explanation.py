"""Why a rule says what it says of one subject: the tree of its conditions with values and verdicts, recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlglot import exp

from pipesync.errors import InputError, Problem
from pipesync.features import Features
from pipesync.model import Severity
from pipesync.rules.compile import Compiler, column, measured
from pipesync.rules.conditions import (
    All,
    AnyOf,
    Condition,
    Field,
    Leaf,
    Not,
    Operand,
    Parameter,
    as_text,
)
from pipesync.rules.evaluate import evaluate, unread_by
from pipesync.rules.format import Rule
from pipesync.rules.messages import is_blank, render, show, usual_filter
from pipesync.rules.portfolio import scope, table_of
from pipesync.rules.resolved import SIGNS
from pipesync.rules.ruleset import RuleSet
from pipesync.store.warehouse import Warehouse

Verdict = bool | None
"""True, False, or None where it cannot be known."""


@dataclass(frozen=True)
class Node:
    """A condition and its verdict: `all`, `any` and `not` have parts, a leaf has words for what was compared."""

    verdict: Verdict
    words: str
    parts: tuple[Node, ...] = ()
    field: str = ""
    value: str | None = None


@dataclass(frozen=True)
class Explanation:
    """What one rule says of one subject, and every step to it."""

    rule: str
    title: str
    subject: str
    name: str
    as_of: datetime
    result: str
    severity: Severity | None
    scope: Node
    when: Node
    params: Mapping[str, str]
    """As they hold for this subject, after the overrides."""
    override: int | None
    """Which override matched, from 1."""
    superseded_by: tuple[str, ...]
    """Rules that fire as well and speak in place of this one."""
    message: str
    """What the finding says, where it fires."""


def explain(
    warehouse: Warehouse,
    features: Features,
    rules: RuleSet,
    rule_id: str,
    subject: str,
    *,
    stages: pd.DataFrame | None = None,
    currency: str | None = None,
) -> Explanation:
    """Judge one subject again, node by node, over the session's features; InputError for a subject that is not there.

    `subject` is an opportunity's id or its name; on other levels an owner's id, a team's name and so on.
    """
    rule = rules[rule_id]
    if "hygiene_score" in rule.fields:  # it rests on what the others find
        evaluate(warehouse, features, [r for r in rules if r.level == "opportunity"])
    others = [r for r in rules if rule.id in r.supersedes and r.level == rule.level]
    table = table_of(warehouse, rule.level, [rule, *others], stages)
    if table is None:
        raise InputError(Problem(f"there are no {rule.level}s to judge"))
    key = "id" if rule.level == "opportunity" else "subject_id"
    found = _find(warehouse, table, key, subject, rule)
    unknown = unread_by(warehouse, features, [rule])
    compiler = Compiler(rule, unknown)
    nodes: list[exp.Expr] = []
    for condition in (rule.applies_to, rule.when, *(o.match for o in rule.overrides)):
        _collect(condition, compiler, nodes)
    asked = [
        *nodes,
        scope(rule, compiler),
        compiler.severity(),
        *(compiler.parameter(n) for n in rule.params),
    ]
    names = sorted({n.split(".")[0] if n.startswith("custom.") else n for n in _read(rule)})
    columns = [column(measured(rule, n) if n in rule.measures else n) for n in names]
    selected = [exp.alias_(e, f"x{i}") for i, e in enumerate([*asked, *columns])]
    query = exp.select(*selected).from_(table).sql(dialect="duckdb")
    [row] = warehouse.rows(f'{query} WHERE "{key}" = ?', [found])
    values = dict(zip(names, row[len(asked) :], strict=True))
    verdicts = iter(row[: len(nodes)])
    seen, severity = row[len(nodes)], row[len(nodes) + 1]
    params = dict(zip(rule.params, row[len(nodes) + 2 : len(asked)], strict=True))
    told = _Words(rule, values, params, currency)
    applies = told.node(rule.applies_to, verdicts)
    when = told.node(rule.when, verdicts)
    matched = [told.node(o.match, verdicts).verdict is True for o in rule.overrides]
    if rule.min_n:
        parts = () if applies.words == "everything" else (applies,)
        applies = Node(seen, "all", (*parts, told.enough(warehouse, table, key, found)))
    verdict = False if applies.verdict is False or when.verdict is False else applies.verdict and when.verdict
    result = "out_of_scope" if applies.verdict is False else _WORDS[verdict]
    return Explanation(
        rule=rule.id,
        title=rule.title,
        subject=found,
        name=str(values.get("name") or found),
        as_of=features.as_of,
        result=result,
        severity=severity if result == "fires" else None,
        scope=applies,
        when=when,
        params={n: as_text(v if not isinstance(v, list) else tuple(v)) for n, v in params.items()},
        override=matched.index(True) + 1 if True in matched else None,
        superseded_by=_firing(warehouse, features, others if result == "fires" else [], table, key, found),
        message=render(rule.message, values, currency) if result == "fires" else "",
    )


_WORDS = {True: "fires", False: "clear", None: "unknown"}


def _read(rule: Rule) -> set[str]:
    return {*rule.fields, *rule.message.fields} | ({"name"} if rule.level == "opportunity" else set())


def _find(warehouse: Warehouse, table: str, key: str, subject: str, rule: Rule) -> str:
    """Return the subject's id, by its id or, where only one has it, by its name."""
    if warehouse.rows(f'SELECT 1 FROM {table} WHERE "{key}" = ?', [subject]):
        return subject
    named = "name" if rule.level == "opportunity" else "owner_name" if rule.level == "owner" else key
    found = warehouse.rows(
        f'SELECT "{key}" FROM {table} WHERE lower("{named}") = lower(?) LIMIT 5', [subject]
    )
    if len(found) == 1:
        return str(found[0][0])
    if found:
        ids = ", ".join(str(i) for (i,) in found)
        raise InputError(Problem(f"several are called {subject!r}", fix=f"give an id: {ids}"))
    raise InputError(
        Problem(
            f"no {rule.level} {subject!r} as of then", fix="give its id or its name, as in `pipesync check`"
        )
    )


def _collect(condition: Condition, compiler: Compiler, into: list[exp.Expr]) -> None:
    """Compile a condition and all below it, in the order in which `_Words.node` asks for the verdicts."""
    into.append(compiler.condition(condition))
    parts = condition.parts if isinstance(condition, All | AnyOf) else ()
    for part in (condition.part,) if isinstance(condition, Not) else parts:
        _collect(part, compiler, into)


@dataclass(frozen=True)
class _Words:
    """Writes conditions for people, with one subject's values."""

    rule: Rule
    values: Mapping[str, Any]  # Any: a row
    params: Mapping[str, Any]  # Any: a row
    currency: str | None

    def node(self, condition: Condition, verdicts: Any) -> Node:  # Any: an iterator over a row
        verdict = next(verdicts)
        if isinstance(condition, Leaf):
            value = self._value(condition.field)
            shown = None if is_blank(value) else self._shown(value, condition)
            return Node(verdict, self._leaf(condition), (), condition.field, shown)
        if isinstance(condition, Not):
            return Node(verdict, "not", (self.node(condition.part, verdicts),))
        parts = tuple(self.node(p, verdicts) for p in condition.parts)
        if not parts:
            return Node(verdict, "everything")
        return Node(verdict, "all" if isinstance(condition, All) else "any", parts)

    def enough(self, warehouse: Warehouse, table: str, key: str, subject: str) -> Node:
        [(n,)] = warehouse.rows(f'SELECT n FROM {table} WHERE "{key}" = ?', [subject])
        return Node(n >= self.rule.min_n, f"n >= {self.rule.min_n} (min_n)", (), "n", f"{n:,}")

    def _leaf(self, leaf: Leaf) -> str:
        if leaf.operator == "missing":
            return f"{leaf.field} is {'blank' if leaf.value else 'not blank'}"
        said = f"{leaf.field} {SIGNS[leaf.operator]} {self._operand(leaf.value, leaf)}"
        return f"{said}, or blank" if leaf.or_missing else said

    def _operand(self, value: Operand, leaf: Leaf) -> str:
        if isinstance(value, Parameter):
            given = self.params[value.name]
            unit = self.rule.texts[value.name].unit.replace("_", " ")
            if unit == "home currency":
                unit = ""
            shown = as_text(tuple(given)) if isinstance(given, list) else self._shown(given, leaf)
            return f"{shown}{' ' + unit if unit else ''} (${value.name})"
        if isinstance(value, Field):
            other = self._value(value.name)
            shown = "blank" if is_blank(other) else self._shown(other, leaf)
            times = f" x {value.times:g}" if value.times != 1 else ""
            return f"{value.name}{times} ({shown}{times})"
        if isinstance(value, tuple):
            return (
                " and ".join(self._operand(v, leaf) for v in value)
                if leaf.operator == "between"
                else (f"[{', '.join(self._operand(v, leaf) for v in value)}]")
            )
        return self._shown(value, leaf)

    def _shown(self, value: object, leaf: Leaf) -> str:
        if isinstance(value, float) and leaf.kind in ("number", "days"):
            return f"{value:,.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.4g}"
        if isinstance(value, bool | timedelta | tuple):
            return as_text(value)
        return show(value, usual_filter(leaf.kind), self.currency)

    def _value(self, name: str) -> Any:  # Any: a cell
        if name.startswith("custom."):
            return (self.values.get("custom") or {}).get(name.removeprefix("custom."))
        return self.values.get(name)


def _firing(
    warehouse: Warehouse, features: Features, rules: Sequence[Rule], table: str, key: str, subject: str
) -> tuple[str, ...]:
    found = []
    for rule in rules:
        compiler = Compiler(rule, unread_by(warehouse, features, [rule]))
        fires = exp.and_(scope(rule, compiler), compiler.condition(rule.when))
        query = exp.select(exp.alias_(fires, "fires")).from_(table).sql(dialect="duckdb")
        if warehouse.rows(f'{query} WHERE "{key}" = ?', [subject]) == [(True,)]:
            found.append(rule.id)
    return tuple(found)
