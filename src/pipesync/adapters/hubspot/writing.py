"""Changes as batch writes, each record with an outcome of its own.

Every input carries its change's key as trace id, which makes HubSpot answer for each record apart instead of
refusing a whole batch for one. A create is looked up first, by way of the deals, and again whenever its answer was
lost: nothing is created twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipesync.adapters.hubspot.api import Api, Json, Lost, reasons
from pipesync.adapters.hubspot.own import FORECAST_FIELDS, KEY, Own
from pipesync.adapters.hubspot.reading import BATCH, Wanted, batches, read
from pipesync.errors import PermissionMissing, RequestRefused, RetryLater
from pipesync.model import Change, Outcome

TASK_TO_DEAL = 216
NATIVE, PROBABILITY = "hs_forecast_probability", "pipesync_win_probability"
_TRIES = 3
_TRANSIENT = {"INTERNAL_ERROR", "LOCKED", "RATE_LIMITS", "TIMEOUT"}
"""Categories of a record's error after which the same may pass."""


def write(
    api: Api, own: Own, changes: Sequence[Change], *, native_forecast: bool = False
) -> Iterator[Outcome]:
    """Yield one outcome per change. What a missing scope forbids fails by itself and leaves the rest alone.

    With `native_forecast` a win probability also goes into HubSpot's own forecast, where no person has set it.
    """
    writer = _Writer(api, own, native_forecast=native_forecast)
    steps: tuple[tuple[Callable[[list[Change]], Iterable[Outcome]], list[Change]], ...] = (
        (writer.create_tasks, [c for c in changes if c.object == "task" and c.action == "create"]),
        (
            writer.update_tasks,
            [c for c in changes if c.object == "task" and c.action in ("update", "complete")],
        ),
        (writer.delete_tasks, [c for c in changes if c.object == "task" and c.action == "delete"]),
        (writer.put_forecasts, [c for c in changes if c.object == "forecast" and c.action != "delete"]),
        (writer.delete_forecasts, [c for c in changes if c.object == "forecast" and c.action == "delete"]),
        (writer.set_fields, [c for c in changes if c.object == "opportunity"]),
    )
    for step, some in steps:
        if not some:
            continue
        told: set[str] = set()
        try:
            for outcome in step(some):
                told.add(outcome.key)
                yield outcome
        except PermissionMissing as refused:
            for change in some:
                if change.key not in told:
                    yield _failed(change.key, str(refused), refused.request_id)


