"""Run the rules: one statement judges every rule of a level, a second fetches the rows that fired.

Nothing here decides what is done about a finding; see `lifecycle` for how findings live and `plan` for tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pandas as pd
from sqlglot import exp

from pipesync.features import Features
from pipesync.model import SEVERITIES, Evidence, Finding, Level, Severity, StandingFinding
from pipesync.rules.compile import Compiler, column, measured
from pipesync.rules.conditions import All, AnyOf, Condition, Field, Leaf, Not, Parameter, as_text
from pipesync.rules.format import Rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.messages import is_blank, render, show, spoken_values, usual_filter
from pipesync.rules.portfolio import has_no_key, scope, table_of, unknown_of
from pipesync.store.warehouse import Warehouse

WEIGHTS: Mapping[Severity, int] = {"info": 0, "low": 1, "medium": 3, "high": 6, "critical": 10}
"""What a finding takes off an opportunity's ten points of hygiene."""

Subject = tuple[str, Level, str]
"""Rule, level, subject: what a finding is about, across runs."""


@dataclass(frozen=True)
class RuleResult:
    """What one rule said: how many rows in its scope fired, were clear, or could not be judged."""

    id: str
    title: str
    status: str
    severity: Severity
    level: Level
    fired: int
    clear: int
    unknown: int
    blame: tuple[str, ...] = ()
    """Fields that could not be read, where that left rows unknown."""


@dataclass(frozen=True)
class Evaluation:
    """What the rules say as of a moment. `score`: hygiene of the open pipeline, 0 to 100, weighted by amount."""

    connection: str
    as_of: datetime
    rules: tuple[RuleResult, ...]
    findings: tuple[Finding, ...]
    score: float
    open: int
    """Open opportunities, of which the breaker takes its share."""
    unknown: frozenset[Subject] = frozenset()
    """Standing findings that this run could not judge: they neither fire nor resolve."""
    ended: frozenset[Subject] = frozenset()
    """Standing findings whose subject is gone, or whose opportunity was closed: nobody mended them."""


def evaluate(
    warehouse: Warehouse,
    features: Features,
    rules: Iterable[Rule],
    *,
    stages: pd.DataFrame | None = None,
    standing: Sequence[StandingFinding] = (),
    tables: Mapping[Level, str] | None = None,
) -> Evaluation:
    """Judge every rule over the session's `features`, and stage rules over `stages` (of `analysis.stages`).

    `standing` are the ledger's findings: an open one keeps its first_seen and episode. `tables` are levels whose
    table the session has already.
    """
    known = {(s.rule, s.level, s.subject_id): s for s in standing}
    currency = next(
        (c.currency for c in warehouse.connections() if c.connection == features.connection), None
    )
    results: list[RuleResult] = []
    findings: list[Finding] = []
    unknown: set[Subject] = set()
    ended: set[Subject] = set()
    by_level: dict[Level, list[Rule]] = {}
    for rule in sorted(rules, key=lambda r: r.level != "opportunity"):
        by_level.setdefault(rule.level, []).append(rule)
    warehouse.register("penalties", _penalties(()))
    for level, some in by_level.items():
        if key := has_no_key(level, features.unknown):
            results += [_unjudgeable(rule, key) for rule in some]
            unknown |= {k for k in known if k[1] == level}
            continue
        table = (tables or {}).get(level) or table_of(warehouse, level, some, stages)
        if table is None:
            continue
        unread = unread_by(warehouse, features, some)
        judge(warehouse, some, table, unread)
        results += _counts(warehouse, some, unread)
        fired = _fired(warehouse, some, table)
        findings += _findings(fired, features, known, currency)
        if level == "opportunity":
            warehouse.register("penalties", _penalties(findings))
        asked = [k for k, s in known.items() if k[1] == level and not s.is_over]
        unjudged, gone = _unsettled(warehouse, some, asked, table)
        unknown |= unjudged
        ended |= gone
    open_count, score = _score(warehouse, findings) if not tables else (0, 100.0)
    order = {s: i for i, s in enumerate(SEVERITIES)}
    findings.sort(key=lambda f: (-order[f.severity], -(f.amount or Decimal(0)), f.rule, f.subject_id))
    results.sort(key=lambda r: r.id)
    return Evaluation(
        features.connection,
        features.as_of,
        tuple(results),
        tuple(findings),
        score,
        open_count,
        frozenset(unknown),
        frozenset(ended),
    )


