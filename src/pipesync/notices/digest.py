"""The weekly digest of a rep, a manager or a leader: what it says, from what was found and foretold. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pipesync.model import SEVERITIES, Bottleneck, Finding, PeriodForecast, StandingFinding, User
from pipesync.notices.tongues import Tongue, tongue
from pipesync.plan.texts import voice
from pipesync.report.audience import Audience, Kind, audience_of
from pipesync.rules import RuleSet

SHOWN = 6
"""Findings, people or rules in one list; a digest is read on a phone."""
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Facts:
    """What digests of one connection are made of, as of one moment."""

    connection: str
    as_of: datetime
    users: Mapping[str, User]
    findings: Sequence[Finding]
    episodes: Sequence[StandingFinding]
    open: Mapping[str | None, tuple[int, Decimal]]
    """Open opportunities and their amount, by owner."""
    forecasts: Mapping[str, PeriodForecast]
    """By owner; the total under the empty text."""
    week_ago: PeriodForecast | None
    """The total as it was issued a week ago or longer, of the same period."""
    score: float
    bottleneck: Bottleneck | None
    currency: str | None
    ruleset: RuleSet | None = None
    """Has the findings' texts in other languages; without it they stay in English."""


@dataclass(frozen=True)
class Section:
    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Digest:
    """One person's, ready to be laid out."""

    connection: str
    kind: Kind
    person: str
    email: str
    language: str
    title: str
    hello: str
    sections: tuple[Section, ...]
    footer: str


def recipients(facts: Facts, kinds: Sequence[str], leaders: Sequence[str]) -> list[tuple[Kind, str]]:
    """Return who gets one: leaders as named, managers with somebody below them, reps with something open."""
    active = {u.id: u for u in facts.users.values() if u.is_active}
    managers = {u.manager_id for u in active.values() if u.manager_id in active}
    found: list[tuple[Kind, str]] = []
    if "leaders" in kinds:
        found += [("leader", person) for person in leaders if person in active]
    if "managers" in kinds:
        found += [("manager", person) for person in sorted(filter(None, managers)) if person not in leaders]
    if "reps" in kinds:
        reps = {owner for owner, (count, _) in facts.open.items() if count and owner in active}
        found += [("rep", person) for person in sorted(filter(None, reps)) if person not in managers]
    return found


def digest(facts: Facts, kind: Kind, person: str, usual: str) -> Digest:
    """Make one; `usual` is the language of those of whom the CRM tells none that we speak."""
    user = facts.users.get(person)
    speak = tongue(user.locale if user else None, usual)
    audience = audience_of("leader" if kind == "leader" else f"{kind}:{person}", facts.users)
    mine = [f for f in facts.findings if audience.sees(f.owner_id)]
    sections = [
        _forecast(facts, kind, person, speak),
        _attention(facts, mine, speak),
        _week(facts, audience, mine, speak),
    ]
    if kind == "manager":
        sections.append(_team(facts, audience, mine, speak))
    if kind == "leader":
        sections += [_rules(facts, mine, speak), *_bottleneck(facts, speak)]
    week = (facts.as_of - timedelta(days=facts.as_of.weekday())).date()
    return Digest(
        facts.connection,
        kind,
        person,
        (user.email if user else None) or "",
        speak.language,
        speak.say("title" if kind == "rep" else f"title_{kind}", week=speak.day(week)),
        speak.say("hello", name=(user.name if user else None) or person),
        tuple(s for s in sections if s.lines),
        speak.say("footer"),
    )


def _forecast(facts: Facts, kind: Kind, person: str, speak: Tongue) -> Section:
    mine = facts.forecasts.get("" if kind == "leader" else person)
    heading = facts.forecasts[""].period_end - timedelta(days=1)
    lines = []
    if mine and kind != "manager":
        told = {
            name: speak.money(getattr(mine, name), mine.currency) for name in ("p10", "p50", "p90", "closed")
        }
        lines.append(speak.say("forecast_line", **told))
    if kind == "leader" and facts.week_ago:
        lines.append(
            speak.say("forecast_change", p50=speak.money(facts.week_ago.p50, facts.week_ago.currency))
        )
    if kind == "rep":
        count, amount = facts.open.get(person, (0, Decimal(0)))
        lines.append(speak.say("open", count=speak.number(count), amount=speak.money(amount, facts.currency)))
    return Section(speak.say("forecast", end=speak.day(heading)), tuple(lines))


def _attention(facts: Facts, mine: Sequence[Finding], speak: Tongue) -> Section:
    worst = sorted(
        mine, key=lambda f: (-SEVERITIES.index(f.severity), -(f.amount or Decimal(0)), f.subject_id)
    )
    lines = [_message(facts, f, speak) for f in worst[:SHOWN]] or [speak.say("nothing")]
    if len(worst) > SHOWN:
        lines.append(speak.say("more", count=speak.number(len(worst) - SHOWN)))
    return Section(speak.say("attention"), tuple(lines))


def _message(facts: Facts, finding: Finding, speak: Tongue) -> str:
    """Say a finding as a task would, in English where its rule is not translated."""
    rule = facts.ruleset.rules.get(finding.rule) if facts.ruleset else None
    if rule is None or facts.ruleset is None:
        return finding.message
    return voice(None, facts.ruleset.languages, str(speak.locale)).message(finding, rule, facts.currency)


def _week(facts: Facts, audience: Audience, mine: Sequence[Finding], speak: Tongue) -> Section:
    since = facts.as_of - WEEK
    new = sum(f.first_seen > since for f in mine)
    mended = sum(
        e.resolved_at is not None and e.resolved_at > since and audience.sees(e.owner_id)
        for e in facts.episodes
    )
    lines = [speak.say("week_line", new=speak.number(new), mended=speak.number(mended))]
    if audience.kind == "leader":
        lines.append(speak.say("score", score=speak.number(facts.score)))
    return Section(speak.say("week"), tuple(lines))


def _team(facts: Facts, audience: Audience, mine: Sequence[Finding], speak: Tongue) -> Section:
    people = [p for p in audience.people or () if facts.open.get(p, (0, 0))[0]]

    def stake(person: str) -> Decimal:
        """An opportunity with three findings is at stake once."""
        amounts = {f.subject_id: f.amount or Decimal(0) for f in mine if f.owner_id == person}
        return sum(amounts.values(), Decimal(0))

    lines = [
        speak.say(
            "team_line",
            name=(facts.users[p].name if p in facts.users else None) or p,
            findings=speak.number(sum(f.owner_id == p for f in mine)),
            amount=speak.money(stake(p), facts.currency),
            p50=speak.money(facts.forecasts[p].p50 if p in facts.forecasts else 0, facts.currency),
        )
        for p in sorted(people, key=lambda p: (-stake(p), p))
    ]
    return Section(speak.say("team"), tuple(lines))


def _rules(facts: Facts, mine: Sequence[Finding], speak: Tongue) -> Section:
    counts = Counter(f.rule for f in mine)
    most = sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:SHOWN]
    return Section(
        speak.say("rules"),
        tuple(speak.say("rules_line", rule=rule, count=speak.number(count)) for rule, count in most),
    )


def _bottleneck(facts: Facts, speak: Tongue) -> list[Section]:
    one = facts.bottleneck
    if one is None:
        return []
    amount = speak.money(one.amount, one.currency)
    line = speak.say(f"waits_{one.kind}", subject=one.subject, amount=amount)
    # Its figures are told in English only.
    lines = (line, f"({one.why})") if speak.language == "en" else (line,)
    return [Section(speak.say("bottleneck"), lines)]
