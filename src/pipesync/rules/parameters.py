"""Parameters: the knobs that a rule offers to sites, with their units and limits, typed and checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipesync.rules.conditions import NUMERIC, Span, span
from pipesync.rules.conditions import Field as FieldOf
from pipesync.rules.reader import UNITS, Reader, as_number, param_kind
from pipesync.yamlsource import nearest

Number = int | float
Value = Number | Span | str | tuple[Number | str, ...]
"""What a parameter may be set to."""

Given = int | float | str | tuple[int | float | str, ...]
"""A parameter's value as YAML has it."""


def _unit(value: str) -> str:
    if value not in ("", *UNITS):
        raise ValueError(f"no unit {value!r}; {nearest(value, UNITS)}")
    return value


class LearntText(BaseModel):
    """A column that the company's own past fills, such as `cycle_p90`, and how many times of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    times: Annotated[float, Field(gt=0)] = 1


class ParamText(BaseModel):
    """A parameter as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Given
    min: int | float | None = None
    max: int | float | None = None
    unit: Annotated[str, AfterValidator(_unit)] = ""
    help: str = ""
    learnt: LearntText | None = None
    """Takes the default's place where it is known, until the site sets the parameter itself."""

    @property
    def limits(self) -> str:
        if self.max is None:
            return "" if self.min is None else f"{self.min} or more"
        return f"{self.max} or less" if self.min is None else f"{self.min} to {self.max}"


def learnt_from(reader: Reader, name: str, text: ParamText) -> FieldOf | None:
    """Return the column that a parameter is learnt from; complain where it is no number in the parameter's unit."""
    if text.learnt is None:
        return None
    at = ("params", name, "learnt", "field")
    found = reader.columns.get(text.learnt.field)
    if found is None:
        fix = nearest(text.learnt.field, reader.columns)
        reader.complain(at, f"unknown field {text.learnt.field!r}", fix)
        return None
    if found.kind not in NUMERIC or param_kind(text.default) != "number":
        reader.complain(at, f"{name} cannot be learnt from {found.name} ({found.kind})", "numbers only")
        return None
    if not found.counted_by:
        known = [n for n, c in reader.columns.items() if c.counted_by]
        reader.complain(at, f"{found.name} is not learnt from the past", nearest(found.name, known))
        return None
    if found.unit.replace(" ", "_") != text.unit:
        reader.complain(at, f"{name} is in {text.unit or 'no unit'}, {found.name} in {found.unit or 'none'}")
        return None
    return FieldOf(found.name, text.learnt.times)


def checked(
    reader: Reader, at: tuple[str | int, ...], name: str, value: object, text: ParamText | None
) -> Value | None:
    """Return a parameter's value within its limits; complain otherwise."""
    if text is None:
        reader.complain(at, f"no parameter {name!r}", nearest(name, reader.parameters), key=True)
        return None
    wanted = param_kind(text.default)
    if wanted == "duration":
        found = span(value)
        if found is None:
            reader.complain(
                at, f"{name}: {value!r} is not a duration", "write 7d, 12h, 2w or 3 business days"
            )
        return found
    if wanted == "text" and (text.unit or text.min is not None or text.max is not None):
        wanted = "number"
    if wanted == "text":
        if not isinstance(value, str):
            reader.complain(at, f"{name}: expected text, not {value!r}", "quote it")
            return None
        return value
    if wanted == "list":
        return _checked_list(reader, at, name, value, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        reader.complain(at, f"{name}: expected a number, not {value!r}", as_number(value))
        return None
    return value if _is_within(reader, at, name, value, text) else None


def _checked_list(
    reader: Reader, at: tuple[str | int, ...], name: str, value: object, text: ParamText
) -> tuple[Number | str, ...] | None:
    if not isinstance(value, list | tuple) or not value:
        reader.complain(at, f"{name}: expected a list, not {value!r}", "write [first, second]")
        return None
    found: list[Number | str] = [
        v for v in value if isinstance(v, str | int | float) and not isinstance(v, bool)
    ]
    if len(found) < len(value) or len({isinstance(v, str) for v in found}) > 1:
        reader.complain(
            at, f"{name}: a list of numbers or of texts is expected", "write [1, 10], or [new, old]"
        )
        return None
    numbers = [v for v in found if not isinstance(v, str)]
    return tuple(found) if all(_is_within(reader, at, name, v, text) for v in numbers) else None


def _is_within(reader: Reader, at: tuple[str | int, ...], name: str, value: Number, text: ParamText) -> bool:
    outside = (text.min is not None and value < text.min) or (text.max is not None and value > text.max)
    if outside:
        reader.complain(at, f"{name}: {value} is outside of {_limits(text)}", "stay within `min` and `max`")
    return not outside


def _limits(text: ParamText) -> str:
    low = "anything" if text.min is None else text.min
    return f"{low} to {'anything' if text.max is None else text.max}"
