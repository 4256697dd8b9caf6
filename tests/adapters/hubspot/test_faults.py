"""Whatever goes wrong on the way, the warehouse ends up equal to the portal, and the portal with each task once."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import pytest
from tests.adapters.hubspot.conftest import DEALS, Connect, Running, task

from pipesync.adapters.hubspot.streams import from_millis
from pipesync.errors import PipesyncError
from pipesync.model import Change
from pipesync.pull import Written, pull
from pipesync.sandbox.faults import Harness, parse
from pipesync.sandbox.hubspot.records import Source
from pipesync.store.warehouse import Warehouse

KINDS = ("status", "lost", "refused", "slow", "session", "partial", "lock", "limit", "lag")
PAIRS = tuple(combinations_with_replacement(KINDS, 2))
FEW, MANY = (37, 170), range(300)
STREAMS = (*DEALS, "accounts", "line_items")
COMPARED = (
    "opportunities", "field_changes", "contact_roles", "own_tasks", "stages", "pipelines", "accounts", "line_items",
)  # fmt: skip


@pytest.mark.parametrize("seed", FEW)
def test_a_few_runs_under_faults_end_well(
    connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int
) -> None:
    """A sample of the campaign, for every run of the tests."""
    _campaign(connect, warehouse, hubspot, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", MANY)
def test_every_run_under_faults_ends_well(
    connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int
) -> None:
    """Every kind of fault alone and in pairs, several times over."""
    _campaign(connect, warehouse, hubspot, seed)


def _campaign(connect: Connect, warehouse: Warehouse, hubspot: Running, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    sane = hubspot.app
    kinds = set(PAIRS[seed % len(PAIRS)])
    plan = parse([{"kind": kind, "rate": 0.1, "seconds": 0.005, "retry_after": 0.01} for kind in kinds])
    hubspot.app = Harness(sane, plan, seed)
    hubspot.records.lag = 60_000 if "lag" in kinds else 0
    _until_done(partial(_pull, connect, warehouse))
    changes: list[Change] = []
    for _ in range(3):
        changes += [task(deal) for deal in _disturb(hubspot, chance)]
        _until_done(partial(_write, connect, changes))
        at = from_millis(hubspot.now_ms)
        hubspot.advance(30)
        # As `sync` does it, and as `pull` alone: our own writes are told from what people did at the same moment.
        spans = {c.opportunity_id: (at, at) for c in changes if c.opportunity_id}
        written = Written(from_millis(hubspot.now_ms), spans) if seed % 2 else None
        _until_done(partial(_pull, connect, warehouse, written))

    hubspot.app = sane
    hubspot.advance(7 * 3600)  # time to look through the other archives
    pull(connect(), warehouse, streams=STREAMS)

    with Warehouse() as fresh:
        pull(connect(), fresh, streams=STREAMS)
        for stream in COMPARED:
            # What belongs to an archived deal goes with it; HubSpot itself keeps its line items.
            sql = f'SELECT * FROM "{stream}" {f"WHERE {OF_DEALS}" if stream == "line_items" else ""} ORDER BY ALL'
            assert warehouse.rows(sql) == fresh.rows(sql), stream
    assert _mirrored(warehouse) == _held(hubspot)
    left = hubspot.records.page("tasks", after=0, limit=999, archived=False)
    keys = Counter(t.properties["pipesync_key"] for t in left)
    assert keys == Counter({c.key: 1 for c in changes})


OF_DEALS = "opportunity_id IN (SELECT id FROM opportunities)"


def _mirrored(warehouse: Warehouse) -> list[set[Any]]:
    """Return facts of the warehouse's deals, their histories and contacts, companies and line items."""
    queries = (
        "SELECT id, amount::DOUBLE, owner_id FROM opportunities",
        "SELECT opportunity_id, count(*) FROM field_changes WHERE field = 'amount' GROUP BY 1",
        "SELECT opportunity_id, contact_id FROM contact_roles",
        "SELECT id, name FROM accounts",
        f"SELECT id FROM line_items WHERE {OF_DEALS}",
    )
    return [set(warehouse.rows(sql)) for sql in queries]


def _held(hubspot: Running) -> list[set[Any]]:
    """Return the same facts as the portal's own database holds them."""
    deals = "SELECT id FROM hs_objects WHERE kind = 'deals' AND NOT archived"
    queries = (
        "SELECT CAST(id AS TEXT), CAST(properties ->> '$.amount' AS REAL), properties ->> '$.hubspot_owner_id' "
        "FROM hs_objects WHERE kind = 'deals' AND NOT archived",
        "SELECT CAST(id AS TEXT), json_array_length(entries) FROM hs_history "
        f"WHERE kind = 'deals' AND property = 'amount' AND id IN ({deals})",
        "SELECT DISTINCT CAST(id AS TEXT), CAST(to_id AS TEXT) FROM hs_links "
        f"WHERE kind = 'deals' AND to_kind = 'contacts' AND id IN ({deals})",
        "SELECT CAST(id AS TEXT), properties ->> '$.name' FROM hs_objects WHERE kind = 'companies' AND NOT archived",
        "SELECT CAST(o.id AS TEXT) FROM hs_objects AS o JOIN hs_links AS l USING (kind, id) "
        f"WHERE kind = 'line_items' AND NOT archived AND to_kind = 'deals' AND to_id IN ({deals})",
    )
    return [set(hubspot.records.db.execute(sql)) for sql in queries]


def _until_done(step: Any) -> None:
    """Run a step again until it passes, as a schedule does."""
    for _ in range(20):
        try:
            step()
        except PipesyncError:
            continue
        return
    raise AssertionError("never passed")


def _pull(connect: Connect, warehouse: Warehouse, written: Written | None = None) -> None:
    pull(connect(), warehouse, streams=STREAMS, written=written)


def _write(connect: Connect, changes: list[Change]) -> None:
    outcomes = list(connect().write(changes))
    if {o.status for o in outcomes} != {"applied"} or len(outcomes) != len(changes):
        raise PipesyncError("some failed")


def _disturb(hubspot: Running, chance: random.Random) -> list[str]:
    """Play people: change some deals and companies, archive a deal and a line item; return deals for new tasks.

    One of those was changed, too.
    """
    db = hubspot.records.db
    there = [
        r[0]
        for r in db.execute("SELECT id FROM hs_objects WHERE kind = 'deals' AND NOT archived ORDER BY id")
    ]
    with_tasks = {
        r[0] for r in db.execute("SELECT to_id FROM hs_links WHERE kind = 'tasks' AND to_kind = 'deals'")
    }
    chosen = chance.sample([d for d in there if d not in with_tasks], 9)
    for deal in chosen[:5]:
        hubspot.edit(
            deal, amount=str(chance.randrange(1, 99_999)), hs_next_step=chance.choice(("Call", None, "Meet"))
        )
    hubspot.records.archive("deals", chosen[5:6])
    for company in hubspot.records.page(
        "companies", after=chance.randrange(3_000_000_000), limit=2, archived=False
    ):
        name = {"name": f"Renamed {chance.randrange(999)}"}
        hubspot.records.update("companies", company, name, Source("CRM_UI"))
    items = hubspot.records.page("line_items", after=0, limit=500, archived=False)
    hubspot.records.archive("line_items", [chance.choice(items).id])
    db.commit()
    return [str(d) for d in (chosen[4], *chosen[6:])]
