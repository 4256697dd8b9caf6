"""A dataset folder as an org's content, and the mapping with which pipesync then reads the same facts back.

Every record gets an id of Salesforce's kind; an opportunity keeps the dataset's in `Dataset_Id__c`. What the dataset
does not tell is hidden from the integration user, as an admin would who has not granted it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from pipesync.adapters import open_adapter
from pipesync.adapters.base import Adapter
from pipesync.config import ConnectionConfig
from pipesync.sandbox.salesforce.objects import OBJECTS
from pipesync.sandbox.salesforce.org import USER_ID, Json, Org, full_id
from pipesync.sandbox.salesforce.soql import stored_time
from pipesync.yamlsource import read

CATEGORIES = {
    "omitted": ("Omitted", "Omitted"), "pipeline": ("Pipeline", "Pipeline"), "best_case": ("BestCase", "Best Case"),
    "most_likely": ("MostLikely", "Most Likely"), "commit": ("Forecast", "Commit"), "closed": ("Closed", "Closed"),
}  # fmt: skip
"""Ours -> API name (in history) and label (on the opportunity)."""
FIELDS = {
    "name": "Name", "account_id": "AccountId", "owner_id": "OwnerId", "pipeline": "RecordTypeId", "stage": "StageName",
    "amount": "Amount", "probability": "Probability", "forecast_category": "ForecastCategoryName",
    "close_date": "CloseDate", "type": "Type", "source": "LeadSource", "product": "Product__c",
    "next_step": "NextStep", "lost_reason": "Loss_Reason__c", "currency": "CurrencyIsoCode",
}  # fmt: skip
"""Column of an opportunity -> its field here."""
_HISTORY = {
    "stage": "StageName",
    "amount": "Amount",
    "close_date": "CloseDate",
    "forecast_category": "ForecastCategory",
}
_FIELD_HISTORY = {"owner_id": "Owner", "next_step": "NextStep"}
_OBJECTS = {
    "accounts": "Account", "contact_roles": "OpportunityContactRole", "activities": "Event", "products": "Product2",
    "line_items": "OpportunityLineItem", "leads": "Lead",
}  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """How to read the org so that it tells what the dataset tells."""

    mapping: str
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    """Stream -> dataset id -> Salesforce id."""


def fill(org: Org, folder: Path, *, mapping: Path | None = None) -> Filled:
    """Load a dataset folder into an empty org; its clock must have been set to the dataset's."""
    config = ConnectionConfig(adapter="files", mapping=mapping, options={"data": str(folder.absolute())})
    adapter = open_adapter("dataset", config, Path())
    own = mapping or folder / "mapping.yaml"
    try:
        return _Filling(org, adapter, own if own.is_file() else None).run()
    finally:
        adapter.close()


