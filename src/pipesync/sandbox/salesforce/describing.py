"""What an org says of its objects and their fields: as much as this user may see."""

from __future__ import annotations

from pipesync.sandbox.salesforce.objects import CHILDREN, KINDS, OBJECTS, FieldOf, ObjectOf
from pipesync.sandbox.salesforce.org import Json, Org


def describe(org: Org, thing: ObjectOf) -> Json:
    readonly = org.readonly()
    can = thing.name not in readonly
    may_delete = can and f"{thing.name}:delete" not in readonly
    custom = thing.name.endswith("__c")
    base = f"/services/data/v62.0/sobjects/{thing.name}"
    return {
        "activateable": False, "custom": custom, "customSetting": False, "createable": can, "deletable": may_delete,
        "deprecatedAndHidden": False, "feedEnabled": False, "keyPrefix": thing.prefix, "label": thing.name,
        "labelPlural": f"{thing.name}s", "layoutable": True, "mergeable": thing.name in ("Account", "Lead"),
        "mruEnabled": False, "name": thing.name, "queryable": True, "replicateable": True, "retrieveable": True,
        "searchable": True, "triggerable": True, "undeletable": can, "updateable": can,
        "fields": [_described(org, thing, f, readonly) for f in org.visible(thing).values()],
        "childRelationships": [
            {"childSObject": o.name, "field": own, "cascadeDelete": False, "deprecatedAndHidden": False,
             "relationshipName": child_name(o.name, r)}
            for o in OBJECTS.values() for r, (own, other) in o.parents.items() if other == thing.name
        ],
        "recordTypeInfos": [],
        "urls": {"sobject": base, "describe": f"{base}/describe", "rowTemplate": base + "/{ID}"},
    }  # fmt: skip


def _described(org: Org, thing: ObjectOf, f: FieldOf, readonly: set[str]) -> Json:
    can = f.is_writeable and f"{thing.name}.{f.name}" not in readonly
    led = {r: other for r, (own, other) in thing.parents.items() if own == f.name}
    is_text = f.kind in ("text", "area", "pick", "combo")
    return {
        "aggregatable": True, "autoNumber": False, "byteLength": 3 * f.length, "calculated": False,
        "caseSensitive": f.is_external_id, "createable": can, "custom": f.name.endswith("__c"),
        "defaultValue": None, "defaultedOnCreate": not f.is_writeable, "deprecatedAndHidden": False,
        "digits": 0, "externalId": f.is_external_id, "filterable": f.kind != "area", "groupable": f.kind != "area",
        "idLookup": f.is_external_id or f.name == "Id", "label": f.name.replace("__c", "").replace("_", " "),
        "length": f.length or (18 if f.kind in ("id", "ref") else 255 if is_text else 0), "name": f.name,
        "nameField": f.name == "Name", "nillable": f.is_writeable, "picklistValues": [],
        "precision": 18 if f.kind in ("money", "number", "percent") else 0,
        "referenceTo": list(led.values()), "relationshipName": next(iter(led), None), "restrictedPicklist": False,
        "scale": 2 if f.kind in ("money", "percent") else 0, "soapType": f"xsd:{KINDS[f.kind]}", "sortable": True,
        "type": KINDS[f.kind], "unique": f.is_external_id and thing.name != "Task", "updateable": can,
    }  # fmt: skip


def child_name(entity: str, relationship: str) -> str:
    """Return what a parent calls its children of this object."""
    return CHILDREN.get((entity, relationship), entity.replace("History", "Historie") + "s")
