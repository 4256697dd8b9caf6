"""From findings to changes of tasks: one task per opportunity and assignee, quiet where nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from pipesync.config import Config
from pipesync.model import SEVERITIES, Change, Ending, Finding, OwnTask, Reason, StandingFinding, TaskFate
from pipesync.plan import keys, policy, texts
from pipesync.plan.calendars import add_business_days, business_days_between, days_off, local_date
from pipesync.plan.policy import PRIORITIES, Allowance, Item
from pipesync.plan.situation import Situation
from pipesync.plan.snoozes import Snooze, snooze
from pipesync.plan.threads import Episode, Thread, overlaid, same, threads
from pipesync.rules import Rule, RuleSet
from pipesync.rules.playbooks import Advice, usual


@dataclass
class Planned:
    """The task side of a plan."""

    changes: list[Change] = field(default_factory=list)
    held_back: Counter[str] = field(default_factory=Counter)
    fates: list[TaskFate] = field(default_factory=list)


def plan_tasks(situation: Situation, config: Config, rules: RuleSet) -> Planned:
    """Decide about every task: those that are there, and those that findings ask for."""
    planned = Planned()
    facts, journal = situation.facts, situation.journal
    unsettled = {keys.episode_of(e.key) for e in journal if e.status == "intended" and e.object == "task"}
    speakers = _Speakers(situation, config, rules)

    def snooze_of(row: OwnTask) -> Snooze | None:
        zone = _zone(row.owner_id, situation, config)
        written_on = local_date(min(row.modified_at or situation.as_of, situation.as_of), zone)
        return snooze(row.body, written_on, config.tasks.max_snooze)

    rows = overlaid(facts.tasks, journal, facts.pulled_at)
    lines = threads(rows, journal, situation.fates, situation.as_of, snooze_of)
    wanted, refused = _wanted(situation, config, rules, planned.held_back, speakers)
    _escalate(wanted, lines, situation, config, rules, speakers)
    waiting: list[tuple[str, Thread, list[Item]]] = []
    still_open: list[str | None] = []
    for name in sorted({*lines, *wanted}):
        line, items = lines.get(name), wanted.get(name, [])
        if any(parsed and parsed[0] == name for parsed in unsettled):
            planned.held_back["an earlier write is unconfirmed"] += 1
            if line and line.open:
                still_open.append(line.owner_id)
            continue
        if line and line.open and any(line.open.lists(rule) for rule in rules.unreadable):
            planned.held_back["a rule of it cannot be read"] += 1
            still_open.append(line.owner_id)
            continue
        if line is None:
            line = Thread(items[0].opportunity_id, items[0].assignee)
        planned.fates += _fates(line, items, situation)
        items = _not_refused(line, items, situation, config, planned.held_back)
        current = line.open
        fresh = [i for i in items if not i.is_held]
        if current is None:
            if fresh:
                waiting.append((name, line, fresh))
        elif rests(current, situation, config):
            planned.changes.append(_put_away(current, line, situation, config, speakers))
            if fresh:  # what came up since is not what was put off
                waiting.append((name, line, fresh))
        elif items := [i for i in items if not i.is_held or current.lists(i.rule)]:
            still_open.append(line.owner_id)
            _keep(current, line, items, situation, config, planned, speakers)
        else:
            planned.changes.append(_end(current, line, refused.get(name, ()), situation, config, speakers))
    _create(waiting, still_open, situation, config, planned, speakers)
    return planned


class _Speakers:
    """How to speak to each person, and the points in their words."""

    def __init__(self, situation: Situation, config: Config, rules: RuleSet) -> None:
        self._situation, self._config, self._rules = situation, config, rules
        self._voices: dict[str | None, texts.Voice] = {}

    def voice(self, owner: str | None) -> texts.Voice:
        if owner not in self._voices:
            user = self._situation.facts.users.get(owner or "")
            self._voices[owner] = texts.voice(user, self._rules.languages, self._config.tasks.language)
        return self._voices[owner]

    def item(
        self, finding: Finding | StandingFinding, rule: Rule, to: str | None, *, is_held: bool = False
    ) -> Item:
        speaker, currency = self.voice(to), self._situation.currency
        assert rule.task  # noqa: S101  # only rules with a task make points
        return Item(
            rule=finding.rule,
            opportunity_id=finding.subject_id,
            assignee=to,
            severity=finding.severity,
            amount=finding.amount,
            message=speaker.message(finding, rule, currency),
            headline=speaker.headline(finding, rule, currency),
            first_seen=finding.first_seen,
            task=rule.task,
            source=finding,
            cooldown=rule.cooldown or self._config.tasks.cooldown,
            is_held=is_held,
        )

    def body(self, line: Thread, items: Sequence[Item]) -> str:
        speaker, advice = self.voice(line.owner_id), self._advice(line.opportunity_id, items)
        told = texts.steps(advice, speaker, self._situation.currency) if advice else ()
        return texts.body(items, speaker, told)

    def kept(self, line: Thread, items: Sequence[Item], held: str | None) -> str:
        """Return a task's text as it is to stand: where the next step cannot be judged, what was said of it stays."""
        body, advice = self.body(line, items), self._advice(line.opportunity_id, items)
        is_unsure = not self._situation.is_advice_known or (advice is not None and advice.is_partial)
        return held if is_unsure and held and texts.points(held) == texts.points(body) else body

    def _advice(self, opportunity_id: str | None, items: Sequence[Item]) -> Advice | None:
        """Return where the opportunity stands in the playbook that its worst point names, or in its pipeline's."""
        there = self._situation.advice.get(opportunity_id or "", {})
        standing = self._situation.facts.opportunities.get(opportunity_id or "")
        pipeline = standing.rests_on.get("pipeline") if standing else None
        named = next((i.task.playbook for i in items if i.task.playbook), None)
        return there.get(named or usual(self._rules.playbooks, pipeline) or "")


