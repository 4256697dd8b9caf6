"""Dataset folders as the adapter reads them: what comes through, what is refused, what is unknown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from pipesync.adapters.base import Adapter, Page
from pipesync.errors import InputError
from pipesync.model import TABLES
from pipesync.schema import schema

Opened = Callable[..., Adapter]
Pull = Callable[..., Page]


def by_id(page: Page) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in page.rows.to_pylist()}


def add(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


# --- What comes through -----------------------------------------------------------------------------------------


def test_opportunities_are_typed(opened: Opened, page: Pull) -> None:
    """Money is decimal, dates are dates, times naive UTC, words of closed lists ours."""
    found = by_id(page(opened(), "opportunities"))

    assert found["1"]["amount"] == Decimal("100.50")
    assert found["1"]["close_date"] == date(2026, 6, 30)
    assert found["1"]["created_at"] == datetime(2026, 1, 5, 9)  # noqa: DTZ001  # naive UTC by contract
    assert [found[i]["forecast_category"] for i in "123"] == ["best_case", "closed", "omitted"]
    assert [(found[i]["is_closed"], found[i]["is_won"]) for i in "123"] == [
        (False, False), (True, True), (True, False),
    ]  # fmt: skip
    assert found["3"]["amount"] is None


def test_the_stage_is_the_latest_one_and_an_outcome_ends_it(opened: Opened, page: Pull) -> None:
    """An open opportunity stands where it last went; a lost one without a last stage gets one."""
    adapter = opened()
    stages = {i: row["stage"] for i, row in by_id(page(adapter, "opportunities")).items()}
    changes = page(adapter, "field_changes").rows.to_pylist()
    last = [c for c in changes if c["opportunity_id"] == "3"][-1]

    assert stages == {"1": "Propose", "2": "Closed Won", "3": "Closed Lost"}
    assert (last["field"], last["value"]) == ("stage", "Closed Lost")
    assert last["changed_at"] == datetime(2026, 3, 7, 9)  # noqa: DTZ001
    assert sum(c["value"] == "Closed Won" for c in changes) == 1


def test_stages_are_inferred_from_the_history(opened: Opened, page: Pull) -> None:
    """Without a mapping stages come in the order of first entry, with phases, in the pipeline `default`."""
    found = page(opened(), "stages").rows.to_pylist()

    assert [(s["name"], s["phase"], s["pipeline"], s["order"]) for s in found] == [
        ("Qualify", "early", "default", 0), ("Propose", "late", "default", 1),
        ("Closed Won", "won", "default", 2), ("Closed Lost", "lost", "default", 3),
    ]  # fmt: skip


def test_stages_are_as_mapped(dataset: Path, opened: Opened, page: Pull) -> None:
    """A pipeline's own stages, names of endings, probabilities and categories come from the mapping."""
    (dataset / "mapping.yaml").write_text(
        "pipelines:\n  Main:\n    name: The main one\n    stages:\n"
        "      Propose: {phase: middle, probability: 0.4, category: commit}\n"
        "      Qualify: early\n      Signed: won\n      Gone: lost\n",
        encoding="utf-8",
    )
    adapter = opened()
    found = page(adapter, "stages").rows.to_pylist()
    stages = {i: row["stage"] for i, row in by_id(page(adapter, "opportunities")).items()}

    assert [s["name"] for s in found] == ["Propose", "Qualify", "Signed", "Closed Won", "Gone"]
    assert (found[0]["probability"], found[0]["default_category"]) == (0.4, "commit")
    assert stages == {"1": "Propose", "2": "Closed Won", "3": "Gone"}
    assert page(adapter, "pipelines").rows["name"].to_pylist() == ["The main one"]


