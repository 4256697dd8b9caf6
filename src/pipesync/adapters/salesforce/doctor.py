"""`pipesync doctor` for an org: what can be read and written, and the exact mend for what cannot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from pipesync import fiscal
from pipesync.adapters.base import Check
from pipesync.adapters.salesforce.options import Options
from pipesync.adapters.salesforce.org import Org
from pipesync.adapters.salesforce.refusals import OF_THE_ORG
from pipesync.adapters.salesforce.streams import HISTORY, TRACKED, Streams
from pipesync.adapters.salesforce.writing import DELETED, ENTITY, FIELDS, KEY, allowed_kinds
from pipesync.config import Write
from pipesync.errors import CrmError, InputError, PermissionMissing, RequestRefused

_SET = "assign the permission set Pipesync_Integration to the integration user"
_KIT = f"deploy adapters/salesforce, then {_SET}"
_OPTIONAL = ("quotas", "currency_rates")
_SOON = timedelta(days=45)
_SKEW = timedelta(minutes=2)
"""An assertion is valid for three minutes: a clock that is further off signs in to nothing."""
_LOW = 0.1


def checks(name: str, org: Org, options: Options, allowed: Write) -> Iterator[Check]:
    yield from _certificate(options)
    try:
        _ = org.api.client
    except (CrmError, InputError) as error:
        fix = error.fix if isinstance(error, CrmError) else "; ".join(p.fix for p in error.problems)
        yield Check("sign-in", "failed", str(error).splitlines()[0], fix)
        return
    yield Check("sign-in", "ok", options.url)
    version = _version(org, options)
    yield version
    if version.status == "failed":  # every request is refused
        return
    try:
        yield from _limits(org, options)
    except CrmError as error:
        yield Check("api access", "failed", str(error).splitlines()[0], error.fix)
        return
    yield from _clock(org, options)
    yield from _fiscal_year(org)
    yield from _readable(org)
    yield from _history(org)
    yield from _visibility(org)
    yield from _first_pull(org, options)
    yield from _writable(org, allowed)


def _fiscal_year(org: Org) -> Iterator[Check]:
    """Tell whether custom fiscal years are understood; of standard ones there is nothing to tell."""
    if not org.fiscal_months:
        return
    if found := fiscal.recognised(org.fiscal_months):
        said = f"{found.weeks or 'calendar months'}, from month {found.fiscal_year_starts} on"
        yield Check("fiscal year", "ok", f"custom, understood as {said}")
    else:
        fix = "say `calendar: {fiscal_year_starts: MONTH, weeks: {pattern: 4-4-5}}`, or give periods as FROM..TO"
        yield Check("fiscal year", "warning", "the org's custom years follow no pattern that is known", fix)


# --- The way there ------------------------------------------------------------------------------------------------


def _certificate(options: Options) -> Iterator[Check]:
    """Tell when the app's certificate ends, where its file is given: admins are to hear of it before the sync stops."""
    if not options.certificate_file:
        return
    renew = "make a new pair (adapters/salesforce/README.md, section Sign-in) and upload its certificate to the app"
    try:
        certificate = x509.load_pem_x509_certificate(Path(options.certificate_file).read_bytes())
    except (OSError, ValueError) as error:
        why = f"{options.certificate_file} cannot be read ({type(error).__name__})"
        yield Check("certificate", "failed", why, "name the certificate in PEM that was uploaded to the app")
        return
    end, now = certificate.not_valid_after_utc, datetime.now(UTC)
    said = f"ends on {end:%Y-%m-%d}"
    if end < now:
        yield Check("certificate", "failed", f"ended on {end:%Y-%m-%d}", renew)
    elif end - now < _SOON:
        yield Check("certificate", "warning", said, renew)
    else:
        yield Check("certificate", "ok", said)