# --- What is asked for ----------------------------------------------------------------------------------------


def _wanted(
    situation: Situation, config: Config, rules: RuleSet, held_back: Counter[str], speakers: _Speakers
) -> tuple[dict[str, list[Item]], dict[str, list[str]]]:
    """Return the points per thread, and per thread why points that it could have are left out."""
    today = local_date(situation.as_of, config.zone)
    suppressions = (*config.suppressions, *situation.suppressions)
    trips = policy.tripped(situation.counts, situation.last_counts, config.breaker)
    wanted: dict[str, list[Item]] = {}
    refused: dict[str, list[str]] = {}

    def consider(finding: Finding | StandingFinding, *, is_held: bool) -> None:
        rule = rules.rules.get(finding.rule)
        if rule is None or rule.task is None or finding.level != "opportunity":
            return
        to = policy.assignee(rule.task.assignee, finding.owner_id, situation.facts.users, config.tasks.ops)
        name = keys.thread(situation.connection, finding.subject_id, to)
        if held := policy.suppressed(finding, suppressions, today):
            held_back["suppressed"] += not is_held
            speaker = speakers.voice(to)
            until = speaker.day(held.until)
            refused.setdefault(name, []).append(
                speaker.say("suppressed", rule=finding.rule, until=until, reason=held.reason)
            )
        elif policy.is_baseline(finding.first_seen, config.baseline, config.zone):
            held_back["from before the baseline"] += not is_held
            refused.setdefault(name, []).append(speakers.voice(to).say("baseline", rule=finding.rule))
        elif finding.rule in trips and finding.first_seen > situation.last_counts[finding.rule].as_of:
            held_back[f"breaker: {finding.rule}"] += 1
        else:
            wanted.setdefault(name, []).append(speakers.item(finding, rule, to, is_held=is_held))

    for finding in situation.findings:
        consider(finding, is_held=False)
    for standing in situation.held:
        consider(standing, is_held=True)
    _sort(wanted)
    return wanted, refused


def _sort(wanted: dict[str, list[Item]]) -> None:
    for items in wanted.values():
        items.sort(key=lambda i: (*(-x for x in i.worth), i.rule))


def _escalate(
    wanted: dict[str, list[Item]],
    lines: dict[str, Thread],
    situation: Situation,
    config: Config,
    rules: RuleSet,
    speakers: _Speakers,
) -> None:
    """Ask the manager, or ops, as well about what the owner's task has said for as long as the rule gives.

    An owner who moved the task's date ahead has put it off: nothing is escalated before that date.
    """
    users = situation.facts.users
    for name, items in list(wanted.items()):
        current = lines[name].open if name in lines else None
        if current is None or current.written is None or rests(current, situation, config):
            continue
        owner = lines[name].owner_id
        above = policy.manager(users[owner], users) if owner in users else None
        others = {"owner.manager": above, "ops": config.tasks.ops}
        zone = _zone(owner, situation, config)
        today = local_date(situation.as_of, zone)
        put_off = current.is_touched and current.row and current.row.due and current.row.due > today
        age = business_days_between(
            local_date(current.written.made_as_of, zone),
            today,
            days_off(users.get(owner or ""), config.calendar, today.year),
        )
        for item in items:
            if put_off or not current.lists(item.rule):
                continue
            steps = rules.rules[item.rule].escalations
            due = (s for s in steps if age >= s.after and item.worth[0] >= SEVERITIES.index(s.severity))
            for other in dict.fromkeys(others[step.to] for step in due):
                if other and other != owner:
                    thread = keys.thread(situation.connection, item.opportunity_id, other)
                    again = speakers.item(item.source, rules.rules[item.rule], other, is_held=item.is_held)
                    wanted.setdefault(thread, []).append(again)
    _sort(wanted)


