"""The report as one HTML file, with its lists as CSV beside it.

`render` is pure: view models and templates in, text out. `write` puts the files where they belong, each whole.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipesync import __version__
from pipesync.report import documents
from pipesync.report.encode import to_csv
from pipesync.report.html.blocks import Cell, Page, Sets, moment
from pipesync.report.html.data import document
from pipesync.report.html.pages import pages
from pipesync.report.material import Material

_ROW_KEYS = (
    "connection",
    "id",
    "name",
    "account_name",
    "owner_id",
    "owner_name",
    "team",
    "pipeline",
    "stage",
    "amount",
    "currency",
    "close_date",
    "created_at",
    "closed_at",
    "is_open",
    "is_won",
    "product",
    "source",
    "segment",
    "forecast_category",
    "next_step",
    "last_activity_at",
    "next_activity_at",
    "win_probability",
    "win_in_period",
)
_DAY_KEYS = (
    "connection",
    "owner_id",
    "place",
    "opportunity_id",
    "name",
    "stage",
    "amount",
    "win_probability",
    "action",
    "because",
)
_FORECAST_KEYS = (
    "connection",
    "scope",
    "scope_id",
    "currency",
    "p10",
    "p50",
    "p90",
    "mean",
    "closed",
    "open",
    "new",
    "low",
    "high",
)
_PRODUCT_KEYS = (
    "connection",
    "product",
    "open",
    "open_amount",
    "decided",
    "won",
    "won_amount",
    "win_rate",
    "average",
    "cycle_days",
    "trend",
)
_SOURCE_KEYS = (
    "connection",
    "key",
    "leads",
    "young",
    "wins",
    "won_amount",
    "average",
    "touch_hours",
    "convert_days",
    "leads_per_week",
)
_WRITE_KEYS = ("connection", "run", "action", "object", "opportunity_id", "owner_id", "target", "settled_at")

Rows = Iterable[Mapping[str, Any]]  # Any: JSON


@dataclass(frozen=True)
class Rendered:
    """One connection's part of the file."""

    connection: str
    as_of: Cell
    pages: tuple[Page, ...]
    data: str


def render(materials: Sequence[Material], files: str) -> str:
    """Return the report as HTML; `files` is what the names of the CSVs beside it begin with."""
    parts = []
    for made in materials:
        sets = Sets()
        shown = pages(made, sets)
        parts.append(
            Rendered(made.connection, moment(made.as_of), shown, Markup(document(made, sets, files)))  # noqa: S704  # escaped for a script by `document`
        )
    early, script = _asset("early.js"), _script()
    first = materials[0]
    return (
        _templates()
        .get_template("report.html")
        .render(
            title=f"{_who(first)}, {first.as_of:%-d %b %Y}",
            who=_who(first),
            home="today" if first.audience.kind == "rep" else "overview",
            reports=parts,
            files=files,
            version=__version__,
            style=Markup(_asset("report.css")),  # noqa: S704  # ours
            early=Markup(early),  # noqa: S704  # ours
            script=Markup(script),  # noqa: S704  # ours
            hashes=[_hash(early), _hash(script)],
        )
    )


def _hash(script: str) -> str:
    """Name a script as the page's security policy does: nothing else may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _who(made: Material) -> str:
    if made.audience.kind == "leader":
        return "Pipeline report"
    name = made.name(made.audience.person)
    return f"{name}'s team" if made.audience.kind == "manager" else name


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pipesync.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return resources.files("pipesync.report.html").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """Join the script's files in one scope, which nothing else sees."""
    parts = "\n".join(_asset(name) for name in ("values.js", "lists.js", "drawer.js", "page.js"))
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def lists(materials: Sequence[Material]) -> Iterator[tuple[str, str]]:
    """Yield (name, CSV) of every list that the report shows the top of."""
    yield "opportunities.csv", to_csv((r for m in materials for r in _rows(m)), _ROW_KEYS)
    yield (
        "findings.csv",
        to_csv((documents.finding(f) for m in materials for f in m.findings), documents.FINDING_KEYS),
    )
    yield "today.csv", to_csv(_each(materials, lambda m: m.today.items), _DAY_KEYS)
    yield "products.csv", to_csv(_each(materials, lambda m: m.products.rows), _PRODUCT_KEYS)
    yield "sources.csv", to_csv(_each(materials, lambda m: m.sources.rows), _SOURCE_KEYS)
    figures = (
        dict(p) | {"connection": m.connection} for m in materials for ps in m.rollups.values() for p in ps
    )
    yield "forecast.csv", to_csv(figures, _FORECAST_KEYS)
    entries = (dict(e) for m in materials for r in m.runs for e in r.entries if e.status == "applied")
    yield "writes.csv", to_csv(entries, _WRITE_KEYS)


def _each(materials: Sequence[Material], of: Any) -> Rows:  # Any: a function from a material to dataclasses
    return (asdict(one) | {"connection": m.connection} for m in materials for one in of(m))


def _rows(made: Material) -> Rows:
    for row in made.rows:
        chance = made.chances.get(row["id"])
        known = (
            {"win_probability": chance.win_probability, "win_in_period": chance.win_in_period}
            if chance
            else {}
        )
        yield {**row, **known, "connection": made.connection}


def write(materials: Sequence[Material], out: Path) -> list[Path]:
    """Write the report and its lists; return the files. Each appears whole, or stays what it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in lists(materials):
        written.append(_put(out.with_name(f"{out.stem}-{name}"), content))
    written.append(_put(out, render(materials, out.stem)))
    return written[::-1]


def _put(file: Path, content: str) -> Path:
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(content, encoding="utf-8", newline="")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return file
