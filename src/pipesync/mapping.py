"""`mapping.yaml`: what a CRM's own names, or a file's own columns, mean in the normalized model.

One format serves every adapter: a stream's `source` is an object, a table or a file, a field's `field` is the
source's name for it. Stages get their phase here and opportunities their segment, which is what lets one rule
travel between CRMs. `adapters/files/README.md` describes the format for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from pipesync._paths import shipped
from pipesync.arrays import FALSE, TEXT, TRUE, one_piece, scalar
from pipesync.config import Section, Zone, parse_moment
from pipesync.errors import InputError, Place, Problem
from pipesync.model import TABLES, Category, HistoryKind, Phase, Stage
from pipesync.schema import schema
from pipesync.yamlsource import Document, nearest, read, validate

Outcome = Literal["Open", "Closed Won", "Closed Lost"]
HISTORY_SOURCES: dict[str, tuple[str, ...]] = {
    "stage_history": ("opportunity_id", "stage", "changed_at", "changed_by"),
    "field_history": ("opportunity_id", "field", "old", "value", "changed_at", "changed_by"),
}
"""Sources that are not streams themselves: both feed `field_changes`, where a CRM keeps the two apart."""
OPERATORS = ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", "missing")

_MIRRORED = tuple(s for s in TABLES if s not in ("own_tasks", "own_forecasts"))
_CLOSED_VALUES: dict[str, tuple[str, ...]] = {
    "outcome": get_args(Outcome),
    "forecast_category": get_args(Category),
    "direction": ("in", "out", "both"),
}


def known_fields(stream: str) -> tuple[str, ...]:
    """Return the normalized names that a mapping may give a stream (or a history source)."""
    if stream in HISTORY_SOURCES:
        return HISTORY_SOURCES[stream]
    names = tuple(n for n in schema(stream).names if n not in ("custom", "segment", "seq"))
    return (*names, "outcome") if stream == "opportunities" else names


# --- The format -------------------------------------------------------------------------------------------------


def _text(value: object) -> object:
    """YAML reads `field: 2024` as a number; a name is text whatever it looks like."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a date or a time, such as 2026-11-16T08:00:00Z")
    try:
        return parse_moment(value)
    except InputError as error:
        problem = error.problems[0]
        raise ValueError(f"{problem.message}; {problem.fix}") from None


def _short(key: str) -> BeforeValidator:
    """Let a single value stand for the map that has it under `key`."""
    return BeforeValidator(lambda v: v if isinstance(v, dict) or v is None else {key: v})


Text = Annotated[str, BeforeValidator(_text)]


class FieldMapping(Section):
    """Where one normalized field comes from."""

    field: Text
    values: dict[str, Text] = Field(default_factory=dict)
    """The source's word -> ours; other words stay as they are."""
    history: HistoryKind | None = None
    """How far back past values can be known; None: as the adapter finds."""


class StreamMapping(Section):
    source: str
    fields: dict[str, FieldMapping] = Field(default_factory=dict)
    custom: dict[str, Text] = Field(default_factory=dict)
    """The site's own fields: name in rules -> the source's name."""


REQUIRABLE = (
    "account_id", "amount", "close_date", "contact_count", "forecast_category", "has_decision_maker", "line_item_count",
    "next_step", "owner_id", "product", "source", "type",
)  # fmt: skip
"""Features that a stage may require."""


class StageMapping(Section):
    phase: Phase | None = None
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    category: Category | None = None
    """The forecast category that an opportunity gets by entering this stage."""
    required: tuple[str, ...] = ()
    """What an opportunity should have once it is in this stage: `REQUIRABLE`, or custom.NAME."""
    is_active: bool = True


class PipelineMapping(Section):
    name: Text | None = None
    stages: dict[str, Annotated[StageMapping, _short("phase")]] = Field(default_factory=dict)
    """In their order."""
    is_active: bool = True


class Segment(Section):
    """A class of opportunities. The first whose conditions all hold names it; one without `when` takes the rest."""

    name: Text
    when: dict[str, Any] = Field(default_factory=dict)  # Any: checked by `_check_condition`, with its place


