"""The made-up company: the same bytes for a seed, and exactly the planted problems.

The rules' conditions are written out here once more, over the files and in pandas, so that neither the generator nor
the rules engine is its own judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from pipesync.sandbox.company import AS_OF, Planted, generate

TODAY = pd.Timestamp(AS_OF).tz_localize(None)
PHASES = {
    "Qualify": "early", "Discover": "early", "Propose": "middle", "Security review": "middle", "Negotiate": "late",
    "Renewal due": "early", "In review": "middle", "Contract sent": "late",
}  # fmt: skip


class Company(NamedTuple):
    folder: Path
    planted: Planted
    open: pd.DataFrame
    """Open opportunities by id, with what the rules ask of them."""


def read(folder: Path, name: str, *times: str) -> pd.DataFrame:
    frame = pd.read_csv(folder / f"{name}.csv")
    for column in times:
        frame[column] = pd.to_datetime(frame[column], format="ISO8601").dt.tz_localize(None)
    return frame


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp("company")
    planted = generate(folder, opportunities=2000, seed=7)
    all_ = read(folder, "opportunities", "created_at", "closed_at", "close_date").set_index("opportunity_id")
    visits = read(folder, "stage_history", "entered_at")
    changes = read(folder, "field_history", "changed_at")
    activities = read(folder, "activities", "at")
    held = all_[all_["outcome"] == "Open"].copy()
    last = visits.groupby("opportunity_id").last()
    held["stage"], held["entered"] = last["stage"], last["entered_at"]
    held["phase"] = held["stage"].map(PHASES)
    moved = changes[changes["field"] == "close_date"]
    held["pushes"] = moved[moved["new"] > moved["old"]].groupby("opportunity_id").size()
    held["pushes"] = held["pushes"].fillna(0)
    held["last_done"] = activities[activities["is_done"]].groupby("opportunity_id")["at"].max()
    held["next"] = activities[~activities["is_done"]].groupby("opportunity_id")["at"].min()
    visits["left"] = visits.groupby("opportunity_id")["entered_at"].shift(-1)
    visits["pipeline"] = visits["opportunity_id"].map(all_["pipeline"])
    stays = visits[visits["left"].notna()].assign(days=lambda v: (v["left"] - v["entered_at"]).dt.days)
    p90 = stays.groupby(["pipeline", "stage"])["days"].quantile(0.9)
    held["p90"] = pd.MultiIndex.from_frame(held[["pipeline", "stage"]]).map(p90.to_dict())
    held["active"] = held["owner_id"].map(read(folder, "owners").set_index("owner_id")["is_active"])
    held["twins"] = held.groupby(["account_id", "type", "pipeline"])["name"].transform("size")
    return Company(folder, planted, held)


def idle(held: pd.DataFrame) -> pd.Series[int]:
    """Business days since the last activity."""
    days = held["last_done"].fillna(held["created_at"]).to_numpy().astype("datetime64[D]")
    return pd.Series(np.busday_count(days, np.datetime64(AS_OF.date())), held.index)


CONDITIONS: dict[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    "hygiene.close_date_past": lambda o: o["close_date"] < TODAY.normalize(),
    "hygiene.close_date_pushed": lambda o: o["pushes"] >= 3,
    "hygiene.no_activity": lambda o: idle(o) >= o["phase"].map({"early": 14, "middle": 10, "late": 7}),
    "hygiene.no_next_activity": lambda o: o["next"].isna() | (o["next"] < TODAY),
    "hygiene.no_next_step": lambda o: o["next_step"].isna() & ~o["stage"].isin(["Qualify", "Renewal due"]),
    "hygiene.amount_missing": lambda o: o["amount"].isna() | (o["amount"] == 0),
    "hygiene.stale_commit": lambda o: (
        (o["forecast_category"] == "commit") & (idle(o) >= 10) & ~(o["next"] < TODAY + pd.Timedelta("7D"))
    ),
    "hygiene.category_stage_mismatch": lambda o: (
        ((o["forecast_category"] == "commit") & (o["phase"] != "late"))
        | ((o["phase"] == "late") & o["forecast_category"].isin(["omitted", "pipeline"]))
    ),
    "hygiene.single_threaded": lambda o: (
        (o["contact_count"] <= 1) & (o["phase"] != "early") & (o["amount"] >= 25000)
    ),
    "hygiene.owner_inactive": lambda o: o["active"] != True,  # noqa: E712  # a missing owner is not active
    "hygiene.duplicate_open": lambda o: o["twins"] > 1,
    "bottleneck.stuck_in_stage": lambda o: (TODAY - o["entered"]).dt.days > 1.2 * o["p90"],
}


@pytest.mark.parametrize("rule", sorted(CONDITIONS))
def test_planted_problems_are_exactly_those_that_are_there(company: Company, rule: str) -> None:
    """Each rule's condition holds for what was planted, and for nothing else."""
    found = set(company.open.index[CONDITIONS[rule](company.open)])

    also = set(company.planted.rules["hygiene.stale_commit"]) if rule == "hygiene.no_activity" else set()
    assert found == set(company.planted.rules[rule]) | also
    assert len(company.planted.rules[rule]) >= 6