def _not_refused(
    line: Thread, items: Sequence[Item], situation: Situation, config: Config, held_back: Counter[str]
) -> list[Item]:
    """Leave out what people said no to, by closing or deleting a task that listed it, before the cooldown ends.

    And what they put off, before the day that they named is past.
    """
    said_no = [e for e in line.episodes if e.refused_at and not e.snooze]  # who named a day meant that day
    put_off = [e for e in line.episodes if rests(e, situation, config)]
    kept = []
    for item in items:
        if any(e.lists(item.rule) for e in put_off):
            held_back["put off by people"] += not item.is_held
        elif any(
            e.lists(item.rule) and e.refused_at and situation.as_of < e.refused_at + item.cooldown
            for e in said_no
        ):
            held_back["people said no, cooling down"] += 1
        else:
            kept.append(item)
    return kept


def rests(episode: Episode, situation: Situation, config: Config) -> bool:
    """Whether people put a task off until today or later."""
    if episode.snooze is None:
        return False
    owner = episode.row.owner_id if episode.row else None
    return local_date(situation.as_of, _zone(owner, situation, config)) <= episode.snooze.until


# --- Tasks that are there -------------------------------------------------------------------------------------


def _keep(
    current: Episode,
    line: Thread,
    items: Sequence[Item],
    situation: Situation,
    config: Config,
    planned: Planned,
    speakers: _Speakers,
) -> None:
    """Bring a task's text up to date, unless people edited it."""
    row = _row(current)
    listed = set(current.rules)
    fresh = [i for i in items if i.rule not in listed]
    due = [d for d in (row.due, _due(fresh, line.owner_id, situation, config)) if d]
    values: dict[str, Any] = {  # Any: JSON
        "subject": texts.subject(items),
        "body": speakers.kept(line, items, row.body),
        "due": min(due).isoformat() if due else None,
        "priority": max((i.task.priority for i in items), key=PRIORITIES.index),
    }
    if same(row, values, None):
        return
    held = _values(row)
    if current.is_touched:
        planned.held_back["edited by people, left alone"] += 1
        return
    planned.changes.append(
        Change(
            key=current.key,
            action="update",
            object="task",
            target=row.id,
            opportunity_id=line.opportunity_id,
            owner_id=line.owner_id,
            before={n: v for n, v in held.items() if v != values[n]},
            after={n: v for n, v in values.items() if v != held[n]},
            reason=_reason(items),
            connection=situation.connection,
        )
    )


def _put_away(
    current: Episode, line: Thread, situation: Situation, config: Config, speakers: _Speakers
) -> Change:
    """Complete a task that people put off, with a note; it comes back as a new one where its points still hold then."""
    row, asked, speaker = _row(current), current.snooze, speakers.voice(line.owner_id)
    assert asked  # noqa: S101  # only what was put off is put away
    why = speaker.say(
        "snoozed", until=speaker.day(asked.until), reason=asked.reason or speaker.say("no_reason")
    )
    return Change(
        key=current.key,
        action="complete",
        object="task",
        target=row.id,
        opportunity_id=line.opportunity_id,
        owner_id=line.owner_id,
        before={"body": row.body, "is_done": False},
        after={"body": texts.done_note(row.body, f"{why[:1].upper()}{why[1:]}."), "is_done": True},
        reason=Reason(kind="withdrawn", rules=current.rules, text=why),
        connection=situation.connection,
    )


def _end(
    current: Episode,
    line: Thread,
    refused: Sequence[str],
    situation: Situation,
    config: Config,
    speakers: _Speakers,
) -> Change:
    """Remove a task whose points are settled; complete it with a note where people worked on it."""
    row = _row(current)
    speaker = speakers.voice(line.owner_id)
    why = "; ".join(refused) or speaker.say(_settled(line, situation))
    reason = Reason(kind="withdrawn" if refused else "mended", rules=current.rules, text=why)
    action: dict[str, Any]  # Any: arguments of Change
    if current.is_touched:
        action = {
            "action": "complete",
            "before": {"body": row.body, "is_done": False},
            "after": {"body": texts.done_note(row.body, speaker.say("done", why=why)), "is_done": True},
        }
    elif config.tasks.when_mended == "complete":
        action = {"action": "complete", "before": {"is_done": False}, "after": {"is_done": True}}
    else:
        action = {"action": "delete", "before": _values(row)}
    return Change(
        key=current.key,
        object="task",
        target=row.id,
        opportunity_id=line.opportunity_id,
        owner_id=line.owner_id,
        reason=reason,
        connection=situation.connection,
        **action,
    )


