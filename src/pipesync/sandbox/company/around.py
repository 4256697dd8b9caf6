"""The people and things around the opportunities: owners, accounts, contacts, products, leads, quotas, activities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipesync.sandbox.company.shape import (
    ACCOUNT_WORDS,
    COUNTRIES,
    FIRST_NAMES,
    INDUSTRIES,
    LAST_NAMES,
    PRODUCTS,
    RENEWALS,
    REPS_PER_TEAM,
    SOURCES,
    TEAMS,
    ZONES,
)
from pipesync.sandbox.company.simulate import (
    LEAVER,
    REPS,
    Company,
    Flags,
    Floats,
    Ints,
    moments,
)

_KINDS = ("Call", "Email", "Meeting")
_DIRECTIONS = ("in", "out", "both")


def ids(prefix: str, rows: Ints) -> pa.Array:
    """Number rows from 1: `ACC-000001`."""
    digits = pc.utf8_lpad(pa.array(rows + 1).cast(pa.string()), 6, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def take(words: tuple[str, ...], at: Ints) -> pa.Array:
    return pa.array(words).take(pa.array(at))


def times(business: Floats, company: Company, *, blank: Flags | None = None) -> pa.Array:
    found = pa.array(moments(business, company.as_of), mask=blank)
    return found.cast(pa.timestamp("s", "UTC"))


# --- Owners -----------------------------------------------------------------------------------------------------

_REP_IDS = tuple(f"USR-{i + 1:03d}" for i in range(REPS))
_MANAGER_IDS = tuple(f"USR-{REPS + i + 1:03d}" for i in range(len(TEAMS)))
_HEAD_ID = f"USR-{REPS + len(TEAMS) + 1:03d}"


def rep_ids(reps: Ints) -> pa.Array:
    return take(_REP_IDS, reps)


def owners() -> pa.Table:
    rows = []
    for i, (first, last) in enumerate(zip(FIRST_NAMES, LAST_NAMES, strict=True)):
        team = i // REPS_PER_TEAM if i < REPS else i - REPS
        is_head = i == REPS + len(TEAMS)
        rows.append({
            "owner_id": (*_REP_IDS, *_MANAGER_IDS, _HEAD_ID)[i],
            "name": f"{first} {last}",
            "email": f"{first}.{last}@example.com".lower(),
            "is_active": "false" if i == LEAVER else "true",
            "manager_id": None if is_head else _MANAGER_IDS[team] if i < REPS else _HEAD_ID,
            "team": None if is_head else TEAMS[team],
            "timezone": "UTC" if is_head else ZONES[team],
        })  # fmt: skip
    return pa.Table.from_pylist(rows)


def quotas(company: Company, owner: Ints, amount: Floats) -> pa.Table:
    """Quarterly, for reps and teams: a little more than the average rep has won."""
    won = float(amount[company.is_won].sum())
    usual = round(1.1 * won / (REPS * 8), -3)
    here = np.datetime64(company.as_of.date(), "M").astype(int) // 3
    rows = []
    for quarter in range(here - 8, here + 2):
        start, end = (
            np.datetime64((quarter + i) * 3, "M").astype("datetime64[D]").astype(object) for i in (0, 1)
        )
        period = {"period_start": start, "period_end": end, "currency": "EUR"}
        for rep in range(REPS):
            if rep != LEAVER or quarter < here - 1:
                share = 0.85 + 0.3 * (rep % REPS_PER_TEAM) / (REPS_PER_TEAM - 1)
                rows.append(
                    {"owner_id": _REP_IDS[rep], "team": None, **period, "amount": round(usual * share)}
                )
        for team in TEAMS:
            rows.append({"owner_id": None, "team": team, **period, "amount": round(usual * REPS_PER_TEAM)})
    kinds = {
        "owner_id": pa.string(),
        "team": pa.string(),
        "period_start": pa.date32(),
        "period_end": pa.date32(),
    }
    return pa.Table.from_pylist(
        rows, pa.schema([*kinds.items(), ("currency", pa.string()), ("amount", pa.int64())])
    )


# --- Accounts, contacts, products -------------------------------------------------------------------------------


def account_count(opportunities: int) -> int:
    return max(20, opportunities * 6 // 10)


def account_names(accounts: Ints) -> pa.Array:
    first, second = ACCOUNT_WORDS
    number = pa.array(accounts // (len(first) * len(second)) + 1).cast(pa.string())
    return pc.binary_join_element_wise(
        take(first, accounts % len(first)), take(second, accounts // len(first) % len(second)), number, " "
    )


def accounts(rng: np.random.Generator, company: Company, account: Ints) -> pa.Table:
    rows = np.arange(account_count(len(company)))
    owner = np.zeros(len(rows), dtype=np.int64)
    owner[account] = company.owner
    return pa.table({
        "account_id": ids("ACC-", rows),
        "name": account_names(rows),
        "industry": take(INDUSTRIES, rng.integers(0, len(INDUSTRIES), len(rows))),
        "country": take(COUNTRIES, rng.integers(0, len(COUNTRIES), len(rows))),
        "employees": np.round(np.exp(rng.normal(5.5, 1.2, len(rows)))).astype(np.int64) + 5,
        "owner_id": rep_ids(owner),
    })  # fmt: skip


def contact_roles(rng: np.random.Generator, counts: Ints) -> pa.Table:
    who = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
    roles = ("Decision maker", "Champion", "User", "Finance", "Legal", "IT")
    return pa.table({
        "opportunity_id": ids("OPP-", who),
        "contact_id": ids("CON-", np.arange(len(who))),
        "role": take(roles, np.where(nth == 0, rng.integers(0, 2, len(who)), rng.integers(1, len(roles), len(who)))),
        "is_primary": take(("false", "true"), (nth == 0).astype(np.int64)),
    })  # fmt: skip


def products() -> pa.Table:
    return pa.table({
        "product_id": [f"PRD-{i + 1}" for i in range(len(PRODUCTS))],
        "name": [name for name, _, _ in PRODUCTS],
        "family": [family for _, family, _ in PRODUCTS],
        "list_price": [price for _, _, price in PRODUCTS],
        "currency": ["EUR"] * len(PRODUCTS),
    })  # fmt: skip


def line_items(
    rng: np.random.Generator, product: Ints, big: Flags, without: Flags
) -> tuple[pa.Table, Floats]:
    """Return the lines, and the amount of each opportunity: their sum, in whole euros."""
    count = len(product)
    lines = np.where(without, 0, rng.choice((1, 2, 3), count, p=(0.55, 0.3, 0.15)))
    who = np.repeat(np.arange(count), lines)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(lines) - lines, lines)
    what = np.where(nth == 0, product[who], (product[who] + nth) % len(PRODUCTS))
    price = np.asarray([p for _, _, p in PRODUCTS])[what]
    quantity = np.ceil(np.exp(rng.normal(0.6, 0.7, len(who)))).astype(np.int64)
    # Enough to matter: an opportunity with a single contact is a problem from some size on.
    quantity = np.where(
        big[who] & (nth == 0), np.maximum(quantity, np.ceil(40000 / price).astype(np.int64)), quantity
    )
    discount = np.where(rng.random(len(who)) < 0.5, 0, rng.integers(1, 6, len(who)) * 5)
    total = quantity * price * (100 - discount) // 100
    table = pa.table({
        "line_item_id": ids("LIN-", np.arange(len(who))),
        "opportunity_id": ids("OPP-", who),
        "product_id": pc.binary_join_element_wise("PRD-", pa.array(what + 1).cast(pa.string()), ""),
        "quantity": quantity,
        "unit_price": price,
        "discount_pct": discount,
        "total": total,
        "currency": pa.repeat("EUR", len(who)),
    })  # fmt: skip
    return table, np.bincount(who, total, count).astype(np.float64)


# --- Activities and leads ---------------------------------------------------------------------------------------


def activities(
    rng: np.random.Generator, company: Company, owner: Ints, flags: Mapping[str, Flags], mean: float
) -> pa.Table:
    """The past ones over each opportunity's life, and the next one of each open opportunity."""
    count = len(company)
    quiet = flags["hygiene.no_activity"] | flags["hygiene.stale_commit"]
    # What is quiet fell silent some weeks ago; what is not was worked in the last days.
    silent_since = np.where(quiet, -rng.uniform(21, 35, count), company.until)
    number = rng.poisson(max(mean - 1, 0), count)
    who = np.repeat(np.arange(count), number)
    at = company.created[who] + (silent_since - company.created)[who] * rng.random(len(who))
    lately = np.flatnonzero(company.is_open & ~quiet)
    booked = np.flatnonzero(company.is_open & ~flags["hygiene.no_next_activity"])
    # A stale commit has something booked, but not soon.
    ahead = np.where(flags["hygiene.stale_commit"][booked], 9.0, 1.0) + rng.uniform(1, 5, len(booked))
    who = np.concatenate([who, lately, booked])
    at = np.concatenate(
        [at, np.maximum(-rng.uniform(0.1, 3, len(lately)), company.created[lately] * 0.9), ahead]
    )
    order = np.lexsort((who, at))
    who, at = who[order], at[order]
    kind = rng.choice(len(_KINDS), len(who), p=(0.35, 0.45, 0.2))
    direction = np.where(kind == 2, 2, rng.integers(0, 2, len(who)))
    return pa.table({
        "activity_id": ids("ACT-", np.arange(len(who))),
        "opportunity_id": ids("OPP-", who),
        "activity": take(_KINDS, kind),
        "at": times(at, company),
        "resource": rep_ids(owner[who]),
        "is_done": take(("true", "false"), (at >= 0).astype(np.int64)),
        "direction": take(_DIRECTIONS, direction),
    })  # fmt: skip