def test_a_stage_column_stands_in_for_a_history(dataset: Path, opened: Opened, page: Pull) -> None:
    """Exports without a stage history give the present stage, and the ending as its only change."""
    (dataset / "stage_history.csv").unlink()
    (dataset / "opportunities.csv").write_text(
        "opportunity_id,amount,created_at,closed_at,outcome,stage\n"
        "1,1,2026-01-05,,Open,Propose\n2,1,2026-01-05,2026-02-05,Closed Won,Won\n",
        encoding="utf-8",
    )
    adapter = opened()

    assert {i: r["stage"] for i, r in by_id(page(adapter, "opportunities")).items()} == {
        "1": "Propose",
        "2": "Won",
    }
    assert page(adapter, "stages").rows["phase"].to_pylist() == ["middle", "won", "lost"]
    assert page(adapter, "field_changes").rows["value"].to_pylist() == ["Won"]


def test_field_history_becomes_changes(dataset: Path, opened: Opened, page: Pull) -> None:
    """Values are written as in the present; the first `old` is the value at creation."""
    (dataset / "field_history.csv").write_text(
        "opportunity_id,field,old,new,changed_at\n"
        "1,amount,50,75.5,2026-02-01\n1,amount,75.5,100.50,2026-03-01\n"
        "1,forecast_category,Pipeline,Best Case,2026-02-01\n1,lead_source,,Event,2026-02-02\n",
        encoding="utf-8",
    )
    adapter = opened()
    found = [
        (c["field"], c["value"], c["changed_at"].date().isoformat())
        for c in page(adapter, "field_changes").rows.to_pylist()
        if c["field"] != "stage"
    ]
    full = {c.column for c in adapter.columns() if c.stream == "opportunities" and c.history == "full"}

    assert sorted(found, key=str) == sorted([
        ("amount", "50.00", "2026-01-05"), ("amount", "75.50", "2026-02-01"), ("amount", "100.50", "2026-03-01"),
        ("forecast_category", "pipeline", "2026-01-05"), ("forecast_category", "best_case", "2026-02-01"),
        ("source", None, "2026-01-05"), ("source", "Event", "2026-02-02"),
    ], key=str)  # fmt: skip
    assert {"amount", "forecast_category", "stage", "is_closed"} <= full
    assert "close_date" not in full


def test_parquet_reads_like_csv(dataset: Path, opened: Opened, page: Pull) -> None:
    """The same rows as typed Parquet columns give the same pages."""
    before = {s: page(opened(), s).rows for s in ("opportunities", "field_changes", "stages")}
    for name in ("opportunities", "stage_history"):
        table = pa.csv.read_csv(dataset / f"{name}.csv")
        pa.parquet.write_table(table, dataset / f"{name}.parquet")
        (dataset / f"{name}.csv").unlink()
    after = {s: page(opened(), s).rows for s in before}

    assert all(before[s].equals(after[s]) for s in before)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-05T09:00:00Z", "2026-01-05T09:00:00"),
        ("2026-01-05 09:00:00.250+02:00", "2026-01-05T07:00:00.250000"),
        ("2026-01-05T09:00:00", "2026-01-05T08:00:00"),
        ("2026-01-05", "2026-01-04T23:00:00"),
        ("01/05/2026", "2026-01-04T23:00:00"),
    ],
)
def test_times_without_a_zone_are_the_datasets(
    dataset: Path, opened: Opened, page: Pull, text: str, meant: str
) -> None:
    """A zone in the cell wins; without one it is the mapping's; a date is its first moment there."""
    (dataset / "mapping.yaml").write_text(
        "timezone: Europe/Berlin\ndate_formats: ['%m/%d/%Y']\n", encoding="utf-8"
    )
    add(dataset / "opportunities.csv", f"9,X,1,{text},,Open,,,")
    found = by_id(page(opened(), "opportunities"))

    assert found["9"]["created_at"].isoformat() == meant


