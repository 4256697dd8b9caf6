"""Rules: filters in YAML, typed, compiled to one SQL statement per level, and run over the feature table."""

from __future__ import annotations

from pipesync.rules.cases import CaseResult
from pipesync.rules.cases import run as test
from pipesync.rules.evaluate import Evaluation, RuleResult, evaluate
from pipesync.rules.format import Rule
from pipesync.rules.lifecycle import advance, in_force
from pipesync.rules.ruleset import RuleSet, load

__all__ = [
    "CaseResult",
    "Evaluation",
    "Rule",
    "RuleResult",
    "RuleSet",
    "advance",
    "evaluate",
    "in_force",
    "load",
    "test",
]
