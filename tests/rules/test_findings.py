"""Findings are columns: the same however they are read, and their texts are made only when asked for."""

from __future__ import annotations

from operator import attrgetter

import pytest

from pipesync import rules
from pipesync.analysis import stages
from pipesync.config import Calendar, Config, ConnectionConfig
from pipesync.features import compute
from pipesync.model import SEVERITIES
from pipesync.rules import findings as columns
from pipesync.rules.findings import Findings, marks, where
from pipesync.store.warehouse import Warehouse


@pytest.fixture
def found(pulled_company: Warehouse) -> Findings:
    as_of = pulled_company.pulled_to("crm")
    ruleset = rules.load(
        Config(extends=("pipesync:all",), connections={"crm": ConnectionConfig(adapter="files")})
    )
    features = compute(pulled_company, "crm", as_of, Calendar())
    table = stages.analyse(pulled_company, "crm", as_of, Calendar())
    evaluation = rules.evaluate(pulled_company, features, ruleset, stages=table)
    assert isinstance(evaluation.findings, Findings)
    return evaluation.findings


def test_the_worst_and_most_valuable_come_first(found: Findings) -> None:
    """By severity, then by what is at stake, then by rule and subject, over all levels."""
    assert list(found) == sorted(
        found, key=lambda f: (-SEVERITIES.index(f.severity), -(f.amount or 0), f.rule, f.subject_id)
    )
    assert len({f.level for f in found}) > 2


def test_one_a_slice_and_all_are_the_same(found: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read at a time, also across the chunks that they are made in."""
    every = list(found)
    assert len(every) == len(found) > 60
    monkeypatch.setattr(columns, "_CHUNK", 7)

    assert list(found) == every
    assert [found[i] for i in (0, 50, -1)] == [every[i] for i in (0, 50, -1)]
    assert found[10:30:3] == every[10:30:3]
    assert found[10:30] != every[11:31]
    with pytest.raises(IndexError):
        found[len(found)]


def test_what_findings_are_about_needs_no_texts(found: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting and choosing make none; what was chosen is made like all others."""
    about = attrgetter("rule", "level", "subject_id", "severity", "owner_id", "amount", "opportunity_id")
    every = list(found)
    mine = [f for f in every if f.owner_id == every[0].owner_id]

    with monkeypatch.context() as patched:
        patched.delattr(columns, "render")
        told = [about(m) for m in marks(found)]
        chosen = where(found, lambda one: one.owner_id == every[0].owner_id)
        assert len(chosen) == len(mine)

    assert told == [about(f) for f in every]
    assert list(chosen) == mine
    assert list(where(every, lambda one: one.owner_id == every[0].owner_id)) == mine