def judge(warehouse: Warehouse, rules: Sequence[Rule], table: str, unknown: frozenset[str]) -> None:
    """Make the temporary table `judged`: subject, and per rule (by position) `a` in scope, `v` verdict."""
    subject = column("id") if table == "features" else column("subject_id")
    selected: list[exp.Expr] = [exp.alias_(subject, "subject")]
    for i, rule in enumerate(rules):
        compiler = Compiler(rule, unknown)
        applies = scope(rule, compiler)
        selected.append(exp.alias_(applies, f"a{i}"))
        selected.append(exp.alias_(exp.and_(applies.copy(), compiler.condition(rule.when)), f"v{i}"))
        selected.append(exp.alias_(exp.cast(compiler.severity(), "VARCHAR"), f"s{i}"))
        if rule.resolve_when:
            selected.append(exp.alias_(compiler.condition(rule.resolve_when), f"r{i}"))
    body = exp.select(*selected).from_(table).sql(dialect="duckdb")
    warehouse.execute(f"CREATE OR REPLACE TEMP TABLE judged AS {body}")


def unread_by(warehouse: Warehouse, features: Features, rules: Sequence[Rule]) -> frozenset[str]:
    """Return what rules of one level cannot know: the level's unknown columns, and custom fields that are not there."""
    return unknown_of(rules[0].level, features.unknown) | _unmapped(warehouse, rules)


def _unmapped(warehouse: Warehouse, rules: Sequence[Rule]) -> frozenset[str]:
    """Return the custom fields that rules ask for and no opportunity has: nobody can tell what they hold."""
    asked = {n for rule in rules for n in _features_of(rule) if n.startswith("custom.")}
    if not asked:
        return frozenset()
    rows = warehouse.rows("SELECT DISTINCT unnest(map_keys(custom)) FROM features")
    return frozenset(asked - {f"custom.{name}" for (name,) in rows})


def _features_of(rule: Rule) -> frozenset[str]:
    return rule.fields.union(*(m.fields for m in rule.measures.values()))


def _unjudgeable(rule: Rule, field: str) -> RuleResult:
    """A portfolio rule whose subjects cannot be told apart says that one thing is unknown, and why."""
    return RuleResult(
        rule.id, rule.title, rule.status, rule.severity, rule.level, 0, 0, unknown=1, blame=(field,)
    )


def _counts(warehouse: Warehouse, rules: Sequence[Rule], unknown: frozenset[str]) -> list[RuleResult]:
    counted = ", ".join(
        f"count(*) FILTER (v{i}), count(*) FILTER (a{i} AND v{i} IS FALSE), "
        f"count(*) FILTER (a{i} IS NOT FALSE AND v{i} IS NULL)"
        for i in range(len(rules))
    )
    row = warehouse.rows(f"SELECT {counted} FROM judged")[0]
    results = []
    for i, rule in enumerate(rules):
        fired, clear, open_ = row[3 * i : 3 * i + 3]
        blame = tuple(sorted(f for f in _features_of(rule) if _is_in(f, unknown))) if open_ else ()
        results.append(
            RuleResult(
                rule.id, rule.title, rule.status, rule.severity, rule.level, fired, clear, open_, blame
            )
        )
    return results


def _is_in(field: str, unknown: frozenset[str]) -> bool:
    return field in unknown or field.split(".")[0] in unknown


Fired = tuple[Rule, Severity, Mapping[str, Any]]  # Any: a row of the level's table


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
        return self.asks % f"{limit} (learnt from {row[self.counted_by]})"


