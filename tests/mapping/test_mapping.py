"""`mapping.yaml`: what it means, and what it says to whoever wrote it wrong."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipesync import mapping
from pipesync._paths import shipped
from pipesync.errors import InputError
from pipesync.schema import table


def load(folder: Path, text: str, *, base: str | None = None) -> mapping.Mapping:
    (folder / "mapping.yaml").write_text(text, encoding="utf-8")
    return mapping.load(folder / "mapping.yaml", base=base)


WRONG = {
    "unknown requirement": ("stages:\n  Propose: {phase: middle, required: [amount, custom.region, nextstep]}\n",
                            "2:62: a stage cannot require 'nextstep'", "did you mean 'next_step'?"),
    "unknown key": ("streems: {}\n", "1:1: unknown key 'streems'", "did you mean 'streams'?"),
    "unknown stream": ("streams:\n  opportunitys: {source: a.csv}\n", "2:3: unknown stream 'opportunitys'",
                       "did you mean 'opportunities'?"),
    "unknown field": ("streams:\n  opportunities:\n    source: a\n    fields: {amuont: Value}\n",
                      "4:14: opportunities has no field 'amuont'", "did you mean 'amount'?"),
    "unknown key of a field": ("streams:\n  users:\n    source: a\n    fields:\n      id: {feild: x, field: y}\n",
                               "5:12: unknown key 'feild'", "did you mean 'field'?"),
    "unknown history kind": ("streams:\n  users:\n    source: a\n    fields:\n      id: {field: y, history: ful}\n",
                             "5:31: streams.users.fields.id.history", "allowed: 'full'"),
    "word of a closed list": (
        "streams:\n  opportunities:\n    source: a\n    fields:\n"
        "      outcome: {field: s, values: {Won: Closed won}}\n",
        "5:41: outcome cannot be 'Closed won'", "did you mean 'Closed Won'?"),
    "no source": ("streams:\n  users:\n    fields: {id: a}\n", "2:3: stream 'users' has no source", "source:"),
    "custom elsewhere": ("streams:\n  users: {source: a, custom: {x: y}}\n", "2:22: only opportunities", "remove it"),
    "unknown phase": ("stages:\n  Qualify: erly\n", "2:12: stages.Qualify.phase", "allowed: 'early'"),
    "probability above 1": ("stages:\n  Q: {phase: early, probability: 50}\n", "2:34: stages.Q.probability", ""),
    "unknown category": ("stages:\n  Q: {phase: early, category: comit}\n", "2:31: stages.Q.category", "commit"),
    "as_of without zone": ("as_of: 2026-11-16T08:00:00\n", "1:8: as_of: '2026-11-16T08:00:00' has no zone", ""),
    "as_of no time": ("as_of: soon\n", "1:8: as_of: 'soon' is not a time", ""),
    "currency": ("currency: Euro\n", "1:11: currency: expected a currency code", ""),
    "timezone": ("timezone: Berlin\n", "1:11: timezone: expected a time zone", ""),
    "unknown segment field": ("segments:\n  - {name: a, when: {amuont: {gte: 1}}}\n",
                              "2:22: opportunities have no field 'amuont'", "did you mean 'amount'?"),
    "unknown operator": ("segments:\n  - {name: a, when: {amount: {get: 1}}}\n", "2:31: unknown operator 'get'",
                         "did you mean"),
    "misfit value": ("segments:\n  - {name: a, when: {amount: {gte: lots}}}\n",
                     "2:36: amount: 'lots' cannot be compared with a sum of money", ""),
    "value where a list is due": ("segments:\n  - {name: a, when: {source: {in: Event}}}\n",
                                  "2:35: source: expected a list", ""),
    "comparison with nothing": ("segments:\n  - {name: a, when: {source: null}}\n", "2:30: source: expected a value",
                                "missing: true"),
    "unreachable segment": ("segments:\n  - {name: rest}\n  - {name: a, when: {type: New}}\n",
                            "2:5: segment 'rest' takes all", "put it last"),
    "duplicate key": ("currency: EUR\ncurrency: USD\n", "2:1: key 'currency' is given twice", "keep one"),
    "nothing to extend": ("extends: pipesync:file\n", "1:10: nothing named 'pipesync:file'", "pipesync:files"),
    "extends itself": ("extends: mapping.yaml\n", "1:10: extends itself", ""),
    "a list": ("- a\n", "1:1: expected a map", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message", "fix"), WRONG.values(), ids=list(WRONG))
def test_errors_show_place_caret_and_mend(tmp_path: Path, text: str, message: str, fix: str) -> None:
    """Each mistake names its line and column, shows the line with a caret, and says what to do."""
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)

    said = str(raised.value)
    assert f"mapping.yaml:{message}" in said
    assert fix in said
    assert re.search(r"^ +\^$", said, re.MULTILINE)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """A file with three mistakes is mended in one go."""
    text = "streams:\n  users: {source: a, fields: {nam: b}}\n  leeds: {source: c}\nsegments: [{name: a, when: {x: 1}}]"
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)

    assert len(raised.value.problems) == 3


def test_the_shipped_mapping_loads() -> None:
    """The mapping for files is valid and names opportunities and both histories."""
    found = mapping.load(shipped("adapters") / "files" / "mapping.yaml")

    assert {"opportunities", "stage_history", "field_history"} <= found.streams.keys()
    assert found.streams["opportunities"].fields["outcome"].field == "outcome"


def test_the_example_in_the_readme_loads(tmp_path: Path) -> None:
    """The README's example is a valid mapping that means what its comments say."""
    text = (shipped("adapters") / "files" / "README.md").read_text(encoding="utf-8")
    block = next(
        b for b in re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE) if "extends: pipesync:files" in b
    )
    found = load(tmp_path, re.sub(r"^    ", "", block, flags=re.MULTILINE))

    fields = found.streams["opportunities"].fields
    assert found.as_of == datetime(2026, 11, 16, 8, tzinfo=UTC)
    assert fields["amount"] == mapping.FieldMapping(field="Value", history="full")
    assert fields["outcome"].values["Won"] == "Closed Won"
    assert "next_step" not in fields
    assert "stage_history" not in found.streams
    assert found.streams["opportunities"].custom == {"region": "Sales Region"}
    assert found.stages_of("Renewals").keys() == {"Due", "Sent", "Renewed", "Churned"}
    assert found.stages_of("New business") == found.stages
    assert found.default_pipeline == "Renewals"