class Mapping(Section):
    """A whole mapping, after `extends`."""

    as_of: datetime | None = None
    currency: str | None = None
    timezone: str = "UTC"
    date_formats: tuple[str, ...] = ()
    streams: dict[str, StreamMapping] = Field(default_factory=dict)
    stages: dict[str, StageMapping] = Field(default_factory=dict)
    """Of every pipeline that lists none of its own, in their order."""
    pipelines: dict[str, PipelineMapping] = Field(default_factory=dict)
    segments: tuple[Segment, ...] = ()

    _documents: tuple[Document, ...] = PrivateAttr(default=())

    @property
    def default_pipeline(self) -> str:
        """The pipeline of opportunities that name none."""
        return next(iter(self.pipelines), "default")

    def stages_of(self, pipeline: str | None) -> dict[str, StageMapping]:
        own = self.pipelines.get(pipeline or self.default_pipeline)
        return own.stages if own and own.stages else self.stages

    def fingerprint(self) -> str:
        """Change with everything that changes how a source is read."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def place(self, *path: str | int) -> Place | None:
        """Return where in the file (or in the one it extends) something is said, also where in its short form."""
        for document in self._documents:
            if path in document.values:
                return document.place(path)
            above = path[:-1]
            if above in document.values and not any(at[:-1] == above for at in document.values):
                return document.place(above)
        return None


class _StreamFile(Section):
    source: str | None = None
    fields: dict[str, Annotated[FieldMapping | None, _short("field")]] = Field(default_factory=dict)
    custom: dict[str, Text | None] = Field(default_factory=dict)


def _currency(value: str) -> str:
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise ValueError("expected a currency code such as EUR")
    return value


class _File(Section):
    """The keys of one file, before `extends`: what is None is taken from there."""

    version: Literal[1] = 1
    extends: str | None = None
    as_of: Annotated[datetime, BeforeValidator(_moment)] | None = None
    currency: Annotated[str, AfterValidator(_currency)] | None = None
    timezone: Zone | None = None
    date_formats: tuple[str, ...] | None = None
    streams: dict[str, Annotated[_StreamFile | None, _short("source")]] = Field(default_factory=dict)
    stages: dict[str, Annotated[StageMapping, _short("phase")]] | None = None
    pipelines: dict[str, PipelineMapping] | None = None
    segments: tuple[Segment, ...] | None = None


# --- Reading it -------------------------------------------------------------------------------------------------


def load(path: Path, *, base: str | None = None) -> Mapping:
    """Read a mapping; InputError with every problem and its place.

    `base` is extended by a file that has neither `extends` nor `streams`: a dataset's mapping.yaml may consist of
    the moment it speaks of and its stages.
    """
    return _load(path, base, seen=())


def _load(path: Path, base: str | None, seen: tuple[Path, ...]) -> Mapping:
    document = read(path)
    given = validate(_File, document)
    problems = list(_problems(given, document))
    parent = Mapping()
    extends = given.extends or (base if not given.streams else None)
    if extends:
        target = _resolve(extends, path)
        if target is None or target in (*seen, path.resolve()):
            why = "extends itself" if target else f"nothing named {extends!r} to extend"
            fix = "write pipesync:files, pipesync:salesforce, pipesync:hubspot, or a file beside this one"
            problems.append(document.problem(("extends",), why, fix=fix))
        else:
            parent = _load(target, None, (*seen, path.resolve()))
    merged, unsourced = _merge(parent, given)
    problems += [
        document.problem(("streams", s), f"stream {s!r} has no source", fix="add `source:`", key=True)
        for s in unsourced
    ]
    if problems:
        raise InputError(*problems)
    merged._documents = (document, *parent._documents)
    return merged


def _resolve(name: str, path: Path) -> Path | None:
    if name.startswith("pipesync:"):
        known = {f.name: f / "mapping.yaml" for f in shipped("adapters").iterdir() if f.is_dir()}
        found = known.get(name.removeprefix("pipesync:"))
    else:
        found = path.parent / name
    return found.resolve() if found and found.is_file() else None


def _merge(parent: Mapping, given: _File) -> tuple[Mapping, list[str]]:
    """Return the parent with what the file gives laid over it, and the streams that still lack a source."""
    streams = dict(parent.streams)
    unsourced = []
    for name, own in given.streams.items():
        under = streams.pop(name, None)
        if own is None:
            continue
        source = own.source or (under.source if under else None)
        if not source:
            unsourced.append(name)
            continue
        fields: dict[str, FieldMapping | None] = {**(under.fields if under else {}), **own.fields}
        custom: dict[str, str | None] = {**(under.custom if under else {}), **own.custom}
        streams[name] = StreamMapping(
            source=source,
            fields={n: f for n, f in fields.items() if f},
            custom={n: c for n, c in custom.items() if c},
        )
    said = {
        name: value
        for name in ("as_of", "currency", "timezone", "date_formats", "stages", "pipelines", "segments")
        if (value := getattr(given, name)) is not None
    }
    return parent.model_copy(update={**said, "streams": streams}), unsourced


def _problems(given: _File, document: Document) -> Iterable[Problem]:
    """Yield what pydantic cannot know: names of streams and fields, words of closed lists, conditions."""
    for stream, own in given.streams.items():
        if stream not in (*_MIRRORED, *HISTORY_SOURCES):
            fix = nearest(stream, (*_MIRRORED, *HISTORY_SOURCES))
            yield document.problem(("streams", stream), f"unknown stream {stream!r}", fix=fix, key=True)
            continue
        for name, field in own.fields.items() if own else ():
            at = ("streams", stream, "fields", name)
            if name not in known_fields(stream):
                fix = nearest(name, known_fields(stream))
                if stream == "opportunities":
                    fix += " (a field of your own goes under `custom:`)"
                yield document.problem(at, f"{stream} has no field {name!r}", fix=fix, key=True)
            for word, ours in field.values.items() if field else ():
                allowed = _CLOSED_VALUES.get(name)
                if allowed and ours not in allowed:
                    yield document.problem(
                        (*at, "values", word), f"{name} cannot be {ours!r}", fix=nearest(ours, allowed)
                    )
        if own and own.custom and stream != "opportunities":
            yield document.problem(
                ("streams", stream, "custom"),
                "only opportunities have custom fields",
                key=True,
                fix="remove it",
            )
    listed: list[tuple[tuple[str | int, ...], dict[str, StageMapping]]] = [((), given.stages or {})]
    listed += [(("pipelines", name), p.stages) for name, p in (given.pipelines or {}).items()]
    for above, stages in listed:
        for stage, setting in stages.items():
            for i, name in enumerate(setting.required):
                if name not in REQUIRABLE and not name.startswith("custom."):
                    place: tuple[str | int, ...] = (*above, "stages", stage, "required", i)
                    fix = nearest(name, REQUIRABLE)
                    yield document.problem(place, f"a stage cannot require {name!r}", fix=fix)
    last = len(given.segments or ()) - 1
    for i, segment in enumerate(given.segments or ()):
        if not segment.when and i != last:
            yield document.problem(
                ("segments", i), f"segment {segment.name!r} takes all, so later ones are never reached",
                fix="give it a `when:`, or put it last",
            )  # fmt: skip
        for field_name, condition in segment.when.items():
            yield from _check_condition(
                field_name, condition, ("segments", i, "when", field_name), document, given
            )


# --- Segments ---------------------------------------------------------------------------------------------------


def _check_condition(
    name: str, condition: object, at: tuple[str | int, ...], document: Document, given: _File
) -> Iterable[Problem]:
    kinds = {f.name: f.type for f in schema("opportunities") if f.name not in ("custom", "segment")}
    if not name.startswith("custom.") and name not in kinds:
        yield document.problem(
            at, f"opportunities have no field {name!r}", fix=nearest(name, kinds), key=True
        )
        return
    for operator, value in _tests(condition):
        if operator not in OPERATORS:
            fix = nearest(operator, OPERATORS)
            yield document.problem((*at, operator), f"unknown operator {operator!r}", fix=fix, key=True)
        elif (why := _misfit(operator, value, kinds.get(name, pa.string()))) and not (
            name.startswith("custom.") and isinstance(value, int | float)
        ):
            where = (*at, operator) if isinstance(condition, dict) else at
            yield document.problem(where, f"{name}: {why}")


def _tests(condition: object) -> list[tuple[str, Any]]:
    """Return a condition's (operator, value) pairs; a bare value means `eq`, a bare list `in`."""
    if isinstance(condition, dict):
        return list(condition.items())
    return [("in" if isinstance(condition, list) else "eq", condition)]


