"""Errors, logs and runs hold no record of a customer, whatever a CRM answers."""

from __future__ import annotations

import csv
import io
import json
import logging
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.security.proxy import Proxy

from pipesync import logs
from pipesync.adapters import open_adapter
from pipesync.checkup import of_connection
from pipesync.config import Config, load
from pipesync.errors import PipesyncError
from pipesync.runlog import now
from pipesync.sandbox.company import generate
from pipesync.sandbox.process import Sandbox, running
from pipesync.store.ledger import Ledger
from pipesync.sync import sync_all

pytestmark = pytest.mark.thorough

MARK = "Qzxcustomer"
"""Stands in every text of the company, and in whatever an error of the CRM says."""
CODES = {
    400: ("INVALID_FIELD", "MALFORMED_QUERY", "INVALID_QUERY_LOCATOR", "FIELD_CUSTOM_VALIDATION_EXCEPTION"),
    403: ("INSUFFICIENT_ACCESS", "REQUEST_LIMIT_EXCEEDED", "API_DISABLED_FOR_ORG"),
    404: ("NOT_FOUND",), 409: ("CONFLICT",), 500: ("UNKNOWN_EXCEPTION",),
}  # fmt: skip


def marked(folder: Path) -> None:
    """Put the mark into every name, address and note of a company."""
    for file, columns in {
        "opportunities.csv": ("name", "next_step", "lost_reason", "lead_source", "type"),
        "accounts.csv": ("name", "industry"), "owners.csv": ("name", "email"), "products.csv": ("name", "family"),
        "leads.csv": ("campaign", "source"), "contact_roles.csv": ("role",),
    }.items():  # fmt: skip
        with (folder / file).open(newline="") as read:
            rows = list(csv.DictReader(read))
        for row in rows:
            row.update({c: f"{MARK} {row[c]}" if c != "email" else f"{MARK}.{row[c]}" for c in columns})
        with (folder / file).open("w", newline="") as written:
            writer = csv.DictWriter(written, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def telling(status: int, content: bytes, chance: random.Random) -> tuple[int, bytes]:
    """Tell a customer's data in an error: in its message and details, as the record itself, or as a page.

    Or in the middle of a success: a part that failed with a message, or JSON that breaks off.
    """
    way, status = chance.randrange(5), chance.choice(list(CODES))
    told = f"'{MARK}' (\"{MARK} GmbH\", {MARK}@example.com) is no value of 'Amount': {MARK}"
    code = chance.choice(CODES[status])
    if way == 0:
        return status, json.dumps([{"errorCode": code, "message": told, "fields": [MARK]}]).encode()
    if way == 1:
        inner = {"message": told, "code": "INVALID_OPTION", "context": {"value": [MARK]}}
        body = {"status": "error", "message": told, "category": "VALIDATION_ERROR", "errors": [inner]}
        return status, json.dumps(body).encode()
    if way == 2:
        return status, content + MARK.encode()
    if way == 3:
        return status, f"<html><title>{MARK}</title>{told}</html>".encode()
    return 200, content[: len(content) * 2 // 3] + MARK.encode()


@dataclass
class Company:
    crm: str
    sandbox: Sandbox
    proxy: Proxy
    folder: Path


@pytest.fixture(scope="module", params=["salesforce", "hubspot"])
def company(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp(request.param)
    generate(folder / "exports", opportunities=12, activities_per_opportunity=1)
    marked(folder / "exports")
    work = folder / "work"
    work.mkdir()
    with (
        running(folder / "exports", request.param) as sandbox,
        Proxy(sandbox.url, telling, lasting=True) as proxy,
    ):
        keys = {**sandbox.settings(request.param, work), "url": proxy.url}
        keys["write"] = {"enabled": True, "tasks": True, "forecasts": True}
        document = {"mode": "enforce", "guard": {"first_apply": 10_000}, "connections": {request.param: keys}}
        (work / "pipesync.yaml").write_text(yaml.safe_dump(document))
        yield Company(request.param, sandbox, proxy, work)


def told_by(config: Config, crm: str) -> str:
    """Return all that a sync and a doctor say of themselves: events, errors, checks, the runs kept, measures."""
    out = io.StringIO()
    logs.configure(logging.DEBUG, out, people=False)
    said: list[object] = []
    try:
        said += [done for done in sync_all(config, [crm]).values() if isinstance(done, PipesyncError)]
        adapter = open_adapter(crm, config.connections[crm], config.folder)
        try:
            said += list(of_connection(config, adapter, now()))
        finally:
            adapter.close()
    finally:
        logs.silence()
    with Ledger(config.ledger_url) as ledger:
        said += [run.model_dump() for run in ledger.runs(crm)]
    assert config.metrics
    return "\n".join([out.getvalue(), *map(str, said), config.metrics.read_text()])


def leaks(company: Company, tmp_path: Path, seeds: range) -> list[str]:
    """Spoil one path's answers per seed, from an instant on; return what was told of customers."""
    found, spoilt = [], 0
    for seed in seeds:
        company.sandbox.ask("POST", "reset")
        work = tmp_path / str(seed)
        shutil.copytree(company.folder, work)
        company.proxy.arm(random.Random(seed).randrange(1, 45), seed)  # noqa: S311  # seeded on purpose
        told = told_by(load(work / "pipesync.yaml"), company.crm)
        spoilt += bool(company.proxy.spoilt)
        found += [
            f"{seed}: {company.proxy.spoilt}: {line[:300]}" for line in told.splitlines() if MARK in line
        ]
    assert spoilt > len(seeds) / 2
    return found


def test_no_error_log_or_run_tells_of_a_customer(company: Company, tmp_path: Path) -> None:
    """Not even where the CRM's own error repeats the record."""
    assert leaks(company, tmp_path, range(8)) == []


@pytest.mark.campaign
def test_no_error_log_or_run_tells_of_a_customer_many_times(company: Company, tmp_path: Path) -> None:
    """The same for every request of a sync, with every kind of answer."""
    assert leaks(company, tmp_path, range(100, 160)) == []
