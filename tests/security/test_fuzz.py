"""Whatever stands in a rule file, a mapping or a configuration, or a CRM answers, ends well or as a clear error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.security.proxy import Proxy, places, replaced

from pipesync.adapters import open_adapter
from pipesync.config import from_text
from pipesync.errors import InputError, PipesyncError, Problem
from pipesync.mapping import load as load_mapping
from pipesync.pull import pull
from pipesync.rules.format import read_rule
from pipesync.sandbox.company import generate
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import parse

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
RULES = [
    p.read_text(encoding="utf-8")
    for p in sorted((ROOT / "rules").glob("*/*.yaml"))
    if "rule:" in p.read_text()
]
MAPPINGS = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "adapters").glob("*/mapping.yaml"))]
CONFIGURATIONS = [
    """\
version: 1
extends: ["pipesync:recommended"]
mode: enforce
connections:
  a: {adapter: files, data: exports, outbox: outbox, write: {enabled: true, tasks: true}}
  b: {adapter: hubspot, token_env: TOKEN}
store: {warehouse: w.duckdb, ledger: l.db, keep: 3 years}
rules: {hygiene.no_next_step: off, hygiene.no_activity: {severity: low, params: {idle_days: 21}}}
suppressions: [{rule: hygiene.amount_missing, opportunity: "006", until: 2027-01-31, reason: priced elsewhere}]
calendar: {timezone: Europe/Warsaw, country: PL, holidays: [2026-12-24], fiscal_year_starts: 2}
notify: {digest: {to_env: X, weekday: monday, hour: 7, leaders: [a]}, failures: {to_env: Y}}
"""
]
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sampled_from(["$days", "{name}", "7 moons", "0d", "2026-13-45", "!!python/name:os", "*", "&a", "all", "not"]),
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, texts: list[str]) -> str:
    """A good file with a few values replaced, or with some of its characters lost, doubled or exchanged."""
    text = draw(st.sampled_from(texts))
    if draw(st.booleans()):
        data = yaml.safe_load(text)
        for _ in range(draw(st.integers(1, 3))):
            data = replaced(data, draw(st.sampled_from(places(data))), draw(ODD))
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    bits = ["", "\n", ":", "  ", "- ", "{", "]", "\t", "é", "\x00", text[:20]]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        length = draw(st.integers(0, 30))
        text = text[:at] + draw(st.sampled_from(bits)) + text[at + length :]
    return text


def problems_of(read: Callable[[], object]) -> Sequence[Problem] | None:
    """Return what an input error complains of; None where the input is good. Anything else is a crash."""
    try:
        read()
    except InputError as error:
        return error.problems
    return None


@settings(max_examples=60, deadline=None)
@given(text=spoilt(RULES))
def test_a_rule_file_is_good_or_says_what_is_wrong(text: str) -> None:
    """Any mistake in it is an input error with at least one problem, each with words."""
    problems = problems_of(lambda: read_rule(parse(text, "rule.yaml"), Path("rule.yaml")))

    assert problems is None or (problems and all(p.message for p in problems))


@settings(max_examples=40, deadline=None)
@given(text=spoilt(MAPPINGS))
def test_a_mapping_is_good_or_says_what_is_wrong(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same."""
    file = tmp_path_factory.mktemp("mapping") / "mapping.yaml"
    file.write_text(text, encoding="utf-8")

    problems = problems_of(lambda: load_mapping(file, base="pipesync:files"))

    assert problems is None or (problems and all(p.message for p in problems))


@settings(max_examples=40, deadline=None)
@given(text=spoilt(CONFIGURATIONS))
def test_a_configuration_is_good_or_says_what_is_wrong(text: str) -> None:
    """The same."""
    problems = problems_of(lambda: from_text(text, Path()))

    assert problems is None or (problems and all(p.message for p in problems))


# --- What a CRM answers -----------------------------------------------------------------------------------------


def spoilt_answer(status: int, content: bytes, chance: random.Random) -> tuple[int, bytes]:
    """Give back a page of HTML, half of the bytes, or JSON with a value lost or replaced by an odd one."""
    try:
        data = json.loads(content)
    except ValueError:
        return status, content[: len(content) // 2]
    way = chance.randrange(5)
    if way == 0:
        return status, b"<html>maintenance</html>"
    spots = [p for p in places(data) if p]
    if not spots:
        return status, b"[]"
    spot = chance.choice(spots)
    if way == 1:
        parent = data
        for key in spot[:-1]:
            parent = parent[key]
        del parent[spot[-1]]
        return status, json.dumps(data).encode()
    odd: list[Any] = [
        None,
        0,
        -1,
        10**30,
        1e308,
        "",
        "x",
        "2026-99-99T99:99:99Z",
        [],
        {},
        [None],
        {"a": 1},
        True,
    ]
    return status, json.dumps(replaced(data, spot, chance.choice(odd))).encode()


@pytest.fixture(scope="module", params=["salesforce", "hubspot"])
def spoiling(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Proxy, Path]]:
    folder = tmp_path_factory.mktemp(request.param)
    generate(folder / "exports", opportunities=12, activities_per_opportunity=1)
    with (
        running(folder / "exports", request.param) as sandbox,
        Proxy(sandbox.url, spoiling=spoilt_answer) as proxy,
    ):
        write_configuration(sandbox, request.param, proxy, folder)
        yield request.param, proxy, folder


def write_configuration(sandbox: Sandbox, crm: str, proxy: Proxy, folder: Path) -> None:
    keys = {**sandbox.settings(crm, folder), "url": proxy.url}
    (folder / "pipesync.yaml").write_text(yaml.safe_dump({"connections": {crm: keys}}))


def try_answers(spoiling: tuple[str, Proxy, Path], seeds: Sequence[int]) -> list[str]:
    """Pull once per seed with one answer spoilt; return what was spoilt where that was a crash."""
    crm, proxy, folder = spoiling
    config = from_text((folder / "pipesync.yaml").read_text(), folder)
    crashes, spoilt = [], 0
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311  # seeded on purpose
        proxy.arm(chance.randrange(1, 25), seed)
        adapter = open_adapter(crm, config.connections[crm], folder)
        try:
            with Warehouse() as warehouse:
                pull(adapter, warehouse)
        except PipesyncError:
            continue
        except Exception as error:
            crashes.append(f"seed {seed}: {proxy.spoilt}: {type(error).__name__}: {error}")
        finally:
            adapter.close()
            spoilt += bool(proxy.spoilt)
    assert spoilt > len(seeds) / 2
    return crashes


def test_a_spoilt_answer_is_no_crash(spoiling: tuple[str, Proxy, Path]) -> None:
    """A value of another kind, a key that is gone, a page of HTML: the pull goes on, or says what it cannot use."""
    assert try_answers(spoiling, (0, 1, 1004, 1012, 1063)) == []


@pytest.mark.campaign
def test_many_spoilt_answers_are_no_crash(spoiling: tuple[str, Proxy, Path]) -> None:
    """The same, many times."""
    assert try_answers(spoiling, range(1000, 1300)) == []