class _Writer:
    def __init__(self, api: Api, own: Own, *, native_forecast: bool) -> None:
        self._api, self._own, self._native_forecast = api, own, native_forecast

    # --- Tasks ------------------------------------------------------------------------------------------------

    def create_tasks(self, changes: list[Change]) -> Iterator[Outcome]:
        gone = self._own.gone_owners()
        waiting = {c.key: c for c in changes if c.owner_id not in gone}
        # HubSpot would take it, and nobody would ever see it.
        yield from (
            _failed(c.key, f"owner {c.owner_id} is not active", "") for c in changes if c.owner_id in gone
        )
        said: Exception | None = None
        for _ in range(_TRIES):
            deals = [c.opportunity_id for c in waiting.values() if c.opportunity_id]
            for task in self._own.tasks(set(waiting), deals):
                if task.key in waiting:
                    del waiting[task.key]
                    yield Outcome(key=task.key, status="applied", target=task.id)
            for some in batches(list(waiting), BATCH):
                inputs = [self._new_task(waiting[k]) for k in some]
                try:
                    outcomes = self._sent("tasks", "/batch/create", inputs, repeatable=False)
                except (Lost, RetryLater) as lost:
                    said = lost
                    continue
                for outcome in outcomes:
                    waiting.pop(outcome.key, None)
                    yield outcome
            if not waiting:
                return
        if said:
            raise said
        for key in waiting:
            yield _failed(key, "HubSpot neither created nor refused it", "")

    def _new_task(self, change: Change) -> Json:
        given = {
            "owner_id": change.owner_id,
            "is_done": False,
            "priority": "normal",
            "body": "",
            **change.after,
        }
        properties = {n: v for n, v in self._own.task_properties(change.key, given).items() if v != ""}
        properties["hs_task_type"] = "TODO"
        links: list[Json] = []
        if change.opportunity_id:
            kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": TASK_TO_DEAL}
            links = [{"to": {"id": change.opportunity_id}, "types": [kind]}]
        return {"properties": properties, "associations": links, "objectWriteTraceId": change.key}

    def update_tasks(self, changes: list[Change]) -> Iterator[Outcome]:
        for some in _sized([c for c in changes if c.target]):
            yield from self._sent(
                "tasks",
                "/batch/update",
                [
                    {
                        "id": c.target,
                        "properties": self._own.task_properties(
                            c.key, {**c.after, **({"is_done": True} if c.action == "complete" else {})}
                        ),
                        "objectWriteTraceId": c.key,
                    }
                    for c in some
                ],
            )
        yield from _untargeted(changes)

    def delete_tasks(self, changes: list[Change]) -> Iterator[Outcome]:
        yield from self._archived("tasks", changes)

    # --- Forecasts --------------------------------------------------------------------------------------------

    def put_forecasts(self, changes: list[Change]) -> Iterator[Outcome]:
        """Create or update by our unique key, which makes a repeat harmless."""
        for some in _sized(changes):
            inputs = [
                {
                    "id": c.key,
                    "idProperty": KEY,
                    "properties": {
                        KEY: c.key,
                        **_words({n: c.after[n] for n in FORECAST_FIELDS if n in c.after}),
                    },
                    "objectWriteTraceId": c.key,
                }
                for c in some
            ]
            yield from self._sent(self._own.forecast_object, "/batch/upsert", inputs)

    def delete_forecasts(self, changes: list[Change]) -> Iterator[Outcome]:
        yield from self._archived(self._own.forecast_object, changes)

    # --- Deals ------------------------------------------------------------------------------------------------

    def set_fields(self, changes: list[Change]) -> Iterator[Outcome]:
        """Set properties of our own group and, by choice, HubSpot's own forecast probability; never another one."""
        targets = {c.key: c.target or c.opportunity_id for c in changes}
        for some in _sized([c for c in changes if targets[c.key]]):
            native = self._native(targets[c.key] for c in some) if self._native_forecast else frozenset()
            inputs = []
            for change in some:
                after = change.after if change.action != "delete" else dict.fromkeys(change.before)
                properties = {own_property(n): v for n, v in _words(after).items()}
                if PROBABILITY in properties and targets[change.key] in native:
                    properties[NATIVE] = properties[PROBABILITY]
                inputs.append(
                    {
                        "id": targets[change.key],
                        "properties": properties,
                        "objectWriteTraceId": change.key,
                    }
                )
            yield from self._sent("deals", "/batch/update", inputs)
        yield from (_failed(k, "no opportunity is named", "") for k, target in targets.items() if not target)

    def _native(self, deals: Iterable[str | None]) -> frozenset[str]:
        """Return the deals whose native forecast probability is blank, or of our making: a person's own stays.

        Ours is what was last set by whoever last set our own property.
        """
        wanted = Wanted("deals", (NATIVE,), (NATIVE, PROBABILITY))
        found = set()
        for record in read(self._api, wanted, filter(None, deals)):
            past = record.get("propertiesWithHistory") or {}
            last, ours = (_source(past.get(name)) for name in (NATIVE, PROBABILITY))
            if not record["properties"].get(NATIVE) or (last and last == ours):
                found.add(str(record["id"]))
        return frozenset(found)

    # --- Batches ----------------------------------------------------------------------------------------------

    def _sent(
        self, kind: str, rest: str, inputs: list[Json], *, repeatable: bool = True, tries: int = _TRIES
    ) -> list[Outcome]:
        path = self._api.paths.objects(kind, rest)
        try:
            answer = self._api.write("POST", path, {"inputs": inputs}, repeatable=repeatable)
        except RequestRefused as refused:
            if len(inputs) == 1:
                return [_failed(inputs[0]["objectWriteTraceId"], str(refused), refused.request_id)]
            # This endpoint answers for the batch as a whole: find out which record it was.
            return [o for one in inputs for o in self._sent(kind, rest, [one], repeatable=repeatable)]
        found = list(_outcomes(answer, inputs))
        if repeatable and tries > 1 and (again := _unsettled(answer, inputs)):
            # What is tried again has one outcome, the last: two would be entered as the first, a failure.
            later = {i["objectWriteTraceId"] for i in again}
            return [o for o in found if o.key not in later] + self._sent(kind, rest, again, tries=tries - 1)
        if repeatable:
            silent = {i["objectWriteTraceId"] for i in inputs} - {o.key for o in found}
            found += [_failed(k, "HubSpot did not say what became of it", "") for k in sorted(silent)]
        return found

    def _archived(self, kind: str, changes: list[Change]) -> Iterator[Outcome]:
        """Archive; HubSpot says nothing of single records, and nothing of those that are gone already."""
        for some in _sized([c for c in changes if c.target]):
            self._api.write(
                "POST",
                self._api.paths.objects(kind, "/batch/archive"),
                {"inputs": [{"id": c.target} for c in some]},
            )
            yield from (Outcome(key=c.key, status="applied", target=c.target) for c in some)
        yield from _untargeted(changes)


