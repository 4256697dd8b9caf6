"""The org's objects: their fields, what each is called in describe, and how relationships lead from one to another."""

from __future__ import annotations

from typing import NamedTuple

KINDS = {
    "id": "id", "ref": "reference", "text": "string", "area": "textarea", "money": "currency", "number": "double",
    "percent": "percent", "date": "date", "time": "datetime", "flag": "boolean", "pick": "picklist",
    "combo": "combobox", "whole": "int",
}  # fmt: skip
"""Our short kind -> the type that describe says."""


class FieldOf(NamedTuple):
    name: str
    kind: str
    is_writeable: bool = True
    length: int = 0
    is_external_id: bool = False


class ObjectOf(NamedTuple):
    name: str
    prefix: str
    fields: dict[str, FieldOf]
    parents: dict[str, tuple[str, str]]
    """Relationship -> (our field, the other object)."""


_SYSTEM = (
    FieldOf("Id", "id", False),
    FieldOf("IsDeleted", "flag", False),
    FieldOf("CreatedDate", "time", False),
    FieldOf("CreatedById", "ref", False),
    FieldOf("LastModifiedDate", "time", False),
    FieldOf("SystemModstamp", "time", False),
)


def _object(name: str, prefix: str, fields: str, parents: str = "", *, locked: str = "") -> ObjectOf:
    """`fields`: `Name:kind[:length][!]`, ! for an external id; `parents`: `Relationship=Field>Object`."""
    found = {f.name: f for f in _SYSTEM}
    for said in fields.split():
        is_external = said.endswith("!")
        parts = said.rstrip("!").split(":")
        length = int(parts[2]) if len(parts) > 2 else 0
        found[parts[0]] = FieldOf(parts[0], parts[1], parts[0] not in locked.split(), length, is_external)
    led = {"CreatedBy": ("CreatedById", "User")}
    for said in parents.split():
        relationship, _, rest = said.partition("=")
        own, _, other = rest.partition(">")
        led[relationship] = (own, other)
    return ObjectOf(name, prefix, found, led)


