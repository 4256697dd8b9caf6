"""A page per rule, for people who get its tasks and for those who tune it; and the list of them. Markdown, pure."""

from __future__ import annotations

from collections.abc import Collection

from pipesync.rules.conditions import as_text
from pipesync.rules.format import Rule
from pipesync.rules.resolved import in_words
from pipesync.rules.ruleset import RuleSet


def pages(rules: RuleSet) -> dict[str, str]:
    """Return path -> text: README.md and one page per rule."""
    index = listed(
        rules,
        recommended=(),
        link="{}.md",
        head="# Rules\n\nThe rules that run here, as they are in force.\n",
    )
    return {
        "README.md": index,
        **{f"{rule.id}.md": page(rule, rules.sources.get(rule.id, "")) for rule in rules},
    }


def listed(rules: RuleSet, recommended: Collection[str], link: str, head: str) -> str:
    """Return the list, by area; rules of `recommended` have a star."""
    lines = [head]
    areas = sorted({rule.id.split(".")[0] for rule in rules})
    for area in areas:
        lines += [f"## {area}\n", "| rule | what | severity | about |", "|---|---|---|---|"]
        for rule in rules:
            if rule.id.split(".")[0] == area:
                star = " ★" if rule.id in recommended else ""
                where = link.format(rule.id)
                lines.append(
                    f"| [`{rule.id}`]({where}){star} | {rule.title} | {rule.severity} | {rule.level} |"
                )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def page(rule: Rule, source: str = "") -> str:
    """Return a rule's page: why, when, what can be tuned, what it does not mean, its cases."""
    status = f"{rule.status}; {rule.status_note}" if rule.status_note else rule.status
    about = f"per {rule.level}" + (f", from {rule.min_n} cases on" if rule.min_n else "")
    origin = f" From {source}." if source else ""
    parts = [
        f"# {rule.title}\n\n`{rule.id}`, {rule.severity}, {about}, {status}.{origin}\n\n{rule.why}\n",
        *_when(rule),
        *_params(rule),
    ]
    if rule.false_positives:
        parts += ["## What it does not mean\n", *(f"- {case}" for case in rule.false_positives), ""]
    if rule.task:
        after = "".join(f"; {step.in_words}" for step in rule.escalations)
        asked = f"{rule.task.subject} ({rule.task.assignee}, {rule.task.due}{after})"
        parts += ["## What is asked\n", asked, ""]
    if rule.fields:
        parts += ["## What it needs to know\n", ", ".join(f"`{f}`" for f in sorted(rule.fields)) + ".", ""]
    cases = [str(c.get("name", "")) for c in rule.document.data.get("tests", [])]
    parts += ["## Its cases\n", *(f"- {name}" for name in cases if name), ""]
    seen = [*([f"<{rule.docs}>"] if rule.docs else []), *rule.sources]
    parts += [f"Seen in: {', '.join(seen)}."] if seen else []
    return "\n".join(parts).rstrip() + "\n"


def _when(rule: Rule) -> list[str]:
    lines = [
        "## When it fires\n",
        f"On what: {in_words(rule.applies_to)}.\n",
        f"When: {in_words(rule.when)}.\n",
    ]
    lines += [f"- {in_words(condition)}: {severity}" for condition, severity in rule.ladder]
    for override in rule.overrides:
        changes = [f"{n} = {as_text(v)}" for n, v in override.params.items()]
        changes += [override.severity] if override.severity else []
        lines.append(f"- where {in_words(override.match)}: {', '.join(changes)}")
    for measure in rule.measures.values():
        of = f" of {measure.field}" if measure.field else ""
        among = f", among {in_words(measure.among)}" if measure.calculate == "share" else ""
        lines.append(f"- `{measure.name}`: {measure.calculate}{of} where {in_words(measure.where)}{among}")
    if rule.runs > 1:
        lines.append(f"- it must hold for {rule.runs} runs")
    if rule.supersedes:
        lines.append(f"- where it fires, {', '.join(f'`{r}`' for r in rule.supersedes)} says nothing")
    return [*lines, ""]


def _params(rule: Rule) -> list[str]:
    if not rule.texts:
        return []
    head = [
        "## What can be tuned\n",
        "| parameter | in force | default | limits | what |",
        "|---|---|---|---|---|",
    ]
    rows = []
    for name, text in rule.texts.items():
        unit = f" {text.unit.replace('_', ' ')}" if text.unit else ""
        value, default = as_text(rule.params[name]), as_text(text.default)
        if learnt := rule.learnt.get(name):
            times = f" x {learnt.times:g}" if learnt.times != 1 else ""
            value = f"learnt: `{learnt.name}`{times}; where it is blank {value}"
        rows.append(f"| `{name}` | {value}{unit} | {default} | {text.limits} | {text.help} |")
    return [*head, *rows, ""]