def _source(entries: Sequence[Json] | None) -> tuple[str, str] | None:
    """Return who made the newest entry of a history."""
    if not entries:
        return None
    return str(entries[0].get("sourceType", "")), str(entries[0].get("sourceId", ""))


def own_property(name: str) -> str:
    return name if name.startswith("pipesync_") else f"pipesync_{name}"


def own_fields(properties: Json, names: Sequence[str]) -> Json:
    """Return our properties of a deal as JSON values."""
    told = {n: properties.get(own_property(n)) or None for n in names}
    return {n: float(v) if v and n in ("win_probability", "win_in_period") else v for n, v in told.items()}


def _outcomes(answer: Json, inputs: Sequence[Json]) -> Iterator[Outcome]:
    """Pair results and errors with what was sent, by trace id, our key or the record's id."""
    key_of = {str(i["id"]): i["objectWriteTraceId"] for i in inputs if "id" in i}
    sent = {i["objectWriteTraceId"] for i in inputs}
    told: set[str] = set()
    for result in answer.get("results", []):
        own = (result.get("properties") or {}).get(KEY)
        key = next(
            (
                k
                for k in (result.get("objectWriteTraceId"), own, key_of.get(str(result.get("id"))))
                if k in sent
            ),
            None,
        )
        if key:
            told.add(key)
            yield Outcome(key=key, status="applied", target=str(result["id"]))
    for error in answer.get("errors", []):
        context = error.get("context") or {}
        # Without a trace id an error names the records by their ids.
        named = [
            *context.get("objectWriteTraceId", ()),
            *(key_of.get(str(i), "") for i in context.get("ids", ())),
        ]
        for key in named:
            if key in sent and key not in told:
                told.add(key)
                why = "; ".join(reasons(error)) or str(error.get("category", "refused"))
                yield _failed(key, f"HubSpot refused it: {why}", str(answer.get("correlationId") or ""))


def _unsettled(answer: Json, inputs: Sequence[Json]) -> list[Json]:
    """Return the inputs that HubSpot could not do just now."""
    late = [e for e in answer.get("errors", []) if e.get("category") in _TRANSIENT]
    named = {t for e in late for t in (e.get("context") or {}).get("objectWriteTraceId", ())}
    return [i for i in inputs if i["objectWriteTraceId"] in named]


def _failed(key: str, why: str, request_id: str) -> Outcome:
    return Outcome(key=key, status="failed", error=why, request_id=request_id)


def _untargeted(changes: Iterable[Change]) -> Iterator[Outcome]:
    return (_failed(c.key, "the record's id is not known", "") for c in changes if not c.target)


def _sized(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    return (changes[i : i + BATCH] for i in range(0, len(changes), BATCH))


def _words(values: dict[str, Any]) -> dict[str, str]:
    """Return JSON values as HubSpot's text; a blank empties the property."""
    return {
        n: "" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for n, v in values.items()
    }
