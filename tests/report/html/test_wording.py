"""Dates and amounts leave sentences as values; what people wrote stays as they wrote it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from pipesync.features.columns import COLUMNS
from pipesync.model import Finding
from pipesync.report.html.blocks import day
from pipesync.report.html.wording import capital, dated, finding_text, to_parts
from pipesync.rules.messages import parse_template


def test_dates_of_both_forms_become_values() -> None:
    """ISO and written out; what looks like a date and is none stays."""
    assert dated("due 2026-11-23, seen 1 Dec 2026; not 2026-13-40.") == (
        "due ", day(date(2026, 11, 23)), ", seen ", day(date(2026, 12, 1)), "; not 2026-13-40.",
    )  # fmt: skip
    assert dated("nothing") == ("nothing",)


def test_a_finding_is_said_by_its_template() -> None:
    """A name that holds a date stays; amount and date become values, and a blank its words."""
    message = (
        "{name} is worth {amount:money}; last {last_activity_at:date|never}, next {next_activity_at|none}."
    )
    template, wrong = parse_template(message, COLUMNS)
    values = {"name": "Renewal 2026-01-01", "amount": "34450.00", "last_activity_at": "2026-09-25T10:00:00"}
    finding = Finding(
        connection="crm", rule="hygiene.stale", subject_id="o", severity="high", message="unused", currency="EUR",
        amount=Decimal(1), values=values, first_seen=datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip
    assert wrong == []
    assert to_parts(finding_text(finding, template)) == [
        "Renewal 2026-01-01", " is worth ", ["amount", 34450.0, "EUR"], "; last ",
        ["date", "2026-09-25", ""], ", next ", "none", ".",
    ]  # fmt: skip


def test_a_finding_of_another_time_is_said_as_it_was() -> None:
    """Without a template, or without values, the message stands."""
    finding = Finding(
        connection="crm", rule="x", subject_id="o", severity="low", message="Quiet since 2026-09-25.",
        first_seen=datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip
    assert finding_text(finding, None) == ("Quiet since ", day(date(2026, 9, 25)), ".")


def test_a_sentence_begins_with_a_capital() -> None:
    """Unless it begins with a value."""
    assert capital(("half of them", ".")) == ("Half of them", ".")
    assert capital((day(date(2026, 1, 1)), " on")) == (day(date(2026, 1, 1)), " on")
    assert to_parts(capital(())) == ""
