"""`pipesync doctor` for an org: what can be read and written, and the exact mend for what cannot."""

from __future__ import annotations

from collections.abc import Iterator

from pipesync.adapters.base import Check
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.streams import HISTORY
from pipesync.adapters.salesforce.writing import ENTITY, FIELDS, KEY
from pipesync.config import Write
from pipesync.errors import CrmError, InputError

_SET = "assign the permission set Pipesync_Integration to the integration user"


def checks(name: str, org: Org, options: Options, allowed: Write) -> Iterator[Check]:
    try:
        _ = org.api.client
    except (CrmError, InputError) as error:
        yield Check("sign-in", "failed", str(error).splitlines()[0], getattr(error, "fix", "") or str(error))
        return
    yield Check("sign-in", "ok", options.url)
    yield from _limits(org)
    yield from _readable(org)
    yield from _writable(org, allowed)


def _limits(org: Org) -> Iterator[Check]:
    told = org.api.get("limits").get("DailyApiRequests", {})
    left, most = told.get("Remaining", 0), told.get("Max", 0)
    if most and left < most * 0.1:
        yield Check(
            "limits",
            "warning",
            f"{left:,} of {most:,} requests are left today",
            "look for other heavy clients",
        )
    else:
        yield Check("limits", "ok", f"{left:,} of {most:,} requests are left today")


def _readable(org: Org) -> Iterator[Check]:
    for stream, told in org.mapping.streams.items():
        if org.fields(told.source) is None:
            fix = f"{_SET} (it grants Read on {told.source})"
            is_needed = stream == "opportunities"
            yield Check(f"read {told.source}", "failed" if is_needed else "warning", "cannot be seen", fix)
            continue
        if stream == "activities":  # two objects, each with fields of its own
            yield Check("read activities", "ok", "events and tasks")
            continue
        hidden = [f.field for f in told.fields.values() if not org.sees(told.source, f.field)]
        for field in hidden:
            yield Check(
                f"read {told.source}.{field}", "warning", "is not there, or cannot be seen",
                f"grant Read on {told.source}.{field}, or say `field: null` in the mapping",
            )  # fmt: skip
        if not hidden:
            yield Check(f"read {told.source}", "ok", f"{len(told.fields)} fields")
    lacking = [f for f in HISTORY.values() if not org.sees("OpportunityHistory", f)]
    if lacking:
        yield Check("read OpportunityHistory", "warning", f"{', '.join(lacking)} cannot be seen", _SET)
    else:
        yield Check("read OpportunityHistory", "ok", f"{len(HISTORY)} fields")


def _writable(org: Org, allowed: Write) -> Iterator[Check]:
    wanted = {"task": allowed.tasks, "forecast": allowed.forecasts, "opportunity": allowed.opportunity_fields}
    if not allowed.enabled:
        yield Check("write", "ok", "nothing is written: `write.enabled` is false")
        return
    for entity, is_wanted in wanted.items():
        if not is_wanted:
            continue
        name = ENTITY[entity]
        fields = org.fields(name)
        if fields is None:
            yield Check(
                f"write {name}", "failed", "cannot be seen", f"deploy adapters/salesforce, then {_SET}"
            )
            continue
        needed = [*FIELDS[entity].values(), *([KEY] if entity != "opportunity" else [])]
        missing = [f for f in needed if f not in fields]
        locked = [f for f in needed if f in fields and not fields[f].get("updateable")]
        for field in missing:
            yield Check(
                f"write {name}.{field}", "failed", "is not there, or cannot be seen",
                f"deploy adapters/salesforce, then {_SET}",
            )  # fmt: skip
        for field in locked:
            yield Check(f"write {name}.{field}", "failed", "is read-only", f"grant Edit on {name}.{field}")
        if not missing and not locked:
            yield Check(f"write {name}", "ok", f"{len(needed)} fields")