def _limits(org: Org, options: Options) -> Iterator[Check]:
    """Tell what is left of the day; who may not see the org's limits still hears of requests with every answer."""
    try:
        told = org.api.get("limits")
    except (PermissionMissing, RequestRefused) as refused:
        if refused.code in OF_THE_ORG:
            raise
        used, most = org.api.used or (0, 0)
        told = {"DailyApiRequests": {"Remaining": most - used, "Max": most}}
    heavy = "look for other heavy clients under Setup > Company Information, or wait for tomorrow"
    by_rest = (
        "large objects are read by REST until tomorrow, in more requests; look for the client that makes them"
    )
    for name, what, fix in (
        ("DailyApiRequests", "requests", heavy),
        ("DailyBulkV2QueryJobs", "Bulk query jobs", f"{by_rest}: Setup > Bulk Data Load Jobs"),
    ):
        left, most = told.get(name, {}).get("Remaining", 0), told.get(name, {}).get("Max", 0)
        if not most:
            said = "this user is not told (View Setup and Configuration); nothing but this line needs it"
            yield Check(f"limits: {what}", "ok", said)
            continue
        said = f"{left:,} of {most:,} {what} are left today"
        if name == "DailyApiRequests":
            said += f"; a run uses at most {int(options.daily_share * most):,}"
        if left < most * _LOW:
            yield Check(f"limits: {what}", "warning", said, fix)
        else:
            yield Check(f"limits: {what}", "ok", said)


def _version(org: Org, options: Options) -> Check:
    known = org.api.versions()
    if options.api_version in known:
        return Check("API version", "ok", f"{options.api_version}; the org has up to {known[-1]}")
    said = f"the org does not speak {options.api_version}, but {known[0]} to {known[-1]}"
    return Check("API version", "failed", said, f'say `api_version: "{known[-1]}"` in the connection')


def _clock(org: Org, options: Options) -> Iterator[Check]:
    there = org.api.server_time
    if there is None or not options.username:  # only an assertion says what time it is
        return
    skew = abs(datetime.now(UTC) - there)
    if skew > _SKEW:
        said = f"this machine's clock and the org's differ by {skew.total_seconds():,.0f} s"
        yield Check("clock", "warning", said, "set this machine's clock, or sign-in will be refused")
    else:
        yield Check("clock", "ok", "as the org's")


# --- Reading ------------------------------------------------------------------------------------------------------


def _readable(org: Org) -> Iterator[Check]:
    for stream, told in org.mapping.streams.items():
        if stream == "activities":  # two objects, each with fields of its own
            yield from _activities(org)
            continue
        if org.fields(told.source) is None:
            if stream in _OPTIONAL:
                yield Check(f"read {told.source}", "ok", f"is not there; {stream} are optional")
                continue
            fix = f"{_SET} (it grants Read on {told.source}), or say `{stream}: null` in the mapping"
            is_needed = stream == "opportunities"
            yield Check(f"read {told.source}", "failed" if is_needed else "warning", "cannot be seen", fix)
            continue
        hidden = [f.field for f in told.fields.values() if not org.sees(told.source, f.field)]
        for field in hidden:
            yield Check(
                f"read {told.source}.{field}", "warning", "is not there, or cannot be seen",
                f"grant Read on {told.source}.{field}, or say `field: null` in the mapping",
            )  # fmt: skip
        if not hidden:
            yield Check(f"read {told.source}", "ok", f"{len(told.fields)} fields")
    for name in ("OpportunityStage", "RecordType", "Organization"):
        if org.fields(name) is None:
            yield Check(f"read {name}", "warning", "cannot be seen", _SET)


def _activities(org: Org) -> Iterator[Check]:
    for name, times in (("Event", ("StartDateTime",)), ("Task", ("ActivityDate", "CompletedDateTime"))):
        if org.fields(name) is None:
            fix = f"{_SET}, or say `activities: null` in the mapping"
            yield Check(f"read {name}", "warning", "cannot be seen", fix)
            continue
        hidden = [f for f in ("WhatId", "OwnerId", *times) if not org.sees(name, f)]
        for field in hidden:
            yield Check(f"read {name}.{field}", "warning", "cannot be seen", f"grant Read on {name}.{field}")
        if not hidden:
            yield Check(f"read {name}", "ok", "when, who, and about what")


def _history(org: Org) -> Iterator[Check]:
    lacking = [f for f in HISTORY.values() if not org.sees("OpportunityHistory", f)]
    if lacking:
        yield Check("read OpportunityHistory", "warning", f"{', '.join(lacking)} cannot be seen", _SET)
    else:
        yield Check("read OpportunityHistory", "ok", f"{len(HISTORY)} fields")
    if org.fields("OpportunityFieldHistory") is None:
        fields = " and ".join(TRACKED.values())
        yield Check(
            "read OpportunityFieldHistory", "warning", f"no past of {fields}: it begins with the first pull",
            f"Setup > Object Manager > Opportunity > Fields > Set History Tracking: {fields}",
        )  # fmt: skip


