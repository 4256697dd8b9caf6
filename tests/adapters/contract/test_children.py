"""An opportunity that appears in the mirror with a past brings what belongs to it, however far the cursors are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter, Page
from pipesync.adapters.hubspot.adapter import HubspotAdapter
from pipesync.adapters.salesforce.adapter import SalesforceAdapter
from pipesync.config import ConnectionConfig
from pipesync.pull import pull
from pipesync.sandbox.process import Sandbox
from pipesync.store.erasure import prune
from pipesync.store.ledger import Ledger
from pipesync.store.owed import missing
from pipesync.store.pages import CHILDREN
from pipesync.store.warehouse import Warehouse

Open = Callable[[], Adapter]
DAY = 86_400


@pytest.fixture(params=["salesforce", "hubspot"])
def crm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Connections:
    """Opens a CRM again and again, as runs do."""

    def __init__(self, crm: str, sandbox: Sandbox, folder: Path) -> None:
        keys = sandbox.settings(crm, folder)
        if crm == "hubspot":
            keys["activities"] = ["calls", "emails", "meetings"]
        del keys["adapter"]
        mapping = Path(keys.pop("mapping"))
        self._config = ConnectionConfig(adapter=crm, mapping=mapping, options=keys)  # type: ignore[arg-type]  # a literal
        self._folder = folder
        self._opened: list[Adapter] = []

    def open(self) -> Adapter:
        self._opened.append(open_adapter("crm", self._config, self._folder))
        return self._opened[-1]

    def close(self) -> None:
        for adapter in self._opened:
            adapter.close()


@pytest.fixture
def connect(crm: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[Open]:
    connections = Connections(crm, sandbox, tmp_path)
    yield connections.open
    connections.close()


@pytest.fixture
def warehouse(connect: Open) -> Iterator[Warehouse]:
    with Warehouse() as opened:
        pull(connect(), opened)
        yield opened


def belongings(warehouse: Warehouse, opportunity: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of an opportunity; of its history what it says, for each pull may say the last of it again."""
    found = {
        child: warehouse.rows(f'SELECT * FROM "{child}" WHERE opportunity_id = ? ORDER BY ALL', [opportunity])
        for child in CHILDREN
    }
    changes = warehouse.rows(
        "SELECT field, value, changed_at FROM field_changes WHERE opportunity_id = ? QUALIFY value IS DISTINCT FROM "
        "lag(value, 1, '') OVER (PARTITION BY field ORDER BY changed_at, seq) ORDER BY ALL",
        [opportunity],
    )
    return {**found, "field_changes": changes}


def rich(warehouse: Warehouse) -> str:
    """Return a closed opportunity that has children of every kind."""
    has = " AND ".join(f"id IN (SELECT opportunity_id FROM {child})" for child in CHILDREN)
    (found,) = warehouse.rows(f"SELECT min(id) FROM opportunities WHERE is_closed AND {has}")[0]
    assert found
    return str(found)


