"""The warehouse: rows and cursors together, one writer, readers undisturbed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesync.errors import StoreError
from pipesync.model import ColumnState, Connection, HistoryKind, Opportunity
from pipesync.schema import schema, table
from pipesync.store.opening import published
from pipesync.store.owed import missing, settle
from pipesync.store.warehouse import Warehouse

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Row = dict[str, Any]  # Any: columns' values


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as opened:
        yield opened


def connect(warehouse: Warehouse, history: HistoryKind = "full", since: datetime | None = None) -> None:
    states = [
        ColumnState(stream="opportunities", column=c, state="known", history=history, since=since)
        for c in schema("opportunities").names
    ]
    warehouse.set_connection(Connection(connection="crm", adapter="files", currency="EUR"), states)


def merge(warehouse: Warehouse, rows: list[Row], stream: str = "opportunities", **given: Any) -> int:
    options = {"cursor": "c", "until": NOW, "last": True, **given}
    return warehouse.merge("crm", stream, table(stream, rows), **options)


def names(warehouse: Warehouse) -> dict[str, str | None]:
    return dict(warehouse.rows("SELECT id, name FROM opportunities ORDER BY id"))


def test_a_page_replaces_the_rows_of_its_keys(warehouse: Warehouse) -> None:
    """Others stay; the count is of rows that differ."""
    merge(warehouse, [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}])

    changed = merge(warehouse, [{"id": "2", "name": "b"}, {"id": "1", "name": "x"}, {"id": "3", "name": "c"}])

    assert changed == 2
    assert names(warehouse) == {"1": "x", "2": "b", "3": "c"}


def test_the_later_of_two_rows_of_a_key_stands(warehouse: Warehouse) -> None:
    """As the CRM's own order says."""
    merge(warehouse, [{"id": "1", "name": "old"}, {"id": "1", "name": "new"}])

    assert names(warehouse) == {"1": "new"}


def test_a_full_scan_drops_what_it_does_not_bring(warehouse: Warehouse) -> None:
    """Its first page replaces, the next ones merge."""
    merge(warehouse, [{"id": "1"}, {"id": "2"}])
    merge(warehouse, [{"id": "2"}], replace=True, last=False)
    merge(warehouse, [{"id": "3"}])

    assert list(names(warehouse)) == ["2", "3"]


def test_a_deleted_opportunity_takes_its_own_along(warehouse: Warehouse) -> None:
    """History, activities, people and line items go; other connections keep theirs."""
    for connection in ("crm", "other"):
        for stream, row in (
            ("opportunities", {"id": "1"}),
            ("activities", {"id": "a", "opportunity_id": "1", "at": NOW}),
            ("contact_roles", {"opportunity_id": "1", "contact_id": "c"}),
            ("line_items", {"id": "l", "opportunity_id": "1"}),
            ("field_changes", {"id": "f", "opportunity_id": "1", "field": "stage", "changed_at": NOW}),
        ):
            warehouse.merge(connection, stream, table(stream, [row]), cursor="c", until=NOW, last=True)

    merge(warehouse, [], deleted=("1",))

    for stream in ("opportunities", "activities", "contact_roles", "line_items", "field_changes"):
        assert warehouse.rows(f'SELECT connection FROM "{stream}"') == [("other",)]


def old(*ids: str, **more: Any) -> list[Row]:
    return [{"id": i, "created_at": NOW - timedelta(days=1), **more} for i in ids]


