"""The company as files: what the opportunities look like, their history, and the people and things around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipesync.sandbox.company import around
from pipesync.sandbox.company.around import ids, take, times
from pipesync.sandbox.company.plants import Plants, phase_of
from pipesync.sandbox.company.shape import (
    LOST,
    LOST_REASONS,
    NEXT_STEPS,
    PIPELINES,
    PRODUCTS,
    RENEWALS,
    SOURCES,
    WON,
)
from pipesync.sandbox.company.simulate import LEAVER, Company, Flags, Floats, Ints, calendar_days


def write(
    folder: Path, rng: np.random.Generator, company: Company, plants: Plants, activities: float
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    flags = {rule: _flags(len(company), rows) for rule, rows in plants.items()}
    facts = _facts(rng, company, plants, flags)
    tables = {
        "opportunities": _opportunities(company, facts),
        "stage_history": _stage_history(company),
        "field_history": _field_history(rng, company, facts),
        "activities": around.activities(rng, company, facts.owner, flags, activities),
        "contact_roles": around.contact_roles(rng, facts.contacts),
        "line_items": facts.line_items,
        "accounts": around.accounts(rng, company, facts.account),
        "owners": around.owners(),
        "products": around.products(),
        "leads": around.leads(rng, company, facts.owner),
        "quotas": around.quotas(company, facts.owner, facts.amount),
    }
    for name, table in tables.items():
        pa.csv.write_csv(table, folder / f"{name}.csv", pa.csv.WriteOptions(quoting_style="needed"))
    (folder / "mapping.yaml").write_text(_mapping(company), encoding="utf-8")


def opportunity_ids(rows: Ints) -> pa.Array:
    return ids("OPP-", rows)


def _flags(count: int, rows: Ints) -> Flags:
    found = np.zeros(count, dtype=bool)
    found[rows] = True
    return found


@dataclass(frozen=True)
class _Facts:
    """What the opportunities' own columns say now; positions in the lists of `shape`, where they are words."""

    account: Ints
    owner: Ints
    kind: Ints
    product: Ints
    amount: Floats
    without_amount: Flags
    line_items: pa.Table
    contacts: Ints
    close: npt.NDArray[np.datetime64]
    pushes: Ints
    category: npt.NDArray[np.object_]
    next_step: Ints
    without_next_step: Flags
    lost_reason: Ints


def _facts(rng: np.random.Generator, company: Company, plants: Plants, flags: Mapping[str, Flags]) -> _Facts:
    count = len(company)
    account = _accounts(rng, company)
    kind = np.where(company.pipeline == RENEWALS, 1, np.where(rng.random(count) < 0.2, 2, 0))
    product = rng.choice(len(PRODUCTS), count, p=(0.34, 0.24, 0.16, 0.12, 0.08, 0.06))
    first, second = plants["hygiene.duplicate_open"][::2], plants["hygiene.duplicate_open"][1::2]
    for column in (account, kind, product):
        column[second] = column[first]

    single, without_amount = flags["hygiene.single_threaded"], flags["hygiene.amount_missing"]
    line_items, amount = around.line_items(rng, product, single, without_amount)
    past = flags["hygiene.close_date_past"]
    ahead = np.where(past, -rng.uniform(3, 25, count), rng.uniform(8, 65, count))
    close = np.where(company.is_open, ahead, company.ended)
    close[second] = close[first] + 4
    pushes = rng.choice(3, count, p=(0.6, 0.28, 0.12))
    pushes = np.where(company.is_open, np.where(company.created < -60, np.minimum(pushes, 1), 0), pushes)
    pushes = np.where(flags["hygiene.close_date_pushed"], rng.integers(3, 6, count), pushes)
    pushes[past] = 0
    return _Facts(
        account=account,
        owner=np.where(flags["hygiene.owner_inactive"], LEAVER, company.owner),
        kind=kind,
        product=product,
        amount=amount,
        without_amount=without_amount,
        line_items=line_items,
        contacts=np.where(single, 1, rng.integers(2, 6, count)),
        close=calendar_days(close, company.as_of),
        pushes=pushes,
        category=_categories(rng, company, flags),
        next_step=rng.integers(0, len(NEXT_STEPS), count),
        without_next_step=flags["hygiene.no_next_step"],
        lost_reason=rng.integers(0, len(LOST_REASONS), count),
    )