def test_a_folder_without_a_mapping_keeps_every_column(dataset: Path, opened: Opened, page: Pull) -> None:
    """What no field is read from is a field of the site's own; with a mapping of its own only what that names."""
    rows = (dataset / "opportunities.csv").read_text().splitlines()
    (dataset / "opportunities.csv").write_text(
        "".join(f"{row},{i or 'loss kind'}\n" for i, row in enumerate(rows))
    )

    assert dict(by_id(page(opened(), "opportunities"))["2"]["custom"]) == {"loss kind": "2"}
    assert [f.name for f in opened().site_fields()] == ["loss kind"]

    (dataset / "mapping.yaml").write_text("version: 1\nextends: pipesync:files\n")
    assert dict(by_id(page(opened(), "opportunities"))["2"]["custom"]) == {}


def test_custom_fields_segments_and_renamed_columns(dataset: Path, opened: Opened, page: Pull) -> None:
    """A site's own columns, words and classes come through the mapping."""
    (dataset / "deals.csv").write_text(
        "Key;Value;Made;Ended;State;Region;Ship to\nA;10;2026-01-01;;Running;EMEA;x\n"
        'B;99;2026-01-02;2026-01-03;WON;"";y\n',
        encoding="utf-8",
    )
    (dataset / "mapping.yaml").write_text(
        """
streams:
  opportunities:
    source: deals
    fields:
      id: Key
      amount: Value
      created_at: Made
      closed_at: Ended
      stage: State
      outcome: {field: State, values: {Running: Open, Won: Closed Won}}
    custom: {region: Region, ship: Ship to, gone: Nowhere}
segments:
  - {name: big, when: {amount: {gte: 50}}}
  - {name: european, when: {custom.region: EMEA}}
""",
        encoding="utf-8",
    )
    found = by_id(page(opened(), "opportunities"))

    assert dict(found["A"]["custom"]) == {"region": "EMEA", "ship": "x"}
    assert dict(found["B"]["custom"]) == {"region": None, "ship": "y"}
    assert [found[i]["segment"] for i in "AB"] == ["european", "big"]
    assert found["B"]["is_won"]


def test_activities_that_are_planned(dataset: Path, opened: Opened, page: Pull) -> None:
    """A blank `is_done` is decided by the clock, which planned activities do not move."""
    (dataset / "activities.csv").write_text(
        "opportunity_id,activity,at,is_done\n1,Call,2026-03-01,true\n1,Call,2026-02-01,\n1,Call,2027-01-01,\n"
        "1,Mail,2027-01-01,false\n",
        encoding="utf-8",
    )
    adapter = opened()

    assert page(adapter, "activities").rows["is_done"].to_pylist() == [True, True, False, False]
    assert adapter.clock() == datetime(2026, 3, 7, 9, tzinfo=UTC)


def test_the_mapping_sets_the_clock(dataset: Path, opened: Opened) -> None:
    """`as_of` wins over what the data knows."""
    (dataset / "mapping.yaml").write_text("as_of: 2026-05-01\n", encoding="utf-8")

    assert opened().clock() == datetime(2026, 5, 1, tzinfo=UTC)


def test_every_stream_has_the_models_columns(opened: Opened, page: Pull) -> None:
    """Pages of all streams, present or absent, have the model's types, and columns are told for each."""
    adapter = opened()
    states = {(c.stream, c.column): c.state for c in adapter.columns()}

    for stream in adapter.streams:
        found = page(adapter, stream)
        assert found.last
        assert all(schema(stream).field(f.name).type == f.type for f in found.rows.schema)
        assert all((stream, name) in states for name in schema(stream).names)
    assert set(adapter.streams) == set(TABLES)


def test_what_is_not_there_is_unmapped(opened: Opened) -> None:
    """Missing files and columns are unknown, not blank; what the adapter derives is known."""
    states = {(c.stream, c.column): c.state for c in opened().columns()}

    assert states["activities", "at"] == "unmapped"
    assert states["opportunities", "next_step"] == "unmapped"
    assert states["opportunities", "segment"] == "unmapped"
    assert states["opportunities", "stage"] == "known"
    assert states["opportunities", "pipeline"] == "known"
    assert states["opportunities", "owner_id"] == "known"
    assert states["own_tasks", "is_done"] == "known"


