"""Every number, bar and point opens the list behind it, and the list is what the number counts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from tests.report.html.conftest import Company, Open
from tests.report.html.test_pages import PAGES

pytestmark = pytest.mark.thorough

WITHOUT_A_LIST = {
    "forecast: What it rests on",  # a parameter of the model
    "pipeline: What would move it most",  # what would be if
    "team: Where to coach",  # how many have nothing to tell
    "sources: From lead to win",  # how long conversion takes
    "hygiene: By rule",  # how many rules find nothing
}
_COUNTED_OTHERWISE = ("ever=1", "run-", "rule=", "severity=", "findings=")
"""Numbers of findings, of writes, and of what is older than what is listed; each opens the opportunities."""
_NUMBERS = """() => [...document.querySelectorAll(".report.current .page.current data")].map(d => ({
    where: (d.closest(".block") && d.closest(".block").querySelector("h2") || {}).textContent || "",
    drill: (d.closest("[data-drill]") || {dataset: {}}).dataset.drill || "",
    kind: d.dataset.kind, value: Number(d.value), axis: Boolean(d.closest(".y, [data-list]")),
}))"""
_MARKS = """() => [...document.querySelectorAll(
    ".report.current .page.current :is(.dot, .drawn, .tick a, .map a)")].map(a => a.dataset.drill)"""
# Opens every list in turn, as a click does, and tells what stands in it.
_OPENED = """async (drills) => {
  const told = [];
  for (const drill of drills) {
    const done = new Promise(next => addEventListener("hashchange", next, {once: true}));
    location.hash = "#overview?" + new URLSearchParams({list: drill});
    await done;
    const body = document.querySelector("#drawer .body"), count = body.querySelector(".said data[data-kind=count]");
    told.push([drill, body.querySelector("h2").textContent, count ? Number(count.value) : null,
               body.querySelectorAll("tbody tr").length, body.textContent]);
  }
  return told;
}"""


@pytest.fixture
def numbers(open_report: Open, company: Company) -> dict[str, Any]:
    """What stands on every page, and the reader who read it."""
    reader, found, marks = open_report(company.report()), [], []
    for name in PAGES:
        reader.page.locator(f".menu a[data-page={name}]").click()
        expect(reader.current("h1")).to_be_visible()
        found += [{**one, "page": name} for one in reader.page.evaluate(_NUMBERS)]
        marks += reader.page.evaluate(_MARKS)
    return {"reader": reader, "numbers": found, "marks": marks}


def test_every_number_opens_a_list(numbers: dict[str, Any]) -> None:
    """Zero has none, and neither has what counts no opportunities; every mark of a drawing has one."""
    bare = {
        f"{n['page']}: {n['where']}"
        for n in numbers["numbers"]
        if not n["drill"] and not n["axis"] and n["value"]
    }
    assert bare <= WITHOUT_A_LIST
    assert len(numbers["numbers"]) > 500
    assert len(numbers["marks"]) > 100
    assert all(numbers["marks"])


def test_the_list_is_what_the_number_counts(numbers: dict[str, Any]) -> None:
    """A count is its list's length, unless older ones are counted too; no list is of nothing known."""
    counts: dict[str, set[float]] = {}
    for n in numbers["numbers"]:
        if n["kind"] == "count" and n["drill"] and not n["drill"].startswith("opp="):
            counts.setdefault(n["drill"], set()).add(n["value"])
    drills = sorted({n["drill"] for n in numbers["numbers"] if n["drill"]} | set(numbers["marks"]))
    lists = [d for d in drills if not d.startswith("opp=")]
    told = numbers["reader"].page.evaluate(_OPENED, lists)
    assert [name for name, title, *_ in told if not title or "undefined" in title] == []
    assert [name for name, *_, text in told if "NaN" in text or "undefined" in text] == []
    length = {name: n for name, _, n, *_ in told}
    wrong = {
        name: (length[name], values)
        for name, values in counts.items()
        if not any(word in name for word in _COUNTED_OTHERWISE) and values != {length[name]}
    }
    assert wrong == {}
    assert len(lists) > 200
