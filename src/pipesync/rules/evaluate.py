"""Run the rules: one statement judges every rule of a level, a second fetches the rows that fired.

Nothing here decides what is done about a finding; see `lifecycle` for how findings live and `plan` for tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa
from sqlglot import exp

from pipesync.features import Features
from pipesync.model import SEVERITIES, Finding, Level, Severity, StandingFinding
from pipesync.rules.compile import Compiler, column, measured
from pipesync.rules.findings import KEYS, Findings, Fired, Moment, Subject
from pipesync.rules.format import Rule
from pipesync.rules.levels import LEVELS
from pipesync.rules.portfolio import has_no_key, scope, table_of, unknown_of
from pipesync.store.warehouse import Warehouse

WEIGHTS: Mapping[Severity, int] = {"info": 0, "low": 1, "medium": 3, "high": 6, "critical": 10}
"""What a finding takes off an opportunity's ten points of hygiene."""

_SEVERITY = exp.DataType.build(f"ENUM({', '.join(map(repr, SEVERITIES))})", dialect="duckdb")


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
    findings: Sequence[Finding]
    """The most severe first, then by what is at stake."""
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
    moment = Moment(features.connection, features.as_of, currency, known)
    results: list[RuleResult] = []
    fired: list[Fired] = []
    unknown: set[Subject] = set()
    ended: set[Subject] = set()
    by_level: dict[Level, list[Rule]] = {}
    for rule in sorted(rules, key=lambda r: r.level != "opportunity"):
        by_level.setdefault(rule.level, []).append(rule)
    warehouse.execute(_NO_PENALTIES)
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
        fired += _fired(warehouse, some, table, moment)
        if level == "opportunity":
            keep_penalties(warehouse, some)
        asked = [k for k, s in known.items() if k[1] == level and not s.is_over]
        unjudged, gone = _unsettled(warehouse, some, asked, table)
        unknown |= unjudged
        ended |= gone
    open_count, score = _score(warehouse) if not tables else (0, 100.0)
    results.sort(key=lambda r: r.id)
    return Evaluation(
        features.connection,
        features.as_of,
        tuple(results),
        Findings(fired),
        score,
        open_count,
        frozenset(unknown),
        frozenset(ended),
    )


def judge(warehouse: Warehouse, rules: Sequence[Rule], table: str, unknown: frozenset[str]) -> None:
    """Make the temporary table `judged`: subject, and per rule (by position) `a` in scope, `v` verdict.

    Where a rule knows more than one severity `s` tells the row's; see `severity_of`.
    """
    subject = column("id") if table == "features" else column("subject_id")
    selected: list[exp.Expr] = [exp.alias_(subject, "subject")]
    for i, rule in enumerate(rules):
        compiler = Compiler(rule, unknown)
        applies = scope(rule, compiler)
        selected.append(exp.alias_(applies, f"a{i}"))
        selected.append(exp.alias_(exp.and_(applies.copy(), compiler.condition(rule.when)), f"v{i}"))
        if rule.has_severities:
            selected.append(exp.alias_(exp.cast(compiler.severity(), _SEVERITY), f"s{i}"))
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


def _fired(warehouse: Warehouse, rules: Sequence[Rule], table: str, moment: Moment) -> list[Fired]:
    """Fetch by rule the rows that fired, with what its texts and evidence name; superseded ones are left out."""
    own = [_named(rule) for rule in rules]
    names = sorted({column for columns in own for column in columns.values()})
    flags = ", ".join(
        f"{_shown(rules, i)} AS v{i}, {severity_of(rule, i)} AS s{i}" for i, rule in enumerate(rules)
    )
    read = "".join(f', t."{n}"' for n in names)
    key = "id" if table == "features" else "subject_id"
    query = (
        f'SELECT subject AS ":subject", {flags}, t.owner_id AS ":owner", t.amount AS ":amount"{read} '
        f"FROM judged JOIN {table} AS t ON t.{key} = subject "
        f"WHERE {' OR '.join(f'v{i}' for i in range(len(rules)))}"
    )
    parts: dict[int, list[pa.Table]] = {}
    for batch in warehouse.batches(query):
        for i, columns in enumerate(own):
            fires = batch.column(f"v{i}")
            if fires.true_count:
                rows = batch.select([":subject", f"s{i}", ":owner", ":amount", *columns.values()]).filter(
                    fires
                )
                parts.setdefault(i, []).append(rows.rename_columns([*KEYS, *columns]))
    return [Fired(rules[i], pa.Table.from_batches(batches), moment) for i, batches in parts.items()]


def _named(rule: Rule) -> dict[str, str]:
    """Return what a rule's texts and evidence name -> the column of its level's table that holds it."""
    asked = rule.spoken | rule.fields | rule.learnt_from
    known = {name.split(".")[0] for name in asked} & set(LEVELS[rule.level])
    return {**{n: n for n in sorted(known)}, **{n: measured(rule, n) for n in rule.measures}}


def _shown(rules: Sequence[Rule], i: int) -> str:
    """Return whether a rule fires on a row of `judged` and none that supersedes it does, as SQL."""
    over = [f"v{k}" for k, rule in enumerate(rules) if rules[i].id in rule.supersedes]
    return f"v{i} AND NOT coalesce({' OR '.join(over)}, FALSE)" if over else f"v{i}"


def severity_of(rule: Rule, i: int) -> str:
    """Return the severity of a row of `judged` under the rule at this position, as SQL."""
    return f"s{i}::VARCHAR" if rule.has_severities else f"'{rule.severity}'"


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
    """Make the table `penalties`, what findings take off the ten points of each opportunity, from what `judged` says.

    Rules of another level take nothing.
    """
    weights = " ".join(f"WHEN '{severity}' THEN {points}" for severity, points in WEIGHTS.items())
    points = " + ".join(
        f"CASE WHEN {_shown(rules, i)} THEN CASE {severity_of(rule, i)} {weights} END ELSE 0 END"
        for i, rule in enumerate(rules)
    )
    warehouse.execute(
        "CREATE OR REPLACE TEMP TABLE penalties AS "
        f"SELECT * FROM (SELECT subject AS id, ({points})::BIGINT AS points FROM judged) WHERE points > 0"
    )


_NO_PENALTIES = "CREATE OR REPLACE TEMP TABLE penalties (id VARCHAR, points BIGINT)"

# Sums of decimals are exact, so that no order of rows shows in them.
_SCORE = """
SELECT count(*), coalesce(avg(amount) FILTER (weighs), 1), coalesce(sum(amount) FILTER (weighs), 0),
       count(*) FILTER (NOT weighs), coalesce(sum(amount * lost) FILTER (weighs), 0),
       coalesce(sum(lost) FILTER (NOT weighs), 0)
FROM (SELECT amount, coalesce(amount > 0, FALSE) AS weighs, least(10, coalesce(points, 0)) AS lost
      FROM features LEFT JOIN penalties USING (id) WHERE is_open)
"""


def _score(warehouse: Warehouse) -> tuple[int, float]:
    """Return (open opportunities, score): 100 less the share of ten points each that findings take, by amount.

    An opportunity without an amount weighs as much as the mean of the others.
    """
    [(count, mean, weight, blank, lost, lost_blank)] = warehouse.rows(_SCORE)
    total = 10 * (float(weight) + blank * mean)
    return count, round(100 * (1 - (float(lost) + lost_blank * mean) / total), 1) if count else 100.0
