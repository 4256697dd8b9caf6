"""How findings live from run to run: pending, open, resolved, and open again as a new episode. Pure.

A rule may ask that a finding holds for several runs before it opens (`for`), and is clear for several before it is
resolved (`resolve.after`). What a run could not judge stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipesync.model import Finding, StandingFinding
from pipesync.rules.evaluate import Evaluation, Subject
from pipesync.rules.format import Rule


def advance(
    standing: Sequence[StandingFinding], evaluation: Evaluation, rules: Iterable[Rule]
) -> tuple[StandingFinding, ...]:
    """Return the findings after this run; those of rules that were not evaluated are left as they were."""
    of = {r.id: r for r in rules}
    before = {(s.rule, s.level, s.subject_id): s for s in standing}
    after: dict[Subject, StandingFinding] = {}
    for finding in evaluation.findings:
        key = (finding.rule, finding.level, finding.subject_id)
        after[key] = _fired(finding, before.get(key), of[finding.rule].runs, evaluation)
    for key, old in before.items():
        if key not in after:
            after[key] = _quiet(old, key, evaluation, of.get(old.rule))
    return tuple(after[k] for k in sorted(after))


def _fired(
    finding: Finding, old: StandingFinding | None, runs_needed: int, evaluation: Evaluation
) -> StandingFinding:
    is_new = old is None or old.status == "resolved"
    repeated = old is not None and old.last_seen == evaluation.as_of
    runs = 1 if old is None or is_new else old.runs + (not repeated)
    return StandingFinding(
        connection=finding.connection,
        rule=finding.rule,
        level=finding.level,
        subject_id=finding.subject_id,
        status="open" if runs >= runs_needed else "pending",
        episode=finding.episode,
        severity=finding.severity,
        owner_id=finding.owner_id,
        message=finding.message,
        headline=finding.headline,
        values=finding.values,
        amount=finding.amount,
        first_seen=finding.first_seen,
        last_seen=evaluation.as_of,
        runs=runs,
    )


def _quiet(old: StandingFinding, key: Subject, evaluation: Evaluation, rule: Rule | None) -> StandingFinding:
    evaluated = {r.id for r in evaluation.rules}
    if old.status == "resolved" or key in evaluation.unknown or old.rule not in evaluated:
        return old
    clean = old.clean_runs + 1
    if old.status == "pending" or rule is None or clean >= rule.clean_runs:
        return old.model_copy(
            update={"status": "resolved", "resolved_at": evaluation.as_of, "clean_runs": clean}
        )
    return old.model_copy(update={"clean_runs": clean})


def in_force(evaluation: Evaluation, after: Sequence[StandingFinding]) -> tuple[Finding, ...]:
    """Return the evaluation's findings that are open: what is pending waits for its next run."""
    status = {(s.rule, s.level, s.subject_id): s.status for s in after}
    return tuple(f for f in evaluation.findings if status[(f.rule, f.level, f.subject_id)] == "open")