def test_a_mapping_without_streams_extends_the_base(tmp_path: Path) -> None:
    """A dataset's mapping may consist of its moment alone; a key that it gives wins over the base's."""
    found = load(tmp_path, "as_of: 2026-01-02\n", base="pipesync:files")

    assert found.as_of == datetime(2026, 1, 2, tzinfo=UTC)
    assert found.streams["opportunities"].source == "opportunities"


def test_a_mapping_with_streams_stands_alone(tmp_path: Path) -> None:
    """A file that maps streams itself takes nothing from the base."""
    found = load(
        tmp_path, "streams: {opportunities: {source: deals, fields: {id: key}}}\n", base="pipesync:files"
    )

    assert found.streams.keys() == {"opportunities"}
    assert found.streams["opportunities"].fields.keys() == {"id"}


def test_extending_a_file_beside_it(tmp_path: Path) -> None:
    """`extends` also names a file, whose errors keep their own place."""
    (tmp_path / "base.yaml").write_text("currency: EURO\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"base\.yaml:1:11"):
        load(tmp_path, "extends: base.yaml\n")


def test_places_are_kept(tmp_path: Path) -> None:
    """An adapter can point at the line of the mapping that it cannot follow."""
    found = load(tmp_path, "extends: pipesync:files\nstreams:\n  users: {source: ../owners.csv}\n")

    assert str(found.place("streams", "users", "source")).endswith("mapping.yaml:3:19")
    assert "adapters/files/mapping.yaml" in str(found.place("streams", "leads", "source")).replace("\\", "/")
    assert found.place("streams", "nothing") is None


def test_fingerprint_follows_meaning_not_layout(tmp_path: Path) -> None:
    """Comments and order of keys do not make a dataset be read anew; a changed column does."""
    one = load(tmp_path, "currency: EUR\ntimezone: UTC\n").fingerprint()
    same = load(tmp_path, "# a word\ntimezone: UTC\ncurrency: EUR\n").fingerprint()
    other = load(tmp_path, "currency: USD\n").fingerprint()

    assert one == same
    assert one != other


# --- Segments ---------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": "1", "amount": Decimal("60000.00"), "source": "Event", "close_date": date(2026, 5, 1),
     "custom": {"region": "EMEA", "seats": "120"}},
    {"id": "2", "amount": Decimal("59999.99"), "source": "Partner", "close_date": date(2027, 5, 1),
     "custom": {"region": "APAC", "seats": "90"}},
    {"id": "3", "amount": None, "source": None, "close_date": None, "custom": {"seats": "many"}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("when", "taken"),
    [
        ({"amount": {"gte": 60000}}, "1"),
        ({"amount": {"gt": "59999.98", "lt": 60000}}, "2"),
        ({"amount": {"lte": 59999.99}}, "2"),
        ({"source": "Event"}, "1"),
        ({"source": ["Event", "Partner"]}, "12"),
        ({"source": {"not_in": ["Event"]}}, "2"),
        ({"source": {"ne": "Event"}}, "2"),
        ({"source": {"missing": True}}, "3"),
        ({"source": {"missing": False}}, "12"),
        ({"close_date": {"lt": "2027-01-01"}}, "1"),
        ({"custom.region": "APAC"}, "2"),
        ({"custom.seats": {"gte": 100}}, "1"),
        ({"custom.region": {"missing": True}}, "3"),
        ({"type": "New"}, ""),
        ({}, "123"),
    ],
)
def test_segments_take_the_rows_that_fit(when: dict[str, Any], taken: str) -> None:
    """A blank fits nothing but `missing`; a custom field against a number counts as one."""
    found = mapping.segment(table("opportunities", ROWS), [mapping.Segment(name="it", when=when)])

    assert found.to_pylist() == ["it" if row["id"] in taken else None for row in ROWS]