def _fired(warehouse: Warehouse, rules: Sequence[Rule], table: str) -> list[Fired]:
    """Fetch the rows that fired with the columns that their texts and evidence need; superseded ones are left out."""
    columns = LEVELS[rules[0].level]
    needed = {"amount", "owner_id"}
    own: dict[str, str] = {}
    for rule in rules:
        for template in (rule.message, rule.subject, rule.propose):
            needed |= template.fields if template else set()
        needed |= rule.fields | rule.learnt_from
        own |= {measured(rule, name): name for name in rule.measures}
    names = sorted({n.split(".")[0] for n in needed} & (set(columns) | {"amount", "owner_id"})) + sorted(own)
    flags = ", ".join(f"v{i}, s{i}" for i in range(len(rules)))
    key = "id" if table == "features" else "subject_id"
    read = ", ".join(f't."{n}"' for n in names)
    rows = warehouse.rows(
        f"SELECT subject, {flags}, {read} FROM judged JOIN {table} AS t ON t.{key} = subject "
        f"WHERE {' OR '.join(f'v{i}' for i in range(len(rules)))} ORDER BY subject"
    )
    found: list[Fired] = []
    for row in rows:
        values = dict(zip(names, row[1 + 2 * len(rules) :], strict=True))
        values["subject"] = row[0]
        hits = [(rule, row[2 + 2 * i]) for i, rule in enumerate(rules) if row[1 + 2 * i]]
        hidden = {r for rule, _ in hits for r in rule.supersedes}
        found += [
            (rule, severity, _with_measures(values, rule)) for rule, severity in hits if rule.id not in hidden
        ]
    return found


def _with_measures(row: Mapping[str, Any], rule: Rule) -> Mapping[str, Any]:  # Any: a row
    """Give a rule's measures the names that its texts know them by."""
    return {**row, **{n: row[measured(rule, n)] for n in rule.measures}} if rule.measures else row


def _findings(
    fired: Sequence[Fired],
    features: Features,
    known: Mapping[Subject, StandingFinding],
    currency: str | None,
) -> list[Finding]:
    found = []
    rules = {rule.id: rule for rule, _, _ in fired}
    tests = {i: _tests(rule.when, rule) for i, rule in rules.items()}
    fields_of = {i: sorted(rule.spoken) for i, rule in rules.items()}
    # A copy costs a third of what making one from nothing does, and there may be tens of thousands.
    first = {i: _first(rule, features, currency) for i, rule in rules.items()}
    for rule, severity, row in fired:
        before = known.get((rule.id, rule.level, row["subject"]))
        is_standing = before is not None and not before.is_over
        amount = row.get("amount")
        found.append(
            first[rule.id].model_copy(
                update={
                    "subject_id": row["subject"],
                    "severity": severity,
                    "owner_id": row.get("owner_id"),
                    "message": render(rule.message, row, currency),
                    "headline": render(rule.subject, row, currency) if rule.subject else "",
                    "amount": amount if amount is None or isinstance(amount, Decimal) else _money(amount),
                    "evidence": _evidence(tests[rule.id], row, currency),
                    "values": spoken_values(row, fields_of[rule.id]) if rule.task else {},
                    "first_seen": before.first_seen if before and is_standing else features.as_of,
                    "episode": before.episode + (not is_standing) if before else 1,
                }
            )
        )
    return found


def _first(rule: Rule, features: Features, currency: str | None) -> Finding:
    """Return what all findings of a rule have in common."""
    return Finding(
        connection=features.connection,
        rule=rule.id,
        level=rule.level,
        subject_id="",
        severity=rule.severity,
        message="",
        currency=currency,
        first_seen=features.as_of,
    )


def _money(amount: float) -> Decimal | None:
    """Return an amount of a frame, where a blank is not a number."""
    return None if is_blank(amount) else Decimal(str(amount))


def _evidence(tests: Iterable[Test], row: Mapping[str, Any], currency: str | None) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            test.field,
            None if is_blank(value := row.get(test.field)) else show(value, test.filter, currency),
            test.in_words(row, currency),
        )
        for test in tests
    )


