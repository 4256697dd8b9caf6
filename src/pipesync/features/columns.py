"""The catalogue of feature columns: what rules may ask for, what each means, and when it can be known.

`features.sql` computes them, `docs/features.md` is written from this, and rules are typed by it. A new column is a
line here and its expression there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "category", "money", "number", "integer", "days", "date", "moment", "flag"]
Past = Literal["fixed", "events", "tracked", "now"]
"""How far a column can be known of a past moment.

fixed: it does not change; events: it follows from dated events; tracked: as far as the history of the fields it
needs reaches; now: it cannot, and is unknown of any moment before the last pull.
"""


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    needs: tuple[str, ...] = ()
    """Warehouse columns as `stream.column`: all must be known. `a|b`: one is enough; `@history`: with its past."""
    history: Past = "tracked"
    values: tuple[str, ...] = ()
    """Of a category, where they are ours and not the CRM's."""
    counted_by: str = ""
    """Of what is learnt from the company's own past: the column that tells from how many."""
    changed: str = ""
    """The column that tells when it last took another value; creation where it never did."""


def _o(*names: str) -> tuple[str, ...]:
    return tuple(f"opportunities.{n}" for n in names)


def _h(name: str) -> tuple[str, ...]:
    return (f"opportunities.{name}@history",)


_CATEGORIES = ("omitted", "pipeline", "best_case", "most_likely", "commit", "closed")
_PHASES = ("early", "middle", "late", "won", "lost")
_STAGES = ("stages.name", "opportunities.stage")
_VISITS = ("stages.name", "opportunities.stage@history")
_ACTIVITY = ("activities.at|opportunities.last_activity_at",)
_LOGGED = ("activities.at",)
_HOME = "home currency"