def leads(rng: np.random.Generator, company: Company, owner: Ints) -> pa.Table:
    """Most new business began as a lead; about as many leads again came to nothing, the last of them are untouched."""
    begun = np.flatnonzero((company.pipeline != RENEWALS) & (rng.random(len(company)) < 0.8))
    others = len(begun)
    made = np.concatenate(
        [company.created[begun] - rng.uniform(1, 15, len(begun)), -rng.uniform(0.2, 520, others)]
    )
    is_new = np.concatenate([np.zeros(len(begun), dtype=bool), made[len(begun) :] > -2])
    touched = np.minimum(made + rng.exponential(0.8, len(made)), -0.01)
    converted = np.concatenate([company.created[begun], np.zeros(others)])
    unconverted = np.concatenate([np.zeros(len(begun), dtype=bool), np.ones(others, dtype=bool)])
    source = np.concatenate([company.source[begun], rng.integers(0, len(SOURCES), others)])
    status = np.where(unconverted, np.where(is_new, 0, 2), 1)
    who = np.concatenate([begun, np.zeros(others, dtype=np.int64)])
    linked = pa.array(ids("OPP-", who).to_numpy(zero_copy_only=False), mask=unconverted, type=pa.string())
    campaigns = ("Spring fair", "Webinar", "Newsletter", "Search")
    table = pa.table({
        "source": take(SOURCES, source),
        "campaign": take(campaigns, rng.integers(0, len(campaigns), len(made))),
        "owner_id": rep_ids(np.concatenate([owner[begun], rng.integers(0, LEAVER, others)])),
        "status": take(("New", "Converted", "Disqualified"), status),
        "created_at": times(made, company),
        "first_touch_at": times(np.maximum(touched, made), company, blank=is_new),
        "converted_at": times(converted, company, blank=unconverted),
        "opportunity_id": linked,
    })  # fmt: skip
    table = table.take(pa.array(np.argsort(made, kind="stable")))
    return table.add_column(0, "lead_id", ids("LEA-", np.arange(len(made))))
