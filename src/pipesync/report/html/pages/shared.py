"""What several pages say in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from pipesync.forecast.targets import Target
from pipesync.model import Finding, PeriodForecast, Scope
from pipesync.report.html.blocks import (
    BLANK,
    Cell,
    Column,
    Range,
    Row,
    Scale,
    Sentence,
    day,
    drill,
    money,
    opportunity,
    share,
    text,
)
from pipesync.report.html.blocks import sentence as sentence_cell
from pipesync.report.html.wording import finding_text
from pipesync.report.material import Material

DIMENSIONS: Mapping[Scope, str] = {
    "manager": "Manager",
    "team": "Team",
    "owner": "Owner",
    "product": "Product",
    "source": "Source",
    "segment": "Segment",
    "pipeline": "Pipeline",
    "currency": "Currency",
}
"""Scope -> its title, in the order in which people ask."""
SEVERITY_WORDS = {"critical": "Critical", "high": "High", "medium": "Medium", "low": "Low", "info": "Info"}


def sentence(parts: Sequence[str]) -> str:
    """Join what is not known: `leads; line items` becomes `Leads; line items.`"""
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def last_day(made: Material) -> Cell:
    return day(made.forecast.period.end - timedelta(days=1))


def target_of(made: Material, scope: Scope = "total", name: str = "") -> Target | None:
    return next((t for t in made.targets if (t.scope, t.scope_id) == (scope, name)), None)


def own_target(made: Material) -> Target | None:
    """Return the audience's own quota."""
    scopes: dict[str, Scope] = {"leader": "total", "manager": "manager", "rep": "owner"}
    return target_of(made, scopes[made.audience.kind], made.audience.person)


def facets(made: Material, owner: str | None = None, **more: str | None) -> dict[str, str]:
    """Return what a filter keeps a row by; a person's team comes with the person."""
    found = {k: v for k, v in more.items() if v}
    if owner:
        found["owner"] = owner
        user = made.users.get(owner)
        if user and user.team:
            found.setdefault("team", user.team)
    return found


def facets_of(made: Material, scope: Scope, name: str) -> dict[str, str]:
    if scope == "owner":
        return facets(made, name)
    return {scope: name} if scope in ("team", "product", "pipeline", "currency") else {}


def label_of(made: Material, scope: Scope, name: str) -> str:
    if scope in ("owner", "manager"):
        return made.name(name)
    return name or "Not said"


def drill_of(scope: Scope, name: str, **more: str) -> str:
    return drill(**{scope: name}, **more) if scope != "total" else drill(**more)


Calculation = Literal["likely", "spread", "reach", "quota", "coverage", "new"]


def behind(what: Calculation, scope: Scope = "total", name: str = "") -> str:
    """Return the address of what a figure is made of that is no sum of opportunities."""
    return drill_of(scope, name, calc=what)


def interval(one: PeriodForecast, scale: Scale, quota: float | None = None) -> Range:
    low, high = one.interval
    return Range(
        low=scale.at(low),
        middle=scale.at(one.p50),
        high=scale.at(high),
        done=scale.at(one.closed),
        target=scale.at(quota) if quota else None,
        label=f"from {money(low, one.currency).text} to {money(high, one.currency).text}, "
        f"most likely {money(one.p50, one.currency).text}, won {money(one.closed, one.currency).text}",
    )


FORECAST_COLUMNS = (
    Column("Won", "right", wide_only=True),
    Column("Low (P10)", "right", "One time in ten it is less.", wide_only=True),
    Column("Likely (P50)", "right", "As often more as less."),
    Column("High (P90)", "right", "One time in ten it is more.", wide_only=True),
    Column("Interval", "mark", "Dark: won. Band: 80% interval. Line: likely. Diamond: quota."),
    Column("Quota", "right", wide_only=True),
    Column("Chance", "right", "Probability to reach the quota."),
)


def forecast_row(made: Material, one: PeriodForecast, scale: Scale) -> Row:
    """Show one group's forecast beside its quota."""
    target = target_of(made, one.scope, one.scope_id)
    key = f"forecast.{one.scope}.{one.scope_id}"
    cur = one.currency
    listed, spread = (
        drill_of(one.scope, one.scope_id, state="open"),
        behind("spread", one.scope, one.scope_id),
    )
    return Row(
        (
            text(label_of(made, one.scope, one.scope_id), drill=listed, tone="strong"),
            money(
                one.closed,
                cur,
                key=f"{key}.closed",
                drill=drill_of(one.scope, one.scope_id, state="won", closed="period"),
            ),
            money(one.p10, cur, key=f"{key}.p10", drill=spread),
            money(
                one.p50, cur, key=f"{key}.p50", tone="strong", drill=behind("likely", one.scope, one.scope_id)
            ),
            money(one.p90, cur, key=f"{key}.p90", drill=spread),
            replace(interval(one, scale, target.quota if target else None), drill=spread),
            money(
                target.quota,
                cur,
                key=f"quota.{one.scope}.{one.scope_id}",
                drill=behind("quota", one.scope, one.scope_id),
            )
            if target
            else BLANK,
            share(
                target.reach,
                key=f"reach.{one.scope}.{one.scope_id}",
                drill=behind("reach", one.scope, one.scope_id),
            )
            if target
            else BLANK,
        ),
        facets_of(made, one.scope, one.scope_id),
        listed,
    )


def finding_words(made: Material, one: Finding) -> Sentence:
    known = made.rule_texts.get(one.rule)
    return finding_text(one, known.message if known else None)


def _about(one: Finding) -> str:
    """Return the list behind a finding: its opportunity, or what its owner, team, stage... has open."""
    if one.opportunity_id:
        return opportunity(one.subject_id)
    return drill(state="open", **({one.level: one.subject_id} if one.level != "pipeline" else {}))


def finding_row(made: Material, one: Finding) -> Row:
    title = made.rule_texts[one.rule].title if one.rule in made.rule_texts else one.rule
    return Row(
        (
            text(SEVERITY_WORDS[one.severity], tone="bad" if one.severity in ("critical", "high") else ""),
            sentence_cell(finding_words(made, one), drill=_about(one), sub=title),
            text(made.name(one.owner_id) if one.owner_id else ""),
            day(one.first_seen.date()),
            money(
                one.amount,
                one.currency or made.currency,
                drill=_about(one),
            ),
        ),
        facets(made, one.owner_id),
    )


FINDING_COLUMNS = (
    Column("Severity"),
    Column("What"),
    Column("Owner", wide_only=True),
    Column("Since", wide_only=True),
    Column("At stake", "right"),
)
