-- What happened on each opportunity up to as_of, one row each: changes, activities, people, line items, look-alikes.

CREATE OR REPLACE TEMP TABLE told AS
SELECT
    opportunity_id,
    arg_min_null(value, nth) FILTER (field = 'amount') AS first_amount,
    count(*) FILTER (field = 'amount' AND nth > 1) AS amount_changes,
    max(changed_at) FILTER (field = 'amount' AND nth > 1) AS amount_changed_at,
    arg_min_null(old, nth) FILTER (field = 'amount' AND changed_at > getvariable('as_of') - INTERVAL 7 DAY)
        AS amount_before,
    arg_min_null(value, nth) FILTER (field = 'close_date') AS first_close_date,
    count(*) FILTER (is_push) AS push_count,
    sum(push_days) FILTER (is_push) AS push_days_total,
    max(changed_at) FILTER (is_push) AS pushed_at,
    count(*) FILTER (is_push AND push_days < 7 AND changed_at > getvariable('as_of') - INTERVAL 30 DAY)
        AS small_pushes_30d,
    max(changed_at) FILTER (is_push AND quarter_of(new_date) > quarter_of(old_date)) AS pushed_out_of_quarter_at,
    count(*) FILTER (field = 'close_date' AND nth > 1) AS close_date_changes,
    max(changed_at) FILTER (field = 'close_date' AND nth > 1) AS close_date_changed_at,
    max(changed_at) FILTER (field = 'next_step') AS next_step_changed_at,
    count(*) FILTER (field = 'forecast_category' AND nth > 1
                     AND changed_at > getvariable('as_of') - INTERVAL 30 DAY) AS category_changes_30d,
    coalesce(bool_or(field = 'forecast_category' AND value = 'commit'), FALSE) AS was_committed,
    count(*) FILTER (field = 'owner_id' AND nth > 1
                     AND changed_at > getvariable('as_of') - INTERVAL 90 DAY) AS owner_changes_90d,
    max(changed_at) FILTER (field = 'forecast_category' AND nth > 1) AS category_changed_at,
    max(changed_at) FILTER (field = 'owner_id' AND nth > 1) AS owner_changed_at
FROM (
    SELECT c.*,
        CASE WHEN field = 'close_date' THEN TRY_CAST(value AS DATE) END AS new_date,
        CASE WHEN field = 'close_date' THEN TRY_CAST(old AS DATE) END AS old_date,
        date_diff('day', old_date, new_date) AS push_days,
        coalesce(push_days > 0, FALSE) AS is_push
    FROM changes AS c LEFT JOIN standing AS o ON o.id = c.opportunity_id
    WHERE field NOT IN ('stage', 'probability') AND value IS DISTINCT FROM old
      -- Closing sets the close date in some CRMs (HubSpot): whether it slipped is judged by the date before.
      AND NOT (field = 'close_date' AND coalesce(changed_at >= o.ended_at - INTERVAL 1 MINUTE, FALSE))
)
GROUP BY opportunity_id;

CREATE OR REPLACE TEMP TABLE walked AS
SELECT
    opportunity_id,
    arg_max(entered_at, visit) AS stage_entered_at,
    count(*) - 1 AS stage_changes,
    count(*) FILTER (visit > 1 AND entered_at > getvariable('as_of') - INTERVAL 60 DAY) AS stage_changes_60d,
    count(*) FILTER (exit = 'backward') AS regressions,
    max(left_at) FILTER (exit = 'backward') AS regressed_at,
    arg_max(next_order - stage_order - 1, visit) FILTER (exit = 'advance') AS skipped_stages,
    arg_min(stage_order, visit) AS first_stage_order,
    count(*) FILTER (is_reopened) AS reopen_count,
    max(entered_at) FILTER (is_reopened) AS reopened_at
FROM stage_visits
GROUP BY opportunity_id;

CREATE OR REPLACE TEMP TABLE acted AS
SELECT
    opportunity_id,
    max("at") FILTER (is_past) AS last_at,
    min("at") FILTER (is_past) AS first_at,
    count(*) FILTER (is_past) AS activity_count,
    count(*) FILTER (is_past AND "at" > getvariable('as_of') - INTERVAL 14 DAY) AS activities_14d,
    count(*) FILTER (is_past AND "at" > getvariable('as_of') - INTERVAL 30 DAY) AS activities_30d,
    max("at") FILTER (is_past AND direction IN ('in', 'both')) AS last_inbound_at,
    max("at") FILTER (is_past AND direction IN ('out', 'both')) AS last_outbound_at,
    max("at") FILTER (is_past AND lower(kind) IN ('meeting', 'event', 'visit', 'demo')) AS last_meeting_at,
    min("at") FILTER (NOT was_done AND "at" > getvariable('as_of')) AS next_at,
    count(*) FILTER (NOT was_done AND "at" <= getvariable('as_of')) AS overdue
