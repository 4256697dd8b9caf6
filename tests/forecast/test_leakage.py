"""A planted leak of every kind is found and named, and honest fields are left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.forecast.worlds import AS_OF, NAME, PERIOD, features, small_warehouse

from pipesync.forecast import history, landmarks, leakage
from pipesync.forecast.leakage import Guard
from pipesync.store.warehouse import Warehouse

Row = dict[str, Any]


def rows(plant: Callable[[Row, np.random.Generator], None] = lambda row, random: None) -> list[Row]:
    """Return 300 opportunities: two thirds closed, a third of those won, honest fields, and what `plant` adds."""
    random = np.random.default_rng(5)
    found = []
    for i in range(300):
        created = AS_OF - timedelta(days=float(random.uniform(30, 300)))
        closed, won = i % 3 != 0, i % 9 in (1, 2)
        row: Row = {
            "id": f"o{i:03d}", "created_at": created, "stage": "Proposal", "is_closed": closed, "is_won": won,
            "closed_at": created + timedelta(days=float(random.uniform(2, 29))) if closed else None,
            "source": str(random.choice(["web", "partner"])), "owner_id": f"r{random.integers(5)}",
            "amount": int(random.lognormal(7, 1)) + 1, "custom": {},
        }  # fmt: skip
        plant(row, random)
        found.append(row)
    return found


def checked(plant: Callable[[Row, np.random.Generator], None]) -> Guard:
    with small_warehouse(rows(plant)) as opened:
        return leakage.check(opened, history.load(opened, NAME), history.to_ms(AS_OF))


def blank_while_open(row: Row, random: np.random.Generator) -> None:
    row["account_id"] = f"a{random.integers(40)}" if row["is_closed"] or random.random() < 0.3 else None


def only_when_won(row: Row, random: np.random.Generator) -> None:
    row["custom"] = {"business": "retail"} if row["is_won"] else {}


def probability_of_the_outcome(row: Row, random: np.random.Generator) -> None:
    row["probability"] = float(row["is_won"]) if row["is_closed"] else 0.4


def category_closed(row: Row, random: np.random.Generator) -> None:
    row["forecast_category"] = "closed" if row["is_closed"] else str(random.choice(["pipeline", "commit"]))


def close_date_of_the_closing(row: Row, random: np.random.Generator) -> None:
    row["close_date"] = (row["closed_at"] or AS_OF + timedelta(days=20)).date()


def touched_at_the_closing(row: Row, random: np.random.Generator) -> None:
    row["modified_at"] = row["closed_at"] or AS_OF


def handed_to_customer_success(row: Row, random: np.random.Generator) -> None:
    row["owner_id"] = f"csm{random.integers(2)}" if row["is_won"] else row["owner_id"]


def customer_type(row: Row, random: np.random.Generator) -> None:
    row["type"] = "Customer" if row["is_won"] else "Prospect"


def amount_set_to_nothing(row: Row, random: np.random.Generator) -> None:
    row["amount"] = row["amount"] if row["is_won"] or not row["is_closed"] else 0


def reason_of_the_loss(row: Row, random: np.random.Generator) -> None:
    row["lost_reason"] = "price" if row["is_closed"] and not row["is_won"] else None


@pytest.mark.parametrize(
    ("plant", "field", "kind"),
    [
        (blank_while_open, "account_id", "missing"),
        (only_when_won, "business", "missing"),
        (reason_of_the_loss, "lost_reason", "missing"),
        (category_closed, "forecast_category", "values"),
        (probability_of_the_outcome, "probability", "outcome"),
        (amount_set_to_nothing, "amount", "outcome"),
        (customer_type, "type", "outcome"),
        (handed_to_customer_success, "owner_id", "values"),
        (close_date_of_the_closing, "close_date", "follows_closing"),
        (touched_at_the_closing, "modified_at", "follows_closing"),
    ],
)
def test_a_planted_leak_is_found(
    plant: Callable[[Row, np.random.Generator], None], field: str, kind: str
) -> None:
    """By its kind, with numbers, and nothing else is banned with it."""
    found = checked(plant)

    assert field in found.banned
    assert (field, kind) in {(leak.field, leak.kind) for leak in found.leaks}
    assert found.banned == {field}


def test_honest_fields_are_kept_and_said_to_be_silent() -> None:
    """Fields drawn by chance: no ban, and no signal."""
    found = checked(lambda row, random: None)

    assert found.leaks == ()
    assert {s.field: s.says for s in found.signals} == {
        "amount": "no signal", "owner_id": "no signal", "source": "no signal", "all static fields": "no signal",
    }  # fmt: skip


def test_a_field_that_tells_something_honestly_is_a_signal() -> None:
    """A source that wins twice as often is neither banned nor called silent."""

    def better_source(row: Row, random: np.random.Generator) -> None:
        row["source"] = "partner" if random.random() < (0.75 if row["is_won"] else 0.35) else "web"

    found = checked(better_source)

    assert found.banned == frozenset()
    assert {s.field: s.says for s in found.signals}["source"] == "signal"


def test_little_data_bans_nothing() -> None:
    """Under thirty closed opportunities nothing can be told apart from chance."""
    with small_warehouse(rows(reason_of_the_loss)[:30]) as opened:
        assert leakage.banned(opened, history.load(opened, NAME), history.to_ms(AS_OF)) == frozenset()


def test_the_forecast_names_what_it_banned() -> None:
    """And does not use it."""
    from pipesync.forecast import predict

    with small_warehouse(rows(blank_while_open)) as opened:
        found = predict(opened, features(), PERIOD)

    assert found.model["banned_fields"] == ["account_id"]


def test_what_is_tracked_is_not_suspected(warehouse: Warehouse) -> None:
    """A field with a history is read as of the moment, so its present value gives nothing away."""
    found = leakage.check(warehouse, history.load(warehouse, NAME), history.to_ms(AS_OF))

    assert "close_date" not in found.banned
    assert "amount" not in found.banned


def test_a_stage_that_only_the_closing_fills_is_banned() -> None:
    """A hand-over that is mapped as open tells who won; it is named, and no landmark stands in it."""
    opportunities: list[Row] = []
    changes: list[Row] = []
    for i in range(120):
        created = AS_OF - timedelta(days=200 - i)
        closed, won = i % 3 != 0, i % 3 == 1
        ended = created + timedelta(days=20)
        opportunities.append(
            {"id": f"o{i:03d}", "created_at": created, "stage": "Proposal", "is_closed": closed, "is_won": won,
             "closed_at": ended if closed else None, "amount": 100}
        )  # fmt: skip
        path = [("Discovery", created), ("Proposal", created + timedelta(days=5))]
        path += [("Handover", ended - timedelta(seconds=30))] if won else []
        changes += [
            {"opportunity_id": f"o{i:03d}", "field": "stage", "value": stage, "changed_at": at}
            for stage, at in path
        ]
    with small_warehouse(opportunities, changes) as opened:
        past = history.load(opened, NAME)
        found = leakage.check(opened, past, history.to_ms(AS_OF))
        moment = history.to_ms(opportunities[1]["closed_at"] - timedelta(seconds=10))
        seen = landmarks.at(past, [moment], banned=found.banned).frame["stage"]

    assert [(leak.field, leak.kind) for leak in found.leaks] == [("stage:Handover", "follows_closing")]
    assert not seen.str.contains("Handover").any()
