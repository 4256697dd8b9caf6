"""The plan as a whole: what may be written, keys, calendars, and plans that are kept in files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from pipesync.errors import InputError
from pipesync.plan import keys, load, reconcile, save
from pipesync.plan.calendars import add_business_days, business_days_between

if TYPE_CHECKING:
    from tests.plan.conftest import Bench


# --- What may be written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        ("{}", 1),
        ("{enabled: true}", 0),
        ("{enabled: true, tasks: true}", 1),
        ("{enabled: true, forecasts: true}", 0),
    ],
    ids=["a preview", "nothing chosen", "tasks", "forecasts only"],
)
def test_only_what_is_allowed_is_planned(bench: Bench, write: str, expected: int) -> None:
    """Before writing is enabled a plan shows what it would be; then it holds what was chosen."""
    from pipesync.config import from_text

    bench.config = from_text(f"connections: {{crm: {{adapter: files, write: {write}}}}}", Path())

    assert len(bench.plan(bench.finding()).changes) == expected


# --- Keys -------------------------------------------------------------------------------------------------------


def test_a_key_names_connection_opportunity_and_assignee() -> None:
    """Any other of the three is another thread; the same three are the same on every machine, in every year."""
    threads = {
        keys.thread(c, o, a) for c in ("crm", "crm2") for o in ("006A", "006B") for a in ("rep", "boss", None)
    }

    assert len(threads) == 12
    assert keys.thread("crm", "006A", "rep") == "ps1-hvbwxjpi4u2b2mryhl7s"
    assert keys.episode_of(keys.task(keys.thread("crm", "006A", "rep"), 12)) == (
        keys.thread("crm", "006A", "rep"),
        12,
    )


@pytest.mark.parametrize("key", ["", "ps1-abc", "psf1-abcdef-1", "ps1-abc-x", "another tool's key"])
def test_what_is_no_task_key_is_told(key: str) -> None:
    """Somebody else's key is never mistaken for ours."""
    assert keys.episode_of(key) is None


# --- Calendars --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [("2026-11-16", 1, "2026-11-17"), ("2026-11-20", 1, "2026-11-24"), ("2026-11-20", 2, "2026-11-25"),
     ("2026-11-21", 1, "2026-11-24"), ("2026-11-16", 9, "2026-11-30")],
)  # fmt: skip
def test_business_days_skip_weekends_and_holidays(start: str, count: int, expected: str) -> None:
    """With Monday 23 November a holiday."""
    holidays = {date(2026, 11, 23)}

    found = add_business_days(date.fromisoformat(start), count, holidays)

    assert found == date.fromisoformat(expected)
    assert business_days_between(date.fromisoformat(start), found, holidays) == count


# --- Files ------------------------------------------------------------------------------------------------------


def test_a_kept_plan_comes_back(bench: Bench, tmp_path: Path) -> None:
    """What is applied later is what was read."""
    made = bench.plan(bench.finding())
    save(tmp_path / "plan.json", [made])

    assert load(tmp_path / "plan.json") == (made,)
    assert orjson.loads((tmp_path / "plan.json").read_bytes())["plans"][0]["id"] == made.id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("no json", "is not a plan of pipesync"),
        ("[]", "is not a plan of pipesync"),
        ('{"pipesync_plan": 1, "plans": [{"id": 5}]}', "is not a plan of pipesync"),
        ('{"pipesync_plan": 99, "plans": []}', "newer pipesync"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """The message names the file and how to make a new one."""
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=said) as caught:
        load(file)

    assert "plan.json" in str(caught.value)
    assert "pipesync plan --out" in str(caught.value)


def test_a_kept_plan_holds_change_by_change(bench: Bench) -> None:
    """What still would be done is done; what changed since is refused, with its reason."""
    kept = bench.plan(bench.finding("same"), bench.finding("edited", message="old"), bench.finding("mended"))

    fresh = bench.plan(bench.finding("same"), bench.finding("edited", message="new"), bench.finding("late"))
    good, refused = reconcile(kept, fresh)

    by_key = {c.key: c.opportunity_id for c in kept.changes}
    assert [c.opportunity_id for c in good.changes] == ["same"]
    assert {by_key[o.key]: o.error for o in refused} == {
        "edited": "would be another change now (body): make a new plan",
        "mended": "not needed any more: what it rests on has changed since the plan was made",
    }
    assert {o.status for o in refused} == {"skipped"}
