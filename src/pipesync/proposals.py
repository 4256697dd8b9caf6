"""A mapping for people to correct, proposed from what a CRM says of itself: stages, own fields, segments. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipesync.adapters.base import SiteField

MOST = 40
"""Own fields in a proposal; nobody reads more."""
_SEGMENT = re.compile(r"segment|tier|size|region|market|business.?unit|territory", re.IGNORECASE)


def propose(base: str, stages: Sequence[Mapping[str, Any]], fields: Sequence[SiteField]) -> str:
    """Return the text of a mapping that extends `base`. `stages` are rows of the stream of that name, in any order."""
    names = _names(fields)
    parts = [
        f"# Proposed by pipesync from what the CRM says of itself; yours to correct. It extends the shipped mapping,\n"
        f"# which lies beside it in the package: name here only what differs.\nversion: 1\nextends: pipesync:{base}\n"
    ]
    if names:
        parts.append(
            "# Your own fields, by the name that rules ask for (`custom.NAME`); take out what no rule needs.\n"
        )
        lines = [f"      {n}: {_quoted(f.name)}  # {_plain(f.label)}, {f.kind}\n" for n, f in names.items()]
        parts.append(f"streams:\n  opportunities:\n    custom:\n{''.join(lines)}")
    parts.append(_stages(stages))
    parts.append(_segments(names))
    return "\n".join(part for part in parts if part)


def _names(fields: Sequence[SiteField]) -> dict[str, SiteField]:
    found: dict[str, SiteField] = {}
    for field in sorted(fields, key=lambda f: f.name.casefold())[:MOST]:
        stem = re.sub(r"__c$", "", field.name)
        stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem)
        name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or "field"
        while name in found:
            name += "_2"
        found[name] = field
    return found


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    if not stages:
        return ""
    lines = [
        "# early, middle, late, won or lost: what lets one rule travel between pipelines. The CRM says which stages",
        "# end an opportunity; the others are divided into thirds, which only you can judge.",
        "pipelines:",
    ]
    by_pipeline: dict[str, list[Mapping[str, Any]]] = {}
    for stage in sorted(stages, key=lambda s: (str(s["pipeline"]), s["order"])):
        by_pipeline.setdefault(str(stage["pipeline"]), []).append(stage)
    for pipeline, found in by_pipeline.items():
        lines += [f"  {_quoted(pipeline)}:", "    stages:"]
        lines += [f"      {_quoted(str(stage['name']))}: {stage['phase']}" for stage in found]
    return "\n".join(lines) + "\n"


def _segments(names: Mapping[str, SiteField]) -> str:
    listed = {name: field for name, field in names.items() if field.options}
    fitting = [
        (name, field) for name, field in listed.items() if _SEGMENT.search(f"{field.name} {field.label}")
    ]
    if not fitting:
        return (
            "# Rules can differ by segment. Without a field for it, by amount:\n"
            "# segments:\n#   - {name: enterprise, when: {amount: {gte: 100000}}}\n#   - {name: smb}\n"
        )
    name, field = min(fitting, key=lambda one: len(one[1].options))
    lines = [
        f"# By {_plain(field.label)}. The first segment whose conditions hold is an opportunity's.",
        "segments:",
    ]
    lines += [
        f"  - {{name: {_quoted(option)}, when: {{{_quoted(f'custom.{name}')}: {_quoted(option)}}}}}"
        for option in field.options[:12]
    ]
    return "\n".join([*lines, "  - {name: other}"]) + "\n"


def _quoted(text: str) -> str:
    """Write a text as YAML does, on one line."""
    return (
        yaml.safe_dump(text, width=10_000, allow_unicode=True, default_flow_style=True)
        .removesuffix("...\n")
        .strip()
    )


def _plain(text: str) -> str:
    return " ".join(text.split())