def _accounts(rng: np.random.Generator, company: Company) -> Ints:
    """No two open opportunities share an account, except where they are planted to."""
    total = around.account_count(len(company))
    account = rng.integers(0, total, len(company))
    running = np.flatnonzero(company.is_open)
    account[running] = rng.permutation(total)[: len(running)]
    return account


def _categories(
    rng: np.random.Generator, company: Company, flags: Mapping[str, Flags]
) -> npt.NDArray[np.object_]:
    category = np.empty(len(company), dtype=object)
    for index, steps in enumerate(PIPELINES.values()):
        mine = company.pipeline == index
        category[mine] = np.asarray([s.category for s in steps], dtype=object)[company.stage[mine]]
    phases = phase_of(company)
    careful = (phases == "late") & (rng.random(len(company)) < 0.3) & ~flags["hygiene.stale_commit"]
    category[careful] = "most_likely"
    odd = flags["hygiene.category_stage_mismatch"]
    category[odd] = np.where(phases[odd] == "late", "pipeline", "commit")
    category[company.is_won] = "closed"
    category[~company.is_open & ~company.is_won] = "omitted"
    return category


# --- Opportunities and their past -------------------------------------------------------------------------------


def _stage_names(company: Company, pipeline: Ints, stage: Ints) -> pa.Array:
    names = [s.name for steps in PIPELINES.values() for s in steps]
    starts = np.cumsum([0, *(len(steps) for steps in PIPELINES.values())])
    return take(tuple(names), starts[pipeline] + stage)


def _opportunities(company: Company, facts: _Facts) -> pa.Table:
    count = len(company)
    rows = np.arange(count)
    names = tuple(n for n, _, _ in PRODUCTS)
    kinds = ("New", "Renewal", "Expansion")
    probabilities = np.empty(count)
    for index, steps in enumerate(PIPELINES.values()):
        mine = company.pipeline == index
        probabilities[mine] = np.asarray([s.probability for s in steps])[company.stage[mine]]
    probabilities = np.where(company.is_open, probabilities, company.is_won.astype(float))
    lost = ~company.is_open & ~company.is_won
    money = pa.array(np.round(facts.amount).astype(np.int64), mask=facts.without_amount)
    title = pc.binary_join_element_wise(
        around.account_names(facts.account),
        take(names, facts.product),
        take(kinds, facts.kind).cast(pa.string()),
        " ",
    )
    return pa.table({
        "opportunity_id": opportunity_ids(rows),
        "name": title,
        "account_id": ids("ACC-", facts.account),
        "owner_id": around.rep_ids(facts.owner),
        "pipeline": take(tuple(PIPELINES), company.pipeline),
        "amount": money,
        "currency": pa.repeat("EUR", count),
        "probability": probabilities,
        "forecast_category": pa.array(facts.category, pa.string()),
        "close_date": pa.array(facts.close),
        "created_at": times(company.created, company),
        "closed_at": times(company.ended, company, blank=company.is_open),
        "outcome": take(("Open", WON, LOST), np.where(company.is_open, 0, np.where(company.is_won, 1, 2))),
        "type": take(kinds, facts.kind),
        "lead_source": take(SOURCES, company.source),
        "product": take(names, facts.product),
        "next_step": pa.array(
            np.asarray(NEXT_STEPS, dtype=object)[facts.next_step],
            mask=facts.without_next_step | ~company.is_open,
            type=pa.string(),
        ),
        "contact_count": facts.contacts,
        "lost_reason": pa.array(
            np.asarray(LOST_REASONS, dtype=object)[facts.lost_reason], mask=~lost, type=pa.string()
        ),
    })  # fmt: skip


