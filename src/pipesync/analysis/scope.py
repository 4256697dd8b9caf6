"""A part of the pipeline: the session's tables narrowed to a segment, a team, a period, before an analysis runs.

Analyses read the session's `features` and `stage_visits` and know nothing of parts; what is left out here does not
exist for them. `features.compute` brings it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pipesync.errors import InputError, Problem
from pipesync.features import Features
from pipesync.store.warehouse import Warehouse
from pipesync.yamlsource import nearest

SCOPES = ("pipeline", "segment", "product", "source", "type", "owner_id", "team", "manager_id")
"""What an analysis, and a waterfall, can be narrowed to."""


def narrow(
    warehouse: Warehouse, features: Features, where: Mapping[str, str], since: datetime | None = None
) -> None:
    """Leave what has these values, and of the stays in stages those that began at `since` or later.

    InputError names what cannot be asked, and the nearest value where one is not there.
    """
    for name, value in where.items():
        if name not in SCOPES:
            raise InputError(Problem(f"cannot look at one {name!r}", fix=nearest(name, SCOPES)))
        if name in features.unknown:
            raise InputError(Problem(f"{name} cannot be read here", fix="map it, or ask without it"))
        known = warehouse.rows(f"SELECT DISTINCT {name} FROM features WHERE {name} IS NOT NULL ORDER BY 1")
        if (value,) not in known:
            raise InputError(
                Problem(
                    f"no opportunity has {name} {value!r}", fix=nearest(value, [str(v) for (v,) in known])
                )
            )
        warehouse.execute(f"DELETE FROM features WHERE {name} IS DISTINCT FROM ?", [value])
    if where:
        warehouse.execute("DELETE FROM stage_visits WHERE opportunity_id NOT IN (SELECT id FROM features)")
    if since:
        moment = since.astimezone(UTC).replace(tzinfo=None)
        warehouse.execute("DELETE FROM stage_visits WHERE entered_at < ?", [moment])


def parse_where(texts: tuple[str, ...]) -> dict[str, str]:
    """Read `segment=enterprise`."""
    found = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not given or not value:
            raise InputError(Problem(f"{text!r} is no part of the pipeline", fix="write segment=enterprise"))
        found[name.strip()] = value.strip()
    return found