class _Filling:
    def __init__(self, org: Org, adapter: Adapter, own: Path | None) -> None:
        self._org, self._adapter, self._own = org, adapter, own
        self._until = adapter.clock()
        self._rows = {s: self._pulled(s) for s in adapter.streams if not s.startswith("own_")}
        self._states = {(s.stream, s.column): s for s in adapter.columns()}
        self._ids: dict[str, dict[str, str]] = {}

    def _pulled(self, stream: str) -> list[Json]:
        pages = self._adapter.pull(stream, None, self._until)
        return [row for page in pages for row in page.rows.to_pylist()]

    def run(self) -> Filled:
        self._basics()
        self._users()
        self._stages()
        self._opportunities()
        self._histories()
        self._others()
        self._hide()
        self._org.db.commit()
        return Filled(self._mapping(), self._ids)

    def _knows(self, stream: str, column: str) -> bool:
        state = self._states.get((stream, column))
        return state is not None and state.state == "known"

    def _id(self, stream: str, given: str | None, entity: str) -> str | None:
        """Return the org's id of a dataset's record, numbered as they are met."""
        if given is None:
            return None
        known = self._ids.setdefault(stream, {})
        if given not in known:
            known[given] = full_id(OBJECTS[entity].prefix, len(known) + 1)
        return known[given]

    def _insert(self, entity: str, rows: Iterable[Json]) -> None:
        """Enter records; those that say nothing of it were last changed a day before."""
        said = stored_time(self._until - timedelta(days=1))

        def whole(row: Json) -> Json:
            created = row.get("CreatedDate") or said
            return {
                "CreatedById": USER_ID,
                "LastModifiedDate": said,
                "SystemModstamp": said,
                **row,
                "CreatedDate": created,
            }

        self._org.insert(entity, (whole(r) for r in rows))

    # --- Setup ------------------------------------------------------------------------------------------------

    def _basics(self) -> None:
        told = self._adapter.connection()
        self._insert("Organization", [{
            "Id": "00DPS0000000000AAA", "Name": "Sandbox", "DefaultCurrencyIsoCode": told.currency or "EUR",
            "TimeZoneSidKey": told.timezone, "FiscalYearStartMonth": told.fiscal_year_starts or 1,
        }])  # fmt: skip
        pipelines = {r["id"] for r in self._rows.get("pipelines", ())}
        if self._knows("opportunities", "pipeline"):
            self._insert("RecordType", [
                {"Id": self._id("pipelines", p, "RecordType"), "Name": p, "DeveloperName": p.replace(" ", "_"),
                 "SobjectType": "Opportunity", "IsActive": 1}
                for p in sorted(pipelines)
            ])  # fmt: skip

    def _users(self) -> None:
        users = self._rows.get("users", [])
        seen = {r.get("owner_id") for s in ("opportunities", "activities", "accounts", "leads") for r in
                self._rows.get(s, ())} | {r.get("changed_by") for r in self._rows.get("field_changes", ())}  # fmt: skip
        known = {u["id"] for u in users}
        self._ids["users"] = {}
        teams = sorted({u["team"] for u in users if u.get("team")})
        self._insert("UserRole", [{"Id": self._id("teams", t, "UserRole"), "Name": t} for t in teams])
        rows = [
            {
                "Id": self._id("users", u["id"], "User"), "Name": u.get("name") or u["id"], "Email": u.get("email"),
                "IsActive": int(u.get("is_active") is not False),
                "UserRoleId": self._id("teams", u.get("team"), "UserRole"),
                "TimeZoneSidKey": u.get("timezone"), "LocaleSidKey": u.get("locale"),
            }
            for u in users
        ]  # fmt: skip
        for row, u in zip(rows, users, strict=True):
            row["ManagerId"] = self._id("users", u.get("manager_id"), "User")
        rows += [
            {"Id": self._id("users", u, "User"), "Name": u, "IsActive": 1}
            for u in sorted(u for u in seen - known if u)
        ]
        rows.append({"Id": USER_ID, "Name": "Pipesync Integration", "IsActive": 1})
        self._insert("User", rows)

    def _stages(self) -> None:
        rows, seen = [], set()
        for i, s in enumerate(sorted(self._rows["stages"], key=lambda s: (s["order"], s["pipeline"]))):
            if s["name"] in seen:
                continue
            seen.add(s["name"])
            category = CATEGORIES.get(s.get("default_category") or "", (None, None))
            rows.append({
                "Id": full_id("01J", i + 1), "ApiName": s["name"], "MasterLabel": s["name"], "SortOrder": i + 1,
                "IsActive": int(s["is_active"]), "IsClosed": int(s["phase"] in ("won", "lost")),
                "IsWon": int(s["phase"] == "won"),
                "DefaultProbability": None if s["probability"] is None else 100 * s["probability"],
                "ForecastCategory": category[0], "ForecastCategoryName": category[1],
            })  # fmt: skip
        self._insert("OpportunityStage", rows)

    # --- Opportunities ----------------------------------------------------------------------------------------

    def _opportunities(self) -> None:
        self._insert("Opportunity", (self._opportunity(r) for r in self._rows["opportunities"]))

    def _opportunity(self, r: Json) -> Json:
        ended = r.get("closed_at") or r.get("created_at") or self._until
        changed = _utc(ended if r["is_closed"] else r.get("created_at") or self._until)
        category = CATEGORIES.get(r.get("forecast_category") or "", (None, None))
        return {
            "Id": self._id("opportunities", r["id"], "Opportunity"), "Dataset_Id__c": r["id"], "Name": r.get("name"),
            "AccountId": self._id("accounts", r.get("account_id"), "Account"),
            "OwnerId": self._id("users", r.get("owner_id"), "User"),
            "RecordTypeId": self._ids.get("pipelines", {}).get(r.get("pipeline") or ""),
            "StageName": r.get("stage"), "Amount": _number(r.get("amount")),
            "Probability": None if r.get("probability") is None else 100 * r["probability"],
            "ForecastCategory": category[0], "ForecastCategoryName": category[1],
            "CloseDate": _day(r.get("close_date")), "IsClosed": int(r["is_closed"]), "IsWon": int(r["is_won"]),
            "Type": r.get("type"), "LeadSource": r.get("source"), "Product__c": r.get("product"),
            "NextStep": r.get("next_step"), "Loss_Reason__c": r.get("lost_reason"),
            "LastStageChangeDate": stored_time(changed), "CurrencyIsoCode": r.get("currency"),
            "CreatedDate": stored_time(_utc(r["created_at"])) if r.get("created_at") else stored_time(self._until),
            "SystemModstamp": stored_time(min(_utc(r.get("modified_at") or ended), self._until)),
        }  # fmt: skip

    def _histories(self) -> None:
        """A row of OpportunityHistory holds all its fields as they were from then on."""
        rows: list[Json] = []
        tracked: list[Json] = []
        state: dict[str, Json] = {}
        unchanged = self._never_changed()
        changes = sorted(
            self._rows.get("field_changes", ()),
            key=lambda c: (c["changed_at"], c["opportunity_id"], c["seq"]),
        )
        for (at, opportunity), together in groupby(
            changes, key=lambda c: (c["changed_at"], c["opportunity_id"])
        ):
            some = list(together)
            row = {
                "OpportunityId": self._id("opportunities", opportunity, "Opportunity"),
                "CreatedDate": stored_time(_utc(at)), "SystemModstamp": stored_time(_utc(at)),
                "CreatedById": self._id("users", some[0].get("changed_by"), "User") or USER_ID,
            }  # fmt: skip
            now = state.setdefault(opportunity, unchanged.get(opportunity, {}))
            now.update({_HISTORY[c["field"]]: self._history_value(c) for c in some if c["field"] in _HISTORY})
            stages = [c["value"] for c in some if c["field"] == "stage"]
            for stage in stages or (
                [now.get("StageName")] if any(c["field"] in _HISTORY for c in some) else []
            ):
                rows.append({**row, **now, "StageName": stage, "Id": full_id("008", len(rows) + 1)})
            for c in some:
                if c["field"] in _FIELD_HISTORY:
                    value = self._id("users", c["value"], "User") if c["field"] == "owner_id" else c["value"]
                    said = {"Field": _FIELD_HISTORY[c["field"]], "NewValue": value, "OldValue": None}
                    tracked.append({**row, **said, "Id": full_id("017", len(tracked) + 1)})
        self._insert("OpportunityHistory", rows)
        self._insert("OpportunityFieldHistory", tracked)

    def _never_changed(self) -> dict[str, Json]:
        """Return the fields that an opportunity has had all along: every row of its history has them."""
        told = {(c["opportunity_id"], c["field"]) for c in self._rows.get("field_changes", ())}
        return {
            r["id"]: {
                name: self._history_value({"field": column, "value": _plain(r.get(column))})
                for column, name in _HISTORY.items()
                if (r["id"], column) not in told and column != "stage"
            }
            for r in self._rows["opportunities"]
        }

    def _history_value(self, change: Json) -> object:
        if change["field"] == "forecast_category":
            return CATEGORIES.get(change["value"] or "", (None, None))[0]
        return _number(change["value"]) if change["field"] == "amount" else change["value"]

    # --- The rest ---------------------------------------------------------------------------------------------

    def _others(self) -> None:
        seen = {r.get("account_id") for r in self._rows["opportunities"]} - {None}
        accounts = {r["id"]: r for r in self._rows.get("accounts", ())}
        self._insert("Account", [
            {"Id": self._id("accounts", a, "Account"), "Name": told.get("name") or a, "Industry": told.get("industry"),
             "BillingCountry": told.get("country"), "NumberOfEmployees": told.get("employees"),
             "OwnerId": self._id("users", told.get("owner_id"), "User")}
            for a in sorted({*accounts, *(s for s in seen if s)}) for told in [accounts.get(a, {})]
        ])  # fmt: skip
        roles = self._rows.get("contact_roles", [])
        people = sorted({r["contact_id"] for r in roles})
        self._insert("Contact", [{"Id": self._id("contacts", p, "Contact"), "Name": p} for p in people])
        self._insert("OpportunityContactRole", [
            {"Id": full_id("00K", i + 1),
             "OpportunityId": self._id("opportunities", r["opportunity_id"], "Opportunity"),
             "ContactId": self._id("contacts", r["contact_id"], "Contact"), "Role": r.get("role"),
             "IsPrimary": int(bool(r.get("is_primary")))}
            for i, r in enumerate(roles)
        ])  # fmt: skip
        self._activities()
        self._insert("Product2", [
            {"Id": self._id("products", r["id"], "Product2"), "Name": r["name"], "Family": r.get("family"),
             "IsActive": 1}
            for r in self._rows.get("products", ())
        ])  # fmt: skip
        self._insert("OpportunityLineItem", [
            {"Id": full_id("00k", i + 1),
             "OpportunityId": self._id("opportunities", r["opportunity_id"], "Opportunity"),
             "Product2Id": self._id("products", r.get("product_id"), "Product2"), "Quantity": r.get("quantity"),
             "UnitPrice": _number(r.get("unit_price")), "TotalPrice": _number(r.get("total")),
             "Discount": r.get("discount_pct"), "CurrencyIsoCode": r.get("currency")}
            for i, r in enumerate(self._rows.get("line_items", ()))
        ])  # fmt: skip
        self._insert("Lead", [
            {"Id": self._id("leads", r["id"], "Lead"), "LeadSource": r.get("source"), "Campaign__c": r.get("campaign"),
             "OwnerId": self._id("users", r.get("owner_id"), "User"), "Status": r.get("status"),
             "CreatedDate": _time(r.get("created_at")), "First_Touch__c": _time(r.get("first_touch_at")),
             "ConvertedDate": _day(r.get("converted_at")), "IsConverted": int(r.get("converted_at") is not None),
             "ConvertedOpportunityId": self._ids["opportunities"].get(r.get("opportunity_id") or "")}
            for r in self._rows.get("leads", ())
        ])  # fmt: skip

        self._quotas()
        self._rates()

    def _quotas(self) -> None:
        """Quotas of owners; Salesforce has none of teams."""
        quotas = [q for q in self._rows.get("quotas", ()) if q.get("owner_id")]
        spans = sorted({(q["period_start"], q["period_end"]) for q in quotas})
        ids = {span: full_id("026", i + 1) for i, span in enumerate(spans)}
        self._insert("Period", [
            {"Id": ids[span], "StartDate": _day(span[0]), "EndDate": _day(span[1] - timedelta(days=1)),
             "Type": "Quarter"}
            for span in spans
        ])  # fmt: skip
        kind = full_id("0Db", 1)
        self._insert("ForecastingType", [{"Id": kind, "DeveloperName": "OpportunityRevenue", "IsActive": 1}])
        self._insert("ForecastingQuota", [
            {"Id": full_id("0J9", i + 1), "QuotaAmount": _number(q["amount"]), "StartDate": _day(q["period_start"]),
             "QuotaOwnerId": self._id("users", q["owner_id"], "User"), "ProductFamily": q.get("product"),
             "PeriodId": ids[q["period_start"], q["period_end"]], "ForecastingTypeId": kind,
             "CurrencyIsoCode": q.get("currency")}
            for i, q in enumerate(quotas)
        ])  # fmt: skip

    def _rates(self) -> None:
        """What one unit is worth at home, said the other way round; the last one is what the currency has now."""
        rates = sorted(self._rows.get("currency_rates", ()), key=lambda r: (r["currency"], r["valid_from"]))
        home = self._adapter.connection().currency or "EUR"
        last = {r["currency"]: 1 / r["rate"] for r in rates} | ({home: 1.0} if rates else {})
        self._insert("CurrencyType", [
            {"Id": full_id("01L", i + 1), "IsoCode": c, "ConversionRate": rate, "IsActive": 1,
             "IsCorporate": int(c == home)}
            for i, (c, rate) in enumerate(sorted(last.items()))
        ])  # fmt: skip
        self._insert("DatedConversionRate", [
            {"Id": full_id("04w", i + 1), "IsoCode": r["currency"], "StartDate": _day(r["valid_from"]),
             "ConversionRate": 1 / r["rate"]}
            for i, r in enumerate(rates)
        ])  # fmt: skip

    def _activities(self) -> None:
        """What was done or lies ahead is an event; what is overdue is an open task, due at the end of its day."""
        events, tasks = [], []
        for i, r in enumerate(self._rows.get("activities", ())):
            about = {
                "WhatId": self._id("opportunities", r["opportunity_id"], "Opportunity"), "Type": r.get("kind"),
                "OwnerId": self._id("users", r.get("owner_id"), "User"), "Direction__c": r.get("direction"),
                "Subject": r.get("kind") or "Activity",
            }  # fmt: skip
            at = _utc(r["at"])
            if r["is_done"] or at > self._until:
                times = {"StartDateTime": stored_time(at), "EndDateTime": stored_time(at)}
                events.append({"Id": full_id("00U", i + 1), **times, "ActivityDate": _day(at), **about})
            else:
                tasks.append({"Id": full_id("00T", 10**6 + i), "Status": "Not Started", "IsClosed": 0,
                              "Priority": "Normal",
                              "ActivityDate": _day(at), **about})  # fmt: skip
        self._insert("Event", events)
        self._insert("Task", tasks)

    # --- What is seen, and how it is read ----------------------------------------------------------------------

    def _hide(self) -> None:
        hidden = [e for s, e in _OBJECTS.items() if s not in self._rows or not self._knows_any(s)]
        if not self._rows.get("currency_rates"):
            hidden += ["CurrencyType", "DatedConversionRate"]
        if not self._rows.get("quotas"):
            hidden += ["ForecastingQuota", "ForecastingType", "Period"]
        hidden += [f"Opportunity.{f}" for c, f in FIELDS.items() if not self._knows("opportunities", c)]
        for column, name in _HISTORY.items():
            if not self._has_history(column):
                hidden.append(f"OpportunityHistory.{name}")
        if not any(self._has_history(c) for c in _FIELD_HISTORY):
            hidden.append("OpportunityFieldHistory")
        if not self._knows("opportunities", "forecast_category"):
            hidden.append("Opportunity.ForecastCategory")
        if not self._rows.get("users"):
            hidden += ["User.IsActive", "User.ManagerId", "User.UserRoleId"]
        if not self._knows("activities", "direction"):
            hidden += ["Event.Direction__c", "Task.Direction__c"]
        self._org.put("hidden", sorted(set(hidden)))

    def _knows_any(self, stream: str) -> bool:
        return any(s.state == "known" for (name, _), s in self._states.items() if name == stream)

    def _has_history(self, column: str) -> bool:
        state = self._states.get(("opportunities", column))
        return state is not None and state.state == "known" and state.history == "full"

    def _mapping(self) -> str:
        """Return a mapping.yaml: the dataset's stages and segments, and the fields of its own."""
        own: Json = {"product": "Product__c", "lost_reason": "Loss_Reason__c"}
        said: Json = {
            "version": 1,
            "extends": "pipesync:salesforce",
            "streams": {
                "opportunities": {
                    "fields": {c: f for c, f in own.items() if self._knows("opportunities", c)}
                },
            },
        }
        if self._knows("activities", "direction"):
            said["streams"]["activities"] = {"fields": {"direction": "Direction__c"}}
        if not self._knows("activities", "is_done") and "activities" in self._rows:
            said["streams"].setdefault("activities", {"fields": {}})["fields"]["is_done"] = None
        told: Mapping[str, Any] = (read(self._own).data or {}) if self._own else {}
        said |= {n: told[n] for n in ("stages", "pipelines", "segments", "currency") if told.get(n)}
        if "stages" not in said and "pipelines" not in said:
            said["stages"] = {
                s["name"]: {"phase": s["phase"]}
                for s in sorted(self._rows["stages"], key=lambda s: s["order"])
            }
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time(moment: datetime | None) -> str | None:
    return stored_time(_utc(moment)) if moment else None


def _day(value: date | datetime | None) -> str | None:
    return (value.date() if isinstance(value, datetime) else value).isoformat() if value else None


def _plain(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))
