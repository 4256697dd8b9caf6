"""What rehearsals of rules say, to people and to programs: the backtest, and the difference that an edit makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from pipesync.report.draw import Row, grid, money, number, percent

if TYPE_CHECKING:
    from datetime import datetime

    from pipesync.rules.backtest import Backtest, Contrast, Replay, Share
    from pipesync.rules.difference import Difference, RuleChange
    from pipesync.rules.scores import Score

Entry = dict[str, Any]  # Any: JSON
REPLAY_KEYS = (
    "id", "severity", "judged", "fired", "unknown", "opened", "opened_per_rep_week", "value_share",
    "slip_flagged", "slip_flagged_low", "slip_flagged_high", "slip_others", "slip_difference",
    "slip_difference_low", "slip_difference_high", "loss_flagged", "loss_others", "loss_difference",
    "loss_difference_low", "loss_difference_high", "lead_days",
)  # fmt: skip


def replayed(found: Backtest) -> Entry:
    return {
        "since": found.since,
        "until": found.until,
        "weeks": len(found.origins),
        "rep_weeks": found.rep_weeks,
        "rules": [_replay(r) for r in found.replays],
    }


def _replay(one: Replay) -> Entry:
    keys = ("title", "severity", "level", "judged", "fired", "unknown", "blame", "opened", "opened_per_rep_week",
            "value_share", "lead_days")  # fmt: skip
    entry: Entry = {"id": one.rule} | {key: getattr(one, key) for key in keys}
    for name, contrast in (("slip", one.slip), ("loss", one.loss)):
        entry |= _contrast(name, contrast)
    return entry


def _contrast(name: str, found: Contrast | None) -> Entry:
    def share(side: str, of: Share) -> Entry:
        return {
            f"{name}_{side}": of.value, f"{name}_{side}_low": of.low, f"{name}_{side}_high": of.high,
            f"{name}_{side}_n": of.opportunities,
        }  # fmt: skip

    if found is None:
        return {}
    difference = {"": found.difference, "_low": found.low, "_high": found.high}
    return (
        share("flagged", found.flagged)
        | share("others", found.others)
        | {f"{name}_difference{end}": value for end, value in difference.items()}
    )


def replay_view(found: Backtest) -> tuple[RenderableType, ...]:
    """Show what rules said and what came of it; what is beyond chance is in bold."""
    weeks = len(found.origins)
    head = Text.assemble(
        (found.connection, "bold"),
        (f"  {weeks} weeks from {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}, "
         f"{found.rep_weeks:,} rep-weeks", "dim"),
    )  # fmt: skip
    rows: list[Row] = []
    for one in sorted(found.replays, key=lambda r: -r.fired):
        if not one.fired and not one.unknown:
            continue
        rows.append(
            [
                one.rule,
                number(one.opened_per_rep_week, 2),
                percent(one.value_share),
                _side(one.slip),
                _points(one.slip),
                _side(one.loss),
                _points(one.loss),
                number(one.lead_days),
            ]
        )
    table = grid(
        [
            "rule",
            ">new per rep-week",
            ">of value",
            ">slip, not",
            ">points",
            ">loss, not",
            ">points",
            ">lead d",
        ],
        rows,
    )
    silent = [r.rule for r in found.replays if not r.fired and not r.unknown]
    unknown = [f"{r.rule} ({', '.join(r.blame)})" for r in found.replays if r.unknown]
    notes = []
    if silent:
        notes.append(Text(f"never fired: {', '.join(silent)}", "dim"))
    if unknown:
        notes.append(Text(f"not known of the past, in part or whole: {', '.join(unknown)}", "yellow"))
    return (head, table, *notes)


def _side(found: Contrast | None) -> str:
    """Return the shares of flagged and not flagged, as `31% 12%`."""
    if found is None or not found.flagged.opportunities:
        return "–"
    return f"{percent(found.flagged.value)} {percent(found.others.value)}"


def _points(found: Contrast | None) -> Text:
    if found is None or math.isnan(found.difference):
        return Text("–" if found is None or not found.flagged.opportunities else "too few", "dim")
    said = f"{100 * found.difference:+.0f} ({100 * found.low:+.0f} to {100 * found.high:+.0f})"
    return Text(said, "bold" if found.is_told else "")


def replay_table(found: Backtest) -> str:
    """Write the same as a Markdown table, for the docs."""
    lines = [
        "| rule | new per rep-week | of open value | slip: flagged, others | points | loss: flagged, others | points "
        "| lead, days |",
        "|---|---:|---:|---|---|---|---|---:|",
    ]
    for one in sorted(found.replays, key=lambda r: r.rule):
        cells = [
            f"`{one.rule}`", number(one.opened_per_rep_week, 2), percent(one.value_share), _side(one.slip),
            str(_points(one.slip)), _side(one.loss), str(_points(one.loss)), number(one.lead_days),
        ]  # fmt: skip
        if one.level != "opportunity":
            cells[1:] = [f"{one.fired:,} of {one.judged:,} {one.level}-weeks", *["–"] * 6]
        if one.unknown and not one.fired and not one.judged:
            cells[1:] = [f"unknown: past of {', '.join(one.blame)}", *[""] * 6]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# --- The score ----------------------------------------------------------------------------------------------------

SCORE_KEYS = ("scope", "id", "name", "score", "before", "open", "amount", "says")


def scored(found: Sequence[Score], as_of: datetime) -> Entry:
    return {
        "as_of": as_of,
        "scores": [
            {key: getattr(one, key) for key in SCORE_KEYS}
            | {"costs": [{"rule": rule, "points": points} for rule, points in one.costs]}
            for one in found
        ],
    }


def score_view(connection: str, found: Sequence[Score], limit: int) -> tuple[RenderableType, ...]:
    rows: list[Row] = [
        [s.name, number(s.score), number(s.open), money(s.amount), s.says] for s in found[:limit]
    ]
    rest = len(found) - limit
    more = [Text(f"... and {rest:,} more", "dim")] if rest > 0 else []
    return (Text(connection, "bold"), grid(["who", ">score", ">open", ">amount", "why"], rows), *more)


# --- The difference ---------------------------------------------------------------------------------------------


def difference(found: Difference) -> Entry:
    rules = [
        {
            "id": r.rule, "edit": r.edit, "values": r.values, "before": r.before, "after": r.after, "opens": r.opens,
            "closes": r.closes, "changes": r.changes, "amount": r.amount,
        }
        for r in found.rules
    ]  # fmt: skip
    findings = [
        {
            "fate": c.fate, "rule": c.finding.rule, "severity": c.finding.severity, "was": c.was,
            "subject_id": c.finding.subject_id, "level": c.finding.level, "owner_id": c.finding.owner_id,
            "amount": c.finding.amount, "message": c.finding.message,
        }
        for c in found.findings
    ]  # fmt: skip
    return {
        "rules": rules,
        "findings": findings,
        "score_before": found.score_before,
        "score_after": found.score_after,
        "breaker": found.breaker,
    }


def _edit(change: RuleChange) -> str:
    return change.edit if not change.values else f"{change.edit}: {'; '.join(change.values)}"


def difference_view(found: Difference, limit: int) -> tuple[RenderableType, ...]:
    if not found.rules:
        return (Text.assemble((found.connection, "bold"), "  nothing opens, closes or changes"),)
    rows: list[Row] = [
        [r.rule, number(r.before), number(r.after), f"+{r.opens}", f"-{r.closes}", str(r.changes), money(r.amount),
         Text(_edit(r), "dim")]
        for r in found.rules
    ]  # fmt: skip
    score = f"  score {found.score_before:.1f} -> {found.score_after:.1f}"
    table = grid(["rule", ">before", ">after", ">opens", ">closes", ">changes", ">amount", "edit"], rows)
    marks = {"opens": ("+", "green"), "closes": ("-", "red"), "changes": ("~", "yellow")}
    listed: list[Row] = [
        [Text(*marks[c.fate]), f"{c.was} -> {c.finding.severity}" if c.was else c.finding.severity, c.finding.rule,
         c.finding.message]
        for c in found.findings[:limit]
    ]  # fmt: skip
    rest = len(found.findings) - limit
    parts: list[RenderableType] = [Text.assemble((found.connection, "bold"), (score, "dim")), table]
    parts += ["", grid(["", "severity", "rule", "what"], listed)] if listed else []
    parts += [Text(f"... and {rest:,} more", "dim")] if rest > 0 else []
    parts += (
        [Text(f"the breaker would hold back: {', '.join(found.breaker)}", "yellow")] if found.breaker else []
    )
    return tuple(parts)


def difference_markdown(found: Difference, limit: int) -> str:
    """Write it for a comment on a pull request: counts and rules, and no names of customers."""
    lines = [f"### Rules on `{found.connection}`", ""]
    if not found.rules:
        return "\n".join([*lines, "Nothing opens, closes or changes.", ""])
    lines += [
        f"Score {found.score_before:.1f} → {found.score_after:.1f}.",
        "",
        "| rule | before | after | opens | closes | changes | amount | edit |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| `{r.rule}` | {r.before} | {r.after} | +{r.opens} | -{r.closes} | {r.changes} | {money(r.amount)} "
        f"| {_edit(r)} |"
        for r in found.rules
    ]
    told = [f"- {c.fate}: `{c.finding.rule}` on `{c.finding.subject_id}`"
            + (f" ({c.was} → {c.finding.severity})" if c.was else "") for c in found.findings[:limit]]  # fmt: skip
    if told:
        rest = len(found.findings) - limit
        more = [f"- … and {rest:,} more"] if rest > 0 else []
        lines += ["", "<details><summary>Findings</summary>", "", *told, *more, "", "</details>"]
    if found.breaker:
        lines += ["", f"The breaker would hold back: {', '.join(f'`{r}`' for r in found.breaker)}."]
    return "\n".join([*lines, ""])