FROM (
    -- A blank is_done: it is done once its time has come, as an event in a calendar is.
    SELECT *, coalesce(is_done, "at" <= getvariable('as_of')) AS was_done,
           was_done AND "at" <= getvariable('as_of') AS is_past
    FROM activities
    WHERE connection = getvariable('connection')
      AND (getvariable('is_current') OR "at" <= getvariable('as_of'))
)
GROUP BY opportunity_id;

CREATE OR REPLACE TEMP TABLE peopled AS
SELECT opportunity_id, count(DISTINCT contact_id) AS contact_count,
       bool_or(coalesce(regexp_matches(lower(role), 'decision|economic|executive|sponsor|signer|budget'), FALSE))
           AS has_decision_maker
FROM contact_roles
WHERE connection = getvariable('connection') AND getvariable('is_current')
GROUP BY opportunity_id;

-- The leads that became it, as far as they were known.
CREATE OR REPLACE TEMP TABLE led AS
SELECT opportunity_id, min(created_at) AS lead_created_at,
       min(first_touch_at) FILTER (first_touch_at <= getvariable('as_of')) AS lead_touched_at
FROM leads
WHERE connection = getvariable('connection') AND opportunity_id IS NOT NULL AND created_at <= getvariable('as_of')
GROUP BY opportunity_id;

CREATE OR REPLACE TEMP TABLE itemised AS
SELECT i.opportunity_id, count(*) AS line_item_count, sum(i.total) AS line_item_total,
       count(*) FILTER (i.currency <> o.currency) AS line_item_currencies, max(i.discount_pct) AS discount_pct
FROM line_items AS i JOIN standing AS o ON o.id = i.opportunity_id
WHERE i.connection = getvariable('connection') AND getvariable('is_current')
GROUP BY i.opportunity_id;

-- What people record in a pipeline at all: nobody is asked for what nobody keeps.
CREATE OR REPLACE TEMP TABLE habits AS
SELECT o.pipeline, bool_or(a.last_meeting_at IS NOT NULL) AS meetings_used,
       bool_or(coalesce(p.has_decision_maker, FALSE)) AS roles_used, bool_or(i.line_item_count > 0) AS products_used
FROM standing AS o
LEFT JOIN acted AS a ON a.opportunity_id = o.id
LEFT JOIN peopled AS p ON p.opportunity_id = o.id
LEFT JOIN itemised AS i ON i.opportunity_id = o.id
GROUP BY o.pipeline;

-- Names alike (Jaro-Winkler 0.9) on one account, pipeline and type, closing within 90 days of each other. Accounts with
-- more than 200 open opportunities are catch-alls ("Unknown"), where being alike says nothing.
CREATE OR REPLACE TEMP TABLE alike AS
WITH candidates AS (
    SELECT id, account_id, pipeline, type, close_date, created_at, lower(trim(name)) AS name
    FROM standing
    WHERE NOT is_closed AND account_id IS NOT NULL AND name IS NOT NULL AND getvariable('is_current')
    QUALIFY count(*) OVER (PARTITION BY account_id) BETWEEN 2 AND 200
),
pairs AS (
    SELECT a.id, b.id AS other,
           (b.created_at, b.id) < (a.created_at, a.id) AS is_earlier
    FROM candidates AS a
    JOIN candidates AS b
      ON a.account_id = b.account_id AND a.pipeline IS NOT DISTINCT FROM b.pipeline
     AND a.type IS NOT DISTINCT FROM b.type AND a.id <> b.id
     AND coalesce(abs(date_diff('day', a.close_date, b.close_date)) <= 90, TRUE)
     AND jaro_winkler_similarity(a.name, b.name) >= 0.9
)
SELECT id AS opportunity_id, count(*) AS duplicate_count, min(other) FILTER (is_earlier) AS duplicate_of
FROM pairs
GROUP BY id;

CREATE OR REPLACE TEMP TABLE round_numbers AS
SELECT owner_id, amount, count(*) AS n
FROM standing
WHERE NOT is_closed AND owner_id IS NOT NULL AND amount IS NOT NULL
GROUP BY owner_id, amount;

-- What is read no more makes room for what comes.
DROP TABLE changes;
