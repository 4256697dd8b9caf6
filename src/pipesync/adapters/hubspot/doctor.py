"""What `doctor` looks at in a portal, each failure with its mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from typing import Literal

from pipesync._paths import shipped
from pipesync.adapters.base import Check
from pipesync.adapters.hubspot.api import Api
from pipesync.adapters.hubspot.install import kit
from pipesync.adapters.hubspot.options import Options
from pipesync.adapters.hubspot.portal import Portal
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
    """Yield sign-in, clock, scopes, mapped properties, our own properties. Stops after a failed sign-in."""
    try:
        details = portal.details
    except (CrmError, InputError) as error:
        yield Check("sign-in", "failed", str(error).splitlines()[0], _fix(error))
        return
    yield Check(
        "sign-in", "ok", f"portal {details.get('portalId')}, {details.get('accountType', 'STANDARD')}"
    )
    yield _clock(api)
    yield Check("api version", "ok", options.api_version)
    yield from _scopes(api, portal)
    yield from _mapped(portal, mapping)
    if allowed.enabled:
        yield from _own_properties(api, allowed)


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


def _scopes(api: Api, portal: Portal) -> Iterator[Check]:
    required = scopes().required
    meaning = {**scopes().read_only, **scopes().read_write}

    def verdict(scope: str, error: CrmError | None) -> Check:
        if error is None:
            return Check(f"scope {scope}", "ok", meaning[scope])
        if scope in required:
            return Check(
                f"scope {scope}", "failed", f"missing: {meaning[scope]}", f"add the scope {scope} to the key"
            )
        fix = f"add the scope {scope} to the key, or leave these columns unknown"
        return Check(f"scope {scope}", "warning", f"missing: {meaning[scope]}", fix)

    yield verdict("crm.objects.deals.read", _refusal(lambda: portal.pipelines))
    yield verdict("crm.objects.owners.read", _refusal(lambda: portal.owners))
    for scope, kind in _PROBES.items():
        yield verdict(scope, _refusal(partial(api.get, api.paths.objects(kind), limit=1)))
    yield verdict("settings.currencies.read", _refusal(lambda: api.get(api.paths.exchange_rates(), limit=1)))


def _refusal(ask: Callable[[], object]) -> CrmError | None:
    try:
        ask()
    except (PermissionMissing, RequestRefused) as refused:
        return refused
    return None


def _mapped(portal: Portal, mapping: Mapping) -> Iterator[Check]:
    try:
        there = portal.deal_properties
    except PermissionMissing as refused:
        yield Check("properties", "failed", str(refused).splitlines()[0], refused.fix)
        return
    stream = mapping.streams["opportunities"]
    named = {n: f.field for n, f in stream.fields.items()} | {
        f"custom.{n}": p for n, p in stream.custom.items()
    }
    missing = {n: p for n, p in named.items() if p not in there}
    for column, name in missing.items():
        fix = f"{nearest(name, there)}; or map {column} to another property, or to null".lstrip("; ")
        yield Check(
            f"property {name}", "warning", f"deals have no such property, so {column} is unknown", fix
        )
    if not missing:
        yield Check("properties", "ok", f"{len(named)} mapped deal properties are readable")


def _own_properties(api: Api, allowed: Write) -> Iterator[Check]:
    fix = "run `pipesync install-fields` with a set-up key"
    wanted = {
        "tasks": kit().tasks if allowed.tasks else (),
        "deals": kit().deals if allowed.opportunity_fields or allowed.findings else (),
    }
    for kind, properties in wanted.items():
        if not properties:
            continue
        try:
            there = {p["name"] for p in api.get(api.paths.properties(kind)).get("results", [])}
        except PermissionMissing as refused:
            yield Check(f"our properties of {kind}", "failed", str(refused).splitlines()[0], refused.fix)
            continue
        missing = [p.name for p in properties if p.name not in there]
        if missing:
            yield Check(f"our properties of {kind}", "failed", f"missing: {', '.join(missing)}", fix)
        else:
            yield Check(f"our properties of {kind}", "ok", f"{len(properties)} there")
