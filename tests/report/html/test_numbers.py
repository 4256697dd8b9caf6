"""The report computes nothing: what stands on its pages is what the commands say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.report.html.conftest import Company, run

from pipesync.config import load
from pipesync.features import compute
from pipesync.forecast.calls import calls, of_methods
from pipesync.steps import foretell
from pipesync.store.ledger import Ledger
from pipesync.store.opening import published
from pipesync.store.warehouse import Warehouse

pytestmark = pytest.mark.thorough


class Numbers(HTMLParser):
    """Collects the numbers of a report by their key; a key that has two values is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, float] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "data" and given.get("data-key"):
            key, value = str(given["data-key"]), float(str(given["value"]))
            assert self.found.setdefault(key, value) == value, key


@pytest.fixture(scope="module")
def numbers(company: Company) -> dict[str, float]:
    reader = Numbers()
    reader.feed(company.report().read_text(encoding="utf-8"))
    return reader.found


@pytest.fixture(scope="module")
def embedded(company: Company) -> Any:  # Any: JSON
    """What the lists of the report are made of."""
    text = company.report().read_text(encoding="utf-8")
    start = text.index(">", text.index('<script type="application/json"')) + 1
    return json.loads(text[start : text.index("</script>", start)])


@pytest.fixture(scope="module")
def remembering(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The same company with forecasts in its ledger: of a week ago, and of the quarter before."""
    folder = tmp_path_factory.mktemp("remembering") / "company"
    shutil.copytree(company.folder, folder, ignore=shutil.ignore_patterns("*.html", "*.csv.part"))
    config = load(folder / "pipesync.yaml")
    with Warehouse(published(config.warehouse), read_only=True) as store, Ledger(config.ledger_url) as ledger:
        moment = store.pulled_to("company") - timedelta(days=8)
        made = foretell(store, "company", config, moment)
        said = calls(store, compute(store, "company", moment, config.calendar), made.period)
        said += of_methods(made.total, made.baselines)
        issued = [one for groups in made.rollups.values() for one in groups]
        ledger.issue("run-0", moment, issued, calls=said, opportunities=made.opportunities)
        # The same words as of three moments of the quarter before: there, what came is known.
        before = {"period_start": date(2026, 7, 1), "period_end": date(2026, 10, 1)}
        for month in (7, 8, 9):
            ledger.issue(
                f"run-{month}",
                datetime(2026, month, 20, 8, tzinfo=UTC),
                [one.model_copy(update=before) for one in issued],
                calls=[one.model_copy(update=before) for one in said],
            )
    return Company(folder)


@pytest.fixture(scope="module")
def remembered(remembering: Company) -> dict[str, float]:
    reader = Numbers()
    reader.feed(remembering.report().read_text(encoding="utf-8"))
    return reader.found


def _told(company: Company, *words: str) -> Any:  # Any: JSON
    (entry,) = json.loads(run(*words, "--config", company.config, "--format", "json"))["connections"]
    return entry


def _same(numbers: dict[str, float], expected: dict[str, float | None]) -> None:
    """Each expected number stands in the report, to the cent; what is None is not a number there."""
    shown = {key: numbers.get(key) for key in expected}
    wanted = {
        key: None if value is None else pytest.approx(value, abs=0.006) for key, value in expected.items()
    }
    assert shown == wanted


def test_the_overview_and_the_forecast_say_what_forecast_says(
    company: Company, numbers: dict[str, float]
) -> None:
    """Total, every owner and every product."""
    told = _told(company, "forecast")
    wanted = {
        f"forecast.total.{k}": told["total"][k] for k in ("low", "p50", "high", "closed", "open", "new")
    }
    for scope, name in (("owner", "owner_id"), ("product", "product")):
        for one in told[f"by_{scope}"]:
            for k in ("p10", "p50", "p90", "closed"):
                wanted[f"forecast.{scope}.{one[name]}.{k}"] = one[k]
    assert len(told["by_owner"]) > 5
    _same(numbers, wanted)


def test_the_way_to_the_end_is_that_of_forecast(company: Company, numbers: dict[str, float]) -> None:
    """Every week to come, low, likely and high."""
    coming = [w for w in _told(company, "forecast")["path"] if not w["is_past"]]
    assert len(coming) > 3
    _same(numbers, {f"path.{w['end']}.{k}": w[k] for w in coming for k in ("p10", "p50", "p90")})


def test_the_plans_are_those_of_forecast(company: Company, numbers: dict[str, float]) -> None:
    """Every row that is shown of plan A and plan B, and what plan A lacks."""
    plans = _told(company, "forecast")["plans"]
    wanted: dict[str, float | None] = {
        f"plan-{name}.{one['id']}.{k}": one[k]
        for name in ("a", "b")
        for one in plans[name][:15]
        for k in ("win_in_period", "win_probability", "running")
        if (name, k) != ("b", "running")
    }
    assert {"plan-a", "plan-b"} == {key.split(".")[0] for key in wanted}
    _same(numbers, wanted | {"plan.short": plans["short"] or None})


def test_quota_gap_and_chance_are_those_of_forecast(company: Company, numbers: dict[str, float]) -> None:
    """Of the whole, and of everybody who has a quota."""
    targets = _told(company, "forecast")["targets"]
    [total] = [t for t in targets if t["scope"] == "total"]
    wanted = {f"{k}.total": total[k] for k in ("quota", "gap", "reach", "coverage")}
    for t in targets:
        if t["scope"] == "owner":
            wanted |= {f"{k}.owner.{t['scope_id']}": t[k] for k in ("quota", "reach")}
    assert len(wanted) > 20
    _same(numbers, wanted)


def test_why_it_changed_is_what_changes_says(remembering: Company, remembered: dict[str, float]) -> None:
    """Kind by kind, from what was expected a week ago to what is expected now."""
    told = _told(remembering, "forecast", "changes", "--since", "2026-11-10")
    wanted = {"changes.start": told["start"], "changes.end": told["end"]}
    wanted |= {f"changes.{kind}": amount for kind, amount in told["by_kind"].items() if abs(amount) >= 0.5}
    assert len(wanted) > 4
    _same(remembered, wanted)


def test_how_good_it_was_is_what_accuracy_says(remembering: Company, remembered: dict[str, float]) -> None:
    """The forecast's error beside that of people's commit and of every simpler method."""
    rows = _told(remembering, "forecast", "accuracy")["accuracy"]
    [total] = [r for r in rows if r["scope"] == "total" and r["week"] is None]
    wanted = {f"accuracy.total.{k}": total[k] for k in ("count", "wape", "bias", "coverage_80")}
    wanted["accuracy.total.commit.wape"] = total["call_wape"]
    wanted |= {f"accuracy.total.method.{m['kind']}.wape": m["wape"] for m in total["methods"]}
    assert total["count"] == 3
    assert len(total["methods"]) == 5
    _same(remembered, wanted)


def test_every_open_opportunity_has_the_forecasts_probability(company: Company, embedded: Any) -> None:
    """In the lists, to the thousandth."""
    told = {o["id"]: o["win_probability"] for o in _told(company, "forecast")["opportunities"]}
    rows = embedded["rows"]
    shown = {i: w for i, w, state in zip(rows["id"], rows["win"], rows["state"], strict=True) if state == 0}
    assert shown == {name: pytest.approx(value, abs=0.0006) for name, value in told.items()}


def test_the_pipeline_says_what_bottlenecks_says(company: Company, numbers: dict[str, float]) -> None:
    """Stages, and what mending each bottleneck would be worth."""
    told = _told(company, "bottlenecks")
    wanted: dict[str, float | None] = {}
    for s in told["stages"]:
        wanted[f"wip.{s['pipeline']}.{s['stage']}"] = s["wip"]
        wanted[f"advance.{s['pipeline']}.{s['stage']}"] = s["advance"]
    for b in told["ranked"][:6]:
        wanted[f"bottleneck.{b['kind']}.{b['pipeline'] or ''}.{b['subject']}"] = b["amount"]
    _same(numbers, wanted)


@pytest.mark.parametrize("topic", ["waterfall", "coverage", "linearity", "velocity"])
def test_the_pipeline_says_what_analyze_says(company: Company, numbers: dict[str, float], topic: str) -> None:
    """How it got here, whether it is enough, when it is won and how fast it flows."""
    told = _told(company, "analyze", topic)[topic]
    if topic == "waterfall":
        down = {"decreased", "moved_out", "pushed_out", "lost", "won"}
        wanted = {
            f"waterfall.{r['step']}": -r["amount"] if r["step"] in down else r["amount"]
            for r in told
            if r["amount"] or r["step"] in ("start", "end")
        }
    elif topic == "coverage":
        wanted = {f"coverage.{r['scope_id']}": r["coverage"] for r in told if r["scope"] == "owner_id"}
    elif topic == "linearity":
        wanted = {f"won.{r['period']}": r["won_amount"] for r in told if r["won"]}
    else:
        (only,) = told
        wanted = {f"velocity.{k}": only[k] for k in ("per_day", "win_rate")}
    assert wanted
    _same(numbers, wanted)


@pytest.mark.parametrize(
    ("topic", "name", "key", "figures"),
    [
        ("owners", "owner", "owner_id", ("open", "open_amount", "won", "win_rate")),
        ("products", "product", "product", ("open", "open_amount", "won_amount", "win_rate")),
        ("sources", "source", "key", ("leads", "wins", "won_amount")),
    ],
)
def test_team_products_and_sources_say_what_analyze_says(
    company: Company, numbers: dict[str, float], topic: str, name: str, key: str, figures: tuple[str, ...]
) -> None:
    """Every row of the command."""
    told = _told(company, "analyze", topic)[topic]
    assert told
    _same(numbers, {f"{name}.{r[key]}.{figure}": r[figure] for r in told for figure in figures})


def test_today_says_what_analyze_says(company: Company, embedded: Any) -> None:
    """Every opportunity of the day with its place, in the order in which to take them."""
    told = [i["opportunity_id"] for i in _told(company, "analyze", "today")["today"] if i["place"] == "work"]
    ids = embedded["rows"]["id"]
    assert [ids[i] for i in embedded["sets"]["today-work"][1]] == told


def test_hygiene_says_what_check_says(company: Company, numbers: dict[str, float], embedded: Any) -> None:
    """The score, the findings of each rule, and whose opportunities they are."""
    told = _told(company, "check")
    by_rule = Counter(f["rule"] for f in told["findings"])
    wanted = {"score": told["score"]} | {f"rule.{r}.findings": n for r, n in by_rule.items()}
    by_owner = Counter(f["owner_id"] for f in told["findings"] if f["owner_id"])
    _same(numbers, wanted | {f"findings.owner.{o}": n for o, n in by_owner.items()})
    found = {i for i, f in enumerate(embedded["rows"]["id"]) if str(i) in embedded["rows"]["found"] and f}
    assert len(found) == len({f["opportunity_id"] for f in told["findings"] if f["opportunity_id"]})


def test_hygiene_says_of_each_rule_what_rules_list_says(company: Company, numbers: dict[str, float]) -> None:
    """How often it fired and what it foretold; what is overdue depends on the day, which is another one there."""
    told = json.loads(run("rules", "list", "--config", company.config, "--format", "json"))["rules"]
    fired = [r for r in told if r["episodes"]]
    assert fired
    _same(
        numbers,
        {f"rule.{r['id']}.{k}": r[k] for r in fired for k in ("episodes", "foretold")},
    )


def test_runs_say_what_status_says(company: Company, numbers: dict[str, float]) -> None:
    """Every run with what it wrote."""
    told = json.loads(run("status", "--config", company.config, "--format", "json"))["runs"]
    assert told
    _same(numbers, {f"run.{r['id']}.applied": r["detail"]["applied"] for r in told})