def _stage_history(company: Company) -> pa.Table:
    closed = np.flatnonzero(~company.is_open)
    who = np.concatenate([company.visit_opportunity, closed])
    entered = np.concatenate([company.visit_entered, company.ended[closed]])
    names = pa.concat_arrays([
        _stage_names(company, company.pipeline[company.visit_opportunity], company.visit_stage),
        take((LOST, WON), company.is_won[closed].astype(np.int64)),
    ])  # fmt: skip
    order = np.lexsort((np.arange(len(who)), entered, who))
    return pa.table({
        "opportunity_id": opportunity_ids(who[order]),
        "stage": names.take(pa.array(order)),
        "entered_at": times(entered[order], company),
        "changed_by": around.rep_ids(company.owner[who[order]]),
    })  # fmt: skip


def _field_history(rng: np.random.Generator, company: Company, facts: _Facts) -> pa.Table:
    parts = [
        _close_dates(rng, company, facts),
        _amounts(rng, company, facts),
        _category_changes(company, facts),
        _owner_changes(rng, company, facts),
        _next_steps(rng, company, facts),
    ]
    table = pa.concat_tables(parts)
    return table.sort_by(
        [("opportunity_id", "ascending"), ("changed_at", "ascending"), ("field", "ascending")]
    )


def _changes(
    company: Company, facts: _Facts, who: Ints, field: str, old: pa.Array, new: pa.Array, at: Floats
) -> pa.Table:
    return pa.table({
        "opportunity_id": opportunity_ids(who),
        "field": pa.repeat(field, len(who)),
        "old": old.cast(pa.string()),
        "new": new.cast(pa.string()),
        "changed_at": times(at, company),
        "changed_by": around.rep_ids(facts.owner[who]),
    })  # fmt: skip


def _close_dates(rng: np.random.Generator, company: Company, facts: _Facts) -> pa.Table:
    """Pushes, each on a day of its own; and what the CRM itself writes when an opportunity closes."""
    closed = ~company.is_open
    who = np.repeat(np.arange(len(company)), facts.pushes)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(facts.pushes) - facts.pushes, facts.pushes)
    life = company.until - company.created
    at = company.created[who] + life[who] * (nth + 0.35 + 0.3 * rng.random(len(who))) / facts.pushes[who]
    step = rng.integers(10, 31, len(who))
    still_to_come = np.bincount(who, step, len(company)).astype(np.int64)[who]
    before = np.cumsum(step) - step
    start = np.zeros(len(company), dtype=np.int64)
    np.maximum.at(start, who, np.where(nth == 0, before, 0))
    so_far = before - start[who]
    # A closed opportunity was last expected some days off the day on which it did close.
    off = np.where(closed, rng.integers(-12, 20, len(company)), 0)
    expected = facts.close + off.astype("timedelta64[D]")
    old = expected[who] - (still_to_come - so_far).astype("timedelta64[D]")
    pushed = _changes(
        company, facts, who, "close_date", pa.array(old), pa.array(old + step.astype("timedelta64[D]")), at
    )
    moved = np.flatnonzero(closed & (off != 0))
    ended = _changes(
        company, facts, moved, "close_date", pa.array(expected[moved]), pa.array(facts.close[moved]),
        company.ended[moved],
    )  # fmt: skip
    return pa.concat_tables([pushed, ended])


def _amounts(rng: np.random.Generator, company: Company, facts: _Facts) -> pa.Table:
    changed = (rng.random(len(company)) < 0.3) & ~facts.without_amount
    who = np.flatnonzero(changed)
    at = company.created[who] + (company.until - company.created)[who] * rng.uniform(0.2, 0.9, len(who))
    new = np.round(facts.amount[who]).astype(np.int64)
    old = np.round(new * rng.uniform(0.7, 1.25, len(who)), -2).astype(np.int64)
    return _changes(company, facts, who, "amount", pa.array(old), pa.array(new), at)


