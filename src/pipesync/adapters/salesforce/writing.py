"""Our tasks, forecasts and findings in the org: written in collections of 200, an outcome per record, read by key."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from pipesync.adapters.salesforce.api import Api, Json
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.refusals import may_pass_later
from pipesync.adapters.salesforce.values import parse_time
from pipesync.config import Write
from pipesync.errors import PermissionMissing
from pipesync.model import Change, Outcome, OwnForecast, OwnTask

KEY = "Pipesync_Key__c"
BATCH = 200
_ROW_ATTEMPTS = 5
_ROW_PAUSE = 0.05

TASK = {
    "subject": "Subject",
    "body": "Description",
    "due": "ActivityDate",
    "priority": "Priority",
    "owner_id": "OwnerId",
    "opportunity_id": "WhatId",
}
FORECAST = {
    "period_start": "Period_Start__c",
    "period_end": "Period_End__c",
    "scope": "Scope__c",
    "scope_id": "Scope_Id__c",
    "currency": "Currency__c",
    "p10": "P10__c",
    "p50": "P50__c",
    "p90": "P90__c",
    "mean": "Mean__c",
    "closed": "Closed__c",
    "open": "Open__c",
    "new": "New__c",
    "as_of": "As_Of__c",
    "basis": "Basis__c",
}
OPPORTUNITY = {
    "win_probability": "Pipesync_Win_Probability__c",
    "win_in_period": "Pipesync_Win_In_Period__c",
    "expected_close": "Pipesync_Expected_Close__c",
    "reasons": "Pipesync_Reasons__c",
}
FINDING = {
    "rule": "Rule__c",
    "severity": "Severity__c",
    "opportunity_id": "Opportunity__c",
    "message": "Message__c",
    "amount": "Amount__c",
    "first_seen": "First_Seen__c",
    "status": "Status__c",
}
ENTITY = {
    "task": "Task", "forecast": "Pipesync_Forecast__c", "opportunity": "Opportunity", "finding": "Pipesync_Finding__c",
}  # fmt: skip
FIELDS = {"task": TASK, "forecast": FORECAST, "opportunity": OPPORTUNITY, "finding": FINDING}
DELETED = frozenset({"task", "forecast", "finding"})
"""What is removed again, by an undo or because it is mended."""
_READ_BACK = frozenset({"opportunity", "finding"})
"""What the next pull does not read: whether Salesforce has stored it is looked up at once."""
_MONEY = ("p10", "p50", "p90", "mean", "closed", "open", "new")
"""Of forecasts."""
_PERCENT = ("win_probability", "win_in_period")


# --- Reading what is ours -----------------------------------------------------------------------------------------


def read_tasks(org: Org, keys: Collection[str] | None = None) -> Iterator[OwnTask]:
    """Yield our tasks; all of them, or those under these keys."""
    columns = ["Id", KEY, "IsClosed", "SystemModstamp", *TASK.values()]
    for row in _by_key(org.api, "Task", columns, keys):
        values: Json = {ours: row.get(theirs) for ours, theirs in TASK.items()}
        owner = values.pop("owner_id")
        due = values.pop("due")
        yield OwnTask(
            id=row["Id"],
            key=row[KEY],
            is_done=bool(row["IsClosed"]),
            modified_at=parse_time(row["SystemModstamp"]),
            owner_id=None if owner == org.user_id else owner,
            due=date.fromisoformat(due) if due else None,
            **{**values, "priority": str(values["priority"] or "Normal").lower()},
        )


def read_forecasts(org: Org, keys: Collection[str] | None = None) -> Iterator[OwnForecast]:
    for row in _by_key(org.api, ENTITY["forecast"], ["Id", KEY, *FORECAST.values()], keys):
        values: Json = {ours: row.get(theirs) for ours, theirs in FORECAST.items()}
        values |= {n: Decimal(str(values[n] or 0)).quantize(Decimal("0.01")) for n in _MONEY}
        values |= {"scope_id": values["scope_id"] or "", "basis": values["basis"] or ""}
        yield OwnForecast(id=row["Id"], key=row[KEY], **values)


def _by_key(api: Api, entity: str, columns: Sequence[str], keys: Collection[str] | None) -> Iterator[Json]:
    wanted = ", ".join(columns)
    if keys is None:
        for page in api.pages(f"SELECT {wanted} FROM {entity} WHERE {KEY} != null ORDER BY Id"):
            yield from page
        return
    listed = sorted(keys)
    for start in range(0, len(listed), BATCH):
        said = ", ".join(f"'{k}'" for k in listed[start : start + BATCH])
        for page in api.pages(f"SELECT {wanted} FROM {entity} WHERE {KEY} IN ({said}) ORDER BY Id"):
            yield from page


def own_fields(row: Json) -> Json:
    """Return our fields on an opportunity, given as text, as JSON values: a percent there is a share here."""
    return {
        n: round(float(v) / 100, 4) if n in _PERCENT and v is not None else v
        for n, v in row.items()
        if n != "id"
    }


# --- Writing --------------------------------------------------------------------------------------------------------


def allowed_kinds(allowed: Write) -> list[str]:
    """Return the kinds of records that a connection may write."""
    told = {
        "task": allowed.tasks, "forecast": allowed.forecasts, "opportunity": allowed.opportunity_fields,
        "finding": allowed.findings,
    }  # fmt: skip
    return [kind for kind, is_allowed in told.items() if allowed.enabled and is_allowed]


def write(org: Org, changes: Sequence[Change]) -> Iterator[Outcome]:
    """Write changes of one kind after the other, one request at a time, in the order in which they come.

    Creates are upserts by key, so that a repeat meets itself. Updates go by id: a task that a person has deleted is not
    made again. A finding is ours alone and always goes by its key.
    """
    for entity in ENTITY:
        mine = [c for c in changes if c.object == entity]
        creates = [c for c in mine if c.action == "create" or (entity == "finding" and c.action == "update")]
        updates = [c for c in mine if c.action in ("update", "complete") and entity != "finding"]
        deletes = [c for c in mine if c.action == "delete"]
        yield from _written(org, creates, lambda part, e=entity: _upsert(org, e, part))
        yield from _written(org, updates, lambda part, e=entity: _update(org, e, part))
        yield from _written(org, deletes, lambda part: _delete(org, part))


def _written(org: Org, changes: Sequence[Change], send: Any) -> Iterator[Outcome]:
    """Send in batches; records that are refused for now are sent again, alone with their like."""
    for start in range(0, len(changes), BATCH):
        left = list(changes[start : start + BATCH])
        done: list[tuple[Change, Outcome]] = []
        for attempt in range(1, _ROW_ATTEMPTS + 1):
            try:
                results = send(left)
            except PermissionMissing as refused:  # what the user may not write stays alone with it
                done += [(c, _refused(c, str(refused), refused.request_id)) for c in left]
                break
            again = []
            for change, result in zip(left, results, strict=True):
                code = _code(result)
                if may_pass_later(code) and attempt < _ROW_ATTEMPTS:
                    again.append(change)
                else:
                    done.append((change, _outcome(change, result, code)))
            if not again:
                break
            left = again
            time.sleep(_ROW_PAUSE * attempt * (0.5 + random.random()))  # noqa: S311  # not to meet the other again
        yield from _read_back(org, done)


def _read_back(org: Org, done: Sequence[tuple[Change, Outcome]]) -> Iterator[Outcome]:
    """Yield outcomes; what Salesforce took with success and did not store has failed, and is told field by field."""
    asked = {
        o.target: c
        for c, o in done
        if o.status == "applied" and o.target and c.object in _READ_BACK and c.action != "delete"
    }
    ignored: dict[str, list[str]] = {}
    for entity in sorted({c.object for c in asked.values()}):
        some = {i: c for i, c in asked.items() if c.object == entity}
        listed = ", ".join(f"'{i}'" for i in some)
        wanted = ", ".join(["Id", *FIELDS[entity].values()])
        for page in org.api.pages(f"SELECT {wanted} FROM {ENTITY[entity]} WHERE Id IN ({listed})"):
            for row in page:
                sent = _fields(org, entity, some[row["Id"]])
                ignored[row["Id"]] = [f for f, value in sent.items() if not _is_stored(value, row.get(f))]
    for _, outcome in done:
        lost = ignored.get(outcome.target or "")
        if lost and outcome.status == "applied":
            said = (
                f"Salesforce took it and kept another value of {', '.join(lost)}: look for a flow or trigger"
            )
            yield outcome.model_copy(update={"status": "failed", "error": said})
        else:
            yield outcome


def _is_stored(sent: Any, held: Any) -> bool:
    if isinstance(sent, float) and held is not None:
        return abs(sent - float(held)) < 0.051  # a percent has one decimal there
    if isinstance(sent, str) and isinstance(held, str):
        return " ".join(sent.split()) == " ".join(held.split())
    return bool(sent == held)


def _upsert(org: Org, entity: str, changes: Sequence[Change]) -> list[Json]:
    name = ENTITY[entity]
    records = [{"attributes": {"type": name}, KEY: c.key, **_fields(org, entity, c)} for c in changes]
    found: list[Json] = org.api.send(
        "PATCH", f"composite/sobjects/{name}/{KEY}", {"allOrNone": False, "records": records}
    )
    return found


def _update(org: Org, entity: str, changes: Sequence[Change]) -> list[Json]:
    name = ENTITY[entity]
    records = [
        {"attributes": {"type": name}, "id": c.opportunity_id if entity == "opportunity" else c.target,
         **_fields(org, entity, c)}
        for c in changes
    ]  # fmt: skip
    found: list[Json] = org.api.send("PATCH", "composite/sobjects", {"allOrNone": False, "records": records})
    return found


def _delete(org: Org, changes: Sequence[Change]) -> list[Json]:
    ids = ",".join(str(c.target) for c in changes)
    found: list[Json] = org.api.send("DELETE", "composite/sobjects", ids=ids, allOrNone="false")
    return found


def _fields(org: Org, entity: str, change: Change) -> Json:
    found: Json = {}
    given = dict(change.after)
    if entity == "task" and change.action == "create":
        given = {"opportunity_id": change.opportunity_id, "owner_id": change.owner_id} | given
    for name, value in given.items():
        if name == "is_done":
            found["Status"] = "Completed" if value else "Not Started"
        elif name == "owner_id" and entity == "task":
            found["OwnerId"] = value or org.user_id  # a task needs an owner: ours, where nobody can be named
        elif name == "priority":
            found["Priority"] = str(value).capitalize()
        elif name in (*_MONEY, "amount"):
            found[FIELDS[entity][name]] = None if value is None else float(value)
        elif name in _PERCENT and value is not None:
            found[FIELDS[entity][name]] = round(float(value) * 100, 1)  # a share here, percent there
        elif name in FIELDS[entity]:
            found[FIELDS[entity][name]] = value
    return found


def _refused(change: Change, why: str, request_id: str) -> Outcome:
    return Outcome(
        connection=change.connection, key=change.key, status="failed", target=change.target, error=why,
        request_id=request_id,
    )  # fmt: skip


def _code(result: Json) -> str:
    errors = result.get("errors") or [{}]
    return "" if result.get("success") else str(errors[0].get("statusCode", "UNKNOWN"))


def _outcome(change: Change, result: Json, code: str) -> Outcome:
    if not code:
        return Outcome(
            connection=change.connection,
            key=change.key,
            status="applied",
            target=result.get("id") or change.target,
        )
    if change.action == "delete" and code in (
        "ENTITY_IS_DELETED",
        "INVALID_CROSS_REFERENCE_KEY",
        "NOT_FOUND",
    ):
        return Outcome(connection=change.connection, key=change.key, status="applied", target=change.target)
    said = str((result.get("errors") or [{}])[0].get("message", ""))
    return Outcome(
        connection=change.connection,
        key=change.key,
        status="failed",
        target=change.target,
        error=f"{code}: {said}",
    )
