"""A plan kept in a file, to be read by people and applied later, as far as it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pipesync.errors import InputError, Place, Problem
from pipesync.model import Outcome, Plan

FORMAT = 1


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pipesync_plan: int
    plans: tuple[Plan, ...]


def save(path: Path, plans: Sequence[Plan]) -> None:
    """Write plans as one JSON document; the file appears whole or not at all."""
    kept = {"pipesync_plan": FORMAT, "plans": [p.model_dump(mode="json") for p in plans]}
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
        fresh.replace(path)
    except OSError as error:
        raise InputError(Problem(f"cannot be written: {error.strerror}", Place(str(path)))) from None


def load(path: Path) -> tuple[Plan, ...]:
    """Read what `save` wrote; InputError for anything else."""
    fix = "make a new one with `pipesync plan --out FILE`"
    try:
        data = orjson.loads(path.read_bytes())
        if (
            isinstance(data, dict)
            and isinstance(data.get("pipesync_plan"), int)
            and data["pipesync_plan"] > FORMAT
        ):
            raise InputError(Problem("is a plan of a newer pipesync", Place(str(path)), fix))
        return _Kept.model_validate(data).plans
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", Place(str(path)), fix)) from None
    except (orjson.JSONDecodeError, ValidationError):
        raise InputError(Problem("is not a plan of pipesync", Place(str(path)), fix)) from None


def reconcile(kept: Plan, fresh: Plan) -> tuple[Plan, tuple[Outcome, ...]]:
    """Return the kept plan as far as a plan made now would still do the same, and what is refused, with its reason.

    What a change rests on (opportunity, task, assignee, rule, budget) is exactly what the fresh plan was made from.
    """
    now = {c.key: c for c in fresh.changes}
    good, refused = [], []
    for change in kept.changes:
        current = now.get(change.key)
        if current is not None and _effect(current) == _effect(change):
            good.append(current)
        elif current is None:
            why = "not needed any more: what it rests on has changed since the plan was made"
            refused.append(Outcome(key=change.key, status="skipped", target=change.target, error=why))
        else:
            differing = sorted(
                n for n in {*current.after, *change.after} if current.after.get(n) != change.after.get(n)
            )
            what = ", ".join(differing) or current.action
            why = f"would be another change now ({what}): make a new plan"
            refused.append(Outcome(key=change.key, status="skipped", target=change.target, error=why))
    return fresh.model_copy(update={"changes": tuple(good)}), tuple(refused)


def _effect(change: object) -> object:
    return getattr(change, "action", None), getattr(change, "before", None), getattr(change, "after", None)