def _category_changes(company: Company, facts: _Facts) -> pa.Table:
    """The category follows the stage; where the current one is odd, that is the last change."""
    by_stage = [tuple(s.category for s in steps) for steps in PIPELINES.values()]
    flat = np.asarray([c for cs in by_stage for c in cs], dtype=object)
    starts = np.cumsum([0, *map(len, by_stage)])
    who = company.visit_opportunity
    usual = flat[starts[company.pipeline[who]] + company.visit_stage]
    last = np.append(who[1:] != who[:-1], True)
    running = company.is_open[who]
    value = np.where(last & running, facts.category[who], usual)
    before = np.append([None], value[:-1])
    before[np.append(True, who[1:] != who[:-1])] = None
    moved = (before != value) & np.append(False, who[1:] == who[:-1])
    # A first stage with an odd category was made odd a little later.
    alone = last & np.append(True, who[1:] != who[:-1]) & running & (value != usual)
    at = np.where(alone, company.visit_entered * 0.5, company.visit_entered)
    old = np.where(alone, usual, before)
    rows = np.flatnonzero(moved | alone)
    steps = _changes(
        company, facts, who[rows], "forecast_category",
        pa.array(old[rows], pa.string()), pa.array(value[rows], pa.string()), at[rows],
    )  # fmt: skip
    ended = np.flatnonzero(last & ~running)
    ends = _changes(
        company, facts, who[ended], "forecast_category", pa.array(value[ended], pa.string()),
        pa.array(facts.category[who[ended]], pa.string()), company.ended[who[ended]],
    )  # fmt: skip
    return pa.concat_tables([steps, ends])


def _owner_changes(rng: np.random.Generator, company: Company, facts: _Facts) -> pa.Table:
    who = np.flatnonzero(rng.random(len(company)) < 0.04)
    at = company.created[who] + (company.until - company.created)[who] * rng.uniform(0.1, 0.6, len(who))
    old = (facts.owner[who] + rng.integers(1, LEAVER, len(who))) % LEAVER
    keep = old != facts.owner[who]
    return _changes(
        company,
        facts,
        who[keep],
        "owner_id",
        around.rep_ids(old[keep]),
        around.rep_ids(facts.owner[who[keep]]),
        at[keep],
    )


def _next_steps(rng: np.random.Generator, company: Company, facts: _Facts) -> pa.Table:
    """Open opportunities got their next step lately; closed ones had theirs cleared when they closed."""
    words = np.asarray(NEXT_STEPS, dtype=object)
    running = np.flatnonzero(company.is_open & ~facts.without_next_step)
    at = np.maximum(-rng.uniform(0.5, 9, len(running)), company.created[running] * 0.9)
    earlier = words[(facts.next_step[running] + 1 + rng.integers(0, 5, len(running))) % len(words)]
    set_now = _changes(
        company, facts, running, "next_step", pa.array(earlier, pa.string()),
        pa.array(words[facts.next_step[running]], pa.string()), at,
    )  # fmt: skip
    closed = np.flatnonzero(~company.is_open)
    cleared = _changes(
        company, facts, closed, "next_step", pa.array(words[facts.next_step[closed]], pa.string()),
        pa.nulls(len(closed), pa.string()), company.ended[closed],
    )  # fmt: skip
    return pa.concat_tables([set_now, cleared])


# --- Its mapping ------------------------------------------------------------------------------------------------


_LASTING = {
    "name": "name",
    "account_id": "account_id",
    "currency": "currency",
    "pipeline": "pipeline",
    "type": "type",
    "source": "lead_source",
    "product": "product",
}


def _mapping(company: Company) -> str:
    lines = [
        "# What the files of this made-up company mean. Columns are as in the shipped mapping.",
        "version: 1",
        "extends: pipesync:files",
        f"as_of: {company.as_of:%Y-%m-%dT%H:%M:%SZ}",
        "currency: EUR",
        "timezone: UTC",
        "",
        "streams:",
        "  opportunities:",
        "    fields:                       # these never change here, so that their past is known",
        *(f"      {name}: {{field: {column}, history: full}}" for name, column in _LASTING.items()),
        "",
        "pipelines:",
    ]
    for name, steps in PIPELINES.items():
        lines += [f"  {name}:", "    stages:"]
        lines += [
            f"      {s.name}: {{phase: {s.phase}, probability: {s.probability}, category: {s.category}}}"
            for s in steps
        ]
        lines += [f"      {WON}: won", f"      {LOST}: lost"]
    lines += [
        "",
        "segments:",
        "  - {name: enterprise, when: {amount: {gte: 60000}}}",
        "  - {name: midmarket, when: {amount: {gte: 20000}}}",
        "  - {name: smb}",
        "",
    ]
    return "\n".join(lines)