def _settled(line: Thread, situation: Situation) -> str:
    standing = situation.facts.opportunities.get(line.opportunity_id or "")
    if standing is None:
        return "gone"
    if standing.is_closed:
        return "won" if standing.is_won else "lost"
    return "mended"


def _fates(line: Thread, items: Sequence[Item], situation: Situation) -> list[TaskFate]:
    """Say how tasks ended that nobody entered yet."""
    known = {f.key for f in situation.fates}
    found = []
    for episode in line.episodes:
        if episode.key in known or (episode.state == "open" and episode.snooze is None):
            continue
        found.append(
            TaskFate(
                connection=situation.connection,
                key=episode.key,
                opportunity_id=line.opportunity_id,
                owner_id=line.owner_id,
                rules=episode.rules,
                ending=_ending(episode, line, items, situation),
                seen_at=episode.refused_at or situation.as_of,
                rests_until=episode.snooze.until if episode.snooze else None,
                note=episode.snooze.reason if episode.snooze else "",
            )
        )
    return found


def _ending(episode: Episode, line: Thread, items: Sequence[Item], situation: Situation) -> Ending:
    if episode.snooze is not None:
        return "snoozed"
    ours = episode.written.ending if episode.written and episode.state == "ended" else None
    if ours and (ours.reason.kind in ("withdrawn", "undo")):
        return "withdrawn"
    standing = situation.facts.opportunities.get(line.opportunity_id or "")
    if standing and standing.is_closed:
        return "won" if standing.is_won else "lost"
    if ours or not any(episode.lists(i.rule) for i in items):
        return "mended"
    return "closed" if episode.state == "closed" else "deleted"


# --- Tasks to make --------------------------------------------------------------------------------------------


def _create(
    waiting: list[tuple[str, Thread, list[Item]]],
    still_open: Iterable[str | None],
    situation: Situation,
    config: Config,
    planned: Planned,
    speakers: _Speakers,
) -> None:
    """Make the worst and most valuable tasks first, as far as the budgets go."""
    waiting.sort(key=lambda w: (tuple(-x for x in w[2][0].worth), w[0]))
    allowance = Allowance.left(
        config.budget, still_open, situation.journal, situation.as_of, situation.facts.basis, config.zone
    )
    made = []
    for name, line, items in waiting:
        if why := allowance.take(line.owner_id):
            planned.held_back[why] += 1
            continue
        due = _due(items, line.owner_id, situation, config)
        made.append(
            Change(
                key=keys.task(name, line.next_number),
                action="create",
                object="task",
                opportunity_id=line.opportunity_id,
                owner_id=line.owner_id,
                after={
                    "subject": texts.subject(items),
                    "body": speakers.body(line, items),
                    "due": due.isoformat() if due else None,
                    "priority": max((i.task.priority for i in items), key=PRIORITIES.index),
                },
                reason=_reason(items),
                connection=situation.connection,
            )
        )
    planned.changes[:0] = made


def _due(items: Sequence[Item], owner: str | None, situation: Situation, config: Config) -> date | None:
    """Return the earliest date by which points are to be settled, and never a date that is hardly to be met."""
    if not items:
        return None
    zone = _zone(owner, situation, config)
    today = local_date(situation.as_of, zone)
    holidays = days_off(situation.facts.users.get(owner or ""), config.calendar, today.year)
    soonest = add_business_days(today, 1, holidays)
    dates = (
        add_business_days(local_date(i.first_seen, zone), i.task.due_business_days, holidays) for i in items
    )
    return max(min(dates), soonest)


def _zone(owner: str | None, situation: Situation, config: Config) -> ZoneInfo:
    user = situation.facts.users.get(owner or "")
    try:
        return ZoneInfo(user.timezone) if user and user.timezone else config.zone
    except (KeyError, ValueError, OSError):  # what a CRM calls a zone need not be one
        return config.zone


def _reason(items: Sequence[Item]) -> Reason:
    return Reason(
        kind="findings",
        rules=tuple(sorted({i.rule for i in items})),
        text="; ".join(i.message for i in items),
    )


def _row(current: Episode) -> OwnTask:
    assert current.row is not None  # noqa: S101  # an open episode is one that the CRM holds
    return current.row


def _values(row: OwnTask) -> dict[str, Any]:  # Any: JSON
    due = row.due.isoformat() if row.due else None
    return {"subject": row.subject, "body": row.body, "due": due, "priority": row.priority}
