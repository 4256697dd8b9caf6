"""The outbox: every change once, files whole after any crash, cells that no spreadsheet runs."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesync.adapters.base import Adapter, Page
from pipesync.adapters.files import outbox as outbox_module
from pipesync.adapters.files.outbox import Outbox
from pipesync.errors import InputError, RetryLater
from pipesync.model import Change, ChangeAction, ChangeObject, Outcome, Reason

NOW = datetime(2026, 11, 16, 8, tzinfo=UTC)
LATER = datetime(2026, 11, 17, 8, tzinfo=UTC)
FORECAST = {
    "period_start": "2026-10-01", "period_end": "2027-01-01", "scope": "total", "currency": "EUR", "p10": "-1.50",
    "p50": "2.00", "p90": "3.00", "mean": "2.10", "closed": "1.00", "open": "1.00", "new": "0.10",
    "as_of": "2026-11-16", "basis": "abc",
}  # fmt: skip


def change(
    key: str = "ps1-a", action: ChangeAction = "create", thing: ChangeObject = "task", **after: Any
) -> Change:
    return Change(
        key=key, action=action, object=thing, opportunity_id="7", owner_id="u1", after=after,
        target=None if action == "create" else key, reason=Reason(kind="findings", text="because"),
    )  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [o.status for o in outcomes]


def test_a_created_task_is_read_back(box: Outbox) -> None:
    """What was written is there, under its key, with the opportunity and owner of its change."""
    outcomes = box.write([change(subject="Call", body="a\nb", due="2026-11-20", priority="high")], NOW)
    task = box.read()[0]["ps1-a"]

    assert (outcomes[0].status, outcomes[0].target) == ("applied", task.id)
    assert (task.subject, task.body, task.due, task.priority) == ("Call", "a\nb", date(2026, 11, 20), "high")
    assert (task.opportunity_id, task.owner_id, task.is_done, task.modified_at) == ("7", "u1", False, NOW)


def test_a_forecast_is_read_back(box: Outbox) -> None:
    """Money comes back to the cent, also below zero."""
    box.write([change("psf1-a", "create", "forecast", **FORECAST)], NOW)
    found = box.read()[1]["psf1-a"]

    assert (found.p10, found.mean, found.period_end) == (Decimal("-1.50"), Decimal("2.10"), date(2027, 1, 1))


def test_update_complete_and_delete(box: Outbox) -> None:
    """Each action does what it says to its own key and leaves the others alone."""
    box.write([change("a", subject="A"), change("b", subject="B"), change("c", subject="C")], NOW)
    outcomes = box.write(
        [change("a", "update", subject="A2"), change("b", "complete", body="done"), change("c", "delete")],
        LATER,
    )
    tasks = box.read()[0]

    assert statuses(outcomes) == ["applied"] * 3
    assert tasks.keys() == {"a", "b"}
    assert (tasks["a"].subject, tasks["a"].owner_id, tasks["a"].modified_at) == ("A2", "u1", LATER)
    assert (tasks["b"].subject, tasks["b"].is_done, tasks["b"].body) == ("B", True, "done")


@pytest.mark.parametrize("action", ["create", "update", "complete", "delete"])
def test_every_change_may_be_repeated(box: Outbox, tmp_path: Path, action: ChangeAction) -> None:
    """A second application is told as applied and changes no byte, even a day later."""
    if action != "create":
        box.write([change(subject="A")], NOW)
    box.write([change(action=action, subject="A2")], NOW)
    before = (tmp_path / "outbox/tasks.csv").read_bytes()
    again = box.write([change(action=action, subject="A2")], LATER)

    assert statuses(again) == ["applied"]
    assert (tmp_path / "outbox/tasks.csv").read_bytes() == before


def test_a_refused_change_leaves_the_others_alone(box: Outbox) -> None:
    """What cannot be a task, or is no longer there, fails by itself, without telling a value."""
    outcomes = box.write(
        [
            change("a", subject="A"),
            change("b", due="tomorrow"),
            change("c", colour="secret"),
            change("d", "update", subject="gone"),
            change("e", subject="half \ud800"),
            change("f", "create", "forecast", p10="1"),
        ],
        NOW,
    )

    assert statuses(outcomes) == ["applied"] + ["failed"] * 5
    assert [o.error for o in outcomes[1:4]] == [
        "not a task: due", "not a task: colour", "no task has this key any more",
    ]  # fmt: skip
    assert box.read()[0].keys() == {"a"}


def test_opportunity_fields_are_kept_by_opportunity(box: Outbox, tmp_path: Path) -> None:
    """Fields of one opportunity gather in one row; a delete takes it away."""
    box.write([change("a", "update", "opportunity", win_probability="0.25")], NOW)
    box.write([change("a", "update", "opportunity", expected_close="2026-12-01")], NOW)
    with (tmp_path / "outbox/opportunities.csv").open(newline="") as file:
        found = list(csv.DictReader(file))

    assert found == [{"opportunity_id": "a", "expected_close": "2026-12-01", "win_probability": "0.25"}]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.sampled_from(["=1+1", "'", "''a", "-5", "+1", "@x", "", " =1", "\r", "\0"]),
        min_size=1, max_size=6, unique=True,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back_and_none_is_a_formula(texts: list[str]) -> None:
    """Subjects of any characters are read back exactly; no cell starts as a formula does."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        box = Outbox(Path(folder))
        box.write([change(f"k{i}", subject=text) for i, text in enumerate(texts)], NOW)
        with (Path(folder) / "tasks.csv").open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]

        assert [t.subject for t in box.read()[0].values()] == texts
        assert not [c for c in cells if c[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]


def test_people_may_edit_the_file(box: Outbox, tmp_path: Path) -> None:
    """A task ticked off in a spreadsheet, with columns of its own and a byte-order mark, is read as done."""
    box.write([change(subject="A")], NOW)
    path = tmp_path / "outbox/tasks.csv"
    text = (
        path.read_text(encoding="utf-8")
        .replace(",false,", ",TRUE,")
        .replace("modified_at", "modified_at,mine")
    )
    path.write_text(text.replace("\r\n", "\n"), encoding="utf-8-sig")

    assert box.read()[0]["ps1-a"].is_done


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("key,subject,due\na,A,soon\n", "the row with key 'a' cannot be read\n    mend due"),
        ("subject\nA\n", "a row has no key"),
        ("key,subject\n\ud800", "is not UTF-8 CSV any more"),
    ],
)
def test_a_spoilt_file_is_told_and_kept(box: Outbox, tmp_path: Path, text: str, words: str) -> None:
    """What people broke is never overwritten."""
    path = tmp_path / "outbox/tasks.csv"
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as raised:
        box.write([change()], NOW)

    assert words in str(raised.value)
    assert path.read_bytes() == text.encode("utf-8", "surrogatepass")