def prune_all(warehouse: Warehouse, tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        prune(warehouse, ledger, "crm", datetime(2030, 1, 1, tzinfo=UTC))


def fresh(connect: Open, opportunity: str) -> dict[str, list[tuple[Any, ...]]]:
    with Warehouse() as opened:
        pull(connect(), opened)
        return belongings(opened, opportunity)


@pytest.fixture
def asked(crm: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Streams and opportunities that were asked for by id, in their order; asking is not changed by it."""
    kind: Any = SalesforceAdapter if crm == "salesforce" else HubspotAdapter
    found: list[tuple[str, tuple[str, ...]]] = []
    ask = kind.children

    def told(self: Any, stream: str, ids: Sequence[str], until: datetime) -> Iterator[Page]:
        found.append((stream, tuple(ids)))
        yield from ask(self, stream, ids, until)

    monkeypatch.setattr(kind, "children", told)
    return found


def brought(crm: str) -> list[str]:
    """Return the streams that a CRM does not give with its opportunities."""
    return ["field_changes", "contact_roles", "activities", "line_items"] if crm == "salesforce" else [
        "activities", "line_items",
    ]  # fmt: skip


def test_what_was_deleted_for_its_age_comes_back_whole(
    crm: str, connect: Open, sandbox: Sandbox, warehouse: Warehouse, tmp_path: Path, asked: list[Any]
) -> None:
    """A change brings the opportunity, and with it, once, all that belongs to it."""
    back = rich(warehouse)
    prune_all(warehouse, tmp_path)
    sandbox.ask("POST", "clock", {"advance": DAY})
    sandbox.edit(crm, back, {"amount": "4711"})

    pull(connect(), warehouse)

    assert all(belongings(warehouse, back).values())
    assert belongings(warehouse, back) == fresh(connect, back)
    assert asked == [(stream, (back,)) for stream in brought(crm)]
    sandbox.ask("POST", "clock", {"advance": DAY})
    sandbox.edit(crm, back, {"amount": "4712"})
    pull(connect(), warehouse)
    assert asked == [(stream, (back,)) for stream in brought(crm)], "nobody asks again"


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_pull_that_is_stopped_before_the_children_brings_them_later(
    crm: str, connect: Open, sandbox: Sandbox, warehouse: Warehouse, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stopped: int,
) -> None:  # fmt: skip
    """What is still to be read is noted with the opportunity itself; what was read is not read again."""
    back = rich(warehouse)
    prune_all(warehouse, tmp_path)
    sandbox.ask("POST", "clock", {"advance": DAY})
    sandbox.edit(crm, back, {"amount": "4711"})
    unread = brought(crm)[stopped]

    class Killed(BaseException): ...

    def broken(adapter: Any) -> Adapter:
        ask = adapter.children

        def until_then(stream: str, ids: Sequence[str], until: datetime) -> Iterator[Page]:
            yield from ask(stream, ids, until)
            if stream == unread:
                raise Killed

        monkeypatch.setattr(adapter, "children", until_then)
        opened: Adapter = adapter
        return opened

    with pytest.raises(Killed):
        pull(broken(connect()), warehouse)
    assert missing(warehouse, "crm", unread) == [back]

    pull(connect(), warehouse)

    assert belongings(warehouse, back) == fresh(connect, back)
    assert [missing(warehouse, "crm", stream) for stream in CHILDREN] == [[]] * 4


def test_new_opportunities_and_changed_ones_are_asked_for_no_more_than_before(
    crm: str, connect: Open, sandbox: Sandbox, warehouse: Warehouse, asked: list[Any]
) -> None:
    """The increments of the other streams bring what belongs to them."""
    sandbox.ask("POST", "clock", {"advance": DAY})
    for (opportunity,) in warehouse.rows("SELECT id FROM opportunities ORDER BY id LIMIT 5"):
        sandbox.edit(crm, opportunity, {"amount": "4711"})

    found = pull(connect(), warehouse)

    assert found["opportunities"].changed == 5
    assert asked == []


def test_what_was_not_shared_comes_whole_once_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    """An opportunity that this user could not see has a past that lies before every cursor."""
    connection = Connections("salesforce", sandbox, tmp_path)
    with Warehouse() as before, Warehouse() as warehouse:
        pull(connection.open(), before)
        late = rich(before)
        held = sandbox.ask("GET", "dump")
        links = ("OpportunityId", "WhatId")
        theirs = [r["Id"] for rows in held.values() for r in rows if late in [r.get(link) for link in links]]
        sandbox.ask("POST", "settings", {"salesforce": {"unshared": [late, *theirs]}})
        pull(connection.open(), warehouse)
        assert belongings(warehouse, late) == {child: [] for child in CHILDREN}
        sandbox.ask("POST", "settings", {"salesforce": {"unshared": []}})
        sandbox.ask("POST", "clock", {"advance": DAY})
        sandbox.edit("salesforce", late, {"next_step": "Call"})

        pull(connection.open(), warehouse)

        assert belongings(warehouse, late) == belongings(before, late)
    connection.close()