def _misfit(operator: str, value: object, kind: pa.DataType) -> str:
    if operator == "missing":
        return "" if isinstance(value, bool) else "expected true or false"
    if operator in ("in", "not_in"):
        if not isinstance(value, list):
            return "expected a list"
        return next((why for v in value if (why := _misfit("eq", v, kind))), "")
    if value is None or isinstance(value, dict | list):
        return "expected a value (`missing: true` asks for blanks)"
    try:
        scalar(str(value).lower() if isinstance(value, bool) else str(value), TEXT).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return f"{value!r} cannot be compared with a {_KIND_WORDS.get(str(kind), str(kind))}"
    return ""


_KIND_WORDS = {
    "decimal128(18, 2)": "sum of money",
    "date32[day]": "date",
    "timestamp[us]": "time",
    "bool": "yes or no",
    "double": "number",
    "int64": "whole number",
}


def segment(rows: pa.Table, segments: Sequence[Segment]) -> pa.Array:
    """Return the segment of each row of opportunities; null where none takes it.

    A comparison with a blank is false, as in rules. Custom fields are text; against a number they count as one.
    """
    found = pa.nulls(len(rows), pa.string())
    for candidate in reversed(segments):
        holds = pa.repeat(TRUE, len(rows))
        for name, condition in candidate.when.items():
            column = _column(rows, name)
            for operator, value in _tests(condition):
                holds = pc.and_(holds, _holds(column, operator, value))
        found = pc.if_else(holds, scalar(candidate.name, TEXT), found)
    return found


