"""A dataset folder as a portal's content, and the mapping with which pipesync then reads the same facts back.

HubSpot's ids are numbers: a dataset's own are kept where they are, otherwise records are numbered, and each deal
carries the dataset's id in `dataset_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from pipesync._paths import shipped
from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.config import ConnectionConfig
from pipesync.mapping import Mapping, load
from pipesync.sandbox.hubspot import engagements
from pipesync.sandbox.hubspot.definitions import PRIMARY_COMPANY, definition, link_types
from pipesync.sandbox.hubspot.portal import Portal, custom
from pipesync.sandbox.hubspot.readback import OWN_COLUMNS, site_mapping
from pipesync.sandbox.hubspot.records import Json, Source, entry, iso, millis
from pipesync.sandbox.hubspot.settings import install_kit

PORTAL_ID = 4_200_042
_FROM = {"deals": 1_000_000_001, "contacts": 2_000_000_001, "companies": 3_000_000_001, "products": 4_000_000_001,
         "line_items": 5_000_000_001, "leads": 6_000_000_001, "goal_targets": 7_000_000_001,
         "engagements": 8_000_000_001, "owners": 100_001}  # fmt: skip
_USERS = 50_000_000
"""A user's number is its owner's, beyond this."""


@dataclass(frozen=True)
class Filled:
    """How to read the portal so that it tells what the dataset tells."""

    options: Json
    mapping: str
    """A mapping.yaml: what the dataset does not have is left unmapped, its stages and segments are kept."""
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    """Dataset id -> HubSpot id, by object."""


def fill(portal: Portal, folder: Path, *, mapping: Path | None = None) -> Filled:
    """Load a dataset folder into an empty portal; its clock must have been set to the dataset's."""
    config = ConnectionConfig(adapter="files", mapping=mapping, options={"data": str(folder.absolute())})
    adapter = open_adapter("dataset", config, Path())
    try:
        return _Filling(portal, adapter, folder, mapping).run()
    finally:
        adapter.close()


def clock_of(folder: Path, *, mapping: Path | None = None) -> datetime:
    """Return the moment that a dataset speaks of."""
    config = ConnectionConfig(adapter="files", mapping=mapping, options={"data": str(folder.absolute())})
    adapter = open_adapter("dataset", config, Path())
    try:
        return adapter.clock()
    finally:
        adapter.close()