def test_every_rule_is_planted_on_opportunities_of_its_own(company: Company) -> None:
    """No opportunity carries two problems, and every rule of the recommended preset has some."""
    planted = [i for ids in company.planted.rules.values() for i in ids]

    assert company.planted.rules.keys() == CONDITIONS.keys()
    assert len(planted) == len(set(planted))


def test_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs with one seed agree to the byte; another seed differs."""
    digests = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        generate(tmp_path / folder, opportunities=300, seed=seed)
        files = sorted((tmp_path / folder).iterdir())
        digests.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_history_ends_where_the_present_begins(company: Company) -> None:
    """The last change of every field is its current value, and changes of a field form a chain."""
    changes = read(company.folder, "field_history").sort_values("changed_at", kind="stable")
    now = pd.read_csv(company.folder / "opportunities.csv").set_index("opportunity_id")
    grouped = changes.groupby(["opportunity_id", "field"])
    last = grouped["new"].last(skipna=False)
    current = pd.Series(
        [now.at[i, f] for i, f in last.index], index=last.index, dtype=object
    ).where(lambda v: v.notna(), None)  # fmt: skip
    current = current.map(lambda v: f"{v:.0f}" if isinstance(v, float) else v)
    before = grouped["new"].shift(1)
    chained = before.isna() | (before == changes["old"])

    assert last.where(last.notna(), None).equals(current)
    assert chained.all()


def test_nothing_happens_before_creation_or_after_the_moment(company: Company) -> None:
    """Stages, changes and done activities lie between an opportunity's creation and `as_of`."""
    created = read(company.folder, "opportunities", "created_at").set_index("opportunity_id")["created_at"]
    for name, column in (
        ("stage_history", "entered_at"),
        ("field_history", "changed_at"),
        ("activities", "at"),
    ):
        rows = read(company.folder, name, column)
        past = rows if name != "activities" else rows[rows["is_done"]]

        assert (past[column] >= past["opportunity_id"].map(created)).all(), name
        assert (past[column] <= TODAY).all(), name


def test_the_slow_stage_and_the_loop_are_there(company: Company) -> None:
    """The slow stage has the longest median stay, its queue grows, and the loop is the commonest way back."""
    visits = read(company.folder, "stage_history", "entered_at")
    pipelines = pd.read_csv(company.folder / "opportunities.csv").set_index("opportunity_id")["pipeline"]
    visits["pipeline"] = visits["opportunity_id"].map(pipelines)
    visits["next"] = visits.groupby("opportunity_id")["stage"].shift(-1)
    visits["left"] = visits.groupby("opportunity_id")["entered_at"].shift(-1)
    pipeline, slow = company.planted.slow_stage
    new = visits[visits["pipeline"] == pipeline]
    order = ["Qualify", "Discover", "Propose", "Security review", "Negotiate"]
    back = new[new["next"].isin(order) & new["stage"].isin(order)]
    back = back[back["next"].map(order.index) < back["stage"].map(order.index)]
    here = new[new["stage"] == slow]
    weeks = pd.interval_range(TODAY - pd.Timedelta("28D"), TODAY, freq="7D")
    came, went = (pd.cut(here[c], weeks).value_counts(sort=False) for c in ("entered_at", "left"))

    stays = (new["left"] - new["entered_at"]).groupby(new["stage"]).median()
    assert stays.idxmax() == slow
    assert (came > went).all()
    assert back.groupby(["stage", "next"]).size().idxmax() == company.planted.rework[1:]


def test_any_moment_will_do(tmp_path: Path) -> None:
    """A company as of a Sunday night is whole too, and as large as asked."""
    planted = generate(tmp_path, opportunities=400, as_of=datetime(2025, 3, 2, 23, 30, tzinfo=UTC))

    assert planted.opportunities == len(pd.read_csv(tmp_path / "opportunities.csv")) == 400
    assert "as_of: 2025-03-02T23:30:00Z" in (tmp_path / "mapping.yaml").read_text()
    assert all(planted.rules.values())


def test_activities_scale_as_asked(tmp_path: Path) -> None:
    """Benchmarks ask for more activities per opportunity and get about as many."""
    generate(tmp_path, opportunities=500, activities_per_opportunity=40)

    assert 36 <= len(pd.read_csv(tmp_path / "activities.csv")) / 500 <= 44