_ALL = (
    _object(
        "Organization", "00D",
        "Name:text DefaultCurrencyIsoCode:pick TimeZoneSidKey:pick FiscalYearStartMonth:whole",
    ),
    _object("FiscalYearSettings", "022", "Name:text IsStandardYear:flag StartDate:date EndDate:date"),
    _object("UserRole", "00E", "Name:text"),
    _object(
        "User", "005",
        "Name:text Email:text Username:text IsActive:flag ManagerId:ref UserRoleId:ref TimeZoneSidKey:pick "
        "LocaleSidKey:pick LanguageLocaleKey:pick",
        "UserRole=UserRoleId>UserRole Manager=ManagerId>User",
    ),
    _object("RecordType", "012", "Name:text DeveloperName:text SobjectType:pick IsActive:flag"),
    _object(
        "OpportunityStage", "01J",
        "ApiName:text MasterLabel:text IsActive:flag SortOrder:number IsClosed:flag IsWon:flag "
        "DefaultProbability:percent ForecastCategory:pick ForecastCategoryName:pick",
    ),
    _object(
        "Account", "001",
        "Name:text Industry:pick BillingCountry:text NumberOfEmployees:whole OwnerId:ref",
        "Owner=OwnerId>User",
    ),
    _object(
        "Opportunity", "006",
        "Name:text:120 AccountId:ref OwnerId:ref RecordTypeId:ref StageName:pick Amount:money Probability:percent "
        "ForecastCategory:pick ForecastCategoryName:pick CloseDate:date IsClosed:flag IsWon:flag Type:pick "
        "LeadSource:pick NextStep:text:255 LastActivityDate:date LastStageChangeDate:time CurrencyIsoCode:pick "
        "Product__c:text Loss_Reason__c:text Dataset_Id__c:text Pipesync_Win_Probability__c:percent "
        "Pipesync_Win_In_Period__c:percent Pipesync_Expected_Close__c:date Pipesync_Reasons__c:text:255",
        "Owner=OwnerId>User Account=AccountId>Account RecordType=RecordTypeId>RecordType",
        locked="IsClosed IsWon ForecastCategory LastActivityDate LastStageChangeDate",
    ),
    _object(
        "OpportunityHistory", "008",
        "OpportunityId:ref StageName:pick Amount:money Probability:percent CloseDate:date ForecastCategory:pick",
        "Opportunity=OpportunityId>Opportunity",
        locked="OpportunityId StageName Amount Probability CloseDate ForecastCategory",
    ),
    _object(
        "OpportunityFieldHistory", "017", "OpportunityId:ref Field:pick OldValue:text NewValue:text",
        "Opportunity=OpportunityId>Opportunity", locked="OpportunityId Field OldValue NewValue",
    ),
    _object("Contact", "003", "Name:text AccountId:ref", "Account=AccountId>Account"),
    _object(
        "OpportunityContactRole", "00K", "OpportunityId:ref ContactId:ref Role:pick IsPrimary:flag",
        "Opportunity=OpportunityId>Opportunity Contact=ContactId>Contact",
    ),
    _object(
        "Task", "00T",
        "Subject:combo:255 Status:pick Priority:pick OwnerId:ref WhatId:ref WhoId:ref ActivityDate:date "
        "Description:area:32000 IsClosed:flag Type:pick TaskSubtype:pick CompletedDateTime:time "
        "Direction__c:pick Pipesync_Key__c:text:80!",
        "Owner=OwnerId>User What=WhatId>Opportunity Who=WhoId>Contact", locked="IsClosed CompletedDateTime",
    ),
    _object(
        "Event", "00U",
        "Subject:combo:255 OwnerId:ref WhatId:ref WhoId:ref StartDateTime:time EndDateTime:time ActivityDate:date "
        "Type:pick Direction__c:pick",
        "Owner=OwnerId>User What=WhatId>Opportunity Who=WhoId>Contact",
    ),
    _object("Product2", "01t", "Name:text Family:pick IsActive:flag"),
    _object(
        "OpportunityLineItem", "00k",
        "OpportunityId:ref Product2Id:ref Quantity:number UnitPrice:money TotalPrice:money ListPrice:money "
        "Discount:percent CurrencyIsoCode:pick",
        "Opportunity=OpportunityId>Opportunity Product2=Product2Id>Product2",
    ),
    _object(
        "Lead", "00Q",
        "LeadSource:pick Campaign__c:text OwnerId:ref Status:pick ConvertedDate:date IsConverted:flag "
        "ConvertedOpportunityId:ref First_Touch__c:time",
        "Owner=OwnerId>User ConvertedOpportunity=ConvertedOpportunityId>Opportunity",
    ),
    _object("CurrencyType", "01L", "IsoCode:pick ConversionRate:number IsCorporate:flag IsActive:flag"),
    _object("DatedConversionRate", "04w", "IsoCode:pick StartDate:date NextStartDate:date ConversionRate:number"),
    _object(
        "Period", "026", "Type:pick StartDate:date EndDate:date FiscalYearSettingsId:ref",
        "FiscalYearSettings=FiscalYearSettingsId>FiscalYearSettings",
    ),
    _object("ForecastingType", "0Db", "DeveloperName:text MasterLabel:text IsActive:flag"),
    _object(
        "ForecastingQuota", "0J9",
        "QuotaAmount:money QuotaOwnerId:ref StartDate:date PeriodId:ref ProductFamily:pick ForecastingTypeId:ref "
        "CurrencyIsoCode:pick",
        "Period=PeriodId>Period QuotaOwner=QuotaOwnerId>User ForecastingType=ForecastingTypeId>ForecastingType",
    ),
    _object(
        "Pipesync_Forecast__c", "a01",
        "Name:text OwnerId:ref Pipesync_Key__c:text:80! Period_Start__c:date Period_End__c:date Scope__c:pick "
        "Scope_Id__c:text:80 Currency__c:text:3 P10__c:money P50__c:money P90__c:money Mean__c:money Closed__c:money "
        "Open__c:money New__c:money As_Of__c:date Basis__c:text:80",
    ),
)  # fmt: skip

_FINDING = _object(
    "Pipesync_Finding__c", "a02",
    "Name:text OwnerId:ref Pipesync_Key__c:text:80! Rule__c:text:80 Severity__c:text:20 Opportunity__c:ref "
    "Message__c:text:255 Amount__c:money First_Seen__c:date Status__c:text:20",
    "Opportunity__r=Opportunity__c>Opportunity",
)  # fmt: skip

OBJECTS: dict[str, ObjectOf] = {o.name: o for o in (*_ALL, _FINDING)}
REQUIRED = {
    "Task": ("Subject",),
    "Pipesync_Forecast__c": ("Pipesync_Key__c",),
    "Pipesync_Finding__c": ("Pipesync_Key__c",),
}
OWNED = (
    "OpportunityHistory", "OpportunityFieldHistory", "OpportunityContactRole", "OpportunityLineItem", "Task", "Event",
)  # fmt: skip
"""What is deleted with its opportunity."""
CHILDREN = {
    ("Task", "Who"): "ActivityTasks", ("Event", "Who"): "ActivityEvents",
    ("Task", "What"): "Tasks", ("Event", "What"): "Events", ("Opportunity", "Account"): "Opportunities",
    ("OpportunityFieldHistory", "Opportunity"): "Histories",
}  # fmt: skip
"""(object, its relationship) -> the parent's name for it, where that is not the object's plural."""
