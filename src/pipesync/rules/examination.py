"""A connection under the rules: features, stages and findings as of a moment, from the warehouse alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pandas import DataFrame

from pipesync import features
from pipesync.analysis import stages
from pipesync.config import Config
from pipesync.model import StandingFinding
from pipesync.rules.evaluate import Evaluation, evaluate
from pipesync.rules.levels import LEVELS
from pipesync.rules.ruleset import RuleSet, load
from pipesync.rules.vocabulary import Vocabulary
from pipesync.store.warehouse import Warehouse


def load_rules(
    config: Config, only: Sequence[str] = (), *, strict: bool = False, words: Vocabulary | None = None
) -> RuleSet:
    """Load the configured rules, or some of them.

    A rule that cannot be read is named in the set's `problems`, and what it found earlier stays as it is; `strict`
    makes an InputError of it.
    """
    ruleset = load(config, strict=strict, catalogue=words.catalogue if words else LEVELS)
    return ruleset.only(only) if only else ruleset


@dataclass(frozen=True)
class Examined:
    """What the rules say of a connection, and the tables that they said it from."""

    features: features.Features
    stages: DataFrame
    evaluation: Evaluation


def examine(
    warehouse: Warehouse,
    connection: str,
    config: Config,
    ruleset: RuleSet,
    as_of: datetime,
    standing: Sequence[StandingFinding] = (),
) -> Examined:
    """Compute features, stages and findings. The feature tables stay in this session of the warehouse."""
    computed = features.compute(warehouse, connection, as_of, config.calendar)
    table = stages.analyse(warehouse, connection, as_of, config.calendar)
    found = evaluate(warehouse, computed, ruleset, stages=table, standing=standing)
    return Examined(computed, table, found)
