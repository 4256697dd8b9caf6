"""What a task says, in its assignee's language: its subject, its checklist, its note when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pipesync.model import Finding, StandingFinding, User
from pipesync.plan.policy import Item
from pipesync.rules.languages import ENGLISH, Language
from pipesync.rules.messages import render
from pipesync.rules.playbooks import Advice, template

if TYPE_CHECKING:
    from datetime import date

    from babel import Locale

    from pipesync.rules import Rule

MAX_SUBJECT = 255
"""Salesforce's limit for Task.Subject; HubSpot allows more."""
MAX_BODY = 30_000
"""Salesforce takes 32,000 characters and counts line breaks twice."""


@dataclass(frozen=True)
class Voice:
    """How one person is spoken to: a language, and the form of dates and money where the CRM tells a locale."""

    language: Language = ENGLISH
    locale: Locale | None = None

    def say(self, key: str, **slots: str) -> str:
        return self.language.text(key, **slots)

    def headline(self, finding: Finding | StandingFinding, rule: Rule, currency: str | None) -> str:
        """Return a finding's subject; in English where it is not translated, or came from before it could be."""
        template = self.language.subjects.get(rule.id) or rule.subject
        if self.locale is None or not finding.values or template is None:
            return finding.headline or self.message(finding, rule, currency)
        return render(template, finding.values, currency, self.locale)

    def message(self, finding: Finding | StandingFinding, rule: Rule, currency: str | None) -> str:
        template = self.language.messages.get(rule.id) or rule.message
        if self.locale is None or not finding.values:
            return finding.message
        return render(template, finding.values, currency, self.locale)

    def play(self, advice: Advice, text: str, currency: str | None) -> str:
        """Return a playbook's text, filled for its opportunity; in English where it is not translated."""
        told = self.language.playbooks.get(advice.playbook, {}).get(text) or template(text)
        return render(told, advice.values, currency, self.locale)

    def day(self, day: date) -> str:
        if self.locale is None:
            return day.isoformat()
        from babel.dates import format_date  # here: most connections tell no locale

        return format_date(day, "medium", locale=self.locale)


def voice(user: User | None, languages: Mapping[str, Language], usual: str) -> Voice:
    """Return how to speak to a person; `usual` is the language, or locale, of those of whom the CRM tells none.

    Where the language has no translation it is English, with dates and money in the English form of the country.
    """
    told = (user.locale if user else None) or usual
    return Voice() if told == "en" else _voice(told, languages.get(told[:2].lower(), ENGLISH))


def _voice(told: str, language: Language) -> Voice:
    return Voice(language, _locale(told, language.tag))


@cache
def _locale(told: str, language: str) -> Locale | None:
    from babel import Locale, UnknownLocaleError

    territory = next((p for p in told.replace("-", "_").split("_")[1:] if len(p) == 2 and p.isalpha()), None)
    for parts in ((language, territory.upper() if territory else None), (language, None)):
        try:
            return Locale(*parts)
        except (UnknownLocaleError, ValueError):
            continue
    return None


_STEPS = 3
"""Milestones that a task names: the next one and what comes after it."""


def steps(advice: Advice, speaker: Voice, currency: str | None) -> list[str]:
    """Return what a playbook advises, as lines: the next step, what gets in the way, what to send, and a draft."""

    def say(text: str) -> str:
        return speaker.play(advice, text, currency)

    phase, lines = advice.phase, []
    if advice.steps:
        lines.append(f"{speaker.say('next')}: {say(advice.steps[0])}")
        if later := advice.steps[1:_STEPS]:
            lines.append(f"{speaker.say('later')}: {'; '.join(map(say, later))}")
    lines += [f"{speaker.say('obstacles')}: {say(one)}" for one in phase.obstacles]
    for one in phase.content:
        whom = f" ({speaker.say('content_for', whom=say(one.whom))})" if one.whom else ""
        lines.append(f"{speaker.say('content')}: {say(one.title)}{whom}{f' {one.link}' if one.link else ''}")
    if phase.follow_up:
        draft = say(phase.follow_up.body).rstrip().splitlines()
        lines += [
            "",
            f"{speaker.say('draft')}: {say(phase.follow_up.subject)}",
            *(f"  {one}" for one in draft),
        ]
    return lines


def subject(items: Sequence[Item]) -> str:
    """Return the worst point's headline and how many more there are; `items` are sorted, the worst first."""
    more = f" (+{len(items) - 1})" if len(items) > 1 else ""
    return _cut(" ".join(items[0].headline.split()), MAX_SUBJECT - len(more)) + more


def body(items: Sequence[Item], speaker: Voice, advice: Sequence[str] = ()) -> str:
    """Return the checklist, what the playbook advises, and how the task goes away."""
    listed = [f"☐ {item.message}" for item in items]
    parts = [*listed, *(["", *advice] if advice else []), "", speaker.say("footer"), speaker.say("snooze")]
    return _cut("\n".join(parts), MAX_BODY)


def points(body: str) -> list[str]:
    """Return the checklist of a task's text, apart from the white space that CRMs add and drop."""
    return [" ".join(one.split()) for one in body.splitlines() if one.lstrip().startswith("☐")]


def done_note(body: str | None, why: str) -> str:
    """Return a touched task's text with the reason why it is completed."""
    return _cut(f"{body}\n\n{why}" if body else why, MAX_BODY)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