class _Filling:
    def __init__(self, portal: Portal, adapter: Adapter, folder: Path, mapping: Path | None) -> None:
        self._portal, self._adapter = portal, adapter
        own = mapping or folder / "mapping.yaml"
        self._own = own if own.is_file() else None
        self._hubspot: Mapping = load(shipped("adapters") / "hubspot" / "mapping.yaml")
        self._zone = ZoneInfo(adapter.connection().timezone)
        self._until = adapter.clock()
        self._ids: dict[str, dict[str, str]] = {}
        self._people: dict[str, str] = {}
        self._contacted: dict[str, int] = {}

    def run(self) -> Filled:
        rows = {s: self._rows(s) for s in self._adapter.streams if not s.startswith("own_")}
        states = self._adapter.columns()
        self._account()
        self._owners(rows)
        self._plain("companies", "accounts", rows)
        self._contacts(rows.get("contact_roles", []))
        self._contacted = engagements.last_contacts(rows.get("activities", []), millis(self._until))
        self._deals(rows)
        self._plain("products", "products", rows)
        self._line_items(rows)
        self._plain("leads", "leads", rows, links={"opportunity_id": "deals"})
        self._quotas(rows.get("quotas", []))
        self._rates(rows.get("currency_rates", []))
        kinds = self._activities(rows.get("activities", []))
        self._portal.records.db.commit()
        return Filled(
            {"activities": kinds} if kinds else {}, site_mapping(states, rows, self._own), self._ids
        )

    def _rows(self, stream: str) -> list[Json]:
        return [
            row for page in self._adapter.pull(stream, None, self._until) for row in page.rows.to_pylist()
        ]

    # --- The portal itself ------------------------------------------------------------------------------------

    def _account(self) -> None:
        told = self._adapter.connection()
        offset = self._until.astimezone(self._zone).strftime("%z")
        account: Json = {
            "portalId": PORTAL_ID,
            "accountType": "STANDARD",
            "timeZone": told.timezone,
            "additionalCurrencies": [],
            "utcOffset": f"{offset[:3]}:{offset[3:]}",
            "utcOffsetMilliseconds": 0,
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "eu1",
        }
        if told.currency:
            account["companyCurrency"] = told.currency
        self._portal.records.set("account", account)
        self._portal.define("deals", [custom("dataset_id", "string"), custom("dataset_product", "string")])
        self._portal.define(
            "goal_targets", [custom("dataset_team", "string"), custom("dataset_product", "string")]
        )
        install_kit(self._portal)

    def _owners(self, rows: dict[str, list[Json]]) -> None:
        users = {r["id"]: r for r in rows.get("users", [])}
        seen = [
            *users,
            *(
                r.get("owner_id")
                for s in ("opportunities", "activities", "accounts", "leads")
                for r in rows.get(s, ())
            ),
            *(r.get("changed_by") for r in rows.get("field_changes", ())),
        ]
        self._people = self._numbered("owners", (p for p in seen if p))
        teams = {
            t: str(i) for i, t in enumerate(sorted({u["team"] for u in users.values() if u.get("team")}), 1)
        }
        owners = []
        for person, number in self._people.items():
            user = users.get(person, {})
            first, _, last = str(user.get("name") or person).rpartition(" ")
            owner: Json = {
                "id": number, "type": "PERSON", "firstName": first, "lastName": last,
                "createdAt": "2020-01-01T00:00:00.000Z", "updatedAt": "2020-01-01T00:00:00.000Z",
                "archived": not user.get("is_active", True), "userIdIncludingInactive": _USERS + int(number),
            }  # fmt: skip
            if not owner["archived"]:
                owner["userId"] = owner["userIdIncludingInactive"]
            if user.get("email"):
                owner["email"] = user["email"]
            if user.get("team"):
                owner["teams"] = [{"id": teams[user["team"]], "name": user["team"], "primary": True}]
            owners.append(owner)
        self._portal.records.set("owners", owners)

    def _numbered(self, kind: str, ids: Iterable[str]) -> dict[str, str]:
        """Return dataset id -> HubSpot id: itself where all are numbers, else a number in their order."""
        given = list(dict.fromkeys(ids))
        if all(i.isascii() and i.isdigit() and not i.startswith("0") and len(i) < 16 for i in given):
            found = {i: i for i in given}
        else:
            found = {i: str(n) for n, i in enumerate(given, _FROM[kind])}
        self._ids[kind] = found
        return found

    # --- Deals ------------------------------------------------------------------------------------------------

    def _deals(self, rows: dict[str, list[Json]]) -> None:
        deals = self._numbered("deals", (r["id"] for r in rows["opportunities"]))
        stages = self._pipelines(rows)
        contacts: dict[str, int] = {}
        for role in rows.get("contact_roles", []):
            contacts[role["opportunity_id"]] = contacts.get(role["opportunity_id"], 0) + 1
        changes: dict[str, dict[str, list[Json]]] = {}
        for change in sorted(rows["field_changes"], key=lambda c: (c["changed_at"], c["seq"] or 0)):
            changes.setdefault(change["opportunity_id"], {}).setdefault(change["field"], []).append(change)
        options = {c: sorted({r[c] for r in rows["opportunities"] if r.get(c)}) for c in ("type", "source")}
        self._portal.define(
            "deals",
            [definition(self._property(c), "enumeration", options=words) for c, words in options.items()],
        )
        custom_names = sorted({n for r in rows["opportunities"] for n, _ in r.get("custom") or ()})
        self._portal.define("deals", [custom(f"dataset_{n}", "string") for n in custom_names])
        objects, histories = [], []
        for row in rows["opportunities"]:
            i = int(deals[row["id"]])
            told = self._deal(row, deals[row["id"]], stages)
            if row["id"] in contacts:
                told["num_associated_contacts"] = str(contacts[row["id"]])
            past = dict(self._histories(row, told, changes.get(row["id"], {}), stages))
            created = millis(row.get("created_at")) or millis(self._until)
            latest: int = max([created, *(p[0]["at"] for p in past.values())])
            modified = millis(row.get("modified_at")) or latest
            told |= {
                "createdate": iso(created),
                "hs_createdate": iso(created),
                "hs_lastmodifieddate": iso(modified),
            }
            objects.append((i, told, created, modified))
            histories += [(i, name, [e["entry"] for e in entries]) for name, entries in past.items()]
        self._put("deals", objects)
        self._portal.records.db.executemany(
            "INSERT INTO hs_history VALUES ('deals', ?, ?, ?)",
            ((i, name, orjson.dumps(entries).decode()) for i, name, entries in histories),
        )
        companies = self._ids.get("companies", {})
        self._link("deals", "companies", (
            (deals[r["id"]], companies[r["account_id"]], PRIMARY_COMPANY, None)
            for r in rows["opportunities"] if r.get("account_id") in companies
        ))  # fmt: skip
        people = self._ids.get("contacts", {})
        there = link_types("deals", "contacts")[0]
        self._link("deals", "contacts", (
            (deals[r["opportunity_id"]], people[r["contact_id"]], type_id, label)
            for r in rows.get("contact_roles", []) if r["opportunity_id"] in deals
            for type_id, label in ((there, None), (77, r.get("role"))) if type_id == there or label
        ))  # fmt: skip

    def _property(self, column: str) -> str:
        known = self._hubspot.streams["opportunities"].fields.get(column)
        return known.field if known else OWN_COLUMNS.get(column, f"dataset_{column}")

    def _pipelines(self, rows: dict[str, list[Json]]) -> dict[tuple[str, str], str]:
        """Define the pipelines; return stage id by (pipeline, label)."""
        ids: dict[tuple[str, str], str] = {}
        names = {p["id"]: p.get("name") or p["id"] for p in rows["pipelines"]}
        told: list[Json] = []
        for order, pipeline in enumerate(names):
            stages = sorted(
                (s for s in rows["stages"] if s["pipeline"] == pipeline), key=lambda s: s["order"]
            )
            shown = []
            for i, stage in enumerate(stages):
                ids[pipeline, stage["name"]] = str(1_000_000 + 1000 * order + i)
                closed = stage["phase"] in ("won", "lost")
                chance = stage.get("probability")
                shown.append({
                    "id": ids[pipeline, stage["name"]], "label": stage["name"], "displayOrder": i, "archived": False,
                    "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
                    "metadata": {
                        "isClosed": str(closed).lower(), "probability": "" if chance is None else str(float(chance)),
                    },
                    "createdAt": "1970-01-01T00:00:00Z", "updatedAt": "1970-01-01T00:00:00Z",
                })  # fmt: skip
            told.append({
                "id": pipeline, "label": names[pipeline], "displayOrder": order, "archived": False, "stages": shown,
                "createdAt": "1970-01-01T00:00:00Z", "updatedAt": "1970-01-01T00:00:00Z",
            })  # fmt: skip
        self._portal.records.set("pipelines.deals", told)
        return ids

    def _deal(self, row: Json, number: str, stages: dict[tuple[str, str], str]) -> Json:
        told: Json = {"hs_object_id": number, "dataset_id": row["id"]}
        for column, value in row.items():
            if value is None or column in (
                "id",
                "is_closed",
                "is_won",
                "segment",
                "custom",
                "created_at",
                "modified_at",
            ):
                continue
            if column not in ("close_date", "closed_at", "stage", "pipeline"):
                text = self._word(column, value)
                if text is not None:
                    told[self._property(column)] = text
        told |= {f"dataset_{n}": v for n, v in row.get("custom") or () if v is not None}
        if at := self._contacted.get(row["id"]):
            told.setdefault("notes_last_contacted", iso(at))
        told["pipeline"] = row["pipeline"]
        if row.get("stage"):
            told["dealstage"] = stages.get((row["pipeline"], row["stage"]), row["stage"])
        told["hs_is_closed"] = str(bool(row.get("is_closed"))).lower()
        told["hs_is_closed_won"] = str(bool(row.get("is_won"))).lower()
        if row.get("is_closed") and row.get("closed_at"):
            told["closedate"] = iso(millis(row["closed_at"]))
        elif row.get("close_date"):
            told["closedate"] = self._at_noon(row["close_date"])
        return told

    def _word(self, column: str, value: Any) -> str | None:
        """Return a value as HubSpot keeps it; None where it points at what is not there."""
        if column == "owner_id":
            return self._people.get(value)
        if column == "account_id":
            return self._ids.get("companies", {}).get(value)
        if column == "forecast_category":
            known = self._hubspot.streams["opportunities"].fields[column].values
            return next((word for word, ours in known.items() if ours == value), value)
        if isinstance(value, datetime):
            return iso(millis(value))
        if isinstance(value, date):
            return self._at_noon(value)
        if isinstance(value, bool):
            return str(value).lower()
        return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)

    def _at_noon(self, day: date) -> str:
        return iso(millis(datetime.combine(day, time(12), self._zone)))

    def _histories(
        self, row: Json, told: Json, changes: dict[str, list[Json]], stages: dict[tuple[str, str], str]
    ) -> Iterator[tuple[str, list[Json]]]:
        """Yield property, entries (newest first) of everything that HubSpot tracks; what never changed has one."""
        created = millis(row.get("created_at")) or millis(self._until)
        closed = millis(row.get("closed_at"))
        fields = self._hubspot.streams["opportunities"].fields
        for column in dict.fromkeys([*(n for n, f in fields.items() if f.history == "full"), *changes]):
            name = self._property(column)
            entries: list[Json] = []
            for change in changes.get(column, []):
                at = millis(change["changed_at"])
                text = self._past(column, change.get("value"), row, stages)
                user = self._people.get(change.get("changed_by") or "")
                source = Source("CRM_UI", "", _USERS + int(user) if user else None)
                entries.append({"at": at, "entry": entry(text, at, source)})
            if name == "closedate" and closed and told.get(name):
                # HubSpot itself does this when a deal is closed.
                entries = [e for e in entries if e["at"] < closed]
                entries.append({"at": closed, "entry": entry(told[name], closed, Source("CALCULATED"))})
            elif not entries and told.get(name):
                entries.append({"at": created, "entry": entry(told[name], created, Source("CRM_UI"))})
            if entries:
                yield name, entries[::-1]

    def _past(self, column: str, value: str | None, row: Json, stages: dict[tuple[str, str], str]) -> str:
        if value is None:
            return ""
        if column == "stage":
            return stages.get((row["pipeline"], value), value)
        if column == "close_date":
            return self._at_noon(date.fromisoformat(value[:10]))
        return self._word(column, value) or ""

    # --- Around the deals -------------------------------------------------------------------------------------

    def _put(self, kind: str, objects: Iterable[tuple[int, Json, int, int]]) -> None:
        self._portal.records.db.executemany(
            "INSERT INTO hs_objects (kind, id, properties, created, updated) VALUES (?, ?, ?, ?, ?)",
            (
                (kind, i, orjson.dumps(told).decode(), created, updated)
                for i, told, created, updated in objects
            ),
        )

    def _link(self, kind: str, to: str, links: Iterable[tuple[str, str, int, str | None]]) -> None:
        back = link_types(kind, to)[1]
        rows = [
            row
            for i, target, type_id, label in links
            for row in (
                (kind, int(i), to, int(target), type_id, label),
                (to, int(target), kind, int(i), back if label is None else type_id, label),
            )
        ]
        self._portal.records.db.executemany("INSERT OR IGNORE INTO hs_links VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _new(self, number: str, told: Json, at: int | None = None) -> tuple[int, Json, int, int]:
        moment = at or millis(self._until - timedelta(days=1))
        fixed = {"hs_object_id": number, "hs_createdate": iso(moment), "hs_lastmodifieddate": iso(moment)}
        return int(number), {**told, **fixed}, moment, moment

    def _plain(
        self, kind: str, stream: str, rows: dict[str, list[Json]], *, links: dict[str, str] | None = None
    ) -> None:
        """Load a stream whose fields are an object's properties."""
        given = rows.get(stream, [])
        ids = self._numbered(kind, (r["id"] for r in given))
        fields = self._hubspot.streams[stream].fields
        objects = []
        for row in given:
            told = {
                fields[c].field: self._word(c, v)
                for c, v in row.items()
                if v is not None and c != "id" and c in fields and c not in (links or {})
            }
            told = {n: v for n, v in told.items() if v is not None}
            objects.append(self._new(ids[row["id"]], told, millis(row.get("created_at"))))
        self._put(kind, objects)
        for column, to in (links or {}).items():
            known = self._ids.get(to, {})
            plain = link_types(kind, to)[0]
            self._link(kind, to, (
                (ids[r["id"]], known[r[column]], plain, None) for r in given if r.get(column) in known
            ))  # fmt: skip

    def _contacts(self, roles: Sequence[Json]) -> None:
        ids = self._numbered("contacts", (r["contact_id"] for r in roles))
        self._put("contacts", (self._new(number, {}) for number in ids.values()))

    def _line_items(self, rows: dict[str, list[Json]]) -> None:
        products = self._ids.get("products", {})
        given = [
            {**r, "product_id": products.get(r["product_id"] or "", r["product_id"])}
            for r in rows.get("line_items", ())
        ]
        self._plain("line_items", "line_items", {"line_items": given}, links={"opportunity_id": "deals"})

    def _quotas(self, quotas: Sequence[Json]) -> None:
        ids = [str(n) for n in range(_FROM["goal_targets"], _FROM["goal_targets"] + len(quotas))]
        objects = []
        for number, quota in zip(ids, quotas, strict=True):
            told = {
                "hs_goal_name": "Revenue", "hs_goal_type": "sales_quota", "hs_target_amount": str(quota["amount"]),
                "hs_start_datetime": self._midnight(quota["period_start"]),
                "hs_end_datetime": self._midnight(quota["period_end"]),
                "hubspot_owner_id": self._people.get(quota.get("owner_id") or "", quota.get("owner_id")),
                "dataset_team": quota.get("team"), "dataset_product": quota.get("product"),
            }  # fmt: skip
            objects.append(self._new(number, {n: v for n, v in told.items() if v}))
        self._put("goal_targets", objects)

    def _midnight(self, day: date) -> str:
        return iso(millis(datetime.combine(day, time(), self._zone)))

    def _rates(self, rates: Sequence[Json]) -> None:
        home = self._adapter.connection().currency or "EUR"
        self._portal.records.set(
            "rates",
            [
                {
                    "id": str(n), "fromCurrencyCode": r["currency"], "toCurrencyCode": home, "visibleInUI": True,
                    "conversionRate": r["rate"], "effectiveAt": f"{r['valid_from']}T00:00:00Z",
                    "createdAt": "2020-01-01T00:00:00Z", "updatedAt": "2020-01-01T00:00:00Z",
                }
                for n, r in enumerate(rates, 1)
            ],
        )  # fmt: skip

    def _activities(self, activities: Sequence[Json]) -> list[str]:
        deals = self._ids["deals"]
        objects: dict[str, list[tuple[int, Json, int, int]]] = {}
        links: dict[str, list[tuple[str, str, int, str | None]]] = {}
        for number, row in enumerate(activities, _FROM["engagements"]):
            kind = engagements.kind_of(row.get("kind"))
            at = millis(row["at"])
            told = engagements.TOLD[kind](row) | {"hs_timestamp": iso(at)}
            if row.get("kind"):
                told["hs_activity_type"] = row["kind"]
            if row.get("owner_id"):
                told["hubspot_owner_id"] = self._people[row["owner_id"]]
            objects.setdefault(kind, []).append(self._new(str(number), told, min(at, millis(self._until))))
            if row["opportunity_id"] in deals:
                plain = link_types(kind, "deals")[0]
                links.setdefault(kind, []).append((str(number), deals[row["opportunity_id"]], plain, None))
        for kind, some in objects.items():
            self._put(kind, some)
            self._link(kind, "deals", links.get(kind, []))
        return sorted(objects)