def test_an_outbox_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file in the folder's place is one clear message."""
    (tmp_path / "taken").write_text("x")

    with pytest.raises(InputError, match="set `outbox:`"):
        Outbox(tmp_path / "taken" / "outbox").write([change()], NOW)


def test_two_writers_wait_for_each_other(box: Outbox) -> None:
    """Tasks that several writers create at once are all there in the end."""
    threads = [
        threading.Thread(target=lambda n=n: [box.write([change(f"{n}-{i}", subject="A")], NOW) for i in range(5)])
        for n in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(box.read()[0]) == 20


def test_a_writer_that_never_ends_is_not_waited_for_forever(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the other run is told to try later."""
    monkeypatch.setattr(outbox_module, "_PATIENCE", 0.0)
    folder = tmp_path / "outbox"
    folder.mkdir()
    with outbox_module._locked(folder), pytest.raises(RetryLater, match="another run is writing"):
        box.write([change()], NOW)


def _write_forever(folder: Path) -> None:
    box = Outbox(folder)
    for round_ in range(1_000_000):
        done = box.read()[0]
        changes = [
            change(f"k{i}", "update" if f"k{i}" in done else "create", subject=f"round {round_}")
            for i in range(40)
        ]
        forecast = change(
            "f", "update" if round_ else "create", "forecast", **FORECAST | {"basis": str(round_)}
        )
        box.write([*changes, forecast], NOW)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked writer")
@pytest.mark.parametrize("seed", range(8))
def test_a_killed_writer_leaves_whole_files(tmp_path: Path, seed: int) -> None:
    """After kill -9 at any moment the files are those of one round, and the next writer goes on."""
    box = Outbox(tmp_path)
    writer = multiprocessing.get_context("fork").Process(target=_write_forever, args=(tmp_path,))
    writer.start()
    while not (tmp_path / "forecasts.csv").exists():
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0, 0.15))  # noqa: S311  # not cryptography
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    tasks, forecasts = box.read()

    assert len(tasks) == 40
    assert len({t.subject for t in tasks.values()}) == 1
    assert len(forecasts) == 1
    assert statuses(box.write([change("k1", "update", subject="after")], LATER)) == ["applied"]


def test_the_adapter_writes_and_reads_its_outbox(
    opened: Callable[..., Adapter], page: Callable[..., Page], dataset: Path
) -> None:
    """Written tasks and forecasts come back through `own` and as streams, stamped with the dataset's clock."""
    adapter = opened()
    outcomes = list(adapter.write([change(subject="A"), change("psf1-a", "create", "forecast", **FORECAST)]))
    tasks, forecasts = adapter.own(["ps1-a", "psf1-a", "other"], ["7"])
    other = opened()

    assert statuses(outcomes) == ["applied", "applied"]
    assert [t.key for t in tasks] == ["ps1-a"]
    assert [f.key for f in forecasts] == ["psf1-a"]
    assert tasks[0].modified_at == adapter.clock()
    assert page(other, "own_tasks").rows["key"].to_pylist() == ["ps1-a"]
    assert page(other, "own_forecasts").rows["p10"].to_pylist() == [Decimal("-1.50")]
    assert (dataset.parent / "outbox" / "tasks.csv").is_file()