def _visibility(org: Org) -> Iterator[Check]:
    """Whose opportunities are seen: a user without View All sees its own, and nobody would be told."""
    if not org.sees("Opportunity", "OwnerId"):
        return
    said = "SELECT COUNT_DISTINCT(OwnerId) owners, COUNT(Id) n FROM Opportunity"
    (row,) = org.api.query(said)["records"]
    told = f"{row['n']:,} opportunities of {row['owners']:,} owners"
    if row["n"] == 0 or (row["owners"] == 1 and row["n"] > 1):
        fix = f"{_SET}: it grants View All Records on Opportunity"
        yield Check("whose opportunities", "warning", f"only {told} are seen", fix)
    else:
        yield Check("whose opportunities", "ok", told)


def _first_pull(org: Org, options: Options) -> Iterator[Check]:
    """What a first pull will take; the objects with most records are named."""
    streams = Streams(org, options)
    found = {s: e for s in (*org.mapping.streams, "field_changes") if (e := streams.estimate(s))}
    if not found:
        return
    records, requests = sum(e.records for e in found.values()), sum(e.requests for e in found.values())
    seconds = max(1, round(sum(e.seconds for e in found.values())))
    most = sorted(found.items(), key=lambda item: -item[1].records)[:4]
    named = ", ".join(f"{stream} {e.records:,}" for stream, e in most)
    said = f"{records:,} records, about {requests:,} requests and {seconds:,} s ({named})"
    yield Check("first pull", "ok", said)


# --- Writing ------------------------------------------------------------------------------------------------------


def _writable(org: Org, allowed: Write) -> Iterator[Check]:
    if not allowed.enabled:
        yield Check("write", "ok", "nothing is written: `write.enabled` is false")
        return
    for entity in allowed_kinds(allowed):
        yield from _entity(org, entity)
    if allowed.tasks:
        yield from _role(org)


def _entity(org: Org, entity: str) -> Iterator[Check]:
    name = ENTITY[entity]
    fields = org.fields(name)
    if fields is None:
        yield Check(f"write {name}", "failed", "cannot be seen", _KIT)
        return
    permissions = org.permissions(name)
    wanted = {"updateable": "Edit"} | ({} if entity == "opportunity" else {"createable": "Create"})
    wanted |= {"deletable": "Delete"} if entity in DELETED else {}
    refused = [word for flag, word in wanted.items() if not permissions.get(flag)]
    for word in refused:
        fix = f"{_SET} (it grants Edit Tasks)" if entity == "task" else f"{_SET} (it grants {word} on {name})"
        yield Check(f"write {name}: {word}", "failed", "is not permitted", fix)
    needed = [*FIELDS[entity].values(), *([KEY] if entity != "opportunity" else [])]
    missing = [f for f in needed if f not in fields]
    locked = [f for f in needed if f in fields and not fields[f].get("updateable")]
    for field in missing:
        yield Check(f"write {name}.{field}", "failed", "is not there, or cannot be seen", _KIT)
    for field in locked:
        yield Check(f"write {name}.{field}", "failed", "is read-only", f"grant Edit on {name}.{field}")
    if KEY in fields and entity != "opportunity" and not fields[KEY].get("externalId"):
        fix = f"make {name}.{KEY} an external id, as adapters/salesforce deploys it"
        yield Check(f"write {name}.{KEY}", "failed", "is no external id", fix)
    elif not missing and not locked and not refused:
        yield Check(f"write {name}", "ok", f"{len(needed)} fields")


def _role(org: Org) -> Iterator[Check]:
    """Users delete only tasks that are theirs or of users below them."""
    if not org.sees("User", "UserRoleId"):
        return
    found = org.api.query(f"SELECT UserRoleId FROM User WHERE Id = '{org.user_id}'")["records"]
    if found and not found[0]["UserRoleId"]:
        yield Check(
            "remove tasks", "warning", "the integration user has no role: tasks of others cannot be removed",
            "give the integration user a role above the reps, or say `tasks: {when_mended: complete}`",
        )  # fmt: skip
    else:
        yield Check("remove tasks", "ok", "the integration user has a role")
