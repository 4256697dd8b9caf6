"""What is in force for a rule on this site, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipesync._paths import shipped
from pipesync.rules.conditions import All, AnyOf, Condition, Field, Leaf, Not, Operand, Parameter, as_text
from pipesync.rules.format import Rule


class Resolved(NamedTuple):
    """One value in force. `origin` is the place that says so: the rule's file, a preset or the site's file."""

    key: str
    value: str
    origin: str
    note: str = ""


def resolve(rule: Rule) -> Iterator[Resolved]:
    """Yield severity, parameters, overrides in their order, and what else decides about its findings."""

    def here(*path: str | int) -> str:
        place = rule.document.place(path)
        return f"{place.file}:{place.line}".removeprefix(f"{shipped('rules').parent}/")

    yield Resolved("severity", rule.severity, rule.origins.get("severity") or here("severity"))
    for name, value in rule.params.items():
        text = rule.texts[name]
        notes = [text.unit.replace("_", " ")] if text.unit else []
        notes += [text.limits] if text.limits else []
        origin = rule.origins.get(f"params.{name}")
        if origin:
            notes.append(f"default {as_text(text.default)}")
        yield Resolved(
            f"params.{name}", as_text(value), origin or here("params", name, "default"), ", ".join(notes)
        )
    ours = sum(key.startswith("overrides.") for key in rule.origins)
    for i, override in enumerate(rule.overrides):
        origin = rule.origins[f"overrides.{i}"] if i < ours else here("overrides", i - ours)
        changes = [f"{n} = {as_text(v)}" for n, v in override.params.items()]
        changes += [f"severity = {override.severity}"] if override.severity else []
        yield Resolved(f"where {in_words(override.match)}", ", ".join(changes) or "nothing", origin)
    for i, (condition, severity) in enumerate(rule.ladder):
        yield Resolved(f"where {in_words(condition)}", f"severity = {severity}", here("severity_ladder", i))
    if rule.min_n:
        yield Resolved("min_n", str(rule.min_n), here("min_n"))
    yield Resolved("for", f"{rule.runs} run{'s' if rule.runs > 1 else ''}", here("for"))
    yield Resolved(
        "resolve.after", f"{rule.clean_runs} clean run{'s' if rule.clean_runs > 1 else ''}", here("resolve")
    )
    if rule.resolve_when:
        yield Resolved("resolve.when", in_words(rule.resolve_when), here("resolve", "when"))
    if rule.supersedes:
        yield Resolved("supersedes", ", ".join(rule.supersedes), here("supersedes"))
    if rule.task:
        yield Resolved("task.due", rule.task.due, here("task"))
        yield Resolved("task.assignee", rule.task.assignee, here("task"))


def in_words(condition: Condition) -> str:
    """Write a condition on one line, as ops would say it."""
    if isinstance(condition, Leaf):
        if condition.operator == "missing":
            return f"{condition.field} is {'blank' if condition.value else 'not blank'}"
        said = f"{condition.field} {SIGNS[condition.operator]} {_operand(condition.value)}"
        return f"{said} or blank" if condition.or_missing else said
    if isinstance(condition, Not):
        return f"not ({in_words(condition.part)})"
    if not condition.parts:
        return "everything"
    return (" and " if isinstance(condition, All) else " or ").join(
        f"({in_words(p)})" if isinstance(p, All | AnyOf) and p.parts else in_words(p) for p in condition.parts
    )


SIGNS = {
    "eq": "is", "ne": "is not", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": "in", "not_in": "not in",
    "within_next": "within the next", "within_last": "within the last", "older_than": "longer ago than",
    "contains": "contains", "matches": "matches", "between": "between",
}  # fmt: skip


def _operand(value: Operand) -> str:
    if isinstance(value, Parameter):
        return f"${value.name}"
    if isinstance(value, Field):
        return value.name if value.times == 1 else f"{value.name} x {value.times:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_operand, value))}]"
    return as_text(value)
