"""What `doctor` looks at in a portal, each failure with its mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Literal, get_args

from pipesync._paths import shipped
from pipesync.adapters.base import Check
from pipesync.adapters.hubspot.api import Api
from pipesync.adapters.hubspot.install import kit, wanted
from pipesync.adapters.hubspot.options import ApiVersion, Engagement, Options
from pipesync.adapters.hubspot.others import LINK
from pipesync.adapters.hubspot.own import FORECAST
from pipesync.adapters.hubspot.portal import Portal
from pipesync.adapters.hubspot.reading import LIST_PAGE, search
from pipesync.adapters.hubspot.writing import NATIVE
from pipesync.config import Section, Write
from pipesync.errors import CrmError, InputError, PermissionMissing, RequestRefused
from pipesync.mapping import Mapping
from pipesync.yamlsource import nearest, read, validate

_PROBES = {
    "crm.objects.companies.read": "companies",
    "crm.objects.contacts.read": "tasks",
    "crm.objects.line_items.read": "line_items",
    "crm.objects.products.read": "products",
    "crm.objects.leads.read": "leads",
    "crm.objects.goals.read": "goal_targets",
}
_MOST_SKEW = 300.0
SUPPORTED_UNTIL: dict[ApiVersion, date] = {
    "2026-09": date(2028, 3, 1), "2026-03": date(2027, 9, 1), "v3": date(2027, 3, 30),
}  # fmt: skip
"""HubSpot supports a dated version for 18 months; the legacy family ends with its v4 associations."""
_NOTICE = timedelta(days=120)


class Scopes(Section):
    """`adapters/hubspot/scopes.yaml`: what each scope is for, by profile."""

    version: Literal[1]
    read_only: dict[str, str]
    read_write: dict[str, str]
    set_up: dict[str, str]
    required: tuple[str, ...]


@cache
def scopes() -> Scopes:
    return validate(Scopes, read(shipped("adapters") / "hubspot" / "scopes.yaml"))


def checks(
    name: str, api: Api, portal: Portal, mapping: Mapping, options: Options, allowed: Write
) -> Iterator[Check]:
    """Yield sign-in, clock, scopes, mapped properties, the price of activities, our own. Ends with a failed sign-in."""
    try:
        details = portal.details
    except (CrmError, InputError) as error:
        yield Check("sign-in", "failed", str(error).splitlines()[0], _fix(error))
        return
    yield Check(
        "sign-in", "ok", f"portal {details.get('portalId')}, {details.get('accountType', 'STANDARD')}"
    )
    yield _clock(api)
    yield _version(api, options)
    yield from _scopes(api, portal, allowed)
    yield from _mapped(portal, mapping)
    yield _activities(api, options)
    yield _limits(api)
    if allowed.enabled:
        yield from _own_properties(api, portal, allowed, options)


def _fix(error: Exception) -> str:
    if isinstance(error, CrmError):
        return error.fix
    return error.problems[0].fix if isinstance(error, InputError) else ""


def _clock(api: Api) -> Check:
    told = api.server_time
    if told is None:
        return Check("clock", "warning", "HubSpot told no time")
    skew = abs((datetime.now(UTC) - told).total_seconds())
    if skew > _MOST_SKEW:
        fix = "fine against a sandbox with a clock of its own; otherwise set this machine's clock"
        return Check("clock", "warning", f"{skew / 3600:,.1f} hours from this machine's", fix)
    return Check("clock", "ok", f"{told:%Y-%m-%dT%H:%M:%SZ}")


def _version(api: Api, options: Options) -> Check:
    """Judge how long HubSpot will support what this connection asks."""
    ends = SUPPORTED_UNTIL[options.api_version]
    detail = f"{options.api_version}, supported until {ends:%B %Y}"
    today = (api.server_time or datetime.now(UTC)).date()
    if today + _NOTICE < ends:
        return Check("api version", "ok", detail)
    return Check(
        "api version", "warning", detail, "set `api_version` to a later one; a new pipesync may know more"
    )


def _limits(api: Api) -> Check:
    """Tell what the headers told: the burst that pulls are paced by, and what is left of the day."""
    burst = f"{api.burst[0]} requests in {api.burst[1]:g} s" if api.burst[0] else "no burst limit told"
    if api.budget is None:
        return Check("limits", "ok", f"{burst}, no daily limit told")
    used, whole = api.budget
    return Check("limits", "ok", f"{burst}; {used:,} of {whole:,} are used today, by everybody")


def _scopes(api: Api, portal: Portal, allowed: Write) -> Iterator[Check]:
    """Yield one check per scope: what reading needs, and of writing what the connection's `write:` names."""
    yield _verdict("crm.objects.deals.read", _refusal(lambda: portal.pipelines))
    yield _verdict("crm.objects.owners.read", _refusal(lambda: portal.owners))
    for scope, kind in _PROBES.items():
        yield _verdict(scope, _refusal(partial(api.get, api.paths.objects(kind), limit=1)))
    rates = api.paths.exchange_rates()
    yield _verdict("settings.currencies.read", _refusal(lambda: api.get(rates, limit=1)))
    if not allowed.enabled:
        return
    if allowed.tasks:
        fix = (
            "add the scope crm.objects.contacts.write to the key; where the portal refuses it, set `tasks: false` and"
            " `opportunity_fields: true` under `write`"
        )
        yield _verdict("crm.objects.contacts.write", _may_write(api, "tasks"), fix=fix)
    if allowed.opportunity_fields or allowed.findings:
        yield _verdict("crm.objects.deals.write", _may_write(api, "deals"), fix=_FIX)


_FIX = "add the scope {scope} to the key"