# --- What is refused --------------------------------------------------------------------------------------------

BAD_ROWS = {
    "bad money": ("9,X,12 EUR,2026-01-05,,Open,,,", "amount is not a sum of money"),
    "endless money": ("9,X,1e30,2026-01-05,,Open,,,", "amount is not a sum of money"),
    "money that is none": ("9,X,NaN,2026-01-05,,Open,,,", "amount is not a sum of money"),
    "bad time": ("9,X,1,yesterday,,Open,,,", "created_at is not a time"),
    "impossible date": ("9,X,1,2026-02-30,,Open,,,", "created_at is not a time"),
    "a program's none": ("9,X,1,0001-01-01,,Open,,,", "created_at is not a time"),
    "bad date": ("9,X,1,2026-01-05,,Open,,soon,", "close_date is not a date"),
    "missing id": (",X,1,2026-01-05,,Open,,,", "id is blank"),
    "blank outcome": ("9,X,1,2026-01-05,,,,,", "outcome is blank"),
    "unknown outcome": ("9,X,1,2026-01-05,,Maybe,,,", "outcome is none of Open, Closed Won, Closed Lost"),
    "unknown category": ("9,X,1,2026-01-05,,Open,,,Upwards", "forecast_category is none of"),
    "duplicate id": ("1,X,1,2026-01-05,,Open,,,", "id came before in this file"),
    "closed without a time": ("9,X,1,2026-01-05,,Closed Won,,,", "closed_at is blank"),
    "open with a closing time": ("9,X,1,2026-01-05,2026-01-06,Open,,,", "closed_at is filled"),
    "too few cells": ("9,X,1", "has 3 cells where the header has 9"),
    "too many cells": ("9,X,1,2026-01-05,,Open,,,,,,", "has 12 cells"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS.values(), ids=list(BAD_ROWS))
def test_bad_rows_are_rejected_with_their_line(
    dataset: Path, opened: Opened, page: Pull, line: str, reason: str
) -> None:
    """The row is told by file, line and reason, with its text, and all the others load."""
    add(dataset / "opportunities.csv", "", line, '8,"two\nlines",1,2026-01-05,,Open,,,')
    found = page(opened(), "opportunities")

    (reject,) = found.rejects
    assert reject.where == "opportunities.csv:6"
    assert reason in reject.reason
    assert reject.raw.rstrip(",") == line.rstrip(",")
    assert found.rows["id"].to_pylist() == ["1", "2", "3", "8"]


def test_rejects_after_a_cell_of_several_lines_keep_their_line(
    dataset: Path, opened: Opened, page: Pull
) -> None:
    """Line numbers are those of the file, not of the records."""
    add(dataset / "opportunities.csv", '8,"two\nlines",1,2026-01-05,,Open,,,', "9,X,much,2026-01-05,,Open,,,")

    assert page(opened(), "opportunities").rejects[0].where == "opportunities.csv:7"


def test_rows_of_unknown_opportunities_are_rejected(dataset: Path, opened: Opened, page: Pull) -> None:
    """History and activities of an opportunity that is not there are told, not loaded."""
    add(dataset / "stage_history.csv", "77,Qualify,2026-01-05,", "1,,2026-01-05,")
    (dataset / "activities.csv").write_text(
        "opportunity_id,at\n78,2026-01-01\n1,2026-01-01\n", encoding="utf-8"
    )
    adapter = opened()

    assert [(r.where, r.reason) for r in page(adapter, "field_changes").rejects] == [
        ("stage_history.csv:8", "no readable opportunity has this opportunity_id"),
        ("stage_history.csv:9", "stage is blank"),
    ]
    assert len(page(adapter, "activities").rows) == 1


def test_bad_values_in_the_field_history_are_rejected(dataset: Path, opened: Opened, page: Pull) -> None:
    """A change to a value that means nothing for that field is told with its line."""
    (dataset / "field_history.csv").write_text(
        "opportunity_id,field,old,new,changed_at\n1,amount,1,lots,2026-02-01\n1,amount,1,2,2026-02-01\n",
        encoding="utf-8",
    )
    found = page(opened(), "field_changes")

    assert [r.where for r in found.rejects] == ["field_history.csv:2"]
    assert "amount is not a sum of money" in found.rejects[0].reason


def test_bytes_that_are_not_utf8_cost_their_row_only(dataset: Path, opened: Opened, page: Pull) -> None:
    """A row in another encoding is rejected; the others load."""
    with (dataset / "opportunities.csv").open("ab") as file:
        file.write("9,M\xfcller,1,2026-01-05,,Open,,,\n".encode("latin-1"))
    found = page(opened(), "opportunities")

    assert [r.where for r in found.rejects] == ["opportunities.csv:5"]
    assert "UTF-8" in found.rejects[0].reason
    assert len(found.rows) == 3


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


WHOLE_FOLDERS = {
    "no opportunities": (lambda f: (f / "opportunities.csv").unlink(), ["no file opportunities", "mapping.yaml"]),
    "no stages at all": (lambda f: (f / "stage_history.csv").unlink(), ["no file stage_history", "fields: stage"]),
    "missing column": (edit("opportunities.csv", "amount", "value"),
                       ["opportunities.csv:1", "column 'amount' is missing", "value", "amount: null"]),
    "missing outcome": (edit("opportunities.csv", "outcome", "result"), ["column 'outcome' is missing"]),
    "two missing columns": (edit("opportunities.csv", "outcome,owner_id", "a,b,created_at"),
                            ["opportunities.csv"]),
    "column twice": (edit("opportunities.csv", "name", "amount"), ["column 'amount' is there twice"]),
    "history without stage": (edit("stage_history.csv", "stage,", "phase,"),
                              ["stage_history.csv:1", "column 'stage' is missing"]),
    "empty file": (put("opportunities.csv", ""), ["opportunities.csv: has no header line"]),
    "open quote": (put("leads.csv", 'lead_id,source\n1,b\n2,"a\n3,c\n'), ["leads.csv:3: a quote opens here"]),
    "not Parquet": (put("leads.parquet", "lead_id"), ["leads.parquet", "not a Parquet file"]),
    "both formats": (put("opportunities.parquet", "x"), ["are both there", "keep one"]),
    "outside the folder": (put("mapping.yaml", "extends: pipesync:files\nstreams:\n  users: ../owners.csv\n"),
                           ["mapping.yaml:3:10", "lies outside"]),
    "outside by an absolute path": (
        put("mapping.yaml", "extends: pipesync:files\nstreams:\n  users: {source: /etc/passwd}\n"),
        ["mapping.yaml:3:19", "lies outside"]),
    "a link out of the folder": (lambda f: (f / "leads.csv").symlink_to("/etc/passwd"), ["lies outside"]),
    "mapping without opportunities": (put("mapping.yaml", "streams: {users: {source: owners}}\n"),
                                      ["has no opportunities", "extends: pipesync:files"]),
    "every row bad": (put("opportunities.csv",
                          "opportunity_id,amount,created_at,closed_at,outcome\n1,1,1.2.26,,Open\n"),
                      ["no row of opportunities.csv could be read", "created_at is not a time"]),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), WHOLE_FOLDERS.values(), ids=list(WHOLE_FOLDERS))
