"""Findings as records of our own in the CRM, where a connection asks for them: for lists and reports that people make.

Nobody else writes these records, so the journal knows what they hold; each is written by its key, and written again
whole when something of it changes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipesync.config import Config
from pipesync.model import SEVERITIES, Change, Finding, Reason
from pipesync.plan import keys, policy
from pipesync.plan.calendars import local_date
from pipesync.plan.situation import Situation

FIELDS = ("rule", "severity", "opportunity_id", "message", "amount", "first_seen", "status")
MAX_TEXT = 255
"""Of a text field in Salesforce."""


def plan_findings(situation: Situation, config: Config, room: int) -> tuple[list[Change], Counter[str]]:
    """Plan at most `room` changes, the most severe and valuable first; return them and what was held back.

    Suppressed findings are not written. What fires no more is resolved; what cannot be judged stays as it is.
    """
    today = local_date(situation.as_of, config.zone)
    suppressions = (*config.suppressions, *situation.suppressions)
    known = _written(situation)
    unjudged = {keys.finding(situation.connection, s.rule, s.level, s.subject_id) for s in situation.held}
    changes, held_back = [], Counter[str]()
    wanted: set[str] = set()
    for finding in sorted(situation.findings, key=_weight):
        if policy.suppressed(finding, suppressions, today):
            continue
        key = keys.finding(situation.connection, finding.rule, finding.level, finding.subject_id)
        wanted.add(key)
        target, before = known.get(key, (None, {}))
        after = _values(finding, config)
        if before != after:
            changes.append(_change(situation, key, target, before, after, finding.owner_id))
    for key, (target, before) in known.items():
        if key not in wanted and key not in unjudged and before["status"] == "open":
            changes.append(_change(situation, key, target, before, before | {"status": "resolved"}, None))
    if len(changes) > room:
        held_back["findings over `writes_per_run`"] = len(changes) - room
    return changes[:room], held_back


def _weight(finding: Finding) -> tuple[int, Any, str, str]:
    return -SEVERITIES.index(finding.severity), -(finding.amount or 0), finding.rule, finding.subject_id


def _written(situation: Situation) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Return by key the CRM's id and the values of each record, as the journal knows them."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {}
    for entry in situation.journal:
        if entry.object != "finding" or entry.status != "applied":
            continue
        if entry.action == "delete":
            found.pop(entry.key, None)
        else:
            found[entry.key] = (entry.target, {n: entry.after.get(n) for n in FIELDS})
    return found


def _values(finding: Finding, config: Config) -> dict[str, Any]:
    text = finding.message
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "opportunity_id": finding.opportunity_id,
        "message": text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1].rstrip() + "…",
        "amount": None if finding.amount is None else str(finding.amount),
        "first_seen": local_date(finding.first_seen, config.zone).isoformat(),
        "status": "open",
    }


def _change(
    situation: Situation,
    key: str,
    target: str | None,
    before: dict[str, Any],
    after: dict[str, Any],
    owner_id: str | None,
) -> Change:
    is_resolved = after["status"] == "resolved"
    return Change(
        connection=situation.connection,
        key=key,
        action="update" if target else "create",
        object="finding",
        target=target,
        opportunity_id=after["opportunity_id"],
        owner_id=owner_id,
        before=before,
        after=after,
        reason=Reason(
            kind="mended" if is_resolved else "findings", rules=(after["rule"],), text=after["message"]
        ),
    )