def _verdict(scope: str, refused: CrmError | None, *, fix: str = "") -> Check:
    """Judge a scope: a `fix` of its own makes its lack a failure, as does that reading cannot do without it."""
    what = {**scopes().read_only, **scopes().read_write}[scope]
    if refused is None:
        return Check(f"scope {scope}", "ok", what)
    if not isinstance(refused, PermissionMissing):
        return Check(
            f"scope {scope}", "warning", f"refused, though not for the scope: {what} [{refused.code}]",
            "the portal's tier may not have it; its columns are unknown",
        )  # fmt: skip
    if fix or scope in scopes().required:
        return Check(f"scope {scope}", "failed", f"missing: {what}", (fix or _FIX).format(scope=scope))
    return Check(
        f"scope {scope}", "warning", f"missing: {what}",
        f"add the scope {scope} to the key, or leave these columns unknown",
    )  # fmt: skip


def _refusal(ask: Callable[[], object]) -> CrmError | None:
    try:
        ask()
    except (PermissionMissing, RequestRefused) as refused:
        return refused
    return None


def _may_write(api: Api, kind: str) -> CrmError | None:
    """Ask with a batch of nothing: without the scope it is forbidden, with it there is nothing to do."""
    path = api.paths.objects(kind, "/batch/update")
    refused = _refusal(lambda: api.write("POST", path, {"inputs": []}))
    return refused if isinstance(refused, PermissionMissing) else None


# --- Properties -------------------------------------------------------------------------------------------------


def _mapped(portal: Portal, mapping: Mapping) -> Iterator[Check]:
    """Yield the mapped properties that an object does not have; of objects out of reach their scopes were told."""
    for stream, told in mapping.streams.items():
        if told.source not in ("deals", *_PROBES.values()):
            continue
        try:
            there = portal.properties(told.source)
        except PermissionMissing as refused:
            if stream == "opportunities":
                yield Check("properties", "failed", str(refused).splitlines()[0], refused.fix)
            continue
        except RequestRefused:
            continue
        named = {n: f.field for n, f in told.fields.items() if not f.field.startswith(LINK)}
        named |= {f"custom.{n}": p for n, p in told.custom.items()}
        missing = {n: p for n, p in named.items() if p not in there}
        for column, name in missing.items():
            fix = f"{nearest(name, there)}; or map {column} to another property, or to null".lstrip("; ")
            detail = f"{told.source} have no such property, so {column} of {stream} is unknown"
            yield Check(f"property {name}", "warning", detail, fix)
        if not missing:
            kind = "" if stream == "opportunities" else f" of {told.source}"
            yield Check(f"properties{kind}", "ok", f"{len(named)} mapped properties are readable")


def _own_properties(api: Api, portal: Portal, allowed: Write, options: Options) -> Iterator[Check]:
    fix = "run `pipesync install-fields` with a key of the set-up profile (adapters/hubspot/scopes.yaml)"
    for kind, properties in wanted(allowed).items():
        if kind != "tasks" or options.task_key != "body":
            yield _there(portal, kind, [p.name for p in properties], kind, fix)
    if options.native_forecast and NATIVE not in portal.deal_properties:
        fix = "set `native_forecast: false`"
        yield Check(f"property {NATIVE}", "failed", "this portal has no forecast of its own", fix)
    if allowed.forecasts:
        yield from _forecasts(api, portal, fix)


def _there(portal: Portal, kind: str, names: Sequence[str], called: str, fix: str) -> Check:
    try:
        there = portal.properties(kind)
    except PermissionMissing as refused:
        return Check(f"our properties of {called}", "failed", str(refused).splitlines()[0], refused.fix)
    if missing := [n for n in names if n not in there]:
        return Check(f"our properties of {called}", "failed", f"missing: {', '.join(missing)}", fix)
    return Check(f"our properties of {called}", "ok", f"{len(names)} there")


def _forecasts(api: Api, portal: Portal, fix: str) -> Iterator[Check]:
    """Judge the forecast object, which only Enterprise portals can have; without it nothing fails."""
    name = f"p{portal.details.get('portalId')}_{FORECAST}"
    if (refused := _refusal(lambda: api.get(api.paths.objects(name), limit=1))) is None:
        scope = "crm.objects.custom.write"
        yield _verdict(scope, _may_write(api, name), fix=_FIX)
        yield _there(portal, name, [p.name for p in kit().forecast_object.properties], "forecasts", fix)
        return
    if isinstance(refused, PermissionMissing):
        yield _verdict("crm.objects.custom.read", refused)
        return
    yield Check(
        "our forecast object", "warning", "not there, so forecasts stay in the ledger and the report",
        f"in an Enterprise portal, {fix}; elsewhere set `forecasts: false` under `write`",
    )  # fmt: skip


# --- Activities -------------------------------------------------------------------------------------------------


def _activities(api: Api, options: Options) -> Check:
    """Estimate what reading activities one by one costs, before anybody chooses it."""
    counts: dict[str, int] = {}
    for kind in get_args(Engagement):
        try:
            counts[kind] = search(api, kind, [], sort="hs_object_id", properties=[], limit=1).total
        except (PermissionMissing, RequestRefused):
            return Check("activities", "ok", "cannot be counted without the scope crm.objects.contacts.read")
    pages = {kind: -(-count // LIST_PAGE) for kind, count in counts.items()}
    said = ", ".join(
        f"{kind} {count:,} ({pages[kind]:,} requests)" for kind, count in counts.items() if count
    )
    if options.activities:
        first, chosen = sum(pages[k] for k in options.activities), ", ".join(options.activities)
        return Check("activities", "ok", f"read one by one: {chosen}; a first pull takes {first:,} requests")
    return Check(
        "activities", "ok",
        f"by the deals' own sums; one by one a first pull would read {said or 'nothing: there are none'}"
        + ("; choose with `activities: [...]`" if said else ""),
    )  # fmt: skip