def _column(rows: pa.Table, name: str) -> pa.Array:
    if name.startswith("custom.") and "custom" in rows.schema.names:
        own = pc.map_lookup(rows["custom"], scalar(name.removeprefix("custom."), TEXT), "first")
        return one_piece(own)
    if name in rows.schema.names:
        return one_piece(rows[name])
    return pa.nulls(len(rows), pa.string())


def _holds(column: pa.Array, operator: str, value: Any) -> pa.Array:
    if operator == "missing":
        return pc.equal(column.is_null(), scalar(value, pa.bool_()))
    if operator in ("in", "not_in"):
        found = pa.repeat(FALSE, len(column))
        for one in value:
            found = pc.or_(found, _holds(column, "eq", one))
        return found if operator == "in" else pc.and_(pc.invert(found), column.is_valid())
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if pa.types.is_string(column.type) and numeric:
        plain = pc.match_substring_regex(column, r"^[-+]?[0-9]+(\.[0-9]+)?$")
        column = pc.if_else(plain, column, pa.nulls(1, TEXT)[0]).cast(pa.float64())
    with_kind = scalar(str(value).lower() if isinstance(value, bool) else str(value), TEXT).cast(column.type)
    compare = {
        "eq": pc.equal, "ne": pc.not_equal, "gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less,
        "lte": pc.less_equal,
    }[operator]  # fmt: skip
    return pc.fill_null(compare(column, with_kind), FALSE)


# --- Stages -----------------------------------------------------------------------------------------------------

WON, LOST = "Closed Won", "Closed Lost"
_WON_WORDS = {"closed won", "closedwon", "won"}
_LOST_WORDS = {"closed lost", "closedlost", "lost"}


def closing_phase(name: str) -> Literal["won", "lost"] | None:
    """Tell by its name whether a stage ends a pipeline, where neither mapping nor CRM says so."""
    word = name.strip().casefold()
    return "won" if word in _WON_WORDS else "lost" if word in _LOST_WORDS else None


def third(position: int, of: int) -> Phase:
    """Return the phase of the open stage at `position` (from 0) among `of`: early, middle and late by thirds."""
    phases: tuple[Phase, ...] = ("early", "middle", "late")
    return phases[int(3 * (position + 0.5) / of)]


def arrange(
    mapping: Mapping,
    pipeline: str,
    names: Sequence[str],
    *,
    closed: MappingOf[str, Literal["won", "lost"]] | None = None,
    ids: MappingOf[str, str] | None = None,
) -> list[Stage]:
    """Make a pipeline's stages of their names, given in their order.

    The mapping's phases come first, then what the source itself says of ending stages (`closed`; None where it says
    nothing and names must do); the others get their phase by thirds. Won and lost stages go last.
    """
    said = mapping.stages_of(pipeline)
    ends: dict[str, Literal["won", "lost"] | None] = {}
    for name in names:
        own = said[name].phase if name in said else None
        if own:
            ends[name] = own if own in ("won", "lost") else None
        else:
            ends[name] = closing_phase(name) if closed is None else closed.get(name)
    running = [n for n in names if ends[n] is None]
    ordered = [*running, *(n for n in names if ends[n] == "won"), *(n for n in names if ends[n] == "lost")]
    stages = []
    for order, name in enumerate(ordered):
        setting = said.get(name, StageMapping())
        phase = setting.phase or ends[name] or third(running.index(name), len(running))
        sure = {"won": 1.0, "lost": 0.0}.get(phase)
        stages.append(
            Stage(
                id=(ids or {}).get(name, f"{pipeline}:{name}"),
                name=name,
                pipeline=pipeline,
                order=order,
                phase=phase,
                probability=sure if setting.probability is None else setting.probability,
                default_category=setting.category,
                required=",".join(setting.required) or None,
                is_active=setting.is_active,
            )
        )
    return stages
