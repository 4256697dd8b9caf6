"""What a new portal defines: objects, their scopes, default properties, association types."""

from __future__ import annotations

from collections.abc import Iterable

from pipesync.sandbox.hubspot.records import Json

TYPE_IDS = {
    "contacts": "0-1", "companies": "0-2", "deals": "0-3", "tickets": "0-5", "products": "0-7", "line_items": "0-8",
    "quotes": "0-14", "communications": "0-18", "feedback_submissions": "0-19", "tasks": "0-27", "notes": "0-46",
    "meetings": "0-47", "calls": "0-48", "emails": "0-49", "goal_targets": "0-74", "postal_mail": "0-116",
    "leads": "0-136",
}  # fmt: skip
ENGAGEMENTS = ("calls", "emails", "meetings", "notes", "tasks")

_SCOPES = {"goal_targets": "goals", **dict.fromkeys(ENGAGEMENTS, "contacts")}


def scope_of(kind: str, *, write: bool) -> str:
    """Return the scope of an object; tasks and other engagements go by that of contacts."""
    known = _SCOPES.get(kind, kind) if kind in TYPE_IDS else "custom"
    return f"crm.objects.{known}.{'write' if write else 'read'}"


ALL_SCOPES = tuple(
    dict.fromkeys([
        *(scope_of(k, write=w) for k in (*TYPE_IDS, "custom") for w in (False, True)),
        "crm.objects.owners.read", "crm.schemas.deals.read", "crm.schemas.deals.write", "crm.schemas.contacts.read",
        "crm.schemas.contacts.write", "crm.schemas.custom.read", "crm.schemas.custom.write", "settings.currencies.read",
    ])
)  # fmt: skip

_LINK_TYPES = {
    ("deals", "contacts"): (3, 4), ("deals", "companies"): (341, 342), ("deals", "line_items"): (19, 20),
    ("tasks", "deals"): (216, 215), ("calls", "deals"): (206, 205), ("emails", "deals"): (210, 209),
    ("meetings", "deals"): (212, 211), ("notes", "deals"): (214, 213), ("leads", "deals"): (584, 583),
}  # fmt: skip
PRIMARY_COMPANY = 5


def link_types(kind: str, to: str) -> tuple[int, int]:
    """Return HubSpot's type ids of an unlabelled association, there and back."""
    if (kind, to) in _LINK_TYPES:
        return _LINK_TYPES[kind, to]
    if (to, kind) in _LINK_TYPES:
        there, back = _LINK_TYPES[to, kind]
        return back, there
    return 901, 902


DEFAULTS = {
    "deals": ("amount", "closedate", "createdate", "dealname", "dealstage", "pipeline"),
    "companies": ("createdate", "domain", "name"),
    "contacts": ("createdate", "email", "firstname", "lastname", "lastmodifieddate"),
}
ALWAYS = ("createdate", "hs_createdate", "hs_lastmodifieddate", "hs_object_id")