def test_a_folder_that_cannot_be_used_says_why(
    dataset: Path, opened: Opened, page: Pull, spoil: Callable[[Path], object], words: list[str]
) -> None:
    """One InputError names the file, the column and what to do."""
    spoil(dataset)

    def use() -> None:
        adapter = opened()
        for stream in adapter.streams:
            page(adapter, stream)

    with pytest.raises(InputError) as raised:
        use()

    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_several_missing_columns_are_told_at_once(dataset: Path, opened: Opened) -> None:
    """Everything that is missing in any file stands in one error."""
    edit("opportunities.csv", "amount,created_at", "a,b")(dataset)
    edit("stage_history.csv", "entered_at", "at")(dataset)
    with pytest.raises(InputError) as raised:
        opened()

    assert len(raised.value.problems) == 3


def test_a_column_may_be_declared_absent(dataset: Path, opened: Opened) -> None:
    """`amount: null` says that there is none, and it is unknown then."""
    edit("opportunities.csv", "amount", "value")(dataset)
    put("mapping.yaml", "extends: pipesync:files\nstreams: {opportunities: {fields: {amount: null}}}\n")(
        dataset
    )
    states = {c.column: c.state for c in opened().columns() if c.stream == "opportunities"}

    assert states["amount"] == "unmapped"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outbocks": "x"}, "unknown key 'outbocks'\n    did you mean 'outbox'?"),
        ({"data": "nowhere"}, "no such folder"),
        ({"data": ["a"]}, "exports"),
        ({"mapping": "nowhere.yaml"}, "nowhere.yaml: no such file"),
    ],
)
def test_wrong_options_are_told(opened: Opened, options: dict[str, Any], words: str) -> None:
    """An unknown option, or a path that leads nowhere, is one clear message."""
    with pytest.raises(InputError) as raised:
        opened(**options)

    assert words in str(raised.value)


