"""Validate recorded exchanges by OpenAPI documents; runs in an environment that has openapi-core and no pipesync.

    python hubspot_openapi_judge.py DIR EXCHANGES.json

What HubSpot's documentation shows otherwise than its files is taken as known, and turned into the files' form: objects
as `sorts` of a search; a blank property as null; in v4 associations numbers as ids and nulls as labels; the errors of a
batch without `links` and with a text as `subCategory`. A success that a file does not describe is counted apart.
Exits with 1 where an exchange is wrong, or in no document.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse

Exchange = dict[str, Any]  # Any: JSON
Endpoint = tuple[Path, str, re.Pattern[str], set[str]]
"""File, path template, its pattern, methods."""


def judge(folder: Path, exchanges: list[Exchange]) -> int:
    """Print per endpoint how many exchanges are right, and what is wrong with the others; return how many are not."""
    documents = _documents(folder)
    loaded: dict[Path, Any] = {}
    right, half, wrong, unknown = (Counter[str]() for _ in range(4))
    seen: set[str] = set()
    for one in exchanges:
        found = _matching(documents, one["path"], one["method"])
        endpoint = f"{one['method']:<6}{found[1] if found else one['path']}"
        if found is None:
            unknown[endpoint] += 1
            continue
        file, _ = found
        if file not in loaded:
            loaded[file] = OpenAPI.from_dict(_document(file))
        kind = one["headers"].get("content-type", "application/json")
        request = MockRequest(
            "https://api.hubapi.com", one["method"].lower(), one["path"], args=parse_qs(one["query"]),
            headers=one["headers"], data=_asked(one).encode() or None, content_type=kind,
        )  # fmt: skip
        problems = [*loaded[file].iter_request_errors(request)]
        is_described = _describes(found, one)
        if one["answer"] and is_described:
            answer = MockResponse(_answered(one).encode(), one["status"], content_type="application/json")
            problems += loaded[file].iter_response_errors(request, answer)
        (wrong if problems else right if is_described else half)[endpoint] += 1
        for problem in problems:
            told = f"{endpoint} {one['status']}: {_said(problem)}"
            if told not in seen:
                seen.add(told)
                print(f"WRONG {told}")
    for endpoint in sorted({*right, *half, *wrong}):
        more = f"   {half[endpoint]} with an answer that is not described" if half[endpoint] else ""
        print(f"{right[endpoint]:>5} right{wrong[endpoint]:>5} wrong   {endpoint}{more}")
    for endpoint, count in unknown.items():
        print(f"{count:>5} in no file{'':>6}   {endpoint}")
    return wrong.total() + unknown.total()


def _documents(folder: Path) -> list[Endpoint]:
    """Return every path of every OpenAPI document."""
    found = []
    for file in sorted(folder.rglob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        if not (isinstance(document, dict) and "openapi" in document):
            continue
        for path, methods in document.get("paths", {}).items():
            pattern = re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(path)))
            found.append((file, path, pattern, set(methods)))
    return found


def _matching(documents: list[Endpoint], path: str, method: str) -> tuple[Path, str] | None:
    """Return the document and template of a path: the most literal one, and of equals that of all objects."""
    there = [(f, p) for f, p, pattern, methods in documents
             if method.lower() in methods and pattern.fullmatch(path)]  # fmt: skip
    return min(there, key=lambda t: (t[1].count("{"), t[0].stem != "objects", str(t[0])), default=None)


@cache
def _document(file: Path) -> Any:  # Any: JSON
    """Read a document. Its `*/*` is JSON, which a validator cannot know."""
    return json.loads(file.read_text(encoding="utf-8").replace('"*/*"', '"application/json"'))


def _asked(one: Exchange) -> str:
    if not one["path"].endswith("/search"):
        return str(one["body"])
    given = json.loads(one["body"])
    return json.dumps({**given, "sorts": [s["propertyName"] for s in given["sorts"]]})


def _describes(found: tuple[Path, str], one: Exchange) -> bool:
    """Tell whether a document says what this answer looks like; several only say what errors do."""
    file, template = found
    known = _document(file)["paths"][template][one["method"].lower()]["responses"]
    return str(one["status"]) in known or one["status"] >= 400


def _answered(one: Exchange) -> str:
    told = json.loads(one["answer"])
    for record in told.get("results", ()):
        if isinstance(record.get("properties"), dict):
            record["properties"] = {n: v for n, v in record["properties"].items() if v is not None}
        for target in record.get("to", ()) if "/v4/" in one["path"] else ():
            target["toObjectId"] = str(target["toObjectId"])
            for kind in target["associationTypes"]:
                if kind["label"] is None:
                    del kind["label"]
    if one["status"] == 207:
        for error in told.get("errors", ()):
            error.pop("subCategory", None)
            error |= {"links": {}, "errors": error.get("errors", [])}
    return json.dumps(told)


def _said(problem: Exception) -> str:
    cause = problem.__cause__
    inner = [str(getattr(e, "message", e))[:200] + f" at {list(e.absolute_path)}"
             for e in getattr(cause, "schema_errors", ())]  # fmt: skip
    return "; ".join(inner[:3]) or f"{problem} {cause or ''}".strip()[:400]


if __name__ == "__main__":
    recorded = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    sys.exit(int(judge(Path(sys.argv[1]), recorded) > 0))
