"""How findings live from run to run: pending, open or suppressed, then resolved or expired, and again. Pure.

A rule may ask that a finding holds for several runs before it opens (`for`), and is clear for several before it is
resolved (`resolve.after`). One that comes back within the rule's cooldown flaps: it has to hold for one run more, so
that what goes to and fro from run to run opens no more. What a run could not judge stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from pipesync.model import Finding, FindingStatus, StandingFinding
from pipesync.rules.evaluate import Evaluation
from pipesync.rules.findings import Subject, where
from pipesync.rules.format import Rule

FLAPPING = timedelta(days=7)
"""Of a rule without a cooldown of its own."""
IsSuppressed = Callable[[Finding], bool]


def _never(finding: Finding) -> bool:
    return False


def advance(
    standing: Sequence[StandingFinding],
    evaluation: Evaluation,
    rules: Iterable[Rule],
    *,
    suppressed: IsSuppressed = _never,
    retired: Collection[str] = (),
) -> tuple[StandingFinding, ...]:
    """Return the findings after this run; those of rules that were not evaluated are left as they were.

    `retired` are rules that the site runs no more: what they found expires.
    """
    of = {r.id: r for r in rules}
    before = {(s.rule, s.level, s.subject_id): s for s in standing}
    after: dict[Subject, StandingFinding] = {}
    for finding in evaluation.findings:
        key = (finding.rule, finding.level, finding.subject_id)
        after[key] = _fired(finding, before.get(key), of[finding.rule], evaluation, suppressed)
    for key, old in before.items():
        if key not in after:
            after[key] = _quiet(old, key, evaluation, of.get(old.rule), retired)
    return tuple(after[k] for k in sorted(after))


def _fired(
    finding: Finding,
    old: StandingFinding | None,
    rule: Rule,
    evaluation: Evaluation,
    suppressed: IsSuppressed,
) -> StandingFinding:
    is_new = old is None or old.is_over
    repeated = old is not None and old.last_seen == evaluation.as_of
    runs = 1 if old is None or is_new else old.runs + (not repeated)
    was_open = old is not None and old.status in ("open", "suppressed")
    returned_at = None if old is None else old.resolved_at
    flaps = returned_at is not None and finding.first_seen < returned_at + (rule.cooldown or FLAPPING)
    status: FindingStatus = "open" if was_open or runs >= rule.runs + flaps else "pending"
    if status == "open" and suppressed(finding):
        status = "suppressed"
    return StandingFinding(
        connection=finding.connection,
        rule=finding.rule,
        level=finding.level,
        subject_id=finding.subject_id,
        status=status,
        episode=finding.episode,
        severity=finding.severity,
        owner_id=finding.owner_id,
        message=finding.message,
        headline=finding.headline,
        values=finding.values,
        amount=finding.amount,
        first_seen=finding.first_seen,
        last_seen=evaluation.as_of,
        resolved_at=returned_at if status == "pending" else None,
        runs=runs,
    )


def _quiet(
    old: StandingFinding,
    key: Subject,
    evaluation: Evaluation,
    rule: Rule | None,
    retired: Collection[str],
) -> StandingFinding:
    if old.is_over:
        return old
    if old.rule in retired or key in evaluation.ended:
        return old.model_copy(update={"status": "expired", "resolved_at": evaluation.as_of})
    evaluated = {r.id for r in evaluation.rules}
    if key in evaluation.unknown or old.rule not in evaluated:
        return old
    clean = old.clean_runs + 1
    if old.status == "pending" or rule is None or clean >= rule.clean_runs:
        return old.model_copy(
            update={"status": "resolved", "resolved_at": evaluation.as_of, "clean_runs": clean}
        )
    return old.model_copy(update={"clean_runs": clean})


def in_force(evaluation: Evaluation, after: Sequence[StandingFinding]) -> Sequence[Finding]:
    """Return the evaluation's findings that hold: what is pending waits for its next run.

    Suppressed ones are among them: whoever plans says that they are held back, and until when.
    """
    pending = {(s.rule, s.level, s.subject_id) for s in after if s.status == "pending"}
    if not pending:
        return evaluation.findings
    return where(evaluation.findings, lambda one: (one.rule, one.level, one.subject_id) not in pending)
