"""Editors are told what the checker allows: the schema takes every shipped rule, and the CRM's own names are in it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from pipesync._paths import shipped
from pipesync.rules.editor import schema
from pipesync.rules.ruleset import rule_files
from pipesync.rules.vocabulary import vocabulary
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse, read

VALIDATOR = jsonschema.Draft202012Validator(schema())
RULE = """\
rule: site.example
title: An example
why: Because.
severity: low
when: {stage: Propose, days_in_stage: {gte: 10}, close_date: {changed_within: 3 business days}}
message: An example.
tests: [{today: 2026-11-23, given: {stage: Propose}, expect: fires}]
"""


def errors(text: str, validator: Any = VALIDATOR) -> list[str]:  # Any: jsonschema publishes no types
    return [e.message for e in validator.iter_errors(parse(text).data)]


def test_the_schema_is_one_and_small() -> None:
    """An editor loads it at every keystroke; fields of one kind share what they have in common."""
    jsonschema.Draft202012Validator.check_schema(schema())

    assert len(str(schema())) < 200_000


@pytest.mark.parametrize("path", rule_files(shipped("rules")).values(), ids=lambda p: p.stem)
def test_every_shipped_rule_is_what_the_schema_allows(path: Any) -> None:
    """Whatever level and operator."""
    assert [e.message for e in VALIDATOR.iter_errors(read(path).data)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stage:", "stag:"),
        ("gte:", "gtt:"),
        ("gte: 10", "gte: ten"),
        ("changed_within", "within"),
        ("3 business days", "3 moons"),
        ("severity: low", "severity: lo"),
        ("expect: fires", "expect: fire"),
        ("message:", "mesage:"),
    ],
)
def test_a_mistake_is_underlined(old: str, new: str) -> None:
    """While one types."""
    assert errors(RULE) == []
    assert errors(RULE.replace(old, new, 1)) != []


def test_measures_may_be_used_where_levels_have_them() -> None:
    """A name that the schema cannot know is a measure of the rule."""
    when = RULE.splitlines()[4]
    measured = (
        "level: team\nmeasures: {late: {calculate: count, where: {is_opne: true}}}\nwhen: {late: {gt: 5}}"
    )
    text = RULE.replace(when, measured)

    assert len(errors(text)) == 1
    assert errors(text.replace("is_opne", "is_open")) == []


def test_a_connected_crm_offers_its_own_names(pulled_company: Warehouse) -> None:
    """Stages, owners and segments, without refusing what is not on the list: lint does that."""
    made = schema(vocabulary(pulled_company, ["crm"]).narrow)

    offered = made["$defs"]["asked_category_stage_changing"]["anyOf"][0]["anyOf"][0]["enum"]
    assert "Negotiate" in offered
    assert errors(RULE, jsonschema.Draft202012Validator(made)) == []