def test_the_first_segment_that_fits_names_it() -> None:
    """Segments are tried in order, and the last may take the rest."""
    segments = [
        mapping.Segment(name="large", when={"amount": {"gte": 60000}}),
        mapping.Segment(name="some", when={"amount": {"missing": False}}),
        mapping.Segment(name="rest"),
    ]

    assert mapping.segment(table("opportunities", ROWS), segments).to_pylist() == ["large", "some", "rest"]


def test_segments_of_no_rows() -> None:
    """An empty page has an empty segment column of text."""
    empty = table("opportunities", ROWS).slice(0, 0)

    assert mapping.segment(empty, [mapping.Segment(name="a")]).type == pa.string()


# --- Stages -----------------------------------------------------------------------------------------------------


def test_phases_are_inferred_by_thirds() -> None:
    """Stages that nobody described are early, middle or late by where they stand; won and lost go last."""
    found = mapping.arrange(mapping.Mapping(), "p", ["Closed Won", "a", "b", "c", "d", "e", "Lost"])

    assert [(s.name, s.phase) for s in found] == [
        ("a", "early"), ("b", "early"), ("c", "middle"), ("d", "late"), ("e", "late"),
        ("Closed Won", "won"), ("Lost", "lost"),
    ]  # fmt: skip
    assert [s.order for s in found] == list(range(7))
    assert [s.probability for s in found[-2:]] == [1, 0]


@pytest.mark.parametrize(("count", "phases"), [(1, "m"), (2, "el"), (3, "eml"), (4, "emml"), (6, "eemmll")])
def test_thirds_are_symmetrical(count: int, phases: str) -> None:
    """However few stages there are, as many are early as are late."""
    assert "".join(mapping.third(i, count)[0] for i in range(count)) == phases


def test_the_mapping_overrules_the_source_and_the_source_overrules_names() -> None:
    """A CRM that says which stages end decides over a stage's name; the mapping decides over both."""
    said = mapping.Mapping(
        stages={"Signed": mapping.StageMapping(phase="won", probability=0.99, category="closed")}
    )
    found = mapping.arrange(
        said, "p", ["Won over", "Won", "Signed"], closed={"Won over": "won"}, ids={"Signed": "42"}
    )

    assert {s.name: s.phase for s in found} == {"Won": "middle", "Won over": "won", "Signed": "won"}
    assert [(s.id, s.probability, s.default_category) for s in found if s.name == "Signed"] == [
        ("42", 0.99, "closed")
    ]