class TestOwedChildren:
    """What belongs to an opportunity that appears with a past is noted as missing, and for each stream by itself."""

    def test_nothing_is_owed_before_a_stream_was_read(self, warehouse: Warehouse) -> None:
        """A first pull reads everything anyway, and so does one that has no cursor."""
        merge(warehouse, [], "line_items", cursor=None)
        merge(warehouse, old("1"))

        assert missing(warehouse, "crm", "line_items") == missing(warehouse, "crm", "activities") == []

    def test_what_is_older_than_the_cursor_is_owed_until_it_is_settled(self, warehouse: Warehouse) -> None:
        """What was here, and what was made since the stream was read, is not."""
        merge(warehouse, old("1"))
        merge(warehouse, [], "line_items")
        merge(warehouse, [*old("1", "2", "3"), {"id": "4", "created_at": NOW}, {"id": "5"}])
        merge(warehouse, old("3", name="again"))

        owed = missing(warehouse, "crm", "line_items")
        settle(warehouse, "crm", "line_items", ["2"])
        left = missing(warehouse, "crm", "line_items")
        settle(warehouse, "crm", "line_items")

        assert (owed, left) == (["2", "3", "5"], ["3", "5"])
        assert missing(warehouse, "crm", "line_items") == missing(warehouse, "crm", "activities") == []

    def test_a_listing_owes_only_what_was_not_here_before_it(self, warehouse: Warehouse) -> None:
        """Its first page drops every row, also where the listing breaks off and begins again."""
        merge(warehouse, old("1", "2", "3"))
        merge(warehouse, [], "line_items")
        merge(warehouse, old("1"), replace=True, last=False)
        merge(warehouse, old("1"), replace=True, last=False)
        merge(warehouse, old("2", "4"), last=False)
        merge(warehouse, old("3"))
        owed = missing(warehouse, "crm", "line_items")
        merge(warehouse, [], deleted=["2"])
        merge(warehouse, old("2"))

        assert owed == ["4"]
        assert missing(warehouse, "crm", "line_items") == ["2", "4"], "deleted, and back again"

    def test_what_is_gone_again_is_not_read(self, warehouse: Warehouse) -> None:
        """There is nothing to ask for."""
        merge(warehouse, [], "line_items")
        merge(warehouse, old("1"))
        merge(warehouse, [], deleted=["1"])

        assert missing(warehouse, "crm", "line_items") == []


def test_a_page_that_fails_leaves_nothing_behind(warehouse: Warehouse) -> None:
    """Neither rows nor a cursor."""
    merge(warehouse, [{"id": "1", "name": "kept"}])

    with pytest.raises(Exception, match="not provided"):
        warehouse.merge(
            "crm",
            "opportunities",
            table("opportunities", [{"id": "1", "name": "lost"}]),
            cursor="later",
            until=NOW,
            rejects=[("too", "few")],  # type: ignore[list-item]  # what breaks it
        )

    assert names(warehouse) == {"1": "kept"}
    assert warehouse.checkpoint("crm", "opportunities").cursor == "c"


def test_overwritten_values_without_history_leave_a_dated_change(warehouse: Warehouse) -> None:
    """A field that is known since installation has a past from then on."""
    connect(warehouse, history="since_install")
    merge(warehouse, [{"id": "1", "amount": Decimal(10), "next_step": "Call"}])
    later = NOW + timedelta(days=1)

    merge(warehouse, [{"id": "1", "amount": Decimal(20), "next_step": "Call"}], until=later)

    found = warehouse.rows("SELECT opportunity_id, field, value, changed_at FROM field_changes")
    assert found == [("1", "amount", "20.00", later.replace(tzinfo=None))]
    states = {s.column: s.since for s in warehouse.columns("crm")}
    assert states["amount"] == NOW


def test_the_watermark_is_that_of_the_slowest_stream(warehouse: Warehouse) -> None:
    """And there is none while a stream that is expected never arrived."""
    warehouse.expect("crm", ["opportunities", "accounts"], NOW)
    merge(warehouse, [{"id": "1"}])
    assert warehouse.watermark("crm") is None

    merge(warehouse, [], "accounts", until=NOW - timedelta(hours=1))
    assert warehouse.watermark("crm") == NOW - timedelta(hours=1)

    warehouse.forget_checkpoints("crm", ["accounts"])
    assert warehouse.watermark("crm") == NOW
    assert warehouse.pulled_streams("crm") == ["opportunities"]


def test_a_stream_between_two_pages_keeps_its_old_watermark(warehouse: Warehouse) -> None:
    """What is here is not complete up to the new moment."""
    merge(warehouse, [{"id": "1"}])
    merge(warehouse, [{"id": "2"}], until=NOW + timedelta(days=1), last=False)

    assert warehouse.watermark("crm") == NOW
    assert not warehouse.checkpoint("crm", "opportunities").is_complete


VALUES = st.fixed_dictionaries(
    {"id": st.sampled_from("abcde")},
    optional={
        "name": st.none() | st.text(max_size=8).filter(lambda t: "\x00" not in t),
        "amount": st.none() | st.decimals(-(10**10), 10**10, places=2),
        "created_at": st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001  # zone below
            lambda t: t.replace(tzinfo=UTC)
        ),
        "is_won": st.booleans(),
        "custom": st.dictionaries(st.sampled_from("xy"), st.none() | st.text("abc", max_size=3)),
    },
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=5), max_size=4))
def test_records_come_back_as_they_were_put_in(pages: list[list[Row]]) -> None:
    """Whatever the pages, the last row of each key is what is read, with its types and zones."""
    with Warehouse() as warehouse:
        for page in pages:
            merge(warehouse, page)
        found = {r.id: r for r in warehouse.records("opportunities", "crm") if isinstance(r, Opportunity)}

    expected = {row["id"]: row for page in pages for row in page}
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        for column, value in row.items():
            assert getattr(found[name], column) == value