_READ_ONLY = {
    "hs_object_id",
    "hs_createdate",
    "hs_lastmodifieddate",
    "hs_is_closed",
    "hs_is_closed_won",
    "num_associated_contacts",
    "hs_deal_stage_probability",
    "notes_last_contacted",
    "notes_next_activity_date",
    "notes_last_updated",
    "hs_primary_associated_company",
    "hs_merged_object_ids",
    "hs_v2_date_entered_current_stage",
}
_PLAIN: dict[str, dict[str, str]] = {
    "deals": {
        "dealname": "string", "amount": "number", "closedate": "datetime", "createdate": "datetime",
        "dealstage": "enumeration", "pipeline": "enumeration", "hubspot_owner_id": "enumeration",
        "deal_currency_code": "enumeration", "hs_manual_forecast_category": "enumeration", "dealtype": "enumeration",
        "hs_analytics_source": "enumeration", "hs_next_step": "string", "description": "string",
        "closed_lost_reason": "string", "hs_deal_stage_probability": "number", "hs_is_closed": "bool",
        "hs_is_closed_won": "bool", "notes_last_contacted": "datetime", "notes_last_updated": "datetime",
        "notes_next_activity_date": "datetime", "num_associated_contacts": "number",
        "hs_primary_associated_company": "number", "hs_merged_object_ids": "string",
        "hs_v2_date_entered_current_stage": "datetime", "hs_forecast_probability": "number",
    },
    "companies": {
        "name": "string", "domain": "string", "industry": "string", "country": "string", "numberofemployees": "number",
        "hubspot_owner_id": "enumeration", "createdate": "datetime",
    },
    "contacts": {"email": "string", "firstname": "string", "lastname": "string", "createdate": "datetime",
                 "lastmodifieddate": "datetime"},
    "products": {"name": "string", "hs_product_type": "string", "price": "number"},
    "line_items": {
        "name": "string", "hs_product_id": "string", "quantity": "number", "price": "number", "amount": "number",
        "hs_discount_percentage": "number", "hs_line_item_currency_code": "string",
    },
    "leads": {
        "hs_lead_name": "string", "hs_lead_source": "string", "hubspot_owner_id": "enumeration",
        "hs_pipeline_stage": "string", "hs_first_outreach_date": "datetime", "hs_lead_converted_date": "datetime",
    },
    "goal_targets": {
        "hs_goal_name": "string", "hs_target_amount": "number", "hs_start_datetime": "datetime",
        "hs_end_datetime": "datetime", "hubspot_owner_id": "enumeration", "hs_goal_type": "string",
        "hs_assignee_team_id": "number",
    },
    "tasks": {
        "hs_timestamp": "datetime",
        "hs_task_subject": "string",
        "hs_task_body": "string",
        "hs_task_status": "enumeration",
        "hs_task_priority": "enumeration",
        "hs_task_type": "enumeration",
        "hubspot_owner_id": "enumeration",
    },
    "calls": {
        "hs_timestamp": "datetime", "hs_activity_type": "string", "hs_call_status": "string",
        "hs_call_direction": "string", "hubspot_owner_id": "enumeration",
    },
    "emails": {
        "hs_timestamp": "datetime", "hs_activity_type": "string", "hs_email_status": "string",
        "hs_email_direction": "string", "hubspot_owner_id": "enumeration",
    },
    "meetings": {
        "hs_timestamp": "datetime", "hs_activity_type": "string", "hs_meeting_outcome": "string",
        "hubspot_owner_id": "enumeration",
    },
    "notes": {"hs_timestamp": "datetime", "hs_activity_type": "string", "hubspot_owner_id": "enumeration"},
}  # fmt: skip
_OPTIONS = {
    "hs_manual_forecast_category": ("OMIT", "PIPELINE", "BEST_CASE", "MOST_LIKELY", "COMMIT", "CLOSED"),
    "hs_task_status": ("NOT_STARTED", "IN_PROGRESS", "WAITING", "COMPLETED", "DEFERRED"),
    "hs_task_priority": ("NONE", "LOW", "MEDIUM", "HIGH"),
    "hs_task_type": ("EMAIL", "CALL", "TODO"),
}
_FIELD_TYPES = {
    "string": "text", "number": "number", "datetime": "date", "date": "date", "bool": "booleancheckbox",
    "enumeration": "select",
}  # fmt: skip


def properties_of(kind: str) -> list[Json]:
    """Return the definitions that every portal has of an object."""
    common = {"hs_object_id": "number", "hs_createdate": "datetime", "hs_lastmodifieddate": "datetime"}
    return [definition(name, type_) for name, type_ in {**_PLAIN.get(kind, {}), **common}.items()]


def definition(name: str, type_: str, *, own: Json | None = None, options: Iterable[str] = ()) -> Json:
    chosen = [*options, *_OPTIONS.get(name, ())]
    told: Json = {
        "name": name,
        "label": name.removeprefix("hs_").replace("_", " ").capitalize(),
        "type": type_,
        "fieldType": _FIELD_TYPES[type_],
        "description": "",
        "groupName": "information",
        "options": [
            {"label": o, "value": o, "displayOrder": i, "hidden": False} for i, o in enumerate(chosen)
        ],
        "displayOrder": -1,
        "calculated": name in _READ_ONLY,
        "externalOptions": name == "hubspot_owner_id",
        "hasUniqueValue": False,
        "hidden": False,
        "hubspotDefined": own is None,
        "modificationMetadata": {
            "archivable": own is not None,
            "readOnlyDefinition": own is None,
            "readOnlyValue": name in _READ_ONLY,
        },
        "formField": False,
        "archived": False,
    }
    return told | (own or {})