_ALL = (
    # --- What it is
    Column("id", "text", "The CRM's id of the opportunity", history="fixed"),
    Column("name", "text", "Name; the id where it has none", history="fixed"),
    Column("account_id", "text", "Account", needs=_o("account_id"), history="fixed"),
    Column("account_name", "text", "Name of the account", needs=("accounts.name",), history="fixed"),
    Column("pipeline", "category", "Pipeline", needs=_o("pipeline"), history="fixed"),
    Column("type", "category", "Type, such as new, renewal, expansion", needs=_o("type"), history="fixed"),
    Column("source", "category", "Where it came from", needs=_o("source"), history="fixed"),
    Column("product", "category", "Main product or family", needs=_o("product"), history="fixed"),
    Column("segment", "category", "Segment, from the mapping", needs=_o("segment"), history="fixed"),
    Column("currency", "category", "Currency of the amount", needs=_o("currency"), history="fixed"),
    Column("custom", "text", "Custom fields, as custom.NAME", needs=_o("custom"), history="now"),
    # --- Where it stands
    Column("is_open", "flag", "Not closed", history="events"),
    Column("is_won", "flag", "Closed and won", history="events"),
    Column("is_closed", "flag", "Closed, won or lost", history="events"),
    Column("created_at", "moment", "Created", needs=_o("created_at"), history="fixed"),
    Column("closed_at", "moment", "Closed", needs=_o("closed_at|opportunities.close_date"), history="events"),
    Column("stage", "category", "Stage", needs=_o("stage"), changed="stage_changed_at"),
    Column("stage_order", "integer", "Position of the stage in its pipeline, from 1", needs=_STAGES),
    Column("phase", "category", "Phase of the stage", needs=_STAGES, values=_PHASES),
    Column(
        "stage_default_category",
        "category",
        "Forecast category that the stage gives by default",
        needs=("stages.default_category", "opportunities.stage"),
        values=_CATEGORIES,
    ),
    Column("required_missing", "text", "What the mapping requires in this stage and is blank, of what can be read",
           needs=("stages.required", "opportunities.stage"), history="now"),
    Column("forecast_category", "category", "Forecast category", needs=_o("forecast_category"), values=_CATEGORIES,
           changed="category_changed_at"),
    Column("probability", "number", "The CRM's own probability", "share", _o("probability")),
    Column("lost_reason", "text", "Reason of the loss", needs=_o("lost_reason"), history="now"),
    # --- Age and movement
    Column("age_days", "days", "Since it was created", "days", _o("created_at"), "events"),
    Column("business_age_days", "days", "Since it was created", "business days", _o("created_at"), "events"),
    Column("cycle_days", "days", "From creation to closing; blank while open", "days", _o("created_at"), "events"),
    Column("days_since_closed", "days", "Since it was closed; blank while open", "days", (), "events"),
    Column("created_on", "date", "Day on which it was created", needs=_o("created_at"), history="fixed"),
    Column("quarters_since_closed", "integer", "Fiscal quarters since the one that it was closed in; blank while open",
           history="events"),
    Column("quarter_days_left", "days", "From its closing to the end of that fiscal quarter, the day itself included",
           "days", history="events"),
    Column("closed_same_day", "flag", "Closed on the day on which it was created", needs=_o("created_at"),
           history="events"),
    Column("stage_entered_at", "moment", "When the present stage was entered", needs=_VISITS),
    Column("days_in_stage", "days", "Since the present stage was entered", "days", _VISITS),
    Column("business_days_in_stage", "days", "Since the present stage was entered", "business days", _VISITS),
    Column("stage_changes", "integer", "Moves between stages so far", needs=_VISITS),
    Column("stage_changes_60d", "integer", "Moves between stages in the last 60 days", needs=_VISITS),
    Column("stage_changed_at", "moment", "Last move between stages; creation where there was none", needs=_VISITS),
    Column("regressions", "integer", "Moves to an earlier stage so far", needs=_VISITS),
    Column("regressed_at", "moment", "Last move to an earlier stage", needs=_VISITS),
    Column("skipped_stages", "integer", "Active stages that the last move forward left out", needs=_VISITS),
    Column("first_stage_order", "integer", "Position of the stage it was created in", needs=_VISITS),
    Column("reopen_count", "integer", "Times it left a closed stage for an open one", needs=_VISITS),
    Column("reopened_at", "moment", "When it was last reopened", needs=_VISITS),
    # --- What is usual here
    Column("stage_dwell_p50", "days", "Half of the visits that advanced from this stage were shorter", "days", _VISITS,
           counted_by="stage_dwell_n"),
    Column("stage_dwell_p75", "days", "Three quarters of the visits that advanced were shorter", "days", _VISITS,
           counted_by="stage_dwell_n"),
    Column("stage_dwell_p90", "days", "Nine tenths of the visits that advanced were shorter", "days", _VISITS,
           counted_by="stage_dwell_n"),
    Column("stage_dwell_n", "integer", "Visits that the three figures before rest on", needs=_VISITS),
    Column("stage_remaining_p50", "days", "Median time from entering this stage to being won", "days", _VISITS),
    Column("expected_remaining_days", "days", "What is left of that median, at least 0", "days", _VISITS),
    Column("stage_win_rate", "number", "Share won of the decided ones that were in this stage", "share", _VISITS),
    Column("cycle_p50", "days", "Median time from creation to won, in this pipeline and segment", "days",
           _o("created_at"), "events", counted_by="won_n"),
    Column("cycle_p90", "days", "Nine tenths were won sooner, in this pipeline and segment", "days",
           _o("created_at"), "events", counted_by="won_n"),
    Column("oldest_won_days", "days", "The longest that a win of the last four quarters took", "days",
           _o("created_at"), "events", counted_by="won_n"),
    Column("won_n", "integer", "Wins that the figures before rest on", needs=_o("created_at"), history="events"),
    Column("won_amount_p95", "money", "19 of 20 wins of this segment were smaller", _HOME, _o("amount"), "now",
           counted_by="won_amount_n"),
    Column("won_amount_n", "integer", "Wins that the figure before rests on", needs=_o("amount"), history="now"),
    Column("idle_p90", "days", "Nine of ten recent wins never went longer without activity", "business days",
           _LOGGED, "events", counted_by="idle_n"),
    Column("idle_n", "integer", "Wins that the figure before rests on", needs=_LOGGED, history="events"),
    Column("reply_p90", "days", "Nine of ten replies of customers that bought came sooner", "business days",
           ("activities.direction",), "events", counted_by="reply_n"),
    Column("reply_n", "integer", "Replies that the figure before rests on", needs=("activities.direction",),
           history="events"),
    # --- Money
    Column("amount", "money", "Amount", _HOME, _o("amount"), changed="amount_changed_at"),
    Column("amount_original", "money", "Amount", "its own currency", _o("amount"), changed="amount_changed_at"),
    Column("first_amount", "money", "The first amount it had", "its own currency", _h("amount")),
    Column("amount_changes", "integer", "Times that the amount changed", needs=_h("amount")),
    Column("amount_changed_at", "moment", "Last change of the amount; creation where there was none",
           needs=_h("amount")),
    Column("amount_7d_ago", "money", "Amount seven days before", _HOME, _h("amount")),
    Column("same_amount_count", "integer", "Open opportunities of the same owner with the very same amount",
           needs=_o("amount", "owner_id")),
    Column("line_item_count", "integer", "Line items", needs=("line_items.id",), history="now"),
    Column("line_item_total", "money", "Sum of the line items", "its own currency", ("line_items.total",), "now"),
    Column("line_item_gap", "money", "Between the amount and the sum of the line items, either way",
           "its own currency", ("line_items.total", "opportunities.amount"), "now"),
    Column("line_item_gap_pct", "number", "The same, as a share of the amount", "percent",
           ("line_items.total", "opportunities.amount"), "now"),
    Column("line_item_currencies", "integer", "Line items in another currency than the opportunity",
           needs=("line_items.currency", "opportunities.currency"), history="now"),
    Column("discount_pct", "number", "Largest discount of its line items", "percent",
           ("line_items.discount_pct",), "now"),
    Column("products_used", "flag", "Anything in this pipeline has line items", needs=("line_items.id",),
           history="now"),
    # --- Close date
    Column("close_date", "date", "Expected close date", needs=_o("close_date"), changed="close_date_changed_at"),
    Column("days_to_close", "days", "Until the close date; negative once it is past", "days", _o("close_date")),
    Column("days_past_due", "days", "Since the close date; 0 until then", "days", _o("close_date")),
    Column("first_close_date", "date", "The first close date it had", needs=_h("close_date")),
    Column("push_count", "integer", "Times that the close date moved later", needs=_h("close_date")),
    Column("push_days_total", "days", "Sum of the moves to a later date", "days", _h("close_date")),
    Column("pushed_at", "moment", "Last move of the close date to a later one", needs=_h("close_date")),
    Column("small_pushes_30d", "integer", "Moves later by less than seven days, in the last 30 days",
           needs=_h("close_date")),
    Column("pushed_out_of_quarter_at", "moment", "Last move of the close date into a later quarter",
           needs=_h("close_date")),
    Column("pushed_out_this_quarter", "flag", "That move was made in the present fiscal quarter",
           needs=_h("close_date")),
    Column("close_date_changes", "integer", "Times that the close date changed", needs=_h("close_date")),
    Column("close_date_changed_at", "moment", "Last change of the close date; creation where there was none",
           needs=_h("close_date")),
    Column("close_is_business_day", "flag", "The close date is a business day", needs=_o("close_date")),
    Column("close_is_period_end", "flag", "The close date is the last business day of a month", needs=_o("close_date")),
    Column("closes_this_quarter", "flag", "The close date lies in the present fiscal quarter", needs=_o("close_date")),
    # --- Activity: ours is not counted
    Column("last_activity_at", "moment", "Last activity that took place", needs=_ACTIVITY, history="events"),
    Column("days_since_last_activity", "days", "Since the last activity; blank where there was none", "days", _ACTIVITY,
           "events"),
    Column("business_days_since_last_activity", "days", "Since the last activity; blank where there was none",
           "business days", _ACTIVITY, "events"),
    Column("activity_count", "integer", "Activities so far", needs=_LOGGED, history="events"),
    Column("activities_14d", "integer", "Activities in the last 14 days", needs=_LOGGED, history="events"),
    Column("activities_30d", "integer", "Activities in the last 30 days", needs=_LOGGED, history="events"),
    Column("last_inbound_at", "moment", "Last activity that came from the customer", needs=("activities.direction",),
           history="events"),
    Column("business_days_since_last_inbound", "days", "Since then; blank where there was none", "business days",
           ("activities.direction",), "events"),
    Column("last_outbound_at", "moment", "Last activity of our side", needs=("activities.direction",),
           history="events"),
    Column("last_meeting_at", "moment", "Last meeting", needs=("activities.kind",), history="events"),
    Column("meetings_used", "flag", "Anything in this pipeline has had a meeting", needs=("activities.kind",),
           history="events"),
    Column("first_activity_at", "moment", "First activity", needs=_LOGGED, history="events"),
    Column("lead_created_at", "moment", "When the lead that it came from arrived", needs=("leads.created_at",),
           history="events"),
    Column("business_days_untouched", "days",
           "Since it, or its lead, came in and nobody got in touch; blank once somebody did", "business days",
           _ACTIVITY, "events"),
    Column("next_activity_at", "moment", "Next planned activity",
           needs=("activities.is_done|opportunities.next_activity_at",), history="now"),
    Column("overdue_activities", "integer", "Planned activities that are past and not done",
           needs=("activities.is_done",),
           history="now"),
    Column("next_step", "text", "Next step", needs=_o("next_step"), changed="next_step_changed_at"),
    Column("next_step_changed_at", "moment", "Last change of the next step", needs=_h("next_step")),
    # --- Forecast category
    Column("was_committed", "flag", "It is in Commit, or was at some time", needs=_h("forecast_category")),
    Column("category_changes_30d", "integer", "Changes of the forecast category in the last 30 days",
           needs=_h("forecast_category")),
    Column("category_changed_at", "moment", "Last change of the forecast category; creation where there was none",
           needs=_h("forecast_category")),
    # --- People
    Column("owner_id", "text", "Owner", needs=_o("owner_id"), changed="owner_changed_at"),
    Column("owner_name", "text", "Name of the owner", needs=("opportunities.owner_id", "users.name")),
    Column("owner_active", "flag", "The owner can sign in; blank where there is no owner",
           needs=("opportunities.owner_id", "users.is_active")),
    Column("manager_id", "text", "Manager of the owner", needs=("opportunities.owner_id", "users.manager_id")),
    Column("team", "category", "Team of the owner", needs=("opportunities.owner_id", "users.team")),
    Column("owner_quota", "money", "Quota of its owner for the present fiscal quarter", _HOME,
           ("quotas.amount", "opportunities.owner_id"), "tracked"),
    Column("team_quota", "money", "Quota of that team for the quarter: its own, or that of its people, the larger",
           _HOME, ("quotas.amount", "opportunities.owner_id", "users.team"), "tracked"),
    Column("owner_changes_90d", "integer", "Changes of the owner in the last 90 days", needs=_h("owner_id")),
    Column("owner_changed_at", "moment", "Last change of the owner; creation where there was none",
           needs=_h("owner_id")),
    Column("contact_count", "integer", "People on it",
           needs=("contact_roles.contact_id|opportunities.contact_count",), history="now"),
    Column("has_decision_maker", "flag", "One of the people decides, by role",
           needs=("contact_roles.role",), history="now"),
    Column("roles_used", "flag", "Anything in this pipeline has somebody who decides", needs=("contact_roles.role",),
           history="now"),
    # --- Records that look alike
    Column("duplicate_of", "text", "The earlier open opportunity that it looks like",
           needs=_o("account_id", "name"), history="now"),
    Column("duplicate_count", "integer", "Open opportunities that it looks like", needs=_o("account_id", "name"),
           history="now"),
)  # fmt: skip

COLUMNS: dict[str, Column] = {c.name: c for c in _ALL}
