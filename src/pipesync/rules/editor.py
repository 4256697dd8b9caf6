"""The JSON Schema of a rule file, for editors: fields, operators and, where a CRM is connected, its own names.

`# yaml-language-server: $schema=../schema.json` in a file's first line binds it. The schema helps while one types;
what it lets through `rules lint` still looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipesync.features.columns import COLUMNS, Column
from pipesync.model import Level
from pipesync.rules.cases import LIVES
from pipesync.rules.conditions import CHANGED, NUMERIC, OPERATORS, TIMED
from pipesync.rules.format import Catalogue, RuleText
from pipesync.rules.levels import LEVELS
from pipesync.rules.reader import UNITS

Json = dict[str, Any]  # Any: JSON
_PARAMETER: Json = {"type": "string", "pattern": r"^\$", "description": "A parameter of this rule"}
_SPAN: Json = {
    "type": "string", "pattern": r"^(\d+ ?(h|hours?|d|days?|w|weeks?|bd|business days?)|\$.*)$",
    "examples": ["7d", "2w", "3 business days"],
}  # fmt: skip
_DAY: Json = {"type": "string", "examples": ["today", "2026-11-23"]}
_HELP = {
    "eq": "is", "ne": "is not, and not blank", "gt": "more than", "gte": "at least", "lt": "less than",
    "lte": "at most", "between": "from the first to the second, both included", "in": "is one of",
    "not_in": "is none of, and not blank", "missing": "is blank (true) or not (false)",
    "contains": "holds this text, in any case", "matches": "matches this regular expression (RE2)",
    "within_next": "lies between now and so much later", "within_last": "lies between so long ago and now",
    "older_than": "lies longer ago than this", CHANGED: "took its value within this time; creation counts",
    "or_missing": "a blank counts as true",
}  # fmt: skip


def schema(catalogue: Catalogue = LEVELS) -> Json:
    """Return the schema; a catalogue with values (`Vocabulary.narrow`) offers them and still takes others."""
    made: Json = RuleText.model_json_schema(by_alias=True)
    properties, definitions = made["properties"], made["$defs"]
    levels = [*catalogue]
    shared: dict[str, Json] = {}
    for level in levels:
        definitions[f"condition_{level}"] = _condition(level, catalogue, shared)
        definitions[f"given_{level}"] = _given(catalogue[level])
    definitions |= shared
    definitions["ParamText"]["properties"]["unit"] |= {"enum": ["", *UNITS]}
    definitions["MeasureText"]["properties"] |= {
        "where": {"$ref": "#/$defs/condition_opportunity"},
        "among": {"$ref": "#/$defs/condition_opportunity"},
    }
    properties["tests"]["items"] = {"type": "object"}
    made["allOf"] = [_of_level(level, level == "opportunity") for level in levels]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A rule of pipesync",
        **{key: value for key, value in made.items() if key != "title"},
    }


def _of_level(level: str, is_default: bool) -> Json:
    """Return which conditions a file of this level may hold."""
    condition = {"$ref": f"#/$defs/condition_{level}"}
    is_it: Json = {"properties": {"level": {"const": level}}}
    if not is_default:
        is_it["required"] = ["level"]
    return {
        "if": is_it,
        "then": {
            "properties": {
                "applies_to": condition,
                "when": condition,
                "overrides": {"items": {"properties": {"match": condition}}},
                "severity_ladder": {"items": {"properties": {"when": condition}}},
                "resolve": {"properties": {"when": condition}},
                "tests": {"items": _case(level)},
            }
        },
    }


def _condition(level: Level, catalogue: Catalogue, shared: dict[str, Json]) -> Json:
    """Return the schema of a condition; what fields of one kind have in common goes to `shared`."""
    itself = {"$ref": f"#/$defs/condition_{level}"}
    fields = {name: _asked(column, shared) for name, column in catalogue[level].items() if name != "custom"}
    made: Json = {
        "type": "object",
        "properties": {
            "all": {"type": "array", "items": itself, "minItems": 1, "description": "All of these hold"},
            "any": {"type": "array", "items": itself, "minItems": 1, "description": "One of these holds"},
            "not": itself,
            **fields,
        },
        "additionalProperties": level != "opportunity",  # elsewhere a rule may have measures of its own
    }
    custom = catalogue[level].get("custom")
    if custom is not None and custom.values:
        made["properties"] |= {f"custom.{name}": _CUSTOM for name in custom.values}
    elif custom is not None:
        made["patternProperties"] = {r"^custom\.": _CUSTOM}
    return made


def _asked(column: Column, shared: dict[str, Json]) -> Json:
    """Return what may stand at a field: a value, a list of values, or a map of operators."""
    name = f"{column.kind}_{column.name}" if column.values else column.kind
    name = f"asked_{name}_changing" if column.changed else f"asked_{name}"
    if name not in shared:
        shared[name] = _forms(column)
    unit = f", in {column.unit}" if column.unit else ""
    return {"description": f"{column.meaning}{unit}", "$ref": f"#/$defs/{name}"}


def _forms(column: Column) -> Json:
    value = _value(column)
    operators = (*OPERATORS[column.kind], *((CHANGED,) if column.changed else ()))
    told = {name: {**_operand(name, value), "description": _HELP[name]} for name in operators}
    told["or_missing"] = {"type": "boolean", "description": _HELP["or_missing"]}
    forms: list[Json] = [
        {"type": "object", "properties": told, "additionalProperties": False, "minProperties": 1}
    ]
    if "eq" in operators:
        forms = [value, *forms]
    if "in" in operators:
        forms.append({"type": "array", "items": value, "minItems": 1})
    return {"anyOf": forms}


def _value(column: Column) -> Json:
    other = {"type": "object", "properties": {"field": {"type": "string"}, "times": {"type": "number"}},
             "required": ["field"], "additionalProperties": False}  # fmt: skip
    if column.kind == "flag":
        return {"type": "boolean"}
    if column.kind in NUMERIC:
        return {"anyOf": [{"type": "number"}, _PARAMETER, other]}
    if column.kind in ("date", "moment"):
        return {"anyOf": [_DAY, other]}
    offered: list[Json] = [{"enum": list(column.values)}] if column.values else []
    free: list[Json] = [] if COLUMNS.get(column.name, column).values else [
        {"type": ["string", "number"]}
    ]  # fmt: skip
    return {"anyOf": [*offered, *free, _PARAMETER, other]}


def _operand(operator: str, value: Json) -> Json:
    if operator == "missing":
        return {"type": "boolean"}
    if operator in TIMED or operator == CHANGED:
        return dict(_SPAN)
    if operator in ("in", "not_in"):
        return {"anyOf": [{"type": "array", "items": value, "minItems": 1}, _PARAMETER]}
    if operator == "between":
        return {"type": "array", "items": value, "minItems": 2, "maxItems": 2}
    return dict(value)


_ANYTHING: Json = {"type": ["string", "number", "boolean"]}
_CUSTOM: Json = {
    "description": "A custom field of this CRM; what it is compared with says how it is read",
    "anyOf": [
        _ANYTHING,
        {"type": "array", "items": _ANYTHING, "minItems": 1},
        {
            "type": "object",
            "properties": {
                **{
                    name: _operand(name, {"type": ["string", "number", "boolean", "object"]})
                    for name in dict.fromkeys(o for kind in OPERATORS.values() for o in kind)
                },
                "or_missing": {"type": "boolean"},
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ],
}


def _given(columns: Mapping[str, Column]) -> Json:
    told: Json = {
        name: {"type": [*_YAML.get(column.kind, ["string", "number"]), "null"], "description": column.meaning}
        for name, column in columns.items()
        if name != "custom"
    }
    return {"type": "object", "properties": told}


_YAML = {"flag": ["boolean"], "date": ["string"], "moment": ["string"]} | {k: ["number"] for k in NUMERIC}


def _case(level: str) -> Json:
    given = {"$ref": f"#/$defs/given_{level}"}
    result: Json = {"enum": list(LIVES)}
    expect: Json = {
        "anyOf": [
            result,
            {"type": "object", "properties": {"result": result, "severity": {"type": "string"}},
             "additionalProperties": False},
        ]
    }  # fmt: skip
    step: Json = {
        "type": "object",
        "properties": {"today": {"type": "string"}, "set": given, "expect": expect},
        "required": ["today", "expect"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "number"]},
            "today": {"type": "string"},
            "given": given,
            "opportunities": {"type": "array", "items": {"$ref": "#/$defs/given_opportunity"}},
            "unknown": {"type": "array", "items": {"type": "string"}},
            "expect": expect,
            "timeline": {"type": "array", "items": step, "minItems": 1},
        },
        "additionalProperties": False,
    }