def test_two_writers_are_refused_with_the_other_named(tmp_path: Path) -> None:
    """Another process that holds the file is named by its number."""
    path = tmp_path / "warehouse.duckdb"
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with Warehouse(path):
            os.write(tell, b"open")
            signal.pause()
    os.read(told, 4)
    try:
        with pytest.raises(StoreError, match=rf"in use by process {child}"):
            Warehouse(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)


def test_readers_see_the_published_copy_while_a_run_goes_on(tmp_path: Path) -> None:
    """What was not published yet is not theirs."""
    path = tmp_path / "warehouse.duckdb"
    with Warehouse(path) as warehouse:
        merge(warehouse, [{"id": "1", "name": "published"}])
        copy = warehouse.publish()
        merge(warehouse, [{"id": "1", "name": "not yet"}])
        with Warehouse(copy, read_only=True) as reader:
            seen = names(reader)

    assert copy == published(path)
    assert seen == {"1": "published"}


def test_a_file_that_is_no_warehouse_is_refused(tmp_path: Path) -> None:
    """With a message that says what to do, and the file is left alone."""
    path = tmp_path / "warehouse.duckdb"
    path.write_text("this is not a database, only text that is long enough to be read" * 10)

    with pytest.raises(StoreError, match="cannot be opened"):
        Warehouse(path)

    assert path.read_text().startswith("this is not")


def test_a_warehouse_of_another_layout_asks_for_a_new_pull(tmp_path: Path) -> None:
    """It is only a mirror."""
    path = tmp_path / "warehouse.duckdb"
    with Warehouse(path) as warehouse:
        warehouse.execute("UPDATE meta SET version = 99")

    with pytest.raises(StoreError, match="pull --full"):
        Warehouse(path)


def test_sessions_share_rows_and_not_temporary_tables(warehouse: Warehouse) -> None:
    """So that connections can be worked on side by side."""
    merge(warehouse, [{"id": "1"}])
    other = warehouse.session()
    warehouse.execute("CREATE TEMP TABLE own AS SELECT 1 AS x")

    assert names(other) == {"1": None}
    with pytest.raises(Exception, match="own"):
        other.rows("SELECT * FROM own")
    other.close()


def test_documents_are_kept_per_connection_and_name(warehouse: Warehouse) -> None:
    """The last one stands."""
    warehouse.keep("crm", "model", "1")
    warehouse.keep("crm", "model", "2")

    assert warehouse.kept("crm", "model") == "2"
    assert warehouse.kept("other", "model") is None


def test_a_warehouse_from_before_a_column_is_opened(tmp_path: Path) -> None:
    """Its connections are read as they are, and the column is there after the next run."""
    path = tmp_path / "old.duckdb"
    with Warehouse(path) as old:
        old.set_connection(Connection(connection="crm", adapter="files", currency="EUR"), [])
        old.execute("ALTER TABLE connections DROP COLUMN fiscal_year_starts")
    with Warehouse(path, read_only=True) as reading:
        assert [c.fiscal_year_starts for c in reading.connections()] == [None]

    with Warehouse(path) as new:
        new.set_connection(Connection(connection="crm", adapter="files", fiscal_year_starts=7), [])

        assert [c.fiscal_year_starts for c in new.connections()] == [7]


def test_what_does_not_fit_into_memory_lies_where_nobody_else_can_read_it(tmp_path: Path) -> None:
    """Beside the warehouse while it is open, gone when it is closed; what a killed process left goes with the next."""
    path = tmp_path / "w.duckdb"
    left = tmp_path / "w.duckdb.killed.tmp"
    left.mkdir()
    (left / "duckdb_temp").write_text("of somebody's customers")

    with Warehouse(path) as warehouse:
        [(folder, limit)] = warehouse.rows(
            "SELECT current_setting('temp_directory'), current_setting('memory_limit')"
        )
        assert Path(folder).parent == tmp_path
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert limit.startswith("572.2 MiB")
        assert not left.exists()
        reader_of = warehouse.publish()
    with Warehouse(reader_of, read_only=True):
        assert len(list(tmp_path.glob("*.tmp"))) == 1

    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.duckdb", "w.published.duckdb"]