# --- Again ------------------------------------------------------------------------------------------------------


def test_unchanged_files_are_not_read_again(dataset: Path, opened: Opened, page: Pull) -> None:
    """With the last cursor an unchanged folder gives empty pages that keep the cursor."""
    first = opened()
    cursors = {s: page(first, s).cursor for s in first.streams}
    again = opened()

    for stream in ("opportunities", "stages", "field_changes", "users"):
        found = page(again, stream, cursors[stream])
        assert (len(found.rows), found.mode, found.last, found.cursor) == (0, "merge", True, cursors[stream])


@pytest.mark.parametrize("name", ["opportunities.csv", "stage_history.csv", "mapping.yaml"])
def test_a_change_of_content_is_noticed(dataset: Path, opened: Opened, page: Pull, name: str) -> None:
    """A changed row or a changed mapping replaces the stream; touching a file does not."""
    cursor = page(opened(), "opportunities").cursor
    for file in dataset.iterdir():
        file.touch()
    untouched = page(opened(), "opportunities", cursor)
    added = {"opportunities.csv": "9,X,1,2026-01-05,,Open,,,", "stage_history.csv": "1,Sign,2026-04-01,"}
    add(dataset / name, added.get(name, "currency: EUR"))
    changed = page(opened(), "opportunities", cursor)

    assert len(untouched.rows) == 0
    assert changed.mode == "replace"
    assert len(changed.rows) >= 3
    assert changed.cursor != cursor


def test_a_removed_file_empties_its_stream(dataset: Path, opened: Opened, page: Pull) -> None:
    """A stream whose file is gone is replaced by nothing and becomes unknown."""
    (dataset / "owners.csv").write_text("owner_id,name\nu1,Ada\n", encoding="utf-8")
    cursor = page(opened(), "users").cursor
    (dataset / "owners.csv").unlink()
    found = page(opened(), "users", cursor)

    assert (len(found.rows), found.mode) == (0, "replace")


def test_doctor_tells_of_every_file(dataset: Path, opened: Opened) -> None:
    """Rows, the first reject, missing files, the outbox and the clock are each a line."""
    add(dataset / "opportunities.csv", "9,X,much,2026-01-05,,Open,,,")
    checks = {c.name: c for c in opened().checks()}

    assert checks["opportunities.csv"].status == "warning"
    assert "opportunities.csv:5: amount is not" in checks["opportunities.csv"].detail
    assert checks["stage_history.csv"].status == "ok"
    assert checks["leads"].status == "warning"
    assert checks["outbox"].status == "ok"
    assert checks["clock"].detail == "2026-03-07T09:00:00Z"
