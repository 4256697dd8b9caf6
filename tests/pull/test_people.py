"""`people.yaml` fills what the CRM leaves blank of its users, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipesync import features
from pipesync.config import Calendar, Config, from_text
from pipesync.errors import InputError
from pipesync.people import lay_over
from pipesync.schema import table
from pipesync.store.warehouse import Warehouse

if TYPE_CHECKING:
    from tests.conftest import Build

CRM = "crm"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
USERS = [
    {"id": "1", "email": "Ann@Example.com", "is_active": True, "team": "CRM's own"},
    {"id": "2", "email": "bob@example.com", "is_active": True},
    {"id": "3", "is_active": True},
]
ANN = (
    "{email: ann@example.com, manager: bob@example.com, team: North, locale: pl_PL, timezone: Europe/Warsaw}"
)


def site(folder: Path, *people: str) -> Config:
    (folder / "people.yaml").write_text("people: [" + ", ".join(people) + "]\n", encoding="utf-8")
    return from_text("connections: {crm: {adapter: files}}\npeople: people.yaml\n", folder)


def mirrored(build: Build) -> Warehouse:
    unmapped = tuple(f"users.{c}" for c in ("manager_id", "timezone", "locale"))
    return build(
        opportunities=[{"id": "006A", "owner_id": "1", "created_at": NOW}], users=USERS, unmapped=unmapped
    )


def held(warehouse: Warehouse) -> dict[str, tuple[str | None, ...]]:
    rows = warehouse.rows("SELECT id, manager_id, team, timezone, locale FROM users ORDER BY id")
    return {row[0]: tuple(row[1:]) for row in rows}


def test_what_the_crm_says_itself_wins(build: Build, tmp_path: Path) -> None:
    """Blanks are filled, by email however it is written; the CRM's own team stays."""
    warehouse = mirrored(build)

    lay_over(
        warehouse,
        CRM,
        site(tmp_path, ANN, '{id: "3", team: South}', "{email: stranger@example.com, team: X}"),
    )

    assert held(warehouse) == {
        "1": ("2", "CRM's own", "Europe/Warsaw", "pl_PL"),
        "2": (None, None, None, None),
        "3": (None, "South", None, None),
    }


def test_rules_may_ask_for_what_it_fills(build: Build, tmp_path: Path) -> None:
    """A column that was not mapped is known once the file tells it."""
    warehouse = mirrored(build)
    before = features.compute(warehouse, CRM, NOW, Calendar()).unknown

    lay_over(warehouse, CRM, site(tmp_path, ANN))
    after = features.compute(warehouse, CRM, NOW, Calendar()).unknown

    assert "manager_id" in before - after
    assert warehouse.rows("SELECT manager_id FROM features") == [("2",)]


def test_what_the_file_says_no_more_is_taken_back(build: Build, tmp_path: Path) -> None:
    """Also where the users were not read again in between; what the CRM filled meanwhile stays."""
    warehouse = mirrored(build)
    lay_over(warehouse, CRM, site(tmp_path, ANN, '{id: "3", team: South}'))
    warehouse.execute("UPDATE users SET team = 'East' WHERE id = '3'")

    lay_over(warehouse, CRM, site(tmp_path, "{email: ann@example.com, locale: sv_SE}"))

    assert held(warehouse) == {
        "1": (None, "CRM's own", None, "sv_SE"),
        "2": (None, None, None, None),
        "3": (None, "East", None, None),
    }


def test_it_is_laid_over_what_is_read_anew(build: Build, tmp_path: Path) -> None:
    """A pull that replaces the users loses nothing of it."""
    warehouse = mirrored(build)
    lay_over(warehouse, CRM, site(tmp_path, ANN))
    warehouse.merge(CRM, "users", table("users", USERS), cursor=None, until=NOW, replace=True, last=True)

    lay_over(warehouse, CRM, site(tmp_path, ANN))

    assert held(warehouse)["1"] == ("2", "CRM's own", "Europe/Warsaw", "pl_PL")


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ("{team: North}", "who it is"),
        ("{email: ann@example.com, manager: nobody@example.com}", "nobody@example.com"),
        ("{email: ann@example.com, timezone: Mars}", "time zone"),
        ("{email: ann@example.com, boss: bob@example.com}", "boss"),
        ("{email: ann@example.com, locale: polish}", "locale"),
    ],
    ids=["nobody", "manager", "zone", "key", "locale"],
)
def test_bad_input_is_said(build: Build, tmp_path: Path, person: str, said: str) -> None:
    """One clear error with the file, and the mirror is as it was."""
    warehouse = mirrored(build)
    before = held(warehouse)

    with pytest.raises(InputError) as caught:
        lay_over(warehouse, CRM, site(tmp_path, person))

    assert said in str(caught.value)
    assert "people.yaml" in str(caught.value)
    assert held(warehouse) == before