def _tests(condition: Condition, rule: Rule) -> list[Test]:
    """Return the leaves of a condition, each of which speaks for the verdict."""
    if isinstance(condition, Not):
        return _tests(condition.part, rule)
    if isinstance(condition, All | AnyOf):
        return [test for part in condition.parts for test in _tests(part, rule)]
    return [_test(condition, rule)]


def _test(leaf: Leaf, rule: Rule) -> Test:
    value, learnt = leaf.value, None
    if isinstance(value, Parameter):
        learnt = rule.learnt.get(value.name)
        value = rule.params.get(value.name, value.name)
    if isinstance(value, Field):
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


def _unsettled(
    warehouse: Warehouse, rules: Sequence[Rule], standing: Sequence[Subject], table: str
) -> tuple[set[Subject], set[Subject]]:
    """Return the standing findings that cannot be settled, and those that ended with their subject.

    The former have no verdict now, or are not yet as good as the rule asks.
    """
    position = {rule.id: i for i, rule in enumerate(rules)}
    asked = [s for s in standing if s[0] in position]
    if not asked:
        return set(), set()
    warehouse.register("asked", pd.DataFrame({"subject": sorted({s[2] for s in asked})}))
    flags = ", ".join(
        f"a{i} IS NOT FALSE AND (v{i} IS NULL" + (f" OR r{i} IS NOT TRUE)" if rule.resolve_when else ")")
        for i, rule in enumerate(rules)
    )
    scopes = ", ".join(f"a{i} IS FALSE" for i in range(len(rules)))
    closed = "NOT t.is_open" if table == "features" else "FALSE"
    key = "id" if table == "features" else "subject_id"
    rows = warehouse.rows(
        f"SELECT subject, {closed}, {flags}, {scopes} FROM judged SEMI JOIN asked USING (subject) "
        f"JOIN {table} AS t ON t.{key} = subject"
    )
    seen = {row[0]: row[1:] for row in rows}
    unjudged, ended = set(), set()
    for one in asked:
        i, row = position[one[0]], seen.get(one[2])
        if row is None or (row[0] and row[1 + len(rules) + i]):
            ended.add(one)
        elif row[1 + i]:
            unjudged.add(one)
    return unjudged, ended


def keep_penalties(warehouse: Warehouse, rules: Sequence[Rule]) -> None:
    """Make the table `penalties`, which owners' scores rest on, from what `judged` says of opportunities."""
    weights = " ".join(f"WHEN '{severity}' THEN {points}" for severity, points in WEIGHTS.items())
    points = " + ".join(f"CASE WHEN v{i} THEN CASE s{i} {weights} END ELSE 0 END" for i in range(len(rules)))
    warehouse.execute(
        f"CREATE OR REPLACE TEMP TABLE penalties AS SELECT subject AS id, {points} AS points FROM judged"
    )


def _penalties(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return what findings take off the ten points of each opportunity."""
    taken: Counter[str] = Counter()
    for finding in findings:
        taken[finding.subject_id] += WEIGHTS[finding.severity]
    return pd.DataFrame(
        {"id": pd.Series(list(taken), dtype="str"), "points": pd.Series(list(taken.values()), dtype="int64")}
    )


def _score(warehouse: Warehouse, findings: Sequence[Finding]) -> tuple[int, float]:
    """Return (open opportunities, score): 100 less the share of ten points each that findings take, by amount.

    An opportunity without an amount weighs as much as the mean of the others.
    """
    rows = warehouse.rows("SELECT id, amount::DOUBLE FROM features WHERE is_open")
    if not rows:
        return 0, 100.0
    known = [a for _, a in rows if a is not None and a > 0]
    mean = sum(known) / len(known) if known else 1.0
    taken: Counter[str] = Counter()
    for finding in findings:
        if finding.level == "opportunity":
            taken[finding.subject_id] += WEIGHTS[finding.severity]
    total = lost = 0.0
    for subject, amount in rows:
        weight = amount if amount is not None and amount > 0 else mean
        total += 10 * weight
        lost += min(10, taken[subject]) * weight
    return len(rows), round(100 * (1 - lost / total), 1)
